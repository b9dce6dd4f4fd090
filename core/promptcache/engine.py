"""PromptCache, the facade: what a user calls, in terms of text, markup and messages.

It holds the parts together and knows none of their business: parsing, recognition, layout,
attention states and decoding each have a file of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from promptcache.answering import Answering
from promptcache.asking import Asking
from promptcache.batching import Batching
from promptcache.beside import begun
from promptcache.cached import CachedDocuments
from promptcache.clock import Clock
from promptcache.decoys import Expected, checked_context
from promptcache.errors import OptionError
from promptcache.holdings import Holdings
from promptcache.messages import MessageLike, check_text
from promptcache.model import load as loading
from promptcache.pml import Prompt, Schema
from promptcache.prompts import FramedText
from promptcache.recording import Recording, Recordings
from promptcache.refining import Refining
from promptcache.reply import Reply
from promptcache.reuse import ReusePolicy
from promptcache.segments import Kind
from promptcache.served import ServedModel
from promptcache.shelf import Shelf
from promptcache.store import StoreLike
from promptcache.stream import Stream
from promptcache.text.calling import Calling
from promptcache.turns import Turns


class PromptCache(ServedModel):
    """A model that reuses the attention states of prompt modules.

    `model` and `tokenizer` are transformers objects; the model's config stays as it is. `store`
    keeps the modules (default: a quarter of the memory that the model's device has); the name of a
    folder keeps them on disk, too, for later processes, a URL such as "s3://bucket/prefix" for
    other machines, and a list of these in both. `reuse` is the policy for requests that name none.
    `namespace` keeps tenants apart: modules of one are never found by another. `compression` rounds
    attention states to what takes fewer bytes on disk and in the host's memory: "int8" or "int4"
    (see docs/store.md). `chat_template_kwargs` go to the model's chat template (`enable_thinking`,
    for instance). `learn_contexts` lets prompts that begin with the question share a context (see
    `contexts`). `context` is what modules are encoded after: "preamble"; "expected", or `Expected`
    with texts of one's own, which is nearer to a full prefill and takes several times as long to
    encode, once (see `cache_documents` and `refine`); or "bare", the BOS token alone, which is far
    less faithful. `graphs` lets forwards over few tokens be recorded as CUDA graphs and replayed,
    on a GPU. `continuous_batching` lets the tokens of requests that run at once share their
    forwards: several times as many tokens a second, and rounding, so near ties in bfloat16, may
    then depend on what runs beside. `max_concurrent` is how many requests may be answered at once,
    each with an arena of memory for its prompt and answer beside the store's budget; the others
    wait, first come first served. A stream is one of them until it has ended, is closed or is
    dropped.

    Raises ModelError or UnsupportedModelError for a model that cannot be served, and says what
    works instead; OptionError for a setting that is not valid, in the model's generation config
    too. One engine may be called from many threads.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str | None = None,
        store: StoreLike | None = None,
        reuse: ReusePolicy | None = None,
        namespace: str = "",
        compression: str | None = None,
        chat_template: str | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        learn_contexts: bool = True,
        context: str | Expected = "preamble",
        conversations: bool = True,
        graphs: bool = False,
        continuous_batching: bool = False,
        max_concurrent: int | None = None,
    ) -> None:
        turns = Turns(max_concurrent)
        super().__init__(
            model,
            tokenizer,
            name=name,
            store=store,
            reuse=reuse,
            namespace=namespace,
            compression=compression,
            chat_template=chat_template,
            chat_template_kwargs=chat_template_kwargs,
            learn_contexts=learn_contexts,
            context=checked_context(context),
            conversations=conversations,
            graphs=graphs,
            continuous_batching=continuous_batching,
        )
        self._shelf = Shelf(
            self._prompts, self._pipeline, self._library, self.reuse, context=context
        )
        self._asking = Asking(self._prompts, self._shelf)
        self._refining = Refining(self._library, self._pipeline.expectations)
        self.holdings = Holdings(self._library, self._shelf, self._pipeline.expectations)
        self._bare = context == "bare"
        if self._bare:
            self._pipeline.expectations.rule_out()
        self._expected = context if isinstance(context, Expected) else Expected()
        self._recordings = Recordings()
        self._answering = Answering(
            self,
            self._runner,
            self._pipeline,
            Batching(self._runner, self.traits, self._pipeline, self._library),
            self._shelf.misses,
            self._recordings,
            turns,
            bare=context == "bare",
        )

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        revision: str | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = "auto",
        model_kwargs: Mapping[str, Any] | None = None,
        tokenizer: str | Path | None = None,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> PromptCache:
        """Load a model and its tokenizer: a hub name, a folder, or "pocket".

        `model_kwargs` and `tokenizer_kwargs` go to transformers' `from_pretrained`, `options` to
        this class; `tokenizer` is a name or a folder, where the tokenizer is not the model's.
        Raises ModelError when there is no such model.
        """
        loaded, its_tokenizer = loading.load(
            model,
            revision=revision,
            device=device,
            dtype=dtype,
            model_kwargs=model_kwargs,
            tokenizer=tokenizer,
            tokenizer_kwargs=tokenizer_kwargs,
        )
        return cls(loaded, its_tokenizer, **{"name": str(model), **options})

    # What may be reused.

    def add_schema(
        self,
        schema: str | Schema,
        *,
        base: Path | None = None,
        encode: bool = True,
        context: str | Expected | None = None,
        progress: bool = False,
    ) -> Schema:
        """Make a schema known, from PML or as a value, and encode its modules.

        `base` is the folder that `src` attributes are read from. With `encode=False` each module
        is encoded when a prompt first imports it. `context` is what they are encoded after, where
        that is not what the engine was made with. `progress` shows a bar. Raises PMLError with
        line and column.
        """
        known = self._prompts.read_schema(schema, base)
        wanted = self._checked(context)
        self._shelf.add_schema(known, encode=encode, context=wanted, progress=progress)
        return known

    def cache_documents(
        self,
        documents: Iterable[str] | Mapping[str, str],
        *,
        schema: str | Schema | None = None,
        preamble: FramedText | None = None,
        context: str | Expected | None = None,
        progress: bool = True,
        pin: bool = False,
    ) -> CachedDocuments:
        """Register texts, so that prompts that contain them reuse their attention states.

        With `schema`, one with a collection or its name, they are encoded now, after its
        preamble, with a progress bar; with `preamble`, after that text, for plain prompts that
        begin with it; with neither, when a prompt first shows their context. `context` says what
        they are encoded after, "preamble" or "expected", where that is not what the engine was
        made with; documents that a prompt is the first to show stand after its preamble until
        they are refined. `pin` keeps them from being evicted. PML prompts name a document by its
        key, which the result lists, or by its own name, when the documents are a mapping from
        names to texts.
        """
        return self._shelf.add(
            documents,
            schema=schema,
            preamble=preamble,
            context=self._checked(context),
            progress=progress,
            pin=pin,
        )

    def refine(self, *, progress: bool = True) -> int:
        """Replace states that stand after their preamble alone by expected ones; how many.

        For what this engine has encoded or used, and the store has now; a later process asks for
        `context="expected"` when it registers them. It takes as long as encoding each of them
        several times; requests may run meanwhile, each waiting for a few modules at most, and
        their traces say which states served them.
        """
        return self._refining.refine(self._expected, progress=progress)

    def settle(self, timeout: float | None = None) -> None:
        """Wait until modules that a reuse policy wants ranked (`Sensitive`) are ranked.

        That begins after the reply that first lacks it, and no request waits for it otherwise.
        Raises TimeoutError after `timeout` seconds.
        """
        self._pipeline.ranking.wait(timeout)

    def refine_in_background(self) -> Future[int]:
        """`refine`, in a thread of its own; the result comes when it is done."""
        return begun(lambda: self.refine(progress=False), "refining")

    def forget_documents(self, documents: Iterable[str]) -> int:
        """Take texts out of the register and their states out of the store; how many were known."""
        return self._shelf.remove(documents)

    def documents_in(self, text: str) -> list[str]:
        """The registered documents that stand verbatim in a text, in order, each once."""
        check_text(text, "the text")
        return [s.text for s in self._shelf.recognise(text) if s.kind is Kind.MODULE]

    def _checked(self, context: object) -> str | Expected | None:
        if context is not None and self._bare:
            raise OptionError(f"context={context!r:.80}: this engine encodes all modules bare")
        return None if context is None else checked_context(context, of_engine=False)

    # Requests.

    def generate(
        self,
        prompt: str | Prompt,
        *,
        schema: Schema | None = None,
        documents: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Reply:
        """Answer a prompt in PML: `<prompt schema="..."> ... </prompt>`.

        `schema` and `documents`, by the keys that the prompt names, are for this prompt alone;
        without, they are those that were registered.

        Options: `max_new_tokens`, `stop` (strings that end the answer), `seed`, `reuse` (a policy
        for this request), `expected` (documents that should be in the prompt: the trace says why
        one was not found), `passages` (texts in the prompt that come from documents: the trace
        says of which registered ones they are a part only), `notes` (what else the trace is to
        say), `window` (the most tokens of prompt and answer, where that is less than the
        model's own), and transformers' generation options by name.
        """
        return _whole(self.stream(prompt, schema=schema, documents=documents, **options))

    def generate_text(self, prompt: FramedText, **options: Any) -> Reply:
        """Continue a plain text, in which registered documents are recognised.

        A text in a format of its own is given in parts, `Frame`s for what the format writes:
        control tokens that these spell are control tokens, as in a chat template. Elsewhere
        they are the content that they are.
        """
        return _whole(self.stream_text(prompt, **options))

    def generate_messages(self, messages: Sequence[MessageLike], **options: Any) -> Reply:
        """Answer chat messages (`{"role": ..., "content": ...}`) through the chat template.

        Registered documents are recognised in their contents. Content may be a list of text
        blocks; a block with `cache_control` is a module of its own. `tools` goes to the template,
        and the answer's calls of them are the reply's `tool_calls`; `tool_choice` says whether
        there has to be one ("auto", "none", "any" or a tool's name).
        """
        return _whole(self.stream_messages(messages, **options))

    def stream(
        self,
        prompt: str | Prompt,
        *,
        schema: Schema | None = None,
        documents: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Stream:
        """`generate`, piece by piece."""
        clock = Clock()
        return self._answering.stream(
            self._asking.markup(prompt, schema, documents), clock, options
        )

    def stream_text(self, prompt: FramedText, **options: Any) -> Stream:
        """`generate_text`, piece by piece."""
        clock = Clock()
        return self._answering.stream(self._asking.text(prompt), clock, options)

    def stream_messages(self, messages: Sequence[MessageLike], **options: Any) -> Stream:
        """`generate_messages`, piece by piece."""
        clock = Clock()
        told = _tools_in(options)
        return self._answering.stream(self._asking.messages(messages, *told), clock, options)

    def batch(
        self,
        prompts: Sequence[str | Prompt],
        *,
        schema: Schema | None = None,
        documents: Mapping[str, str] | None = None,
        **options: Any,
    ) -> list[Reply]:
        """Answer several prompts in PML at once, each as `generate` would.

        Modules that several of them import are held once. The options, a seed too, are for each
        prompt. An error names the first prompt that it is about, before anything is computed. Each
        reply's `ttft` counts from this call.

        Models and lengths that do not allow it (see `docs/decisions.md`) have their prompts
        answered one after the other; the traces say so.
        """
        clock = Clock()
        return self._answering.batch(
            prompts, lambda prompt: self._asking.markup(prompt, schema, documents), clock, options
        )

    def batch_text(self, prompts: Sequence[FramedText], **options: Any) -> list[Reply]:
        """Continue several texts at once, each as `generate_text` would (see `batch`)."""
        clock = Clock()
        return self._answering.batch(prompts, self._asking.text, clock, options)

    def batch_messages(self, chats: Sequence[Sequence[MessageLike]], **options: Any) -> list[Reply]:
        """Answer several lists of chat messages at once, each as `generate_messages` would.

        See `batch`; `tools` and `tool_choice` are for each of them.
        """
        clock = Clock()
        told = _tools_in(options)
        return self._answering.batch(
            chats, lambda messages: self._asking.messages(messages, *told), clock, options
        )

    def recording(self) -> AbstractContextManager[Recording]:
        """The replies to all that is asked of this engine within a `with` block, in any thread.

        with cache.recording() as replies:
            query_engine.query("...")
        print(replies[-1].trace)
        """
        return self._recordings.open()

    def calling(self, tools: Sequence[Any] | None, tool_choice: Any = None) -> Calling | None:
        """How the answer to a request with these tools calls them; None if it does not.

        Raises TemplateError for a chat template that takes no tools, OptionError for a
        `tool_choice` that cannot be kept.
        """
        return self._prompts.calling(tools, tool_choice)

    @property
    def schemas(self) -> Mapping[str, Schema]:
        """The registered schemas by their names."""
        return MappingProxyType(self._prompts.schemas)


def _tools_in(options: dict[str, Any]) -> tuple[Any, Any]:
    """The tools of a request and the choice among them, taken out of its options."""
    return options.pop("tools", None), options.pop("tool_choice", None)


def _whole(stream: Stream) -> Reply:
    with stream:
        for _ in stream:
            pass
        return stream.reply
