"""A world in memory on one thread: storage, service, clock, and any number of clients.

Nothing in a world happens by itself. Whoever waits (`client.run`, `handle.result()`, an
`await`) or says so (`settle`, `skip`, `advance`, `run_until`) drives it: jobs, messages,
timers and turns of event loops are worked off one at a time, and when everything waits the
clock jumps to the next instant at which something is due. A function that sleeps for 30
days is done in a millisecond. Worker, execution, service and storage are the real ones.
"""

from __future__ import annotations

import heapq
import math
import os
import threading
import time as _time
from collections.abc import Callable, Sequence
from itertools import count
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from resonate.clock import Clock, SettableClock
from resonate.dependencies import Dependencies
from resonate.errors import UsageError
from resonate.execution.coroutine import Outcome
from resonate.network.embedded import EmbeddedNetwork
from resonate.protocol.requests import Request
from resonate.registry import Registry
from resonate.service.service import Service
from resonate.settings import Settings, check_parts, resolve
from resonate.storage.memory import MemoryStorage
from resonate.stores import PromiseClient
from resonate.testing import schemas
from resonate.testing.client import WorldClient, WorldCore, WorldWorker, shared_of
from resonate.testing.network import BreakableNetwork, Broken, Crashed
from resonate.testing.trace import Trace
from resonate.worker.held import Completion

if TYPE_CHECKING:
    from resonate.storage.postgres.storage import PostgresStorage
    from resonate.storage.sqlite.storage import SqliteStorage

START: Final = 1_700_000_000_000
"""When a world begins unless told otherwise, milliseconds since the epoch: 14 November 2023."""

BATCH: Final = 100
"""Timers of the service fired at once, in a world without chance."""

LAST: Final = 40
"""Events that are shown of a world that is stuck."""

FRUITLESS: Final = 100_000
"""Jumps of the clock without any code run, after which a world counts as stuck."""

SOCKET_PATIENCE: Final = 1.0
"""Real seconds to wait for a socket of an async function before time is skipped."""

TURN_PATIENCE: Final = 0.05
"""Real seconds of that in one go."""

Action = Callable[[], object]


class Stuck(AssertionError):
    """Nothing in the world can happen any more, and somebody waits."""


class World:
    """Storage, service and clock of a little world, and the clients in it.

    Use it as a context manager, or call `stop` at the end. Everything happens on the thread
    that drives the world; use it from one thread only.

    Args:
        now: where its clock starts, milliseconds since the epoch.
        file: keep state in this SQLite file instead of in memory: slower, and the same otherwise.
        url: keep state in this PostgreSQL database, in a schema that nobody else uses meanwhile; `schema=` names it.

    Example:
        with World() as world:
            client = world.client()

            @client.register
            def reminder(ctx):
                yield ctx.sleep(30 * 86400)
                return "wake up"

            assert client.run("r1", reminder) == "wake up"
    """

    def __init__(self, now: int = START, *, file: str | os.PathLike[str] | None = None, url: str | None = None) -> None:
        if file is not None and url is not None:
            raise UsageError("a world has a file or a database, not both")
        self.clock = SettableClock(now)
        self.file = None if file is None else os.path.abspath(file)
        self.url = url
        self.storage: MemoryStorage | SqliteStorage | PostgresStorage = self._open()
        self.service = Service(self.storage, self.clock)
        self.trace = Trace(self.clock, self.storage)
        self._chance: Random | None = None
        self._clients: list[WorldCore] = []
        self._graves: list[WorldCore] = []
        self._named: dict[str, int] = {}
        self._actions: list[tuple[int, int, Action]] = []
        self._count = count()
        self._patience = 0.0

    @property
    def _lasts(self) -> bool:
        """Whether what is stored is there without us."""
        return self.file is not None or self.url is not None

    def _open(self) -> MemoryStorage | SqliteStorage | PostgresStorage:
        if self.url is not None:
            return schemas.alone(self.url, self.clock)
        return MemoryStorage() if self.file is None else _open(self.file)

    # ---- who is in it --------------------------------------------------------------------------

    def client(
        self,
        *,
        group: str = "default",
        pid: str | None = None,
        ttl: int = 10,
        workers: int | None = 1,
        max_concurrent: int = 1000,
        registry: Registry | None = None,
        dependencies: Dependencies | None = None,
    ) -> WorldClient:
        """A client in this world; as many as you like, in any groups.

        Args:
            group: the group it takes tasks of.
            pid: its name; default its group and a number.
            ttl: its lease, whole seconds of the world's clock.
            workers: what its pool counts as; everything runs on one thread anyhow.
            max_concurrent: executions run at the same time.
            registry, dependencies: to share with other clients, as those of your application.
        """
        number = self._named[group] = self._named.get(group, 0) + 1
        pid = f"{group}-{number}" if pid is None else pid
        check_parts(dependencies, group, "INFO", None, pid, registry, None, ttl)
        settings = resolve(
            url=None,
            auth=None,
            token=None,
            group=group,
            pid=pid,
            ttl=ttl,
            log_level="INFO",
            workers=workers,
            max_concurrent=max_concurrent,
            environment={},
        )
        time, chance = _Time(self.clock), self._chance or Random(0)
        shared = shared_of(registry, dependencies, settings, time, chance, database=self._lasts)
        return WorldClient(self, WorldCore(self, settings, shared, self._chance))

    @property
    def promises(self) -> PromiseClient:
        """The promises of this world, as somebody outside of all clients sees them."""
        return PromiseClient(EmbeddedNetwork(self.service, "outside", "outside"))

    def after(self, seconds: float, action: Action) -> None:
        """Have `action` done when `seconds` have passed in the world: somebody outside acts.

        Example:
            world.after(3600, lambda: world.promises.resolve("order-7:2", data="approved"))
        """
        heapq.heappush(self._actions, (self.clock.now() + int(seconds * 1000), next(self._count), action))

    # ---- letting things happen ------------------------------------------------------------------

    def settle(self) -> None:
        """Let everything happen that can happen without time passing."""
        while self._do_one():
            pass

    def skip(self) -> bool:
        """Settle, jump to the next instant at which something is due, and settle again.

        Returns:
            False if nothing will ever be due.
        """
        self.settle()
        instant = self._next()
        if instant is None:
            return False
        self.clock.set(max(instant, self.clock.now()))
        self.settle()
        return True

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass, with everything that is due on the way."""
        self.run_until(lambda: False, seconds)

    def run_until(self, condition: Callable[[], bool], seconds: float | None = None) -> bool:
        """Let things happen until `condition()` holds, skipping time whenever everything waits.

        Args:
            seconds: at most so much time of the world passes; None has no limit.

        Returns:
            Whether the condition holds.

        Raises:
            Stuck: without a limit, when nothing can happen any more, or nothing but heartbeats.
        """
        end = None if seconds is None else self.clock.now() + int(seconds * 1000)
        fruitless, progress = 0, self.trace.progress
        while not condition():
            if self._do_one():
                continue
            instant = self._next()
            if end is not None and (instant is None or instant > end):
                self.clock.set(max(end, self.clock.now()))
                self.settle()
                return condition()
            if self.trace.progress != progress:
                fruitless, progress = 0, self.trace.progress
            fruitless += 1
            if instant is None or fruitless > FRUITLESS:
                raise Stuck(self._why_stuck())
            self.clock.set(max(instant, self.clock.now()))
        return True

    def reopen(self) -> None:
        """Forget all that is only in memory and open the file or database again, as after the end of every process.

        Raises:
            UsageError: there is none, or a client is still alive.
        """
        if not self._lasts or self._clients:
            raise UsageError(
                "only a world on a file or database, all of whose clients have crashed or stopped, can be reopened"
            )
        self.storage.close()
        self.storage = self.trace.storage = self._open()
        self.service = Service(self.storage, self.clock)

    def check(self) -> None:
        """Raise if a promise of the design was broken in this world; see `resonate.testing.trace`.

        Raises:
            AssertionError: with what was broken, and everything that happened.
        """
        if self.trace.violations:
            raise AssertionError("\n".join([*self.trace.violations, "", "what happened:", self.trace.text()]))

    def stop(self) -> None:
        """Stop all clients and let go of the crashed ones. Idempotent."""
        for core in list(self._clients):
            core.stop(None)
        graves, self._graves = self._graves, []
        for core in graves:
            if core.worker is not None:
                core.worker.dispose()
        self.storage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # ---- for clients ------------------------------------------------------------------------------

    concurrent = False
    """Whether a job may wait while others of its client run."""

    def connect(self, settings: Settings, wrote: Callable[[Sequence[Request]], None]) -> tuple[Clock, Broken]:
        """The clock and the network of a new client."""
        return self.clock, BreakableNetwork(self.service, settings.group, settings.pid, wrote)

    def lock(self) -> Any:
        """A lock that a job may hold while it waits."""
        return threading.Lock()

    def runs(self, core: WorldCore) -> bool:
        """Whether code of this client is running right now."""
        return core.running > 0 or (core.worker is not None and core.worker.step_threads.driving > 0)

    def acknowledged(self, pid: str, completion: Completion, outcome: Outcome) -> None:
        """A client is about to tell its caller how a call has ended."""

    def enter(self, core: WorldCore) -> None:
        """A client has started."""
        self._clients.append(core)

    def leave(self, core: WorldCore) -> None:
        """A client stops."""
        if core in self._clients:
            self._clients.remove(core)

    def bury(self, core: WorldCore) -> None:
        """A client has crashed: nothing of it runs any more."""
        if core in self._graves:
            return
        self.trace.crashed(core.settings.pid, core.network.how)
        self._graves.append(core)
        self.leave(core)
        core.abandon()

    # ---- inside --------------------------------------------------------------------------------------

    def _do_one(self) -> bool:
        """Do one of the things that can be done now; False if there is none."""
        ready = self._ready()
        if not ready:
            return self._wait_outside()
        self._patience = SOCKET_PATIENCE
        chosen = ready[0] if self._chance is None else self._chance.choice(ready)
        chosen()
        return True

    def _ready(self) -> list[Action]:
        """What can be done now, in a fixed order; in a world without chance only the first."""
        now = self.clock.now()
        ready: list[Action] = []
        if self._actions and self._actions[0][0] <= now:
            ready.append(self._act)
        due = self.service.storage.next_due()
        if due is not None and due <= now:
            ready.append(self._fire)
        move = self.service.delivery.next_move()
        if move is not None and move <= now:
            ready.append(self.service.delivery.move_on)
        for core in self._clients:
            worker = core.worker
            if worker is not None:
                self._add_ready(ready, core, worker)
                if ready and self._chance is None:
                    break
        return ready

    def _add_ready(self, ready: list[Action], core: WorldCore, worker: WorldWorker) -> None:
        seconds = self.clock.monotonic()
        loop, pool = worker.event_loop, worker.step_pool
        if not loop.turning:
            instant = loop.next_at()
            if loop.awake or (instant is not None and instant <= seconds):
                ready.append(lambda: self._of(core, loop.turn))
        for at in range(len(pool.waiting) if self._chance is not None else min(1, len(pool.waiting))):
            ready.append(lambda at=at: self._of(core, lambda: pool.run(at)))  # type: ignore[misc]
        for part in (worker.step_leases, worker.step_ticker):
            instant = part.next_at()
            if instant is not None and instant <= seconds:
                ready.append(lambda part=part: self._of(core, part.run))  # type: ignore[misc]

    def _of(self, core: WorldCore, action: Action) -> None:
        """Do something of `core`, which may crash of it."""
        core.running += 1
        try:
            action()
        except Crashed:
            if not core.network.dead:
                raise
        finally:
            core.running -= 1
        if core.network.dead:
            self.bury(core)

    def _fire(self) -> None:
        self.service.fire(self.service.now(), 1 if self._chance is not None else BATCH)

    def _act(self) -> None:
        heapq.heappop(self._actions)[2]()

    def _wait_outside(self) -> bool:
        """Give sockets and executors that async functions wait for real time to bring something."""
        for core in self._clients:
            worker = core.worker
            if worker is None or worker.event_loop.turning:
                continue
            loop = worker.event_loop
            if loop.outside and worker.step_loop.busy and (loop.working or self._patience > 0):
                began = _time.monotonic()
                self._of(core, lambda loop=loop: loop.turn(TURN_PATIENCE))  # type: ignore[misc]
                if not loop.awake:
                    self._patience -= _time.monotonic() - began
                return True
        return False

    def _next(self) -> int | None:
        """The next instant at which something is due, milliseconds since the epoch."""
        instants = [self.service.storage.next_due(), self.service.delivery.next_move()]
        instants += [at for at, _, _ in self._actions[:1]]
        for core in self._clients:
            worker = core.worker
            if worker is not None:
                parts = [worker.step_leases.next_at(), worker.step_ticker.next_at()]
                if not worker.event_loop.turning:
                    parts.append(worker.event_loop.next_at())
                instants += [math.ceil(at * 1000) for at in parts if at is not None]
        known = [at for at in instants if at is not None]
        return max(min(known), self.clock.now() + 1) if known else None

    def _why_stuck(self) -> str:
        lines = ["nothing can happen in this world any more, and somebody waits"]
        for core in self._clients:
            worker = core.worker
            if worker is None:
                continue
            for held in [*worker.held.values(), *worker.warm.values()]:
                waits = ", ".join(held.execution.awaited) or "something that is no durable call"
                lines.append(f"{held.execution.id} in {core.settings.pid} waits for {waits}")
            lines += [f"{core.settings.pid} waits for the result of {id}" for id in worker.watch.completions]
        return "\n".join([*lines, "", "what happened last:", self.trace.text(LAST)])


def _open(file: str) -> SqliteStorage:
    from resonate.storage.sqlite.location import Location
    from resonate.storage.sqlite.storage import SqliteStorage

    class Alone(SqliteStorage):
        """Its only user: nobody else need be listened to."""

        def watch(self, group: str, pid: str, changed: Callable[[], None]) -> None:
            pass

    return Alone(Location(file, synchronous="off"))


class _Time:
    """The module `time` as functions in a world see it."""

    def __init__(self, clock: SettableClock) -> None:
        self._clock = clock

    def time(self) -> float:
        return self._clock.now() / 1000

    def strftime(self, format: str, t: Any = None) -> str:
        return _time.strftime(format, _time.gmtime(self.time()) if t is None else t)


__all__ = ["Stuck", "World"]
