"""Folders of attention states from the command line: encoded ahead, looked at, sent elsewhere."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from promptcache import DiskStore, PromptCache
from promptcache.kv import KV
from promptcache.store import states
from promptcache.store.folder import DAMAGED
from support.commands import Cli
from support.library import DOCUMENTS, SYSTEM, messages
from support.words import byte_tokenizer
from support.zoo import model

MIB = 2**20


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A folder with three modules of two models, used one after another."""
    store = DiskStore(tmp_path / "kept", 10**6)
    for name, tokens in (("aaaa-1", 30), ("bbbb-2", 20), ("bbbb-3", 10)):
        tensor = torch.zeros(2, tokens, 64, dtype=torch.bfloat16)
        store.put(name, KV((tensor, tensor), (tensor, tensor)))
    return tmp_path / "kept"


def test_ls_lists_what_a_folder_holds_by_when_it_was_used(cli: Cli, kept: Path) -> None:
    DiskStore(kept, 10**6).get("aaaa-1")
    status, out, _ = cli("ls", kept)
    assert status == 0
    assert re.findall(r"^(\w{4}-\d)\s+(\w{4})\s+(\d+)\s+2\s+BF16", out, re.M) == [
        ("bbbb-2", "bbbb", "20"), ("bbbb-3", "bbbb", "10"), ("aaaa-1", "aaaa", "30"),
    ]  # fmt: skip
    assert "3 modules of 2 models, 6" in out


def test_verify_says_what_is_damaged_and_fails_until_it_is_set_aside(cli: Cli, kept: Path) -> None:
    order = DiskStore(kept, 10**6).keys()
    assert cli("verify", kept)[:2] == (0, "3 of 3 files are whole\n")
    assert DiskStore(kept, 10**6).keys() == order
    path = kept / "bbbb-2.kv.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    status, out, _ = cli("verify", kept)
    assert status == 1
    assert "bbbb-2.kv.safetensors has checksum crc32:" in out
    assert "2 of 3 files are whole" in out
    assert cli("verify", kept)[:2] == (0, "2 of 2 files are whole\n")
    assert "1 damaged files among them" in cli("ls", kept)[1]


def test_gc_keeps_a_budget_and_what_was_used_last(cli: Cli, kept: Path) -> None:
    for budget, left in (("1GB", 3), ("33kB", 2), ("32 KiB", 2), ("0", 0)):
        status, out, _ = cli("gc", kept, "--budget", budget)
        assert status == 0
        assert "freed" in out
        assert DiskStore(kept, 10**6).keys() == ["aaaa-1", "bbbb-2", "bbbb-3"][3 - left :]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ls", "nowhere"), "no folder 'nowhere'"),
        (("verify", "nowhere"), "no folder 'nowhere'"),
        (("gc", ".", "--budget", "much"), "'much' is no number of bytes"),
        (("gc", ".", "--budget", "2XB"), "'2XB' is no number of bytes"),
        (("gc", ".", "--budget", "9" * 400), "is no number of bytes; expected for example 2GB"),
        (("gc", ".", "--budget", "9" * 5_000), "is no number of bytes; expected for example 2GB"),
    ],
)
def test_what_is_no_folder_or_no_budget_is_one_sentence(
    cli: Cli, arguments: tuple[str, ...], message: str
) -> None:
    status, _, err = cli(*arguments)
    assert status == 1
    assert message in err


def test_inspect_shows_what_one_module_is_and_whether_it_is_whole(cli: Cli, kept: Path) -> None:
    tensor = torch.zeros(2, 5, 64, dtype=torch.float16)
    side = {"rank": torch.zeros(5)}
    DiskStore(kept, MIB).put("cccc-4", KV((tensor,), (tensor,), 7, side, cost=0.25))
    status, out, _ = cli("inspect", kept, "cccc")
    assert status == 0
    for name, value in {
        "key": "cccc-4", "owner": "cccc", "model": "unknown", "token ids": "unknown",
        "tokens": "5, encoded from position 7 on",
        "states": "1 layers, 2 heads of 64 in the first, F16", "kept beside": "rank",
        "encoding took": "0.25 s", "checksum": "crc32:", "state": "whole",
    }.items():  # fmt: skip
        assert re.search(rf"^{name} +{value}", out, re.M)
    path = kept / "cccc-4.kv.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    status, out, _ = cli("inspect", kept, "cccc-4")
    assert status == 1
    assert "damaged: it is no whole safetensors file" in out
    assert path.exists()


def test_files_by_names_that_no_key_has_are_named_once_and_left_alone(
    cli: Cli, kept: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = ["my weights.kv.safetensors", "process-1.kv.safetensors"]
    for name in foreign:
        (kept / name).write_bytes(b"not ours")
    for command, expected in {
        ("ls", kept): "3 modules of 2 models",
        ("verify", kept): "3 of 3 files are whole",
        ("export", kept, tmp_path / "all.tar"): "62.7 kB",
        ("gc", kept, "--budget", "0"): "62.7 kB freed",
    }.items():
        caplog.clear()
        status, out, _ = cli(*command)
        assert (status, expected in out) == (0, True), out
        [record] = caplog.records
        assert "2 files whose names are those of no key, 'my weights.kv.saf" in record.message
    assert {path.name for path in kept.glob("*.safetensors")} == set(foreign)


@pytest.fixture
def archive(cli: Cli, kept: Path) -> Path:
    """An archive of the three modules."""
    status, out, _ = cli("export", kept, kept.parent / "modules.tar")
    assert status == 0
    assert re.search(r"^written +3 ", out, re.M)
    return kept.parent / "modules.tar"


def test_what_was_exported_is_imported_elsewhere_to_the_byte(
    cli: Cli, kept: Path, archive: Path, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    status, out, _ = cli("import", archive, there)
    assert status == 0
    assert re.search(r"^imported +3 ", out, re.M)
    for path in kept.glob("*.safetensors"):
        assert (there / path.name).read_bytes() == path.read_bytes()
    assert DiskStore(there, MIB).keys() == DiskStore(kept, MIB).keys()
    assert cli("verify", there)[:2] == (0, "3 of 3 files are whole\n")
    assert archive.stat().st_mode & 0o777 == 0o600
    assert not [p for p in there.iterdir() if p.is_dir()]
    status, out, _ = cli("import", archive, there)
    assert status == 0
    assert re.search(r"^there already +3 ", out, re.M)


def test_some_modules_are_exported_and_damaged_ones_are_left_out(cli: Cli, kept: Path) -> None:
    target = kept.parent / "some.tar"
    status, *_ = cli("export", kept, target, "--key", "bbbb", "--key", "aaaa-1")
    assert status == 0
    status, *_ = cli("export", kept, target, "--key", "bbbb-3")
    path = kept / "bbbb-2.kv.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    status, out, _ = cli("export", kept, target, "--key", "bbbb")
    assert status == 1
    assert re.search(r"^left out +1 ", out, re.M)
    assert "bbbb-2 has checksum" in out
    assert (kept / DAMAGED / path.name).exists()
    with tarfile.open(target) as tar:
        assert tar.getnames() == ["manifest.json", "bbbb-3.kv.safetensors"]
        assert set(json.load(tar.extractfile("manifest.json"))["modules"]) == {"bbbb-3"}  # type: ignore[arg-type]


def test_an_import_keeps_the_budget_and_the_modules_used_last(
    cli: Cli, archive: Path, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    status, out, _ = cli("import", archive, there, "--budget", "33kB")
    assert status == 0
    assert DiskStore(there, MIB).keys() == ["bbbb-2", "bbbb-3"]
    assert "made 1 modules go" in out
    status, out, _ = cli("import", archive, tmp_path / "small", "--budget", "20kB")
    assert status == 1
    assert "aaaa-1 has 31,168 bytes, more than the budget" in out
    assert DiskStore(tmp_path / "small", MIB).nbytes <= 20_000


def test_an_import_never_takes_more_than_the_budget_not_even_while_it_checks(
    cli: Cli, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []
    decoded = states.decoded

    def watched(data: bytes, key: str) -> KV:
        taken.append(sum(path.stat().st_size for path in (tmp_path / "there").rglob("*")))
        return decoded(data, key)

    monkeypatch.setattr(states, "decoded", watched)
    assert cli("import", archive, tmp_path / "there", "--budget", "33kB")[0] == 0
    assert len(taken) == 3 and max(taken) <= 33_000


def test_what_the_folder_has_already_is_not_replaced(
    cli: Cli, archive: Path, tmp_path: Path
) -> None:
    mine = torch.ones(2, 10, 64, dtype=torch.bfloat16)
    store = DiskStore(tmp_path / "there", MIB)
    store.put("bbbb-3", KV((mine,), (mine,)))
    assert cli("import", archive, tmp_path / "there")[0] == 0
    held = DiskStore(tmp_path / "there", MIB).get("bbbb-3")
    assert held is not None and torch.equal(held.keys[0], mine)


Entries = list[tuple[tarfile.TarInfo, bytes]]


def entries(archive: Path) -> Entries:
    with tarfile.open(archive) as tar:
        return [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]


def rewritten(archive: Path, members: Entries) -> None:
    with tarfile.open(archive, "w", format=tarfile.USTAR_FORMAT) as tar:
        for member, data in members:
            tar.addfile(member, io.BytesIO(data) if member.isreg() else None)


def called(as_name: str, **fields: object) -> Callable[[Entries], None]:
    """A change of the second module's entry, in the manifest as well."""

    def change(members: Entries) -> None:
        member, data = members[2]
        told = json.loads(members[0][1])
        told["modules"] |= {as_name.removesuffix(".kv.safetensors"): len(data)}
        manifest = json.dumps(told).encode()
        members[0][0].size = len(manifest)
        members[0] = (members[0][0], manifest)
        member.name = as_name
        for field, value in fields.items():
            setattr(member, field, value)

    return change


def listed(told: object) -> Callable[[Entries], None]:
    def change(members: Entries) -> None:
        manifest = told if isinstance(told, bytes) else json.dumps(told).encode()
        members[0][0].size = len(manifest)
        members[0] = (members[0][0], manifest)

    return change


def twice(members: Entries) -> None:
    members.insert(2, members[1])


LINK = {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd", "size": 0}
FORMAT = {"promptcache archive": "1"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (called("../../evil.kv.safetensors"), "its manifest lists '../../evil'"),
        (called("/tmp/evil.kv.safetensors"), "its manifest lists '/tmp/evil'"),
        (called("process-1.kv.safetensors"), "its manifest lists 'process-1'"),
        (called(".bashrc"), "its manifest lists '.bashrc'"),
        (called("evil.sh"), "its manifest lists 'evil.sh'"),
        (
            called("x.kv.safetensors", name="../evil.kv.safetensors"),
            "holds '../evil.kv.safetensors'",
        ),
        (called("x.kv.safetensors", **LINK), "is no plain file"),
        (called("x.kv.safetensors", **{**LINK, "type": tarfile.LNKTYPE}), "is no plain file"),
        (called("x.kv.safetensors", type=tarfile.FIFOTYPE, size=0), "is no plain file"),
        (called("x.kv.safetensors", type=tarfile.DIRTYPE, size=0), "is no plain file"),
        (called("x.kv.safetensors", type=tarfile.GNUTYPE_SPARSE), "is no plain file"),
        (called("x.kv.safetensors", type=tarfile.GNUTYPE_LONGNAME), "is no plain file"),
        (called("x.kv.safetensors", type=tarfile.XHDTYPE), "is no plain file"),
        (twice, "lists once only"),
        (listed(b"[" * 100_000), "its manifest cannot be read"),
        (listed(b"\xff\xfe"), "its manifest cannot be read"),
        (listed([]), "its manifest cannot be read"),
        (listed({**FORMAT, "modules": [[1, 2]]}), "its manifest lists 1"),
        (listed({**FORMAT, "modules": {"a": -1}}), "its manifest lists 'a' with -1"),
        (listed({**FORMAT, "modules": {"a": 10**30}}), "which its manifest does not list"),
        (listed({"promptcache archive": "2", "modules": {}}), "has format '2'"),
    ],
)
def test_an_archive_that_no_export_wrote_is_refused_and_nothing_of_it_is_used(
    cli: Cli, archive: Path, tmp_path: Path, change: Callable[[Entries], None], message: str
) -> None:
    members = entries(archive)
    change(members)
    rewritten(archive, members)
    before = {path for path in tmp_path.rglob("*") if "there" not in path.parts}
    status, _, err = cli("import", archive, tmp_path / "there")
    assert status == 1
    assert message in err
    assert "Traceback" not in err
    assert {path for path in tmp_path.rglob("*") if "there" not in path.parts} == before
    left = {path.name for path in (tmp_path / "there").rglob("*")} - {".kv.lock"}
    assert left <= {"aaaa-1.kv.safetensors"}


def test_an_archive_that_is_cut_anywhere_or_is_none_leaves_only_whole_modules(
    cli: Cli, archive: Path, tmp_path: Path
) -> None:
    whole = archive.read_bytes()
    for number, length in enumerate([0, 1, 511, 512, 700, 1024, 20_000, 40_000, len(whole) - 1024]):
        archive.write_bytes(whole[:length])
        there = tmp_path / str(number)
        status, _, err = cli("import", archive, there)
        assert status == 1
        assert "error: " in err
        assert cli("verify", there)[0] == 0
    archive.write_bytes(os.urandom(5_000))
    assert cli("import", archive, tmp_path / "there")[0] == 1


def test_bits_that_flipped_in_an_archive_leave_one_module_out(
    cli: Cli, archive: Path, tmp_path: Path
) -> None:
    whole = archive.read_bytes()
    for number, place in enumerate((2_000, 3_000, 20_000)):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        archive.write_bytes(damaged)
        status, out, _ = cli("import", archive, tmp_path / str(number))
        assert status == 1
        assert "aaaa-1 " in out
        assert DiskStore(tmp_path / str(number), MIB).keys() == ["bbbb-2", "bbbb-3"]


def test_an_entry_that_claims_to_be_giant_is_refused_before_anything_is_read(
    cli: Cli, archive: Path, tmp_path: Path
) -> None:
    whole = bytearray(archive.read_bytes())
    giant = tarfile.TarInfo("manifest.json")
    giant.size = 8**11 - 1
    whole[:512] = giant.tobuf(tarfile.USTAR_FORMAT)
    archive.write_bytes(whole)
    status, _, err = cli("import", archive, tmp_path / "there")
    assert status == 1
    assert "is cut short in 'manifest.json'" in err


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A model in a folder."""
    model("llama").save_pretrained(tmp_path / "model")
    byte_tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for number, text in enumerate(DOCUMENTS):
        (folder / f"{number}.md").write_text(f"{text}\n")
    return folder


def test_documents_that_were_encoded_ahead_are_all_found_by_a_later_engine(
    cli: Cli, tmp_path: Path, tiny: Path, docs: Path
) -> None:
    (tmp_path / "system.txt").write_text(SYSTEM)
    status, out, err = cli(
        "encode", tiny, "--docs", docs, "--preamble", tmp_path / "system.txt",
        "--store", tmp_path / "store",
    )  # fmt: skip
    assert status == 0
    assert re.search(r"^encoded in \d+\.\d s +7 ", out, re.M)  # the preamble, too
    assert "6/6" in err
    cache = PromptCache.from_pretrained(tiny, store=tmp_path / "store")
    cache.cache_documents(DOCUMENTS, progress=False)
    reply = cache.generate_messages(messages(3, 0, 5), max_new_tokens=1)
    assert reply.usage.encoded == 0
    assert {span.tier for span in reply.trace.spans if span.module} == {"disk"}


def test_inspect_shows_of_which_model_and_text_a_module_is(
    cli: Cli, tmp_path: Path, tiny: Path
) -> None:
    store = DiskStore(tmp_path / "store", MIB)
    cache = PromptCache.from_pretrained(tiny, store=store)
    cache.cache_documents(DOCUMENTS[:1], preamble=SYSTEM, progress=False)
    ids = [str(each) for each in cache.token_ids(DOCUMENTS[0])]
    told = {key: kv.origin for key in store.keys() if (kv := store.get(key))}  # noqa: SIM118
    [key] = [key for key, origin in told.items() if origin["tokens"] == " ".join(ids)]
    status, out, _ = cli("inspect", store.folder.path, key, "--tokenizer", tiny)
    assert status == 0
    assert re.fullmatch(r"[0-9a-f]{40}", told[key]["model"])
    assert re.search(rf"^model +{told[key]['model']} *$", out, re.M)
    shown = " ".join(ids[:12])
    assert re.search(rf"^token ids +{shown} and {len(ids) - 12} more *$", out, re.M)
    assert re.search(rf"^text +'{re.escape(DOCUMENTS[0])}' *$", out, re.M)
    status, _, err = cli("inspect", tmp_path / "store", key, "--tokenizer", tmp_path)
    assert (status, "Traceback" in err) == (1, False)


@pytest.mark.parametrize(
    ("context", "modules"), [("preamble", "7"), ("expected", "7"), ("bare", "6")]
)
def test_nothing_is_encoded_twice_with_the_same_settings(
    cli: Cli, tmp_path: Path, tiny: Path, docs: Path, context: str, modules: str
) -> None:
    arguments = ("encode", tiny, "--docs", docs, "--role", "user", "--context", context)
    counted = []
    for compression in ("int8", "int8"):
        given = (*arguments, "--compression", compression, "--store", tmp_path / "store")
        status, out, _ = cli(*given)
        assert status == 0
        counted.append(re.findall(r"^(?:encoded in [\d.]+ s|in the folder) +(\d+) ", out, re.M))
    assert counted == [[modules, modules], ["0", modules]]


def test_schemas_are_encoded_ahead_for_one_tenant_only(
    cli: Cli, tmp_path: Path, tiny: Path, docs: Path
) -> None:
    pml = tmp_path / "trip.pml"
    pml.write_text(
        '<schema name="trip"><system>You plan trips.</system><user><module name="miami">Miami is '
        'hot.</module><collection name="docs"/></user></schema>'
    )
    status, out, _ = cli(
        "encode", tiny, "--pml", pml, "--docs", docs, "--store", tmp_path / "store",
        "--namespace", "alice",
    )  # fmt: skip
    assert status == 0
    assert "in the folder" in out
    for namespace, encodes in (("alice", False), ("bob", True)):
        cache = PromptCache.from_pretrained(tiny, store=tmp_path / "store", namespace=namespace)
        cache.add_schema(pml.read_text(), encode=False)
        reply = cache.generate('<prompt schema="trip"><miami/>Go?</prompt>', max_new_tokens=1)
        assert bool(reply.usage.encoded) == encodes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("inspect", "kept", "zz"), "no module in 'kept' has a key that begins with 'zz'"),
        (("inspect", "kept", "bbbb"), "2 keys begin with 'bbbb', bbbb-2 and bbbb-3 first"),
        (("inspect", "nowhere", "a"), "no folder 'nowhere'"),
        (("export", "kept", "a.tar", "--key", "zz"), "no module in 'kept' has a key that begins"),
        (("export", "kept", "no/such/a.tar"), "the archive 'no/such/a.tar' cannot be written"),
        (("import", "no.tar", "kept"), "there is no archive 'no.tar'"),
        (("import", "kept", "kept"), "there is no archive 'kept'"),
        (("import", "a.pml", "kept", "--budget", "0"), "the disk budget is 0"),
        (("encode", "pocket", "--store", "s"), "give --pml FILE or --docs FOLDER"),
        (("encode", "pocket", "--store", "s", "--docs", "nowhere"), "there is no folder 'nowhere'"),
        (("encode", "pocket", "--store", "s", "--docs", "kept"), "there is no text in 'kept'"),
        (("encode", "pocket", "--store", "s", "--pml", "no.pml"), "no.pml cannot be read"),
        (
            ("encode", "pocket", "--store", "s", "--pml", "no.pml", "--role", "user"),
            "--preamble and --role are for --docs without --pml",
        ),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    cli: Cli,
    kept: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(kept.parent)
    Path("a.pml").touch()
    status, _, err = cli(*arguments)
    assert status == 1
    assert message in err
    assert "Traceback" not in err
