"""The rows of one transaction: read together, changed in memory, written by its commit.

An origin is what is read and relied on as a whole (`schema`): a transaction notes the
version of each one it reads, and its write goes through only if none has changed. So rows
in motion may stay in memory between transactions, and whoever is alone with an execution
reads next to nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from resonate.errors import ResonateStoreError
from resonate.protocol.addresses import PUSHED, parse
from resonate.protocol.ids import origin_of
from resonate.protocol.listing import entry
from resonate.protocol.records import ACQUIRED, BRANCH, PENDING, TARGET, Schedule
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
from resonate.protocol.trees import over_at, stray_of
from resonate.storage import codec
from resonate.storage.base import RESUME, Timer
from resonate.storage.postgres.executions import Execute
from resonate.storage.postgres.known import Tree
from resonate.storage.postgres.reading import Reading
from resonate.storage.postgres.statements import Statements


class Rows(Reading):
    """The rows, and what the running transaction does to them.

    Args:
        execute: carries a statement out and gives all its rows.
        statements: those of the schema.
    """

    def __init__(self, execute: Execute, statements: Statements) -> None:
        super().__init__(execute, statements)
        self._held: set[str] = set()
        """Origins that the effects rely on or change."""
        self._phases: set[str] = set()
        """Executions that are new or have come into another phase."""
        self._absent: set[str] = set()
        """Promises written by this transaction that were not there before."""
        self._no_task: set[str] = set()
        """Those that had no task before it."""
        self._obligations: dict[tuple[str, str], bool] = {}
        self.sent: list[Send] = []
        """What this transaction has put into the outbox."""
        self.owed: list[Timer] = []
        """The awaiters that this transaction could not resume."""
        self.earliest: int | None = None
        """The first instant at which a row that this transaction wrote is due."""

    # ---- effects ---------------------------------------------------------------------------------

    def apply(self, effects: Sequence[Effect]) -> None:
        """Make effects visible to what follows; one that cannot be stored is found before any is."""
        bodies = [_ENCODE[type(effect)](effect) for effect in effects]
        for effect in effects:
            id = effect.promise.id if type(effect) is PromiseRow else getattr(effect, "id", "")
            if "\0" in id:
                raise ResonateStoreError(f"the id {id!r} holds a NUL character, which PostgreSQL cannot store", 400)
        self._held |= self._read
        self._read.clear()
        for effect, body in zip(effects, bodies, strict=True):
            _APPLY[type(effect)](self, effect, body)

    def _change(self, id: str) -> tuple[str, Tree]:
        tree = self._at.get(id)
        if tree is None:
            origin = origin_of(id)
            tree = self._trees.get(origin)
            if tree is None or origin not in self._touched:
                tree = self._tree(id)
        self._held.add(tree.origin)
        return tree.origin, tree

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
        if TARGET in promise.tags and (
            (known := tree.promises.get(id)) is None or known.promise.state != promise.state
        ):
            self._phases.add(id)
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
            body,
        )
        if branch in self._branches:
            self._branches[branch][id] = promise

    def _put_task(self, row: TaskRow, body: bytes) -> None:
        due = row.expires_at if row.state == ACQUIRED else row.retry_at
        if due is not None:
            self._arm(due)
        origin, tree = self._change(row.id)
        known = tree.tasks.get(row.id)
        if known is None:
            self._no_task.add(row.id)
        if known is None or known.state != row.state:
            self._phases.add(row.id)
        tree.tasks[row.id] = row
        self._tasks[row.id] = (origin, row.id, row.state, due, row.pid, codec.group_of_task(row), row.since, body)

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
        if len(self._promises) == len(self._absent) == len(self._held) == 1 and not (
            self._tasks or self._phases or self._sends or self._schedules or self._obligations
        ):
            ((origin, *rest),) = self._promises.values()
            version = self._trees[origin].version
            if version is not None and origin in self._held:
                return self._statements.step, [stamp, origin, version, origin, *rest]
        known, new = self.relied()
        parts: list[tuple[str, Sequence[tuple[Any, ...]]]] = []
        _split(parts, "promises", self._promises, self._absent)
        _split(parts, "tasks", self._tasks, self._no_task)
        if self._phases:
            self._add_executions(parts)
        if self._sends:
            parts.append(("sends", [row for row in self._sends.values() if row is not None]))
            parts.append(("no_sends", [_name(key) for key, row in self._sends.items() if row is None]))
        if self._schedules:
            gone = [(origin_of(id), id) for id, row in self._schedules.items() if row is None]
            parts.append(("schedules", [row for row in self._schedules.values() if row is not None]))
            parts.append(("no_schedules", gone))
        if self._obligations:
            pairs = [(origin_of(a), a, b, owes) for (a, b), owes in self._obligations.items()]
            parts.append(("obligations", [pair[:3] for pair in pairs if pair[3]]))
            parts.append(("no_obligations", [pair[:3] for pair in pairs if not pair[3]]))
        return self._statements.write(stamp, known, new, [part for part in parts if part[1]])

    def _add_executions(self, parts: list[tuple[str, Sequence[tuple[Any, ...]]]]) -> None:
        """What is to be written of executions that are new, or have come into another phase."""
        executions: dict[str, tuple[Any, ...]] = {}
        labels: list[tuple[Any, ...]] = []
        for id in self._phases:
            origin = origin_of(id)
            tree = self._trees[origin]
            row = tree.promises.get(id)
            if row is None:  # written by a step that has looked at its promise before
                row = self.promise(id)
            found = None if row is None else entry(row.promise, tree.tasks.get(id))
            if found is not None:
                executions[id] = (origin, id, found.begun, found.phase, found.function, found.group, found.fault)
                if id in self._absent:
                    labels += [(origin, id, name, value, found.begun) for name, value in found.labels]
        _split(parts, "executions", executions, self._absent & executions.keys())
        parts.append(("labels", labels))

    def relied(self) -> tuple[list[tuple[str, int]], list[str]]:
        """The origins that the write relies on, with their versions, and those that it creates."""
        known: list[tuple[str, int]] = []
        new: list[str] = []
        for origin in self._held:
            version = self._trees[origin].version
            if version is not None:
                known.append((origin, version))
            else:
                new.append(origin)
        if new and (known or len(new) > 1 or not self._promises):  # of some it was only found that they are not there
            changed = {row[0] for rows in (self._promises, self._tasks) for row in rows.values()}
            changed.update(origin_of(id) for id in self._schedules)
            new = [origin for origin in new if origin in changed]
        return known, new

    def undo(self) -> None:
        """The transaction is not stored: nothing that it has read is known any more."""
        for origin in self._touched:
            self._trees.pop(origin, None)
        self._ended()

    def _ended(self) -> None:
        for found in (
            self._promises, self._tasks, self._schedules, self._sends, self._obligations, self._branches, self._at,
            self._touched, self._read, self._seen, self._held, self._loaded, self._spared, self._asked, self._absent,
            self._no_task, self._phases,
        ):  # fmt: skip
            if found:
                found.clear()
        self._reset_all = False
        self.sent = []
        self.owed = []
        self.earliest = None


def _split(
    parts: list[tuple[str, Sequence[tuple[Any, ...]]]], name: str, rows: dict[str, tuple[Any, ...]], absent: set[str]
) -> None:
    """The rows of a table, those first that were not there before: writing these costs less."""
    if len(absent) == len(rows):
        parts.append((f"new_{name}", list(rows.values())))
    elif not absent:
        parts.append((name, list(rows.values())))
    else:
        parts.append((f"new_{name}", [row for id, row in rows.items() if id in absent]))
        parts.append((name, [row for id, row in rows.items() if id not in absent]))


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

__all__ = ["Rows", "channel_of", "new_stamp", "outbox_key"]
