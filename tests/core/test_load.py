"""A model that cannot be loaded, or not as asked, ends in one sentence that says at what."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BloomConfig
from transformers.utils import logging as transformers_logging

from promptcache.errors import ModelError, UnsupportedModelError
from promptcache.model.load import check_model, load, load_tokenizer
from support.words import byte_tokenizer
from support.zoo import model

Change = Callable[[Path], object]
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a whole model, which a test copies before it breaks it."""
    folder = tmp_path_factory.mktemp("saved")
    transformers_logging.disable_progress_bar()
    model("llama").save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    transformers_logging.enable_progress_bar()
    return folder


def config_with(**settings: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))

    return change


def pickled_garbage(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"garbage" * 99)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:2000]), "at its weights"),
        (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-8]), "at its weights"),
        (
            lambda f: (f / WEIGHTS).write_bytes(b"garbage" * 99),
            "at its weights: SafetensorError: .*header",
        ),
        (lambda f: (f / WEIGHTS).unlink(), "at its weights: .*no file named model.safetensors"),
        (pickled_garbage, "at its weights: no file that torch.load can read"),
        (
            config_with(hidden_size=64),
            "at its weights: their shapes are not those that config.json says",
        ),
        (config_with(hidden_size="x"), "at its config: .*'hidden_size' expected int, got str"),
        (config_with(num_attention_heads=5), "at its config: .*not a multiple of the number of at"),
        (config_with(hidden_act="nope"), "at its weights: KeyError: 'nope'"),
        (config_with(model_type="nope"), "at its config: .*model type `nope`"),
        (lambda f: (f / "tokenizer.json").write_text("{garbage"), "at its tokenizer: Expecting"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "at its tokenizer: KeyError"),
        (
            lambda f: (f / "generation_config.json").write_text('{"num_return_sequences": 2}'),
            "at its weights: .*`num_return_sequences` different than 1",
        ),
    ],
)
def test_a_folder_with_a_broken_file_is_refused_by_the_name_of_what_is_broken(
    saved: Path, tmp_path: Path, change: Change, message: str
) -> None:
    folder = Path(copytree(saved, tmp_path / "broken"))
    change(folder)
    with pytest.raises(ModelError, match=rf"^cannot load a model from '.*broken', {message}") as no:
        load(folder)
    assert "Expected 'pocket', a folder that save_pretrained wrote" in str(no.value)
    assert "\n" not in str(no.value)


def test_a_broken_tokenizer_is_refused_when_it_is_loaded_alone(saved: Path, tmp_path: Path) -> None:
    folder = Path(copytree(saved, tmp_path / "broken"))
    (folder / "tokenizer.json").write_text("{garbage")
    with pytest.raises(ModelError, match=r"cannot load a model from '.*broken', at its tokenizer"):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (["nonsense"], r"model_kwargs=\['nonsense'\] is not a mapping of names to values"),
        ({"nonsense": 3}, r"keyword argument 'nonsense'\. Expected model_kwargs .* \['nonsense'\]"),
        ({"attn_implementation": "nope"}, '`attn_implementation="nope"` is not supported'),
        ({"device_map": "nope"}, "at its weights: .*found nope"),
        (
            {"dtype": "float32"},
            "model_kwargs has dtype='float32'; give it as dtype= beside them",
        ),
        ({"torch_dtype": 3}, "has torch_dtype=3; give it as dtype= beside them"),
        ({"revision": "x"}, "has revision='x'; give it as revision= beside them"),
        ({"device": "cpu"}, "has device='cpu'; give it as device= beside them"),
        ({"load_in_8bit": True}, "load_in_8bit, which quantises the model; .*bfloat16"),
        ({"quantization_config": object()}, "quantization_config, which quantises the model"),
        ({"output_loading_info": True}, "output_loading_info, which promptcache does not return"),
    ],
)
def test_model_kwargs_that_cannot_be_used_are_refused_by_name(
    saved: Path, kwargs: Any, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        load(saved, model_kwargs=kwargs)


def test_a_package_that_is_absent_is_named(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object, **__: object) -> None:
        raise ImportError("FlashAttention2 has been toggled on, but it is not installed.")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", absent)
    with pytest.raises(ModelError, match=r"FlashAttention2 .*\. Install that package, or load"):
        load(saved, model_kwargs={"attn_implementation": "flash_attention_2"})


def test_a_tokenizer_from_another_folder_needs_no_model_there(saved: Path, tmp_path: Path) -> None:
    byte_tokenizer("{{ messages[0].content }}").save_pretrained(tmp_path)
    _, tokenizer = load(saved, tokenizer=tmp_path)
    assert tokenizer.chat_template == "{{ messages[0].content }}"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="empty' has no tokenizer: none of the files"):
        load(saved, tokenizer=tmp_path / "empty")
    with pytest.raises(ModelError, match="the tokenizer is 5; expected 'pocket', a folder"):
        load(saved, tokenizer=5)  # type: ignore[arg-type]


def test_arguments_of_the_hub_reach_config_tokenizer_and_weights(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, dict[str, Any]] = {}
    for loader in (AutoConfig, AutoTokenizer, AutoModelForCausalLM):
        real = loader.from_pretrained

        def spy(*args: Any, _name: str = loader.__name__, _real: Any = real, **kwargs: Any) -> Any:
            seen.setdefault(_name, kwargs)
            return _real(*args, **kwargs)

        monkeypatch.setattr(loader, "from_pretrained", spy)
    hub = {"token": "t", "cache_dir": "c", "local_files_only": True, "trust_remote_code": False}
    load(saved, revision="main", model_kwargs={**hub, "attn_implementation": "eager"})
    assert len(seen) == 3
    for name, kwargs in seen.items():
        assert hub.items() <= kwargs.items(), name
        assert kwargs["revision"] == "main", name
        assert ("attn_implementation" in kwargs) == (name == "AutoModelForCausalLM")


def test_code_that_comes_with_a_model_is_never_run_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "was-run"
    (tmp_path / "theirs.py").write_text(
        f"from pathlib import Path\nPath({str(marker)!r}).touch()\n"
    )
    told = {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Theirs"}}
    (tmp_path / "config.json").write_text(json.dumps(told))
    monkeypatch.setattr("builtins.input", lambda _: "y")
    with pytest.raises(ModelError, match="contains custom code"):
        load(tmp_path)
    assert not marker.exists()


@pytest.mark.parametrize("dtype", [None, torch.float8_e4m3fn, torch.int8, "fp16", 16])
def test_a_dtype_that_is_none_of_the_valid_ones_is_refused(saved: Path, dtype: Any) -> None:
    with pytest.raises(ModelError, match=r"unknown dtype .*auto, bfloat16, float16, float32"):
        load(saved, dtype=dtype)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("meta", "device 'meta' holds no values; expected for example 'cpu' or 'cuda'"),
        ("nope", "device 'nope' cannot be used: Expected one of cpu, cuda"),
        (3.5, "device '3.5' cannot be used"),
    ],
)
def test_a_device_that_cannot_be_used_is_refused_before_anything_is_loaded(
    saved: Path, monkeypatch: pytest.MonkeyPatch, device: Any, message: str
) -> None:
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", None)
    with pytest.raises(ModelError, match=message):
        load(saved, device=device)


def test_a_model_without_values_is_refused() -> None:
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(BloomConfig(vocab_size=9, hidden_size=8, n_head=2))
    with pytest.raises(UnsupportedModelError, match="weights on the device 'meta'"):
        check_model(empty, byte_tokenizer())


def _whole(made: Any) -> None:
    made.compile(backend="eager")


def _forward(made: Any) -> None:
    made.forward = torch.compile(made.forward, backend="eager")


def _layer_in_place(made: Any) -> None:
    made.model.layers[1].compile(backend="eager")


def _layer_wrapped(made: Any) -> None:
    made.model.layers[1] = torch.compile(made.model.layers[1], backend="eager")


@pytest.mark.parametrize(
    ("compiled", "what"),
    [
        (_whole, "the model"),
        (_forward, "the model"),
        (_layer_in_place, "the layer 'model.layers.1' of the model"),
        (_layer_wrapped, "the layer 'model.layers.1' of the model"),
    ],
)
def test_a_model_or_layer_that_is_compiled_is_refused_by_name(
    compiled: Callable[[Any], None], what: str
) -> None:
    made = model.__wrapped__("llama")
    check_model(made, byte_tokenizer())
    compiled(made)
    with pytest.raises(UnsupportedModelError, match=f"^{what} is compiled by torch.compile, which"):
        check_model(made, byte_tokenizer())
    with pytest.raises(UnsupportedModelError, match=r"wrapped by torch\.compile, which would"):
        check_model(torch.compile(made, backend="eager"), byte_tokenizer())
