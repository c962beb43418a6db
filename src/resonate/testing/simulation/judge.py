"""Looks at everything that a simulated server does, and says what broke a promise.

Each transition is checked by the properties of the protocol's specification over the rows it
touches; now and then, and at the end, all rows are. Beyond these:

* who writes with a task's name has to hold it, in the version it says;
* what is acknowledged to a caller is what is stored;
* nobody is given a task by an offer that is over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from resonate.execution.call import outcome_of
from resonate.execution.coroutine import Outcome, Returned
from resonate.protocol import requests as rq
from resonate.protocol.records import ACQUIRED, PENDING
from resonate.protocol.requests import Request, Response
from resonate.protocol.rows import Effect, PromiseRow, Send, TaskRow, View
from resonate.testing import invariants
from resonate.testing.invariants import State, Violation
from resonate.worker.held import Completion

if TYPE_CHECKING:
    from resonate.testing.trace import Trace

ALL: Final = 64
"""Transitions between two looks at all rows."""

Row = TypeVar("Row")
_TICK: Final = rq.DebugTick(0)


class _Rows(dict[str, Row]):
    """Rows that a transition has touched; others are looked up when they are asked for."""

    def __init__(self, find: Callable[[str], Row | None], touched: Mapping[str, Row]) -> None:
        super().__init__(touched)
        self._find = find

    def __missing__(self, id: str) -> Row:
        found = self._find(id)
        if found is None:
            raise KeyError(id)
        return found

    def __contains__(self, id: object) -> bool:
        return super().__contains__(id) or (isinstance(id, str) and self._find(id) is not None)


class Judge:
    """The checks of one simulation.

    Args:
        trace: violations are noted there.
    """

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._cause: Request | None = None
        self._now = 0
        self._steps = 0
        self._internal = 0

    # ---- of the server ---------------------------------------------------------------------------

    def begin(self, cause: Request | None, now: int) -> None:
        """The service is about to apply a request, or None: what is due."""
        self._cause = cause
        self._now = now

    def end(self, answer: Response | None) -> None:
        """It has."""
        self._cause = None

    def step(self, view: View, effects: Sequence[Effect]) -> None:
        """One transition: `view` is what was there before."""
        cause, now = self._cause, self._now
        promises = {e.promise.id: e for e in effects if type(e) is PromiseRow}
        tasks = {e.id: e for e in effects if type(e) is TaskRow}
        if not promises and not tasks:
            return
        try:
            self._rows(view, promises, tasks, effects, cause, now)
            if cause is not None:
                _ownership(view, cause, now)
        except Violation as violation:
            self.blame(f"{violation} (by {cause if cause is not None else 'a timer'})")

    def _rows(
        self,
        view: View,
        promises: dict[str, PromiseRow],
        tasks: dict[str, TaskRow],
        effects: Sequence[Effect],
        cause: Request | None,
        now: int,
    ) -> None:
        if type(cause) is rq.TaskSuspend:  # what it registers with may have its callback already
            for action in cause.actions:
                row = view.promise(action.awaited)
                if row is not None and action.awaited not in promises:
                    promises[action.awaited] = row

        def old_promise(id: str) -> PromiseRow | None:
            return view.promise(id)

        def old_task(id: str) -> invariants.TaskRow | None:
            row = view.task(id)
            return None if row is None else invariants.task_row(row)

        def new_promise(id: str) -> invariants.PromiseRow | None:
            row = promises.get(id) or view.promise(id)
            return None if row is None else invariants.promise_row(row)

        def new_task(id: str) -> invariants.TaskRow | None:
            task = tasks.get(id) or view.task(id)
            return None if task is None else invariants.task_row(task)

        before = State(
            {id: invariants.promise_row(row) for id in promises if (row := old_promise(id)) is not None},
            {id: task for id in tasks if (task := old_task(id)) is not None},
            {},
            (),
        )
        sends = tuple((e.address, e.message) for e in effects if type(e) is Send)
        after = State(
            _Rows(new_promise, {id: invariants.promise_row(row) for id, row in promises.items()}),
            _Rows(new_task, {id: invariants.task_row(row) for id, row in tasks.items()}),
            {},
            sends,
        )
        invariants.check_rows(after, now)
        invariants.check_step(before, after, _TICK if cause is None else cause, now)

    def everything(self, view: View, now: int) -> None:
        """All rows at one instant."""
        try:
            invariants.check_state(invariants.view_state(view), now)
        except Violation as violation:
            self.blame(str(violation))

    # ---- of clients ------------------------------------------------------------------------------

    def acknowledged(self, view: View, pid: str, completion: Completion, outcome: Outcome) -> None:
        """A caller is told of `outcome`: it has to be stored."""
        if type(outcome) is not Returned:
            return  # an error may be one of the client itself: stopped, out of reach
        row = view.promise(completion.id)
        state = "absent" if row is None else row.promise.state
        if row is None or row.promise.state != "resolved":
            self.blame(f"{pid} told its caller that {completion.id} returned, and its promise is {state}")
            return
        stored = outcome_of(row.promise, completion.returns, completion.options)
        if type(stored) is not Returned or stored.value != outcome.value:
            self.blame(
                f"{pid} told its caller that {completion.id} returned {outcome.value!r}, and stored is {stored!r}"
            )

    def blame(self, text: str) -> None:
        """A promise was broken."""
        self._trace.violations.append(text)


def _ownership(view: View, cause: Request, now: int) -> None:
    """Who changes something by a task's name holds that task."""
    if isinstance(cause, rq.TaskFence | rq.TaskFulfill | rq.TaskSuspend | rq.TaskRelease):
        task = view.task(cause.id)
        held = task is not None and task.state == ACQUIRED and task.version == cause.version
        invariants.demand(OWNED, held, f"{cause} was applied by somebody who does not hold {task}")
        row = view.promise(cause.id)
        alive = row is not None and row.promise.state == PENDING and row.promise.timeout_at > now
        invariants.demand(OWNED, alive, f"{cause} was applied although its execution has ended")
    elif isinstance(cause, rq.TaskAcquire):
        task = view.task(cause.id)
        offered = task is not None and task.state == PENDING and task.version == cause.version
        invariants.demand(OWNED, offered, f"{cause} was given {task}, which was not offered so")
    elif isinstance(cause, rq.TaskHeartbeat):
        for ref in cause.tasks:
            task = view.task(ref.id)
            if task is not None and task.state == ACQUIRED and (task.version, task.pid) == (ref.version, cause.pid):
                return
        invariants.demand(OWNED, False, f"{cause} renewed a lease that is not its own")


OWNED: Final = 0
"""The number of the rule that is not of the specification's list: one owner."""


__all__ = ["Judge"]
