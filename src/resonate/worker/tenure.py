"""Whether what this worker holds is still its own: leases, deadlines, roots that others settle."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from resonate.errors import ExecutionStopped, ResonateStoreError
from resonate.execution.execution import LOST
from resonate.protocol.records import ACQUIRED, PENDING, Promise
from resonate.protocol.requests import PromiseGet, TaskGet, TaskHeartbeat, TaskRef
from resonate.worker.held import Held

if TYPE_CHECKING:
    from resonate.worker.worker import Worker

SOON: Final = 60.0
"""Seconds: deadlines nearer than this have a timer, further ones are found by a sweep."""


AGAIN: Final = 5.0
"""Seconds before a deadline that has passed is looked at again, if the service was out of reach."""

_LOG: Final = logging.getLogger("resonate.worker")


class Tenure:
    """How long what is held may be held.

    Args:
        worker: that holds it.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._swept = 0.0

    def leased(self, held: Held) -> bool:
        """Whether the task of `held` is still ours, asked for where we cannot know; stops the execution if it is not.

        A process that stood still, or could not reach the service, for longer than its leases last is not to begin
        a step that somebody else may have finished meanwhile.
        """
        worker = self._worker
        asked = worker.clock()
        if asked < held.leased_until:
            return True
        id, version, pid = held.execution.id, held.execution.version, worker.network.pid
        try:
            worker.network.send([TaskHeartbeat(pid, (TaskRef(id, version),))])
            answer = worker.network.send([TaskGet(id)])[0]
        except ResonateStoreError as error:
            worker.endings.abandon(held, error)
            return False
        task = answer.task
        if task is None or (task.state, task.version, task.pid) != (ACQUIRED, version, pid):
            worker.endings.broken(held, LOST, answer)
            return False
        held.leased_until = asked + worker.ttl_ms / 1000
        return True

    def heartbeat(self, request: TaskHeartbeat) -> None:
        """Renew leases. The answer tells nothing of each, but a lease that had not ended before it came is renewed."""
        worker = self._worker
        asked = worker.clock()
        worker.network.send([request])
        now = worker.clock()
        for ref in request.tasks:
            held = worker.held.get(ref.id)
            if held is not None and held.execution.version == ref.version and now < held.leased_until:
                held.leased_until = asked + worker.ttl_ms / 1000

    def check_roots(self, ids: list[str]) -> None:
        """Read roots we hold: somebody may have settled or cancelled them."""
        worker = self._worker
        answers = worker.network.send([PromiseGet(id) for id in ids])
        for id, answer in zip(ids, answers, strict=True):
            promise, held = answer.promise, worker.held.get(id)
            if promise is not None and promise.state != PENDING:
                worker.endings.settled_elsewhere(promise)
            elif held is not None and (promise is None or promise.created_at != held.execution.created_at):
                worker.stop_execution(held, ExecutionStopped(f"{id} was cancelled and purged"))
                worker.watch.again(id)

    def begun(self, held: Held, promise: Promise) -> None:
        """`held` has come: see to its deadline, if that is near."""
        if held.execution.version > 1 or promise.timeout_at - promise.created_at < SOON * 1000:
            self._time(held, promise.timeout_at)

    def sweep(self, now: float) -> None:
        """Find deadlines that have come near, every now and then; `now` on the worker's clock."""
        if now - self._swept <= SOON / 2:
            return
        self._swept = now
        for held in [*self._worker.held.values(), *self._worker.warm.values()]:
            self._time(held, held.execution.root.deadline)

    def _time(self, held: Held, deadline: int) -> None:
        left = (deadline - self._worker.network.now()) / 1000
        if left < SOON:
            self._worker.ticker.after(left, lambda: self._passed(held))

    def _passed(self, held: Held) -> None:
        if held.execution.stop is not None:
            return
        id = held.execution.id
        try:
            self.check_roots([id])
        except ResonateStoreError as error:
            _LOG.warning("%s: its deadline has passed, which cannot be seen yet, trying again: %s", id, error)
            self._worker.ticker.after(AGAIN, lambda: self._passed(held))


__all__ = ["Tenure"]
