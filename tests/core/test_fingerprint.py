"""Whatever changes attention states changes the key; nothing else does."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from transformers import PreTrainedModel

from promptcache import Expected, PromptCache
from promptcache.errors import ModelError
from promptcache.layout import Context, ContextKind, ModuleRun
from support.words import TEMPLATE, byte_tokenizer
from support.zoo import model

RUN = ModuleRun((5, 6, 7), Context(ContextKind.PREAMBLE, (1, 2)))


@pytest.fixture
def fresh() -> PreTrainedModel:
    return copy.deepcopy(model("llama"))


def key(engine: PromptCache) -> str:
    return engine._library.key(RUN)


def test_equal_models_have_equal_keys_whatever_they_are_called(
    fresh: PreTrainedModel, tmp_path: Path
) -> None:
    fresh.config._name_or_path = str(tmp_path)
    assert key(PromptCache(fresh, byte_tokenizer())) == key(
        PromptCache(model("llama"), byte_tokenizer(), name="another")
    )


def test_a_changed_weight_changes_the_key_of_a_running_engine(fresh: PreTrainedModel) -> None:
    engine = PromptCache(fresh, byte_tokenizer())
    before = key(engine)
    with torch.no_grad():
        fresh.model.layers[1].mlp.up_proj.weight.mul_(1.01)
    assert key(engine) != before


@pytest.mark.parametrize("place", [(0, 0), (137, 5), (287, 31)])
def test_one_changed_value_changes_the_key_wherever_it_is(
    fresh: PreTrainedModel, place: tuple[int, int]
) -> None:
    engine = PromptCache(fresh, byte_tokenizer())
    before = key(engine)
    with torch.no_grad():
        fresh.model.embed_tokens.weight[place] += 0.001
    assert key(engine) != before


def test_two_rows_that_changed_places_change_the_key(fresh: PreTrainedModel) -> None:
    engine = PromptCache(fresh, byte_tokenizer())
    before = key(engine)
    with torch.no_grad():
        weight = fresh.model.embed_tokens.weight
        weight[[3, 9]] = weight[[9, 3]]
    assert key(engine) != before


def test_a_model_that_was_converted_under_an_engine_is_refused(fresh: PreTrainedModel) -> None:
    engine = PromptCache(fresh, byte_tokenizer())
    fresh.to(torch.bfloat16)
    with pytest.raises(ModelError, match=r"was torch\.float32 on cpu .* is torch\.bfloat16"):
        engine.generate_text("Hello")


def test_a_change_behind_torchs_back_is_found_after_a_refresh(fresh: PreTrainedModel) -> None:
    engine = PromptCache(fresh, byte_tokenizer())
    before = key(engine)
    fresh.lm_head.weight.data.mul_(1.01)
    engine.refresh()
    assert key(engine) != before


def test_an_adapter_changes_the_key_when_added_and_when_switched_off(
    fresh: PreTrainedModel,
) -> None:
    engine = PromptCache(fresh, byte_tokenizer())
    plain = key(engine)
    torch.manual_seed(0)
    fresh.add_adapter(LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    adapted = key(engine)
    fresh.disable_adapters()
    off = key(engine)
    fresh.enable_adapters()
    assert len({plain, adapted, off}) == 3
    assert key(engine) == adapted


def test_states_of_every_adapter_are_listed_and_only_those_of_the_present_one_refined(
    fresh: PreTrainedModel,
) -> None:
    torch.manual_seed(0)
    fresh.add_adapter(LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    engine = PromptCache(fresh, byte_tokenizer(), context=Expected(("A bee.",)))

    def cached() -> set[str]:
        documents = ["Maui is an island in the sea."]
        engine.cache_documents(documents, preamble="Read:\n", context="preamble", progress=False)
        return {module.key for module in engine.holdings.listed()}

    adapted = cached()
    fresh.disable_adapters()
    plain = cached() - adapted
    fresh.enable_adapters()
    assert len(adapted) == len(plain) == 1
    assert engine.refine(progress=False) == 1
    after = {module.key for module in engine.holdings.listed()}
    assert plain < after
    assert adapted.isdisjoint(after)


def test_an_adapted_model_answers_as_plain_transformers_does(fresh: PreTrainedModel) -> None:
    engine = PromptCache(fresh, byte_tokenizer())
    engine.generate_text("Hello there", max_new_tokens=8)
    torch.manual_seed(0)
    fresh.add_adapter(LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    got = engine.generate_text("Hello there", max_new_tokens=8)
    ids = torch.tensor([byte_tokenizer()("Hello there").input_ids])
    expected = fresh.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8)
    assert list(got.token_ids) == expected[0, ids.shape[1] :].tolist()


def test_the_dtype_changes_the_key() -> None:
    keys = {
        key(PromptCache(model("llama", dtype), byte_tokenizer()))
        for dtype in (torch.float32, torch.bfloat16)
    }
    assert len(keys) == 2


def test_the_rope_parameters_change_the_key() -> None:
    keys = {
        key(PromptCache(model(family), byte_tokenizer()))
        for family in ("llama", "llama_linear", "llama_llama3", "llama_yarn")
    }
    assert len(keys) == 4


def test_the_tokenizer_and_its_template_change_the_key() -> None:
    added = copy.deepcopy(byte_tokenizer())
    added.add_tokens(["<one_more>"])
    tokenizers = [byte_tokenizer(), byte_tokenizer(TEMPLATE + " "), added]
    assert len({key(PromptCache(model("llama"), tokenizer)) for tokenizer in tokenizers}) == 3


def test_context_salt_and_tokens_change_the_key() -> None:
    engine = PromptCache(model("llama"), byte_tokenizer())
    salted = PromptCache(model("llama"), byte_tokenizer(), namespace="a")
    shifted = ModuleRun((2, 5, 6, 7), Context(ContextKind.PREAMBLE, (1,)))
    other = ModuleRun((5, 6, 8), RUN.context)
    keys = [key(engine), key(salted)] + [engine._library.key(run) for run in (shifted, other)]
    assert len(set(keys)) == 4


def test_the_name_of_a_module_does_not_change_its_key() -> None:
    engine = PromptCache(model("llama"), byte_tokenizer())
    named = ModuleRun(RUN.ids, RUN.context, "a name")
    assert engine._library.key(named) == key(engine)
