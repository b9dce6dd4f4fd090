"""A line to a server of this machine that can be cut in the middle of what is sent."""

from __future__ import annotations

import socket
from contextlib import suppress
from threading import Lock, Thread


class Line:
    """Hands on what is sent to `port` of this line to a server's port, and back.

    After `cut_after` so many bytes come back, and then nothing more, on any connection.
    """

    def __init__(self, server: int) -> None:
        self._server = server
        self._left: int | None = None
        self._lock = Lock()
        self._sockets: list[socket.socket] = []
        self._threads: list[Thread] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._start(self._accept)

    def cut_after(self, nbytes: int) -> None:
        with self._lock:
            self._left = nbytes

    def close(self) -> None:
        """Cut every connection, and take no more."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        with self._lock:
            ends = list(self._sockets)
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def join(self) -> None:
        """Close, and wait for all threads."""
        self.close()
        for thread in self._threads:
            thread.join()
        for end in self._sockets:
            end.close()

    def _start(self, work: object, *arguments: object) -> None:
        thread = Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                with self._lock:
                    self._sockets += [client, server]
                self._start(self._there, client, server)
                self._start(self._back, server, client)

    def _there(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 10):
                with self._lock:
                    if self._left is not None:
                        data = data[: self._left]
                        self._left -= len(data)
                    ended = self._left == 0
                client.sendall(data)
                if ended:
                    self.close()
            client.shutdown(socket.SHUT_WR)
