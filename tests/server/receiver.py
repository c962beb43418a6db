"""A real HTTP server that takes pushes, and answers as a test wants."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATIENCE = 20
"""Seconds after which something that should have happened has not."""


class Push:
    """One request, as it arrived."""

    def __init__(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        self.path = handler.path
        self.headers = handler.headers
        self.body = body
        self.json: Any = json.loads(body)


Answer = Callable[[Push, "Reply"], None]


class Reply:
    """What a test may do with a request."""

    def __init__(self, handler: BaseHTTPRequestHandler) -> None:
        self._handler = handler

    def send(self, status: int, body: bytes = b"", headers: Mapping[str, str] = {}) -> None:
        """Answer in full."""
        self._handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self._handler.send_header(name, value)
        self._handler.end_headers()
        self._handler.wfile.write(body)

    def write(self, raw: bytes) -> None:
        """Write to the connection, as it is."""
        self._handler.wfile.write(raw)
        self._handler.wfile.flush()


class Receiver(ThreadingHTTPServer):
    """Records what it gets; `answer` decides what it says, 200 unless told otherwise."""

    request_queue_size = 512
    daemon_threads = True
    block_on_close = False

    def __init__(self, answer: Answer | None = None, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer or (lambda push, reply: reply.send(200))
        self.pushes: list[Push] = []
        self.changed = threading.Condition()
        self.scheme = "http"
        if tls is not None:
            self.scheme = "https"
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def url(self, path: str = "/push", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    def wait(self, count: int) -> list[Push]:
        """The pushes, once there are `count` of them."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.pushes) >= count, PATIENCE), f"{len(self.pushes)} of {count}"
            return list(self.pushes)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that the other end has cut off are what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: Receiver
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        push = Push(self, self.rfile.read(int(self.headers["Content-Length"])))
        receiver = self.server
        with receiver.changed:
            receiver.pushes.append(push)
            receiver.changed.notify_all()
        receiver.answer(push, Reply(self))

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""


@contextmanager
def receiving(answer: Answer | None = None, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver on a free port of the loopback."""
    receiver = Receiver(answer, tls)
    thread = threading.Thread(target=receiver.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.shutdown()
        receiver.server_close()
        thread.join()
