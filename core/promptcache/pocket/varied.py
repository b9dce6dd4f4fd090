"""Wordings put together at random, so that training shows more of them than a list can hold.

A chain's author words the instructions, marks the documents off and leads to the question as they
like. Here every part is drawn by itself; none of the parts occurs in a wording that is held out
for testing, which `tests/core/pocket` checks. This file knows nothing about documents or tokens.
Rules are of every mark that people draw them with, so that no mark is one that training never saw.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from promptcache.pocket.prompts import Wording

INSTRUCTIONS = (
    "", "Answer the question.", "Answer from the context.", "Use only the context.",
    "Use the information given.", "You are a careful assistant.",
    "You are a question-answering bot.",
    "Answer with as few words as possible.", "Keep it short.", "Do not make anything up.",
    "If the answer is not there, say so.", "If you cannot find the answer, say that you cannot.",
    "You will be given some texts and a question about them.", "Here is what we know.",
    "You are an expert who reads closely.", "Look the answer up in the text.",
    "Please help the user.", "Respond to the query with the data provided.",
    "Be truthful and concise.", "Stick to the facts in the sources.",
    "The following may help.", "Consider the articles and then the question.",
    "Do not use outside knowledge.", "Take the information from the pages given.",
)  # fmt: skip
HEADINGS = (
    "", "", "Context:", "Documents:", "Sources:", "Context", "Information:", "Text:", "Articles:",
    "Retrieved documents:", "Here is the context:", "## Context", "Notes:", "Facts:",
    "[CONTEXT]", "The documents:", "Search results:", "Data:", "Pages:",
)  # fmt: skip
FENCES = (
    ("", ""), ("", ""), ("", ""), ("<context>\n", "\n</context>"), ("```\n", "\n```"),
    ("-----\n", "\n-----"), ("<documents>\n", "\n</documents>"), ("\"\"\"\n", "\n\"\"\""),
    ("~~~~\n", "\n~~~~"), ("[START]\n", "\n[END]"), ("----------\n", "\n----------"),
)  # fmt: skip
JOINERS = ("\n\n", "\n\n", "\n\n", "\n", "\n---\n", "\n\n---\n\n", "\n-----\n", "\n\n\n", " ")
HEADERS = (
    "", "", "", "", "Document {n}: ", "[{n}] ", "Source {n}:\n", "{title}\n", "{title}: ",
    "## {title}\n\n", "- ", "{n}. ", "title: {title}\n\n", "Source: {title}\nContent: ",
    "page: {n}\n", "doc {n} | {title}\n", "({n}) ",
)  # fmt: skip
LEADS = (
    "", "", "Question: ", "Query: ", "Q: ", "User question: ", "The question is: ", "Question:\n",
    "Now answer: ", "Tell me: ", "## Question\n", "[QUESTION] ", "Here is my question: ",
    "Answer this: ", "user: ", "Can you tell me this? ",
)  # fmt: skip
TAILS = (
    "", "", "", "Answer:", "Answer: ", "A:", "Your answer:", "Response:", "The answer is:",
    "Answer in a few words.", "Thank you.", "## Answer", "Final answer:", "assistant:",
)  # fmt: skip

# Said around a question, in the same breath. Some ask something themselves, so that a model learns
# which of two questions is meant: the one that the documents can answer.
REMARKS_BEFORE = (
    "I have a question. ", "There is something that I want to know. ", "Please look this up. ",
    "A reader asks: ", "This is what I am after. ", "Could you check this for me? ", "Hello! ",
    "One thing is not clear to me. ", "Think about this: ", "We were asked this today. ",
    "Do you know this? ", "My question is simple. ", "Help me with the following. ",
)  # fmt: skip
REMARKS_AFTER = (
    " I could not find it myself.", " It should be in there somewhere.", " Keep it short, please.",
    " Thanks!", " Just the answer, please.", " Can you tell me?", " Be exact.",
)  # fmt: skip
CLOSINGS = (
    "So, what is it?", "Which is it?", "What do the texts say?", "Can you find it there?",
    "What would you say?", "How do you answer?", "Please answer now.", "What did you find?",
    "Reply with the answer only.", "Who or what is it?", "Is it in there?", "Well?",
)  # fmt: skip


MARKS = "-#~_.+:|/^%@"
"""What rules are drawn with, one of them many times ..."""
MIXED = MARKS + "*=<>"
"""... or two in turn, or one and spaces."""


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.random() * len(options))]


def _instruction(rng: np.random.Generator) -> str:
    parts = dict.fromkeys(_pick(rng, INSTRUCTIONS) for _ in range(int(rng.random() * 4)))
    return " ".join(part for part in parts if part)


def _remarked(rng: np.random.Generator, question: str, tail: str) -> tuple[str, str]:
    """A question with a remark before it or after it or both, and what ends the prompt."""
    before, after, closing = rng.random(3) < (0.7, 0.3, 0.6)
    question = (_pick(rng, REMARKS_BEFORE) if before else "") + question
    question += _pick(rng, REMARKS_AFTER) if after else ""
    return question, _pick(rng, CLOSINGS) if closing else tail


def _rule(rng: np.random.Generator) -> str:
    """A line across the page: "------", "=-=-=-", "* * *"."""
    length = 2 + int(rng.random() * 14)
    how = rng.random()
    if how < 0.4:
        return _pick(rng, MARKS) * (length + 1)
    if how < 0.7:
        return " ".join(_pick(rng, MIXED) * length)
    return (_pick(rng, MIXED) + _pick(rng, MARKS)) * length


def _ruled(rng: np.random.Generator, fence: tuple[str, str], joiner: str) -> list[str]:
    """A fence around the documents and what joins them, with rules for one of them or both."""
    above, below, between = _rule(rng), _rule(rng), _rule(rng)
    which, same, apart = rng.random(), rng.random() < 0.7, "\n" if rng.random() < 0.5 else "\n\n"
    if which < 0.6:
        joiner = apart + between + apart
    if which > 0.4:
        fence = (above + "\n", "\n" + (above if same else below))
    return [*fence, joiner]


def varied_wording(
    rng: np.random.Generator, asked_first: bool, remarks: float = 0.0, rules: float = 0.0
) -> Wording:
    """Put a wording together; `asked_first`: with the question before the documents.

    `remarks` is the share of wordings with more said around the question, `rules` of those with
    rules around or between the documents.
    """
    before, after = FENCES[int(rng.random() * len(FENCES))]
    ruled = bool(rules) and rng.random() < rules
    joiner = ""
    if ruled:
        before, after, joiner = _ruled(rng, (before, after), _pick(rng, JOINERS))
    heading = _pick(rng, HEADINGS)
    break_ = "\n" if rng.random() < 0.5 else "\n\n"
    context = (heading + break_ if heading else "") + before + "{context}" + after
    question, tail = _pick(rng, LEADS) + "{question}", _pick(rng, TAILS)
    if remarks and rng.random() < remarks:
        question, tail = _remarked(rng, question, tail)
    instruction = _instruction(rng)
    gap = "\n" if rng.random() < 0.3 else "\n\n"
    joiner, header = joiner or _pick(rng, JOINERS), _pick(rng, HEADERS)
    if asked_first:
        later = _instruction(rng) if rng.random() < 0.2 else ""
        system, parts = instruction, [question, context, later, tail]
        if rng.random() < 0.6:
            system, parts = "", [instruction, *parts]
    elif rng.random() < 0.5:
        system, parts = gap.join(p for p in (instruction, context) if p), [question, tail]
    else:
        system, parts = "", [instruction, context, question, tail]
        if rng.random() < 0.4:
            system, parts = instruction, [context, question, tail]
    user = gap.join(part for part in parts if part)
    return Wording("varied", system, user, joiner, header)
