"""Rows in the memory of this process: dicts, and a heap of instants.

A transaction is the storage itself: steps read the dicts, effects change them at once.
That is safe because one service applies one step at a time, and because `apply` rolls
forward when it is interrupted, so that a step is never half there.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from resonate.errors import NotSupported
from resonate.protocol.footprint import Footprint
from resonate.protocol.ids import origin_of
from resonate.protocol.records import ACQUIRED, BRANCH, PENDING, Promise, Schedule
from resonate.protocol.rows import (
    DropSchedule,
    Effect,
    PromiseRow,
    Reset,
    Resume,
    Send,
    TaskRow,
    Unsend,
    is_external,
)
from resonate.storage.base import PROMISE, SCHEDULE, TASK, JointTransaction, Timer, WithinTransaction
from resonate.storage.executions import Executions
from resonate.storage.memory_executions import MemoryExecutions
from resonate.storage.memory_trees import MemoryTrees
from resonate.storage.trees import drop, purge

HEAP_SPARE: Final = 4096
"""Timers that may be dead before the heap is gone through; most timers die before they are due."""

Row = TypeVar("Row")

_NO_DATABASE: Final = (
    "state in memory is in no database, so nothing can be committed together with it. "
    'Keep it in one: Resonate(url="sqlite:///app.db")'
)


class MemoryStorage:
    """Keeps everything in this process, for as long as it lives."""

    immediate = True
    shared = False
    lanes = 1
    claims = False

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._promises: dict[str, PromiseRow] = {}
        self._tasks: dict[str, TaskRow] = {}
        self._schedules: dict[str, Schedule] = {}
        self._branches: dict[str, list[str]] = {}
        self._outbox: dict[tuple[str, ...], Send] = {}
        self._fresh: list[Send] = []
        self._heap: list[tuple[int, str, str]] = []
        self._compact_at = HEAP_SPARE
        self._trees: MemoryTrees | None = None  # made when something is to be deleted; most programs never do
        self._index: MemoryExecutions | None = None  # made when somebody lists executions
        self._listing: Executions | None = None
        # reads are the dicts' own, without a call of ours in between
        self.promise: Callable[[str], PromiseRow | None] = self._promises.get
        self.task: Callable[[str], TaskRow | None] = self._tasks.get
        self.schedule: Callable[[str], Schedule | None] = self._schedules.get

    # ---- transaction -------------------------------------------------------------------------

    def begin(self, footprint: Callable[[], Footprint], lane: int = 0) -> MemoryStorage:
        return self

    def apply(self, effects: Sequence[Effect]) -> None:
        try:
            for effect in effects:
                _APPLY[type(effect)](self, effect)
        except BaseException:  # interrupted: each effect may be applied twice, so do all again
            for effect in effects:
                _APPLY[type(effect)](self, effect)
            raise

    def commit(self) -> None:
        """Nothing is left to do: `apply` has done it."""

    def rollback(self) -> None:
        """A step is applied as a whole or not at all, so there is nothing to take back."""

    # ---- view -----------------------------------------------------------------------------------

    def branch(self, branch: str) -> Iterable[Promise]:
        ids = set(self._branches.get(branch, ()))
        root = self._promises.get(branch)
        if root is not None and root.promise.tags.get(BRANCH) == branch:
            ids.add(branch)
        rows = (self._promises.get(id) for id in sorted(ids))
        return [row.promise for row in rows if row is not None]

    def reachable(self, id: str) -> bool:
        return True

    def promises(self, after: str | None) -> Iterator[PromiseRow]:
        return _above(self._promises, after)

    def below(self, above: str, end: str) -> Iterator[PromiseRow]:
        there = self._filed().below(origin_of(above))
        return (self._promises[id] for id in sorted(id for id in there if above < id < end))

    def strays(self, first: str, last: str) -> Iterator[PromiseRow]:
        return (self._promises[id] for id in self._filed().strays(first, last))

    def listing(self) -> Executions:
        if self._listing is None:
            self._index = MemoryExecutions(self._promises, self._tasks)
            self._listing = Executions(self._index)
        return self._listing

    def tasks(self, after: str | None) -> Iterator[TaskRow]:
        return _above(self._tasks, after)

    def schedules(self, after: str | None) -> Iterator[Schedule]:
        return _above(self._schedules, after)

    def messages(self) -> list[Send]:
        return list(self._outbox.values())

    # ---- timers and outbox ---------------------------------------------------------------------

    def due(self, now: int, limit: int) -> list[Timer]:
        found: list[Timer] = []
        heap = self._heap
        while heap and heap[0][0] <= now and len(found) < limit:
            entry = heapq.heappop(heap)
            if self._alive(entry):
                found.append((entry[1], entry[2]))
        return found

    def owed(self) -> list[Timer]:
        return []

    def put_back(self, timers: Sequence[Timer]) -> None:
        for kind, id in timers:
            if kind == PROMISE and id in self._promises:
                self._arm(self._promises[id].promise.timeout_at, kind, id)
            elif kind == TASK and id in self._tasks:
                task = self._tasks[id]
                self._arm(task.expires_at or task.retry_at or 0, kind, id)
            elif kind == SCHEDULE and id in self._schedules:
                self._arm(self._schedules[id].next_run_at, kind, id)

    def next_due(self) -> int | None:
        return self._heap[0][0] if self._heap else None

    def fresh(self) -> list[Send]:
        fresh = self._fresh
        if fresh:
            self._fresh = []
        return fresh

    def outbox(self) -> list[Send]:
        return list(self._outbox.values())

    def peek(self, keys: Sequence[tuple[str, ...]]) -> list[Send]:
        found = (self._outbox.get(key) for key in keys)
        return [send for send in found if send is not None]

    def take(self, keys: Sequence[tuple[str, ...]], limit: int | None = None) -> list[Send]:
        taken = (self._outbox.pop(key, None) for key in keys[:limit])
        return [send for send in taken if send is not None]

    # ---- transactions of others ---------------------------------------------------------------

    def joint(self) -> JointTransaction:
        raise NotSupported(_NO_DATABASE)

    def within(self, connection: Any) -> WithinTransaction:
        raise NotSupported(_NO_DATABASE)

    # ---- finished trees -----------------------------------------------------------------------

    def purge(self, before: int, now: int, limit: int) -> int:
        return purge(self._filed(), before, now, limit)

    def drop(self, root: str, now: int, limit: int) -> Promise | bool:
        return drop(self._filed(), root, now, limit)

    def _filed(self) -> MemoryTrees:
        if self._trees is None:
            self._trees = MemoryTrees(self._promises, self._forget, self._news)
            for row in self._promises.values():
                self._trees.put(row.promise, new=True)
        return self._trees

    def _news(self, root: str) -> bool:
        return any(key[0] == "unblock" and key[1] == root for key in self._outbox)

    def _forget(self, ids: Sequence[str], keep_news: bool) -> None:
        for id in ids:
            self._promises.pop(id, None)
            task = self._tasks.pop(id, None)
            if self._index is not None:
                self._index.changed(id, task)
            self._branches.pop(id, None)
        gone = set(ids)
        for key in [key for key in self._outbox if key[1] in gone and not (keep_news and key[0] == "unblock")]:
            del self._outbox[key]

    # ---- other processes: there are none ------------------------------------------------------

    def watch(self, group: str, pid: str, changed: Callable[[], None]) -> None:
        """Nobody else can change anything."""

    def unwatch(self, group: str, pid: str) -> None:
        """Nobody was watched."""

    def claim(self, pid: str) -> list[tuple[str, int]]:
        return []

    def close(self) -> None:
        """There is nothing to free."""

    # ---- effects ------------------------------------------------------------------------------------

    def _put_promise(self, row: PromiseRow) -> None:
        promise = row.promise
        id = promise.id
        if self._trees is not None:
            self._trees.put(promise, new=id not in self._promises)
        if id not in self._promises:  # the row itself comes last: applied twice after an interruption, this is too
            branch = promise.tags.get(BRANCH)
            if branch is not None and branch != id:
                members = self._branches.get(branch)
                if members is None:
                    self._branches[branch] = [id]
                else:
                    members.append(id)
            if promise.state == PENDING and is_external(promise):
                self._arm(promise.timeout_at, PROMISE, id)
        self._promises[id] = row
        if self._index is not None:
            self._index.changed(id, self._tasks.get(id))

    def _put_task(self, row: TaskRow) -> None:
        at = row.expires_at if row.state == ACQUIRED else row.retry_at
        if at is not None:
            known = self._tasks.get(row.id)
            if known is None or at not in (known.expires_at, known.retry_at):
                self._arm(at, TASK, row.id)
        before = self._tasks.get(row.id)
        self._tasks[row.id] = row
        if self._index is not None:
            self._index.changed(row.id, before)

    def _put_schedule(self, row: Schedule) -> None:
        self._schedules[row.id] = row
        self._arm(row.next_run_at, SCHEDULE, row.id)

    def _drop_schedule(self, effect: DropSchedule) -> None:
        self._schedules.pop(effect.id, None)

    def _send(self, send: Send) -> None:
        self._outbox[send.key] = send
        self._fresh.append(send)

    def _unsend(self, effect: Unsend) -> None:
        self._outbox.pop(effect.key, None)

    def _resume(self, effect: Resume) -> None:
        raise AssertionError(f"every row is reachable in memory, {effect.awaiter} too")

    def _reset(self, effect: Reset) -> None:
        self._clear()

    def _arm(self, at: int, kind: str, id: str) -> None:
        if len(self._heap) > self._compact_at:  # before the push: the new timer's row is not there yet
            self._heap = [entry for entry in self._heap if self._alive(entry)]
            heapq.heapify(self._heap)
            self._compact_at = 2 * len(self._heap) + HEAP_SPARE
        heapq.heappush(self._heap, (at, kind, id))

    def _alive(self, entry: tuple[int, str, str]) -> bool:
        at, kind, id = entry
        if kind == PROMISE:
            row = self._promises.get(id)
            return row is not None and row.promise.state == PENDING and row.promise.timeout_at == at
        if kind == TASK:
            task = self._tasks.get(id)
            return task is not None and at in (task.expires_at, task.retry_at)
        schedule = self._schedules.get(id)
        return schedule is not None and schedule.next_run_at == at


def _above(rows: Mapping[str, Row], after: str | None) -> Iterator[Row]:
    """The rows with ids above `after`, in the order of their ids' bytes (UTF-8 keeps code point order)."""
    ids = sorted(rows)
    first = 0 if after is None else bisect_right(ids, after)
    return (rows[id] for id in ids[first:])


_APPLY: Final[dict[type, Callable[[MemoryStorage, Any], None]]] = {
    PromiseRow: MemoryStorage._put_promise,
    TaskRow: MemoryStorage._put_task,
    Schedule: MemoryStorage._put_schedule,
    DropSchedule: MemoryStorage._drop_schedule,
    Send: MemoryStorage._send,
    Unsend: MemoryStorage._unsend,
    Resume: MemoryStorage._resume,
    Reset: MemoryStorage._reset,
}
