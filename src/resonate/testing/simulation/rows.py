"""The storage of a simulated server: rows that outlive it, and commits that may fail.

A transaction is kept apart until its commit, as a database keeps it. What has been
committed is there for whoever opens the storage next; what has not is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from resonate.errors import OutcomeUnknown, StorageUnavailable
from resonate.protocol.footprint import Footprint
from resonate.protocol.records import BRANCH, Promise, Schedule
from resonate.protocol.rows import DropSchedule, Effect, PromiseRow, Send, TaskRow
from resonate.storage.executions import Executions
from resonate.storage.memory import MemoryStorage

if TYPE_CHECKING:
    from resonate.testing.simulation.judge import Judge


class SimulatedStorage(MemoryStorage):
    """Rows in memory behind transactions.

    Args:
        judge: looks at every transition.
        failing: asked before each commit: "refused", "unknown", or None for one that succeeds.
    """

    immediate = False

    def __init__(self, judge: Judge, failing: Callable[[], str | None]) -> None:
        super().__init__()
        self._judge = judge
        self._failing = failing

    def begin(self, footprint: Callable[[], Footprint], lane: int = 0) -> Pending:  # type: ignore[override]
        return Pending(self, self._judge)

    def store(self, effects: Sequence[Effect]) -> None:
        """Commit: all of it, or an error.

        Raises:
            StorageUnavailable: nothing was stored.
            OutcomeUnknown: it was stored.
        """
        failure = self._failing()
        if failure == "refused":
            raise StorageUnavailable("the simulated storage refused a commit")
        self.apply(effects)
        if failure == "unknown":
            raise OutcomeUnknown("the simulated storage lost the answer to a commit")


class Pending:
    """A transaction under way: what it has changed covers what is stored."""

    def __init__(self, storage: SimulatedStorage, judge: Judge) -> None:
        self._storage = storage
        self._judge = judge
        self._effects: list[Effect] = []
        self._promises: dict[str, PromiseRow] = {}
        self._tasks: dict[str, TaskRow] = {}
        self._schedules: dict[str, Schedule | None] = {}

    def promise(self, id: str) -> PromiseRow | None:
        found = self._promises.get(id)
        return self._storage.promise(id) if found is None else found

    def task(self, id: str) -> TaskRow | None:
        found = self._tasks.get(id)
        return self._storage.task(id) if found is None else found

    def schedule(self, id: str) -> Schedule | None:
        return self._schedules[id] if id in self._schedules else self._storage.schedule(id)

    def branch(self, branch: str) -> Iterable[Promise]:
        found = {promise.id: promise for promise in self._storage.branch(branch)}
        for id, row in self._promises.items():
            if row.promise.tags.get(BRANCH) == branch:
                found[id] = row.promise
        return [found[id] for id in sorted(found)]

    def reachable(self, id: str) -> bool:
        return True

    def promises(self, after: str | None) -> Iterable[PromiseRow]:
        return _covered({row.promise.id: row for row in self._storage.promises(after)}, self._promises, after)

    def below(self, above: str, end: str) -> Iterable[PromiseRow]:
        return self._storage.below(above, end)  # asked for by itself: as it was before this transaction

    def strays(self, first: str, last: str) -> Iterable[PromiseRow]:
        return self._storage.strays(first, last)

    def listing(self) -> Executions:
        return self._storage.listing()  # a list for people: it may be as old as this transaction

    def tasks(self, after: str | None) -> Iterable[TaskRow]:
        return _covered({row.id: row for row in self._storage.tasks(after)}, self._tasks, after)

    def schedules(self, after: str | None) -> Iterable[Schedule]:
        return _covered({row.id: row for row in self._storage.schedules(after)}, self._schedules, after)

    def messages(self) -> Sequence[Send]:
        return self._storage.messages()

    def apply(self, effects: Sequence[Effect]) -> None:
        self._judge.step(self, effects)
        self._effects += effects
        for effect in effects:
            kind = type(effect)
            if kind is PromiseRow:
                self._promises[effect.promise.id] = effect  # type: ignore[union-attr,assignment]
            elif kind is TaskRow:
                self._tasks[effect.id] = effect  # type: ignore[union-attr,assignment]
            elif kind is Schedule:
                self._schedules[effect.id] = effect  # type: ignore[union-attr,assignment]
            elif kind is DropSchedule:
                self._schedules[effect.id] = None  # type: ignore[union-attr]

    def commit(self) -> None:
        if self._effects:
            effects, self._effects = self._effects, []
            self._storage.store(effects)

    def rollback(self) -> None:
        self._effects = []


def _covered(stored: dict[str, Any], changed: dict[str, Any], after: str | None) -> list[Any]:
    found = {**stored, **{id: row for id, row in changed.items() if after is None or id > after}}
    return [found[id] for id in sorted(found) if found[id] is not None]


__all__ = ["Pending", "SimulatedStorage"]
