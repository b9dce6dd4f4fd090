"""Load a model and its tokenizer, by name, from a folder, or from the user's own hands.

Refuses by name what promptcache was not tried with. `pocket` is the model that ships with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from promptcache.errors import ModelError, UnsupportedModelError, kind_of, valid
from promptcache.model.failures import explained

DTYPES: dict[str, str | torch.dtype] = {
    "auto": "auto",
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
}

HUB = frozenset(
    {
        "cache_dir", "code_revision", "force_download", "local_files_only", "proxies", "subfolder",
        "token", "trust_remote_code",
    }
)  # fmt: skip
"""The arguments that say where files come from: config and tokenizer take them as well."""

OURS = {"device": "device", "dtype": "dtype", "revision": "revision", "torch_dtype": "dtype"}
"""What has a parameter of its own, and is refused beside it."""

OF_TOKENIZERS = ("tokenizer_config.json", "tokenizer.json", "tokenizer.model", "config.json")
"""The files that say which tokenizer a folder has; one of them is enough."""

QUANTISED = ("load_in_4bit", "load_in_8bit", "quantization_config")


def load(
    name: str | Path,
    *,
    revision: str | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype = "auto",
    model_kwargs: Mapping[str, Any] | None = None,
    tokenizer: str | Path | None = None,
    tokenizer_kwargs: Mapping[str, Any] | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and tokenizer that a hub name, a folder or `pocket` stands for.

    `tokenizer` is where the tokenizer comes from, if from elsewhere; `tokenizer_kwargs` go to
    transformers' `AutoTokenizer.from_pretrained`.
    `model_kwargs` go to transformers' `from_pretrained`; those that say where files
    come from (`token`, `cache_dir`, ...) to the config's and the tokenizer's as well. Raises
    ModelError when they cannot be loaded and UnsupportedModelError for what promptcache refuses.
    """
    kwargs = _checked_kwargs({} if model_kwargs is None else model_kwargs)
    source, chosen = _source(name), _dtype(dtype)
    target = None if device is None else _device(device)
    hub = {key: value for key, value in kwargs.items() if key in HUB} | {"revision": revision}
    hub.setdefault("trust_remote_code", False)  # else transformers asks whoever sits there
    with explained(name, "config"):
        config = AutoConfig.from_pretrained(source, **hub)
    refuse_unsupported_config(config, str(name))
    if not isinstance(tokenizer_kwargs, Mapping | None):
        raise ModelError(f"tokenizer_kwargs={tokenizer_kwargs!r:.80} is not a mapping")
    elsewhere = tokenizer is not None and _tokenizer_source(tokenizer) != source
    of_tokenizer = {**hub, "revision": None if elsewhere else revision, **(tokenizer_kwargs or {})}
    with explained(tokenizer or name, "tokenizer"):
        loaded = AutoTokenizer.from_pretrained(_tokenizer_source(tokenizer or name), **of_tokenizer)
    with explained(name, "weights", kwargs):
        model = AutoModelForCausalLM.from_pretrained(source, dtype=chosen, **{**kwargs, **hub})
    if target is not None:
        with explained(name, "move to the device"):
            model = model.to(target)
    return model.eval(), loaded


def load_tokenizer(name: str | Path, *, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer alone. Raises ModelError when it cannot be loaded."""
    source = _tokenizer_source(name)
    with explained(name, "tokenizer"):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source, revision=revision, trust_remote_code=False
        )
    return tokenizer


def _checked_kwargs(given: object) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise ModelError(f"model_kwargs={given!r:.80} is not a mapping of names to values")
    kwargs = dict(given)
    for key, value in kwargs.items():
        if key in OURS:
            raise ModelError(
                f"model_kwargs has {key}={value!r}; give it as {OURS[key]}= beside them"
            )
        if key in QUANTISED and value:
            raise UnsupportedModelError(
                f"model_kwargs has {key}, which quantises the model; promptcache was not tried "
                "with that, load it in bfloat16"
            )
    if kwargs.get("output_loading_info"):
        raise ModelError("model_kwargs has output_loading_info, which promptcache does not return")
    return kwargs


def check_model(model: object, tokenizer: object) -> None:
    """Raise for a model or tokenizer object that promptcache cannot use as it is."""
    if hasattr(model, "_orig_mod"):
        raise UnsupportedModelError(
            "the model is wrapped by torch.compile, which would compile anew for every prompt "
            "length; pass the model itself (model._orig_mod)"
        )
    if hasattr(model, "get_base_model"):
        raise UnsupportedModelError(
            "the model is wrapped by PEFT's PeftModel; use transformers' own "
            "model.load_adapter(...) or pass peft_model.get_base_model(), whose adapter layers "
            "stay in place"
        )
    if not isinstance(model, PreTrainedModel) or not model.can_generate():
        raise ModelError(
            f"the model is {kind_of(model)}; expected a transformers model that can "
            "generate, such as AutoModelForCausalLM gives"
        )
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ModelError(
            f"the tokenizer is {kind_of(tokenizer)}; expected a transformers tokenizer, "
            "such as AutoTokenizer gives"
        )
    refuse_unsupported_config(model.config, type(model).__name__)
    _refuse_compiled(model)
    if any(parameter.is_meta for parameter in model.parameters()):
        raise UnsupportedModelError(
            "the model has weights on the device 'meta', which holds no values; load it on 'cpu' "
            "or 'cuda'"
        )
    devices = {str(device) for device in (getattr(model, "hf_device_map", None) or {}).values()}
    if len(devices) > 1:
        raise UnsupportedModelError(
            f"the model is spread over several devices ({', '.join(sorted(devices))}), which "
            "promptcache was not tried with; load it on one device"
        )


def _refuse_compiled(model: PreTrainedModel) -> None:
    for path, module in model.named_modules():
        compiled = (
            getattr(module, "_compiled_call_impl", None) is not None
            or hasattr(module, "_orig_mod")
            or hasattr(vars(module).get("forward"), "_torchdynamo_orig_callable")
        )
        if compiled:
            raise UnsupportedModelError(
                f"{f'the layer {path!r} of the model' if path else 'the model'} is compiled by "
                "torch.compile, which would compile anew for every prompt length; pass the model "
                "as it was before it was compiled"
            )


def refuse_unsupported_config(config: Any, name: str) -> None:
    """Raise UnsupportedModelError for kinds of model that are refused by name."""
    if getattr(config, "is_encoder_decoder", False):
        raise UnsupportedModelError(
            f"{name} is an encoder-decoder model; promptcache serves decoder-only models"
        )
    if getattr(config, "vision_config", None) or getattr(config, "audio_config", None):
        raise UnsupportedModelError(
            f"{name} is a multimodal model; promptcache was not tried with these, load its "
            "text-only form"
        )
    if getattr(config, "quantization_config", None):
        raise UnsupportedModelError(
            f"{name} is quantised, which promptcache was not tried with; load it in bfloat16"
        )


def _source(name: object) -> str:
    source = _place(name, "model")
    if Path(source).is_dir() and not (Path(source) / "config.json").is_file():
        raise ModelError(
            f"{str(name)!r} is not a model folder: it has no config.json. Expected what "
            "save_pretrained writes (config.json, model.safetensors, tokenizer.json)."
        )
    return source


def _tokenizer_source(name: object) -> str:
    """Where a tokenizer comes from: its own folder has no config of a model."""
    source = _place(name, "tokenizer")
    if Path(source).is_dir() and not any((Path(source) / file).is_file() for file in OF_TOKENIZERS):
        raise ModelError(
            f"{str(name)!r} has no tokenizer: none of the files {', '.join(OF_TOKENIZERS)}"
        )
    return source


def _place(name: object, what: str) -> str:
    if not isinstance(name, str | Path):
        raise ModelError(
            f"the {what} is {name!r:.80}; expected 'pocket', a folder, or a name on the Hugging "
            "Face hub"
        )
    if str(name) == "pocket":
        from promptcache.pocket import pocket_path

        name = pocket_path()
    path = Path(name).expanduser()
    if path.exists() or isinstance(name, Path) or str(name).startswith((".", "/", "~")):
        if not path.is_dir():
            raise ModelError(f"there is no {what} folder at {str(name)!r}")
        return str(path)
    return str(name)


def _dtype(dtype: object) -> str | torch.dtype:
    if isinstance(dtype, torch.dtype) and dtype in DTYPES.values():
        return dtype
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ModelError(f"unknown dtype {dtype!r}{valid(str(dtype), DTYPES)}")
    return DTYPES[dtype]


def _device(device: str | torch.device) -> torch.device:
    try:
        found = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:
        first = str(error).splitlines()[0]
        raise ModelError(f"device {str(device)!r} cannot be used: {first}") from error
    if found.type == "meta":
        raise ModelError("device 'meta' holds no values; expected for example 'cpu' or 'cuda'")
    return found
