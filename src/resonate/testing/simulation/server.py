"""The server of a simulation: the real application around the real service, without a socket.

Requests are answered by the application's own code, step by step on the caller's thread;
its streams of messages run on an event loop that the scheduler turns. A crash forgets all
of it; what is stored stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, MutableMapping, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Final, TypeVar, TypeVarTuple

from resonate.errors import ResonateStoreError
from resonate.protocol import chain as chains
from resonate.protocol.requests import Request, Response
from resonate.server.app import Application
from resonate.server.base import Settings
from resonate.server.intake import answers_of
from resonate.service.lane import Call
from resonate.service.service import Service
from resonate.storage.base import Transaction
from resonate.testing.eventloop import SteppedEventLoop

if TYPE_CHECKING:
    from resonate.testing.simulation.judge import Judge
    from resonate.testing.simulation.rows import SimulatedStorage

Reply = Callable[[int, dict[bytes, bytes], bytes], object]
"""Given status, headers and body of an answer."""

T = TypeVar("T")
Args = TypeVarTuple("Args")

AFTER_FAILURE: Final = 1000
"""Milliseconds until timers are tried again that a failing storage kept from firing, as `service.timers` has it."""

COMMENT: Final = 30_000
"""Milliseconds between comments on a stream: rarer than by default, for nobody has anything of them here."""

BATCH: Final = 100
"""Timers fired in one transaction at most."""


class ServerClock:
    """The clock of the machine that the server runs on.

    Args:
        now: milliseconds of the world.
        runs: False, as nobody sleeps by it.
    """

    runs = False

    def __init__(self, now: Callable[[], int], skew: int) -> None:
        self._world = now
        self.skew = skew

    def now(self) -> int:
        return self._world() + self.skew

    def monotonic(self) -> float:
        return self._world() / 1000

    def watch(self, changed: Callable[[], None]) -> None:
        """The scheduler looks at the clock itself."""


class WatchedService(Service):
    """A service whose every transition is looked at, with its cause."""

    def __init__(self, storage: SimulatedStorage, clock: ServerClock, judge: Judge) -> None:
        super().__init__(storage, clock)
        self._judge = judge

    def _apply(
        self, transaction: Transaction, requests: Sequence[Request], chain: bool, trusted: bool, now: int
    ) -> tuple[list[Response], Exception | None]:
        answers: list[Response] = []
        for request in requests:
            self._judge.begin(request, now)
            answered, error = super()._apply(transaction, (request,), False, trusted, now)
            self._judge.end(answered[0] if answered else None)
            answers += answered
            if error is not None:
                return answers, error
            if chain and not chains.holds(request, answers[-1]):
                break
        return answers, None


class _Parked:
    """Awaited by a request whose answer takes a while."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class SlowIntake:
    """The intake of a server that may stand still: what has come meanwhile is one transaction."""

    def __init__(self, server: SimulatedServer) -> None:
        self._server = server

    async def ask(self, requests: Sequence[Request], chain: bool, now: int | None) -> list[Response]:
        call = Call(requests, chain, True, now)
        if self._server.stalled:
            self._server.queue.append(call)
            await _Parked()
        else:
            self._server.service.handle_all([call])
        return answers_of(call)

    async def close(self) -> None:
        """There is nothing to free."""


class _StreamLoop(SteppedEventLoop):
    """An event loop on which what would run on another thread runs at once."""

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Args], T], *args: *Args) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except BaseException as error:
            future.set_exception(error)
        return future


class Listener:
    """The server's end of a stream of messages."""

    def __init__(self, server: SimulatedServer, said: Callable[[MutableMapping[str, Any]], object]) -> None:
        self._gone = server.loop.create_future()
        self._said = said
        self.over = False

    async def receive(self) -> dict[str, Any]:
        """Waits for the end of the connection."""
        await self._gone
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Head or piece of the body."""
        if self.over:
            raise OSError("the peer is gone")
        self._said(message)

    def hang_up(self) -> None:
        """The peer is gone, and the server knows."""
        self.over = True
        if not self._gone.done() and not self._gone.get_loop().is_closed():
            self._gone.set_result(None)


class SimulatedServer:
    """One server process at a time, over one storage.

    Args:
        storage: what outlives the process.
        clock: of its machine.
        judge: looks at every transition.
    """

    def __init__(self, storage: SimulatedStorage, clock: ServerClock, judge: Judge) -> None:
        self.storage = storage
        self.clock = clock
        self.generation = 0
        self.up = False
        self.service: WatchedService
        self.loop: _StreamLoop
        self.app: Application
        self.stalled_until = 0
        self.queue: list[Call] = []
        self._judge = judge
        self._parked: list[tuple[Any, Callable[[], object]]] = []
        self._listeners: list[Listener] = []
        self._failed_until = 0
        self.start()

    @property
    def stalled(self) -> bool:
        """Whether it stands still: nothing is committed."""
        return self.stalled_until > self.clock.monotonic() * 1000

    @property
    def behind(self) -> bool:
        """Whether requests wait that came while it stood still."""
        return bool(self._parked)

    def start(self) -> None:
        """A new process, with nothing in its memory."""
        self.up = True
        self.generation += 1
        self.stalled_until = self._failed_until = 0
        self.service = WatchedService(self.storage, self.clock, self._judge)
        self.loop = _StreamLoop(self.clock.monotonic)
        self.app = Application(self.service, Settings(poll_comment=COMMENT), None)
        self.app._intake = SlowIntake(self)

    def crash(self) -> None:
        """The process is killed: what it had not committed is gone, and every connection with it."""
        self.up = False
        parked, self._parked = self._parked, []
        self.queue = []
        for coroutine, _ in parked:
            coroutine.close()
        self._listeners = []
        self.app.hub._loop = None  # what its frames still do when they are freed concerns nobody
        self.loop.abandoned = True
        for task in asyncio.all_tasks(self.loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            frame: Any = task.get_coro()
            try:
                frame.close()
            except (RuntimeError, OSError):
                pass
        self.loop.close()

    # ---- requests --------------------------------------------------------------------------------

    def ask(self, request: bytes, reply: Reply) -> None:
        """Answer an HTTP request, now or when the server goes on."""
        head, _, body = request.partition(b"\r\n\r\n")
        path = head.split(b" ", 2)[1].decode()
        status = 500
        headers: dict[bytes, bytes] = {}
        pieces: list[bytes] = []
        sent = False

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                headers.update(message["headers"])
            else:
                pieces.append(message["body"])
                sent = True

        scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "headers": ()}
        self._go_on(self.app(scope, receive, send), lambda: reply(status, headers, b"".join(pieces)))  # type: ignore[arg-type]

    def _go_on(self, coroutine: Any, done: Callable[[], object]) -> None:
        try:
            coroutine.send(None)
        except StopIteration:
            done()
        else:
            self._parked.append((coroutine, done))

    def catch_up(self) -> None:
        """It goes on: what has come meanwhile is answered, many in one transaction."""
        self.stalled_until = 0
        queue, self.queue = self.queue, []
        parked, self._parked = self._parked, []
        self.service.handle_all(queue)
        for coroutine, done in parked:
            self._go_on(coroutine, done)

    # ---- streams ---------------------------------------------------------------------------------

    def listen(self, path: str, said: Callable[[MutableMapping[str, Any]], object]) -> Listener:
        """Serve a stream of messages."""
        listener = Listener(self, said)
        self._listeners.append(listener)
        scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "headers": ()}
        # not through Starlette's routing, which is a copy of itself for each request
        self.loop.create_task(self.app.hub.serve(scope, listener.receive, listener.send))
        return listener

    # ---- time ------------------------------------------------------------------------------------

    def due_at(self) -> int | None:
        """The instant of the world at which timers are to fire."""
        due = self.storage.next_due()
        if due is None:
            return None
        if due <= self.service.now():  # which may be ahead of the clock, if that was put back
            return self._failed_until
        return max(due - self.clock.skew, self._failed_until)

    def fire(self, limit: int = BATCH) -> None:
        """Fire what is due, as the thread of `service.timers` does."""
        self._judge.begin(None, self.service.now())
        try:
            self.service.fire(self.service.now(), limit)
        except ResonateStoreError:
            self._failed_until = int(self.clock.monotonic() * 1000) + AFTER_FAILURE
        finally:
            self._judge.end(None)


__all__ = ["Listener", "ServerClock", "SimulatedServer", "WatchedService"]
