"""Decode: transformers' own generation on an assembled arena, token by token.

transformers prepares logits processors and stopping criteria; our loop samples the first token
from the prefill's logits, so that no second forward stands before it. Knows token ids, not text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from promptcache.errors import OptionError, valid
from promptcache.model.arena import Arena
from promptcache.model.owncache import OwnCache
from promptcache.model.runner import ModelRunner, Traits

OPTIONS = frozenset(
    {
        "bad_words_ids", "do_sample", "encoder_repetition_penalty", "eos_token_id",
        "epsilon_cutoff", "eta_cutoff", "exponential_decay_length_penalty", "forced_eos_token_id",
        "logits_processor", "max_new_tokens", "min_new_tokens", "min_p", "no_repeat_ngram_size",
        "pad_token_id", "renormalize_logits", "repetition_penalty", "sequence_bias",
        "stopping_criteria", "streamer", "suppress_tokens", "temperature", "top_k", "top_p",
        "typical_p",
    }
)  # fmt: skip
"""The options of transformers' generation that are supported."""

REFUSED = {
    "assistant_model": "assisted generation",
    "cache_implementation": "another cache than promptcache's own",
    "constraints": "constrained beams",
    "custom_generate": "a custom decoding loop",
    "dola_layers": "DoLa decoding",
    "force_words_ids": "constrained beams",
    "guidance_scale": "classifier-free guidance",
    "inputs_embeds": "embeddings as a prompt",
    "num_beam_groups": "beam search",
    "num_beams": "beam search",
    "num_return_sequences": "several answers to one prompt",
    "output_attentions": "returning attention weights",
    "output_hidden_states": "returning hidden states",
    "output_scores": "returning scores",
    "past_key_values": "another cache than promptcache's own",
    "penalty_alpha": "contrastive search",
    "prompt_lookup_num_tokens": "prompt lookup decoding",
    "return_dict_in_generate": "transformers' own output objects",
    "token_healing": "token healing",
}
"""What transformers can do and promptcache refuses, by name, with what it would be."""

NEUTRAL = (None, False, 1)
"""Values with which a refused option asks for nothing."""

FinishReason = Literal["stop", "length"]


def check_options(options: dict[str, Any]) -> None:
    """Raise OptionError for a generation option that is not supported, naming it."""
    for name, value in options.items():
        if name in REFUSED and value not in NEUTRAL:
            raise OptionError(
                f"{name}={value!r} asks for {REFUSED[name]}, which promptcache does not support"
            )
        if name not in REFUSED and name not in OPTIONS:
            raise OptionError(f"unknown generation option {name!r}{valid(name, OPTIONS)}")


def decode(
    runner: ModelRunner,
    traits: Traits,
    arena: Arena | OwnCache,
    prompt: Sequence[int],
    logits: Tensor,
    options: dict[str, Any],
    seed: int | None = None,
) -> Iterator[int]:
    """Yield the token ids of the answer, one at a time.

    `arena` holds the whole `prompt`, `logits` `[1, vocabulary]` are those of its last token. Ends
    after an end-of-sequence token, which is yielded too, or when a criterion or the length says
    so. A caller that closes the iterator stops the generation.
    """
    streamer = options.get("streamer")
    asked = {k: v for k, v in options.items() if k in OPTIONS and k != "streamer"}
    generator = None
    if seed is not None:
        generator = torch.Generator(device=logits.device).manual_seed(seed)

    def loop(
        model: Any,
        input_ids: Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        **_: Any,
    ) -> Iterator[int]:
        _check_config(generation_config)
        scores = logits
        ids = input_ids
        try:
            while True:
                token = _choose(logits_processor(ids, scores.float()), generation_config, generator)
                ids = torch.cat([ids, token.to(ids.device)], dim=-1)
                if streamer is not None:
                    streamer.put(token.cpu())
                finished = bool(stopping_criteria(ids, None).all())
                yield int(token)
                if finished:
                    return
                position = ids.shape[1] - 1
                scores = runner.forward(token, [position], arena, attention=traits.attention)
        finally:
            if streamer is not None:
                streamer.end()

    ids = torch.tensor([list(prompt)], device=runner.device)
    if streamer is not None:
        streamer.put(ids.cpu())
    steps: Iterator[int] = runner.model.generate(
        ids, attention_mask=torch.ones_like(ids), custom_generate=loop, use_cache=False, **asked
    )
    return steps


def _choose(scores: Tensor, config: GenerationConfig, generator: torch.Generator | None) -> Tensor:
    if not config.do_sample:
        return scores.argmax(dim=-1, keepdim=True)
    return torch.multinomial(scores.softmax(dim=-1), num_samples=1, generator=generator)


def _check_config(config: GenerationConfig) -> None:
    """The model's own generation settings may ask for what we refuse, too."""
    for name in ("num_beams", "num_return_sequences", "penalty_alpha", "dola_layers"):
        value = getattr(config, name, None)
        if value not in NEUTRAL:
            raise OptionError(
                f"the model's generation config has {name}={value!r}, which asks for "
                f"{REFUSED[name]}; promptcache does not support it"
            )
