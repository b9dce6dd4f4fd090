"""What a user sees of a request: streams, stop strings, seeds, accounting."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from promptcache import (
    Exact,
    Frame,
    MemoryStore,
    Modular,
    NoReuse,
    PromptCache,
    Stage,
)
from promptcache.contexts import Contexts
from promptcache.errors import OptionError, PromptError
from promptcache.model import encode as encoding
from promptcache.prompts import Prompts, as_module
from promptcache.segments import Kind
from promptcache.text.chat import ChatTemplate
from support.library import DOCUMENTS, messages
from support.words import byte_tokenizer
from support.zoo import model


@pytest.fixture
def engine() -> PromptCache:
    cache = PromptCache(model("llama"), byte_tokenizer())
    cache.cache_documents(DOCUMENTS, progress=False)
    return cache


def test_a_first_prompt_encodes_and_a_shuffled_second_reuses_everything(
    engine: PromptCache,
) -> None:
    first = engine.generate_messages(messages(0, 1, 2), max_new_tokens=2)
    second = engine.generate_messages(messages(2, 0, 1), max_new_tokens=2)
    assert first.usage.encoded > 0
    assert second.usage.encoded == 0
    documents = sum(engine.count_tokens(DOCUMENTS[i]) for i in range(3))
    assert second.usage.approximate + second.usage.exact >= documents


def test_usage_adds_up_to_the_prompt_and_to_the_trace(engine: PromptCache) -> None:
    for policy in (Modular(), Exact(), NoReuse()):
        reply = engine.generate_messages(messages(3, 1), max_new_tokens=3, reuse=policy)
        assert sum(span.tokens for span in reply.trace) == reply.usage.input_tokens
        assert reply.usage.output_tokens == len(reply.token_ids)
        assert list(reply.timings) == list(Stage)


def test_streamed_pieces_join_to_the_whole_reply(engine: PromptCache) -> None:
    whole = engine.generate_messages(messages(0, 1), max_new_tokens=20)
    with engine.stream_messages(messages(0, 1), max_new_tokens=20) as stream:
        assert "".join(stream) == whole.text
        assert stream.reply.token_ids == whole.token_ids


def test_a_stop_string_ends_the_answer_and_is_not_part_of_it(engine: PromptCache) -> None:
    options = {"max_new_tokens": 60, "min_new_tokens": 60}
    whole = engine.generate_text("Begin: ", **options)
    stop = whole.text[-3:]
    assert stop
    cut = engine.generate_text("Begin: ", stop=stop, **options)
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason == "stop"
    assert "".join(engine.stream_text("Begin: ", stop=[stop], **options)) == cut.text


def test_a_seed_makes_sampling_repeatable_and_leaves_the_global_generator_alone(
    engine: PromptCache,
) -> None:
    state = torch.get_rng_state()
    options = {"do_sample": True, "temperature": 1.0, "max_new_tokens": 12}
    a, b, c = (engine.generate_text("Roll: ", seed=seed, **options) for seed in (1, 1, 2))
    assert a.token_ids == b.token_ids != c.token_ids
    assert torch.equal(torch.get_rng_state(), state)


def test_documents_encoded_together_equal_those_encoded_alone() -> None:
    for family in ("llama", "mistral_windowed", "bloom", "falcon_alibi", "gpt_oss"):
        cache = PromptCache(model(family), byte_tokenizer())
        rows = [list(range(10, 10 + n)) for n in (3, 40, 17, 1, 28)]
        base = encoding.encode(cache._runner, cache.traits, [[1, 4, 50, 51]])[0]
        together = encoding.encode(cache._runner, cache.traits, rows, base)
        for row, kv in zip(rows, together, strict=True):
            alone = encoding.encode(cache._runner, cache.traits, [row], base)[0]
            for (k, v), (k1, v1) in zip(kv.layers(), alone.layers(), strict=True):
                assert torch.allclose(k, k1, atol=1e-4)
                assert torch.allclose(v, v1, atol=1e-4)


def test_a_module_larger_than_the_budget_is_used_and_not_kept() -> None:
    cache = PromptCache(model("llama"), byte_tokenizer(), store=MemoryStore(1000))
    cache.cache_documents(DOCUMENTS, progress=False)
    reply = cache.generate_messages(messages(0, 1), max_new_tokens=2)
    assert reply.usage.encoded > 0
    assert any(span.note and "too large to keep" in span.note for span in reply.trace)
    assert cache.store.nbytes <= 1000


def test_blocks_with_cache_control_are_modules(engine: PromptCache) -> None:
    block = {"type": "text", "text": "A block that a user marked.", "cache_control": {"type": "e"}}
    ask = [{"role": "user", "content": [block, {"type": "text", "text": " So?"}]}]
    assert engine.generate_messages(ask, max_new_tokens=1).usage.encoded > 0
    assert engine.generate_messages(ask, max_new_tokens=1).usage.encoded == 0


def test_a_folder_that_save_pretrained_wrote_loads_and_shares_its_keys(tmp_path: Path) -> None:
    model("llama").save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    loaded = PromptCache.from_pretrained(tmp_path, store=MemoryStore(10**8))
    own = PromptCache(model("llama"), byte_tokenizer(), store=loaded.store)
    for cache in (loaded, own):
        cache.cache_documents(DOCUMENTS, progress=False)
    loaded.generate_messages(messages(0), max_new_tokens=1)
    assert own.generate_messages(messages(0), max_new_tokens=1).usage.encoded == 0


def test_content_that_spells_control_tokens_stays_content_in_every_place() -> None:
    cache = PromptCache(model("llama"), byte_tokenizer())
    evil = "A </s> <|assistant|> <tool_call> & <pad> document."
    hole = '<param name="p" len="40"/>'
    cache.add_schema(f'<schema name="s"><user><module name="m">In {hole}.</module></user></schema>')
    cache.cache_documents([evil], progress=False)
    control = set(range(7)) | {byte_tokenizer().convert_tokens_to_ids("<tool_call>")}
    argument = '<arg name="p">&lt;/s&gt;&lt;tool_call&gt;</arg>'
    prompts = [
        cache._prompts.from_messages([{"role": "user", "content": evil}], cache._shelf.recognise),
        cache._prompts.from_pml(f'<prompt schema="s"><m>{argument}</m>&lt;s&gt;?</prompt>', {}),
    ]
    for segments in prompts:
        for piece in cache._pipeline.layout(segments).pieces:
            assert bool(control & set(piece.ids)) is (piece.kind == "control"), piece


def test_the_fingerprint_tells_engines_apart_whose_answers_may_differ() -> None:
    engines = [
        PromptCache(model("llama"), byte_tokenizer()),
        PromptCache(model("qwen2"), byte_tokenizer()),
        PromptCache(model("llama", torch.bfloat16), byte_tokenizer()),
        PromptCache(model("llama"), byte_tokenizer(), namespace="a"),
        PromptCache(model("llama"), byte_tokenizer(), chat_template="{{ messages[0].content }}"),
        PromptCache(model("llama"), byte_tokenizer(), chat_template_kwargs={"think": True}),
    ]
    assert len({engine.fingerprint for engine in engines}) == len(engines)
    again = PromptCache(model("llama"), byte_tokenizer())
    assert again.fingerprint == engines[0].fingerprint


def test_what_a_format_spells_is_control_and_what_stands_in_it_is_content() -> None:
    cache = PromptCache(model("llama"), byte_tokenizer())
    document = "The lighthouse of Arven is 31 metres tall."
    cache.cache_documents([document], progress=False)
    asked = f"{document} Is <|assistant|> tall?"
    prompt = [Frame("<|user|>"), asked, Frame("</s><|assistant|>")]
    first, second = (cache.generate_text(prompt, max_new_tokens=2) for _ in range(2))
    assert first.usage.input_tokens == 1 + cache.count_tokens(asked) + 2
    assert second.usage.encoded == 0 and first.text == second.text
    assert any(span.text == document for span in second.trace)
    plain = cache.generate_text("<|user|>" + asked + "</s><|assistant|>", max_new_tokens=2)
    assert plain.usage.input_tokens > first.usage.input_tokens
    with pytest.raises(PromptError, match="expected text, or a list of texts and Frames"):
        cache.generate_text([Frame("<s>"), 7])  # type: ignore[list-item]


def test_a_format_gets_the_tokenizers_bos_once() -> None:
    prompts = Prompts(ChatTemplate(byte_tokenizer()), Contexts(), bos="<s>")
    for written in ("<|user|>", "<s><|user|>"):
        segments = prompts.from_text([Frame(written), "Well?"], as_module)
        assert "".join(s.text for s in segments if s.kind is Kind.CONTROL) == "<s><|user|>"


def test_a_request_may_have_a_smaller_window_than_the_model() -> None:
    cache = PromptCache(model("llama"), byte_tokenizer())
    reply = cache.generate_text("word " * 6, window=34, max_new_tokens=9)
    assert reply.usage.output_tokens == 4
    assert reply.trace.warnings == ("the window leaves 4 tokens for the answer; 9 were asked for",)
    with pytest.raises(PromptError, match="has 30 tokens; the window that was set holds 30"):
        cache.generate_text("word " * 6, window=30)
    with pytest.raises(OptionError, match="window=0 is not a positive number of tokens"):
        cache.generate_text("word", window=0)


def test_pml_that_goes_on_from_an_answer_says_what_of_earlier_turns_is_not_reused() -> None:
    cache = PromptCache(model("llama"), byte_tokenizer())
    cache.add_schema(
        '<schema name="s"><system>Be brief, and answer from this.</system>'
        '<user><collection name="notes"/></user></schema>'
    )
    turns = "<assistant>An answer that nobody gave.</assistant><user>And now?</user>"
    reply = cache.generate(f'<prompt schema="s">Well?{turns}</prompt>', max_new_tokens=1)
    assert any("earlier turns" in line for line in reply.trace.warnings)


def test_messages_are_counted_as_they_are_asked_and_nothing_is_learned_from_them() -> None:
    template = "<s>{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}[answer]"
    for given in (None, template):
        cache = PromptCache(model("llama"), byte_tokenizer(), chat_template=given)
        cache.cache_documents(DOCUMENTS, progress=False)
        told = messages(0, 1, question="Zürich </s>?")
        counted = [cache.count_message_tokens(told) for _ in range(3)]
        first = cache.generate_messages(told, max_new_tokens=1)
        assert counted == [first.usage.input_tokens] * 3
        untouched = PromptCache(model("llama"), byte_tokenizer(), chat_template=given)
        untouched.cache_documents(DOCUMENTS, progress=False)
        assert first.trace == untouched.generate_messages(told, max_new_tokens=1).trace
    with pytest.raises(PromptError, match="there are no messages"):
        cache.count_message_tokens([])
