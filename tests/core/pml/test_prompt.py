"""What a prompt's markup means."""

import pytest

from promptcache.errors import PMLError
from promptcache.pml import Argument, Document, Import, Prompt, Text, Turn, parse_prompt


def test_a_prompt_holds_imports_arguments_documents_turns_and_text():
    markup = """
    <prompt schema="trip">
      <plan days="3 days"><arg name="who">us &amp; them</arg><city/></plan>
      <context><doc key="a"/><doc key="b"/></context>
      <assistant>Go on.</assistant>
      And now?
    </prompt>"""
    assert parse_prompt(markup) == Prompt(
        "trip",
        (
            Import(
                "plan",
                (Argument("days", "3 days"), Argument("who", "us & them")),
                (Import("city"),),
            ),
            Import("context", (), (Document("a"), Document("b"))),
            Turn("assistant", (Text("Go on."),)),
            Text(" And now?"),
        ),
    )


def test_an_argument_knows_where_it_was_given():
    prompt = parse_prompt('<prompt schema="s">\n <m a="1">\n  <arg name="b">2</arg></m></prompt>')
    first, second = prompt.children[0].arguments
    assert (str(first.place), str(second.place)) == ("line 2, column 2", "line 3, column 3")


@pytest.mark.parametrize(
    ("markup", "words"),
    [
        ("<module name='m'/>", "<module> cannot stand in a prompt: a prompt imports modules by"),
        ("<arg name='a'>x</arg>", "<arg> cannot stand here: it stands inside the import of a"),
        ("<doc key='k'/>", "<doc> cannot stand here: it stands inside the import of a collection"),
        ("<m><user>x</user></m>", "<user> cannot stand here: it stands directly in <prompt>"),
        ("<user><system/></user>", "<system> cannot stand here"),
        ("<user name='x'/>", "<user> has no attribute 'name'"),
        ("<m a='1'><arg name='a'>2</arg></m>", "<m> is given the argument 'a' twice"),
        ("<m><arg>2</arg></m>", "<arg> needs the attribute 'name'"),
        ("<m><arg name='a'><b/></arg></m>", "<b> cannot stand in <arg>"),
        ("<c><doc/></c>", "<doc> needs the attribute 'key'"),
        ("<c><doc key='k'>text</doc></c>", "<doc> cannot hold the text 'text'"),
        ("<c><doc id='k'/></c>", "<doc> has no attribute 'id' (valid: encoding, key)"),
        ("<c><doc key='%' encoding='base64'/></c>", "not UTF-8 text in base64"),
        ("<x:m/>", "'x:m' cannot name an import"),
        ("<text src='a'/>", "<text> has no attribute 'src' (valid: encoding)"),
    ],
)
def test_markup_that_a_prompt_does_not_have_is_an_error_with_its_place(markup, words):
    with pytest.raises(PMLError) as caught:
        parse_prompt(f'<prompt schema="s">\n{markup}</prompt>')
    assert words in caught.value.message
    assert caught.value.line == 2


@pytest.mark.parametrize(
    ("markup", "words"),
    [
        ("<prompt/>", "<prompt> needs the attribute 'schema'"),
        ("<prompt schema='s' name='p'/>", "<prompt> has no attribute 'name'"),
        ("<schema name='s'/>", "expected <prompt>, found <schema>"),
    ],
)
def test_a_prompt_names_its_schema_and_no_more(markup, words):
    with pytest.raises(PMLError) as caught:
        parse_prompt(markup)
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Import("user"), "'user' cannot name an import"),
        (lambda: Import("m", (), (Turn("user"),)), "cannot stand here, only Text, Import"),
        (lambda: Turn("tool"), "'tool' is no role"),
        (lambda: Prompt("s", (Document("k"),)), "cannot stand here, only Text, Import, Turn"),
        (lambda: Document(""), "a doc needs a key"),
        (lambda: Argument("a", "\ud800"), "half of a surrogate pair"),
        (lambda: parse_prompt(5), "the markup is 5, which is not text"),
        (lambda: Prompt(5), "a schema is called 5: a name is text"),
        (lambda: Prompt("s", 5), "the prompt holds 5: expected a tuple of nodes"),
        (lambda: Turn(5), "5 is no role"),
        (lambda: Import("m", ("days",)), "<m> is given 'days', which is not an Argument"),
        (lambda: Argument("days", 5), "the argument 'days' is 5, which is not text"),
        (lambda: Document(5), "a doc's key is 5, which is not text"),
    ],
)
def test_an_invalid_prompt_cannot_be_built(build, words):
    with pytest.raises(PMLError) as caught:
        build()
    assert words in str(caught.value)
