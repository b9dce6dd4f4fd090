from hypothesis import HealthCheck, given, settings

from core.pml.strategies import prompts, schemas
from promptcache.pml import (
    Argument,
    Collection,
    Import,
    Module,
    Param,
    Prompt,
    Role,
    Schema,
    Text,
    Union,
    parse_prompt,
    parse_schema,
    write,
)

lean = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@lean
@given(schemas())
def test_a_schema_that_is_written_reads_back_as_an_equal_one(schema):
    assert parse_schema(write(schema)) == schema


@lean
@given(prompts())
def test_a_prompt_that_is_written_reads_back_as_an_equal_one(prompt):
    assert parse_prompt(write(prompt)) == prompt


def test_a_schema_is_written_so_that_people_can_read_it():
    schema = Schema(
        "trip",
        (
            Role("system", (Text("You plan trips."),)),
            Role(
                "user",
                (
                    Text("Use the material."),
                    Module("plan", (Text(" For "), Param("days", 5, "3 days"), Text(" & nights."))),
                    Union(
                        (Module("miami", (Text(" Miami."),)), Module("maui", ())), default="maui"
                    ),
                    Collection("context", "\n\n"),
                ),
            ),
        ),
    )
    assert write(schema) == (
        '<schema name="trip">\n'
        "  <system>You plan trips.</system>\n"
        "  <user>\n"
        "    Use the material.\n"
        '    <module name="plan"> For <param name="days" len="5" default="3 days"/>'
        " &amp; nights.</module>\n"
        '    <union default="maui">\n'
        '      <module name="miami"> Miami.</module>\n'
        '      <module name="maui"/>\n'
        "    </union>\n"
        '    <collection name="context" separator="&#10;&#10;"/>\n'
        "  </user>\n"
        "</schema>\n"
    )


def test_text_whose_edges_matter_is_written_with_preserve():
    schema = Schema("s", (Text("Context:\n\n"), Collection("docs"), Text("\n\nQuestion: ")))
    assert write(schema) == (
        '<schema name="s" xml:space="preserve">Context:\n\n'
        '<collection name="docs" separator="&#10;&#10;"/>\n\nQuestion: </schema>\n'
    )


def test_what_xml_cannot_carry_is_written_in_base64():
    schema = Schema("s", (Module("m", (Text("page one\x0cpage two"),)),))
    assert '<module name="m" encoding="base64">' in write(schema)
    assert parse_schema(write(schema)) == schema


def test_windows_line_ends_survive_a_round_trip():
    schema = Schema("s", (Text("one\r\ntwo\rthree\nfour"),))
    assert parse_schema(write(schema)) == schema


def test_a_long_argument_is_written_as_an_element_and_a_short_one_as_an_attribute():
    prompt = Prompt("s", (Import("m", (Argument("a", "3 days"), Argument("b", "x < y\n"))),))
    assert write(prompt) == (
        '<prompt schema="s">\n'
        '  <m a="3 days">\n'
        '    <arg name="b">x &lt; y\n</arg>\n'
        "  </m>\n"
        "</prompt>\n"
    )
