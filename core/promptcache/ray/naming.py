"""Which modules a request names, found out without a model: marked, imported, or recognised.

The keys say which texts are the same, not what a store calls their states: that would take the
model's tokenizer and weights. See docs/decisions.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b

from pydantic import ValidationError

from promptcache.errors import PromptCacheError
from promptcache.marks import Marks
from promptcache.messages import MessageLike, parsed
from promptcache.pml import Document, Import, Prompt, Text, Turn, parse_prompt
from promptcache.prompts import key_of
from promptcache.segments import Kind, Segment
from promptcache.server.bodies import ChatBody, CompletionBody, PMLBody
from promptcache.server.failures import RefusedError
from promptcache.text.recognize import Recognizer

CHAT, COMPLETIONS, PML = "/v1/chat/completions", "/v1/completions", "/v1/pml"


class Names:
    """What the requests of one namespace name, in the light of what was registered and marked."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._recognizer = Recognizer()
        self._keys: dict[str, str] = {}
        """Registered documents' keys, by their names and by themselves."""
        self._marks = Marks(self._recognizer, self._keys)

    def register(self, documents: Sequence[str] | Mapping[str, str]) -> None:
        """Recognise these texts from now on, and know them by their names, if they have any."""
        named = documents.items() if isinstance(documents, Mapping) else ((t, t) for t in documents)
        for name, text in named:
            if text.strip():
                key = key_of(text)
                self._keys[key] = key
                self._recognizer.add(key, text.strip())
                if name is not text:
                    self._keys[name] = key

    def forget(self, name: str) -> None:
        """Recognise a document no longer, registered or marked."""
        last = name.rpartition(".")[2]
        key = self._keys.get(name) or self._keys.get(last) or last
        for known in [n for n, k in self._keys.items() if k == key]:
            del self._keys[known]
        if not self._marks.forget(key):
            self._recognizer.remove(key)

    def of(self, path: str, body: bytes) -> tuple[str, ...]:
        """The keys of the modules that a request to `path` names, or of how its chat begins.

        A request that cannot be read names none: whoever answers it says what is wrong.
        """
        try:
            found = dict.fromkeys(self._named(path, body))
        except (PromptCacheError, RefusedError, ValidationError):
            return ()
        return tuple(f"{self._namespace}/{key}" for key in found)

    def _named(self, path: str, body: bytes) -> Iterator[str]:
        if path == PML:
            form = PMLBody.model_validate_json(body)
            yield from self._imported(form.prompt, form.documents or {})
        elif path == COMPLETIONS:
            text = CompletionBody.model_validate_json(body).said()
            yield from _modules(self._recognizer.recognise(text))
        elif path == CHAT:
            chat = ChatBody.model_validate_json(body)
            markup = chat.markup()
            if markup is None:
                yield from self._in_chat(chat.messages)
            else:
                yield from self._imported(markup, {})

    def _in_chat(self, messages: Sequence[MessageLike]) -> Iterator[str]:
        said = parsed(messages, self._recognizer.recognise, self._marks.mark)
        keys = [key for message in said for key in _modules(message.segments)]
        if keys:
            yield from keys
            return
        begun = blake2b(digest_size=8)  # turns of a conversation begin alike, up to its question
        for message in said:
            begun.update(f"{message.role}:{message.text};".encode())
            if message.role == "user":
                break
        yield f"chat:{begun.hexdigest()}"

    def _imported(self, markup: str, documents: Mapping[str, str]) -> Iterator[str]:
        prompt = parse_prompt(markup)
        for node in _imports(prompt):
            if isinstance(node, Import):
                yield f"{prompt.schema}.{node.name}"
            elif node.key in documents:
                yield key_of(documents[node.key])
            else:
                yield self._keys.get(node.key, node.key)


def _modules(segments: Iterable[Segment]) -> Iterator[str]:
    for segment in segments:
        if segment.kind is Kind.MODULE and segment.module is not None:
            yield segment.module


def _imports(node: Prompt | Import | Turn) -> Iterator[Import | Document]:
    """The imports and documents of a prompt, those inside others too."""
    for child in node.children:
        if isinstance(child, Import | Document):
            yield child
        if not isinstance(child, Document | Text):
            yield from _imports(child)
