"""Compressed attention states: rounded once, and then the same in every tier and process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from promptcache import (
    DiskStore,
    Exact,
    FirstK,
    HostStore,
    MemoryStore,
    Modular,
    NoReuse,
    PromptCache,
    RemoteStore,
    Sensitive,
    Store,
    Tiers,
)
from promptcache.clock import Clock
from promptcache.errors import OptionError
from promptcache.kv import KV
from promptcache.reuse import ReusePolicy
from promptcache.store import format as files
from promptcache.store import states as parts
from promptcache.store.compression import COMPRESSIONS, PackedKV, packed, rounded, unpacked
from promptcache.store.protocol import NO_EFFORTS, Effort
from promptcache.trace import Provenance
from support.bare import bare
from support.library import DOCUMENTS, SYSTEM, messages
from support.reference import plain_logits, plain_states
from support.words import byte_tokenizer
from support.zoo import model

MIB = 1 << 20
NAMES = sorted(COMPRESSIONS)
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def bits(kv: KV | None) -> str:
    """A hash of all keys and values, bit by bit."""
    assert kv is not None and not isinstance(kv, PackedKV)
    digest = blake2b(digest_size=16)
    for tensor in (*kv.keys, *kv.values):
        shown = f"{tensor.dtype}{tuple(tensor.shape)}".encode()
        digest.update(shown + tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def random_states(tokens: int, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> KV:
    """States of two layers of other shapes, as layers of one model may have them."""
    made = torch.Generator().manual_seed(seed)

    def some(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=made).to(dtype)

    keys = some(2, tokens, 24), some(1, tokens, 64)
    values = some(2, tokens, 10), some(1, tokens, 130)
    return KV(keys, values, 7, {"rank": torch.arange(tokens)}, cost=0.5)


SPECIALS = [0.0, -0.0, 1.0, -3.5, 2.0**-20, 60_000.0, 1e-40]


@st.composite
def states(draw: st.DrawFn) -> KV:
    """Some states, with outliers, constants, zeros and the smallest numbers in places."""
    tokens, dtype = draw(st.integers(1, 140)), draw(st.sampled_from(DTYPES))
    kv = random_states(tokens, dtype, draw(st.integers(0, 99)))
    for tensor in (*kv.keys, *kv.values):
        tensor.mul_(draw(st.sampled_from([1.0, 1e-3, 1e-6, 40.0])))
        if draw(st.booleans()):
            tensor[:, :, draw(st.integers(0, tensor.shape[2] - 1))] = draw(
                st.sampled_from(SPECIALS)
            )
        if draw(st.booleans()):
            tensor[:, draw(st.integers(0, tokens - 1))] = draw(st.sampled_from(SPECIALS))
    return kv


def groups_of(tensor: Tensor, tokens: int, channels: int) -> Iterable[tuple[slice, slice]]:
    """The places of numbers that are together, so many tokens by so many channels."""
    for token in range(0, tensor.shape[1], tokens):
        for channel in range(0, tensor.shape[2], channels):
            yield slice(token, token + tokens), slice(channel, channel + channels)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(kv=states(), name=st.sampled_from(NAMES))
def test_numbers_are_off_by_half_a_step_of_their_group_and_packing_loses_no_more(
    kv: KV, name: str
) -> None:
    how = COMPRESSIONS[name]
    kept = rounded(kv, name)
    both = [(a, b, how.tokens, 1) for a, b in zip(kv.keys, kept.keys, strict=True)]
    both += [(a, b, 1, how.channels) for a, b in zip(kv.values, kept.values, strict=True)]
    for was, now, tokens, channels in both:
        assert was.dtype == now.dtype
        for place in groups_of(was, tokens, channels):
            before, after = (tensor[:, *place].double() for tensor in (was, now))
            peak = before.abs().amax((1, 2), keepdim=True)
            eps = torch.finfo(was.dtype)
            most = peak / how.steps / 2 * 1.001 + peak * eps.eps + eps.smallest_normal * eps.eps
            assert ((before - after).abs() <= most).all()
            assert torch.equal(after.abs().amax((1, 2), keepdim=True), peak)
    assert (kept.compression, kept.start, kept.cost) == (name, kv.start, kv.cost)
    small = packed(kept)
    assert small.nbytes < 0.75 * kv.nbytes or kv.tokens < 8  # peaks take as much as they save
    assert bits(unpacked(small)) == bits(kept) == bits(rounded(kept, name))
    assert torch.equal(unpacked(small).side["rank"], kv.side["rank"])


@pytest.mark.parametrize("number", [torch.inf, -torch.inf, torch.nan])
@pytest.mark.parametrize("name", NAMES)
def test_states_that_are_not_finite_stay_as_they_are(name: str, number: float) -> None:
    kv = random_states(5)
    kv.values[1][0, 2, 3] = number
    kept = rounded(kv, name)
    assert kept.compression == "" and packed(kept) is kept
    assert bits(kept) == bits(kv)


def test_layouts_that_a_compression_has_no_form_for_stay_as_they_are() -> None:
    odd = KV((torch.randn(1, 3, 5),), (torch.randn(1, 3, 4),))
    assert rounded(odd, "int8").compression == "int8"
    assert rounded(odd, "int4").compression == ""
    ones = (torch.ones(1, 3, 4).to(torch.float8_e4m3fn),)
    assert rounded(KV(ones, ones), "int8").compression == ""


def test_states_of_one_compressed_vector_for_all_heads_are_packed_like_others() -> None:
    latent = KV((torch.randn(1, 70, 576).bfloat16(),), (torch.zeros(1, 70, 0).bfloat16(),))
    for name in NAMES:
        kept = rounded(latent, name)
        assert kept.compression == name
        assert bits(unpacked(packed(kept))) == bits(kept)


@pytest.mark.parametrize("name", NAMES)
def test_every_tier_gives_the_very_values_that_were_put_there_and_counts_fewer_bytes(
    tmp_path: Path, name: str
) -> None:
    kv = rounded(random_states(100), name)
    host, disk = HostStore(MIB), DiskStore(tmp_path, MIB)
    for store in (host, disk):
        assert store.put("a", kv)
    assert host.nbytes == packed(kv).nbytes < 0.6 * kv.nbytes
    assert disk.nbytes < packed(kv).nbytes + 2000
    later = DiskStore(tmp_path, MIB)
    for found in (host.get("a"), disk.get("a"), later.get("a"), later.get("a")):
        assert bits(found) == bits(kv)
        assert found is not None and found.compression == name
    assert later.verify("a") is None


def test_another_process_reads_the_very_values_that_this_one_had(tmp_path: Path) -> None:
    kv = rounded(random_states(100), "int8")
    DiskStore(tmp_path, MIB).put("a", kv)
    other = bare(
        "import torch\n"
        "from promptcache.store.disk import DiskStore\n"
        "kv = DiskStore(sys.argv[1], 1 << 20).get('a')\n"
        "for tensor in (*kv.keys, *kv.values):\n"
        "    print(tensor.contiguous().view(torch.uint8).numpy().tobytes().hex())",
        tmp_path,
    )
    said, _ = other.communicate()
    tensors = [bytes.fromhex(line) for line in said.split()]
    mine = [t.contiguous().view(torch.uint8).numpy().tobytes() for t in (*kv.keys, *kv.values)]
    assert tensors == mine


def test_a_file_whose_peaks_do_not_go_with_its_steps_is_set_aside(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, MIB)
    small = packed(rounded(random_states(70), "int8"))
    assert isinstance(small, PackedKV)
    wrong = replace(small, peaks=(small.peaks[0][:, :1], *small.peaks[1:]))
    written = parts.parts_of(wrong)
    told = files.about("a", 7, written)
    with store.folder.path_of("a").open("wb") as file:
        files.write(file, files.header(told, written), written)
    assert store.get("a") is None
    assert store.folder.damaged() == 1


def test_an_unknown_compression_is_refused_by_name() -> None:
    with pytest.raises(OptionError, match=r"compression='int9'.*did you mean 'int8'.*int4, int8"):
        engine(compression="int9")
    with pytest.raises(OptionError, match="compression=8 is none"):
        engine(compression=8)  # type: ignore[arg-type]


def engine(
    store: Store | str | Path | None = None,
    compression: str | None = "int8",
    family: str = "llama",
    conversations: bool = False,
) -> PromptCache:
    cache = PromptCache(
        model(family),
        byte_tokenizer(),
        store=store,
        compression=compression,
        conversations=conversations,
    )
    cache.cache_documents(DOCUMENTS, progress=False)
    return cache


def logits(cache: PromptCache, *order: int, reuse: ReusePolicy | None = None) -> Tensor:
    segments = cache._prompts.from_messages(messages(*order), cache._shelf.recognise)
    got = cache._pipeline.run(segments, reuse or Modular(), Clock(), room=1)
    cache._pipeline.ranking.later(got.served.unranked)
    if reuse is not None and not reuse.moves:
        expected = plain_logits(cache.model, got.layout.ids)
        assert torch.allclose(got.logits[0], expected, atol=1e-4)
        assert got.usage.reused_tokens == 0, "rounded states are not exact"
    return got.logits[0]


@pytest.mark.parametrize("family", ["llama", "gemma3", "falcon_7b_style", "gpt_oss"])
@pytest.mark.parametrize("name", NAMES)
def test_an_engine_answers_the_same_when_it_encodes_and_from_every_tier(
    tmp_path: Path, name: str, family: str
) -> None:
    disk, remote = tmp_path / "disk", f"file://{tmp_path}/remote"
    tiers = Tiers(HostStore(MIB), DiskStore(disk, MIB), RemoteStore(remote))
    first = engine(tiers, name, family)
    expected = logits(first, 3, 1, 4)
    assert torch.equal(logits(first, 3, 1, 4), expected)
    tiers.flush()
    for store in (
        DiskStore(disk, MIB),
        Tiers(MemoryStore(MIB), DiskStore(disk, MIB)),
        RemoteStore(remote),
        Tiers(MemoryStore(MIB), RemoteStore(remote)),
    ):
        later = engine(store, name, family)
        for _ in range(2):
            assert torch.equal(logits(later, 3, 1, 4), expected)
    assert torch.equal(logits(engine(None, name, family), 3, 1, 4), expected)
    assert not torch.equal(logits(engine(None, None, family), 3, 1, 4), expected)


@pytest.mark.parametrize("family", ["llama", "gemma3", "mpt"])
def test_a_module_is_what_the_model_computes_but_for_half_a_step(family: str) -> None:
    cache = engine(None, "int8", family)
    cache.cache_documents([DOCUMENTS[0]], preamble=SYSTEM, progress=False)
    runs = cache._library.held()
    run = next(run for run in runs if run.context.ids)
    kept = cache.store.get(runs[run])
    assert kept is not None
    plain = plain_states(cache.model, (*run.context.ids, *run.ids))
    for layer, (keys, values) in enumerate(plain):
        for was, now in ((keys, kept.keys[layer]), (values, kept.values[layer])):
            before = was[:, len(run.context.ids) :]
            assert not torch.equal(before, now)
            off = (before - now).abs().max() / before.abs().max()
            assert off < 0.03, "more than its own rounding and that of its context make"


def test_compressed_modules_are_never_called_exact() -> None:
    cache = engine()
    cache.generate_messages(messages(0, 1), max_new_tokens=2)
    reply = cache.generate_messages(messages(0, 1), max_new_tokens=2)
    assert reply.usage.exact == 0 < reply.usage.approximate
    [first, *_] = [span for span in reply.trace.spans if span.module]
    assert first.provenance is Provenance.APPROXIMATE
    assert first.note == "exact, but for being kept as int8"
    reply = cache.generate_messages(messages(0, 1), max_new_tokens=2, reuse=Exact())
    assert any("what is kept as int8 is not exact" in line for line in reply.trace.warnings)
    logits(cache, 0, 1, reuse=Exact())


def test_compressions_do_not_find_each_others_modules(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, MIB)
    held = 0
    for name in (None, "int8", "int4"):
        cache = engine(store, name)
        done = cache.cache_documents(DOCUMENTS, preamble=SYSTEM, progress=False)
        assert done.encoded == len(DOCUMENTS)
        assert len(store.keys()) == held + len(DOCUMENTS) + 1
        held = len(store.keys())
    assert len({engine(None, name).fingerprint for name in (None, "int8", "int4")}) == 3


class Watched(Tiers):
    """Two tiers that give nothing but what was put, by anyone, bit by bit."""

    def __init__(self, seen: dict[str, set[str]], *tiers: Store) -> None:
        super().__init__(*tiers)
        self._seen = seen

    def put(self, key: str, kv: KV) -> bool:
        self._seen.setdefault(key, set()).add(bits(kv))
        return super().put(key, kv)

    def find_all(
        self, keys: Iterable[str], efforts: Mapping[str, Effort] = NO_EFFORTS
    ) -> dict[str, tuple[KV | None, str]]:
        found = super().find_all(keys, efforts)
        for key, (kv, tier) in found.items():
            assert kv is None or bits(kv) in self._seen[key], f"{tier} changed {key}"
        return found


POLICIES = st.sampled_from([Modular(), FirstK(3), Sensitive(0.3), Exact(), NoReuse()])
ASKED = st.tuples(st.lists(st.integers(0, 5), min_size=1, max_size=4, unique=True), POLICIES)
EVENTS = st.lists(
    st.one_of(ASKED, ASKED, st.sampled_from(["restart", "evict", "refine"])),
    min_size=3,
    max_size=9,
)


@settings(max_examples=12, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.too_slow])  # fmt: skip
@given(name=st.sampled_from(NAMES), host=st.booleans(), events=EVENTS)
def test_no_history_of_two_processes_changes_a_bit_of_what_was_first_used(
    name: str, host: bool, events: list[tuple[list[int], ReusePolicy] | str]
) -> None:
    seen: dict[str, set[str]] = {}
    with TemporaryDirectory() as folder:

        def opened() -> PromptCache:
            memory = (HostStore if host else MemoryStore)(30_000)
            store = Watched(seen, memory, DiskStore(folder, 90_000))
            return engine(store, name, conversations=True)

        engines = [opened(), opened()]
        for number, event in enumerate(events):
            cache = engines[number % 2]
            store = cache.store
            assert isinstance(store, Tiers)
            if event == "restart":
                cache.settle(60)  # else it ranks on beside its successor
                store.flush()
                engines[number % 2] = opened()
            elif event == "evict":
                store.evict()
            elif event == "refine":
                cache.refine(progress=False)
                cache.settle(60)
            else:
                order, policy = event
                logits(cache, *order, reuse=policy)
            store.check_integrity()
        for cache in engines:
            assert isinstance(cache.store, Tiers)
            cache.settle(60)
            cache.store.flush()


def test_a_name_in_a_key_stands_for_one_rounding_for_ever() -> None:
    line = (torch.arange(2 * 70 * 40) * 37 % 101 - 50).float().reshape(2, 70, 40)
    kv = KV((line / 16,), (line / 24,))
    found = {name: bits(rounded(kv, name)) for name in NAMES}
    assert found == {
        "int4": "03ba90a760219dd6410f1657f2bb2e5d",
        "int8": "41ec81a4edcb49e4db3e1296e65e8b02",
    }, "what a name does has changed: that needs another name"
