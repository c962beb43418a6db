"""A world in which chance decides what comes next, and with faults also what goes wrong.

Without faults its clients share a service in memory. With faults there is a server, reached
by the real HTTP client over connections that may fail, and each client is a process with
clocks of its own. At every step the scheduler draws what comes next: a job that goes on, a
message that arrives, a timer, a turn of an event loop. One seed is one history.
"""

from __future__ import annotations

import heapq
import math
import os
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, Final

from resonate.clock import Clock
from resonate.errors import UsageError
from resonate.execution.coroutine import Outcome
from resonate.protocol.records import FULFILLED, HALTED, PENDING, SUSPENDED, TARGET, TIMER
from resonate.protocol.requests import Request
from resonate.settings import Settings
from resonate.testing.client import WorldClient, WorldCore
from resonate.testing.eventloop import SteppedEventLoop
from resonate.testing.network import Broken, Crashed
from resonate.testing.simulation.faults import Fault, Faults
from resonate.testing.stepping import StepLeases, StepPool, StepTicker
from resonate.testing.world import START, Action, Stuck, World
from resonate.worker.held import Completion

if TYPE_CHECKING:
    from resonate.testing.simulation.lives import Program
    from resonate.testing.simulation.process import Process
    from resonate.testing.simulation.server import SimulatedServer
    from resonate.testing.simulation.tasks import Tasks
    from resonate.testing.simulation.wire import Wire

STEPS: Final = 100_000
"""Steps of the scheduler after which a run counts as endless."""

CALM_AFTER: Final = 4
"""Nothing goes wrong any more after so many times the steps that faults lie within."""

TO_REST: Final = 0.7
"""How often the loop that the server's streams run on is turned until it rests, instead of once."""

LOOK: Final = 96
"""Steps between two looks at all rows."""


_Parts = tuple["Process", SteppedEventLoop, StepPool, StepLeases, StepTicker]
"""Of a client, what the scheduler looks at."""


class Simulation(World):
    """A world in which chance decides what comes next; one seed is one history.

    At every step a generator of random numbers draws which ready frame, message, timer or
    turn of an event loop comes next, over all clients. Run many seeds to meet many
    interleavings; a seed that fails will fail again.

    With `faults` more is simulated: a server, the connections to it, and processes with clocks
    of their own. Processes are given by what they do when they start; whatever happens to them
    (`Faults` says what may), they are started again, and `run` goes on until everything has
    ended. Needs the packages of the extra `testing`.

    Args:
        seed: of the random numbers.
        now: where its clock starts, milliseconds since the epoch.
        file, url: keep state in this SQLite file or PostgreSQL database instead of in memory; see
            `World`. Not with faults.
        faults: what goes wrong: how much of it at most, or a list of what exactly.

    Raises:
        UsageError: `file` or `url` together with `faults`.

    Example:
        for seed in range(100):
            with Simulation(seed, faults=Faults()) as world:
                world.process(worker)                       # def worker(client): client.register(order)
                world.process(worker)
                world.process(shop, group="shop")           # def shop(client): client.rpc("o-1", "order", cart)
                world.run()
    """

    def __init__(
        self,
        seed: int,
        now: int = START,
        *,
        file: str | os.PathLike[str] | None = None,
        url: str | None = None,
        faults: Faults | Sequence[Fault] | None = None,
    ) -> None:
        if faults is not None and (file is not None or url is not None):
            raise UsageError("a simulation with faults keeps its state itself: leave out `file` and `url`")
        self.seed = seed
        self.random = Random(seed)
        self.concurrent = faults is not None
        super().__init__(now, file=file, url=url)
        self._chance = self.random
        self.steps = 0
        self._parts: list[_Parts] | None = None
        if faults is not None:
            self._prepare(seed, faults)

    def _prepare(self, seed: int, faults: Faults | Sequence[Fault]) -> None:
        from resonate.testing.simulation.fate import Fate
        from resonate.testing.simulation.judge import Judge
        from resonate.testing.simulation.lives import Lives
        from resonate.testing.simulation.rows import SimulatedStorage
        from resonate.testing.simulation.server import ServerClock, SimulatedServer
        from resonate.testing.simulation.tasks import Tasks
        from resonate.testing.simulation.wire import Wire

        drawn = faults.draw(Random(f"{seed} faults")) if isinstance(faults, Faults) else tuple(faults)
        self.faults: tuple[Fault, ...] = drawn
        self.calm_at = CALM_AFTER * (
            faults.steps if isinstance(faults, Faults) else max((f.at for f in drawn), default=0)
        )
        self.fate = Fate(self, drawn)
        self.lives = Lives(self)
        self.tasks: Tasks = Tasks(self.clock.now, self._drive_until)
        self.wire: Wire = Wire(self)
        self.judge = Judge(self.trace)
        storage = SimulatedStorage(self.judge, self.fate.of_commit)
        self.storage = self.trace.storage = storage
        skew = self.random.choice((0, -3_600_000, 1_234, 86_400_000))
        self.server: SimulatedServer = SimulatedServer(storage, ServerClock(self.clock.now, skew), self.judge)
        self.service = self.server.service
        self._events: list[tuple[int, int, Action]] = []
        self.calm = False

    # ---- processes -------------------------------------------------------------------------------

    def process(self, start: Callable[[WorldClient], object], *, group: str = "default", **options: Any) -> Program:
        """A process that is started now, and again whenever it has died.

        Args:
            start: called with the process's client each time it starts: registers functions, and may
                begin calls and wait for their results. When it returns the process goes on as a worker.
                What it raises ends the run, but for errors of a server that is out of reach:
                those end the process.
            group: the group it takes tasks of.
            **options: as for `client`: `ttl`, `workers`, `max_concurrent`, `pid`.

        Raises:
            UsageError: this simulation has no faults.
        """
        if not self.concurrent:
            raise UsageError("processes need a simulation with faults: Simulation(seed, faults=Faults())")
        return self.lives.begin(start, {"ttl": 5, **options, "group": group})

    def pause(self, client: WorldClient, seconds: float) -> None:
        """Have the process of `client` stand still for so long, as one that is stopped or starved by its machine."""
        self.lives.of(client._in_world).stopped_until = self.clock.now() + int(seconds * 1000)

    def run(self, seconds: float = 30 * 86400.0) -> None:
        """Go on until every process has done what it does at its start, and every execution has ended.

        Faults happen on the way, for as long as the seed has any; then the world calms down, and
        everything has to end.

        Args:
            seconds: of the world, after which something that has not ended is a failure.

        Raises:
            AssertionError: a promise of the design was broken, something does not end, or a
                process raised; with what happened.
        """
        end = self.clock.now() + int(seconds * 1000)
        while True:
            if self.trace.violations or self.lives.failures:
                break
            if self.steps % 8 == 0:  # looking costs as much as a step
                ended = self.lives.all_ended()
                if ended and self._at_rest():
                    break
                if not self.calm and (self.steps > self.calm_at or (ended and self.steps % LOOK == 0)):
                    self.settle_down()
                if self.steps >= STEPS or self.clock.now() > end:
                    self.trace.violations.append(self._why_endless())
                    break
            if not self._do_one():
                instant = self._next()
                if instant is None:
                    self.trace.violations.append(self._why_endless())
                    break
                self.clock.set(max(instant, self.clock.now()))
        self.judge.everything(self.storage, self.service.now())
        self.check()

    def settle_down(self) -> None:
        """Nothing more goes wrong from now on; what has is over soon."""
        self.calm = True
        self.fate.calm()

    def check(self) -> None:
        """Raise if a promise of the design was broken in this world, or a process raised.

        Raises:
            AssertionError: with what was broken, and everything that happened.
        """
        if self.concurrent and self.lives.failures and not self.trace.violations:
            error = self.lives.failures[0]
            what = f"a process raised {type(error).__name__}: {error}"
            raise AssertionError(f"{what}\n\nwhat happened:\n{self.trace.text()}") from error
        super().check()

    # ---- at rest ---------------------------------------------------------------------------------

    def _at_rest(self) -> bool:
        """Whether every execution has ended, or waits for somebody outside."""
        for task in self.storage.tasks(None):
            if task.state in (FULFILLED, HALTED):
                continue
            if task.state != SUSPENDED or not self._waits_outside(task.id):
                return False
        return True

    def _waits_outside(self, id: str) -> bool:
        awaited = [row.promise for row in self.storage.promises(None) if id in row.callbacks]
        return bool(awaited) and all(
            promise.state == PENDING
            and (promise.tags.get(TIMER) != "true" if TARGET not in promise.tags else self._waits_outside(promise.id))
            for promise in awaited
        )

    def _why_endless(self) -> str:
        lines = [f"this does not end ({self.steps} steps, {(self.clock.now() - START) / 1000:.0f} s):"]
        for program in self.lives.programs:
            if not program.ended:
                lines.append(f"  process {program.number} waits in its start")
        for row in self.storage.tasks(None):
            if row.state not in (FULFILLED, HALTED):
                lines.append(f"  {row}")
        for core in self._clients:
            worker = core.worker
            if worker is not None:
                lines += [f"  {core.settings.pid} holds {id}" for id in worker.held]
                lines += [f"  {core.settings.pid} waits for {id}" for id in worker.watch.completions]
        return "\n".join(lines)

    def server_back(self) -> None:
        """The server has crashed and starts again."""
        self.trace.add("", "boot", "", "the server")
        self.server.start()
        self.service = self.server.service

    # ---- for clients and connections -------------------------------------------------------------

    def connect(self, settings: Settings, wrote: Callable[[Sequence[Request]], None]) -> tuple[Clock, Broken]:
        """The clock and the network of a new client."""
        if not self.concurrent:
            return super().connect(settings, wrote)
        from resonate.testing.simulation.network import SimulatedHttp
        from resonate.testing.simulation.process import Process, ProcessClock

        clock = ProcessClock(
            self.clock.now, self.random.randrange(100_000), self.random.choice((0, 0, 40_000, -7_200_000))
        )
        process = self._newest = Process(self, settings.pid, clock)
        return clock, SimulatedHttp(process, self.wire, self.random, settings.group, settings.pid, wrote)

    def client(self, **options: Any) -> WorldClient:
        """A client in this world; see `World.client`. With faults, `process` makes one that comes back."""
        client = super().client(**options)
        if self.concurrent:
            self.lives.add(client._in_world, self._newest)
        return client

    def lock(self) -> Any:
        """A lock that a job may hold while it waits."""
        if not self.concurrent:
            return super().lock()
        from resonate.testing.simulation.tasks import Turnstile

        return Turnstile(self.tasks)

    def runs(self, core: WorldCore) -> bool:
        """Whether code of this client is running right now."""
        if not self.concurrent:
            return super().runs(core)
        current = self.tasks.current
        return current is not None and current.owner is self.lives.of(core)

    def acknowledged(self, pid: str, completion: Completion, outcome: Outcome) -> None:
        """A client is about to tell its caller how a call has ended."""
        if self.concurrent:
            self.judge.acknowledged(self.storage, pid, completion, outcome)

    def bury(self, core: WorldCore) -> None:
        """A client has crashed: nothing of it runs any more."""
        if core in self._graves:
            return
        super().bury(core)
        if self.concurrent:
            self.lives.end(self.lives.of(core))

    def soon(self, action: Action, ms: int) -> None:
        """Have `action` done after `ms` milliseconds, which may be none."""
        heapq.heappush(self._events, (self.clock.now() + ms, next(self._count), action))

    def stop(self) -> None:
        """Stop all clients and let go of the crashed ones. Idempotent."""
        if self.concurrent:
            for core in list(self._clients):
                self.bury(core)
            self.tasks.unwind()
            if self.server.up:
                self.server.crash()
        super().stop()

    # ---- the scheduler ---------------------------------------------------------------------------

    def settle(self) -> None:
        """Let everything happen that can happen without time passing."""
        if not self.concurrent or self.tasks.current is None:
            super().settle()

    def run_until(self, condition: Callable[[], bool], seconds: float | None = None) -> bool:
        """Let things happen until `condition()` holds; see `World.run_until`."""
        if not self.concurrent or self.tasks.current is None:
            return super().run_until(condition, seconds)
        return self.tasks.until(condition, None if seconds is None else self.clock.now() + int(seconds * 1000))

    def _drive_until(self, condition: Callable[[], bool], at: int | None) -> None:
        super().run_until(condition, None if at is None else max(0, at - self.clock.now()) / 1000)

    def _do_one(self) -> bool:
        if not self.concurrent:
            return super()._do_one()
        self.steps += 1
        self.fate.strike(self.steps)
        self.tasks.look()
        ready = self._look_around()
        if not ready:
            return False
        process, action, arg = ready[int(self.random.random() * len(ready))] if len(ready) > 1 else ready[0]
        try:
            if process is None:
                action(*arg)
            elif type(arg) is tuple:
                self.tasks.run(process, lambda: action(*arg))
            else:
                self.tasks.go_on(arg)
        except Crashed:
            if process is None or not process.gone:
                raise
        if process is not None and not process.gone:
            self._bury_broken(process)
        if self.steps % LOOK == 0:
            self.judge.everything(self.storage, self.service.now())
        return True

    def _bury_broken(self, process: Process) -> None:
        """Bury a client that has died at a point it was told to."""
        for core in self._clients:
            if core.network.dead and self.lives.of(core) is process:
                self.bury(core)
                return

    def _look_around(self) -> list[tuple[Process | None, Any, Any]]:
        """What can be done now: whose it is, what, and with which arguments, or which job goes on."""
        now = self.clock.now()
        ready: list[tuple[Process | None, Any, Any]] = []
        if self._actions and self._actions[0][0] <= now:
            ready.append((None, self._act, ()))
        if self._events and self._events[0][0] <= now:
            ready.append((None, self._arrive, ()))
        self._look_at_server(ready, now)
        for task in self.tasks.ready:
            if task.owner.stopped_until <= now:
                ready.append((task.owner, None, task))  # type: ignore[arg-type]
        if self._parts is None:
            self._parts = self._list_parts()
        for process, loop, pool, leases, ticker in self._parts:
            if process.stopped_until > now:
                continue
            seconds = process.clock.monotonic()
            if not loop.turning and (loop.awake or ((at := loop.next_at()) is not None and at <= seconds)):
                ready.append((process, loop.turn, ()))
            if pool.waiting and pool.free:
                ready.extend((process, pool.run, (at,)) for at in range(len(pool.waiting)))
            if (at := leases.next_at()) is not None and at <= seconds:
                ready.append((process, leases.run, ()))
            if (at := ticker.next_at()) is not None and at <= seconds:
                ready.append((process, ticker.run, ()))
        return ready

    def _look_at_server(self, ready: list[tuple[Process | None, Any, Any]], now: int) -> None:
        server = self.server
        if not server.up or server.stalled_until > now:
            return
        if server.behind:
            ready.append((None, server.catch_up, ()))
        if (due := server.due_at()) is not None and due <= now:
            ready.append((None, server.fire, (1,)))
        move = server.service.delivery.next_move()
        if move is not None and move <= server.service.now():
            ready.append((None, server.service.delivery.move_on, ()))
        loop = server.loop
        if loop.awake or ((at := loop.next_at()) is not None and at * 1000 <= now):
            ready.append((None, self._turn_server, ()))

    def _instants(self) -> Iterator[int | None]:
        """When something else will be due, now that nothing is."""
        now = self.clock.now()
        yield self._actions[0][0] if self._actions else None
        yield self._events[0][0] if self._events else None
        server = self.server
        if server.up and server.stalled_until > now:
            yield server.stalled_until
        elif server.up:
            yield server.due_at()
            move, at = server.service.delivery.next_move(), server.loop.next_at()
            yield None if move is None else move - server.clock.skew
            yield None if at is None else math.ceil(at * 1000)
        for process, loop, _, leases, ticker in self._parts or ():
            if process.stopped_until > now:
                yield process.stopped_until
                continue
            for at in (None if loop.turning else loop.next_at(), leases.next_at(), ticker.next_at()):
                yield None if at is None else process.clock.instant(at)
        yield self.tasks.next_at()

    def _turn_server(self) -> None:
        """Turn the loop that streams run on, once or until it has nothing to do."""
        loop = self.server.loop
        loop.turn()
        if self.random.random() < TO_REST:
            while loop.awake:
                loop.turn()

    def enter(self, core: WorldCore) -> None:
        """A client has started."""
        super().enter(core)
        self._parts = None

    def leave(self, core: WorldCore) -> None:
        """A client stops."""
        super().leave(core)
        self._parts = None

    def _list_parts(self) -> list[_Parts]:
        """What of each client the scheduler looks at."""
        found: list[_Parts] = []
        for core in self._clients:
            worker = core.worker
            if worker is not None:
                parts = (worker.event_loop, worker.step_pool, worker.step_leases, worker.step_ticker)
                found.append((self.lives.of(core), *parts))
        return found

    def _arrive(self) -> None:
        heapq.heappop(self._events)[2]()

    def _next(self) -> int | None:
        if not self.concurrent:
            return super()._next()
        upcoming = min((at for at in self._instants() if at is not None), default=None)
        return None if upcoming is None else max(upcoming, self.clock.now() + 1)


__all__ = ["Simulation", "Stuck"]
