"""The remote tier: attention states at any fsspec URL, shared by machines; slow or gone, a miss."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, TypeVar

from promptcache.errors import OptionError
from promptcache.kv import KV
from promptcache.store import format as files
from promptcache.store import states
from promptcache.store.breaker import FIRST, Breaker
from promptcache.store.compression import packed
from promptcache.store.filesystem import FileSystem
from promptcache.store.folder import DAMAGED, SUFFIX
from promptcache.store.forks import lock_for_moments
from promptcache.store.format import DamagedFileError
from promptcache.store.host import on_host
from promptcache.store.naming import PRIVATE, checked_name, is_kept
from promptcache.store.protocol import NO_EFFORTS, Effort
from promptcache.store.told import Told
from promptcache.store.workers import Workers

T = TypeVar("T")
log = logging.getLogger("promptcache")

TIMEOUT = 5.0
WRITE_TIMEOUT = 60.0
WORKERS = 16
YEAR = 365 * 86_400
"""Seconds that nobody waits for."""
SLACK = 64
"""Bytes by which two files' beginnings may differ that say the same."""


class RemoteStore:
    """Keeps attention states at a URL that fsspec can open: "s3://bucket/prefix", "file:///...".

    The files are those of the disk tier, checked whenever they are read. All that one request
    looks for is fetched at once, by up to `workers` threads, and waited for at most `timeout`
    seconds; a write or a listing takes at most `write_timeout`. What is not there by then is
    missing. A remote that fails is left alone for a while: `rest` seconds first, and twice as long
    each time it fails again; one that cannot be written to is read on. A warning says so once for
    each kind of failure. A damaged file is moved to the folder `damaged` there, reported, and
    missing.

    It has no budget, and evicts nothing: other machines and the bucket's own rules do. What
    belongs to one process (`PRIVATE`) is not kept. `storage_options` are handed to fsspec. Nothing
    is connected to before something is asked for. Raises OptionError for a URL that cannot be
    opened, with the extra to install, and for seconds or numbers of threads that cannot be.
    """

    tier = "remote"

    def __init__(
        self,
        url: str,
        *,
        timeout: float = TIMEOUT,
        write_timeout: float = WRITE_TIMEOUT,
        rest: float = FIRST,
        workers: int = WORKERS,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        for name, value in (("timeout", timeout), ("write_timeout", write_timeout), ("rest", rest)):
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not 0 < value < YEAR:
                raise OptionError(
                    f"{name}={value!r:.80} is not valid; expected seconds, more than 0 and less "
                    f"than {YEAR:,}"
                )
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise OptionError(
                f"workers={workers!r:.80} is not valid; expected a number of threads, 1 or more"
            )
        self._files = FileSystem(url, storage_options or {})
        self._timeout = timeout
        self._write_timeout = write_timeout
        self._reads = Breaker(rest)
        self._writes = Breaker(rest)
        self._workers = Workers(workers)
        self._known: dict[str, int] = {}
        self._damaged: dict[str, Future[None]] = {}
        """What is moved out of the way, by key, until a good one was written in its place."""
        self._told = Told()
        self._lock = lock_for_moments()

    @property
    def budget(self) -> int:
        """More than there can be: what is kept there, its owner decides."""
        return sys.maxsize

    @property
    def nbytes(self) -> int:
        """The bytes of the states there that this process has read or written."""
        with self._lock:
            return sum(self._known.values())

    def get(self, key: str) -> KV | None:
        """The states under `key`."""
        kv, _ = self.find_all([key]).get(key, (None, ""))
        return kv

    def find(self, key: str) -> tuple[KV, str] | None:
        """The states under `key` and the name of this tier."""
        kv = self.get(key)
        return None if kv is None else (kv, self.tier)

    def find_all(
        self, keys: Iterable[str], efforts: Mapping[str, Effort] = NO_EFFORTS
    ) -> dict[str, tuple[KV | None, str]]:
        """What it has of these keys and can give within `timeout` seconds."""
        del efforts  # it is for who has several tiers to choose
        wanted = [checked_name(key) for key in keys if not key.startswith(PRIVATE)]
        if not wanted or not self._reads.lets_through():
            return {}
        jobs = {
            key: self._workers.begin(partial(self._files.read, f"{key}{SUFFIX}")) for key in wanted
        }
        done, late = wait(jobs.values(), self._timeout)
        for job in late:
            job.cancel()
        if late:
            self._warn("read", TimeoutError(f"no answer within {self._timeout:g} seconds"))
        answered = [isinstance(job.exception(), FileNotFoundError | None) for job in done]
        (self._reads.went_well if any(answered) else self._reads.failed)()
        found = {key: self._arrived(key, job) for key, job in jobs.items() if job in done}
        return {key: (kv, self.tier) for key, kv in found.items() if kv is not None}

    def holding(self, keys: Collection[str]) -> set[str]:
        """Which of these keys this process has read or written there."""
        with self._lock:
            return self._known.keys() & keys

    def sizes(self, keys: Collection[str]) -> dict[str, int]:
        """The bytes of the states of each of these keys that this process has read or written."""
        with self._lock:
            return {key: self._known[key] for key in keys if key in self._known}

    def put(self, key: str, kv: KV) -> bool:
        """Write `kv`, unless the same is there; False where that fails. Waits for it."""
        if key.startswith(PRIVATE):
            return False
        name = f"{checked_name(key)}{SUFFIX}"
        if not states.can_be_kept(kv):
            self._warn("write", TypeError("states of this dtype have no name in a file"))
            return False
        parts = states.parts_of(on_host(packed(kv), pinned=False))
        head = files.header(files.about(key, kv.start, parts, kv.cost, kv.origin), parts)
        with self._lock:
            moving = self._damaged.get(key)
        if moving is not None and wait([moving], self._write_timeout).not_done:
            return False  # or it would be this one that is moved

        def written() -> bool:
            if moving is not None or not self._is_there(name, head):
                data = b"".join((head, *(part.data for part in files.in_order(parts))))
                self._files.write(name, data)
            return True

        if not self._changed("write", written, self._write_timeout):
            return False
        with self._lock:
            self._known[key] = kv.nbytes
            if self._damaged.get(key) is moving:
                self._damaged.pop(key, None)
        return True

    def delete(self, key: str) -> bool:
        """Remove the file of `key`, for all machines. A warning says where that is not certain."""
        if key.startswith(PRIVATE):
            return False
        name = f"{checked_name(key)}{SUFFIX}"
        with self._lock:
            self._known.pop(key, None)
            moving = self._damaged.pop(key, None)
        if moving is not None:
            wait([moving], self._timeout)

        def gone() -> bool:
            self._files.delete(f"{DAMAGED}/{name}")  # which has its tokens in it, too
            return self._files.delete(name)

        deleted = self._changed("delete", gone, self._timeout)
        if deleted is None:
            log.warning("%s/%s may still be there: it could not be deleted", self._files.name, name)
        return bool(deleted)

    def keys(self) -> list[str]:
        """Every key, by a listing; none where that fails."""
        names = self._done("list", self._files.names, self._write_timeout, self._reads)
        found = (name.removesuffix(SUFFIX) for name in names or () if name.endswith(SUFFIX))
        return sorted(key for key in found if is_kept(key))

    def pin(self, key: str) -> None:
        """Nothing: nothing is evicted."""

    def unpin(self, key: str) -> None:
        """Nothing: nothing is evicted."""

    def evict(self) -> int:
        """Nothing: no memory of this machine is used."""
        return 0

    def check_integrity(self) -> None:
        """Nothing: others may change what is there at any time."""

    def _arrived(self, key: str, job: Future[bytes]) -> KV | None:
        """The states that were fetched, if they are what they must be."""
        try:
            kv = states.decoded(job.result(), key)
        except FileNotFoundError:
            with self._lock:
                self._known.pop(key, None)
            return None
        except DamagedFileError as error:
            self._set_aside(key, job.result(), error)
            return None
        except Exception as error:  # whatever a file system raises
            self._warn("read", error)
            return None
        with self._lock:
            self._known[key] = kv.nbytes
        return kv

    def _set_aside(self, key: str, damaged: bytes, reason: DamagedFileError) -> None:
        """Have an object moved out of the way, if it is this one still when its turn comes."""
        name = f"{key}{SUFFIX}"
        with self._lock:
            known = self._damaged.get(key)
        if known is not None and not known.done():
            return

        def moved() -> None:
            try:
                if self._files.read(name) == damaged:
                    self._files.move(name, DAMAGED)
            except FileNotFoundError:
                return  # others were quicker
            except Exception as error:  # whatever a file system raises
                self._warn("move", error)

        moving = self._workers.begin(moved)
        with self._lock:
            self._damaged[key] = moving
        if known is None:
            log.warning("%s/%s %s; it is moved to %s/", self._files.name, name, reason, DAMAGED)

    def _is_there(self, name: str, head: bytes) -> bool:
        try:
            found = self._files.read(name, len(head) + SLACK)
        except FileNotFoundError:
            return False
        return files.promised(found) == files.promised(head)

    def _changed(self, what: str, work: Callable[[], bool], timeout: float) -> bool | None:
        """What a change gives, if it is made: not where nothing can be read either."""
        return None if self._reads.rests() else self._done(what, work, timeout, self._writes)

    def _done(self, what: str, work: Callable[[], T], timeout: float, breaker: Breaker) -> T | None:
        """The result of work on the remote; None where it fails or takes too long."""
        if not breaker.lets_through():
            return None
        job = self._workers.begin(work)
        try:
            result = job.result(timeout)
        except Exception as error:  # whatever a file system raises, or the time is up
            late = not job.done()
            job.cancel()
            breaker.failed()
            self._warn(what, TimeoutError(f"no answer within {timeout:g} s") if late else error)
            return None
        breaker.went_well()
        return result

    def _warn(self, what: str, error: Exception) -> None:
        """Say once for each kind of failure that the remote does not do what it should."""
        kind = type(error).__name__
        self._told.once(
            f"{what} {kind}",
            f"cannot {what} attention states in {self._files.name}: {kind}: {error}; going on "
            "without",
        )
