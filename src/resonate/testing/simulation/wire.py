"""The network between processes and the server: what is sent takes time, and may not arrive.

Connections carry the bytes of the real client to the real server and back. Each request and
each message of a stream has a number; the list of faults says what happens to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from resonate.network.http.connection import CONNECT, REQUEST, Answer, Lost
from resonate.testing.simulation.faults import Fault
from resonate.testing.simulation.server import Listener
from resonate.testing.simulation.tasks import Signal

if TYPE_CHECKING:
    from resonate.testing.simulation.process import Process
    from resonate.testing.simulation.simulation import Simulation

QUICK: Final = (0, 0, 0, 1, 1, 2, 5)
"""Milliseconds that something takes to arrive."""

AGAIN: Final = 2_000
"""Milliseconds, at most, after which a doubled request arrives for the second time."""


class _Box:
    """Where an answer arrives."""

    __slots__ = ("answer", "lost", "signal")

    def __init__(self, signal: Signal) -> None:
        self.signal = signal
        self.answer: Answer | None = None
        self.lost: Lost | None = None

    def put(self, answer: Answer | Lost) -> None:
        """What came first counts."""
        if not self.signal.on:
            if isinstance(answer, Lost):
                self.lost = answer
            else:
                self.answer = answer
            self.signal.set()


class Wire:
    """All connections of one simulation."""

    def __init__(self, world: Simulation) -> None:
        self._world = world
        self.requests = 0
        self.messages = 0
        self._open: list[tuple[_Box, Process]] = []
        self._streams: list[StreamConnection] = []

    # ---- requests --------------------------------------------------------------------------------

    def ask(self, process: Process, request: bytes) -> Answer:
        """Send a request and wait for its answer.

        Raises:
            Lost: none came.
        """
        world = self._world
        self.requests += 1
        fault = world.fate.fault_of("request", self.requests)
        box = _Box(Signal(world.tasks))
        end = world.clock.now() + int(REQUEST * 1000)
        if process.cut:
            end = self._into_the_void(process, box)
        elif not world.server.up:
            world.soon(lambda: box.put(Lost("connection refused", sent=False)), self._latency())
        else:
            self._send(process, request, fault, box)
        self._open.append((box, process))
        arrived = box.signal.wait(end)
        self._open = [entry for entry in self._open if entry[0] is not box]
        process.check()
        if not arrived:
            raise Lost("no answer within 10 s" if not process.cut else "timed out", sent=True)
        if box.lost is not None:
            raise box.lost
        assert box.answer is not None
        return box.answer

    def _into_the_void(self, process: Process, box: _Box) -> int:
        """Nobody is reached: a new connection fails, an old one stays silent; until when one waits."""
        world = self._world
        if process.silent:
            return world.clock.now() + int(REQUEST * 1000)
        world.soon(lambda: box.put(Lost("no route to host", sent=False)), int(CONNECT * 1000))
        return world.clock.now() + int(REQUEST * 1000)

    def _send(self, process: Process, request: bytes, fault: Fault | None, box: _Box) -> None:
        world = self._world
        generation = world.server.generation
        what = "" if fault is None else fault.what
        there, back = self._latency(), self._latency()

        def lost(reason: str) -> Callable[[], object]:
            return lambda: box.put(Lost(reason, sent=True))

        def reply(status: int, headers: dict[bytes, bytes], body: bytes) -> None:
            pause = back + (min(fault.ms, 9_000) if fault is not None and what == "slow" else 0)
            if what == "bad gateway":
                world.soon(lambda: box.put(Answer(502, {}, b"bad gateway")), pause)
            elif what == "unanswered":
                world.soon(lost("connection reset"), pause)
            elif not process.cut:
                world.soon(lambda: None if process.cut else box.put(Answer(status, headers, body)), pause)

        def arrive() -> None:
            if not world.server.up or world.server.generation != generation:
                world.soon(lost("connection reset"), 0)
            elif not process.cut:
                world.server.ask(request, reply)

        if what == "lost":
            return
        if what == "reset":
            world.soon(lost("connection reset"), there)
            return
        if what == "busy":
            world.soon(lambda: box.put(Answer(503, {}, b"busy")), there)
            return
        if what == "late":
            assert fault is not None
            there += 10_000 + fault.ms
        world.soon(arrive, there)
        if what == "twice":
            world.soon(lambda: self._again(request), there + world.random.randint(0, AGAIN))

    def _again(self, request: bytes) -> None:
        if self._world.server.up:
            self._world.server.ask(request, lambda *_: None)

    def _latency(self) -> int:
        return self._world.random.choice(QUICK)

    # ---- streams ---------------------------------------------------------------------------------

    def open_stream(self, process: Process, path: str) -> StreamConnection:
        """A connection for the messages of a process.

        Raises:
            Lost: the server cannot be reached.
        """
        world = self._world
        world.tasks.until(lambda: process.gone, world.clock.now() + self._latency() + 1)
        process.check()
        if process.cut or not world.server.up:
            raise Lost("cannot connect: refused", sent=False)
        stream = StreamConnection(world, self, process, path)
        self._streams.append(stream)
        return stream

    def forget(self, stream: StreamConnection) -> None:
        """A stream has ended."""
        if stream in self._streams:
            self._streams.remove(stream)

    # ---- disasters -------------------------------------------------------------------------------

    def server_gone(self) -> None:
        """Every connection to the server breaks."""
        for box, process in self._open:
            if not process.cut:
                self._world.soon(lambda box=box: box.put(Lost("connection reset", sent=True)), self._latency())  # type: ignore[misc]
        for stream in list(self._streams):
            stream.broken("the server is gone")

    def process_gone(self, process: Process) -> None:
        """The connections of a dead process break; the server hears of it soon."""
        for stream in list(self._streams):
            if stream.process is process:
                stream.hang_up()
        for box, owner in self._open:
            if owner is process:
                box.signal.set()

    def mended(self, process: Process) -> None:
        """A process that was cut off is not any more: its old stream turns out to be dead."""
        for stream in list(self._streams):
            if stream.process is process:
                stream.broken("connection reset", heard=True)


class StreamConnection:
    """The client's end of a stream of messages; stands for a `Connection` and for its socket."""

    def __init__(self, world: Simulation, wire: Wire, process: Process, path: str) -> None:
        self._world = world
        self._wire = wire
        self.process = process
        self.socket: Any = self
        self._path = path
        self._timeout = REQUEST
        self._came: list[bytes | Exception | None] = []
        self._signal: Signal | None = None
        self._status: int | None = None
        self._listener: Listener | None = None
        self._closed = False
        self._last = 0

    # ---- as a socket -----------------------------------------------------------------------------

    def setsockopt(self, *_: object) -> None:
        """Keep-alive is nothing that a simulation needs."""

    def settimeout(self, seconds: float) -> None:
        """Silence for so long is an error."""
        self._timeout = seconds

    def sendall(self, data: bytes) -> None:
        """The request: the server begins to serve the stream."""
        self._world.soon(self._arrive, self._wire._latency())

    def shutdown(self, how: int) -> None:
        """Whoever reads finds the end."""
        self._put(None)

    # ---- as a connection -------------------------------------------------------------------------

    def read_head(self) -> tuple[int, dict[bytes, bytes], bool]:
        """Wait for the head of the answer."""
        while True:
            status = self._status
            if status is not None:
                return status, {}, False
            self._await()
            if self._status is None and self._take() is None:
                raise ConnectionError("the connection was closed")

    def pieces(self, headers: dict[bytes, bytes]) -> Iterator[bytes]:
        """What the server sends, piece by piece."""
        while True:
            if not self._came:
                self._await()
            piece = self._take()
            if piece is None:
                return
            yield piece

    def close(self) -> None:
        """Hang up."""
        self._wire.forget(self)
        self.hang_up()

    # ---- inside ----------------------------------------------------------------------------------

    def hang_up(self) -> None:
        """The server is told that this end is gone; nothing is read any more."""
        self._closed = True
        listener, self._listener = self._listener, None
        self._wire.forget(self)
        if listener is not None:
            away = max(0, self.process.cut_until - self._world.clock.now())  # a server hears nothing of it meanwhile
            self._world.soon(listener.hang_up, away + self._wire._latency())

    def broken(self, reason: str, *, heard: bool = False) -> None:
        """The connection broke; whoever reads hears of it, and the server too if it is there to hear."""
        listener, self._listener = self._listener, None
        if listener is not None and heard:
            self._world.soon(listener.hang_up, self._wire._latency())
        self._put(ConnectionError(reason))

    def _arrive(self) -> None:
        server = self._world.server
        if self._closed or self.process.cut:
            return
        if not server.up:
            self.broken("connection reset")
            return
        self._listener = server.listen(self._path, self._said)

    def _said(self, message: MutableMapping[str, Any]) -> None:
        """The server writes: head, piece, or the end."""
        world = self._world
        if message["type"] == "http.response.start":
            world.soon(lambda: self._head(message["status"]), self._in_order())
            return
        body = message["body"]
        if not message.get("more_body", False):
            world.soon(lambda: self._put(None), self._in_order())
        if not body or self.process.cut:
            return
        if body.startswith(b":"):
            world.soon(lambda: self._put(body), self._in_order())
            return
        self._wire.messages += 1
        fault = world.fate.fault_of("message", self._wire.messages)
        if fault is not None and fault.what == "drop":
            return
        pause = self._in_order() + (fault.ms if fault is not None and fault.what == "hold" else 0)
        world.soon(lambda: self._put(body), pause)
        if fault is not None and fault.what == "double":
            world.soon(lambda: self._put(body), pause + fault.ms)

    def _in_order(self) -> int:
        """How long what is written now takes: never less than what was written before."""
        now = self._world.clock.now()
        self._last = max(self._last, now + self._wire._latency())
        return self._last - now

    def _head(self, status: int) -> None:
        self._status = status
        if self._signal is not None:
            self._signal.set()

    def _put(self, piece: bytes | Exception | None) -> None:
        if not self._closed:
            self._came.append(piece)
            if self._signal is not None:
                self._signal.set()

    def _await(self) -> None:
        if self._came or self._closed:
            return
        self._signal = Signal(self._world.tasks)
        came = self._signal.wait(self._world.clock.now() + int(self._timeout * 1000))
        self._signal = None
        self.process.check()
        if not came:
            raise TimeoutError("timed out")

    def _take(self) -> bytes | None:
        if not self._came:
            if self._closed:
                return None
            raise ConnectionError("nothing came")
        piece = self._came.pop(0)
        if isinstance(piece, Exception):
            raise piece
        return piece


__all__ = ["StreamConnection", "Wire"]
