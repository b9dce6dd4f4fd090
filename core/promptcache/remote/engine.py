"""RemoteEngine: an engine behind a URL, asked as one in this process is.

What it can be asked for is what `PromptCache` can be, as far as a server lets its clients; what it
cannot is refused by name. Each request is HTTP; nothing is kept here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tqdm.auto import tqdm

from promptcache.cached import CachedDocuments
from promptcache.errors import OptionError, PromptError, RemoteError, TemplateError, kind_of
from promptcache.messages import MessageLike
from promptcache.pml import Prompt, Schema, parse_schema, write
from promptcache.prompts import FramedText
from promptcache.recording import Recording, Recordings
from promptcache.remote.forms import added, context_of, parts_of, portions
from promptcache.remote.options import body_of
from promptcache.remote.stream import RemoteStream
from promptcache.reply import Reply

if TYPE_CHECKING:
    from promptcache.remote.transport import Transport

TIMEOUT = 300.0
RETRIES = 2
ASKED_AT_ONCE = 8
"""Requests of one batch that are on their way at a time; the server answers them together."""


class RemoteEngine:
    """The engine of a `promptcache serve` at `base_url`, in the namespace of `api_key`.

    `timeout` is in seconds, for a connection and for every wait for more of an answer; a server
    that is full or cannot be reached is asked again `max_retries` times. Raises OptionError for
    what is no URL, RemoteError where no server answers, and what the server says of a request as
    the error that `PromptCache` raises. Safe to use from several threads.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        timeout: float = TIMEOUT,
        max_retries: int = RETRIES,
    ) -> None:
        from promptcache.remote.transport import Transport  # needs an extra

        self._transport: Transport = Transport(
            base_url, api_key, timeout=timeout, max_retries=max_retries
        )
        self.base_url = self._transport.url
        self._recordings = Recordings()
        told = self._transport.ask("GET", "/v1/engine")
        try:
            self.name: str = told["name"]
            self.window: int | None = told["window"]
            self.default_new_tokens: int = told["new_tokens"]
            self.has_chat_template: bool = told["chat_template"]
            self.takes_system: bool = told["takes_system"]
            self.takes_tools: bool = told["takes_tools"]
            self.control_tokens: tuple[str, ...] = tuple(told["control_tokens"])
            self.reuse: str = told["reuse"]
            self.fingerprint: str = told["fingerprint"]
        except (LookupError, TypeError) as error:
            raise RemoteError(
                f"{self.base_url} is no promptcache server of this version: it says {told!r:.80}"
            ) from error

    def __repr__(self) -> str:
        return f"<RemoteEngine {self.name!r} at {self.base_url}>"

    # What may be reused.

    def add_schema(
        self, schema: str | Schema, *, encode: bool = True, context: object = None
    ) -> Schema:
        """Make a schema known to the server, which encodes its modules unless told otherwise."""
        known = schema if isinstance(schema, Schema) else parse_schema(schema)
        query = "" if context is None else f"&context={quote(context_of(context))}"
        path = f"/v1/schemas/{quote(known.name, safe='')}?encode={str(encode).lower()}{query}"
        self._transport.ask("PUT", path, write(known).encode("utf-8", "surrogatepass"))
        return known

    def cache_documents(
        self,
        documents: Iterable[str] | Mapping[str, str],
        *,
        schema: str | Schema | None = None,
        preamble: FramedText | None = None,
        context: object = None,
        progress: bool = True,
        pin: bool = False,
    ) -> CachedDocuments:
        """Register texts with the server, so that prompts that contain them reuse their states.

        As `PromptCache.cache_documents`, but that modules of a server are pinned one by one.
        """
        if pin:
            raise OptionError(
                "pin=True cannot be asked of a server, whose memory others share; pin modules one "
                "by one, within the namespace's part of it: POST /v1/modules/NAME/pin"
            )
        if isinstance(documents, str) or not isinstance(documents, Iterable):
            raise PromptError(f"the documents are {kind_of(documents)}; expected a list of texts")
        body: dict[str, Any] = {}
        if schema is not None:
            known = schema
            if isinstance(schema, Schema):
                known = self.add_schema(schema, encode=False).name
            body["schema"] = known
        if preamble is not None:
            body["preamble"] = parts_of(preamble)
        if context is not None:
            body["context"] = context_of(context)
        total = len(documents) if isinstance(documents, Sequence | Mapping) else None
        done = CachedDocuments()
        with tqdm(total=total, unit="document", disable=not progress) as bar:
            for some in portions(documents):
                said = self._transport.ask("POST", "/v1/documents", {"documents": some, **body})
                done = added(done, said)
                bar.update(len(some))
        return done

    def forget_documents(self, documents: Iterable[str]) -> int:
        """Take texts out of the server's register and their states out of its store."""
        asked = (("/v1/documents/forget", {"documents": some}) for some in portions(documents))
        return sum(self._transport.ask("POST", *each)["forgotten"] for each in asked)

    def documents_in(self, text: str) -> list[str]:
        """The registered documents that stand verbatim in a text, in order, each once."""
        found = self._transport.ask("POST", "/v1/documents/find", {"text": text})
        return list(found["documents"])

    def modules(self) -> list[str]:
        """The keys of what the namespace has encoded or used, and the store has."""
        return [module["key"] for module in self._transport.ask("GET", "/v1/modules")["data"]]

    # Tokens.

    def token_ids(self, text: str) -> list[int]:
        """The tokens of `text` as content of a prompt; none of them is a control token."""
        return list(self._transport.ask("POST", "/v1/tokens", {"text": text})["tokens"])

    def count_tokens(self, text: str) -> int:
        """How many tokens `text` has as content of a prompt."""
        return len(self.token_ids(text))

    def count_message_tokens(self, messages: Sequence[MessageLike]) -> int:
        """How many tokens a prompt of chat messages has, those of the chat template included."""
        told = [dict(message) for message in messages]
        return int(self._transport.ask("POST", "/v1/tokens", {"messages": told})["count"])

    # Requests.

    def stream(
        self,
        prompt: str | Prompt,
        *,
        schema: Schema | None = None,
        documents: Mapping[str, str] | None = None,
        **options: Any,
    ) -> RemoteStream:
        """The answer to a prompt in PML, piece by piece."""
        body: dict[str, Any] = {"prompt": write(prompt) if isinstance(prompt, Prompt) else prompt}
        if schema is not None:
            body["schema"] = write(schema)
        if documents is not None:
            body["documents"] = dict(documents)
        return self._streamed("/v1/pml", body, options)

    def stream_text(self, prompt: FramedText, **options: Any) -> RemoteStream:
        """What follows a text, piece by piece."""
        return self._streamed("/v1/completions", {"prompt": parts_of(prompt)}, options)

    def stream_messages(self, messages: Sequence[MessageLike], **options: Any) -> RemoteStream:
        """The answer to chat messages, piece by piece; `tools` and `tool_choice` as elsewhere."""
        tools = {name: options.pop(name, None) for name in ("tools", "tool_choice")}
        told = {name: value for name, value in tools.items() if value is not None}
        body = {"messages": [dict(message) for message in messages], **told}
        return self._streamed("/v1/chat/completions", body, options)

    def generate(
        self,
        prompt: str | Prompt,
        *,
        schema: Schema | None = None,
        documents: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Reply:
        """The answer to a prompt in PML."""
        return _whole(self.stream(prompt, schema=schema, documents=documents, **options))

    def generate_text(self, prompt: FramedText, **options: Any) -> Reply:
        """What follows a text."""
        return _whole(self.stream_text(prompt, **options))

    def generate_messages(self, messages: Sequence[MessageLike], **options: Any) -> Reply:
        """The answer to chat messages."""
        return _whole(self.stream_messages(messages, **options))

    def batch_text(self, prompts: Sequence[FramedText], **options: Any) -> list[Reply]:
        """What follows several texts, each a request of its own; the server joins them."""
        with ThreadPoolExecutor(ASKED_AT_ONCE) as threads:
            return list(threads.map(lambda prompt: self.generate_text(prompt, **options), prompts))

    def recording(self) -> AbstractContextManager[Recording]:
        """The replies to all that is asked by this object within a `with` block, in any thread.

        As `PromptCache.recording`, but that a reply is in it when the server has sent its account:
        at the end of the answer, and never of one that was not read to its end.
        """
        return self._recordings.open()

    def calling(self, tools: Sequence[Any] | None, tool_choice: Any = None) -> None:
        """Raise TemplateError where the server's model takes no tools; it checks them itself."""
        del tool_choice
        if tools and not self.takes_tools:
            raise TemplateError(
                f"tools were given, but the chat template of {self.name!r} does not tell the model "
                "of them"
            )

    def _streamed(
        self, path: str, body: Mapping[str, Any], options: Mapping[str, Any]
    ) -> RemoteStream:
        asked = {**body, **body_of(options), "stream": True, "trace": True}
        return RemoteStream(self._transport.events(path, asked), self._recordings.now())


def _whole(stream: RemoteStream) -> Reply:
    with stream:
        for _ in stream:
            pass
        return stream.reply
