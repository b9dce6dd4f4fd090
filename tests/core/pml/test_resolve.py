"""How a schema and a prompt become messages of segments."""

import pytest

from promptcache.errors import PMLError, PMLReferenceError, PromptError
from promptcache.pml import Prompt, Text, find_schema, parse_prompt, parse_schema, resolve
from promptcache.segments import Hole, Kind, Message, Segment

DOCUMENTS = {"a": "Doc A.", "b": "Doc B."}


def messages(schema: str, prompt: str) -> tuple[Message, ...]:
    return resolve(
        parse_schema(f'<schema name="s">{schema}</schema>'),
        parse_prompt(f'<prompt schema="s">{prompt}</prompt>'),
        DOCUMENTS,
    )


def segments(schema: str, prompt: str) -> tuple[Segment, ...]:
    (message,) = messages(schema, prompt)
    return message.segments


def text(schema: str, prompt: str) -> str:
    (message,) = messages(schema, prompt)
    return message.text


def spoken(schema: str, prompt: str) -> list[tuple[str | None, str]]:
    return [(message.role, message.text) for message in messages(schema, prompt)]


def error_of(schema: str, prompt: str) -> PMLError:
    with pytest.raises(PMLReferenceError) as caught:
        messages(schema, prompt)
    return caught.value


def module(name: str, content: str = "", **attributes: str) -> str:
    written = "".join(f' {key}="{value}"' for key, value in attributes.items())
    return f'<module name="{name}"{written}>{content or name.upper()}</module>'


ABC = module("a") + module("b") + module("c")

# -- order ---------------------------------------------------------------------------------------


def test_the_order_of_the_prompt_is_the_order_of_the_text():
    assert text(ABC, "<c/><a/>") == "CA"


def test_modules_that_are_not_imported_are_left_out():
    assert text(ABC, "<b/>") == "B"


def test_the_prompts_text_stands_where_it_was_written():
    assert text(ABC, "one <a/> two <c/> three") == "one A two C three"


def test_fixed_text_comes_before_the_import_it_stands_before_and_after_the_last():
    schema = "0" + module("a") + "1" + module("b") + "2"
    assert text(schema, "<a/>x<b/>y") == "0Ax1B2y"
    assert text(schema, "<b/>x<a/>y") == "01BxA2y"
    assert text(schema, "<a/>y") == "0A12y"


def test_without_imports_all_fixed_text_comes_before_the_prompts():
    assert text("0" + module("a") + "1", "y") == "01y"


def test_the_preamble_comes_before_everything():
    assert text("0" + module("a"), "x<a/>") == "0xA"


# -- what the segments are -----------------------------------------------------------------------


def test_the_preamble_is_text_that_is_marked_as_such():
    assert segments("Fixed." + module("a"), "<a/>")[0] == Segment("Fixed.", preamble=True)


def test_a_schema_without_modules_is_preamble_alone():
    assert segments("Fixed.", "x") == (Segment("Fixed.", preamble=True), Segment("x"))


def test_fixed_text_after_the_preamble_is_an_anonymous_module_called_by_its_place():
    got = segments("0" + module("a") + "1" + module("b") + "2", "<b/><a/>")
    assert got[1] == Segment("1", Kind.MODULE, "s.#1", anonymous=True)
    assert got[4] == Segment("2", Kind.MODULE, "s.#2", anonymous=True)


def test_the_prompts_own_text_belongs_to_no_module():
    assert segments(ABC, "<a/>Why?")[-1] == Segment("Why?")


def test_a_modules_segments_bear_its_dotted_path_and_its_childs_their_own():
    schema = module("a", "1" + module("b", "2" + module("c", "3") + "4") + "5")
    assert [(s.text, s.module) for s in segments(schema, "<a><b><c/></b></a>")] == [
        ("1", "s.a"),
        ("2", "s.a.b"),
        ("3", "s.a.b.c"),
        ("4", "s.a.b"),
        ("5", "s.a"),
    ]


def test_a_child_module_that_is_not_imported_is_cut_out_of_its_parent():
    assert text(module("a", "1" + module("b", "2") + "3"), "<a/>") == "13"


def test_a_parents_own_text_keeps_its_order_whatever_the_order_of_its_children():
    schema = module("a", "1" + module("b") + "2" + module("c") + "3")
    assert text(schema, "<a><c/>x<b/></a>") == "12CxB3"


def test_a_module_that_is_not_cached_is_text_with_the_reason_and_its_arguments_stay_arguments():
    schema = module("a", "x<param name='p' len='2'/>" + module("b"), cache="false")
    assert segments(schema, "<a p='1'><b/></a>") == (
        Segment("x", note='its module has cache="false"'),
        Segment(
            "1",
            Kind.ARGUMENT,
            hole=Hole("p", 2),
            place=parse_prompt('<prompt schema="s"><a p="1"/></prompt>').children[0].place,
        ),
        Segment("B", Kind.MODULE, "s.a.b"),
    )


# -- parameters ----------------------------------------------------------------------------------

PLAN = module(
    "plan", "For <param name='days' len='5'/> in <param name='to' len='3' default='it'/>."
)


def test_an_argument_fills_its_hole_and_takes_the_space_before_it():
    got = segments(PLAN, "<plan days='3 days'/>")
    assert [s.text for s in got] == ["For", " 3 days", " in", " it", "."]
    assert got[1].kind is Kind.ARGUMENT
    assert got[1].hole == Hole("days", 5)
    assert {s.module for s in got} == {"s.plan"}


def test_an_argument_keeps_its_place_for_the_error_when_it_is_too_long():
    assert str(segments(PLAN, "\n <plan days='3'/>")[1].place) == "line 2, column 2"


def test_a_default_fills_the_hole_that_has_no_argument():
    assert text(PLAN, "<plan days='3'/>") == "For 3 in it."
    assert text(PLAN, "<plan days='3' to='that'/>") == "For 3 in that."


def test_a_hole_without_argument_or_default_closes_with_its_space_and_says_so():
    got = segments(PLAN, "<plan/>")
    assert "".join(s.text for s in got) == "For in it."
    assert got[1].text == ""
    assert got[1].hole == Hole("days", 5)
    assert got[1].note == "the parameter 'days' has no argument and no default: its place is closed"


@pytest.mark.parametrize("prompt", ["<plan/>", "<plan days='3'/>", "<plan days='9' to='that'/>"])
def test_cache_false_changes_neither_the_text_nor_the_holes_of_a_module(prompt):
    once = segments(PLAN, prompt)
    each_time = segments(PLAN.replace("<module", "<module cache='false'", 1), prompt)
    assert [(s.text, s.hole) for s in once] == [(s.text, s.hole) for s in each_time]
    holes = [s.note for s in once if s.hole]
    assert holes == [s.note for s in each_time if s.hole]
    assert {s.module for s in each_time} == {None}


def test_a_closed_hole_at_the_front_of_a_message_leaves_no_space_there():
    schema = module("m", "<param name='p' len='2'/>", cache="false")
    (message,) = messages("<system/>" + schema, "<m/> What?")
    assert message.text == "What?"


def test_an_empty_argument_is_an_argument():
    got = segments(PLAN, "<plan days=''/>")
    assert (got[1].text, got[1].note) == (" ", None)


def test_an_argument_with_markup_is_an_element_and_never_parsed():
    assert text(PLAN, "<plan><arg name='days'>&lt;b/&gt;\n</arg></plan>") == "For <b/>\n in it."


def test_whitespace_that_is_not_one_space_stays_out_of_the_argument():
    schema = '<module name="m" xml:space="preserve">For:\n<param name="p" len="1"/></module>'
    assert [s.text for s in segments(schema, "<m p='x'/>")] == ["For:\n", "x"]


# -- unions --------------------------------------------------------------------------------------

UNION = f"<union>{module('warm')}{module('cold')}</union>"
DEFAULTED = f"0<union default='cold'>{module('warm')}{module('cold')}</union>1" + module("a")


def test_a_prompt_takes_one_member_of_a_union():
    assert text(UNION, "<cold/>") == "COLD"


def test_a_union_without_a_default_may_be_left_out():
    assert text(UNION, "x") == "x"


def test_a_unions_default_stands_in_its_place_when_no_member_is_imported():
    assert text(DEFAULTED, "<a/>") == "0COLD1A"
    assert text(DEFAULTED, "x") == "0COLD1x"
    assert segments(DEFAULTED, "x")[1] == Segment("COLD", Kind.MODULE, "s.cold")


def test_an_imported_member_replaces_the_default_wherever_it_stands():
    assert text(DEFAULTED, "<warm/>") == "0WARM1"
    assert text(DEFAULTED, "<a/><warm/>") == "01AWARM"


def test_a_nested_unions_default_is_used_inside_an_imported_module():
    assert text(module("m", f"({DEFAULTED})"), "<m/>") == "(0COLD1)"


# -- collections ---------------------------------------------------------------------------------

COLLECTION = 'Read: <collection name="docs" separator=" | "/>'


def test_documents_are_modules_parted_by_the_separator_in_the_prompts_order():
    got = segments(COLLECTION, "<docs><doc key='b'/><doc key='a'/></docs>Why?")
    assert got == (
        Segment("Read: ", preamble=True),
        Segment("Doc B.", Kind.MODULE, "s.docs.b"),
        Segment(" | "),
        Segment("Doc A.", Kind.MODULE, "s.docs.a"),
        Segment("Why?"),
    )


def test_a_collection_may_be_imported_in_parts_with_text_between():
    prompt = "<docs><doc key='a'/></docs> but <docs><doc key='b'/></docs>"
    assert text(COLLECTION, prompt) == "Read: Doc A. but Doc B."


def test_an_empty_separator_leaves_no_segment():
    schema = '<collection name="docs" separator=""/>'
    assert len(segments(schema, "<docs><doc key='a'/><doc key='b'/></docs>")) == 2


# -- roles ---------------------------------------------------------------------------------------

CHAT = f"<system>S.</system><user>U:{module('a')}<collection name='docs'/></user>"


def test_without_roles_all_is_one_message_without_a_role():
    assert spoken("0" + ABC, "<a/>x") == [(None, "0Ax")]


def test_role_elements_become_messages_and_the_prompts_text_continues_the_last():
    assert spoken(CHAT, "<a/>Why?") == [("system", "S."), ("user", "U:AWhy?")]


def test_text_after_an_assistants_message_is_a_new_user_message():
    schema = CHAT + "<assistant>Hello.</assistant>"
    assert spoken(schema, "<a/> Why?")[2:] == [("assistant", "Hello."), ("user", "Why?")]


def test_text_after_a_system_message_is_a_user_message():
    assert spoken("<system>S.</system>", " Why?") == [("system", "S."), ("user", "Why?")]


def test_text_of_a_schema_outside_its_roles_is_the_users():
    schema = f"<system>S.</system>{module('a', 'Fact.')}<user>Q:</user>"
    assert spoken(schema, "<a/>x") == [("system", "S."), ("user", "Fact.Q:x")]


def test_two_role_elements_are_two_messages_even_of_one_role():
    assert spoken("<user>1</user><user>2</user>", "x") == [("user", "1"), ("user", "2x")]


def test_a_prompt_may_open_messages_of_its_own():
    prompt = "<a/>Why?<assistant>So.</assistant><user>And?</user>"
    assert spoken(CHAT, prompt) == [
        ("system", "S."),
        ("user", "U:AWhy?"),
        ("assistant", "So."),
        ("user", "And?"),
    ]


def test_a_prompts_role_element_goes_on_with_the_schemas_that_it_imports_from():
    prompt = "<user>See <a/><docs><doc key='a'/></docs> Why?</user>"
    assert spoken(CHAT, prompt) == [("system", "S."), ("user", "U:See ADoc A. Why?")]


def test_a_prompts_role_element_gives_its_role_to_modules_that_have_none():
    assert spoken(ABC, "<system><a/></system><user><b/>?</user>") == [
        ("system", "A"),
        ("user", "B?"),
    ]


def test_a_module_may_hold_a_whole_exchange():
    shot = module("shot", "<user>2+2?</user><assistant>4</assistant>")
    schema = f"<system>S.</system>{shot}<user>Now:</user>"
    assert spoken(schema, "<shot/>3+3?") == [
        ("system", "S."),
        ("user", "2+2?"),
        ("assistant", "4"),
        ("user", "Now:3+3?"),
    ]
    assert messages(schema, "<shot/>x")[2].segments == (Segment("4", Kind.MODULE, "s.shot"),)


def test_a_parameter_may_stand_in_a_role_inside_a_module():
    shot = module("shot", "<user>For <param name='n' len='2'/></user>")
    assert spoken(shot, "<shot n='5'/>") == [("user", "For 5")]


def test_an_empty_role_element_of_the_schema_is_no_message():
    assert spoken("<system></system><user>U</user>", "x") == [("user", "Ux")]


def test_an_empty_role_element_of_the_prompt_is_a_message_without_text():
    assert spoken("<system>S.</system>", "<user/><assistant>A</assistant><user/>") == [
        ("system", "S."),
        ("user", ""),
        ("assistant", "A"),
        ("user", ""),
    ]
    docs = "<user><collection name='c'/></user>"
    assert spoken(docs, "<user><c/></user><assistant>A</assistant>") == [
        ("user", ""),
        ("assistant", "A"),
    ]
    assert spoken(docs, "<c/><assistant>A</assistant>") == [("assistant", "A")]


# -- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "prompt", "words"),
    [
        (ABC, "<d/>", "the schema 's' has no module 'd' (modules: a, b, c)"),
        (module("miami"), "<miamy/>", "has no module 'miamy'; did you mean 'miami'?"),
        (module("a", module("b")), "<b/>", "it stands inside 'a' and is imported inside its"),
        (module("a", module("b")), "<a><c/></a>", "the module 'a' has no module 'c' (modules: b)"),
        (
            f"<union name='u'>{ABC}</union>",
            "<u/>",
            "it is a union; import one of its modules",
        ),
        (PLAN, "<plan><days/></plan>", "it is a parameter; write it as an attribute or as <arg"),
        (ABC, "<a/><a/>", "the module 'a' is imported twice"),
        (UNION, "<warm/><cold/>", "'warm' and 'cold' are of one union, and a prompt takes one"),
        (
            PLAN,
            "<plan dys='3'/>",
            "no parameter 'dys'; did you mean 'days'? (parameters: days",
        ),
        (ABC, "<a x='3'/>", "the module 'a' has no parameter 'x' (parameters: none)"),
        (ABC, "<a><doc key='a'/></a>", "'a' is a module, and documents belong to a collection"),
        (COLLECTION, "<docs><doc key='c'/></docs>", "there is no document 'c' (documents: a, b)"),
        (COLLECTION, "<docs>text</docs>", "<docs> is a collection: it holds <doc key=.../> and no"),
        (COLLECTION, "<docs><a/></docs>", "it holds <doc key=.../> and no <a>"),
        (COLLECTION, "<docs n='3'/>", "'docs' is a collection, which takes no argument 'n'"),
        (
            COLLECTION,
            "<docs><doc key='a'/><doc key='a'/></docs>",
            "the document 'a' is imported twice",
        ),
        (CHAT, "<system><a/></system>", "'a' belongs to <user> in the schema and cannot stand in"),
        (
            module("shot", "<user>?</user>"),
            "<user><shot/></user>",
            "'shot' holds a <user> of its own and cannot stand in <user>",
        ),
    ],
)
def test_an_import_that_does_not_fit_is_an_error_that_says_what_does(schema, prompt, words):
    error = error_of(schema, f"\n{prompt}")
    assert words in error.message
    assert error.line == 2


def test_an_unknown_schema_is_an_error_that_names_the_schemas():
    schemas = {"trip": parse_schema('<schema name="trip"/>')}
    prompt = parse_prompt('<prompt schema="tripp">x</prompt>')
    with pytest.raises(PMLReferenceError) as caught:
        find_schema(prompt, schemas)
    assert "no schema 'tripp'; did you mean 'trip'? (schemas: trip)" in str(caught.value)
    with pytest.raises(PMLReferenceError, match="no schema 'tripp'"):
        resolve(schemas["trip"], prompt)


@pytest.mark.parametrize("prompt", ["", "<a/>", "<text> \n </text>"])
def test_a_prompt_without_any_text_is_an_error(prompt):
    with pytest.raises(PromptError, match="has no text, so there is nothing to generate from"):
        messages('<module name="a"/>', prompt)


def test_a_prompt_built_in_python_needs_no_markup():
    schema = parse_schema('<schema name="s">Fixed.</schema>')
    assert resolve(schema, Prompt("s", (Text(" Why?"),)))[0].text == "Fixed. Why?"
