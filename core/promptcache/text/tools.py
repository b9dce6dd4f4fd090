"""What a chat template is told of tools: their descriptions, and the calls and results in messages.

All of it is checked here and becomes JSON, which can be compared, kept and read by any template.
Knows no template and no model's way of writing a call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from textwrap import shorten
from typing import Any

from promptcache.errors import PromptError, TemplateError, valid

Tool = Any
"""A JSON schema, or a function with types and a docstring that transformers turns into one."""

FIELDS = ("name", "tool_call_id", "tool_calls")
"""What a message may hold beside its role and content."""
SHORT_ID = re.compile("[A-Za-z0-9]{9}")
_TOOLS = "JSON schemas (dicts), or functions with types and a docstring"
_CALL = '{"type": "function", "id": ..., "function": {"name": ..., "arguments": {...}}}'


def tools_as_json(tools: Sequence[Tool] | None) -> str:
    """The descriptions as one JSON list; "" for none. Raises TemplateError for what is no tool."""
    if tools is None:
        return ""
    if isinstance(tools, str | bytes) or not isinstance(tools, Sequence):
        raise TemplateError(f"tools is {tools!r:.80}; expected a list of {_TOOLS}")
    said = [_tool_as_json(tool, number) for number, tool in enumerate(tools, 1)]
    return f"[{', '.join(said)}]" if said else ""


def _tool_as_json(tool: Tool, number: int) -> str:
    from transformers.utils.chat_template_utils import get_json_schema

    if not isinstance(tool, dict) and not callable(tool):
        raise TemplateError(f"tool {number} is {tool!r:.80}; expected {_TOOLS}")
    try:
        return _as_json(tool if isinstance(tool, dict) else get_json_schema(tool))
    except Exception as fault:  # a function's signature and docstring fail in many ways
        reason = shorten(str(fault), 240, placeholder=" ...")
        raise TemplateError(
            f"tool {number}, {tool!r:.80}, cannot be described as JSON: {reason}"
        ) from fault


def parameters_by_name(tools: str) -> dict[str, dict[str, Any]]:
    """For each tool that `tools_as_json` described, by name, the schemas of its parameters."""
    found: dict[str, dict[str, Any]] = {}
    for tool in json.loads(tools or "[]"):
        function = tool.get("function", tool)
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            parameters = function.get("parameters")
            known = parameters.get("properties") if isinstance(parameters, dict) else None
            found[function["name"]] = known if isinstance(known, dict) else {}
    return found


def fields_as_json(message: Mapping[str, Any], where: str) -> str:
    """What a message holds beside role and content, as a JSON object; "" for nothing.

    Raises PromptError, which says `where`, for a call that has no name, or arguments that are no
    JSON object; arguments may be given as the text of one.
    """
    fields = {name: message[name] for name in FIELDS if message.get(name)}
    if not fields:
        return ""
    for name in ("name", "tool_call_id"):
        if not isinstance(fields.get(name, ""), str):
            raise PromptError(f"the {name} of {where} is {fields[name]!r:.80}; expected a text")
    if "tool_calls" in fields:
        fields["tool_calls"] = _calls(fields["tool_calls"], where)
    return _checked(fields, where)


def short_id(given: str | None) -> str | None:
    """A call's id as nine letters and digits, the only form that Mistral's templates take.

    Ids made elsewhere (by OpenAI's models, in a framework's few-shot examples) become some that
    stand for them; a template that shows ids needs no more than that a call's and its result's
    are the same.
    """
    if not given or SHORT_ID.fullmatch(given):
        return given
    return blake2b(given.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()[:9]


def _calls(calls: Any, where: str) -> list[dict[str, Any]]:
    if isinstance(calls, str | Mapping) or not isinstance(calls, Sequence):
        raise PromptError(f"the tool_calls of {where} are {calls!r:.80}; expected [{_CALL}, ...]")
    return [_call(call, f"tool call {n} of {where}") for n, call in enumerate(calls, 1)]


def _call(call: Any, where: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if function is None or not isinstance(name, str) or not name:
        raise PromptError(f"{where} is {call!r:.200}; expected {_CALL}")
    kind = call.get("type", "function")
    if kind != "function":
        raise PromptError(f"{where} is of type {kind!r}{valid(str(kind), ['function'])}")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError as fault:
            raise PromptError(f"the arguments of {where} are not valid JSON: {fault}") from None
    arguments = {} if arguments is None else arguments
    if not isinstance(arguments, Mapping):
        raise PromptError(f"the arguments of {where} are {arguments!r:.80}; expected a JSON object")
    known = {"id": call["id"]} if call.get("id") else {}
    return {"type": kind, **known, "function": {"name": name, "arguments": dict(arguments)}}


def _checked(fields: dict[str, Any], where: str) -> str:
    try:
        return _as_json(fields)
    except (TypeError, ValueError) as fault:
        raise PromptError(f"{where} holds what JSON cannot: {fault}") from None


def _as_json(value: Any) -> str:
    """The value as JSON. ValueError for half of a surrogate pair, too, which no tokenizer reads."""
    said = json.dumps(value)
    json.dumps(json.loads(said), ensure_ascii=False).encode()
    return said
