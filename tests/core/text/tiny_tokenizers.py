"""Small tokenizers of three kinds, trained here on a few sentences; nothing is downloaded."""

from __future__ import annotations

import functools
from typing import Any

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "The cat sat on the mat, and the dog sat on the log. What should I pack?",
    "def f(x):\n\treturn x + 1\r\n",
    "Zürich liegt in der Schweiz; 東京は日本の首都です。 Ça va? 😀🎉",
    "<tool_call> </s> <s> [INST] <unk> <|im_start|>user <0x0A>",
] * 10
SPECIAL = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{i:02X}>" for i in range(256)]
CHAT_MARKS = ["<|im_start|>", "<|im_end|>"]
ADDED_NOT_SPECIAL = ["<tool_call>", "</think>"]
CONTROL = [*SPECIAL, *CHAT_MARKS, *ADDED_NOT_SPECIAL]


def byte_level_bpe() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=SPECIAL,
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def sentencepiece_bpe(scheme: str) -> Tokenizer:
    """Llama-2's kind: `prepend` is the legacy normalizer, `first` and `always` are Metaspace's."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if scheme == "prepend":
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=[*SPECIAL, *BYTES], show_progress=False
    )
    tokenizer.train_from_iterator([line.replace("<", " ") for line in CORPUS], trainer)
    return tokenizer


def unigram(*, byte_fallback: bool = True) -> Tokenizer:
    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=200,
        special_tokens=[*SPECIAL, *BYTES],
        unk_token="<unk>",
        show_progress=False,
    )
    trained.train_from_iterator(CORPUS, trainer)
    pieces = sorted(trained.get_vocab().items(), key=lambda item: item[1])
    ordinary = len(SPECIAL) + len(BYTES)
    scores = [(piece, -float(id_) if id_ >= ordinary else 0.0) for piece, id_ in pieces]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=0, byte_fallback=byte_fallback))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    steps: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


KINDS = {
    "byte-level BPE": byte_level_bpe,
    "SentencePiece BPE, legacy Prepend": lambda: sentencepiece_bpe("prepend"),
    "SentencePiece BPE, Metaspace first": lambda: sentencepiece_bpe("first"),
    "SentencePiece BPE, Metaspace always": lambda: sentencepiece_bpe("always"),
    "Unigram, Metaspace": unigram,
}


@functools.cache
def _trained(kind: str) -> str:
    return str(KINDS[kind]().to_str())


def make(
    kind: str, *, bos: bool = True, eos: bool = False, chat_template: str | None = None
) -> PreTrainedTokenizerFast:
    """A transformers tokenizer of `kind` with chat marks and tool marks added."""
    fast = Tokenizer.from_str(_trained(kind))
    fast.add_special_tokens(CHAT_MARKS)
    fast.add_tokens([AddedToken(mark, normalized=False) for mark in ADDED_NOT_SPECIAL])
    if bos or eos:
        single = ("<s> " if bos else "") + "$A" + (" </s>" if eos else "")
        names = [mark for mark in ("<s>", "</s>") if mark in single]
        fast.post_processor = processors.TemplateProcessing(
            single=single, special_tokens=[(mark, fast.token_to_id(mark)) for mark in names]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=fast,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        chat_template=chat_template,
    )
