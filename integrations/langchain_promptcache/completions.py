"""The engine's replies -> LangChain's results of a text completion.

What there is to say about an answer is the same as for a chat model; here it is `generation_info`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from langchain_core.outputs import Generation, GenerationChunk, LLMResult

from langchain_promptcache.outputs import usage_of
from promptcache import Reply
from promptcache.report import report_of


def chunk_of(piece: str) -> GenerationChunk:
    """A piece of an answer."""
    return GenerationChunk(text=piece)


def last_chunk_of(reply: Reply) -> GenerationChunk:
    """The end of an answer: no text, and all there is to say about it."""
    info = {**report_of(reply), "usage_metadata": usage_of(reply.usage)}
    return GenerationChunk(text="", generation_info=info)


def generation_of(chunks: Iterable[GenerationChunk]) -> Generation:
    """A whole answer, from its pieces."""
    pieces = list(chunks)
    text = "".join(piece.text for piece in pieces)
    return Generation(text=text, generation_info=pieces[-1].generation_info)


def result_of(generations: Sequence[Generation], model: str) -> LLMResult:
    """The answers to several prompts, with the tokens of all of them."""
    usages = [(answer.generation_info or {})["usage_metadata"] for answer in generations]
    prompt, completion = (
        sum(usage[name] for usage in usages) for name in ("input_tokens", "output_tokens")
    )
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    return LLMResult(
        generations=[[answer] for answer in generations],
        llm_output={"model_name": model, "token_usage": usage},
    )
