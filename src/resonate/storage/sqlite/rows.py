"""The rows of one transaction: read when asked for, changed in memory, written at its commit.

Rows that are still in motion stay in memory afterwards, for as long as `data_version` says
that nobody else has written to the file; so a process that is alone reads next to nothing.
What is written during a transaction is collected and goes out as one statement per table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, Final, Protocol

import msgspec

from resonate.protocol.footprint import Footprint
from resonate.protocol.ids import origin_of
from resonate.protocol.listing import entry
from resonate.protocol.records import ACQUIRED, BRANCH, FULFILLED, PENDING, TARGET, Promise, Schedule
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
from resonate.protocol.trees import is_root, over_at, stray_of
from resonate.storage import codec
from resonate.storage.executions import Executions
from resonate.storage.sqlite.executions import SqliteExecutions
from resonate.storage.sqlite.schema import TABLES

CACHE_ROWS: Final = 20_000
"""Rows kept in memory; beyond it all are let go and read again when they are needed."""

CACHE_BYTES: Final = 64 * 1024 * 1024
"""Bytes of rows put into memory before all are let go."""

AT_ONCE: Final = 6
"""Unknown promises of a batch from which on one query for all is cheaper than one for each."""

PAGE: Final = 500
"""Rows that a scan reads at once."""

TOGETHER: Final = 128
"""Rows that one statement writes at most: each statement gives up the interpreter's lock once, each row of
`executemany` would, and getting it back from a hundred busy threads costs more than writing the row."""


def _together(statement: str, values: int) -> dict[int, str]:
    """`statement` for 1, 2, 4, ... rows of so many values."""
    row = f"({', '.join('?' * values)})"
    return {1 << n: statement % ", ".join([row] * (1 << n)) for n in range(TOGETHER.bit_length())}


_PROMISE: Final = "SELECT id, state, body FROM resonate_promises WHERE id = ?"
_PROMISES: Final = "SELECT id, state, body FROM resonate_promises WHERE id IN (SELECT value FROM json_each(?))"
_BELOW: Final = "SELECT 1 FROM resonate_promises WHERE id > ? AND id < ? LIMIT 1"
_BRANCH: Final = "SELECT id, state, body FROM resonate_promises WHERE branch = ? ORDER BY id"
_TASK: Final = "SELECT id, state, body FROM resonate_tasks WHERE id = ?"
_SCHEDULE: Final = "SELECT body FROM resonate_schedules WHERE id = ?"
_SCAN_PROMISES: Final = "SELECT id, state, body FROM resonate_promises WHERE id > ? ORDER BY id LIMIT ?"
_SCAN_BELOW: Final = (
    "SELECT id, state, body FROM resonate_promises WHERE id > ? AND id < ? AND stray_of IS NULL ORDER BY id LIMIT ?"
)
_STRAYS: Final = "SELECT id, state, body FROM resonate_promises WHERE stray_of >= ? AND stray_of <= ?"
_SCAN_TASKS: Final = "SELECT id, state, body FROM resonate_tasks WHERE id > ? ORDER BY id LIMIT ?"
_SCAN_SCHEDULES: Final = "SELECT id, body FROM resonate_schedules WHERE id > ? ORDER BY id LIMIT ?"
_OUTBOX: Final = "SELECT kind, id, listener, body FROM resonate_outbox ORDER BY seq"
_PUT_PROMISE: Final = _together(
    "INSERT INTO resonate_promises (id, state, due, branch, over, stray_of, body) VALUES %s ON CONFLICT (id) "
    "DO UPDATE SET state = excluded.state, due = excluded.due, over = excluded.over, body = excluded.body",
    7,
)
_PUT_TASK: Final = _together(
    "INSERT INTO resonate_tasks (id, state, due, pid, grp, since, body) VALUES %s ON CONFLICT (id) DO UPDATE "
    "SET state = excluded.state, due = excluded.due, pid = excluded.pid, grp = excluded.grp, since = excluded.since, "
    "body = excluded.body",
    7,
)
_PUT_EXECUTION: Final = _together(
    "INSERT INTO resonate_executions (id, begun, state, function, grp, fault) VALUES %s ON CONFLICT (id) DO UPDATE "
    "SET state = excluded.state, fault = excluded.fault",
    6,
)
_PUT_LABEL: Final = _together(
    "INSERT INTO resonate_labels (id, name, value, begun) VALUES %s ON CONFLICT (id, name) DO NOTHING", 4
)
_PUT_SCHEDULE: Final = "INSERT OR REPLACE INTO resonate_schedules (id, due, body) VALUES (?, ?, ?)"
_DROP_SCHEDULE: Final = "DELETE FROM resonate_schedules WHERE id = ?"
_PUT_SEND: Final = "INSERT OR REPLACE INTO resonate_outbox (kind, id, listener, body) VALUES (?, ?, ?, ?)"
_DROP_SEND: Final = "DELETE FROM resonate_outbox WHERE kind = ? AND id = ? AND listener = ?"


class Statements(Protocol):
    """What rows are read and written with."""

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one statement."""

    def last_row(self) -> int:
        """The number of the row inserted last."""


class Rows:
    """A view of the rows, with what the running transaction has done to them."""

    def __init__(self, connection: Statements) -> None:
        self._connection = connection
        self._execute = connection.execute
        self._promises: dict[str, PromiseRow | None] = {}
        self._tasks: dict[str, TaskRow | None] = {}
        self._bytes = 0
        # for origins that were created here, with nothing below them: all that has been written below since
        self._trees: dict[str, set[str]] = {}
        # in memory for this transaction only, since nothing will happen to them any more
        self._passing: list[str] = []
        self._passing_tasks: list[str] = []
        self._new_promises: dict[str, tuple[Any, ...]] = {}
        self._new_phases: set[str] = set()  # executions that are new or have come into another phase
        self._new_below: set[str] = set()  # origins of those that are below one
        self._new_tasks: dict[str, tuple[Any, ...]] = {}
        self._new_schedules: dict[str, tuple[Schedule, bytes] | None] = {}
        self._new_sends: dict[tuple[str, ...], bytes | None] = {}
        self.sent: list[Send] = []
        """What this transaction has put into the outbox."""
        self.earliest: int | None = None
        """The first instant at which a row that this transaction wrote is due."""
        self.last_seq: int | None = None
        """The number of the last message that this transaction has put into the outbox."""

    # ---- the transaction --------------------------------------------------------------------

    def load(self, footprint: Footprint) -> None:
        """Read what a large batch will ask for in one go; a small one asks by itself."""
        if len(footprint.promises) < AT_ONCE:
            return
        known = self._promises
        missing = [id for id in footprint.promises if id not in known and not self._absent(id)]
        if len(missing) < AT_ONCE:
            return
        known.update(dict.fromkeys(missing))
        self._passing += missing
        for row in self._execute(_PROMISES, (msgspec.json.encode(missing).decode(),)):
            known[row[0]] = codec.decode_promise(*row)

    def forget(self) -> None:
        """Somebody else has written: what is in memory may be wrong."""
        self._promises.clear()
        self._tasks.clear()
        self._passing.clear()
        self._passing_tasks.clear()
        self._trees.clear()
        self._bytes = 0

    def flush(self) -> None:
        """Write what has been collected; the file then shows what this transaction sees."""
        if self._new_phases:
            self._write_executions()
        if self._new_promises:
            self._write(_PUT_PROMISE, list(self._new_promises.values()))
            self._new_promises.clear()
            self._new_below.clear()
        if self._new_tasks:
            self._write(_PUT_TASK, list(self._new_tasks.values()))
            self._new_tasks.clear()
        if self._new_sends:
            self._write_sends()
        if self._new_schedules:
            self._write_schedules()

    def committed(self) -> None:
        """The transaction is stored: let go of what will not be asked for again."""
        promises, tasks = self._promises, self._tasks
        for id in self._passing:
            row = promises.get(id)
            if row is None or row.promise.state != PENDING:
                promises.pop(id, None)
                self._trees.pop(id, None)
        self._passing.clear()
        for id in self._passing_tasks:
            tasks.pop(id, None)
        self._passing_tasks.clear()
        self._ended()
        if len(promises) + len(tasks) > CACHE_ROWS or self._bytes > CACHE_BYTES:
            self.forget()

    def undo(self) -> None:
        """The transaction is not stored."""
        self.forget()
        self._new_promises.clear()
        self._new_phases.clear()
        self._new_below.clear()
        self._new_tasks.clear()
        self._new_schedules.clear()
        self._new_sends.clear()
        self._ended()

    def _ended(self) -> None:
        self.sent = []
        self.earliest = self.last_seq = None

    def apply(self, effects: Sequence[Effect]) -> None:
        """Make effects visible to what follows; one that cannot be stored is found before any is."""
        bodies = [_ENCODE[type(effect)](effect) for effect in effects]
        for effect, body in zip(effects, bodies, strict=True):
            _APPLY[type(effect)](self, effect, body)

    # ---- view -------------------------------------------------------------------------------------

    def promise(self, id: str) -> PromiseRow | None:
        try:
            return self._promises[id]
        except KeyError:
            if self._absent(id):
                return None
            found = self._execute(_PROMISE, (id,))
        row = codec.decode_promise(*found[0]) if found else None
        self._promises[id] = row
        self._passing.append(id)
        return row

    def task(self, id: str) -> TaskRow | None:
        try:
            return self._tasks[id]
        except KeyError:
            found = self._execute(_TASK, (id,))
        row = codec.decode_task(*found[0]) if found else None
        if row is not None and row.state != FULFILLED:
            self._tasks[id] = row
        return row

    def schedule(self, id: str) -> Schedule | None:
        if id in self._new_schedules:
            new = self._new_schedules[id]
            return None if new is None else new[0]
        found = self._execute(_SCHEDULE, (id,))
        return codec.decode_schedule(found[0][0]) if found else None

    def branch(self, branch: str) -> list[Promise]:
        self.flush()
        return [codec.decode_promise(*row).promise for row in self._execute(_BRANCH, (branch,))]

    def reachable(self, id: str) -> bool:
        return True

    def promises(self, after: str | None) -> Iterator[PromiseRow]:
        return (codec.decode_promise(*row) for row in self._scan(_SCAN_PROMISES, after))

    def below(self, above: str, end: str) -> Iterator[PromiseRow]:
        self.flush()
        while True:
            page = self._execute(_SCAN_BELOW, (above, end, PAGE))
            yield from (codec.decode_promise(*row) for row in page)
            if len(page) < PAGE:
                return
            above = page[-1][0]

    def strays(self, first: str, last: str) -> list[PromiseRow]:
        self.flush()
        return [codec.decode_promise(*row) for row in self._execute(_STRAYS, (first, last))]

    def listing(self) -> Executions:
        self.flush()
        return Executions(SqliteExecutions(self._execute))

    def tasks(self, after: str | None) -> Iterator[TaskRow]:
        return (codec.decode_task(*row) for row in self._scan(_SCAN_TASKS, after))

    def schedules(self, after: str | None) -> Iterator[Schedule]:
        return (codec.decode_schedule(row[1]) for row in self._scan(_SCAN_SCHEDULES, after))

    def messages(self) -> list[Send]:
        self.flush()
        return [codec.decode_send(*row) for row in self._execute(_OUTBOX)]

    def _scan(self, statement: str, after: str | None) -> Iterator[tuple[Any, ...]]:
        self.flush()
        last = "" if after is None else after  # no id is empty
        while True:
            page = self._execute(statement, (last, PAGE))
            yield from page
            if len(page) < PAGE:
                return
            last = page[-1][0]

    # ---- effects ------------------------------------------------------------------------------------

    def _put_promise(self, row: PromiseRow, body: bytes) -> None:
        promise = row.promise
        id = promise.id
        due = None
        if promise.state == PENDING:
            if is_external(promise):
                due = promise.timeout_at
                self._arm(due)
        else:
            self._passing.append(id)
        origin = origin_of(id)
        tree = self._trees.get(origin)
        if tree is not None:
            tree.add(id)
        elif origin != id:
            self._new_below.add(origin)
        elif due is not None and self._promises.get(id, row) is None:
            self._begin_tree(id)
        branch = promise.tags.get(BRANCH)
        self._new_promises[id] = (
            id,
            promise.state,
            due,
            branch,
            over_at(promise),
            stray_of(promise),
            body,
        )
        if TARGET in promise.tags:
            known = self._promises.get(id)
            if known is None or known.promise.state != promise.state:
                self._new_phases.add(id)
        self._promises[id] = row
        self._bytes += len(body)

    def drop(self, ids: Sequence[str]) -> None:
        """These promises and their tasks have been deleted."""
        for id in ids:
            self._promises.pop(id, None)
            self._tasks.pop(id, None)
            self._trees.pop(id, None)

    def _begin_tree(self, origin: str) -> None:
        """`origin` is new. If nothing is below it yet, no child of it need be looked for from now on."""
        if origin not in self._new_below and not self._execute(_BELOW, (f"{origin}:", f"{origin};")):
            self._trees[origin] = {origin}

    def _absent(self, id: str) -> bool:
        """Whether `id` is known not to be there."""
        tree = self._trees.get(origin_of(id))
        return tree is not None and id not in tree

    def _put_task(self, row: TaskRow, body: bytes) -> None:
        due = row.expires_at if row.state == ACQUIRED else row.retry_at
        if due is not None:
            self._arm(due)
        if row.state == FULFILLED:
            self._passing_tasks.append(row.id)
        known = self._tasks.get(row.id)
        if known is None or known.state != row.state:
            self._new_phases.add(row.id)
        self._new_tasks[row.id] = (row.id, row.state, due, row.pid, codec.group_of_task(row), row.since, body)
        self._tasks[row.id] = row
        self._bytes += len(body)

    def _put_schedule(self, row: Schedule, body: bytes) -> None:
        self._new_schedules[row.id] = (row, body)
        self._arm(row.next_run_at)

    def _drop_schedule(self, effect: DropSchedule, body: None) -> None:
        self._new_schedules[effect.id] = None

    def _send(self, send: Send, body: bytes) -> None:
        self._new_sends[send.key] = body
        self.sent.append(send)

    def _unsend(self, effect: Unsend, body: None) -> None:
        self._new_sends[effect.key] = None

    def _resume(self, effect: Resume, body: None) -> None:
        raise AssertionError(f"every row is reachable in one file, {effect.awaiter} too")

    def _reset(self, effect: Reset, body: None) -> None:
        self.undo()
        for table in TABLES:
            self._execute(f"DELETE FROM {table}")

    def _arm(self, at: int) -> None:
        if self.earliest is None or at < self.earliest:
            self.earliest = at

    # ---- writing --------------------------------------------------------------------------------------

    def _write(self, statements: dict[int, str], rows: list[tuple[Any, ...]]) -> None:
        if len(rows) == 1:
            self._execute(statements[1], rows[0])
            return
        first, left = 0, len(rows)
        while left:
            size = min(TOGETHER, 1 << (left.bit_length() - 1))
            self._execute(statements[size], tuple(chain.from_iterable(rows[first : first + size])))
            first += size
            left -= size

    def _write_executions(self) -> None:
        ids, self._new_phases = self._new_phases, set()
        executions: list[tuple[Any, ...]] = []
        labels: list[tuple[Any, ...]] = []
        for id in ids:
            row = self.promise(id)
            if row is None or not is_root(row.promise):
                continue
            task = self.task(id) if row.promise.state == PENDING else None
            found = entry(row.promise, task)
            if found is not None:
                executions.append((id, found.begun, found.phase, found.function, found.group, found.fault))
                if found.labels and id in self._new_promises:
                    labels += [(id, name, value, found.begun) for name, value in found.labels]
        if executions:
            self._write(_PUT_EXECUTION, executions)
        if labels:
            self._write(_PUT_LABEL, labels)

    def _write_schedules(self) -> None:
        for id, new in self._new_schedules.items():
            if new is None:
                self._execute(_DROP_SCHEDULE, (id,))
            else:
                self._execute(_PUT_SCHEDULE, (id, new[0].next_run_at, new[1]))
        self._new_schedules.clear()

    def _write_sends(self) -> None:
        for key, body in self._new_sends.items():
            names = outbox_key(key)
            if body is None:
                self._execute(_DROP_SEND, names)
            else:
                self._execute(_PUT_SEND, (*names, body))
                self.last_seq = self._connection.last_row()
        self._new_sends.clear()


def outbox_key(key: tuple[str, ...]) -> tuple[str, str, str]:
    """The columns `kind`, `id` and `listener` of a message."""
    return (key[0], key[1], key[2] if len(key) > 2 else "")


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
    Reset: Rows._reset,
}
