"""A client that lives in a world: a `Resonate` whose threads are gone and which may crash."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any, Final

from resonate.client import Client
from resonate.clock import Clock
from resonate.context import Context, Shared
from resonate.dependencies import Dependencies
from resonate.errors import ExecutionStopped
from resonate.execution.call import GENERATOR, Call
from resonate.execution.coroutine import Outcome
from resonate.execution.execution import Execution
from resonate.options import Options
from resonate.protocol.requests import Request
from resonate.registry import Registry
from resonate.resonate import Resonate
from resonate.settings import Settings
from resonate.testing.eventloop import SteppedEventLoop
from resonate.testing.network import Broken, Crashed, CrashPoint
from resonate.testing.stepping import StepLeases, StepLoop, StepPool, StepThreads, StepTicker
from resonate.testing.trace import WRITE, describe
from resonate.worker.held import Completion, Held
from resonate.worker.room import Room
from resonate.worker.watch import Watch
from resonate.worker.worker import Worker

if TYPE_CHECKING:
    from resonate.testing.world import World

LAST_TURNS: Final = 1000
"""Turns of an event loop in which stopped functions may end, before it is closed over them."""

_LOG: Final = logging.getLogger("resonate.testing")


class WorldClient(Resonate):
    """A `Resonate` in a world; made by `World.client`.

    Everything of `Resonate` works. What would block drives the world instead, and skips
    time whenever everything in it waits.
    """

    def __init__(self, world: World, core: WorldCore) -> None:
        self._core = core
        self._opts = Options()
        self.world = world

    def options(self, **given: Any) -> WorldClient:
        """A copy of this client with other options; both share everything else."""
        copy = super().options(**given)
        assert isinstance(copy, WorldClient)
        copy.world = self.world
        return copy

    @property
    def crashed(self) -> bool:
        """Whether this client has crashed."""
        return self._in_world.network.dead

    @property
    def batches(self) -> int:
        """How many batches of writes this client has sent."""
        return self._in_world.network.batches

    def knows(self, func: Callable[..., Any]) -> bool:
        """Whether `func` is registered here."""
        return self._core.shared.registry.known(func) is not None

    def crash_at(self, batch: int, *, applied: bool) -> None:
        """Have this client crash at its n-th batch of writes.

        Args:
            batch: which, from 1; see `batches`. 0 takes an earlier order back.
            applied: right after it is applied; False: right before.
        """
        self._in_world.network.crash_point = CrashPoint(batch, applied)

    def crash(self) -> None:
        """End this client as a killed process ends: nothing is released, nothing more is written.

        Its leases run out and whoever else is in the group takes over. Its frames are
        abandoned: no `finally` of theirs runs before the world ends. Called inside one of
        its own functions, this does not return.

        Raises:
            Crashed: called from code that this client runs.
        """
        core = self._in_world
        inside = self.world.runs(core)
        self.world.bury(core)
        if inside:
            raise Crashed(f"{self.pid} was killed")

    @property
    def _in_world(self) -> WorldCore:
        assert isinstance(self._core, WorldCore)
        return self._core


class WorldCore(Client):
    """The inside of a `WorldClient`."""

    def __init__(self, world: World, settings: Settings, shared: Shared, chance: Random | None) -> None:
        super().__init__(settings, shared, None, None)
        self.world = world
        self.running = 0
        self.clock, self.network = world.connect(settings, self._wrote)
        self._chance = chance

    @property
    def worker(self) -> WorldWorker | None:
        """The worker, once the client has started."""
        assert self._worker is None or isinstance(self._worker, WorldWorker)
        return self._worker

    def abandon(self) -> None:
        """Refuse every further call; the frames stay as they are until the world ends."""
        self._stopped = True
        self.network.cut()
        if self.worker is not None:
            self.worker.stopped = True
            self.worker.event_loop.abandoned = True

    def stop(self, timeout: float | timedelta | None) -> None:
        """Release what is held, run what has to run for that, and leave the world."""
        worker = self.worker
        try:
            if not self.network.dead:
                super().stop(timeout)
        finally:
            self.world.leave(self)
        if worker is not None:
            worker.close_loop()

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Async functions run on the world's loop, wherever the client was started."""

    def _start(self) -> Worker:
        settings = self.settings
        worker = WorldWorker(
            self.world,
            self.network,
            self.clock,
            self.shared.registry,
            ttl_ms=settings.ttl * 1000,
            threads=settings.workers,
            max_concurrent=settings.max_concurrent,
            make_context=self._context,
            chance=self._chance,
        )
        worker.start()
        self.world.enter(self)
        return worker

    def _context(self, execution: Execution, call: Call) -> Context:
        self.world.trace.started(self.settings.pid, execution, call)
        return Context(execution, call, self.shared)

    def _wrote(self, requests: Sequence[Request]) -> None:
        self.world.trace.add(self.settings.pid, WRITE, "", describe(requests))


class WorldRoom(Room):
    """Back-pressure where waiting is having the world go on."""

    def __init__(self, world: World, left: Callable[[], int], spare: Callable[[], object]) -> None:
        super().__init__(left, spare)
        self._world = world

    def _pause(self) -> None:
        self._world.run_until(lambda: not self.full)


class WorldWorker(Worker):
    """The real worker over queues instead of threads."""

    def __init__(
        self,
        world: World,
        network: Broken,
        clock: Clock,
        registry: Registry,
        *,
        ttl_ms: int,
        threads: int,
        max_concurrent: int,
        make_context: Callable[[Execution, Call], Any],
        chance: Random | None,
    ) -> None:
        now = clock.monotonic
        super().__init__(
            network,
            registry,
            ttl_ms=ttl_ms,
            threads=threads,
            max_concurrent=max_concurrent,
            make_context=make_context,
            clock=now,
        )
        self._world = world
        self.breakable = network
        self.step_pool = StepPool("resonate-step", threads)
        self.step_ticker = StepTicker(now, self._pulse)
        self.step_leases = StepLeases(network.pid, ttl_ms, self.tenure.heartbeat, self.tenure.check_roots, now)
        self.step_loop = StepLoop(self, make_context, self._ended)
        self.event_loop = SteppedEventLoop(now)
        self.pool, self.ticker, self.leases = self.step_pool, self.step_ticker, self.step_leases
        self.watch = WorldWatch(self, world)
        self.step_threads = self.threads = StepThreads(
            self, make_context, self._ended, chance, world.run_until if world.concurrent else None
        )
        self.room = WorldRoom(world, self._places_left, self.intake.room)
        self.loop = self.step_loop
        self.loop.bind(self.event_loop, threading.get_ident())

    def hold(self, *args: Any, **options: Any) -> Held:
        """Take charge of an acquired task; see `Worker.hold`."""
        held = super().hold(*args, **options)
        held.writing = self._world.lock()
        return held

    def close_loop(self) -> None:
        """Let what was stopped end, and close the event loop."""
        loop = self.event_loop
        if loop.turning:
            return  # a function stops its own client: the loop goes with it
        for _ in range(LAST_TURNS):
            if not loop.awake:
                break
            loop.turn()
        loop.abandoned = True
        loop.close()

    def dispose(self) -> None:
        """Close the frames that a crash has left; nothing they do is recorded."""
        frames = []
        for held in [*self.held.values(), *self.warm.values()]:
            execution = held.execution
            calls = (execution.root, *execution.calls.values())
            frames += [call.code for call in calls if call.kind == GENERATOR and call.code is not None]
            execution.stop_all(ExecutionStopped(f"{execution.id}: the client has crashed"))
        for task in asyncio.all_tasks(self.event_loop):
            task.cancel()
        self.close_loop()
        for frame in frames:
            try:
                frame.close()
            except BaseException:  # of the user's cleanup, in a process that is long dead
                _LOG.debug("cleanup in a crashed client failed", exc_info=True)

    def _ended(self, held: Held, call: Call) -> None:
        self._world.trace.ended(self.network.pid, held.execution, call)


class WorldWatch(Watch):
    """Makes completions that drive the world while somebody waits for them."""

    def __init__(self, worker: WorldWorker, world: World) -> None:
        super().__init__(worker)
        self._world = world
        self._in = worker

    def expect(self, id: str, returns: Any = Any, options: Options | None = None) -> Completion:
        """The completion of `id`, made if nobody waits for it yet."""
        if id not in self.completions:
            self.completions[id] = WorldCompletion(
                id, returns, Options() if options is None else options, self._world, self._in
            )
        return self.completions[id]


class WorldCompletion(Completion):
    """An outcome that is waited for by driving the world."""

    __slots__ = ("_in", "_world")

    def __init__(self, id: str, returns: Any, options: Options, world: World, worker: WorldWorker) -> None:
        super().__init__(id, returns, options)
        self._world = world
        self._in = worker

    def wait(self, timeout: float | None) -> bool:
        """Drive the world until the outcome is there, or `timeout` seconds of its clock are over.

        Raises:
            Crashed: the client that waits has crashed.
            Stuck: nothing in the world can happen any more.
        """
        if timeout == 0:
            self._world.settle()
        else:
            with self._in.step_pool.waits():
                self._world.run_until(self._over, timeout)
        network = self._in.breakable
        if self.outcome is None and network.dead:
            raise Crashed(f"{network.pid}, which waited for {self.id}, has crashed")
        return self.outcome is not None

    def complete(self, outcome: Outcome) -> None:
        """Set the outcome, once: it is acknowledged from here on."""
        if self.outcome is None:
            self._world.acknowledged(self._in.network.pid, self, outcome)
        super().complete(outcome)

    def when_done(self, callback: Callable[[], None]) -> None:
        """Call back once it is done; inside a loop that is not the world's, drive the world in its turns."""
        super().when_done(callback)
        loop = asyncio._get_running_loop()
        if loop is not None and not isinstance(loop, SteppedEventLoop) and self.outcome is None:
            loop.call_soon(self._drive_from, loop)

    def _drive_from(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._over() or loop.is_closed():
            return
        self._world.skip()
        loop.call_soon(self._drive_from, loop)

    def _over(self) -> bool:
        return self.outcome is not None or self._in.breakable.dead


def shared_of(
    registry: Registry | None,
    dependencies: Dependencies | None,
    settings: Settings,
    time: Any,
    chance: Random,
    *,
    database: bool,
) -> Shared:
    """What the contexts of a client have in common, with the world's time and chance in it."""
    dependencies = Dependencies() if dependencies is None else dependencies
    known = dependencies.view()
    for name, instead in (("resonate:time", time), ("resonate:random", chance)):
        if name not in known:
            dependencies.add(name, instead)
    registry = Registry() if registry is None else registry
    return Shared(registry, dependencies, settings.group, settings.log_level, database=database)


__all__ = ["WorldClient", "WorldCore", "WorldWorker", "shared_of"]
