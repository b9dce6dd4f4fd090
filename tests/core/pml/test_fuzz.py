"""Whatever comes in, only errors of our own come out."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptcache.errors import PMLSyntaxError, PromptCacheError
from promptcache.pml import parse_prompt, parse_schema, resolve

lean = settings(max_examples=100, deadline=None)

_PIECES = [
    *("<schema name='s'>", "</schema>", "<prompt schema='s'>", "</prompt>", "<m>", "</m>", "<m/>"),
    *("<module name='m'>", "</module>", "<module src='x'/>", "<union>", "</union>", "<user>"),
    *("</user>", "<param name='p' len='1'/>", "<collection name='c'/>", "<text>", "</text>"),
    *("<arg name='p'>", "</arg>", "<doc key='k'/>", "<c>", "</c>", "words", " ", "\n", "&amp;"),
    *("&x;", "<!--", "-->", "<![CDATA[", "]]>", "<?pi?>", "\x00", "\ud800", "<", "xml:space="),
    *("<!DOCTYPE x>", "<text encoding='base64'>", "=", "'", "<system/>", "<assistant>"),
]
markups = st.text(st.characters()) | st.lists(st.sampled_from(_PIECES)).map("".join)
wrapped = st.lists(st.sampled_from(_PIECES), max_size=6).map(
    lambda pieces: "<schema name='s'>" + "".join(pieces) + "</schema>"
)


@lean
@given(markups | wrapped)
def test_any_string_is_a_schema_or_an_error_of_ours(markup):
    with suppress(PromptCacheError):
        parse_schema(markup)


@lean
@given(st.lists(st.sampled_from(_PIECES), max_size=6))
def test_any_string_is_a_prompt_that_resolves_or_an_error_of_ours(pieces):
    schema = parse_schema(
        "<schema name='s'>a<module name='m'>b<param name='p' len='1'/>"
        "<module name='n'>c</module></module><user>d<collection name='c'/></user></schema>"
    )
    for markup in ("".join(pieces), "<prompt schema='s'>" + "".join(pieces) + "</prompt>"):
        with suppress(PromptCacheError):
            resolve(schema, parse_prompt(markup), {"k": "a document"})


@lean
@given(st.binary(max_size=60))
def test_any_bytes_read_as_latin_text_are_no_other_error(content):
    for parse in (parse_schema, parse_prompt):
        with pytest.raises(PromptCacheError):
            parse(content.decode("latin-1"))


_BOMB = (
    '<!DOCTYPE s [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    '<schema name="s">&b;</schema>'
)
_EXTERNAL = '<!DOCTYPE s [<!ENTITY a SYSTEM "file:///etc/passwd">]><schema name="s">&a;</schema>'


@pytest.mark.parametrize(
    ("markup", "words"),
    [
        (_BOMB, "line 1, column 13: a DOCTYPE"),
        (_EXTERNAL, "a DOCTYPE"),
        ('<!DOCTYPE schema SYSTEM "http://127.0.0.1/x.dtd"><schema name="s"/>', "a DOCTYPE"),
        ('<schema name="s">&b;</schema>', "undefined entity: there are &amp;"),
        ("<schema name='s'>" + "<user>" * 200, "nest deeper than 100 levels"),
        (f"<schema name='{'x' * 1_000_001}'/>", "an attribute holds up to 1,000,000"),
        ('<schema name="s">\n a \x00 b</schema>', "line 2, column 4: not well-formed"),
        ('<schema name="s">\n é \ud800 b</schema>', "line 2, column 4: the markup holds half"),
        ("", "no element found"),
        ("   ", "no element found"),
        ("just words", "line 1, column 1: not well-formed"),
        ('<schema name="s">&#0;</schema>', "invalid character number"),
        ('<schema name="s" name="t"/>', "duplicate attribute"),
        ('<schema name="s"/><schema name="t"/>', "junk after document element"),
        ('<schema name="s"><module name="m"></schema>', "inside <module> which opens at line 1"),
        ('<schema name="s"', "unclosed token"),
        ('<schema name="s">' + "]]>" + "</schema>", "not well-formed"),
        ('<schema name="s" xml:space="keep"/>', "xml:space is 'preserve' or 'default', not 'keep'"),
    ],
    ids=range(18),
)
def test_hostile_and_broken_markup_ends_in_one_placed_sentence(markup, words):
    for parse in (parse_schema, parse_prompt):
        with pytest.raises(PMLSyntaxError) as caught:
            parse(markup)
        assert words in str(caught.value)
        assert caught.value.line
        assert caught.value.column
