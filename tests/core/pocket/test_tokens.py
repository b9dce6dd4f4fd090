"""Tokens of the pieces of a prompt are the prompt, whole and exact."""

from functools import cache

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from promptcache.pocket import pocket_path
from promptcache.pocket.chat import messages
from promptcache.pocket.corpus import Sample, Shape, make_sample
from promptcache.pocket.data import Encoder
from promptcache.pocket.prompts import WORDINGS


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(pocket_path())


def samples() -> list[Sample]:
    rng = np.random.default_rng(12)
    return [make_sample(rng, Shape((1, 5), turns=(1, 3)), "test") for _ in WORDINGS]


def test_tokens_of_pieces_joined_decode_to_the_prompt_of_the_template() -> None:
    encoder = Encoder(tokenizer())
    for sample, wording in zip(samples(), WORDINGS, strict=True):
        conversation = messages(sample, wording)[:-1]
        rendered = tokenizer().apply_chat_template(
            [{"role": m.role, "content": m.content} for m in conversation],
            tokenize=False,
            add_generation_prompt=True,
        )
        ids = encoder.prompt(conversation, whole=False)
        assert tokenizer().decode(ids, clean_up_tokenization_spaces=False) == rendered


def test_the_template_and_the_encoder_give_the_same_tokens_for_whole_contents() -> None:
    encoder = Encoder(tokenizer())
    for sample, wording in zip(samples(), WORDINGS, strict=True):
        conversation = messages(sample, wording)[:-1]
        rendered = tokenizer().apply_chat_template(
            [{"role": m.role, "content": m.content} for m in conversation],
            add_generation_prompt=True,
            return_dict=False,
        )
        assert encoder.prompt(conversation, whole=True) == rendered


def test_a_cut_at_a_newline_does_not_change_the_tokens() -> None:
    encoder = Encoder(tokenizer())
    for sample in samples():
        texts = [document.text for document in sample.documents]
        apart = [i for text in texts for i in (*encoder.text(text), *encoder.text("\n\n"))]
        assert apart == encoder.text("".join(text + "\n\n" for text in texts))


def test_digits_and_newlines_are_tokens_of_their_own() -> None:
    assert tokenizer().tokenize("12\n\n34") == ["1", "2", "Ċ", "Ċ", "3", "4"]


def test_content_is_rendered_verbatim() -> None:
    content = "  spaces \n\n<b>& tabs\t "
    rendered = tokenizer().apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    assert rendered == f"<|begin|><|user|>{content}<|end|><|assistant|>"


def test_text_with_any_byte_comes_back() -> None:
    text = "naïve 漢字 \U0001f600 \x00\x7f ---- == ##"
    ids = tokenizer()(text, add_special_tokens=False)["input_ids"]
    assert tokenizer().decode(ids, clean_up_tokenization_spaces=False) == text
