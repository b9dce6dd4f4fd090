"""The kinds of schemas that the paper shows, with contents of our own: each resolves to the text
that a person would have written."""

from pathlib import Path

from promptcache.pml import load_schema, parse_prompt, parse_schema, resolve, write
from promptcache.segments import Kind

TRAVEL = parse_schema("""
<schema name="travel-planner">
  <system>You plan journeys, and answer in short sentences.</system>
  <user>
    Plan with the notes below, and with nothing else.
    <module name="trip-plan">
      The journey lasts <param name="duration" len="8"/>.
      <union name="destination" default="home">
        <module name="overseas">
          It crosses a sea, so tickets and a passport are booked early.
          <union name="city">
            <module name="tokyo"> Tokyo: trains run to the minute, and end at midnight.</module>
            <module name="lisbon"> Lisbon: the trams climb hills, and so will you.</module>
          </union>
          The party is of <param name="people" len="4" default="two"/>.
        </module>
        <module name="domestic">
          It stays inside the country, by rail.
          <union name="park">
            <module name="lakes"> The lakes: rain falls on two days of three.</module>
            <module name="dunes"> The dunes: carry your own water.</module>
          </union>
        </module>
        <module name="home"> It is a journey around the room.</module>
      </union>
    </module>
    Answer the question.
  </user>
</schema>""")


def test_the_travel_planner_resolves_nested_unions_and_parameters():
    prompt = parse_prompt("""
    <prompt schema="travel-planner">
      <trip-plan duration="9 days">
        <overseas people="a family of five"><tokyo/></overseas>
      </trip-plan>
      What is booked first?
    </prompt>""")
    system, user = resolve(TRAVEL, prompt)
    assert system.text == "You plan journeys, and answer in short sentences."
    assert user.text == (
        "Plan with the notes below, and with nothing else. The journey lasts 9 days. "
        "It crosses a sea, so tickets and a passport are booked early. "
        "Tokyo: trains run to the minute, and end at midnight. "
        "The party is of a family of five. Answer the question. What is booked first?"
    )
    path = "travel-planner.trip-plan"
    assert {s.module for s in user.segments if s.module and not s.anonymous} == {
        path,
        f"{path}.overseas",
        f"{path}.overseas.tokyo",
    }


def test_the_travel_planner_falls_back_on_its_defaults():
    prompt = parse_prompt(
        '<prompt schema="travel-planner"><trip-plan duration="an hour"/> Ready?</prompt>'
    )
    assert resolve(TRAVEL, prompt)[1].text == (
        "Plan with the notes below, and with nothing else. The journey lasts an hour. "
        "It is a journey around the room. Answer the question. Ready?"
    )


def test_two_prompts_share_the_modules_that_they_both_import():
    def modules(city: str) -> dict[str | None, str]:
        markup = (
            '<prompt schema="travel-planner"><trip-plan duration="9 days"><overseas>'
            f"<{city}/></overseas></trip-plan> Go?</prompt>"
        )
        user = resolve(TRAVEL, parse_prompt(markup))[1]
        own = [s for s in user.segments if s.kind is Kind.MODULE]
        return {s.module: "".join(o.text for o in own if o.module == s.module) for s in own}

    tokyo, lisbon = modules("tokyo"), modules("lisbon")
    shared = tokyo.keys() & lisbon.keys()
    assert "travel-planner.trip-plan.overseas" in shared
    assert all(tokyo[name] == lisbon[name] for name in shared)


CODE = {
    "map.py": "class Map:\n    def __init__(self, tiles):\n        self.tiles = tiles\n",
    "player.py": "class Player:\n\tname = '<unnamed>'\n",
    "game.py": "from map import Map\n\n\ndef start():\r\n    return Map([])\n",
}


def test_code_files_are_modules_with_every_character_kept(tmp_path: Path):
    for name, code in CODE.items():
        (tmp_path / name).write_bytes(code.encode())
    (tmp_path / "game.pml").write_text(
        '<schema name="game">\n'
        "  <system>You complete code.</system>\n"
        + "".join(f'  <module name="{name}" src="{name}"/>\n' for name in CODE)
        + "</schema>\n"
    )
    schema = load_schema(tmp_path / "game.pml")
    prompt = parse_prompt(
        '<prompt schema="game"><map.py/><game.py/><user>Give Map a method.</user></prompt>'
    )
    _, user = resolve(schema, prompt)
    assert [s.module for s in user.segments] == ["game.map.py", "game.game.py", None]
    assert user.text == CODE["map.py"] + CODE["game.py"] + "Give Map a method."
    assert parse_schema(write(schema)) == schema


TRAITS = {
    "age": {"young": "a reader of about twelve", "grown": "a reader of about forty"},
    "trade": {"baker": "who bakes for a village", "sailor": "who has sailed for years"},
    "mood": {"calm": "and reads slowly", "hasty": "and wants the answer at once"},
}
PERSONA = parse_schema(
    '<schema name="persona"><system>Write for the reader that is described.</system><user>'
    "Reader:"
    + "".join(
        f'<union name="{trait}">'
        + "".join(f'<module name="{name}"> {text},</module>' for name, text in choices.items())
        + "</union>"
        for trait, choices in TRAITS.items()
    )
    + " as told.</user></schema>"
)


def test_a_persona_is_a_series_of_unions_of_which_each_gives_one_trait():
    prompt = parse_prompt(
        '<prompt schema="persona"><grown/><sailor/><hasty/> What is a knot?</prompt>'
    )
    assert resolve(PERSONA, prompt)[1].text == (
        "Reader: a reader of about forty, who has sailed for years, and wants the answer at "
        "once, as told. What is a knot?"
    )


def test_every_persona_is_made_of_the_same_six_modules():
    modules = set()
    for age in TRAITS["age"]:
        for trade in TRAITS["trade"]:
            for mood in TRAITS["mood"]:
                prompt = f'<prompt schema="persona"><{age}/><{trade}/><{mood}/> Why?</prompt>'
                user = resolve(PERSONA, parse_prompt(prompt))[1]
                modules |= {(s.module, s.text) for s in user.segments if s.kind is Kind.MODULE}
    assert len({name for name, _ in modules if "#" not in name}) == 6
    assert len(modules) == 7  # the fixed text after them is the seventh


SHOTS = parse_schema("""
<schema name="sums">
  <system>You add numbers.</system>
  <module name="small"><user>1 + 2</user><assistant>3</assistant></module>
  <module name="large"><user>100 + 200</user><assistant>300</assistant></module>
  <user>
    <module name="rule">Answer with digits only.</module>
  </user>
</schema>""")


def test_examples_with_roles_inside_modules_are_whole_exchanges():
    prompt = parse_prompt('<prompt schema="sums"><large/><small/><rule/> 7 + 8</prompt>')
    assert [(m.role, m.text) for m in resolve(SHOTS, prompt)] == [
        ("system", "You add numbers."),
        ("user", "100 + 200"),
        ("assistant", "300"),
        ("user", "1 + 2"),
        ("assistant", "3"),
        ("user", "Answer with digits only. 7 + 8"),
    ]
