"""Messages that carry PML -> a request of the engine for that PML.

What messages carry counts only if it says word for word what the messages say; otherwise they are
served as any others are. So nobody can add to a prompt, or hide anything from it, by what stands
beside its text.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import BaseMessage

from langchain_promptcache.messages import to_engine
from langchain_promptcache.pml_template import CARRIED
from promptcache.errors import PromptCacheError
from promptcache.parameters import Engine
from promptcache.pml import Prompt, Schema, parse_prompt, parse_schema, resolve
from promptcache.prompts import key_of
from promptcache.remote.stream import RemoteStream
from promptcache.stream import Stream
from promptcache.templates import spoken_of

log = logging.getLogger("promptcache")

OF_TOOLS = ("tools", "tool_choice")


@dataclass(frozen=True, slots=True)
class Carried:
    """A prompt in PML, with its schema and documents."""

    schema: Schema
    prompt: Prompt
    documents: Mapping[str, str]


def stream_of(
    engine: Engine,
    messages: Sequence[BaseMessage],
    told: Sequence[Mapping[str, Any]],
    options: Mapping[str, Any],
) -> Stream | RemoteStream:
    """The engine's answer to messages: by way of the PML that they carry, or as it is `told`.

    With tools the chat template writes more than PML says, so then it is as any messages.
    """
    if not options.get("tools") and (carried := carried_by(messages)):
        of_pml = {name: value for name, value in options.items() if name not in OF_TOOLS}
        engine.cache_documents(carried.documents.values(), progress=False)
        return engine.stream(
            carried.prompt, schema=carried.schema, documents=carried.documents, **of_pml
        )
    return engine.stream_messages(told, **options)


def carried_by(messages: Sequence[BaseMessage]) -> Carried | None:
    """The PML that the first message carries, if it says what all of them say."""
    carried = messages[0].additional_kwargs.get(CARRIED) if messages else None
    if carried is None:
        return None
    try:
        found = _read(carried)
        resolved = [(m.role, m.text) for m in resolve(found.schema, found.prompt, found.documents)]
        if resolved == list(spoken_of(to_engine(messages))):
            return found
        log.info("the messages say something else than the PML that they carry")
    except (PromptCacheError, TypeError, ValueError, KeyError, AttributeError) as error:
        log.info("the messages carry PML that cannot be used: %s", error)
    return None


def _read(carried: Mapping[str, Any]) -> Carried:
    documents = dict(carried["documents"])
    if any(key != key_of(text) or text != text.strip() for key, text in documents.items()):
        raise PromptCacheError("its documents have other keys than their texts")
    return Carried(parse_schema(carried["schema"]), parse_prompt(carried["prompt"]), documents)
