"""The rows of one transaction: read together, changed in memory, written by its commit.

An origin is what is read and relied on as a whole (`schema`): a transaction notes the
version of each one it reads, and its write goes through only if none has changed. So rows
in motion may stay in memory between transactions, and whoever is alone with an execution
reads next to nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol

from resonate.errors import ResonateStoreError
from resonate.protocol.addresses import PUSHED, parse
from resonate.protocol.footprint import Footprint
from resonate.protocol.ids import origin_of
from resonate.protocol.records import ACQUIRED, BRANCH, PENDING, Promise, Schedule
from resonate.protocol.rows import (
    DropSchedule,
    Effect,
    PromiseRow,
    Reset,
    Resume,
    Resumed,
    Send,
    TaskRow,
    Unsend,
    is_external,
)
from resonate.protocol.trees import begun_at, is_below, over_at, ranges, stray_of
from resonate.storage import codec
from resonate.storage.base import RESUME, Conflict, Timer
from resonate.storage.postgres.statements import ORIGIN, PROMISE, SCHEDULE, TASK, Statements

LISTED: Final = 200_000
"""Ids below an acquired promise that are remembered, so that its next step need not be looked for."""

PAGE: Final = 500
"""Rows that a scan reads at once."""

LAST: Final = (1 << 62, "")
"""Later than any execution."""


class Executes(Protocol):
    """What rows are read and written with."""

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one statement."""


class Tree:
    """What is known of one origin, as of one version; `version` None: it is not there.

    `whole` holds, for a promise below which everything is known, the ids there: all others are absent.
    """

    __slots__ = ("guessed", "promises", "schedules", "tasks", "version", "whole")

    def __init__(self, origin: str, version: int | None, guessed: bool = False) -> None:
        self.version = version
        self.guessed = guessed
        self.promises: dict[str, PromiseRow | None] = {}
        self.tasks: dict[str, TaskRow | None] = {}
        self.schedules: dict[str, Schedule | None] = {}
        self.whole: dict[str, set[str]] = {origin: set()} if version is None else {}

    def knows(self, id: str) -> bool:
        """Whether the promise `id` and its task need not be read."""
        return self.version is None or id in self.promises or self.absent(id)

    def absent(self, id: str) -> bool:
        """Whether nothing is stored under `id`, for all we know."""
        if self.version is None:
            return id not in self.promises
        origin = origin_of(id)
        for top, ids in self.whole.items():  # noqa: SIM110 - several times a step, and a generator costs a microsecond
            if id not in ids and (top == origin or is_below(id, top)):
                return True
        return False


class Rows:
    """A view of the rows, with what the running transaction has done to them.

    Args:
        database: carries statements out.
        statements: those of the schema.
    """

    def __init__(self, database: Executes, statements: Statements) -> None:
        self._database = database
        self._statements = statements
        self._trees: dict[str, Tree] = {}
        self._touched: set[str] = set()
        """Origins that this transaction has read; what it knows of them is right or its write fails."""
        self._read: set[str] = set()
        """Origins read since effects were last applied."""
        self._seen: set[str] = set()
        """Origins that have been read so far."""
        self._held: set[str] = set()
        """Origins that the effects rely on or change."""
        self._loaded: set[str] = set()
        """Origins whose version was read in this transaction."""
        self._spared: set[str] = set()
        """Origins that others have now, and that this transaction does without."""
        self._asked: set[str] = set()
        """Promises read or written in this transaction."""
        self._branches: dict[str, dict[str, Promise]] = {}
        self._promises: dict[str, tuple[Any, ...]] = {}
        self._tasks: dict[str, tuple[Any, ...]] = {}
        self._absent: set[str] = set()
        """Promises written by this transaction that were not there before; so neither were their tasks."""
        self._schedules: dict[str, tuple[Any, ...] | None] = {}
        self._sends: dict[tuple[str, ...], tuple[Any, ...] | None] = {}
        self._obligations: dict[tuple[str, str], bool] = {}
        self._reset_all = False
        self.sent: list[Send] = []
        """What this transaction has put into the outbox."""
        self.owed: list[Timer] = []
        """The awaiters that this transaction could not resume."""
        self.earliest: int | None = None
        """The first instant at which a row that this transaction wrote is due."""

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
            found = self._database.execute(statements.load_one, (origin, origin, ids, origin, ids)) if ids else []
        else:
            origins, ids = [origin for origin, _ in pairs], [id for _, id in pairs]
            names = list({*origins})
            found = self._database.execute(statements.load_many, (names, origins, ids, origins, ids))
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
        found = self._database.execute(self._statements.load_schedules, (origins, origins, names))
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
        origin = origin_of(id)
        if origin not in self._touched:
            self._touch(origin)
        tree = self._trees.get(origin)
        if tree is None or not tree.knows(id):
            self._fetch({origin: {id}})
            tree = self._trees[origin]
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
            if branch is not None and origin_of(branch) == origin:
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
        rows = self._database.execute(self._statements.branches, (list(wanted), *spans, LISTED))
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

    def executions(self, before: tuple[int, str] | None) -> Iterator[PromiseRow]:
        written = [row for row in self._rows_written() if begun_at(row.promise) is not None]
        waiting = sorted(written, key=_begun)
        ids, last = {row.promise.id for row in written}, before or LAST
        waiting = [row for row in waiting if _begun(row) < last]
        while not self._reset_all:
            page = self._database.execute(self._statements.executions, (*last, PAGE))
            for id, state, body, begun in page:
                while waiting and _begun(waiting[-1]) > (begun, id):
                    yield waiting.pop()
                if id not in ids:
                    yield codec.decode_promise(id, state, body)
            if len(page) < PAGE:
                break
            last = (page[-1][3], page[-1][0])
        yield from reversed(waiting)

    def tasks(self, after: str | None) -> Iterator[TaskRow]:
        written = {id: self._trees[origin_of(id)].tasks[id] for id in self._tasks}
        yield from _merged(self._scan(self._statements.scan_tasks, after), codec.decode_task, written, after)

    def schedules(self, after: str | None) -> Iterator[Schedule]:
        written = {id: self._trees[origin_of(id)].schedules[id] for id in self._schedules}
        rows = self._scan(self._statements.scan_schedules, after)
        yield from _merged(rows, lambda id, body: codec.decode_schedule(body), written, after)

    def messages(self) -> list[Send]:
        found = {send.key: send for send in _sends(self._database.execute(self._statements.outbox))}
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
            page = self._database.execute(statement, (last, PAGE))
            yield from page
            if len(page) < PAGE:
                return
            last = page[-1][0]

    # ---- effects ---------------------------------------------------------------------------------

    def apply(self, effects: Sequence[Effect]) -> None:
        """Make effects visible to what follows; one that cannot be stored is found before any is."""
        bodies = [_ENCODE[type(effect)](effect) for effect in effects]
        for effect in effects:
            _check(effect)
        self._held |= self._read
        self._read.clear()
        for effect, body in zip(effects, bodies, strict=True):
            _APPLY[type(effect)](self, effect, body)

    def _change(self, id: str) -> tuple[str, Tree]:
        origin = origin_of(id)
        tree = self._trees.get(origin)
        if tree is None or origin not in self._touched:
            tree = self._tree(id)
        self._held.add(origin)
        return origin, tree

    def _put_promise(self, row: PromiseRow, body: bytes) -> None:
        promise = row.promise
        id = promise.id
        due = None
        if promise.state == PENDING and is_external(promise):
            due = promise.timeout_at
            self._arm(due)
        origin, tree = self._change(id)
        branch = promise.tags.get(BRANCH)
        if id not in self._promises and (tree.promises[id] is None if id in tree.promises else tree.absent(id)):
            self._absent.add(id)
        for ids in tree.whole.values():
            ids.add(id)
        self._asked.add(id)
        tree.promises[id] = row
        tree.tasks.setdefault(id, None)
        self._promises[id] = (
            origin,
            id,
            promise.state,
            due,
            branch,
            over_at(promise),
            stray_of(promise),
            begun_at(promise),
            body,
        )
        if branch in self._branches:
            self._branches[branch][id] = promise

    def _put_task(self, row: TaskRow, body: bytes) -> None:
        due = row.expires_at if row.state == ACQUIRED else row.retry_at
        if due is not None:
            self._arm(due)
        origin, tree = self._change(row.id)
        tree.tasks[row.id] = row
        self._tasks[row.id] = (origin, row.id, row.state, due, row.pid, body)

    def _put_schedule(self, row: Schedule, body: bytes) -> None:
        origin, tree = self._change(row.id)
        tree.schedules[row.id] = row
        self._schedules[row.id] = (origin, row.id, row.next_run_at, body)
        self._arm(row.next_run_at)

    def _drop_schedule(self, effect: DropSchedule, body: None) -> None:
        _, tree = self._change(effect.id)
        tree.schedules[effect.id] = None
        self._schedules[effect.id] = None

    def _send(self, send: Send, body: bytes) -> None:
        kind, id, listener = outbox_key(send.key)
        seq = time.time_ns() // 1000
        self._sends[send.key] = (origin_of(id), kind, id, listener, channel_of(send.address), 0, seq, body)
        self.sent.append(send)

    def _unsend(self, effect: Unsend, body: None) -> None:
        self._sends[effect.key] = None

    def _resume(self, effect: Resume, body: None) -> None:
        self._obligations[(effect.awaited, effect.awaiter)] = True
        self.owed.append((RESUME, effect.awaiter, effect.awaited))

    def _resumed(self, effect: Resumed, body: None) -> None:
        self._obligations[(effect.awaited, effect.awaiter)] = False

    def _reset(self, effect: Reset, body: None) -> None:
        self.undo()
        self._reset_all = True

    def _arm(self, at: int) -> None:
        if self.earliest is None or at < self.earliest:
            self.earliest = at

    # ---- the end of the transaction ----------------------------------------------------------------

    @property
    def changed(self) -> bool:
        """Whether anything is to be written."""
        return bool(self._promises or self._tasks or self._schedules or self._sends or self._obligations)

    def written(self, stamp: int) -> tuple[str, list[Any]]:
        """The statement that writes everything, with its parameters; see `Statements.write`."""
        known, new = self.relied()
        sends = [row for row in self._sends.values() if row is not None]
        schedules = [row for row in self._schedules.values() if row is not None]
        owed = [
            (origin_of(awaited), awaited, awaiter) for (awaited, awaiter), owes in self._obligations.items() if owes
        ]
        parts: list[tuple[str, Sequence[tuple[Any, ...]]]] = [
            *_split("promises", self._promises, self._absent),
            *_split("tasks", self._tasks, self._absent),
            ("sends", sends),
            ("no_sends", [_name(key) for key, row in self._sends.items() if row is None]),
            ("schedules", schedules),
            ("no_schedules", [(origin_of(id), id) for id, row in self._schedules.items() if row is None]),
            ("obligations", owed),
            ("no_obligations", [(origin_of(a), a, b) for (a, b), owes in self._obligations.items() if not owes]),
        ]
        return self._statements.write(stamp, known, new, [part for part in parts if part[1]])

    def relied(self) -> tuple[list[tuple[str, int]], list[str]]:
        """The origins that the write relies on, with their versions, and those that it creates."""
        known: list[tuple[str, int]] = []
        new: list[str] = []
        changed = {row[0] for rows in (self._promises, self._tasks) for row in rows.values()}
        changed.update(origin_of(id) for id in self._schedules)
        for origin in self._held:
            tree = self._trees[origin]
            if tree.version is not None:
                known.append((origin, tree.version))
            elif origin in changed:
                new.append(origin)
        return known, new

    def undo(self) -> None:
        """The transaction is not stored: nothing that it has read is known any more."""
        for origin in self._touched:
            self._trees.pop(origin, None)
        self._ended()

    def _ended(self) -> None:
        for found in (self._promises, self._tasks, self._schedules, self._sends, self._obligations, self._branches):
            found.clear()
        for origins in (self._touched, self._read, self._seen, self._held, self._loaded, self._spared, self._asked):
            origins.clear()
        self._absent.clear()
        self._reset_all = False
        self.sent = []
        self.owed = []
        self.earliest = None


def _split(
    name: str, rows: dict[str, tuple[Any, ...]], absent: set[str]
) -> tuple[tuple[str, Sequence[tuple[Any, ...]]], ...]:
    """The rows of a table, and those of them that were not there before: writing these costs less."""
    if not absent:
        return ((name, list(rows.values())),)
    there = [row for id, row in rows.items() if id not in absent]
    return (f"new_{name}", [row for id, row in rows.items() if id in absent]), (name, there)


def new_stamp() -> int:
    """A version that no origin has ever had."""
    return int.from_bytes(os.urandom(8), "big") >> 2


def outbox_key(key: tuple[str, ...]) -> tuple[str, str, str]:
    """The columns `kind`, `id` and `listener` of a message."""
    return (key[0], key[1], key[2] if len(key) > 2 else "")


def channel_of(address: str) -> str:
    """Who hears of a message for `address`: a group, group/pid, or `PUSHED`; empty if nobody does."""
    found = parse(address)
    if found is None or found.transport == "gcps":
        return ""
    if found.transport == "http":
        return PUSHED
    return f"{found.group}/{found.id}" if found.cast == "uni" else found.group


def _name(key: tuple[str, ...]) -> tuple[str, str, str, str]:
    kind, id, listener = outbox_key(key)
    return origin_of(id), kind, id, listener


def _by_origin(ids: Iterable[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for id in ids:
        found.setdefault(origin_of(id), set()).add(id)
    return found


def _begun(row: PromiseRow) -> tuple[int, str]:
    return row.promise.created_at, row.promise.id


def _sends(rows: Iterable[tuple[Any, ...]]) -> list[Send]:
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


def _check(effect: Effect) -> None:
    """Refuse what PostgreSQL cannot hold in a text."""
    id = effect.promise.id if type(effect) is PromiseRow else getattr(effect, "id", "")
    if "\0" in id:
        raise ResonateStoreError(f"the id {id!r} holds a NUL character, which PostgreSQL cannot store", 400)


def _nothing(effect: object) -> None:
    return None


_ENCODE: Final[dict[type, Callable[[Any], bytes | None]]] = {
    PromiseRow: codec.encode_promise,
    TaskRow: codec.encode_task,
    Schedule: codec.encode_schedule,
    DropSchedule: _nothing,
    Send: codec.encode_send,
    Unsend: _nothing,
    Resume: _nothing,
    Resumed: _nothing,
    Reset: _nothing,
}

_APPLY: Final[dict[type, Callable[[Rows, Any, Any], None]]] = {
    PromiseRow: Rows._put_promise,
    TaskRow: Rows._put_task,
    Schedule: Rows._put_schedule,
    DropSchedule: Rows._drop_schedule,
    Send: Rows._send,
    Unsend: Rows._unsend,
    Resume: Rows._resume,
    Resumed: Rows._resumed,
    Reset: Rows._reset,
}

__all__ = ["Executes", "Rows", "Tree", "channel_of", "new_stamp", "outbox_key"]
