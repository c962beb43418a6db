"""A small real HTTP server around our service, for tests: it can fail in every way a server can.

Threads of the standard library, one per connection. `foreign` makes it behave like a server of
another make: no batches, no clock in its answers, the id rules of its dialect (protocol 0.2),
preloads of ten records, messages that go out by a sweep and are gone if nobody listens.
"""

from __future__ import annotations

import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any, Literal
from urllib.parse import unquote

from msgspec.structs import replace

from resonate.clock import Clock, SystemClock
from resonate.protocol import wire
from resonate.protocol.chain import holds
from resonate.protocol.records import ORIGIN
from resonate.protocol.requests import (
    PromiseCreate,
    PromiseRegisterCallback,
    PromiseSearch,
    Request,
    Response,
    TaskCreate,
    TaskFence,
    TaskHeartbeat,
    TaskSearch,
    TaskSuspend,
)
from resonate.service.service import Service, Subscription
from resonate.storage.memory import MemoryStorage

Fault = Literal[
    "cut before", "cut after", "cut within", "404", "500", "503", "502 after", "garbage", "silence", "wrong corrId"
]

SWEEP = 0.3
"""Seconds between two sweeps of a foreign server's outbox."""

PRELOAD = 10
"""Records in a foreign server's preload."""


class WireServer:
    """A server on a free port of this machine.

    Args:
        service: what answers; default a new one in memory that repeats offers every second.
        foreign: the separator of the dialect of another make, "." or ":"; None for our own server.
        search: whether searches are answered.
        token: the bearer token that is asked for.
        beat: seconds between two comments on a silent stream; None sends none.
        clock_skew: milliseconds that this server's clock is ahead.
        tls: speak TLS by this context.
    """

    def __init__(
        self,
        service: Service | None = None,
        *,
        foreign: str | None = None,
        search: bool = True,
        token: str | None = None,
        beat: float | None = 15.0,
        clock_skew: int = 0,
        retry_timeout: int = 1000,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.clock: Clock = _Skewed(clock_skew)
        self.service = service or Service(MemoryStorage(), self.clock, retry_timeout=retry_timeout)
        self.foreign = foreign
        self.search = search
        self.token = token
        self.beat = beat
        self.kinds: list[str] = []
        self.posts: list[list[str]] = []
        self.heads: list[dict[str, str]] = []
        self.bodies: list[Any] = []
        self.streams = 0
        self.ended = 0
        self.connections = 0
        self.tls = tls
        self.frozen = False
        self.changed = threading.Condition()
        self._faults: list[tuple[Fault, str | None]] = []
        self._sockets: set[socket.socket] = set()
        self._server: _Server | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self._port}"

    def start(self) -> WireServer:
        """Listen, on the same port as before."""
        self.service.start()
        self._server = _Server(("127.0.0.1", self._port), self)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Go away: the port is closed and every connection cut."""
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        server.server_close()
        self.cut()
        self.service.stop()

    def cut(self) -> None:
        """Cut every connection that is open now."""
        with self.changed:
            sockets = list(self._sockets)
        for one in sockets:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def restart(self, service: Service | None = None) -> None:
        """Go away and come back on the same port, with another service if one is given."""
        self.stop()
        if service is not None:
            self.service = service
        self.start()

    def fail(self, fault: Fault, kind: str | None = None, times: int = 1) -> None:
        """Let the next requests, or the next that hold one of `kind`, end in `fault`."""
        with self.changed:
            self._faults += [(fault, kind)] * times

    def wait(self, ready: Callable[[], bool], timeout: float = 20.0) -> None:
        """Wait until `ready`, which is looked at after each request and each new stream."""
        with self.changed:
            assert self.changed.wait_for(ready, timeout), "the server was never asked for it"

    # ---- for the handlers -------------------------------------------------------------------------

    def opened(self, one: socket.socket) -> None:
        with self.changed:
            self.connections += 1
            self._sockets.add(one)

    def closed(self, one: socket.socket) -> None:
        with self.changed:
            self._sockets.discard(one)

    def note(self, kinds: list[str], heads: dict[str, str], body: Any) -> Fault | None:
        """Remember a post; the fault it is to end in."""
        with self.changed:
            self.kinds += kinds
            self.posts.append(kinds)
            self.heads.append(heads)
            self.bodies.append(body)
            self.changed.notify_all()
            for at, (fault, kind) in enumerate(self._faults):
                if kind is None or kind in kinds:
                    del self._faults[at]
                    return fault
        return None

    def answer(self, body: bytes) -> tuple[int, bytes]:
        """Answer one envelope."""
        return wire.answer(body, lambda request, now: self._handle(request), authorise=self._authorise)

    def answer_batch(self, body: Any) -> bytes:
        """Answer a batch."""
        answers: list[Any] = []
        for envelope in body["requests"]:
            call = wire.decode(json.dumps(envelope).encode(), authorise=self._authorise)
            if isinstance(call, wire.Refusal):
                answers.append(json.loads(call.body))
                if body["chain"]:
                    break
                continue
            response = self._handle(call.request)
            answers.append(json.loads(wire.encode(call, response)))
            if body["chain"] and not holds(call.request, response):
                break
        return json.dumps({"responses": answers}).encode()

    def _authorise(self, kind: str, auth: str | None, data: dict[str, Any]) -> int | None:
        return None if self.token is None or auth == self.token else 401

    def _handle(self, request: Request) -> Response:
        if isinstance(request, PromiseSearch | TaskSearch) and not self.search:
            return Response(501, error="search is not offered")
        if self.foreign is not None and (problem := _foreign_rule(request, self.foreign)) is not None:
            return Response(400, error=problem)
        answer = self.service.handle([request])[0]
        if self.foreign is not None and len(answer.preload) > PRELOAD:
            return replace(answer, preload=list(answer.preload)[:PRELOAD])
        return answer


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], owner: WireServer) -> None:
        self.owner = owner
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; the handshake is its handler's, at the first read."""
        one, address = super().get_request()
        if self.owner.tls is not None:
            one = self.owner.tls.wrap_socket(one, server_side=True, do_handshake_on_connect=False)
        return one, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that breaks is no news here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.owner.opened(self.connection)

    def finish(self) -> None:
        self.server.owner.closed(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""

    def do_POST(self) -> None:
        owner = self.server.owner
        raw = self.rfile.read(int(self.headers["content-length"]))
        body = json.loads(raw)
        if self.path not in ("/", "/batch") or (self.path == "/batch" and owner.foreign is not None):
            self._reply(404, b"", "text/plain")
            return
        kinds = [envelope["kind"] for envelope in body["requests"]] if self.path == "/batch" else [body["kind"]]
        fault = owner.note(kinds, dict(self.headers.items()), body)
        if fault in ("cut before", "404", "500", "503", "garbage", "silence"):
            self._fail(fault)
            return
        if self.path == "/":
            status, answer = owner.answer(raw)
        else:
            status, answer = 200, owner.answer_batch(body)
        if fault is not None:
            self._fail(fault, answer)
            return
        self._reply(status, answer)

    def do_GET(self) -> None:
        owner = self.server.owner
        _, poll, group, pid = (unquote(part) for part in self.path.split("/"))
        assert poll == "poll"
        if owner.token is not None and self.headers.get("authorization") != f"Bearer {owner.token}":
            self._reply(401, b"Unauthorized", "text/plain")
            return
        self._stream(group, pid)

    def _stream(self, group: str, pid: str) -> None:
        owner = self.server.owner
        woken = threading.Event()
        subscription = Subscription(group, pid, woken.set)
        owner.service.subscribe(subscription)
        try:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            self.wfile.flush()
            with owner.changed:
                owner.streams += 1
                owner.changed.notify_all()
            threading.Thread(target=self._notice_the_end, args=(subscription, woken), daemon=True).start()
            while not self.close_connection:
                told = woken.wait(SWEEP if owner.foreign is not None else owner.beat)
                woken.clear()
                if owner.frozen or self.close_connection:
                    continue
                lines = [b"data: " + wire.encode_message(m) + b"\n\n" for m in subscription.take(100)]
                if not told and not lines and owner.foreign is None:
                    lines = [b":\n\n"]
                for line in lines:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.flush()
        finally:
            subscription.close()
            with owner.changed:
                owner.ended += 1
                owner.changed.notify_all()

    def _notice_the_end(self, subscription: Subscription, woken: threading.Event) -> None:
        try:
            self.connection.recv(1)
        except OSError:
            pass
        subscription.close()
        self.close_connection = True
        woken.set()

    def _fail(self, fault: Fault, answer: bytes = b"") -> None:
        owner = self.server.owner
        match fault:
            case "cut before" | "cut after":
                self.close_connection = True
            case "cut within":
                self.close_connection = True
                self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(answer) + answer[:10])
            case "garbage":
                self._reply(200, b"<html>hello</html>", "text/html")
            case "wrong corrId":
                text = json.loads(answer)
                text["head"]["corrId"] = "somebody else's"
                self._reply(text["head"]["status"], json.dumps(text).encode())
            case "silence":
                with owner.changed:
                    owner.changed.wait_for(lambda: owner._server is None, 60)
                self.close_connection = True
            case "502 after":
                self._reply(502, b"Bad Gateway", "text/plain")
            case "404" | "500" | "503":
                self._reply(int(fault), b"trouble", "text/plain")

    def _reply(self, status: int, body: bytes, type: str = "application/json") -> None:
        owner = self.server.owner
        self.send_response(status)
        self.send_header("content-type", type)
        self.send_header("content-length", str(len(body)))
        if owner.foreign is None:
            self.send_header("resonate-batch", "1")
            self.send_header("resonate-now", str(owner.service.now()))
        self.end_headers()
        self.wfile.write(body)


class _Skewed(SystemClock):
    def __init__(self, skew: int) -> None:
        super().__init__()
        self.skew = skew

    def now(self) -> int:
        return super().now() + self.skew


def _foreign_rule(request: Request, separator: str) -> str | None:
    """What a server of another make says about the ids of `request` (D1, D4, D5)."""
    creates = [request] if isinstance(request, PromiseCreate) else []
    callbacks = [request] if isinstance(request, PromiseRegisterCallback) else []
    if isinstance(request, TaskCreate | TaskFence) and isinstance(request.action, PromiseCreate):
        creates.append(request.action)
    if isinstance(request, TaskSuspend):
        callbacks += request.actions
    for create in creates:
        origin = create.tags.get(ORIGIN, create.id)
        if separator in origin:
            return f"origin must not contain {separator!r}, got {origin!r}"
        if create.id != origin and not create.id.startswith(origin + separator):
            return f"id must be prefixed by its origin, got {create.id!r} for {origin!r}"
    for callback in callbacks:
        if callback.awaited.partition(separator)[0] != callback.awaiter.partition(separator)[0]:
            return f"awaited must have the origin of awaiter, got {callback.awaited!r} and {callback.awaiter!r}"
    if isinstance(request, TaskHeartbeat):
        origins = {ref.id.partition(separator)[0] for ref in request.tasks}
        if len(origins) != 1:
            return f"tasks must be of one origin, got {len(origins)}"
    return None


@contextmanager
def serving(**options: Any) -> Iterator[WireServer]:
    """A `WireServer` while the block runs."""
    server = WireServer(**options).start()
    try:
        yield server
    finally:
        server.stop()
