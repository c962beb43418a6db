"""The real client of a server over HTTP, on connections of a simulation and without threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from resonate.network.http.batches import Batches
from resonate.network.http.connection import Answer, Connection, Connections, Server
from resonate.network.http.exchange import Exchange
from resonate.network.http.network import HttpNetwork
from resonate.network.http.offset import ServerClock
from resonate.network.http.stream import Stream
from resonate.protocol.requests import Request, Response
from resonate.testing.network import Breakable

if TYPE_CHECKING:
    from resonate.testing.simulation.process import Process
    from resonate.testing.simulation.wire import Wire

URL = "http://simulated:8001"


class _Connections(Connections):
    """Hands requests to the wire."""

    def __init__(self, server: Server, process: Process, wire: Wire) -> None:
        super().__init__(server)
        self._process = process
        self._wire = wire

    def ask(self, request: bytes) -> Answer:
        """Send a whole request and read the whole answer; see `Connections.ask`."""
        return self._wire.ask(self._process, request)


class _Exchange(Exchange):
    """Pauses by the clock of its process."""

    def __init__(
        self, connections: Connections, clock: ServerClock, process: Process, chance: Random, hurry: Callable[[], None]
    ) -> None:
        super().__init__(connections, clock, None, returned=hurry)
        self._process = process
        self._chance = chance

    def _pause(self, seconds: float) -> None:
        self._process.sleep(seconds * self._chance.uniform(0.5, 1.0), self._stopping.is_set)


class _Stream(Stream):
    """Runs as a job of its process instead of on a thread."""

    def __init__(self, *args: Any, process: Process, wire: Wire, path: str, chance: Random) -> None:
        super().__init__(*args, clock=process.clock.monotonic)
        self._process = process
        self._wire = wire
        self._path = path
        self._chance = chance
        self._started = False

    def start(self) -> None:
        """Begin to receive. Idempotent."""
        if not self._started:
            self._started = True
            self._process.start(self._run)

    def stop(self) -> None:
        """Receive nothing more. Idempotent."""
        self._stopping.set()
        self._now.set()
        self._interrupt()

    def _pause(self, seconds: float) -> None:
        self._process.sleep(seconds * self._chance.uniform(0.5, 1.0), self._now.is_set)

    def _connect(self) -> Connection:
        return self._wire.open_stream(self._process, self._path)  # type: ignore[return-value]


class SimulatedHttp(Breakable, HttpNetwork):
    """The network of one process, to the simulated server.

    Args:
        process: whose network this is.
        wire: carries what it sends.
        chance: shortens its pauses.
        group, pid: whose messages to receive.
        wrote: told of each batch of writes before it is sent.
    """

    def __init__(self, process: Process, wire: Wire, chance: Random, group: str, pid: str, wrote: Any) -> None:
        super().__init__(URL, group, pid)
        self.breakable(wrote)
        self._process = process
        server = Server.at(URL)
        self._clock = ServerClock(process.clock.monotonic, process.clock.wall)
        self.now = self._clock.now
        self._connections = _Connections(server, process, wire)
        self._exchange = _Exchange(self._connections, self._clock, process, chance, lambda: self._stream.hurry())
        self._batches = Batches(self._exchange)
        self._stream = _Stream(
            server,
            "/poll",
            self._heard,
            self._opened,
            self._beats,
            process=process,
            wire=wire,
            path=f"/poll/{group}/{pid}",
            chance=chance,
        )

    async def asend(self, requests: Sequence[Request], *, chain: bool = False) -> list[Response]:
        """`send` as a job of its own, for whose end the loop waits."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Response]] = loop.create_future()

        def job() -> None:
            try:
                answers = self.send(requests, chain=chain)
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(answers)

        self._process.start(job)
        return await future


__all__ = ["SimulatedHttp"]
