"""HTTP requests to one server: tried again where it asks for that, its errors raised as ours."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import finalize

from promptcache.errors import (
    MissingExtraError,
    OptionError,
    PromptCacheError,
    RemoteError,
    kinds_by_code,
)

try:
    import httpx
except ModuleNotFoundError as missing:
    raise MissingExtraError("base_url=", "client") from missing

BUSY = 429
FIRST_PAUSE = 0.5
"""Seconds until a server that cannot be reached is tried again; twice as long the next time."""
LONGEST_PAUSE = 60.0


class Transport:
    """Requests to the server at `base_url`. Safe to use from several threads.

    `timeout` is in seconds, for a connection and for every wait for more of an answer;
    `max_retries` is how many times a request is sent again to a server that is full, or that
    cannot be reached. Raises OptionError for what is no URL, number or key.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        timeout: float,
        max_retries: int,
    ) -> None:
        self.url = _address(base_url)
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
            raise OptionError(f"timeout={timeout!r:.80} is not a number of seconds above 0")
        whole = isinstance(max_retries, int) and not isinstance(max_retries, bool)
        if not whole or max_retries < 0:
            raise OptionError(f"max_retries={max_retries!r:.80} is not a whole number from 0")
        self._timeout, self._retries = float(timeout), max_retries
        self._client = httpx.Client(
            base_url=self.url,
            headers={"Content-Type": "application/json", **_authorization(api_key)},
            timeout=self._timeout,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=8),
        )
        finalize(self, self._client.close)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """What the server answers, read as JSON. `body` is sent as JSON, or as it is if bytes.

        Raises RemoteError where there is no server or no place, and what it says as the error
        that an engine in this process would raise.
        """
        with self._opened(method, path, body) as response:
            response.read()
            return self._json(response.text)

    @contextmanager
    def events(self, path: str, body: object) -> Iterator[Iterator[Any]]:
        """What the server sends in answer, as it comes: server-sent events, or lines of JSON."""
        with self._opened("POST", path, body) as response:
            yield self._events(response)

    @contextmanager
    def _opened(self, method: str, path: str, body: object) -> Iterator[httpx.Response]:
        with self._errors():
            response = self._sent(method, path, body)
            try:
                yield response
            finally:
                response.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise RemoteError for what httpx raises in the block."""
        try:
            yield
        except httpx.TimeoutException as error:
            raise RemoteError(
                f"{self.url} said nothing for {self._timeout:g} s (timeout=)"
            ) from error
        except httpx.HTTPError as error:
            said = str(error) or type(error).__name__
            raise RemoteError(f"{self.url} cannot be reached, or hung up: {said}") from error

    def _sent(self, method: str, path: str, body: object) -> httpx.Response:
        """The begun response to a request, whose status says that it is served."""
        content = body if isinstance(body, bytes) or body is None else _written(body)
        for again in range(self._retries, -1, -1):
            request = self._client.build_request(method, path, content=content)
            try:
                response = self._client.send(request, stream=True)
            except httpx.ConnectError:
                if not again:
                    raise
                time.sleep(FIRST_PAUSE * 2 ** (self._retries - again))
                continue
            if response.is_success:
                return response
            try:
                response.read()
            finally:
                response.close()
            if response.status_code != BUSY or not again:
                raise self._error(response)
            time.sleep(_pause(response.headers.get("retry-after", "")))
        raise AssertionError("the last try either returns or raises")

    def _events(self, response: httpx.Response) -> Iterator[Any]:
        with self._errors():
            for line in response.iter_lines():
                said = line.removeprefix("data: ").strip()
                if not said or said == "[DONE]":
                    continue
                event = self._json(said)
                if isinstance(event, dict) and isinstance(event.get("error"), dict):
                    raise _raised(event["error"], 200)
                yield event

    def _error(self, response: httpx.Response) -> PromptCacheError:
        try:
            error = response.json()["error"]
            return _raised(error, response.status_code)
        except (ValueError, LookupError, TypeError):
            return RemoteError(
                f"{self.url} answered {response.status_code}, and not as a promptcache server does",
                status=response.status_code,
            )

    def _json(self, text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError as error:
            raise RemoteError(f"{self.url} says {text!r:.80}, which is no JSON") from error


def _address(base_url: object) -> str:
    """The server's address, without the `/v1` that clients of OpenAI's API put behind it."""
    if not isinstance(base_url, str):
        raise OptionError(f"base_url={base_url!r:.80} is no URL, such as 'http://127.0.0.1:8000'")
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise OptionError(f"base_url={base_url!r:.80} is no URL: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise OptionError(f"base_url={base_url!r:.80} is no URL, such as 'http://127.0.0.1:8000'")
    return base_url.rstrip("/").removesuffix("/v1")


def _authorization(api_key: object) -> dict[str, str]:
    if api_key is None or api_key == "":
        return {}
    if not isinstance(api_key, str) or not api_key.isascii() or not api_key.isprintable():
        raise OptionError("api_key= is no key: expected a text of printable ASCII characters")
    return {"Authorization": f"Bearer {api_key}"}


def _written(body: object) -> bytes:
    """A body as JSON. Raises OptionError for what is none."""
    try:
        return json.dumps(body).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise OptionError(f"the request cannot be sent: {error}") from error


def _pause(told: str) -> float:
    """Seconds that the server asks to wait."""
    return min(float(told), LONGEST_PAUSE) if told.isdecimal() else FIRST_PAUSE


def _raised(error: dict[str, Any], status: int) -> PromptCacheError:
    """An error of the server's with its own sentence, as the kind that its code names."""
    message, code = str(error["message"]), error.get("code")
    kind = kinds_by_code().get(str(code))
    if kind is not None and not issubclass(kind, MissingExtraError):
        return kind(message)
    if status == 400:
        return OptionError(message)
    return RemoteError(message, status=status, code=None if code is None else str(code))
