"""A worker: the executions this client holds, from acquisition to result, wait or release.

It takes what `Intake` acquires and what `run` creates, has the drivers advance it, writes
what an execution wants written, and decides what becomes of an execution that has nothing
left to run: fulfil, suspend (keeping it warm) or release. Every write is fenced by the
task's version; at the first answer that says "not yours any more" the execution is stopped.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final

from resonate.errors import (
    ExecutionStopped,
    ResonateCanceledError,
    ResonateShutdownError,
    ResonateStoreError,
)
from resonate.execution.call import Call
from resonate.execution.coroutine import Raised
from resonate.execution.execution import BLOCKED, DONE, LOST, OK, REFUSED, Execution
from resonate.execution.records import HALT_TAG
from resonate.network.base import Network
from resonate.protocol.records import CANCELED, PENDING, Promise, Value
from resonate.protocol.requests import (
    PromiseCreate,
    PromiseGet,
    PromiseRegisterListener,
    Request,
    Response,
    TaskFence,
    TaskHalt,
    TaskRelease,
)
from resonate.registry import Registry
from resonate.values import encode
from resonate.worker.held import Held
from resonate.worker.intake import Intake
from resonate.worker.lease import Leases
from resonate.worker.loop import Loop
from resonate.worker.pool import Pool
from resonate.worker.room import Room
from resonate.worker.threads import Threads
from resonate.worker.ticker import PULSE, Ticker
from resonate.worker.watch import Watch

WARM_LIMIT: Final = 50_000
"""Suspended executions kept in memory; beyond it the ones that will wake last are closed."""

WARM_SPARE: Final = 500
"""How many are closed at once, so that choosing them is not done for each suspension."""

SHOWN: Final = 5
"""Ids that a log line names."""

SOON: Final = 60.0
"""Seconds: deadlines nearer than this have a timer, further ones are found by a sweep."""

AFTER_FAILURE: Final = 0.1
"""Seconds for which a task is left alone here after something failed that should not; they double each time."""

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
        self.pool = Pool("resonate-worker", threads)
        self.ticker = Ticker(clock, self._pulse)
        self.leases = Leases(network.pid, ttl_ms, self._heartbeat, self._check_roots)
        self.watch = Watch(self)
        self.threads = Threads(self, make_context)
        self.loop = Loop(self, make_context)
        self.clock = clock
        self.intake = Intake(self)
        self.pool.on_standing = self.intake.room
        self.room = Room(lambda: self.full)
        self._swept = 0.0

    # ---- life --------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to take messages, and say which functions can be run here. Idempotent."""
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
        self._release(*(held for held in held_now if not held.suspended))
        for held in held_now:
            self.stop_execution(held, ExecutionStopped(f"{held.execution.id}: {reason}"))
        self.pool.stop(left())
        self.loop.stop(left())
        self.ticker.stop()
        self.leases.stop()
        self.network.stop()
        self.watch.abandon(ResonateShutdownError(reason))

    # ---- taking on and driving -----------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether no further execution may be begun from outside."""
        return len(self.held) >= self.max_concurrent and not self.stopped

    def hold(
        self, promise: Promise, version: int, preload: Sequence[Promise], root: Call, *, complete: bool = True
    ) -> Held:
        """Take charge of an acquired task; `complete` says that `preload` is all that is recorded of it."""
        network = self.network
        execution = Execution(promise, version, preload, network.now, root, complete=complete, dialect=network.dialect)
        held = Held(execution)
        held.since = self.clock()
        self.held[promise.id] = held
        self.leases.hold(promise.id, version)
        self.ticker.watch()
        if version > 1 or promise.timeout_at - promise.created_at < SOON * 1000:
            left = (promise.timeout_at - self.network.now()) / 1000
            if left < SOON:
                self.ticker.after(left, lambda: self._deadline(held))
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
            self._halt(held)
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
                if not execution.outbox:
                    return
                batch = execution.take(before_step)
            answers = self._send(held, batch)
            if answers is None:
                return
            with held.lock:
                state = execution.answered(batch, answers)
        if state != OK:
            self.broken(held, state, answers[-1])
        elif execution.arrivals or execution.starting:
            self.loop.pump(held)

    def _send(self, held: Held, batch: list[Request]) -> list[Response] | None:
        try:
            return self.network.send(batch, chain=held.execution.stop is None)
        except ResonateStoreError as error:
            self.abandon(held, error)
            return None

    def _finish(self, held: Held) -> None:
        execution = held.execution
        with held.writing:
            sent = self._conclude(held, lambda: [execution.fulfil()])
        if sent is None:
            return
        state, answer = sent
        if state != OK:
            self.broken(held, state, answer)
            return
        end = execution.root.ended
        assert end is not None
        self.intake.went_on(execution.id)
        self.forget(held)
        self.watch.completed(execution.id, end.outcome)
        execution.root.forget_code()  # no cycle is left, so all of it is freed here and now

    def _suspend(self, held: Held) -> bool:
        execution = held.execution
        with held.writing:
            with held.lock:
                if execution.rest() != BLOCKED:  # news of what it waited for came in between
                    return True
                held.suspended = True
            self.warm[execution.id] = held
            self.forget(held)
            sent = self._conclude(held, lambda: [*self._listener(held), execution.suspend()])
            if sent is None:
                return False
            state, answer = sent
            suspended = state == OK and answer.status == 200
            if not suspended:
                held.suspended = False
                self.warm.pop(execution.id, None)
                self.held[execution.id] = held
                self.leases.hold(execution.id, execution.version)
        if suspended:
            self.intake.went_on(execution.id)
            self._trim_warm()
            return False
        if state != OK:
            self.broken(held, state, answer)
            return False
        self.learn(held, list(execution.awaited))
        return True

    def _conclude(self, held: Held, last: Callable[[], list[Request]]) -> tuple[str, Response] | None:
        """Write all that is queued, and `last`: what became of it and the last answer; None if nothing is known."""
        execution = held.execution
        while True:
            batch = [*execution.take(), *last()]
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
            self.abandon(held, error)
            return
        with held.lock:
            for answer in answers:
                if answer.promise is not None:
                    held.execution.settle(answer.promise)
        if held.execution.arrivals:
            self.loop.pump(held)

    # ---- the other ways to end ------------------------------------------------------------------------

    def forget(self, held: Held) -> None:
        """`held` is not driven any more: its lease ends and there is room for another."""
        id = held.execution.id
        if self.held.get(id) is held:
            del self.held[id]
            self.leases.drop(id)
        self.room.freed()
        self.intake.room()

    def stop_execution(self, held: Held, reason: BaseException) -> None:
        """Stop all code of `held`; its frames are closed with `reason`, nothing more is written."""
        with held.lock:
            if held.execution.stop is not None:
                return
            held.execution.stop_all(reason)
        self.warm.pop(held.execution.id, None)
        self.forget(held)
        self.loop.stop_stopped(held)
        if held.execution.ready:
            self.submit(held)

    def abandon(self, held: Held, error: Exception) -> None:
        """Something that should not fail has failed: stop here, and leave the task to whoever gets it next.

        That may be this worker, after a pause that grows: what cannot be stored is run again,
        and a full disk is not to have a step run hundreds of times a second.
        """
        id = held.execution.id
        unexpected = None if isinstance(error, ResonateStoreError) else error
        _LOG.warning("%s: stopped here, whoever gets the task next goes on: %s", id, error, exc_info=unexpected)
        self.intake.ignore(id, first=AFTER_FAILURE)
        self._release(held)
        self.stop_execution(held, ExecutionStopped(f"{id}: {error}"))
        self.watch.again(id)

    def rewarm(self, held: Held, version: int) -> None:
        """A warm execution was acquired again and goes on in place; what has passed its deadline does not."""
        held.execution.resume(version)
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

    def evict(self, held: Held) -> None:
        """Close a suspended execution to free its memory; it is replayed when it wakes."""
        if not held.writing.acquire(blocking=False):
            return  # it is being woken, or is only just suspending
        try:
            if held.suspended:
                self.stop_execution(held, ExecutionStopped(f"{held.execution.id} makes room for others"))
        finally:
            held.writing.release()

    def interrupted(self, held: Held, event: BaseException) -> None:
        """The process was told to stop inside a function: settle nothing, release the task."""
        id = held.execution.id
        self.intake.ignore(id)
        self._release(held)
        self.stop_execution(held, ExecutionStopped(f"{id}: {type(event).__name__} in this process"))
        if Pool.inside() is not None:
            self.watch.completed(id, Raised(event))
        else:
            self.watch.again(id)

    def settled_elsewhere(self, promise: Promise) -> None:
        """The root `promise` was settled by somebody else: tell its code and its waiters."""
        held = self.held.get(promise.id) or self.warm.get(promise.id)
        if held is not None and (held.suspended or not held.closing):
            if promise.state == CANCELED:
                self.stop_execution(held, ResonateCanceledError(promise.id))
            else:
                self.stop_execution(held, ExecutionStopped(f"{promise.id} is {promise.state} already"))
        self.watch.settled(promise)

    def retrying(self, held: Held, call: Call, delay: float) -> None:
        """Say that `call` failed and is tried again."""
        call.context.logger.warning(
            "attempt %d of %s failed, trying again in %g s", call.attempt, call.name or call.id, delay
        )

    def _release(self, *held: Held) -> None:
        """Give tasks back, so that whoever goes on need not wait for the end of their leases."""
        if not held:
            return
        try:
            self.network.send([TaskRelease(one.execution.id, one.execution.version) for one in held])
        except ResonateStoreError as error:
            ids = ", ".join(one.execution.id for one in held[:SHOWN])
            _LOG.warning("%d tasks could not be released, their leases run out instead: %s: %s", len(held), ids, error)

    def broken(self, held: Held, state: str, answer: Response) -> None:
        """A write was refused: the lease is lost, or the record is not what we believed."""
        id = held.execution.id
        if held.execution.halt is not None:
            self._halt(held)
            return
        if state == REFUSED:
            error = ResonateStoreError(f"{id}: the service refused a call of it: {answer.error}", 400)
            self.stop_execution(held, ExecutionStopped(str(error)))
            self.intake.reject(id, held.execution.version, error)
            return
        if state == LOST:
            _LOG.warning("%s: the lease is lost or the promise is settled; stopped here", id)
        else:
            _LOG.warning("%s: the record differs from what was run; replaying it", id)
            self._release(held)
        self.stop_execution(held, ExecutionStopped(f"{id}: another owner or another outcome"))
        self.watch.again(id)

    def _halt(self, held: Held) -> None:
        """The code does not agree with the record: stop for good, with the reason, until `resume`."""
        execution, error = held.execution, held.execution.halt
        assert error is not None
        id = execution.id
        _LOG.error("%s", error)
        data, headers = encode(str(error), "reason")
        note = PromiseCreate(
            f"{execution.root.prefix}halt{execution.version}",
            execution.root.deadline,
            Value(headers, data),
            {**execution.tags(execution.root, id, "local"), HALT_TAG: str(error)},
        )
        try:
            self.network.send([TaskFence(id, execution.version, note, False), TaskHalt(id)], chain=True)
        except ResonateStoreError as failure:
            self.abandon(held, failure)
            return
        self.stop_execution(held, ExecutionStopped(f"{id} was halted: {error}"))
        self.watch.completed(id, Raised(error))

    # ---- time -------------------------------------------------------------------------------------------

    def _pulse(self) -> bool:
        """Flush what has waited for a beat; listen for those that stay busy."""
        now = self.clock()
        for held in list(self.held.values()):
            if now - held.since < PULSE:
                continue
            if held.execution.outbox and not held.closing:
                self.flush(held)
            self._listen(held)
        if now - self._swept > SOON / 2:
            self._swept = now
            self._sweep()
        self.watch.refresh(now)
        self.loop.check()
        return bool(self.held) or self.watch.busy

    def _listen(self, held: Held) -> None:
        """`held` stays busy: hear of its root and of what it waits for while it runs."""
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

    def _sweep(self) -> None:
        for held in [*self.held.values(), *self.warm.values()]:
            left = (held.execution.root.deadline - self.network.now()) / 1000
            if left < SOON:
                self.ticker.after(left, lambda held=held: self._deadline(held))  # type: ignore[misc]

    def _deadline(self, held: Held) -> None:
        if held.execution.stop is None:
            self._check_roots([held.execution.id])

    def _check_roots(self, ids: list[str]) -> None:
        """Read roots we hold: somebody may have settled or cancelled them."""
        answers = self.network.send([PromiseGet(id) for id in ids])
        for id, answer in zip(ids, answers, strict=True):
            promise, held = answer.promise, self.held.get(id)
            if promise is not None and promise.state != PENDING:
                self.settled_elsewhere(promise)
            elif held is not None and (promise is None or promise.created_at != held.execution.created_at):
                self.stop_execution(held, ExecutionStopped(f"{id} was cancelled and purged"))
                self.watch.again(id)

    def _heartbeat(self, requests: list[Request]) -> object:
        return self.network.send(requests)

    def _trim_warm(self) -> None:
        if len(self.warm) <= WARM_LIMIT:
            return
        last = sorted(self.warm.values(), key=lambda held: held.execution.wakes_at(), reverse=True)
        for held in last[:WARM_SPARE]:
            self.evict(held)
