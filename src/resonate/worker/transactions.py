"""Runs the steps of `ctx.transaction`: their changes and their results are one commit."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from resonate.errors import ResonateStoreError
from resonate.execution.call import Call
from resonate.execution.concluding import conclude
from resonate.execution.coroutine import NOTHING, Outcome, Raised, Returned
from resonate.execution.execution import DIVERGED, LOST, Execution
from resonate.protocol import chain
from resonate.protocol.records import RESOLVED
from resonate.protocol.requests import Request
from resonate.worker.held import Held
from resonate.worker.sessions import session_over

if TYPE_CHECKING:
    from resonate.worker.worker import Worker

SHARE: Final = 0.5
"""Of a lease: for so long a transaction may hold up those who want to renew theirs."""

SLOW: Final = 0.1
"""Seconds from which a transaction is worth a warning: whoever wants to write waits for it."""

_LOG: Final = logging.getLogger("resonate.worker")


class _Undone(Exception):
    """Nothing of the transaction is to stay; the step's code ended like this."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


class _Work:
    """What happens inside the transaction: the step's code, and what is to be written of it."""

    def __init__(self, worker: Worker, held: Held, call: Call, make_context: Callable[[Execution, Call], Any]) -> None:
        self._worker = worker
        self._make_context = make_context
        self.batch: list[Request] = []
        self.outcome: Outcome = NOTHING
        self._held = held
        self._call = call

    def __call__(self, connection: Any) -> Callable[[], Sequence[Request]]:
        call = self._call
        assert call.func is not None
        call.context = self._make_context(self._held.execution, call)
        call.started_at = self._held.execution.now()
        observer = self._worker.observer
        if observer is not None:
            observer.attempt_began(self._held.execution, call)
        began = time.monotonic()
        try:
            with session_over(connection, call.func) as lent, self._worker.surroundings(call):
                value = call.func(lent, *call.args, **(call.kwargs or {}))
        except Exception as error:
            raise _Undone(Raised(error)) from error
        took = time.monotonic() - began
        if took > SLOW and self._worker.network.exclusive:  # nobody else can write meanwhile
            _LOG.warning(
                "%s held the storage's write lock for %d ms; do what is slow in a step before ctx.transaction",
                call.id,
                took * 1000,
            )
        return lambda: self._record(value)

    def _record(self, value: Any) -> Sequence[Request]:
        call, execution = self._call, self._held.execution
        self.outcome = Returned(value)
        settled = conclude(call, self.outcome, execution.now)
        assert type(settled) is not float, "a value is never tried again"
        if settled.state != RESOLVED:  # type: ignore[union-attr]
            raise _Undone(settled.outcome)  # type: ignore[union-attr]
        with self._held.lock:
            if execution.now() >= call.deadline:
                execution.expire(call)
            if call.stop is not None or call.done or execution.stop is not None:
                raise _Undone(NOTHING)
            execution.ended(call, settled)  # type: ignore[arg-type]
            self.batch = execution.take()
        return self.batch


def transact(worker: Worker, held: Held, call: Call, make_context: Callable[[Execution, Call], Any]) -> Outcome | None:
    """Run the step `call` and store its result in one transaction with what it changed.

    Returns:
        None if that is done, or cannot be; else an outcome that is still to be recorded: nothing
        of what the step changed has stayed.
    """
    execution = held.execution
    if call.stop is not None or call.done or execution.stop is not None:
        return NOTHING
    work = _Work(worker, held, call, make_context)
    with held.writing:  # nobody writes for this execution meanwhile: what they queue stays in order
        try:
            answers = worker.network.transact(work, worker.ttl_ms / 1000 * SHARE)
        except _Undone as undone:
            return undone.outcome
        except ResonateStoreError as error:
            worker.endings.abandon(held, error)
            return NOTHING
        except Exception as error:  # a misuse, or what the database refuses of the step's changes
            if work.outcome is not NOTHING:  # too late: the execution has gone on from its result
                raise
            return Raised(error)
        whole = chain.whole(work.batch, answers)
        if whole:
            with held.lock:
                execution.answered(work.batch, answers)
    if whole:
        worker.attempt_ended(execution, call, work.outcome, None)
    else:
        worker.endings.broken(held, LOST if answers[-1].status in (404, 409) else DIVERGED, answers[-1])
    return None
