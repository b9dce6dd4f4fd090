"""A model that is served: the parts that every request goes through, put together once.

And what can be asked of them without a prompt: tokens, window, identity. What may be reused, and
how it is asked for, is the engine's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from promptcache.contexts import Contexts
from promptcache.decoys import Wanted
from promptcache.errors import OptionError
from promptcache.library import ModuleLibrary
from promptcache.messages import MessageLike, check_text, parsed
from promptcache.model import load as loading
from promptcache.model.defaults import config_new_tokens, generation_settings
from promptcache.model.fingerprint import Fingerprint
from promptcache.model.probe import probe, window_of
from promptcache.model.recordable import record_forwards
from promptcache.model.runner import ModelRunner
from promptcache.options import DEFAULT_NEW_TOKENS, check_settings, checked_policy
from promptcache.pipeline import Pipeline
from promptcache.prompts import Prompts
from promptcache.reuse import Modular, ReusePolicy
from promptcache.segments import Segment
from promptcache.store import Store, StoreLike, opened
from promptcache.store.compression import checked_compression
from promptcache.stream import end_tokens
from promptcache.text.chat import ChatTemplate
from promptcache.text.tokenize import SegmentTokenizer


class ServedModel:
    """A model, its tokenizer and chat template, and the store of its modules."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str | None,
        store: StoreLike | None,
        reuse: ReusePolicy | None,
        namespace: str,
        compression: str | None,
        chat_template: str | None,
        chat_template_kwargs: Mapping[str, Any] | None,
        learn_contexts: bool,
        context: Wanted,
        conversations: bool,
        graphs: bool,
        continuous_batching: bool,
    ) -> None:
        loading.check_model(model, tokenizer)
        generation_settings(model)
        check_settings(namespace, chat_template_kwargs)
        self.model = model
        self.tokenizer = tokenizer
        self.name = name or str(getattr(model.config, "_name_or_path", "")) or type(model).__name__
        self.reuse = checked_policy(reuse, Modular())
        self.window = window_of(model.config)
        self._runner = ModelRunner(model)
        self.traits = probe(self._runner)
        if graphs and (reason := record_forwards(self._runner, self.traits, self.window)):
            raise OptionError(f"graphs=True cannot be: {reason}. Leave graphs out.")
        self._segments = SegmentTokenizer(tokenizer)
        self.store: Store = opened(store, self._runner.device)
        self._fingerprint = Fingerprint(model, self._segments.fingerprint(), self.traits.attention)
        self._library = ModuleLibrary(
            self._runner,
            self.traits,
            self.store,
            self._fingerprint,
            namespace,
            checked_compression(compression),
        )
        self._pipeline = Pipeline(
            self._runner,
            self.traits,
            self._segments,
            self._library,
            self.window,
            conversations=conversations,
            continuous_batching=continuous_batching,
        )
        self._pipeline.check_policy(self.reuse)
        arguments = sorted((chat_template_kwargs or {}).items())
        self._settings = (
            namespace,
            self._library.compression,
            chat_template,
            repr(arguments),
            repr(context),
        )
        template = ChatTemplate(
            tokenizer, chat_template=chat_template, chat_template_kwargs=chat_template_kwargs
        )
        self._template = template
        bos = self._segments.decode(self._segments.bos_ids)
        self._prompts = Prompts(template, Contexts(learn=learn_contexts), bos)

    @property
    def has_chat_template(self) -> bool:
        """Whether chat messages can be asked for."""
        return self._prompts.has_template

    @property
    def takes_system(self) -> bool:
        """Whether the chat template takes a system message."""
        return self._template.takes_system

    @property
    def takes_tools(self) -> bool:
        """Whether the chat template tells the model of tools."""
        return self._prompts.has_template and self._prompts.takes_tools

    @property
    def default_new_tokens(self) -> int:
        """The most tokens of an answer to a request that does not say."""
        return config_new_tokens(self.model) or DEFAULT_NEW_TOKENS

    @property
    def end_tokens(self) -> frozenset[int]:
        """The tokens that end an answer."""
        return end_tokens(self.model, {})

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """The special tokens by what they are spelled as."""
        added = self.tokenizer.added_tokens_decoder.values()
        return tuple(token.content for token in added if token.special)

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides this engine's answers: weights, dtype, attention, adapters,
        tokenizer, chat template with its arguments, compression and namespace.
        """
        parts = (self._fingerprint.current(), *self._settings)
        return blake2b(repr(parts).encode(), digest_size=16).hexdigest()

    def token_ids(self, text: str) -> list[int]:
        """The tokens of `text` as content of a prompt; none of them is a control token."""
        check_text(text, "the text")
        return self._segments.content_ids(text)

    def count_tokens(self, text: str) -> int:
        """How many tokens `text` has as content of a prompt."""
        return len(self.token_ids(text))

    def count_message_tokens(self, messages: Sequence[MessageLike]) -> int:
        """How many tokens a prompt of chat messages has, those of the chat template included.

        Nothing is recognised in the messages, and nothing learned from them. Raises PromptError
        for what are no messages, TemplateError where the template refuses them.
        """
        told = parsed(messages, _as_text, _as_text)
        return len(self._pipeline.layout(self._template.render(told)).ids)

    def refresh(self) -> None:
        """Read the model's weights again, after writes that torch does not count (`.data`)."""
        self._fingerprint.refresh()


def _as_text(text: str) -> Sequence[Segment]:
    return (Segment(text),)
