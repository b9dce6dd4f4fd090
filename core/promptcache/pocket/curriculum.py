"""What is learnt when: the stages of training.

Looking a fact up appears all at once on short contexts, copying long names all at once a little
later; longer contexts come after both, and short ones stay a part of every stage. Many questions
are asked on one context, since answers teach more than the text they stand in; the first of them is
a prompt with a single turn. The last stage lasts as long as the learning rate falls. What was
learnt is gone over once more, with the rate starting anew: there documents are marked off in every
way.
"""

from __future__ import annotations

from promptcache.pocket.corpus import Shape
from promptcache.pocket.data import Stage

STAGES: tuple[Stage, ...] = (
    Stage((Shape((1, 1), (2, 5), (2, 6)),), (1.0,), 192, echo=0.25, text_share=0.4),
    # Which of two like entities a fact belongs to: the hardest to learn, so it stands out here.
    Stage(
        (
            Shape((1, 1), (2, 6), (2, 8)),
            Shape((2, 4), (1, 2), (6, 12), tells=0.4, alike=1.0, shared=True, pronouns=0.0),
            Shape((2, 3), (2, 5), (4, 14), tells=0.4, alike=0.7),
        ),
        (0.1, 0.7, 0.2),
        352,
    ),
    Stage(
        (
            Shape((2, 4), (1, 2), (6, 12), tells=0.35, alike=1.0, shared=True),
            Shape((2, 5), (2, 6), (3, 14), two_documents=0.06, tells=0.35, alike=0.4),
        ),
        (0.5, 0.5),
        512,
    ),
    Stage(
        (
            Shape((2, 5), (1, 3), (4, 12), alike=1.0, shared=True),
            Shape((2, 8), (3, 6), (3, 18), unanswerable=0.2, two_documents=0.25, alike=0.3),
            # Asked first, a context teaches one answer only: many short ones, some long.
            Shape((1, 4), (1, 4), (1, 1), unanswerable=0.2, alike=0.5, asked_first=1.0),
            Shape((3, 8), (3, 6), (1, 2), unanswerable=0.2, alike=0.3, asked_first=1.0),
        ),
        (0.05, 0.45, 0.3, 0.2),
        1024,
    ),
    # While the rate falls: more documents, more questions that need two of them, more wordings.
    Stage(
        (
            Shape((2, 8), (3, 6), (3, 18), unanswerable=0.2, two_documents=0.25, alike=0.3),
            Shape((2, 6), (2, 5), (2, 8), unanswerable=0.1, two_documents=1.0, alike=0.3),
            Shape((2, 4), (1, 3), (4, 10), two_documents=1.0, alike=1.0, shared=True),
            Shape((9, 16), (1, 3), (3, 12), unanswerable=0.2, two_documents=0.25, alike=0.3),
            Shape((1, 4), (1, 4), (1, 1), 0.2, two_documents=0.3, alike=0.5, asked_first=1.0),
            Shape((3, 8), (3, 6), (1, 2), 0.2, two_documents=0.3, alike=0.3, asked_first=1.0),
        ),
        (0.3, 0.15, 0.1, 0.1, 0.2, 0.15),
        1024,
        remarks=0.5,
    ),
)

REVISION: tuple[Stage, ...] = (
    Stage(
        (
            Shape((2, 8), (3, 6), (3, 14), unanswerable=0.2, two_documents=0.25, alike=0.3),
            Shape((2, 6), (2, 5), (2, 8), unanswerable=0.1, two_documents=1.0, alike=0.3),
            Shape((9, 16), (1, 3), (3, 12), unanswerable=0.2, two_documents=0.25, alike=0.3),
            Shape((1, 4), (1, 4), (1, 1), 0.2, two_documents=0.3, alike=0.5, asked_first=1.0),
            Shape((3, 8), (3, 6), (1, 2), 0.2, two_documents=0.3, alike=0.3, asked_first=1.0),
        ),
        (0.4, 0.15, 0.1, 0.15, 0.2),
        1024,
        remarks=0.4,
        rules=0.7,
    ),
)
