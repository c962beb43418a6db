"""A proxy between a program and its database that cuts connections where it is told to."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Final

CHUNK: Final = 65_536


class Proxy:
    """Listens on a free port and passes everything on to a server.

    Attributes:
        cut_before: of all messages that clients send, the number of one that never arrives.
        cut_after: of all messages that clients send, the number of one whose answer never arrives.
        silent: nothing is passed on in either direction, and nobody is told.
        refusing: new connections are closed at once.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._server = (host, port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.sent = 0
        self.cut_before = -1
        self.cut_after = -1
        self.silent = threading.Event()
        self.refusing = False
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, url: str) -> str:
        """`url`, through this proxy."""
        return url.replace(f":{self._server[1]}/", f":{self.port}/", 1)

    def cut(self) -> None:
        """End all connections now."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            self._end(pair)

    def close(self) -> None:
        """Pass nothing on any more. Idempotent."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            if self.refusing:
                client.close()
                continue
            try:
                server = socket.create_connection(self._server)
            except OSError:
                client.close()
                continue
            pair = client, server
            with self._lock:
                self._pairs.add(pair)
            threading.Thread(target=self._pass, args=(pair, client, server, self._from_client), daemon=True).start()
            threading.Thread(target=self._pass, args=(pair, server, client, lambda pair: True), daemon=True).start()

    def _pass(
        self,
        pair: tuple[socket.socket, socket.socket],
        source: socket.socket,
        target: socket.socket,
        allowed: Callable[[tuple[socket.socket, socket.socket]], bool],
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                if self.silent.is_set():
                    continue
                if not allowed(pair):
                    break
                target.sendall(data)
        self._end(pair)

    def _from_client(self, pair: tuple[socket.socket, socket.socket]) -> bool:
        """Count what a client sends; whether it is passed on."""
        with self._lock:
            number = self.sent
            self.sent += 1
        if number == self.cut_after:  # it arrives, and nobody hears what became of it
            with contextlib.suppress(OSError):
                pair[0].shutdown(socket.SHUT_WR)
            return True
        return number != self.cut_before

    def _end(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._lock:
            if pair not in self._pairs:
                return
            self._pairs.discard(pair)
        for end in pair:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
