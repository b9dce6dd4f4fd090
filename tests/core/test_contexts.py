"""Which part of a recognised prompt its documents are encoded after."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from promptcache.contexts import LEARNED, Contexts
from promptcache.segments import Kind, Segment, joined

SYSTEM = Segment("<|system|>", Kind.CONTROL)
END = Segment("<|end|>", Kind.CONTROL)
DOCUMENT = Segment("A document.", Kind.MODULE, "d")


def preamble(contexts: Contexts, *segments: Segment) -> str:
    marked = contexts.mark(segments)
    assert joined(marked) == joined(segments)
    head = [segment.preamble for segment in marked]
    assert head == sorted(head, reverse=True)
    return joined(segment for segment in marked if segment.preamble)


def test_everything_before_the_first_document_is_the_context_of_a_prompt_on_its_own() -> None:
    assert preamble(Contexts(), SYSTEM, Segment("Be brief. "), DOCUMENT) == "<|system|>Be brief. "


BRIEF = "Be brief, and answer in one line."
QUESTIONS = ["Who?", "Where?", "When was that?", "Why?"]


def asking(question: str) -> Segment:
    return Segment(f"Answer from what is below.\nQuestion: {question}\n\n")


def declared(*texts: str) -> Contexts:
    contexts = Contexts()
    for text in texts:
        contexts.declare([SYSTEM, Segment(text)])
    return contexts


def test_a_declared_preamble_wins_and_may_end_inside_a_text() -> None:
    got = preamble(declared(BRIEF), SYSTEM, Segment(f"{BRIEF} Now: "), DOCUMENT)
    assert got == f"<|system|>{BRIEF}"


def test_the_longest_declared_preamble_wins() -> None:
    contexts = declared(BRIEF[:20], BRIEF, BRIEF[:24])
    got = preamble(contexts, SYSTEM, Segment(f"{BRIEF} Q"), DOCUMENT)
    assert got == f"<|system|>{BRIEF}"


def test_a_preamble_with_hardly_any_content_is_not_declared() -> None:
    contexts = Contexts()
    contexts.declare([SYSTEM])
    contexts.declare([SYSTEM, Segment("Hi")])
    assert contexts.known == ()


def test_control_text_is_never_cut_in_two() -> None:
    contexts = declared(BRIEF)
    beginning = Segment(f"<|system|>{BRIEF[:8]}", Kind.CONTROL)
    assert preamble(contexts, beginning, Segment(BRIEF[8:]), DOCUMENT) == f"<|system|>{BRIEF}"
    whole = Segment(f"<|system|>{BRIEF}<|end|>", Kind.CONTROL)
    assert preamble(contexts, whole, DOCUMENT) == ""


def test_three_prompts_that_begin_differently_share_whole_lines_from_then_on() -> None:
    contexts = Contexts()
    marked = [preamble(contexts, SYSTEM, asking(question), DOCUMENT) for question in QUESTIONS]
    common = "<|system|>Answer from what is below."
    assert marked[0].endswith("Who?\n\n")
    assert marked[1].endswith("Where?\n\n")
    assert marked[2:] == [common, common]
    assert preamble(contexts, SYSTEM, asking(QUESTIONS[0]), DOCUMENT) == common


def test_a_beginning_that_came_again_keeps_its_context_whatever_others_share() -> None:
    contexts = Contexts()
    stable = "You are a helpful assistant of a library.\nAnswer from these documents:\n"
    for _ in range(2):
        assert preamble(contexts, SYSTEM, Segment(stable), DOCUMENT).endswith(stable)
    for other in ("law", "tax", "sea", "sky"):
        text = f"You are a helpful assistant of a library.\nThis one is on {other}.\n"
        preamble(contexts, SYSTEM, Segment(text), DOCUMENT)
    assert contexts.known
    assert preamble(contexts, SYSTEM, Segment(stable), DOCUMENT) == f"<|system|>{stable}"


def test_prompts_of_different_applications_keep_contexts_of_their_own() -> None:
    contexts = Contexts()
    for text in ("You plan trips.\n", "Your job is law.\n", "You are kind.\n"):
        assert preamble(contexts, SYSTEM, Segment(text), DOCUMENT) == f"<|system|>{text}"
    assert contexts.known == ()


def test_what_is_learned_stays_bounded_and_keeps_what_is_used() -> None:
    contexts = Contexts()
    for chat in range(2 * LEARNED):
        for turn in range(3):
            text = f"This is chat number {chat}, on its own.\nTurn {turn}\n"
            preamble(contexts, SYSTEM, Segment(text), DOCUMENT)
        used = Segment("This is chat number 0, on its own.\nAnother\n")
        got = preamble(contexts, SYSTEM, used, DOCUMENT)
        assert got == "<|system|>This is chat number 0, on its own."
    assert len(contexts.known) == LEARNED


def test_nothing_is_learned_when_learning_is_off() -> None:
    contexts = Contexts(learn=False)
    for question in QUESTIONS:
        segment = asking(question)
        assert preamble(contexts, SYSTEM, segment, DOCUMENT) == f"<|system|>{segment.text}"


def test_a_prompt_without_documents_has_a_preamble_only_if_it_is_declared() -> None:
    assert preamble(Contexts(), SYSTEM, Segment(BRIEF), END) == ""
    assert preamble(declared(BRIEF), SYSTEM, Segment(BRIEF), END) == f"<|system|>{BRIEF}"


@given(st.lists(st.text("ab\n ", max_size=40), min_size=1, max_size=6))
def test_no_text_is_ever_lost_or_moved(texts: list[str]) -> None:
    contexts = Contexts()
    for text in texts:
        preamble(contexts, SYSTEM, Segment(text or "x"), DOCUMENT, Segment("tail"), END)


def titled(*titles: str, rule: str = "\n\n", end: str = "\n") -> list[Segment]:
    """Documents with headers, after an instruction."""
    segments = [SYSTEM, Segment(f"{BRIEF}\n\n<docs>\n{titles[0]}{end}")]
    for number, title in enumerate(titles):
        if number:
            segments.append(Segment(f"{rule}{title}{end}"))
        segments.append(Segment(f"Document {number}.", Kind.MODULE, f"d{number}"))
    return [*segments, Segment("\n</docs>"), END]


def test_a_header_that_differs_between_documents_is_no_part_of_their_context() -> None:
    for titles in (("One", "Two"), ("[1]", "[2]", "[3]"), ("a: b\nc: d", "a: f\nc: g")):
        assert preamble(Contexts(), *titled(*titles)) == f"<|system|>{BRIEF}\n\n<docs>"
        got = preamble(Contexts(), *titled(*titles, end="\n\n"))
        assert got == f"<|system|>{BRIEF}\n\n<docs>"
    assert preamble(Contexts(), *titled("1: ", "2: ", end="")) == f"<|system|>{BRIEF}\n\n<docs>"


def test_a_header_that_is_the_same_before_every_document_is_part_of_their_context() -> None:
    expected = f"<|system|>{BRIEF}\n\n<docs>\nText:\n"
    assert preamble(Contexts(), *titled("Text:", "Text:")) == expected
    assert preamble(Contexts(), *titled("Text:", "Text:", "Text:")) == expected


def test_a_rule_between_documents_is_no_header() -> None:
    segments = [SYSTEM, Segment(f"{BRIEF}\n"), DOCUMENT, Segment("\n---\n"),
                Segment("Another.", Kind.MODULE, "e")]  # fmt: skip
    assert preamble(Contexts(), *segments) == f"<|system|>{BRIEF}\n"


def chained(head: str, header: str, ending: str, separator: str, tail: str) -> list[Segment]:
    """Three documents as a chain writes them, each between a header and an ending."""
    segments, text = [SYSTEM], head
    for number in range(3):
        text += header.format(i=number + 1, name="abc"[number])
        segments += [Segment(text), Segment(f"Document {number}.", Kind.MODULE, f"d{number}")]
        text = ending + separator
    return [*segments, Segment(ending + tail), END]


def test_what_ends_a_document_is_no_header_of_the_next() -> None:
    xml = '<document index="{i}">\n<source>{name}</source>\n<text>\n'
    got = preamble(
        Contexts(),
        *chained(
            "One.\nTwo.\n<documents>\n", xml, "\n</text>\n</document>", "\n", "\n</documents>"
        ),
    )
    assert got == "<|system|>One.\nTwo.\n<documents>"
    got = preamble(Contexts(), *chained("One.\n", "<doc>\n", "\n</doc>", "\n", "\n\nWhy?"))
    assert got == "<|system|>One.\n<doc>\n"


def test_headers_of_chains_that_people_write_leave_the_instruction_whole() -> None:
    for header, ending, separator in (
        ("file_path: {name}\n\n", "", "\n\n"),
        ("Source {i}:\n", "\n", "\n\n"),
        ("{name}.txt\n", "", "\n---\n"),
        ("page: {i}\nfile: {name}\n\n", "", "\n\n"),
    ):
        got = preamble(
            Contexts(), *chained(f"{BRIEF}\n----\n", header, ending, separator, "\n\nWhy?")
        )
        assert got == f"<|system|>{BRIEF}\n----"
    for header in ("[{i}] ", "Title: {name}\n"):
        got = preamble(Contexts(), *chained("Read this: ", header, "", "\n\n", "\n\nWhy?"))
        assert got == "<|system|>Read this:"
    got = preamble(Contexts(), *chained("Read this: ", "{name}: ", "", "\n", "\nWhy?"))
    assert got == "<|system|>Read this: a: "
