"""The executions of a memory storage, in the orders in which they are looked for.

Kept only once somebody looks, so that a program that never lists anything pays nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Mapping, Sequence
from heapq import merge, nlargest, nsmallest
from itertools import islice, takewhile
from operator import itemgetter
from typing import Any, Final, Generic, TypeVar

from resonate.protocol.listing import HELD_SHOWN, Entry, Fault, Holder, Load, Phase, entry, group_of
from resonate.protocol.records import ACQUIRED, FULFILLED, PENDING
from resonate.protocol.rows import PromiseRow, TaskRow
from resonate.storage.executions import FUNCTION, GROUP, LABEL, PHASE, PREFIX, Found, Key, Source

BLOCK: Final = 1_000
"""Keys in one block: what an insertion moves at most, about."""

K = TypeVar("K", Key, str)


class Sorted(Generic[K]):
    """Keys in their order, in blocks, so that one is added or removed without moving all.

    Args:
        keys: those that are there from the beginning, in their order.
    """

    __slots__ = ("_blocks", "_firsts")

    def __init__(self, keys: Sequence[K] = ()) -> None:
        self._blocks: list[list[K]] = [list(keys[at : at + BLOCK]) for at in range(0, len(keys), BLOCK)]
        self._firsts: list[K] = [block[0] for block in self._blocks]

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def add(self, key: K) -> None:
        if not self._blocks:
            self._blocks.append([key])
            self._firsts.append(key)
            return
        at = max(0, bisect_right(self._firsts, key) - 1)
        block = self._blocks[at]
        insort(block, key)
        self._firsts[at] = block[0]
        if len(block) > 2 * BLOCK:
            self._blocks[at : at + 1] = [block[:BLOCK], block[BLOCK:]]
            self._firsts[at : at + 1] = [block[0], block[BLOCK]]

    def remove(self, key: K) -> None:
        at = bisect_right(self._firsts, key) - 1
        if at < 0:
            return
        block = self._blocks[at]
        place = bisect_left(block, key)
        if place == len(block) or block[place] != key:
            return
        del block[place]
        if block:
            self._firsts[at] = block[0]
        else:
            del self._blocks[at], self._firsts[at]

    def down(self, before: K | None) -> Iterator[K]:
        """Those below `before`, the largest first."""
        at = len(self._blocks) if before is None else bisect_left(self._firsts, before)
        for number in range(at - 1, -1, -1):
            block = self._blocks[number]
            end = len(block) if before is None else bisect_left(block, before)
            yield from reversed(block[:end])

    def up(self, first: K) -> Iterator[K]:
        """Those from `first` on, the smallest first."""
        at = max(0, bisect_right(self._firsts, first) - 1)
        for block in self._blocks[at:]:
            yield from block[bisect_left(block, first) :]


class MemoryExecutions:
    """See `storage.executions.Index`.

    Args:
        promises, tasks: the rows of the storage.
    """

    def __init__(self, promises: Mapping[str, PromiseRow], tasks: Mapping[str, TaskRow]) -> None:
        self._promises = promises
        self._tasks = tasks
        self._entries: dict[str, Entry] = {}
        self._open: dict[str, dict[str, TaskRow]] = {}  # by group
        lists: dict[tuple[str, ...], list[Key]] = {}
        for id, row in promises.items():
            one = entry(row.promise, tasks.get(id))
            if one is not None:
                self._entries[id] = one
                for name in _lists(one):
                    lists.setdefault(name, []).append((one.begun, id))
        for task in tasks.values():
            self._file(None, task)
        self._lists = {name: Sorted(sorted(keys)) for name, keys in lists.items()}
        self._ids = Sorted(sorted(self._entries))

    def changed(self, id: str, before: TaskRow | None = None) -> None:
        """A promise or its task was created, has changed or is gone.

        Args:
            before: the task that it had.
        """
        row, task = self._promises.get(id), self._tasks.get(id)
        old, new = self._entries.get(id), None if row is None else entry(row.promise, task)
        if before is not task:
            self._file(before, task)
        if old == new:
            return
        if old is not None:
            del self._entries[id]
            for name in _lists(old):
                keys = self._lists[name]
                keys.remove((old.begun, id))
                if not keys:
                    del self._lists[name]
        if new is not None:
            self._entries[id] = new
            for name in _lists(new):
                self._lists.setdefault(name, Sorted()).add((new.begun, id))
        if (old is None) != (new is None):
            (self._ids.add if old is None else self._ids.remove)(id)

    # ---- what `storage.executions` asks ------------------------------------------------------------

    def newest(
        self, source: Source, phases: Sequence[Phase], since: int | None, before: Key | None, limit: int
    ) -> list[Found]:
        if source.kind == PREFIX:
            found: list[Key] = []
            for id in takewhile(lambda id: id.startswith(source.name), self._ids.up(source.name)):
                key = (self._entries[id].begun, id)
                if (before is None or key < before) and (since is None or key[0] >= since):
                    found.append(key)
            keys = iter(nlargest(limit, found))
        elif source.kind == LABEL:
            keys = self._below((LABEL, source.name, source.value), since, before)
        else:
            each = [self._below((source.kind, source.name, phase), since, before) for phase in phases]
            keys = merge(*each, reverse=True)
        found_entries = (self._entries[id] for _, id in islice(keys, limit))
        return [Found(one.begun, one.id, one.phase, one.function, one.group) for one in found_entries]

    def count(self, source: Source, phase: Phase, since: int | None, until: int | None, most: int) -> int:
        if source.kind == PREFIX:
            ids = takewhile(lambda id: id.startswith(source.name), self._ids.up(source.name))
            return sum(1 for _ in islice(ids, most))
        before = None if until is None else (until, "")
        name = (source.kind, source.name, source.value if source.kind == LABEL else phase)
        return sum(1 for _ in islice(self._below(name, since, before), most))

    def names(self, kind: str, limit: int) -> list[str]:
        return sorted({name[1] for name in self._lists if name[0] == kind})[:limit]

    def labelled(self, ids: Sequence[str], name: str, value: str) -> set[str]:
        return {id for id in ids if (name, value) in self._entries[id].labels}

    def rows(self, ids: Sequence[str]) -> list[PromiseRow]:
        return [self._promises[id] for id in ids if id in self._promises]

    def faults(self, limit: int, most: int, shown: int) -> list[Fault]:
        names = sorted(name for name in self._lists if name[0] == "fault")[:limit]
        found = []
        for name in names:
            newest = list(islice(self._below(name, None, None), most + 1))
            found.append(Fault(name[1], name[2], len(newest), [id for _, id in newest[:shown]]))
        return found

    def loads(self, most: int) -> list[Load]:
        found = []
        for group, tasks in sorted(self._open.items()):
            counts: dict[str, int] = {}
            oldest: int | None = None
            for task in tasks.values():
                counts[task.state] = counts.get(task.state, 0) + 1
                if task.state == PENDING and task.since is not None:
                    oldest = task.since if oldest is None else min(oldest, task.since)
            found.append(Load(group, {state: min(count, most + 1) for state, count in counts.items()}, oldest))
        return found

    def holders(self, most: int) -> list[Holder]:
        held = (task for tasks in self._open.values() for task in tasks.values() if task.state == ACQUIRED)
        return holders_of((group_of(task.target), task) for task in islice(held, most))

    # ---- inside --------------------------------------------------------------------------------

    def _below(self, name: tuple[str, ...], since: int | None, before: Key | None) -> Iterator[Key]:
        keys = self._lists.get(name)
        for key in keys.down(before) if keys is not None else ():
            if since is not None and key[0] < since:
                return
            yield key

    def _file(self, old: TaskRow | None, new: TaskRow | None) -> None:
        task = new or old
        if task is None:
            return
        group = group_of(task.target)
        if new is not None and new.state != FULFILLED:
            self._open.setdefault(group, {})[new.id] = new
        elif group in self._open:
            self._open[group].pop(task.id, None)
            if not self._open[group]:
                del self._open[group]


def _lists(one: Entry) -> Iterator[tuple[str, ...]]:
    """The names of the lists that an entry is in."""
    yield (PHASE, "", one.phase)
    yield (FUNCTION, one.function, one.phase)
    yield (GROUP, one.group, one.phase)
    yield from ((LABEL, name, value) for name, value in one.labels)
    if one.fault is not None:
        yield ("fault", one.function, one.fault)


def holders_of(held: Any) -> list[Holder]:
    """The processes that hold tasks, from (group, task) of each of those."""
    found: dict[tuple[str, str], list[TaskRow]] = {}
    for group, task in held:
        found.setdefault((group, task.pid or ""), []).append(task)
    return [_holder(pid, group, tasks) for (group, pid), tasks in sorted(found.items(), key=itemgetter(0))]


def _holder(pid: str, group: str, tasks: Sequence[TaskRow]) -> Holder:
    return Holder(
        pid,
        group,
        leases=len(tasks),
        ttl=max(task.ttl or 0 for task in tasks),
        seen_at=max((task.expires_at or 0) - (task.ttl or 0) for task in tasks),
        ids=nsmallest(HELD_SHOWN, (task.id for task in tasks)),
    )
