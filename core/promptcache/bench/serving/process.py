"""A `promptcache serve` in a process of its own: started, watched, ended or killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from time import monotonic, sleep

from promptcache.bench.resident import of_process
from promptcache.errors import PromptCacheError

COMMAND = (sys.executable, "-c", "from promptcache.cli import main; main()")
PATIENCE = 120.0
"""Seconds that a server may take until it runs, and until it has ended."""


class ServerProcess:
    """A server of `model` on a free port. As a context manager, it ends with the block.

    Raises PromptCacheError, with the last that it said, for one that does not come to run.
    """

    def __init__(self, model: str, options: Sequence[str] = (), *, threads: int = 1) -> None:
        self.url = ""
        self._said: list[str] = []
        self._process = subprocess.Popen(
            [*COMMAND, "serve", model, "--port", "0", *options],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )
        self._reader = Thread(target=self._read)
        self._reader.start()
        until = monotonic() + PATIENCE
        while not self.url:
            if not self._reader.is_alive() or monotonic() > until:
                self.kill()
                raise PromptCacheError(f"the server does not run: {''.join(self._said[-3:])!r}")
            sleep(0.05)

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def resident(self) -> int:
        """Bytes that the process has in memory; 0 where the system does not say."""
        return of_process("VmRSS", self._process.pid)

    def kill(self) -> None:
        """End the process at once, whatever it does (SIGKILL)."""
        self._process.kill()
        self._wait()

    def stop(self) -> int:
        """Let the process finish what runs, and end (SIGTERM); its exit status."""
        self._process.send_signal(signal.SIGTERM)
        return self._wait()

    def _wait(self) -> int:
        status = self._process.wait(PATIENCE)
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()
        return status

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said = [*self._said[-20:], line]
            if found := re.search(r"running on (http://\S+)", line):
                self.url = found[1]


def command(*arguments: str | Path) -> str:
    """What another command of promptcache prints."""
    asked = [*COMMAND, *map(str, arguments)]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
