"""How an execution leaves this worker other than by its result or its next wait.

Something failed, the process is told to stop, somebody else has settled it or has its lease, or
its code does not agree with its record. Each says why, to the log and to whoever waits.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from resonate.errors import ExecutionStopped, ResonateCanceledError, ResonateStoreError
from resonate.execution.coroutine import Raised
from resonate.execution.execution import LOST, REFUSED
from resonate.execution.records import HALT_TAG
from resonate.protocol.records import CANCELED, Promise, Value
from resonate.protocol.requests import PromiseCreate, Response, TaskFence, TaskHalt, TaskRelease
from resonate.values import encode
from resonate.worker import observer as events
from resonate.worker import report
from resonate.worker.held import Held
from resonate.worker.pool import Pool

if TYPE_CHECKING:
    from resonate.worker.worker import Worker

SHOWN: Final = 5
"""Ids that a log line names."""

AFTER_FAILURE: Final = 0.1
"""Seconds for which a task is left alone here after something failed that should not; they double each time."""

AFTER_DIFFERENCE: Final = 0.005
"""The same after a write that the record did not allow: mostly the replay sees what was written meanwhile."""

_LOG: Final = logging.getLogger("resonate.worker")


class Endings:
    """The ends that nobody has asked for.

    Args:
        worker: that holds what ends.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def abandon(self, held: Held, error: Exception) -> None:
        """Something that should not fail has failed: stop here, and leave the task to whoever gets it next.

        That may be this worker, after a pause that grows: what cannot be stored is run again,
        and a full disk is not to have a step run hundreds of times a second.
        """
        id = held.execution.id
        unexpected = None if isinstance(error, ResonateStoreError) else error
        text = "%s: stopped here, whoever gets the task next goes on: %s"
        _LOG.warning(text, id, error, exc_info=unexpected, extra=report.fields(held.execution))
        self._worker.intake.ignore(id, first=AFTER_FAILURE)
        self.release(held)
        self._worker.stop_execution(held, ExecutionStopped(f"{id}: {error}"))
        self._worker.watch.again(id)

    def interrupted(self, held: Held, event: BaseException) -> None:
        """The process was told to stop inside a function: settle nothing, release the task."""
        id = held.execution.id
        self._worker.intake.ignore(id)
        self.release(held)
        self._worker.stop_execution(held, ExecutionStopped(f"{id}: {type(event).__name__} in this process"))
        if Pool.inside() is not None:
            self._worker.watch.completed(id, Raised(event))
        else:
            self._worker.watch.again(id)

    def settled_elsewhere(self, promise: Promise) -> None:
        """The root `promise` was settled by somebody else: tell its code and its waiters."""
        held = self._worker.held.get(promise.id) or self._worker.warm.get(promise.id)
        if held is not None and (held.suspended or not held.closing):
            if promise.state == CANCELED:
                self._worker.stop_execution(held, ResonateCanceledError(promise.id))
            else:
                self._worker.stop_execution(held, ExecutionStopped(f"{promise.id} is {promise.state} already"))
        self._worker.watch.settled(promise)

    def broken(self, held: Held, state: str, answer: Response) -> None:
        """A write was refused: the lease is lost, or the record is not what we believed."""
        id = held.execution.id
        if held.execution.halt is not None:
            self.halt(held)
            return
        if state == REFUSED:
            error = ResonateStoreError(f"{id}: the service refused a call of it: {answer.error}", 400)
            self._worker.stop_execution(held, ExecutionStopped(str(error)))
            self._worker.intake.reject(id, held.execution.version, error)
            return
        if state == LOST:
            if not held.released:
                text = "%s: the lease is lost or the promise is settled; stopped here"
                _LOG.warning(text, id, extra=report.fields(held.execution))
        else:
            _LOG.warning(
                "%s: the record differs from what was run; replaying it", id, extra=report.fields(held.execution)
            )
            self._worker.intake.ignore(id, first=AFTER_DIFFERENCE)
            self.release(held)
        reason = ExecutionStopped(f"{id}: another owner or another outcome")
        self._worker.stop_execution(held, reason, events.LOST if state == LOST else events.STOPPED)
        self._worker.watch.again(id)

    def halt(self, held: Held) -> None:
        """The code of `held` does not agree with the record: stop for good, with the reason, until `resume`."""
        execution, error = held.execution, held.execution.halt
        assert error is not None
        id = execution.id
        _LOG.error("%s", error, extra=report.fields(held.execution))
        data, headers = encode(str(error), "reason")
        note = PromiseCreate(
            f"{execution.root.prefix}halt{execution.version}",
            execution.root.deadline,
            Value(headers, data),
            {**execution.tags(execution.root, id, "local"), HALT_TAG: str(error)},
        )
        try:
            self._worker.network.send([TaskFence(id, execution.version, note, False), TaskHalt(id)], chain=True)
        except ResonateStoreError as failure:
            self.abandon(held, failure)
            return
        self._worker.stop_execution(held, ExecutionStopped(f"{id} was halted: {error}"), events.HALTED)
        self._worker.watch.completed(id, Raised(error), halted=True)

    def release(self, *held: Held) -> None:
        """Give tasks back, so that whoever goes on need not wait for the end of their leases."""
        if not held:
            return
        for one in held:
            one.released = True
        try:
            self._worker.network.send([TaskRelease(one.execution.id, one.execution.version) for one in held])
        except ResonateStoreError as error:
            ids = ", ".join(one.execution.id for one in held[:SHOWN])
            _LOG.warning("%d tasks could not be released, their leases run out instead: %s: %s", len(held), ids, error)


__all__ = ["Endings"]
