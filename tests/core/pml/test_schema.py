"""What a schema's markup means, and what a schema built in Python may be."""

import base64
import os

import pytest

from promptcache.errors import PMLError, PMLReferenceError, PMLSyntaxError
from promptcache.pml import (
    Collection,
    Module,
    Param,
    Role,
    Schema,
    Text,
    Union,
    load_schema,
    parse_schema,
)


def children(markup: str) -> tuple:
    return parse_schema(f'<schema name="s">{markup}</schema>').children


def error_of(markup: str, **options: object) -> PMLError:
    with pytest.raises(PMLError) as caught:
        parse_schema(f'<schema name="s">\n{markup}</schema>', **options)
    return caught.value


def test_a_schema_holds_what_its_markup_says():
    markup = """
    <schema name="trip">
      <system>Be brief.</system>
      <user>
        <module name="plan" cache="false">For <param name="days" len="5" default="two"/>.</module>
        <union name="place" default="maui">
          <module name="miami"/>
          <module name="maui"/>
        </union>
        <collection name="context" separator="&#10;--&#10;"/>
      </user>
    </schema>"""
    assert parse_schema(markup) == Schema(
        "trip",
        (
            Role("system", (Text("Be brief."),)),
            Role(
                "user",
                (
                    Module("plan", (Text("For "), Param("days", 5, "two"), Text(".")), cache=False),
                    Union((Module("miami"), Module("maui")), name="place", default="maui"),
                    Collection("context", "\n--\n"),
                ),
            ),
        ),
    )


def test_the_order_of_attributes_does_not_matter():
    one = '<module name="m"><param name="p" len="1" default="x"/></module>'
    other = '<module name="m"><param default="x" len="1" name="p"/></module>'
    assert children(one) == children(other)


def test_the_old_names_of_elements_and_attributes_are_read():
    old = (
        '<module name="m"><parameter name="p" length="3" scaffold="x"/></module>'
        '<union scaffold="b"><module name="a"/><module name="b"/></union>'
    )
    assert children(old) == (
        Module("m", (Param("p", 3, "x"),)),
        Union((Module("a"), Module("b")), default="b"),
    )


def test_a_collection_parts_its_documents_by_an_empty_line_unless_told():
    assert children('<collection name="docs"/>') == (Collection("docs", "\n\n"),)


def test_base64_carries_what_xml_cannot():
    code = base64.b64encode(b"a\x0cb\r\n").decode()
    assert children(
        f'<module name="m" encoding="base64">\n  {code}\n</module>'
        f'<text encoding="base64">{code}</text>'
    ) == (Module("m", (Text("a\x0cb\r\n"),)), Text("a\x0cb\r\n"))


def test_names_may_be_of_any_language():
    assert children('<module name="Überblick"/><module name="旅行"/>')[1] == Module("旅行")


def test_a_src_file_is_read_to_the_byte(tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "unit.py").write_bytes(b"\tdef f():\r\n\x0c  pass \n")
    (tmp_path / "s.pml").write_text(
        '<schema name="s"><module name="m" src="code/unit.py"/></schema>'
    )
    schema = load_schema(tmp_path / "s.pml")
    assert schema.children == (Module("m", (Text("\tdef f():\r\n\x0c  pass \n"),)),)


# -- errors in markup, each with what is valid --------------------------------------------------


@pytest.mark.parametrize(
    ("markup", "words"),
    [
        ('<modul name="m"/>', "there is no element <modul> here; did you mean 'module'?"),
        ('<doc key="k"/>', "there is no element <doc> here"),
        ('<schema name="t"/>', "there is no element <schema> here"),
        ('<user><scaffold name="f" modules="a b"/></user>', "it stands directly in <schema>"),
        ('<module name="m" nam="x"/>', "<module> has no attribute 'nam'; did you mean 'name'?"),
        ("<user class='x'/>", "<user> has no attribute 'class' (valid: none)"),
        ("<module/>", "<module> needs the attribute 'name'"),
        ('<module name=""/>', "<module> needs the attribute 'name'"),
        ('<module name="2nd"/>', "'2nd' cannot name a module: a name is a letter or '_', then"),
        ('<module name="a b"/>', "'a b' cannot name a module"),
        ('<module name="ª"/>', "'ª' cannot name a module"),
        ('<module name="user"/>', "'user' cannot name a module: it is an element of PML"),
        ('<collection name="doc"/>', "'doc' cannot name a collection: it is an element of PML"),
        ('<module name="m" cache="no"/>', "cache is 'true' or 'false', not 'no'"),
        ('<module name="m" encoding="hex">00</module>', "encoding is 'base64', not 'hex'"),
        ('<module name="m" encoding="base64">%%</module>', "not UTF-8 text in base64"),
        ('<module name="m" encoding="base64">é</module>', "not UTF-8 text in base64"),
        ('<module name="m" encoding="base64">/w==</module>', "not UTF-8 text in base64"),
        (
            '<module name="m" encoding="base64"><union/></module>',
            "<union> cannot stand in <module>",
        ),
        ('<module name="m" src="a" encoding="base64"/>', "has both src and encoding"),
        ('<param name="p" len="1"/>', "the param 'p' cannot stand in the schema: it belongs in a"),
        ('<user><param name="p" len="1"/></user>', "the param 'p' cannot stand in the schema"),
        (
            '<module name="m"><collection name="c"/></module>',
            "the collection 'c' cannot stand in the module 'm': it belongs in the schema",
        ),
        (
            '<module name="m"><user><collection name="c"/></user></module>',
            "the collection 'c' cannot stand in the module 'm'",
        ),
        ("<user><system/></user>", "<system> stands inside <user>: a message does not contain"),
        (
            '<user><module name="m"><user/></module></user>',
            "<user> stands inside <user>: a message does not contain another",
        ),
        ("<union/>", "a union needs at least one module"),
        ('<union>or <module name="m"/></union>', "a union holds modules only, not the text 'or'"),
        ("<union><text>x</text></union>", "text cannot stand in a union: it holds modules only"),
        ("<union><user/></union>", "<user> cannot stand in a union: it holds modules only"),
        (
            '<union default="mau"><module name="maui"/></union>',
            "default is 'mau', which is not one of its modules; did you mean 'maui'?",
        ),
        (
            '<union default="a" scaffold="a"><module name="a"/></union>',
            "has both 'default' and 'scaffold', its old name",
        ),
        ('<module name="a"/><module name="a"/>', "the schema has the name 'a' twice"),
        ('<module name="a"/><user><module name="a"/></user>', "the schema has the name 'a' twice"),
        (
            '<module name="a"/><union><module name="a"/></union>',
            "the schema has the name 'a' twice",
        ),
        ('<union name="a"><module name="a"/></union>', "the schema has the name 'a' twice"),
        (
            '<module name="m"><param name="p" len="1"/><param name="p" len="2"/></module>',
            "the module 'm' has the name 'p' twice",
        ),
        (
            '<module name="a.b"/><module name="a"><module name="b"/></module>',
            "the path 'a.b' has two meanings",
        ),
        ('<module name="c.k"/><collection name="c"/>', "the path 'c.k' has two meanings"),
        ('<collection name="c">x</collection>', "<collection> cannot hold the text 'x'"),
        ('<text><module name="m"/></text>', "<module> cannot stand in <text>"),
    ],
)
def test_markup_that_pml_does_not_have_is_an_error_that_says_what_is_valid(markup, words):
    error = error_of(markup)
    assert words in error.message
    assert error.line == 2
    assert error.column >= 1


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ('name="p"', "the param 'p' needs len"),
        ('len="3"', "<param> needs the attribute 'name'"),
        ('name="p" len="five"', "len is a whole number of tokens, not 'five'"),
        ('name="p" len="-1"', "len is a whole number of tokens, not '-1'"),
        ('name="p" len="٣"', "len is a whole number of tokens, not '٣'"),
        (f'name="p" len="{"9" * 5000}"', "len is a whole number of tokens"),
        ('name="p" len="0"', "the param 'p' has len 0: it is a number of tokens from 1 to"),
        ('name="p" len="1" length="1"', "has both 'len' and 'length', its old name"),
        ('name="p" len="1" encoding="base64" default="%"', "not UTF-8 text in base64"),
        ('name="p" len="1" encoding="rot13" default="x"', "encoding is 'base64', not 'rot13'"),
        ('name="p" len="1" encoding="rot13"', "<param> has encoding 'rot13' and no default"),
        ('name="p" len="1" encoding="base64"', "<param> has encoding 'base64' and no default"),
        ('name="9" len="1"', "'9' cannot name a param"),
    ],
)
def test_a_parameter_that_cannot_be_is_an_error(attributes, words):
    assert words in error_of(f'<module name="m"><param {attributes}/></module>').message


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ('encoding="zip"', "<collection> has encoding 'zip' and no separator to decode"),
        ('encoding="base64"', "<collection> has encoding 'base64' and no separator to decode"),
        ('encoding="zip" separator="x"', "encoding is 'base64', not 'zip'"),
    ],
)
def test_a_collections_encoding_is_base64_of_its_separator(attributes, words):
    assert words in error_of(f'<collection name="c" {attributes}/>').message


def test_a_parameter_holds_nothing():
    error = error_of('<module name="m"><param name="p" len="1">x</param></module>')
    assert "<param> cannot hold the text 'x': a param holds nothing" in error.message


def test_a_param_may_bear_the_name_of_an_element():
    assert children('<module name="m"><param name="text" len="1"/></module>')


def test_an_error_names_its_source_its_line_and_its_column():
    error = error_of('  <module name="a"/>\n   <modul/>', source="trip.pml")
    assert (error.source, error.line, error.column) == ("trip.pml", 3, 4)
    assert str(error).startswith("trip.pml: line 3, column 4: there is no element <modul>")


def test_the_first_error_of_several_is_raised():
    assert error_of('<module name="a" x="1"/>\n<modul/>').line == 2


def test_a_duplicate_is_reported_where_the_second_stands():
    assert error_of('<module name="a"/>\n <module name="a"/>').line == 3


def test_another_root_element_is_an_error():
    with pytest.raises(PMLSyntaxError, match="expected <schema>, found <prompt>"):
        parse_schema('<prompt schema="s"/>')


# -- src files -----------------------------------------------------------------------------------


def src_error(src: str, base: object) -> str:
    return error_of(f'<module name="m" src="{src}"/>', base=base).message


def test_a_src_without_a_base_folder_is_an_error():
    assert "src 'a.txt' has no folder to be read from" in src_error("a.txt", None)


@pytest.mark.parametrize("src", ["../secret.txt", "/etc/passwd", "in/../../secret.txt"])
def test_a_src_outside_the_schemas_folder_is_an_error(tmp_path, src):
    (tmp_path / "secret.txt").write_text("secret")
    base = tmp_path / "schemas"
    base.mkdir()
    assert f"src {src!r} lies outside the schema's folder" in src_error(src, base)


def test_a_src_that_links_out_of_the_schemas_folder_is_an_error(tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    base = tmp_path / "schemas"
    base.mkdir()
    os.symlink(tmp_path / "secret.txt", base / "link.txt")
    assert "lies outside the schema's folder" in src_error("link.txt", base)


def test_the_base_folder_may_be_a_path_or_text(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    markup = '<schema name="s"><module name="m" src="a.txt"/></schema>'
    assert parse_schema(markup, base=str(tmp_path)) == parse_schema(markup, base=tmp_path)
    with pytest.raises(PMLReferenceError, match="base is 5, expected the path of a folder"):
        parse_schema(markup, base=5)


@pytest.mark.parametrize("markup", [5, None, b"<schema name='s'/>"])
def test_markup_that_is_not_text_is_an_error(markup):
    with pytest.raises(PMLSyntaxError) as caught:
        parse_schema(markup)
    assert f"the markup is {markup!r}, which is not text" in str(caught.value)


def test_a_file_that_is_not_a_path_is_an_error():
    with pytest.raises(PMLReferenceError, match="the file is 5, expected a path"):
        load_schema(5)


@pytest.mark.parametrize("src", ["absent.txt", ".", "x" * 5000])
def test_a_src_that_is_no_file_is_an_error(tmp_path, src):
    assert "src '" in src_error(src, tmp_path)


def test_a_src_that_is_not_utf8_is_an_error(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"ok \xff")
    assert "src 'a.bin' is not UTF-8: invalid start byte at byte 3" in src_error("a.bin", tmp_path)


def test_an_element_with_src_holds_nothing_else(tmp_path):
    error = error_of('<module name="m" src="a">x</module>', base=tmp_path)
    assert "cannot hold the text 'x': its text is the file's" in error.message


def test_a_schema_file_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(PMLReferenceError, match="cannot be read: No such file"):
        load_schema(tmp_path / "absent.pml")


# -- schemas built in Python ---------------------------------------------------------------------


def test_texts_that_touch_are_one_and_empty_ones_are_none():
    assert Schema("s", (Text("a"), Text(""), Text("b"))) == Schema("s", (Text("ab"),))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Schema("a b"), "'a b' cannot name a schema"),
        (lambda: Schema(""), "a schema needs a name"),
        (lambda: Schema("s", (Param("p", 1),)), "cannot stand in the schema"),
        (lambda: Schema("s", ("text",)), "the schema holds 'text', which is not a PML node"),
        (lambda: Schema("s", (Module("a"), Module("a"))), "the schema has the name 'a' twice"),
        (lambda: Role("tool"), "'tool' is no role (valid: assistant, system, user)"),
        (lambda: Module("m", (Collection("c"),)), "cannot stand in the module 'm'"),
        (lambda: Union(()), "a union needs at least one module"),
        (lambda: Union((Module("a"),), default="b"), "default is 'b'"),
        (lambda: Param("p", 0), "the param 'p' has len 0"),
        (lambda: Text("\ud800"), "half of a surrogate pair (U+D800)"),
        (lambda: Collection("c", "\udfff"), "half of a surrogate pair (U+DFFF)"),
        (lambda: Schema(5), "a schema is called 5: a name is text"),
        (lambda: Module(5), "a module is called 5: a name is text"),
        (lambda: Module("m", 5), "the module 'm' holds 5: expected a tuple of nodes"),
        (lambda: Module("m", (), "false"), "the module 'm' has cache 'false': it is True or"),
        (lambda: Text(5), "a text is 5, which is not text"),
        (lambda: Param("d", "5"), "the param 'd' has len '5': it is a number of tokens from 1"),
        (lambda: Param("d", 2.5), "the param 'd' has len 2.5"),
        (lambda: Param("d", True), "the param 'd' has len True"),
        (lambda: Param("d", 5, 0), "the default of 'd' is 0, which is not text"),
        (lambda: Collection("c", None), "the separator of 'c' is None, which is not text"),
        (lambda: Union(5), "a union holds 5: expected a tuple of nodes"),
        (lambda: Union((Module("a"),), default=5), "the union's default is 5"),
        (lambda: Role(5), "5 is no role"),
        (lambda: Param("p", 1, "x" * 1_000_001), "an attribute holds up to 1,000,000"),
    ],
)
def test_an_invalid_schema_cannot_be_built(build, words):
    with pytest.raises(PMLError) as caught:
        build()
    assert words in str(caught.value)
    assert caught.value.line == 0
