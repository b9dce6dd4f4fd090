"""Samples are determined by their seed, and their answers by their documents."""

import numpy as np

from promptcache.pocket.corpus import UNANSWERABLE, Shape, make_sample

SHAPE = Shape((2, 6), (3, 6), (1, 6), two_documents=0.2)


def test_a_seed_gives_the_same_samples_always() -> None:
    first = [make_sample(np.random.default_rng(9), SHAPE, "train") for _ in range(2)]
    assert first[0] == first[1]


def test_another_seed_gives_other_samples() -> None:
    samples = [make_sample(np.random.default_rng(seed), SHAPE, "train") for seed in (1, 2)]
    assert samples[0] != samples[1]


def test_every_answer_stands_in_a_document() -> None:
    rng = np.random.default_rng(4)
    for _ in range(300):
        sample = make_sample(rng, SHAPE, "train")
        text = "\n".join(document.text for document in sample.documents)
        for turn in sample.turns:
            if turn.kind in ("absent", "stranger"):
                assert turn.answer == UNANSWERABLE
            else:
                assert turn.answer.removeprefix("the ") in text


def test_documents_start_with_a_letter_and_end_with_a_full_stop() -> None:
    rng = np.random.default_rng(6)
    for _ in range(200):
        for document in make_sample(rng, SHAPE, "test").documents:
            assert document.text[0].isalnum()
            assert document.text.endswith(".")
            assert document.text == document.text.strip()
            assert not {"{", "}"} & set(document.text)


def test_the_share_of_unanswerable_questions_is_as_asked() -> None:
    rng = np.random.default_rng(8)
    turns = [t for _ in range(1500) for t in make_sample(rng, Shape(), "train").turns]
    share = sum(t.answer == UNANSWERABLE for t in turns) / len(turns)
    assert 0.13 < share < 0.21


def test_all_kinds_of_question_are_asked() -> None:
    rng = np.random.default_rng(2)
    kinds = {t.kind for _ in range(400) for t in make_sample(rng, SHAPE, "train").turns}
    assert kinds == {"fact", "absent", "stranger", "compare", "follow"}
