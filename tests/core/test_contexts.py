"""Which part of a recognised prompt its documents are encoded after."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from promptcache.contexts import Contexts
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


def test_a_declared_preamble_wins_and_may_end_inside_a_text() -> None:
    contexts = Contexts()
    contexts.declare("<|system|>Be brief.")
    assert preamble(contexts, SYSTEM, Segment("Be brief. Now: "), DOCUMENT) == "<|system|>Be brief."


def test_the_longest_declared_preamble_wins() -> None:
    contexts = Contexts()
    for known in ("<|system|>Be", "<|system|>Be brief.", "<|system|>"):
        contexts.declare(known)
    assert preamble(contexts, SYSTEM, Segment("Be brief. Q"), DOCUMENT) == "<|system|>Be brief."


def test_control_text_is_never_cut_in_two() -> None:
    contexts = Contexts()
    contexts.declare("<|sys")
    assert preamble(contexts, SYSTEM, Segment("Be brief."), DOCUMENT) == ""


def test_prompts_that_differ_before_the_first_document_share_whole_lines() -> None:
    contexts = Contexts()
    texts = [f"Answer from what is below.\nQuestion: {q}\n\n" for q in ("Who?", "Where?")]
    assert preamble(contexts, SYSTEM, Segment(texts[0]), DOCUMENT).endswith("Who?\n\n")
    common = "<|system|>Answer from what is below."
    assert preamble(contexts, SYSTEM, Segment(texts[1]), DOCUMENT) == common
    assert preamble(contexts, SYSTEM, Segment(texts[0]), DOCUMENT) == common


def test_prompts_of_different_applications_keep_contexts_of_their_own() -> None:
    contexts = Contexts()
    for text in ("You plan trips.\n", "Your job is law.\n"):
        assert preamble(contexts, SYSTEM, Segment(text), DOCUMENT) == f"<|system|>{text}"
    assert contexts.declared == ()


def test_nothing_is_learned_when_learning_is_off() -> None:
    contexts = Contexts(learn=False)
    for question in ("Who?", "Where?"):
        text = f"Answer from what is below.\nQuestion: {question}\n\n"
        assert preamble(contexts, SYSTEM, Segment(text), DOCUMENT) == f"<|system|>{text}"


def test_a_prompt_without_documents_has_a_preamble_only_if_it_is_declared() -> None:
    contexts = Contexts()
    assert preamble(contexts, SYSTEM, Segment("Hello"), END) == ""
    contexts.declare("<|system|>Hel")
    assert preamble(contexts, SYSTEM, Segment("Hello"), END) == "<|system|>Hel"


@given(st.lists(st.text("ab\n ", max_size=40), min_size=1, max_size=6))
def test_no_text_is_ever_lost_or_moved(texts: list[str]) -> None:
    contexts = Contexts()
    for text in texts:
        preamble(contexts, SYSTEM, Segment(text or "x"), DOCUMENT, Segment("tail"), END)
