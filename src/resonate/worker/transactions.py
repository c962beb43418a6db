"""Runs the steps of `ctx.transaction`: their changes and their results are one commit."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from resonate.errors import ResonateStoreError, UsageError
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

    def __init__(self, held: Held, call: Call, make_context: Callable[[Execution, Call], Any], exclusive: bool) -> None:
        self._make_context = make_context
        self.batch: list[Request] = []
        self.exclusive = exclusive
        """Whether nobody else can write meanwhile."""
        self._held = held
        self._call = call

    def __call__(self, connection: Any) -> Callable[[], Sequence[Request]]:
        call = self._call
        assert call.func is not None
        call.context = self._make_context(self._held.execution, call)
        began = time.monotonic()
        try:
            with session_over(connection, call.func) as lent:
                value = call.func(lent, *call.args, **(call.kwargs or {}))
        except Exception as error:
            raise _Undone(Raised(error)) from error
        took = time.monotonic() - began
        if took > SLOW and self.exclusive:
            _LOG.warning(
                "%s held the storage's write lock for %d ms; do what is slow in a step before ctx.transaction",
                call.id,
                took * 1000,
            )
        return lambda: self._record(value)

    def _record(self, value: Any) -> Sequence[Request]:
        call, execution = self._call, self._held.execution
        settled = conclude(call, Returned(value), execution.now)
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
    work = _Work(held, call, make_context, worker.network.exclusive)
    with held.writing:  # nobody writes for this execution meanwhile: what they queue stays in order
        try:
            answers = worker.network.transact(work, worker.ttl_ms / 1000 * SHARE)
        except _Undone as undone:
            return undone.outcome
        except UsageError as error:
            return Raised(error)
        except ResonateStoreError as error:
            worker.abandon(held, error)
            return NOTHING
        whole = chain.whole(work.batch, answers)
        if whole:
            with held.lock:
                execution.answered(work.batch, answers)
    if not whole:
        worker.broken(held, LOST if answers[-1].status in (404, 409) else DIVERGED, answers[-1])
    return None
