"""What lasts: the disk tier across processes, and engines that are opened on its folder."""

from __future__ import annotations

import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from promptcache import DiskStore, MemoryStore, PromptCache, Reply, Sensitive, Store, Tiers
from promptcache.errors import BudgetError, OptionError, StoreError
from promptcache.kv import KV
from promptcache.store import format as files
from promptcache.store.format import DamagedFileError
from promptcache.store.states import parts_of, read
from support.bare import bare
from support.library import DOCUMENTS, SYSTEM, messages
from support.words import byte_tokenizer
from support.zoo import model

MIB = 1 << 20


def states(tokens: int = 3, dtype: torch.dtype = torch.bfloat16, layers: int = 2) -> KV:
    """States of layers that differ in shape, with side tensors of other dtypes."""
    torch.manual_seed(tokens)
    return KV(
        tuple(torch.randn(2, tokens, 8 + layer).to(dtype) for layer in range(layers)),
        tuple(torch.randn(1, tokens, 5).to(dtype) for _ in range(layers)),
        start=11,
        side={"rank": torch.rand(tokens), "place": torch.arange(tokens)},
    )


def assert_equal(one: KV | None, other: KV) -> None:
    assert one is not None
    assert (one.start, one.side.keys()) == (other.start, other.side.keys())
    mine = (*one.keys, *one.values, *(one.side[name] for name in other.side))
    theirs = (*other.keys, *other.values, *other.side.values())
    for a, b in zip(mine, theirs, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a.view(torch.uint8), b.view(torch.uint8))


def engine(store: Store | str | Path | None, family: str = "llama", **options: Any) -> PromptCache:
    return PromptCache(model(family), byte_tokenizer(), store=store, **options)


def written(cache: PromptCache) -> Tiers:
    """The store of an engine on a folder, when all is on the disk."""
    assert isinstance(cache.store, Tiers)
    cache.store.flush()
    return cache.store


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn]
)
def test_states_of_every_dtype_and_shape_come_back_bit_by_bit(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    assert DiskStore(tmp_path, MIB).put("a", states(7, dtype))
    assert_equal(DiskStore(tmp_path, MIB).get("a"), states(7, dtype))


def test_parts_of_larger_tensors_are_written_as_the_states_that_they_are(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, MIB)
    store.put("a", states(9).slice(2, 6))
    assert_equal(store.get("a"), states(9).slice(2, 6))


def test_a_file_is_plain_safetensors_for_its_owner_alone(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "made" / "here", MIB)
    store.put("a", states())
    path = store.folder.path / "a.kv.safetensors"
    assert set(load_file(path)) == {
        "key.0", "key.1", "value.0", "value.1", "side.rank", "side.place",
    }  # fmt: skip
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no list of what is mapped")
def test_reading_maps_the_file_and_copies_nothing(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, MIB)
    store.put("a", states(50))
    kv = store.get("a")
    assert kv is not None
    mapped = Path("/proc/self/maps").read_text()
    assert "a.kv.safetensors" in mapped
    store.delete("a")
    assert_equal(kv, states(50))  # what is mapped outlives its file


def test_the_budget_holds_for_all_files_of_all_stores_in_a_folder(tmp_path: Path) -> None:
    first, second = (DiskStore(tmp_path, 20_000) for _ in range(2))
    for number in range(40):
        (first if number % 2 else second).put(f"k{number}", states(20))
        size = sum(path.stat().st_size for path in tmp_path.iterdir() if path.suffix)
        assert size <= 20_000
    assert second.keys()[-1] == "k39"
    assert first.keys() == second.keys()
    first.check_integrity()


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "damaged").mkdir()
    others = ["model.safetensors", "draft.tmp", "damaged/weights.safetensors"]
    for name in others:
        (tmp_path / name).write_bytes(b"mine" * 10_000)
    store = DiskStore(tmp_path, 5_000)
    for number in range(5):
        assert store.put(f"k{number}", states(20))
    assert store.get("model") is None
    store.folder.shrink(0)
    assert store.nbytes == 0
    assert all((tmp_path / name).stat().st_size == 40_000 for name in others)


def test_what_one_store_reads_is_not_the_first_to_go_for_another(tmp_path: Path) -> None:
    one, other = (DiskStore(tmp_path, 9_000) for _ in range(2))
    one.put("a", states(20))
    one.put("b", states(20))
    other.get("a")
    for name in "cd":
        one.put(name, states(20))
    assert one.keys() == other.keys() == ["a", "c", "d"]


def test_another_process_finds_what_this_one_wrote_and_is_found(tmp_path: Path) -> None:
    mine = DiskStore(tmp_path, MIB)
    mine.put("mine", states(4))
    ran = bare(
        "from promptcache.store.disk import DiskStore\n"
        "from promptcache.store.memory import MemoryStore\n"
        "from promptcache.store.tiers import Tiers\n"
        "store = Tiers(MemoryStore(1 << 20), DiskStore(sys.argv[1], 1 << 20))\n"
        "assert store.put('theirs', store.get('mine'))  # written before the process ends",
        tmp_path,
    )
    ran.communicate()
    assert ran.returncode == 0
    assert_equal(mine.get("theirs"), states(4))
    assert mine.keys() == ["mine", "theirs"]


@pytest.mark.parametrize("family", ["llama", "gemma3", "mpt"])
def test_an_engine_on_a_known_folder_reuses_everything_with_its_first_question(
    tmp_path: Path, family: str
) -> None:
    question = messages(3, 1, 4)

    def asked(store: Path | str | None) -> tuple[PromptCache, list[Reply]]:
        cache = engine(store, family, conversations=False)
        cache.cache_documents(DOCUMENTS, progress=False)
        return cache, [cache.generate_messages(question, max_new_tokens=8) for _ in range(2)]

    _, [_, expected] = asked(None)
    written(asked(tmp_path)[0])
    _, replies = asked(str(tmp_path))
    for reply, tier in zip(replies, ("disk", "memory"), strict=True):
        assert reply.token_ids == expected.token_ids
        assert reply.usage == expected.usage
        assert {span.tier for span in reply.trace.spans if span.module} == {tier}


def test_an_engine_reads_straight_from_the_disk_without_a_tier_in_memory(tmp_path: Path) -> None:
    answers = []
    for store in (None, DiskStore(tmp_path)):
        cache = engine(store)
        cache.cache_documents(DOCUMENTS, progress=False)
        asked = [messages(0, 1), messages(2, 0, 1), messages(2, 0, 1)]
        answers.append([cache.generate_messages(m, max_new_tokens=6).token_ids for m in asked])
    assert answers[0] == answers[1]
    assert len(DiskStore(tmp_path).keys()) == 4  # the preamble and three documents


def test_rankings_outlive_the_process_that_made_them(tmp_path: Path) -> None:
    def unranked() -> bool:
        cache = engine(tmp_path, reuse=Sensitive(0.2), conversations=False)
        cache.cache_documents(DOCUMENTS, progress=False)
        reply = cache.generate_messages(messages(1, 0), max_new_tokens=2)
        cache.settle(60)
        written(cache)
        return any("ranked" in warning for warning in reply.trace.warnings)

    assert unranked()
    assert not unranked()


def test_pocket_encodes_no_document_that_an_earlier_process_did(tmp_path: Path) -> None:
    documents = ["The Halvern Museum was founded in 1931.", "The Orlec Bridge is 412 metres long."]

    def asked() -> tuple[int, int, str]:
        cache = PromptCache.from_pretrained("pocket", store=tmp_path)
        done = cache.cache_documents(documents, preamble=SYSTEM, progress=False)
        reply = cache.generate_text(
            SYSTEM + "\n\n".join(documents[::-1]) + "\n\nHow long is the bridge?", max_new_tokens=8
        )
        written(cache)
        return done.encoded, reply.usage.encoded, reply.text

    cold, warm = asked(), asked()
    assert cold[0] == 2
    assert warm == (0, 0, cold[2])


def test_turns_of_a_conversation_are_not_written_to_the_disk(tmp_path: Path) -> None:
    cache = engine(tmp_path)
    cache.cache_documents(DOCUMENTS, progress=False)
    cache.generate_messages(messages(0, 1), max_new_tokens=12)
    store = written(cache)
    assert len(store.memory.keys()) == len(store.tiers[1].keys()) + 1


def test_another_model_and_another_tenant_find_nothing(tmp_path: Path) -> None:
    mine = engine(tmp_path)
    mine.cache_documents(DOCUMENTS, preamble=SYSTEM, progress=False)
    written(mine)
    for other in (engine(tmp_path, "qwen2"), engine(tmp_path, namespace="theirs")):
        done = other.cache_documents(DOCUMENTS, preamble=SYSTEM, progress=False)
        assert done.encoded == len(DOCUMENTS)


def test_forgotten_documents_leave_the_disk(tmp_path: Path) -> None:
    cache = engine(tmp_path)
    cache.cache_documents(DOCUMENTS, preamble=SYSTEM, progress=False)
    held = len(cache.store.keys())
    cache.forget_documents(DOCUMENTS[:2])
    written(cache)
    assert len(DiskStore(tmp_path).keys()) == held - 2


def test_what_the_memory_tier_is_too_small_for_is_read_from_the_disk(tmp_path: Path) -> None:
    store = Tiers(MemoryStore(15_000), DiskStore(tmp_path, MIB))
    kept = engine(store)
    kept.cache_documents(DOCUMENTS, preamble=SYSTEM, progress=False)
    store.flush()
    assert store.unwritten == 0
    assert kept.cache_documents(DOCUMENTS, preamble=SYSTEM, progress=False).encoded == 0
    store.check_integrity()


def test_what_the_disk_is_too_slow_for_is_written_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ready = Event()

    class Slow(DiskStore):
        def put(self, key: str, kv: KV) -> bool:
            ready.wait()
            return super().put(key, kv)

    kv = states(20)
    store = Tiers(MemoryStore(MIB), Slow(tmp_path, MIB), waiting=3 * kv.nbytes)
    for number in range(9):
        assert store.put(f"k{number}", kv)
    assert store.unwritten == 6
    assert [record.message for record in caplog.records] == [
        "states come faster than the disk takes them: some are written later"
    ]
    ready.set()
    store.flush()
    assert store.unwritten == 0
    assert sorted(store.tiers[1].keys()) == [f"k{number}" for number in range(9)]


@pytest.mark.parametrize(("verify", "times"), [("first", 1), ("always", 3), ("never", 0)])
def test_a_file_is_read_through_as_often_as_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verify: str, times: int
) -> None:
    DiskStore(tmp_path, MIB).put("a", states())
    read_through = []
    checksum = files.checksum
    monkeypatch.setattr(files, "checksum", lambda *a: read_through.append(a) or checksum(*a))
    store = DiskStore(tmp_path, MIB, verify=verify)
    for _ in range(3):
        assert_equal(store.get("a"), states())
    assert len(read_through) == times


def written_to(path: Path, damaged: bytes) -> None:
    path.write_bytes(damaged)


def renamed_over(path: Path, damaged: bytes) -> None:
    """Another file by this name: its number may be one that this name's file had before."""
    for data in (path.read_bytes(), damaged):
        path.with_name("other").write_bytes(data)
        path.with_name("other").replace(path)


@pytest.mark.parametrize("change", [written_to, renamed_over])
def test_a_file_that_was_read_through_is_not_trusted_when_it_is_another_one(
    tmp_path: Path, change: Callable[[Path, bytes], None]
) -> None:
    store = DiskStore(tmp_path, MIB)
    store.put("a", states())
    assert_equal(store.get("a"), states())
    path = store.folder.path_of("a")
    data = path.read_bytes()
    change(path, data[:-1] + bytes([data[-1] ^ 1]))
    assert store.get("a") is None
    assert store.folder.damaged() == 1


@pytest.mark.parametrize("read_before", [False, True])
def test_what_is_put_again_repairs_a_file_that_is_damaged_behind_its_header(
    tmp_path: Path, read_before: bool
) -> None:
    store = DiskStore(tmp_path, MIB)
    store.put("a", states())
    if read_before:
        store.get("a")
    path = store.folder.path_of("a")
    data = path.read_bytes()
    renamed_over(path, data[:-1] + bytes([data[-1] ^ 1]))
    assert store.put("a", states())
    assert path.read_bytes() == data
    assert_equal(DiskStore(tmp_path, MIB).get("a"), states())


def test_using_a_file_is_no_reason_to_read_it_through_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DiskStore(tmp_path, MIB)
    store.put("a", states())
    store.get("a")
    monkeypatch.setattr(files, "checksum", lambda *_: pytest.fail("it was read through"))
    with ThreadPoolExecutor(1) as other:
        for _ in range(3):
            assert_equal(other.submit(store.get, "a").result(), states())


def test_settings_that_no_disk_tier_can_have_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(StoreError, match="file"):
        DiskStore(file)
    with pytest.raises(BudgetError, match="disk budget is 0"):
        DiskStore(tmp_path, 0)
    with pytest.raises(OptionError, match=r"'sometimes'.*always"):
        DiskStore(tmp_path, verify="sometimes")
    with pytest.raises(StoreError, match=r"'\.\./a'"):
        DiskStore(tmp_path).put("../a", states())


def test_a_whole_file_of_other_tensors_is_no_file_of_states(tmp_path: Path) -> None:
    for missing in range(4):
        parts = [part for i, part in enumerate(parts_of(states())) if i != missing]
        head = files.header(files.about("a", 0, parts), parts)
        with (tmp_path / "a").open("wb") as file:
            files.write(file, head, parts)
        with pytest.raises(DamagedFileError, match="other tensors"):
            read(tmp_path / "a", "a", lambda _: False)


def test_answers_of_many_threads_over_two_tiers_equal_those_of_memory_alone(
    tmp_path: Path,
) -> None:
    orders = [(i % 6, (i + 2) % 6, (i + 3) % 6) for i in range(24)]

    def answers(store: Store | None, workers: int) -> list[tuple[int, ...]]:
        cache = engine(store)
        cache.cache_documents(DOCUMENTS, progress=False)
        with ThreadPoolExecutor(workers) as pool:
            return list(
                pool.map(
                    lambda order: (
                        cache.generate_messages(messages(*order), max_new_tokens=4).token_ids
                    ),
                    orders,
                )
            )

    small = Tiers(MemoryStore(30_000), DiskStore(tmp_path, 70_000))
    assert answers(small, 8) == answers(None, 1)
    small.flush()
    small.check_integrity()
