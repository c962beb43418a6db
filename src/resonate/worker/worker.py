"""A worker: the executions this client holds, from acquisition to result, wait or release.

It takes what `Intake` acquires and what `run` creates, has the drivers advance it, writes
what an execution wants written, and decides what becomes of an execution that has nothing
left to run: fulfil, suspend (keeping it warm) or release. Every write is fenced by the
task's version; at the first answer that says "not yours any more" the execution is stopped.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from resonate.errors import (
    ExecutionStopped,
    ResonateShutdownError,
    ResonateStoreError,
)
from resonate.execution.call import Call, Settled
from resonate.execution.coroutine import Outcome, Raised
from resonate.execution.elsewhere import pointers
from resonate.execution.execution import BLOCKED, DONE, OK, Execution
from resonate.network.base import Network
from resonate.protocol.records import PENDING, Promise
from resonate.protocol.requests import (
    PromiseGet,
    PromiseRegisterListener,
    Request,
    Response,
)
from resonate.registry import Registry
from resonate.worker import observer as events
from resonate.worker import report
from resonate.worker.endings import Endings
from resonate.worker.held import Held
from resonate.worker.intake import Intake
from resonate.worker.lease import Leases
from resonate.worker.loop import Loop
from resonate.worker.observer import Observer, Observers
from resonate.worker.pool import Pool
from resonate.worker.room import Room
from resonate.worker.tenure import Tenure
from resonate.worker.threads import Threads
from resonate.worker.ticker import PULSE, Ticker
from resonate.worker.watch import Watch

WARM_LIMIT: Final = 50_000
"""Suspended executions kept in memory; beyond it the ones that will wake last are closed."""

WARM_SPARE: Final = 500
"""How many are closed at once, so that choosing them is not done for each suspension."""

UNBOUND: Final = 1 << 30
"""Executions that a worker that was stopped has room for: whoever waits is to be told of the stop instead."""

_LOG: Final = logging.getLogger("resonate.worker")


class Worker:
    """Everything that one client runs.

    Args:
        network: where promises and tasks are kept.
        registry: the functions that tasks may name.
        ttl_ms: length of a lease, milliseconds.
        threads: threads for plain functions and generators.
        max_concurrent: executions driven at the same time.
        make_context: builds what functions get as their first argument.
        clock: seconds that only move forward, for waits of this process.
    """

    def __init__(
        self,
        network: Network,
        registry: Registry,
        *,
        ttl_ms: int,
        threads: int,
        max_concurrent: int,
        make_context: Callable[[Execution, Call], Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.network = network
        self.registry = registry
        self.ttl_ms = ttl_ms
        self.max_concurrent = max_concurrent
        self.held: dict[str, Held] = {}
        self.warm: OrderedDict[str, Held] = OrderedDict()
        self.stopped = False
        self.observer: Observers | None = None
        self.pool = Pool("resonate-worker", threads)
        self.ticker = Ticker(clock, self._pulse)
        self.endings = Endings(self)
        self.tenure = Tenure(self)
        self.leases = Leases(network.pid, ttl_ms, self.tenure.heartbeat, self.tenure.check_roots)
        self.watch = Watch(self)
        self.threads = Threads(self, make_context)
        self.loop = Loop(self, make_context)
        self.clock = clock
        self.intake = Intake(self)
        self.pool.on_standing = self.intake.room
        self.room = Room(self._places_left, self.intake.room)

    # ---- life --------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to take messages, and say which functions can be run here. Idempotent."""
        self.registry.tell(self.intake)
        self.intake.missing.here(self.registry.names())
        self.network.listen(self.intake.wake, lambda: self.later(0, self.watch.renew))
        self.network.start()

    def stop(self, timeout: float | None = None) -> None:
        """Stop taking tasks, release what is held, leave every waiter with an error. Idempotent.

        Steps that run may end, and their results are recorded, so that whoever goes on does
        not run them again; no further step is begun.

        Args:
            timeout: seconds to wait for steps that are running; None waits for their end.
        """
        if self.stopped:
            return
        self.stopped = True
        self.room.open()
        self.network.leave()
        reason = "the client was stopped"
        limit = None if timeout is None else time.monotonic() + timeout

        def left() -> float | None:
            return None if limit is None else max(0.0, limit - time.monotonic())

        self.watch.abandon(ResonateShutdownError(reason))  # a step that waits in result() could not end otherwise
        self.threads.drain(timeout)
        held_now = [*self.held.values(), *self.warm.values()]
        self.endings.release(*(held for held in held_now if not held.suspended))
        for held in held_now:
            self.stop_execution(held, ExecutionStopped(f"{held.execution.id}: {reason}"))
        self.pool.stop(left())
        self.loop.stop(left())
        self.ticker.stop()
        self.leases.stop()
        self.network.stop()
        self.watch.abandon(ResonateShutdownError(reason))

    def runs_here(self) -> bool:
        """Whether this thread runs code of executions: `stop` waits for that, so it must not wait for `stop`."""
        return (
            Pool.inside() is self.pool or self.threads.drives_here() or self.loop.bound_to(asyncio._get_running_loop())
        )

    # ---- being watched ---------------------------------------------------------------------------

    def observe(self, observer: Observer) -> None:
        """Have `observer` told of what happens from now on."""
        members = () if self.observer is None else self.observer.members
        observer.attached(self.network.pid, self.network.group)
        self.observer = Observers((*members, observer))

    def attempt_ended(
        self, execution: Execution, call: Call, outcome: Outcome, settled: Settled | float | None
    ) -> None:
        """The code of `call` has ended with `outcome`; seconds in `settled` are those until its next attempt."""
        if self.observer is not None:
            self.observer.attempt_ended(execution, call, outcome, settled if type(settled) is float else None)

    def surroundings(self, call: Call) -> AbstractContextManager[object]:
        """What the code of a step or an async function is to run in."""
        return nullcontext() if self.observer is None else self.observer.within(call)

    def _came(self, held: Held, how: str) -> None:
        held.told = True
        report.came(held.execution, how)
        if self.observer is not None:
            self.observer.came(held.execution, how)

    def _left(self, held: Held, how: str) -> None:
        held.told = False
        report.left(held.execution, how)
        if self.observer is not None:
            self.observer.left(held.execution, how)

    # ---- taking on and driving -----------------------------------------------------------------

    def _places_left(self) -> int:
        """How many more executions may be held; whoever is stopped lets nobody wait."""
        return UNBOUND if self.stopped else self.max_concurrent - len(self.held)

    def hold(
        self,
        promise: Promise,
        version: int,
        preload: Sequence[Promise],
        root: Call,
        *,
        complete: bool = True,
        how: str = events.BEGUN,
        asked: float | None = None,
    ) -> Held:
        """Take charge of an acquired task.

        Args:
            complete: whether `preload` is all that is recorded of it.
            how: it came to us.
            asked: on our clock, when the task was asked for: its lease is at least as old. None is now.
        """
        network = self.network
        execution = Execution(
            promise,
            version,
            preload,
            network.now,
            root,
            complete=complete,
            dialect=network.dialect,
            pid=network.pid,
        )
        held = Held(execution)
        held.since = self.clock()
        held.leased_until = (held.since if asked is None else asked) + self.ttl_ms / 1000
        self.held[promise.id] = held
        self.leases.hold(promise.id, version)
        self.ticker.watch()
        self._came(held, how)
        self.tenure.begun(held, promise)
        return held

    def submit(self, held: Held) -> None:
        """Have a thread of the pool drive `held`."""
        self.pool.submit(lambda: self.threads.drive(held))

    def later(self, seconds: float, job: Callable[[], object]) -> None:
        """Run a short job on the ticker's thread."""
        self.ticker.after(seconds, job)

    def arm(self, held: Held) -> None:
        """Steps with deadlines of their own were begun: end them when those pass."""
        with held.lock:
            timed, held.execution.timed = held.execution.timed, []
            held.timed += timed
        now = self.network.now()
        for call in timed:
            self.ticker.after((call.deadline - now) / 1000, lambda call=call: self._expire(held, call))  # type: ignore[misc]

    def _expire(self, held: Held, call: Call) -> None:
        with held.lock:
            if held.execution.stop is not None or held.suspended:
                return
            held.execution.expire(call)
        self.loop.stop_stopped(held)
        if held.execution.arrivals:
            self.loop.pump(held)
        self.submit(held)

    def close_round(self, held: Held) -> bool:
        """A driver has nothing to advance in `held`; True if it has again after this."""
        execution = held.execution
        with held.lock:
            if held.closing or execution.stop is not None:
                return False
            state = "halt" if execution.halt is not None else execution.rest()
            if state is not None:
                held.closing = True
        if state is None:
            if execution.unwritten:
                self.flush(held)
            return bool(execution.ready)
        if state == "halt":
            self.endings.halt(held)
            return False
        if state == DONE:
            self._finish(held)
            return False
        again = self._suspend(held)
        if again:
            held.closing = False
        return again

    # ---- writing -----------------------------------------------------------------------------------

    def flush(self, held: Held, before_step: bool = False) -> None:
        """Make everything queued in `held` durable, or what has to be before a step starts."""
        execution = held.execution
        with held.writing:
            with held.lock:
                batch = execution.take(before_step)
            if not batch:
                return
            answers = self._send(held, batch)
            if answers is None:
                return
            with held.lock:
                state = execution.answered(batch, answers)
        if state != OK:
            self.endings.broken(held, state, answers[-1])
        elif execution.arrivals or execution.starting:
            self.loop.pump(held)

    def _send(self, held: Held, batch: list[Request]) -> list[Response] | None:
        try:
            if self.observer is None:
                return self.network.send(batch, chain=held.execution.stop is None)
            began = time.perf_counter()
            answers = self.network.send(batch, chain=held.execution.stop is None)
            self.observer.sent(len(batch), time.perf_counter() - began)
            return answers
        except ResonateStoreError as error:
            self.endings.abandon(held, error)
            return None

    def _finish(self, held: Held) -> None:
        execution = held.execution
        if execution.records is not None and not self._made_all(held):
            return
        with held.writing:
            if execution.stop is not None:  # a write of another thread has failed in between
                return
            sent = self._conclude(held, lambda: [execution.fulfil()])
        if sent is None:
            return
        state, answer = sent
        if state != OK:
            self.endings.broken(held, state, answer)
            return
        end = execution.root.ended
        assert end is not None
        self.intake.went_on(execution.id)
        self.forget(held)
        self._left(held, events.FAILED if type(end.outcome) is Raised else events.SUCCEEDED)
        self.watch.completed(execution.id, end.outcome)
        execution.root.forget_code()  # no cycle is left, so all of it is freed here and now

    def _made_all(self, held: Held) -> bool:
        """Whether a replay has made every call that is recorded of its root; else it is halted."""
        id = held.execution.beyond()
        if id is None:
            return True
        try:
            (answer,) = self.network.send([PromiseGet(id)])
        except ResonateStoreError as error:
            self.endings.abandon(held, error)
            return False
        if held.execution.made_all(answer.promise):
            return True
        self.endings.halt(held)
        return False

    def _suspend(self, held: Held) -> bool:
        execution = held.execution
        with held.writing:
            with held.lock:
                if execution.stop is not None:  # a write of another thread has failed in between
                    return False
                if execution.halt is not None or execution.rest() != BLOCKED:  # its code has gone on in between
                    return True
                if not execution.awaited:  # a step ended while the client stops: what it did is not recorded
                    return False
                held.suspended = True
            self.warm[execution.id] = held
            self.forget(held)
            sent = self._conclude(held, lambda: self._waits(held))
            if sent is None:
                return False
            state, answer = sent
            suspended = state == OK and answer.status == 200
            if suspended:
                self._left(held, events.SUSPENDED)
            else:
                held.suspended = False
                self.warm.pop(execution.id, None)
                if execution.stop is None:
                    self.held[execution.id] = held
                    self.leases.hold(execution.id, execution.version)
        if suspended:
            self.intake.went_on(execution.id)
            if execution.id in self.watch.completions:
                self.watch.suspended()
            self._trim_warm()
            return False
        if state != OK:
            self.endings.broken(held, state, answer)
            return False
        self.learn(held, list(execution.awaited))
        return True

    def _waits(self, held: Held) -> list[Request]:
        """The requests that suspend `held`; none if what was written last has brought what it waited for."""
        with held.lock:
            if held.execution.rest() != BLOCKED or not held.execution.awaited:
                return []
            return [*pointers(held.execution), *self._listener(held), held.execution.suspend()]

    def _conclude(self, held: Held, last: Callable[[], list[Request]]) -> tuple[str, Response] | None:
        """Write all that is queued, and `last`: what became of it and the last answer; None if nothing is known."""
        execution = held.execution
        while True:
            end = last()
            if not end:
                return OK, Response(300)
            batch = [*execution.take(), *end]
            answers = self._send(held, batch)
            if answers is None:
                return None
            state = execution.answered(batch, answers)
            if state != OK or len(answers) == len(batch):
                return state, answers[-1]

    def _listener(self, held: Held) -> list[Request]:
        """Once for each execution: hear if somebody else settles its root, by cancelling it for instance."""
        if held.listening:
            return []
        held.listening = True
        return [PromiseRegisterListener(held.execution.id, self.network.unicast())]

    def learn(self, held: Held, ids: Sequence[str]) -> None:
        """Read the promises `ids` and hand what is settled to the execution."""
        try:
            answers = self.network.send([PromiseGet(id) for id in ids])
        except ResonateStoreError as error:
            self.endings.abandon(held, error)
            return
        with held.lock:
            for answer in answers:
                if answer.promise is not None:
                    held.execution.settle(answer.promise)
        if held.execution.arrivals:
            self.loop.pump(held)

    # ---- letting go and coming back ------------------------------------------------------------------------

    def forget(self, held: Held) -> None:
        """`held` is not driven any more: its lease ends and there is room for another."""
        id = held.execution.id
        if self.held.get(id) is held:
            del self.held[id]
            self.leases.drop(id)
        self.room.freed()
        self.intake.room()

    def stop_execution(self, held: Held, reason: BaseException, how: str = events.STOPPED) -> None:
        """Stop all code of `held`; its frames are closed with `reason`, nothing more is written."""
        with held.lock:
            if held.execution.stop is not None:
                return
            held.execution.stop_all(reason)
        if held.told:
            self._left(held, how)
        elif self.observer is not None:
            self.observer.closed(held.execution, how == events.EVICTED)
        self.warm.pop(held.execution.id, None)
        self.forget(held)
        self.loop.stop_stopped(held)
        if held.execution.ready:
            self.submit(held)

    def rewarm(self, held: Held, version: int, asked: float) -> None:
        """A warm execution was acquired again and goes on in place; what has passed its deadline does not.

        Args:
            asked: on our clock, when it was.
        """
        held.execution.resume(version)
        held.leased_until = asked + self.ttl_ms / 1000
        if held.timed:
            now = self.network.now()
            with held.lock:
                held.timed = [call for call in held.timed if not call.done]
                for call in held.timed:
                    if call.deadline <= now:
                        held.execution.expire(call)
            self.loop.stop_stopped(held)
        held.suspended = False
        self.warm.pop(held.execution.id, None)
        self.held[held.execution.id] = held
        self.leases.hold(held.execution.id, version)
        self.ticker.watch()
        self._came(held, events.RESUMED)

    def evict(self, held: Held) -> None:
        """Close a suspended execution to free its memory; it is replayed when it wakes."""
        if not held.writing.acquire(blocking=False):
            return  # it is being woken, or is only just suspending
        try:
            if held.suspended:
                reason = ExecutionStopped(f"{held.execution.id} makes room for others")
                self.stop_execution(held, reason, events.EVICTED)
        finally:
            held.writing.release()

    def retrying(self, call: Call, delay: float, outcome: Outcome) -> None:
        """Say that `call` failed and is tried again."""
        error = outcome.error if type(outcome) is Raised else None
        call.context.logger.warning(
            "attempt %d of %s failed, trying again in %g s: %s",
            call.attempt,
            call.name or call.id,
            delay,
            report.shown(error),
        )

    # ---- time -------------------------------------------------------------------------------------------

    def _pulse(self) -> bool:
        """Flush what has waited for a beat; listen for those that stay busy."""
        now = self.clock()
        for held in list(self.held.values()):
            if now - held.since >= PULSE:
                self.tend(held)
        self.tenure.sweep(now)
        self.watch.refresh(now)
        self.loop.check()
        return bool(self.held) or self.watch.busy

    def tend(self, held: Held) -> None:
        """`held` stays busy: make durable what is queued, and hear of its root and of what it waits for meanwhile."""
        if held.execution.queued and not held.closing:
            self.flush(held)
        self._listen(held)

    def unheard(self, held: Held) -> bool:
        """Whether `held` waits for something that others see to, and would not hear of it; `held.lock` is held."""
        return any(id not in self.watch.children for id in held.execution.awaited)

    def _listen(self, held: Held) -> None:
        execution = held.execution
        with held.lock:
            if execution.stop is not None or held.suspended or held.closing:
                return
            wanted = [id for id in execution.awaited if id not in self.watch.children]
        requests: list[Request] = [PromiseRegisterListener(id, self.network.unicast()) for id in wanted]
        requests += self._listener(held)
        if not requests:
            return
        for id in wanted:
            self.watch.children[id] = held
        try:
            answers = self.network.send(requests)
        except ResonateStoreError as error:
            _LOG.warning("%s: cannot listen to what it waits for yet: %s", execution.id, error)
            held.listening = False
            for id in wanted:
                self.watch.children.pop(id, None)
            return
        for answer in answers:
            if answer.promise is not None and answer.promise.state != PENDING:
                self.watch.heard(answer.promise)

    def _trim_warm(self) -> None:
        if len(self.warm) <= WARM_LIMIT:
            return
        last = sorted(self.warm.values(), key=lambda held: held.execution.wakes_at(), reverse=True)
        for held in last[:WARM_SPARE]:
            self.evict(held)
