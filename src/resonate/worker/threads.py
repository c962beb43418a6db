"""The driver for generators and plain functions: advances them on the thread it is called on.

`drive` runs one execution until nothing in it can run on this thread. It is called on the
thread that blocks in `run` (which waits anyway) or on a thread of the pool; several
threads may drive one execution at the same time. No lock is held while user code runs.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from resonate.errors import ExecutionStopped, ForgottenCommand, UsageError
from resonate.execution import begin
from resonate.execution.call import PLAIN, TRANSACTION, Call
from resonate.execution.concluding import conclude
from resonate.execution.coroutine import NOTHING, Outcome, Raised, Returned, advance
from resonate.execution.execution import Execution
from resonate.worker import report
from resonate.worker.held import Held
from resonate.worker.pool import Pool
from resonate.worker.report import fields, shown
from resonate.worker.transactions import transact

if TYPE_CHECKING:
    from resonate.worker.worker import Worker

TOGETHER: Final = 64
"""Steps begun side by side that share a write, at most."""

TOGETHER_SECONDS: Final = 0.002
"""For how long: what takes longer is worth a write of its own, so that it need not be done again."""

HELP_AFTER: Final = 0.005
"""Seconds after which it is looked whether steps that wait to start need more threads."""

SLOW_STEP: Final = 0.001
"""Seconds a step from which they do: below it, handing work over costs more than it saves."""

SWALLOWED_LIMIT: Final = 100
"""How often a stopped function may catch its stop and ask for more before it is abandoned."""

_RELEASED: Final = "nothing is settled, the execution is released, and whoever takes it next goes on"

_LOG: Final = logging.getLogger("resonate.worker")


class Threads:
    """Drives executions of one worker on threads."""

    def __init__(self, worker: Worker, make_context: Callable[[Execution, Call], Any]) -> None:
        self._worker = worker
        self._make_context = make_context
        self._driving: list[int] = []
        self._rest = threading.Condition()
        self._abandoned: list[Any] = []  # to let go of one would raise GeneratorExit in it, which it catches too

    def drive(self, held: Held) -> None:
        """Advance `held` until this thread can do nothing more for it.

        Raises:
            KeyboardInterrupt, SystemExit: raised by user code or the process; nothing was
                settled and the task has been released.
        """
        me = threading.get_ident()
        self._driving.append(me)
        try:
            self._drive(held)
        except (KeyboardInterrupt, SystemExit) as event:
            self._worker.endings.interrupted(held, event)
            if Pool.inside() is not None:  # elsewhere it goes to the caller
                execution = held.execution
                text = "%s raised %s. That is no result: %s"
                _LOG.warning(text, execution.id, shown(event), _RELEASED, extra=fields(execution))
            raise
        except Exception as error:
            self._worker.endings.abandon(held, error)
        finally:
            self._driving.remove(me)
            if self._worker.stopped:
                with self._rest:
                    self._rest.notify_all()

    def drives_here(self) -> bool:
        """Whether this thread is inside `drive`."""
        return threading.get_ident() in self._driving

    def drain(self, timeout: float | None) -> None:
        """Wait for at most `timeout` seconds until the steps that other threads run have ended and are recorded."""
        me = threading.get_ident()
        with self._rest:
            self._rest.wait_for(lambda: all(ident == me for ident in self._driving), timeout)

    def _drive(self, held: Held) -> None:
        execution = held.execution
        with held.lock:
            call = execution.next()
        if execution.starting:
            self._worker.loop.pump(held)
        while True:
            if call is not None:
                if not self._may_go_on(held, call):
                    return
                if execution.ready and not held.watched:
                    self._watch(held)
                call = self._advance(held, call)
                if execution.starting or execution.arrivals:
                    self._worker.loop.pump(held)
            elif self._worker.close_round(held):
                with held.lock:
                    call = execution.next()
            else:
                return

    def _may_go_on(self, held: Held, call: Call) -> bool:
        """Do what has to be done before `call` goes on; False if nothing new is begun any more."""
        worker = self._worker
        if call.code is None and worker.stopped:  # what has ended is kept
            worker.flush(held)
            return False
        if held.execution.unwritten and self._writes_first(held, call):
            worker.flush(held, before_step=True)
        if call.code is None:
            worker.tenure.leased(held)  # if it is not, the execution is stopped, and `call` ends without having run
        return True

    def _writes_first(self, held: Held, call: Call) -> bool:
        """Whether what is unwritten has to be durable before `call` goes on."""
        execution = held.execution
        if execution.urgent:
            return True
        return call.code is None and (call.kind != PLAIN or not self._together(held))

    def _together(self, held: Held) -> bool:
        """Whether one more step may start that was begun side by side with those whose results are unwritten.

        They count as having started together, as they would have on threads of their own; one write holds the
        results of all.
        """
        execution = held.execution
        return (
            not execution.pressing
            and execution.unwritten < TOGETHER
            and self._worker.clock() - held.unwritten_since < TOGETHER_SECONDS
        )

    def _following(self, held: Held) -> Call | None:
        """What to advance after a step; `held.lock` is held."""
        execution = held.execution
        if execution.unwritten and execution.ready and self._together(held):
            return execution.beside() or execution.next()
        return execution.next()

    def _advance(self, held: Held, call: Call) -> Call | None:
        """Run `call` until it ends or asks for something; return what to advance next."""
        execution = held.execution
        outcome: Outcome | None
        if call.kind == PLAIN:
            outcome = self._run_plain(held, call)
            if (call.args or call.kwargs) and call.owner is not None and type(outcome) is Returned:
                report.changed(execution, call)
        elif call.kind == TRANSACTION:
            outcome = self._run_transaction(held, call)
            if outcome is None:
                with held.lock:
                    return execution.next()
        else:
            item, outcome = self._run_generator(held, call)
            if outcome is None:
                with held.lock:
                    execution.yielded(call, item)
                    following = execution.next()
                if execution.timed:
                    self._worker.arm(held)
                return following
        settled = None
        if self._worker.stopped and type(outcome) is Raised:
            outcome = NOTHING  # perhaps only since we are stopping; whoever goes on will see
        if outcome is not NOTHING:
            settled = conclude(call, outcome, execution.now)
            if self._worker.observer is not None:
                self._worker.attempt_ended(execution, call, outcome, settled)
        if type(settled) is float:
            return self._back_off(held, call, settled, outcome)
        with held.lock:
            if execution.unwritten == 0:
                held.unwritten_since = self._worker.clock()
            held.ended += 1
            execution.ended(call, settled)  # type: ignore[arg-type]
            return self._following(held)

    def _run_plain(self, held: Held, call: Call) -> Outcome:
        if call.stop is not None or call.done or held.execution.stop is not None:
            return NOTHING
        call.context = self._make_context(held.execution, call)
        call.started_at = held.execution.now()
        observer = self._worker.observer
        if observer is None:
            return _call_plain(call)
        observer.attempt_began(held.execution, call)
        with observer.within(call):
            return _call_plain(call)

    def _run_transaction(self, held: Held, call: Call) -> Outcome | None:
        return transact(self._worker, held, call, self._make_context)

    def _run_generator(self, held: Held, call: Call) -> tuple[Any, Outcome | None]:
        resume = call.resume
        if call.code is None:
            if call.stop is not None or call.done or held.execution.stop is not None:
                return None, NOTHING
            assert call.func is not None
            call.context = self._make_context(held.execution, call)
            call.started_at = held.execution.now()
            if self._worker.observer is not None:
                self._worker.observer.attempt_began(held.execution, call)
            call.code = call.func(call.context, *call.args, **(call.kwargs or {}))
            resume = NOTHING
        elif type(resume) is Call:
            resume = resume.read()
        call.resume = None
        item, outcome = advance(call.code, resume)  # type: ignore[arg-type]
        if call.stop is not None and outcome is None and swallowed(call):
            self._abandoned.append(call.code)
            return None, NOTHING
        if outcome is not None and call.loose is not None:
            self._report_forgotten(call, outcome)
        if type(outcome) is Raised and not isinstance(outcome.error, Exception):
            return self._left(call, outcome)
        return item, outcome

    def _report_forgotten(self, call: Call, outcome: Outcome) -> None:
        """Name the calls that the function has made and not yielded, unless an error says already what is wrong."""
        if call.stop is not None or (type(outcome) is Raised and isinstance(outcome.error, UsageError)):
            return
        returned = outcome.value if type(outcome) is Returned else None
        for command in begin.forgotten(call):
            if command is not returned:  # to return one is an error of its own
                _LOG.warning("%s", ForgottenCommand(f"a durable call ({command.id})", command.where))

    def _left(self, call: Call, outcome: Raised) -> tuple[Any, Outcome]:
        """The generator ended by something that is no result of a function."""
        if isinstance(outcome.error, KeyboardInterrupt | SystemExit):
            raise outcome.error
        if isinstance(outcome.error, ExecutionStopped):
            return None, NOTHING
        return None, outcome

    def _back_off(self, held: Held, call: Call, delay: float, outcome: Outcome) -> Call | None:
        execution = held.execution
        self._worker.retrying(call, delay, outcome)
        with held.lock:
            timed = execution.backoff(call, delay)
        if timed:
            self._worker.later(delay, lambda: self._retry(held, call))
        with held.lock:
            return execution.next()

    def _retry(self, held: Held, call: Call) -> None:
        with held.lock:
            held.execution.retry(call)
        self._worker.submit(held)

    def _watch(self, held: Held) -> None:
        """Calls wait while a thread is about to run code: see soon whether it gets to them."""
        held.watched = True
        ended = held.ended
        self._worker.later(HELP_AFTER, lambda: self._look(held, ended))

    def _look(self, held: Held, ended: int) -> None:
        """Have other threads help, if the calls that wait are not gone soon."""
        execution = held.execution
        with held.lock:
            held.watched = False
            if execution.stop is not None or (held.ended - ended) * SLOW_STEP > HELP_AFTER:
                return
            wanted = min(len(execution.ready), self._worker.pool.limit) - held.helpers
            held.helpers += max(0, wanted)
        for _ in range(wanted):
            self._worker.pool.submit(lambda: self._help(held))

    def _help(self, held: Held) -> None:
        try:
            self.drive(held)
        finally:
            with held.lock:
                held.helpers -= 1


def _call_plain(call: Call) -> Outcome:
    assert call.func is not None
    try:
        if call.kwargs:
            return Returned(call.func(call.context, *call.args, **call.kwargs))
        return Returned(call.func(call.context, *call.args))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        return Raised(error)


def swallowed(call: Call) -> bool:
    """Whether stopped code goes on and on; it is left where it is then, nothing it does is recorded."""
    call.begun += 1
    if call.begun < SWALLOWED_LIMIT:
        return False
    _LOG.error(
        "%s was stopped and has caught that %d times (a bare `except:` or `except BaseException:` around a yield or "
        "await); it is abandoned",
        call.id,
        SWALLOWED_LIMIT,
    )
    return True
