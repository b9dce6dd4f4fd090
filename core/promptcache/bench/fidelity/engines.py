"""An engine for each encoding context, all over one loaded model, and what it counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from promptcache.bench.fidelity.questions import Question, as_messages, as_text
from promptcache.bench.models import Subject
from promptcache.decoys import CONTEXTS
from promptcache.engine import PromptCache
from promptcache.errors import OptionError, UnsupportedModelError, valid
from promptcache.reuse import Exact, Modular, ReusePolicy
from promptcache.store import MemoryStore, default_budget


def engine_for(
    subject: Subject, context: str, share: int = 1, compression: str = ""
) -> PromptCache:
    """An engine whose modules are encoded in this context, and that remembers nothing else.

    They are rounded to what a `compression` holds, if one is named. `share` engines share the
    memory that one would have. Raises OptionError for an unknown context or compression,
    ModelError for a model that cannot be served at all.
    """
    if context not in CONTEXTS:
        raise OptionError(f"unknown context {context!r}{valid(context, CONTEXTS, what='contexts')}")
    return PromptCache(
        subject.model,
        subject.tokenizer,
        name=subject.name,
        store=MemoryStore(max(1, default_budget(subject.device) // share)),
        reuse=Exact(),
        learn_contexts=False,
        context=context,
        compression=compression,
        conversations=False,
    )


def counts(
    subject: Subject,
) -> tuple[Callable[[str], int], Callable[[Sequence[tuple[str, str]]], int]]:
    """What counts the tokens of a text, and those of a prompt of messages (role, content)."""
    engine = engine_for(subject, "bare")

    def of_messages(told: Sequence[tuple[str, str]]) -> int:
        if not engine.has_chat_template:
            return engine.count_tokens(as_text(told))
        return engine.count_message_tokens(as_messages(engine, told))

    return engine.count_tokens, of_messages


def encode(
    engine: PromptCache, question: Question, policies: Sequence[ReusePolicy], context: str
) -> None:
    """Have everything made that these policies reuse of a prompt, so that none waits for it.

    Raises PromptError for a prompt that the model's window has no room for.
    """
    question.register(engine)
    _ask(engine, question, Modular())
    if context == "expected":
        engine.refine(progress=False)
    for policy in policies:
        if policy.side or policy.later:
            _ask(engine, question, policy)
    engine.settle()


def _ask(engine: PromptCache, question: Question, policy: ReusePolicy) -> None:
    """For one token; a model that cannot move modules encodes those that need no moving."""
    try:
        question.stream(engine, reuse=policy, max_new_tokens=1).close()
    except UnsupportedModelError:
        question.stream(engine, reuse=Exact(), max_new_tokens=1).close()
