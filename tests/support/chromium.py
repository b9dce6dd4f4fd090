"""A headless Chromium that tests drive by its DevTools protocol, as far as they need it."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from websockets.sync.client import connect

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SECONDS = 60
"""What anything may take here, on a machine that has other things to do."""
KEYS = {"Tab": ("Tab", 9, ""), "Enter": ("Enter", 13, "\r"), "Space": (" ", 32, " ")}


class Browser:
    """One page in a browser of its own. `problems` are the errors that the page reported."""

    def __init__(self, folder: Path) -> None:
        assert CHROMIUM is not None
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        self._process = subprocess.Popen(
            [
                CHROMIUM,
                *options,
                "--remote-debugging-port=0",
                f"--user-data-dir={folder}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._folder = folder
        self._open = ExitStack()
        self._open.callback(self._end)
        self.problems: list[str] = []
        self._number = 0

    def __enter__(self) -> Browser:
        with self._open:
            address = _address(self._folder / "DevToolsActivePort")
            self._socket = self._open.enter_context(connect(address, max_size=None))
            for part in ("Page", "Runtime", "Log", "Network"):
                self.do(f"{part}.enable")
            self._open = self._open.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait(SECONDS)

    def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol, and its result."""
        self._number += 1
        told = {"id": self._number, "method": method, "params": parameters}
        self._socket.send(json.dumps(told))
        while True:
            said = json.loads(self._socket.recv(SECONDS))
            if said.get("id") == self._number:
                assert "error" not in said, f"{method}: {said['error']}"
                result = said["result"]
                assert isinstance(result, dict)
                return result
            if said.get("method") == "Runtime.exceptionThrown":
                self.problems.append(json.dumps(said["params"]["exceptionDetails"]))
            if said.get("method") == "Log.entryAdded":
                entry = said["params"]["entry"]
                if entry["level"] in ("warning", "error") and entry["source"] != "network":
                    self.problems.append(entry["text"])

    def open(self, address: str) -> None:
        """Go to an address."""
        self.do("Page.navigate", url=address)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def value(self, expression: str) -> Any:
        """What an expression in JavaScript is worth in the page; promises are waited for."""
        said = self.do(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in said, f"{expression}: {said['exceptionDetails']}"
        return said["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until an expression holds."""
        end = time.monotonic() + SECONDS
        while not self.value(f"Boolean({expression})"):
            assert time.monotonic() < end, f"never: {expression}"
            time.sleep(0.05)

    def press(self, name: str) -> None:
        """Press a key, and let it go."""
        key, code, text = KEYS[name]
        about = {"key": key, "code": name, "windowsVirtualKeyCode": code}
        self.do("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        self.do("Input.dispatchKeyEvent", type="keyUp", **about)

    def write(self, text: str) -> None:
        """Write a text where the focus is."""
        self.do("Input.insertText", text=text)

    def show_as(self, theme: str) -> None:
        """Have the reader's system be "light" or "dark"."""
        feature = {"name": "prefers-color-scheme", "value": theme}
        self.do("Emulation.setEmulatedMedia", features=[feature])

    def be_wide(self, width: int, height: int = 800) -> None:
        """Have a window of so many pixels."""
        self.do(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )


def _address(file: Path) -> str:
    """The socket of the first page, once the browser has said where to ask for it."""
    end = time.monotonic() + SECONDS
    while not file.exists() or not file.read_text().strip():
        assert time.monotonic() < end, "the browser did not start"
        time.sleep(0.05)
    port = file.read_text().split()[0]
    with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=SECONDS) as response:
        pages = [target for target in json.load(response) if target["type"] == "page"]
    address = pages[0]["webSocketDebuggerUrl"]
    assert isinstance(address, str)
    return address
