"""S3, as a server on this machine speaks it: shared by engines, and cut off in a load."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.request import urlopen

import boto3
import pytest
from moto.server import ThreadedMotoServer

from promptcache import MemoryStore, PromptCache, RemoteStore, Reply, Store, Tiers
from promptcache.store.folder import SUFFIX
from support.library import DOCUMENTS, messages
from support.line import Line
from support.words import byte_tokenizer
from support.zoo import model

BUCKET = "states"
URL = f"s3://{BUCKET}/some/prefix"


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """A line to an S3 server with a bucket, which boto finds by itself."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    line = Line(server.get_host_and_port()[1])
    with urlopen(f"http://127.0.0.1:{line.port}/moto-api/reset", data=b""):
        """What servers before it were told is forgotten."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{line.port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    client.close()
    yield line
    line.join()
    server.stop()


def far(timeout: float = 60) -> RemoteStore:
    return RemoteStore(URL, timeout=timeout, storage_options={"skip_instance_cache": True})


def engine(store: Store | str) -> PromptCache:
    cache = PromptCache(model("llama"), byte_tokenizer(), store=store, conversations=False)
    cache.cache_documents(DOCUMENTS, progress=False)
    return cache


def asked(cache: PromptCache, *order: int) -> Reply:
    return cache.generate_messages(messages(*order), max_new_tokens=6)


def written(cache: PromptCache) -> Tiers:
    assert isinstance(cache.store, Tiers)
    cache.store.flush()
    return cache.store


def test_an_engine_reads_from_s3_what_another_has_encoded(line: Line) -> None:
    first = engine(Tiers(MemoryStore(1 << 20), far()))
    expected = asked(first, 2, 0, 5)
    written(first)
    client = boto3.client("s3")
    objects = client.list_objects_v2(Bucket=BUCKET)["Contents"]
    client.close()
    assert len(objects) == 4  # the preamble and three documents
    assert all(o["Key"].startswith("some/prefix/") and o["Key"].endswith(SUFFIX) for o in objects)
    reply = asked(engine(Tiers(MemoryStore(1 << 20), far())), 2, 0, 5)
    assert reply.token_ids == expected.token_ids
    assert reply.usage.encoded == 0
    assert {span.tier for span in reply.trace.spans if span.module} == {"remote"}


def test_states_in_s3_are_listed_and_deleted(line: Line) -> None:
    cache = engine(Tiers(MemoryStore(1 << 20), far()))
    asked(cache, 1)
    store = written(cache)
    keys = far().keys()
    assert sorted(keys) == sorted(store.memory.keys())
    assert all(far().delete(key) for key in keys)
    assert not any(far().delete(key) for key in keys)
    assert far().keys() == []


@pytest.mark.parametrize("nbytes", [0, 700, 8_000])
def test_a_server_that_stops_in_the_middle_of_a_load_costs_misses_not_an_answer(
    line: Line, nbytes: int, caplog: pytest.LogCaptureFixture
) -> None:
    first = engine(Tiers(MemoryStore(1 << 20), far()))
    expected = asked(first, 4, 3, 1)
    written(first)
    cache = engine(Tiers(MemoryStore(1 << 20), far(timeout=2)))
    line.cut_after(nbytes)
    reply = asked(cache, 4, 3, 1)
    assert reply.token_ids == expected.token_ids
    notes = [span.note for span in reply.trace.spans if span.module]
    assert "missed, encoded now" in notes
    assert any("cannot read attention states in s3://states" in r.message for r in caplog.records)
    assert asked(cache, 4, 3, 1).usage.encoded == 0
