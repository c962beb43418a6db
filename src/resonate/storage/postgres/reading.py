"""The rows that a transaction reads: what is not known of them, in as few statements as it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from resonate.protocol.footprint import Footprint
from resonate.protocol.ids import origin_of
from resonate.protocol.records import BRANCH, PENDING, Promise, Schedule
from resonate.protocol.rows import (
    PromiseRow,
    Send,
    TaskRow,
)
from resonate.protocol.trees import ranges
from resonate.storage import codec
from resonate.storage.base import Conflict
from resonate.storage.executions import Executions
from resonate.storage.postgres.executions import Execute, PostgresExecutions
from resonate.storage.postgres.known import Tree
from resonate.storage.postgres.statements import ORIGIN, PROMISE, SCHEDULE, TASK, Statements

LISTED: Final = 200_000
"""Ids below an acquired promise that are remembered, so that its next step need not be looked for."""

PAGE: Final = 500
"""Rows that a scan reads at once."""


class Reading:
    """A view of the rows, as they are with what the running transaction has done to them.

    Args:
        execute: carries a statement out and gives all its rows.
        statements: those of the schema.
    """

    def __init__(self, execute: Execute, statements: Statements) -> None:
        self._execute = execute
        self._statements = statements
        self._trees: dict[str, Tree] = {}
        self._touched: set[str] = set()
        """Origins that this transaction has read; what it knows of them is right or its write fails."""
        self._read: set[str] = set()
        """Origins read since effects were last applied."""
        self._seen: set[str] = set()
        """Origins that have been read so far."""
        self._loaded: set[str] = set()
        """Origins whose version was read in this transaction."""
        self._spared: set[str] = set()
        """Origins that others have now, and that this transaction does without."""
        self._asked: set[str] = set()
        """Promises read or written in this transaction."""
        self._at: dict[str, Tree] = {}
        """By id, the trees of those that have been looked at."""
        self._branches: dict[str, dict[str, Promise]] = {}
        # what the transaction has written so far, as it will be stored
        self._promises: dict[str, tuple[Any, ...]] = {}
        self._tasks: dict[str, tuple[Any, ...]] = {}
        self._schedules: dict[str, tuple[Any, ...] | None] = {}
        self._sends: dict[tuple[str, ...], tuple[Any, ...] | None] = {}
        self._reset_all = False

    # ---- reading ---------------------------------------------------------------------------------

    def load(self, footprint: Footprint) -> None:
        """Read what is not known of a batch's rows, in one statement."""
        wanted = _by_origin(footprint.promises)
        missing: dict[str, set[str]] = {}
        for origin, ids in wanted.items():
            tree = self._trees.get(origin)
            if tree is None or not all(map(tree.knows, ids)):
                missing[origin] = ids
        self._touched.update(wanted)
        if missing:
            self._fetch(missing)
            self._fetch_awaiters(missing)
        if footprint.branches_of:
            self._fetch_branches(footprint.branches_of)
        if footprint.schedules:
            self._fetch_schedules(footprint.schedules)

    def _fetch(self, missing: dict[str, set[str]]) -> None:
        pairs = [
            (origin, id)
            for origin, ids in missing.items()
            for id in {*ids, origin}  # the root is asked about in most cases
            if "\0" not in id
        ]
        statements = self._statements
        if len(missing) == 1:
            (origin,) = missing
            ids = [id for _, id in pairs]
            found = self._execute(statements.load_one, (origin, origin, ids, origin, ids)) if ids else []
        else:
            origins, ids = [origin for origin, _ in pairs], [id for _, id in pairs]
            names = list({*origins})
            found = self._execute(statements.load_many, (names, origins, ids, origins, ids))
        self._learn(missing, found)
        for origin in missing:
            tree = self._trees[origin]
            self._asked.update(missing[origin])
            self._asked.add(origin)
            for id in (*missing[origin], origin):
                tree.promises.setdefault(id, None)
                tree.tasks.setdefault(id, None)

    def _learn(self, origins: Iterable[str], found: list[tuple[Any, ...]]) -> None:
        versions = {origin: version for what, origin, _, _, version, _ in found if what == ORIGIN}
        for origin in origins:
            tree, version = self._trees.get(origin), versions.get(origin)
            if tree is None or tree.guessed or tree.version != version:
                if tree is not None and origin in self._seen:
                    raise Conflict(f"{origin} was changed by somebody else")
                self._trees[origin] = Tree(origin, version)
            self._loaded.add(origin)
        for what, origin, id, state, _, body in found:
            if what == PROMISE:
                self._trees[origin].promises[id] = codec.decode_promise(id, state, body)
            elif what == TASK:
                self._trees[origin].tasks[id] = codec.decode_task(id, state, body)
            elif what == SCHEDULE:
                self._trees[origin].schedules[id] = codec.decode_schedule(body)

    def _fetch_awaiters(self, loaded: dict[str, set[str]]) -> None:
        """Those who await a loaded promise are asked about when it is settled."""
        awaiters: set[str] = set()
        for origin, ids in loaded.items():
            tree = self._trees[origin]
            for id in ids:
                row = tree.promises.get(id)
                if row is not None and row.callbacks and row.promise.state == PENDING:
                    awaiters.update(row.callbacks)
        here = _by_origin(id for id in awaiters if origin_of(id) in loaded)
        missing = {origin: ids for origin, ids in here.items() if not all(map(self._trees[origin].knows, ids))}
        if missing:
            self._fetch(missing)

    def _fetch_schedules(self, ids: Iterable[str]) -> None:
        wanted = _by_origin(ids)
        names = [id for id in ids if "\0" not in id]
        origins = [origin_of(id) for id in names]
        found = self._execute(self._statements.load_schedules, (origins, origins, names))
        self._touched.update(wanted)
        self._learn(wanted, found)
        for origin, ids_there in wanted.items():
            for id in ids_there:
                self._trees[origin].schedules.setdefault(id, None)

    def _touch(self, origin: str) -> None:
        """`origin` is read though no footprint named it."""
        self._touched.add(origin)

    def _tree(self, id: str) -> Tree:
        """What is known of the origin of `id`, the promise `id` and its task among it."""
        tree = self._at.get(id)
        if tree is not None:
            self._read.add(tree.origin)
            return tree
        origin = origin_of(id)
        if origin not in self._touched:
            self._touch(origin)
        tree = self._trees.get(origin)
        if tree is None or not tree.knows(id):
            self._fetch({origin: {id}})
            tree = self._trees[origin]
        self._at[id] = tree
        self._read.add(origin)
        self._seen.add(origin)
        return tree

    # ---- view ------------------------------------------------------------------------------------

    def promise(self, id: str) -> PromiseRow | None:
        return self._tree(id).promises.get(id)

    def task(self, id: str) -> TaskRow | None:
        return self._tree(id).tasks.get(id)

    def schedule(self, id: str) -> Schedule | None:
        origin = origin_of(id)
        tree = self._trees.get(origin)
        if tree is None or id not in tree.schedules:
            if origin not in self._touched:
                self._touch(origin)
            self._fetch_schedules([id])
            tree = self._trees[origin]
        self._read.add(origin)
        self._seen.add(origin)
        return tree.schedules.get(id)

    def branch(self, branch: str) -> list[Promise]:
        tree = self._tree(branch)
        found = self._branches.get(branch)
        if found is None:
            self._read_branches({branch: tree})
            found = self._branches[branch]
        return [found[id] for id in sorted(found)]

    def _fetch_branches(self, ids: Iterable[str]) -> None:
        """Read the branches of tasks that are about to be acquired."""
        wanted: dict[str, Tree] = {}
        for id in ids:
            origin = origin_of(id)
            tree = self._trees[origin]
            row = tree.promises.get(id)
            branch = None if row is None else row.promise.tags.get(BRANCH)
            if branch is not None and origin_of(branch) == origin and branch not in self._branches:
                wanted[branch] = tree
        if wanted:
            self._read_branches(wanted)

    def _read_branches(self, wanted: dict[str, Tree]) -> None:
        """Read all promises of some branches, and learn which ids there are below them, in one statement."""
        below = [
            (branch, origin_of(branch), *span)
            for branch, tree in wanted.items()
            if tree.version is not None and branch not in tree.whole
            for span in ranges(branch)
        ]
        spans = [list(column) for column in zip(*below, strict=True)] or [[], [], [], []]
        rows = self._execute(self._statements.branches, (list(wanted), *spans, LISTED))
        found: dict[str, dict[str, Promise]] = {branch: {} for branch in wanted}
        ids: dict[str, list[str]] = {branch: [] for branch, *_ in below}
        for branch, id, state, body in rows:
            if state is None:
                ids[branch].append(id)
            else:
                found[branch][id] = codec.decode_promise(id, state, body).promise
        for branch, there in ids.items():
            if len(there) < LISTED:
                known = wanted[branch].promises
                wanted[branch].whole[branch] = {branch, *there, *(id for id, row in known.items() if row is not None)}
        for written in self._rows_written():
            branch = written.promise.tags.get(BRANCH)
            if branch in found:
                found[branch][written.promise.id] = written.promise
        self._branches.update(found)

    def _rows_written(self) -> Iterator[PromiseRow]:
        for id in self._promises:
            row = self._trees[origin_of(id)].promises[id]
            assert row is not None
            yield row

    def reachable(self, id: str) -> bool:
        origin = origin_of(id)
        return origin in self._touched and origin not in self._spared

    def promises(self, after: str | None) -> Iterator[PromiseRow]:
        written = {row.promise.id: row for row in self._rows_written()}
        yield from _merged(self._scan(self._statements.scan_promises, after), codec.decode_promise, written, after)

    def below(self, above: str, end: str) -> Iterator[PromiseRow]:
        while True:
            page = self._execute(self._statements.scan_below, (origin_of(above), above, end, PAGE))
            yield from (codec.decode_promise(*row) for row in page)
            if len(page) < PAGE:
                return
            above = page[-1][0]

    def strays(self, first: str, last: str) -> list[PromiseRow]:
        return [codec.decode_promise(*row) for row in self._execute(self._statements.strays, (first, last))]

    def listing(self) -> Executions:
        return Executions(PostgresExecutions(self._execute, self._statements.schema))

    def tasks(self, after: str | None) -> Iterator[TaskRow]:
        written = {id: self._trees[origin_of(id)].tasks[id] for id in self._tasks}
        yield from _merged(self._scan(self._statements.scan_tasks, after), codec.decode_task, written, after)

    def schedules(self, after: str | None) -> Iterator[Schedule]:
        written = {id: self._trees[origin_of(id)].schedules[id] for id in self._schedules}
        rows = self._scan(self._statements.scan_schedules, after)
        yield from _merged(rows, lambda id, body: codec.decode_schedule(body), written, after)

    def messages(self) -> list[Send]:
        found = {send.key: send for send in sends_of(self._execute(self._statements.outbox))}
        for key, row in self._sends.items():
            found.pop(key, None)
            if row is not None:
                found[key] = codec.decode_send(row[1], row[2], row[3], row[7])
        return list(found.values())

    def _scan(self, statement: str, after: str | None) -> Iterator[tuple[Any, ...]]:
        if self._reset_all:
            return
        last = "" if after is None else after  # no id is empty
        while True:
            page = self._execute(statement, (last, PAGE))
            yield from page
            if len(page) < PAGE:
                return
            last = page[-1][0]


def _by_origin(ids: Iterable[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for id in ids:
        found.setdefault(origin_of(id), set()).add(id)
    return found


def sends_of(rows: Iterable[tuple[Any, ...]]) -> list[Send]:
    return [codec.decode_send(kind, id, listener, body) for kind, id, listener, body in rows]


def _merged(
    rows: Iterator[tuple[Any, ...]], decode: Callable[..., Any], written: dict[str, Any], after: str | None
) -> Iterator[Any]:
    """Rows in the order of their ids, with those that this transaction has written in their places."""
    waiting = sorted((id for id in written if after is None or id > after), reverse=True)
    for row in rows:
        while waiting and waiting[-1] <= row[0]:
            if (found := written[waiting.pop()]) is not None:
                yield found
        if row[0] not in written:
            yield decode(*row)
    for id in reversed(waiting):
        if written[id] is not None:
            yield written[id]


__all__ = ["Reading", "sends_of"]
