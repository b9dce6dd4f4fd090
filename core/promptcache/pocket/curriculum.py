"""What is learnt when: the stages of training.

Looking a fact up appears all at once on short contexts, copying long names all at once a little
later; longer contexts come after both, and short ones stay a part of every stage.
"""

from __future__ import annotations

from promptcache.pocket.corpus import Shape
from promptcache.pocket.data import Stage

STAGES: tuple[Stage, ...] = (
    Stage((Shape((1, 1), (2, 5), (2, 6)),), (1.0,), 192, echo=0.25, text_share=0.4),
    Stage(
        (Shape((1, 1), (2, 6), (1, 6)), Shape((1, 3), (2, 5), (2, 8))), (0.3, 0.7), 320, echo=0.1
    ),
    Stage(
        (
            Shape((1, 2), (2, 6), (1, 8)),
            Shape((2, 5), (2, 6), (1, 1), two_documents=0.06),
            Shape((2, 5), (2, 6), (2, 9), two_documents=0.06),
        ),
        (0.25, 0.2, 0.55),
        512,
        echo=0.03,
    ),
    Stage(
        (
            Shape((1, 3), (2, 6), (1, 8), two_documents=0.06),
            Shape((2, 8), (3, 6), (1, 1), two_documents=0.08),
            Shape((2, 8), (3, 6), (2, 12), two_documents=0.08),
            Shape((5, 8), (3, 7), (2, 12), two_documents=0.08),
        ),
        (0.2, 0.15, 0.4, 0.25),
        1024,
    ),
)
