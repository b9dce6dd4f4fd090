"""Which scaffolds a schema may have, and which prompts use them."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from rich.console import Console

from core.pml.strategies import schemas
from promptcache.errors import PMLError, PMLSyntaxError
from promptcache.pml import (
    Import,
    Module,
    Prompt,
    Scaffold,
    Schema,
    Text,
    parse_prompt,
    parse_schema,
    resolve,
    write,
)
from promptcache.pml.imports import imports_of_scaffolds
from promptcache.pml.lint import run

TRIP = """
<schema name="trip">
  <system>You plan journeys.</system>
  <user>
    <module name="plan"> It lasts <param name="days" len="5"/>.<module name="note"> Mind the
      rain.</module></module>
    <union default="rail">
      <module name="rail"> It goes by rail.</module>
      <module name="sea"> It goes by sea.</module>
    </union>
    <module name="cost"> It is cheap.</module>
    <collection name="notes"/>
    Be brief.
    <module name="last"> Say thanks.</module>
  </user>
  <scaffold name="journey" modules="plan sea"/>
  <scaffold name="whole" modules="plan sea cost"/>
  <scaffold name="turned" modules="cost plan"/>
  <scaffold name="tail" modules="cost rail"/>
</schema>
"""


def used(imports: str, documents: dict[str, str] | None = None) -> dict[str, str]:
    """The scaffold of each module of a prompt that has one, by its name."""
    prompt = parse_prompt(f'<prompt schema="trip">{imports} Well?</prompt>')
    bonds = {}
    for message in resolve(parse_schema(TRIP), prompt, documents):
        for segment in message.segments:
            if segment.bond:
                assert segment.module in segment.bond.modules
                bonds[segment.module] = segment.bond.name
    return {module.removeprefix("trip."): bond for module, bond in bonds.items()}


def test_a_prompt_that_imports_the_modules_in_order_uses_the_scaffold() -> None:
    assert used("<plan/><sea/>") == {"plan": "trip.journey", "sea": "trip.journey"}


@pytest.mark.parametrize(
    "imports",
    [
        "<plan/>",
        "<sea/><plan/>",
        "<plan/> and <sea/>",
        "<plan/><notes><doc key='k'/></notes><sea/>",
        "<plan/><user/><sea/>",
    ],
)
def test_some_of_them_or_another_order_or_anything_between_is_no_scaffold(imports: str) -> None:
    assert not used(imports, {"k": "A note."})


def test_an_import_between_them_is_no_scaffold() -> None:
    # "cost plan" is one; "last" between them is not
    assert not used("<cost/><last/><plan/>")


def test_other_imports_and_text_around_them_change_nothing() -> None:
    assert used("Look: <notes><doc key='k'/></notes><plan/><sea/>So.<last/>", {"k": "A note."}) == {
        "plan": "trip.journey",
        "sea": "trip.journey",
    }


def test_the_longest_scaffold_that_fits_is_used() -> None:
    assert set(used("<plan/><sea/><cost/>").values()) == {"trip.whole"}


def test_of_two_that_overlap_the_first_is_used() -> None:
    assert used("<cost/><plan/><sea/>") == {"cost": "trip.turned", "plan": "trip.turned"}


def test_the_default_of_a_union_that_comes_between_is_no_scaffold() -> None:
    assert not used("<plan/><cost/>")
    # nothing is between cost and plan, whose spot comes before the union's
    assert used("<cost/><plan/>")


def test_an_imported_default_is_served_as_any_other_member() -> None:
    assert set(used("<cost/><rail/>").values()) == {"trip.tail"}


def test_what_is_imported_or_written_inside_a_module_is_cut_out_of_the_scaffold_too() -> None:
    assert used("<plan days='3'><note/> Inside.</plan><sea/>") == {
        "plan": "trip.journey",
        "sea": "trip.journey",
    }


def test_fixed_text_of_the_schema_between_two_imports_is_no_scaffold() -> None:
    schema = Schema(
        "s",
        (Module("a", (Text("A"),)), Text("x"), Module("b", (Text("B"),))),
        (Scaffold("f", ("b", "a")),),
    )
    both = resolve(schema, Prompt("s", (Import("b"), Import("a"))))
    assert [s.bond is not None for s in both[0].segments] == [False, True, True]


def error_of(scaffold: str, schema: str = TRIP) -> PMLError:
    with pytest.raises(PMLError) as caught:
        parse_schema(schema.replace("</schema>", f"\n  {scaffold}\n</schema>"))
    return caught.value


@pytest.mark.parametrize(
    ("scaffold", "words"),
    [
        ("modules='plan sea'", "<scaffold> needs the attribute 'name'"),
        ("name='f'", "<scaffold> needs the attribute 'modules'"),
        ("name='f' modules='plan'", "'f' names only 'plan': it needs two modules or more"),
        ("name='f' modules=' '", "'f' names no module: it needs two modules or more"),
        ("name='f' modules='plan plan'", "'f' names 'plan' twice"),
        ("name='f' modules='plan see'", "cannot hold 'see'; did you mean 'sea'? (modules: cost"),
        ("name='f' modules='plan 2nd'", "'2nd' cannot name a module"),
        ("name='f' modules='plan notes'", "'notes' is a collection, whose documents each prompt"),
        ("name='f' modules='plan note'", "it stands inside 'plan'"),
        ("name='f' modules='rail sea'", "both 'rail' and 'sea': they are of one union"),
        ("name='f' modules='cost last'", "the schema's text 'Be brief.' stands between 'cost' and"),
        ("name='journey' modules='plan cost'", "the schema has the name 'journey' twice"),
        ("name='plan' modules='plan cost'", "the schema has the name 'plan' twice"),
        ("name='f' modules='plan sea'", "names the modules of 'journey' in the same order"),
        ("name='f' modules='plan sea' order='1'", "<scaffold> has no attribute 'order'"),
        ("name='2nd' modules='plan cost'", "'2nd' cannot name a scaffold"),
    ],
)
def test_a_scaffold_that_cannot_be_is_an_error_with_its_place(scaffold: str, words: str) -> None:
    error = error_of(f"<scaffold {scaffold}/>")
    assert words in error.message
    assert error.line and error.column


def test_the_place_of_an_error_is_the_scaffolds() -> None:
    error = error_of("<scaffold name='f' modules='plan see'/>")
    assert (error.line, error.column) == (TRIP.count("\n") + 1, 3)


@pytest.mark.parametrize(
    ("member", "words"),
    [
        ('<module name="b" cache="false">B</module>', 'it has cache="false"'),
        ('<module name="b"><module name="c">C</module></module>', "it has no text of its own"),
        ('<module name="b"/>', "it has no text of its own"),
        ('<union name="b"><module name="c">C</module></union>', "name one of its modules (c)"),
    ],
)
def test_a_member_that_has_nothing_to_encode_with_the_others_is_an_error(
    member: str, words: str
) -> None:
    schema = f'<schema name="s"><module name="a">A</module>{member}</schema>'
    assert words in error_of('<scaffold name="f" modules="a b"/>', schema).message


def test_a_scaffold_holds_nothing_and_stands_in_the_schema() -> None:
    error = error_of('<scaffold name="f" modules="plan cost">x</scaffold>')
    assert "<scaffold> cannot hold the text 'x'" in error.message
    inside = '<schema name="s"><module name="a"><scaffold name="f"/></module></schema>'
    with pytest.raises(PMLSyntaxError, match="<scaffold> cannot stand here: it stands directly in"):
        parse_schema(inside)


def test_a_module_with_an_error_is_not_also_missing_from_its_scaffold(tmp_path: Path) -> None:
    path = tmp_path / "s.pml"
    path.write_text(
        '<schema name="s"><module name="a" cache="no">A</module><module name="b">B</module>'
        '<scaffold name="f" modules="a b"/></schema>'
    )
    output = StringIO()
    assert run([path], Console(file=output, width=200)) == 1
    assert output.getvalue().count("line") == 1


@pytest.mark.parametrize(
    "modules", ["ab", 7, (1, 2), None], ids=["text", "number", "numbers", "none"]
)
def test_a_scaffold_built_in_python_is_checked_too(modules: object) -> None:
    with pytest.raises(PMLSyntaxError):
        Scaffold("f", modules)  # type: ignore[arg-type]


def test_a_schema_takes_scaffolds_only() -> None:
    with pytest.raises(PMLSyntaxError, match="which is not a Scaffold"):
        Schema("s", (), ("f",))  # type: ignore[arg-type]


def test_importing_a_scaffold_says_to_import_its_modules() -> None:
    with pytest.raises(PMLError, match=r"it is a scaffold; import its modules \(plan, sea\)"):
        used("<journey/>")


def test_a_scaffold_is_no_part_of_the_text_wherever_it_stands() -> None:
    with_it = (
        '<schema name="s"> One <scaffold name="f" modules="a b"/> two '
        '<module name="a">a</module><!-- --><module name="b">b</module></schema>'
    )
    without = with_it.replace('<scaffold name="f" modules="a b"/>', "<!-- -->")
    assert parse_schema(with_it).children == parse_schema(without).children
    assert parse_schema(with_it).scaffolds == (Scaffold("f", ("a", "b")),)


def test_a_schema_with_scaffolds_writes_itself_back() -> None:
    schema = parse_schema(TRIP)
    assert parse_schema(write(schema)) == schema
    assert write(schema).endswith(
        '  <scaffold name="turned" modules="cost plan"/>\n'
        '  <scaffold name="tail" modules="cost rail"/>\n</schema>\n'
    )


def test_lint_shows_scaffolds(tmp_path: Path) -> None:
    (tmp_path / "trip.pml").write_text(TRIP)
    output = StringIO()
    assert run([tmp_path / "trip.pml"], Console(file=output, width=200)) == 0
    assert "├── scaffold whole  plan, sea, cost" in output.getvalue()


@settings(max_examples=60, deadline=None)
@given(schemas())
def test_every_scaffold_that_a_schema_accepts_is_used_by_the_prompt_that_encodes_it(
    schema: Schema,
) -> None:
    for scaffold, pieces in zip(schema.scaffolds, imports_of_scaffolds(schema), strict=True):
        assert pieces[: len(scaffold.modules)] == tuple(map(Import, scaffold.modules))
        prompt = Prompt(schema.name, (*pieces, Text("?")))
        segments = [s for m in resolve(schema, prompt) for s in m.segments]
        bonds = {s.bond.name for s in segments if s.bond}
        assert bonds == {f"{schema.name}.{scaffold.name}"}
