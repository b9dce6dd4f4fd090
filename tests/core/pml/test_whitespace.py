"""The white space rule, a sentence each."""

import pytest

from promptcache.pml import Collection, Module, Param, Role, Text, Union, parse_prompt, parse_schema


def children(markup: str) -> tuple:
    return parse_schema(f'<schema name="s">{markup}</schema>').children


def test_white_space_between_elements_is_dropped():
    assert children('\n  <module name="a"/>\n\n  <module name="b"/>\n') == (
        Module("a"),
        Module("b"),
    )


def test_a_run_at_the_front_of_a_text_becomes_one_space():
    assert children('<module name="a">\n     Miami is warm.</module>') == (
        Module("a", (Text(" Miami is warm."),)),
    )


def test_a_message_begins_and_ends_with_its_words():
    assert children("<user>\n   Use this.\n  </user>") == (Role("user", (Text("Use this."),)),)
    assert children("\n  Use this.\n") == (Text("Use this."),)


def test_a_run_at_the_end_of_a_text_belongs_to_the_module_that_follows():
    assert children('Hello\n  <module name="a">World</module>') == (
        Text("Hello"),
        Module("a", (Text(" World"),)),
    )


def test_the_space_of_two_edges_that_meet_is_one():
    assert children('Hello <module name="a"> World </module> again') == (
        Text("Hello"),
        Module("a", (Text(" World"),)),
        Text(" again"),
    )


def test_the_space_goes_into_a_module_however_deep_its_text_begins():
    inner = Module("a", (Module("b", (Text(" deep"),)),))
    markup = '<module name="a"><module name="b">deep</module></module>'
    assert children(f"So {markup}") == (Text("So"), inner)


def test_the_space_before_a_union_goes_to_every_member():
    members = '<module name="a">warm</module><module name="b">cold</module>'
    assert children(f"It is <union>{members}</union>") == (
        Text("It is"),
        Union((Module("a", (Text(" warm"),)), Module("b", (Text(" cold"),)))),
    )


def test_the_space_before_a_union_goes_no_further_however_its_members_are_laid_out():
    member = '<module name="a">warm</module>'
    for union in (f"<union>{member}</union>", f"<union>\n  {member}\n</union>"):
        assert children(f"It is {union}today")[2] == Text("today")


def test_the_space_after_a_union_comes_from_any_member():
    members = '<module name="a">warm </module><module name="b">cold</module>'
    assert children(f"<union>{members}</union>today")[1] == Text(" today")


def test_a_space_at_the_end_of_a_module_belongs_to_the_text_that_follows_it():
    assert children('<module name="a">Hello </module>World') == (
        Module("a", (Text("Hello"),)),
        Text(" World"),
    )


def test_the_space_before_a_parameter_or_a_collection_stays_in_the_text():
    assert children('<module name="a">For\n  <param name="n" len="2"/> days</module>') == (
        Module("a", (Text("For "), Param("n", 2), Text(" days"))),
    )
    assert children('Read: <collection name="docs"/>') == (Text("Read: "), Collection("docs"))


def test_the_space_before_verbatim_text_stays_in_the_text():
    assert children('Read <module name="a" encoding="base64">eA==</module>') == (
        Text("Read "),
        Module("a", (Text("x"),)),
    )
    assert children('Read <module name="a" xml:space="preserve">x</module>')[0] == Text("Read ")


def test_a_space_that_an_empty_module_cannot_take_stays_in_the_text():
    assert children('Read <module name="a"/>')[0] == Text("Read ")


def test_white_space_inside_a_text_is_kept():
    assert children("one\n\n   two\tthree") == (Text("one\n\n   two\tthree"),)


def test_preserve_keeps_every_character_of_a_code_block():
    code = "\n    def f():\n        return 1\n"
    markup = f'<module name="a" xml:space="preserve">{code}</module>'
    assert children(markup) == (Module("a", (Text(code),)),)


def test_preserve_holds_for_the_elements_inside_until_one_says_default():
    markup = (
        '<user xml:space="preserve"> <module name="a"> x </module>'
        '<module name="b" xml:space="default">\n y\n</module></user>'
    )
    assert children(markup) == (
        Role("user", (Text(" "), Module("a", (Text(" x "),)), Module("b", (Text(" y"),)))),
    )


def test_a_text_element_keeps_its_white_space():
    assert children("one<text>\n two \n</text>") == (Text("one\n two \n"),)


@pytest.mark.parametrize("between", ["<!-- a comment -->", "<?a processing instruction?>"])
def test_comments_and_processing_instructions_carry_no_text_and_part_none(between):
    assert children(f"one {between} two") == (Text("one  two"),)


def test_cdata_is_text():
    assert children("1 <![CDATA[<]]> 2") == (Text("1 < 2"),)


def test_a_no_break_space_is_text():
    assert children("<user>\u00a0</user>") == (Role("user", (Text("\u00a0"),)),)


def test_the_text_of_a_prompt_goes_on_where_the_schema_ends():
    assert parse_prompt('<prompt schema="s">\n What now?\n</prompt>').children == (
        Text(" What now?"),
    )


def test_the_space_before_an_import_stays_in_the_prompts_text():
    first, _, second = parse_prompt('<prompt schema="s">See <a/>\n now</prompt>').children
    assert (first, second) == (Text("See "), Text(" now"))


def test_an_argument_is_taken_exactly_as_it_stands():
    prompt = parse_prompt('<prompt schema="s"><m><arg name="q">\n  Why?\n</arg></m></prompt>')
    assert prompt.children[0].arguments[0].text == "\n  Why?\n"
