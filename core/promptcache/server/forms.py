"""Replies of the engine in the forms that clients read: OpenAI's, and ours with all there is."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import uuid4

from promptcache.reply import Reply

Form = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """One answer in one of OpenAI's two forms. `chat` says which; `trace` adds our account."""

    model: str
    chat: bool
    trace: bool = False
    id: str = field(default_factory=lambda: uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, reply: Reply) -> Form:
        """The answer at once."""
        if self.chat:
            choice: Form = {"message": {"role": "assistant", **_said(reply), "refusal": None}}
        else:
            choice = {"text": reply.text}
        said = self._form([self._choice(choice, _reason(reply))], "chat.completion")
        return {**said, "usage": usage_of(reply), **self._account(reply)}

    def first(self) -> list[Form]:
        """What a stream begins with."""
        return [self._chunk({"delta": {"role": "assistant", "content": ""}})] if self.chat else []

    def piece(self, text: str) -> Form:
        """Some of the text."""
        return self._chunk({"delta": {"content": text}} if self.chat else {"text": text})

    def last(self, reply: Reply, *, usage: bool) -> list[Form]:
        """What a stream ends with: calls of tools, why it ended, and what it took if asked for."""
        calls = [{"index": n, **call} for n, call in enumerate(_calls(reply))]
        called = [self._chunk({"delta": {"tool_calls": calls}})] if calls else []
        ended = self._chunk({"delta": {}} if self.chat else {"text": ""}, _reason(reply))
        took = {**self._form([], "chat.completion.chunk"), "usage": usage_of(reply)}
        return [*called, {**ended, **self._account(reply)}, *([took] if usage else [])]

    def _chunk(self, choice: Form, reason: str | None = None) -> Form:
        return self._form([self._choice(choice, reason)], "chat.completion.chunk")

    def _choice(self, choice: Form, reason: str | None) -> Form:
        return {"index": 0, **choice, "logprobs": None, "finish_reason": reason}

    def _form(self, choices: list[Form], kind: str) -> Form:
        return {
            "id": f"{'chatcmpl' if self.chat else 'cmpl'}-{self.id}",
            "object": kind if self.chat else "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }

    def _account(self, reply: Reply) -> Form:
        return {"promptcache": ours(reply)} if self.trace else {}


def usage_of(reply: Reply) -> Form:
    """Tokens as OpenAI counts them; what was reused is "cached"."""
    usage = reply.usage
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.reused_tokens},
    }


def account_of(reply: Reply) -> Form:
    """Where every token of a prompt came from, and how long each stage took, in seconds."""
    return {
        "usage": asdict(reply.usage),
        "policy": reply.policy,
        "ttft": reply.ttft,
        "timings": {str(stage): seconds for stage, seconds in reply.timings.items()},
        "trace": [asdict(span) for span in reply.trace],
        "notes": list(reply.trace.warnings),
    }


def ours(reply: Reply) -> Form:
    """A reply with all there is to know about it."""
    said = {
        "text": reply.text,
        "tool_calls": [asdict(call) for call in reply.tool_calls],
        "invalid_tool_calls": [asdict(call) for call in reply.invalid_tool_calls],
        "token_ids": list(reply.token_ids),
        "finish_reason": reply.finish_reason,
        "model": reply.model,
    }
    return {**said, **account_of(reply)}


def _said(reply: Reply) -> Form:
    calls = _calls(reply)
    content = None if calls and not reply.text else reply.text
    return {"content": content, **({"tool_calls": calls} if calls else {})}


def _calls(reply: Reply) -> list[Form]:
    return [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
        }
        for call in reply.tool_calls
    ]


def _reason(reply: Reply) -> str:
    return "tool_calls" if reply.tool_calls else reply.finish_reason
