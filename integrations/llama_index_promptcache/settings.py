"""What PromptCacheLLM is given, and the engine and settings that this becomes.

The names are those that users of LlamaIndex's HuggingFaceLLM know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from llama_index.core.bridge.pydantic import ValidationError
from llama_index.core.prompts import PromptTemplate
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llama_index_promptcache.fields import ALIASES, Fields
from llama_index_promptcache.loading import OF_LOADING, around, loaded, name_of
from llama_index_promptcache.written import as_written
from promptcache import Expected, Modular, PromptCache
from promptcache.errors import OptionError
from promptcache.model.generation import OPTIONS, check_option
from promptcache.options import RequestOptions
from promptcache.parameters import (
    OF_FROM_PRETRAINED,
    Engine,
    check_engine,
    check_remote,
    connected,
    refuse_unknown,
    sentence_of,
    with_our_names,
)
from promptcache.store import StoreLike

ELSEWHERE = {"generate_kwargs": OPTIONS, "model_kwargs": OF_FROM_PRETRAINED}
"""The parameters that take other names, and which."""


class EngineSettings(Fields):
    """The fields of an LLM, and the engine that they stand on."""

    def __init__(
        self,
        model_name: str | PathLike[str] | None = None,
        *,
        model: PreTrainedModel | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        engine: Engine | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
        tokenizer_name: str | PathLike[str] | None = None,
        device_map: Any = "auto",
        model_kwargs: Mapping[str, Any] | None = None,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
        revision: str | None = None,
        dtype: str | None = None,
        store: StoreLike | None = None,
        namespace: str | None = None,
        compression: str | None = None,
        chat_template: str | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        context: str | Expected | None = None,
        conversations: bool | None = None,
        graphs: bool | None = None,
        continuous_batching: bool | None = None,
        max_concurrent: int | None = None,
        stopping_ids: Sequence[int] | None = None,
        tokenizer_outputs_to_remove: Sequence[str] | None = None,
        **settings: Any,
    ) -> None:
        """Load the model, unless there is an `engine`; `settings` are this class's fields.

        With `base_url` the engine is that of a `promptcache serve` there, in the namespace of
        `api_key`; `timeout` is in seconds, for a connection and for every wait for more of an
        answer, and a server that is full is asked again `max_retries` times.

        `device_map` names one device, "auto" the GPU if there is one. `stopping_ids` are tokens
        that end an answer beside the model's own. `context` is what modules are encoded after:
        "preamble", "expected" or "bare", and `compression` what their states are rounded to, "int8"
        or "int4"; `graphs` lets forwards be recorded on a GPU, `continuous_batching` lets requests
        that run at once share them, and `max_concurrent` is how many are answered at once (see
        `PromptCache`). `tokenizer_outputs_to_remove` asks for nothing: token ids are all that the
        model is given of its tokenizer's. Raises OptionError for a name or a value that cannot be
        used, ModelError for a model that cannot be loaded.
        """
        server = _said(base_url=base_url, api_key=api_key, timeout=timeout, max_retries=max_retries)
        settings = with_our_names({**settings, **server}, ALIASES)
        server = {name: settings.pop(name) for name in server if name in settings}
        refuse_unknown(settings, type(self).model_fields, [*ALIASES, *OF_LOADING], ELSEWHERE)
        wrapper = settings.get("query_wrapper_prompt")
        if isinstance(wrapper, str):
            settings["query_wrapper_prompt"] = PromptTemplate(wrapper)
        options = _said(
            tokenizer_name=tokenizer_name,
            model_kwargs=model_kwargs,
            tokenizer_kwargs=tokenizer_kwargs,
            revision=revision,
            dtype=dtype,
            store=store,
            namespace=namespace,
            compression=compression,
            chat_template=chat_template,
            chat_template_kwargs=chat_template_kwargs,
            context=context,
            conversations=conversations,
            graphs=graphs,
            continuous_batching=continuous_batching,
            max_concurrent=max_concurrent,
        )
        settings = _said(**settings)
        try:
            super().__init__(**{"engine": engine, **settings})
        except ValidationError as error:
            raise OptionError(sentence_of(error.errors()[0])) from None
        more_ends = _stopping_ids(stopping_ids)
        RequestOptions.parse(self.request_options({}), Modular())

        # Nothing is loaded when anything else is wrong.
        placed = {} if device_map in (None, "auto") else {"device_map": device_map}
        objects = _said(model=model, tokenizer=tokenizer)
        self._written = as_written(
            {**settings, **options, **placed, **objects, **_said(engine=engine), **server}
        )
        if engine is not None:
            loading = {**objects, **options, **placed, **server}
            check_engine(engine, name_of(model_name), loading, called="model_name")
        elif server:
            ending = {"stopping_ids": more_ends} if more_ends else {}
            check_remote({**objects, **options, **placed, **ending}, self.request_options({}))
            self.engine = connected(server)
            check_engine(self.engine, name_of(model_name), (), called="model_name")
        elif objects:
            self.engine = around(model, tokenizer, model_name, {**options, **placed})
        else:
            self.engine = loaded(model_name, device_map, options)
        self.model_name = self.engine.name
        if more_ends and isinstance(self.engine, PromptCache):
            ends = self.generate_kwargs.get("eos_token_id")
            ends = sorted(self.engine.end_tokens) if ends is None else ends
            ends = [ends] if isinstance(ends, int) else ends
            self.generate_kwargs = {**self.generate_kwargs, "eos_token_id": [*ends, *more_ends]}


def _said(**given: Any) -> dict[str, Any]:
    """What was given; None is as good as leaving a name out."""
    return {name: value for name, value in given.items() if value is not None}


def _stopping_ids(given: object) -> list[int]:
    if given is None or (isinstance(given, Sequence) and not given):
        return []
    try:
        ids = check_option("eos_token_id", given)
    except OptionError:
        raise OptionError(f"stopping_ids={given!r:.80} is not a list of token ids") from None
    return [ids] if isinstance(ids, int) else list(ids)
