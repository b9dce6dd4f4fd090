"""Answers as values of a schema: `with_structured_output`.

The schema is a tool that the model has to call, or the answer is read as the JSON that its prompt
asks for. Nothing keeps a model to a schema while it writes, so what does not fit is an error.
Hosted models promise more under the names `json_schema` and `strict`; both are taken, so that
code for them keeps running, and what they mean here is logged.
"""

from __future__ import annotations

import logging
from operator import itemgetter
from typing import Any

from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import (
    BaseOutputParser,
    JsonOutputParser,
    PydanticOutputParser,
    PydanticToolsParser,
)
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser
from langchain_core.runnables import Runnable, RunnableLambda, RunnableMap, RunnablePassthrough
from langchain_core.utils.pydantic import is_basemodel_subclass

from langchain_promptcache.tools import described
from promptcache.errors import OptionError, valid

log = logging.getLogger("promptcache")

CALLED, WRITTEN, PROMISED = METHODS = "function_calling", "json_mode", "json_schema"


def structured(
    llm: BaseChatModel, schema: Any, *, method: str, include_raw: bool
) -> Runnable[LanguageModelInput, Any]:
    """The model, its answers read as `schema`.

    Raises OptionError for a method that there is not. The runnable raises OutputParserException
    for an answer that is not what it must be; with `include_raw` that is the `parsing_error`.
    """
    if method not in METHODS:
        raise OptionError(f"method={method!r} is none{valid(str(method), METHODS)}")
    if method == PROMISED:
        note_promise(f"method={PROMISED!r}, the same here as {CALLED!r},")
    told = {"ls_structured_output_format": {"kwargs": {"method": method}, "schema": schema}}
    if method != WRITTEN:
        asked: Runnable[Any, Any] = llm.bind_tools([schema], tool_choice="any", **told)
        parser: Runnable[Any, Any] = RunnableLambda(_that_calls) | _of_calls(schema)
    else:
        asked = llm.bind(**told)
        parser = _of_text(schema)
    if not include_raw:
        return asked | parser
    parsed = RunnablePassthrough.assign(
        parsed=itemgetter("raw") | parser, parsing_error=lambda _: None
    )
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=asked) | parsed.with_fallbacks([failed], exception_key="parsing_error")


def note_promise(what: str) -> None:
    """Say in the log that something which promises a schema is an error where it is not kept."""
    log.warning(
        "%s keeps no model to a schema while it writes: what does not fit is an error", what
    )


def _that_calls(message: AIMessage) -> AIMessage:
    """The message, if it has a call. LangChain's parsers make None of one that has not."""
    if message.tool_calls:
        return message
    why = [call.get("error") or call["args"] for call in message.invalid_tool_calls]
    raise OutputParserException(
        f"the answer has no call that can be read: {why[0] if why else message.text!r}",
        llm_output=message.text,
    )


def _of_calls(schema: Any) -> BaseOutputParser[Any]:
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        return PydanticToolsParser(tools=[schema], first_tool_only=True)
    name = described([schema])[0]["function"]["name"]
    return JsonOutputKeyToolsParser(key_name=name, first_tool_only=True)


def _of_text(schema: Any) -> BaseOutputParser[Any]:
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        return PydanticOutputParser(pydantic_object=schema)
    return JsonOutputParser()
