"""The tables, and how a file of an older version becomes one of this.

A key is the id itself: it begins with its origin, and ids are compared bytewise, so a tree
is one range of the primary key and a scan is in the order of ids. What is searched for is
a column; the rest of a row is one blob (`codec`). The tables have a prefix and the version
a table of its own, since the file may hold the tables of the user's program too.

Migrations are numbered by their place in the list and run under the lock, in the
transaction of whoever opens the file first. One that has been released never changes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, Final

import msgspec

from resonate.errors import StorageUnusable
from resonate.protocol.listing import Entry, entry
from resonate.protocol.records import PromiseState, TaskState
from resonate.protocol.trees import begun_at, over_at, stray_of
from resonate.storage.codec import decode_promise, decode_task, group_of_task

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """
        CREATE TABLE resonate_promises (
            id TEXT NOT NULL PRIMARY KEY,
            state TEXT NOT NULL,
            due INTEGER,
            branch TEXT,
            body BLOB NOT NULL
        ) WITHOUT ROWID
        """,
        "CREATE INDEX resonate_promises_due ON resonate_promises (due) WHERE due IS NOT NULL",
        "CREATE INDEX resonate_promises_branch ON resonate_promises (branch, id) WHERE branch IS NOT NULL",
        """
        CREATE TABLE resonate_tasks (
            id TEXT NOT NULL PRIMARY KEY,
            state TEXT NOT NULL,
            due INTEGER,
            pid TEXT,
            body BLOB NOT NULL
        ) WITHOUT ROWID
        """,
        "CREATE INDEX resonate_tasks_due ON resonate_tasks (due) WHERE due IS NOT NULL",
        "CREATE INDEX resonate_tasks_pid ON resonate_tasks (pid) WHERE pid IS NOT NULL",
        """
        CREATE TABLE resonate_schedules (
            id TEXT NOT NULL PRIMARY KEY,
            due INTEGER NOT NULL,
            body BLOB NOT NULL
        ) WITHOUT ROWID
        """,
        "CREATE INDEX resonate_schedules_due ON resonate_schedules (due)",
        # AUTOINCREMENT: a number is never given twice, so "above the last one I saw" finds all that is new.
        """
        CREATE TABLE resonate_outbox (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL,
            kind TEXT NOT NULL,
            listener TEXT NOT NULL,
            body BLOB NOT NULL,
            UNIQUE (id, kind, listener)
        )
        """,
    ),
    # 2: finished trees are found, and strays with them (`protocol.trees`).
    (
        "ALTER TABLE resonate_promises ADD COLUMN over INTEGER",
        "ALTER TABLE resonate_promises ADD COLUMN stray_of TEXT",
        """
        UPDATE resonate_promises
        SET over = resonate_over(id, state, body), stray_of = resonate_stray_of(id, state, body)
        """,
        "CREATE INDEX resonate_promises_over ON resonate_promises (over) WHERE over IS NOT NULL",
        "CREATE INDEX resonate_promises_stray ON resonate_promises (stray_of) WHERE stray_of IS NOT NULL",
    ),
    # 3: executions are listed, the newest first.
    (
        "ALTER TABLE resonate_promises ADD COLUMN begun INTEGER",
        "UPDATE resonate_promises SET begun = resonate_begun(id, state, body)",
        "CREATE INDEX resonate_promises_begun ON resonate_promises (begun, id) WHERE begun IS NOT NULL",
    ),
    # 4: executions are found by phase, function, group, label and error (`protocol.listing`), open tasks by group.
    # The column `begun` stays, unused: programs of the older version that have the file open go on writing it.
    (
        """
        CREATE TABLE resonate_executions (
            id TEXT NOT NULL PRIMARY KEY,
            begun INTEGER NOT NULL,
            state TEXT NOT NULL,
            function TEXT NOT NULL,
            grp TEXT NOT NULL,
            fault TEXT
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE resonate_labels (
            id TEXT NOT NULL,
            name TEXT NOT NULL,
            value TEXT NOT NULL,
            begun INTEGER NOT NULL,
            PRIMARY KEY (id, name)
        ) WITHOUT ROWID
        """,
        """
        INSERT INTO resonate_executions (id, begun, state, function, grp, fault)
        SELECT p.id, p.begun, resonate_phase(p.id, p.state, p.body, t.state, t.body),
            resonate_function(p.id, p.state, p.body), resonate_group(p.id, p.state, p.body),
            resonate_fault(p.id, p.state, p.body)
        FROM resonate_promises p LEFT JOIN resonate_tasks t ON t.id = p.id WHERE p.begun IS NOT NULL
        """,
        """
        INSERT INTO resonate_labels (id, name, value, begun)
        SELECT p.id, l.value ->> 0, l.value ->> 1, p.begun
        FROM resonate_promises p, json_each(resonate_labels_of(p.id, p.state, p.body)) l WHERE p.begun IS NOT NULL
        """,
        "CREATE INDEX resonate_executions_state ON resonate_executions (state, begun, id)",
        "CREATE INDEX resonate_executions_function ON resonate_executions (function, state, begun, id)",
        "CREATE INDEX resonate_executions_group ON resonate_executions (grp, state, begun, id)",
        """
        CREATE INDEX resonate_executions_fault ON resonate_executions (function, fault, begun, id)
        WHERE fault IS NOT NULL
        """,
        "CREATE INDEX resonate_labels_value ON resonate_labels (name, value, begun, id)",
        "DROP INDEX resonate_promises_begun",
        "ALTER TABLE resonate_tasks ADD COLUMN grp TEXT",
        "ALTER TABLE resonate_tasks ADD COLUMN since INTEGER",
        "UPDATE resonate_tasks SET grp = resonate_task_group(id, state, body) WHERE state != 'fulfilled'",
        "CREATE INDEX resonate_tasks_group ON resonate_tasks (grp, state, since) WHERE grp IS NOT NULL",
    ),
)

_COLUMNS: Final[dict[str, tuple[int, Callable[..., Any]]]] = {
    "resonate_over": (3, lambda *row: over_at(decode_promise(*row).promise)),
    "resonate_begun": (3, lambda *row: begun_at(decode_promise(*row).promise)),
    "resonate_stray_of": (3, lambda *row: stray_of(decode_promise(*row).promise)),
    "resonate_phase": (5, lambda *row: _entry(*row).phase),
    "resonate_function": (3, lambda *row: _entry(*row).function),
    "resonate_group": (3, lambda *row: _entry(*row).group),
    "resonate_fault": (3, lambda *row: _entry(*row).fault),
    "resonate_labels_of": (3, lambda *row: msgspec.json.encode(_entry(*row).labels).decode()),
    "resonate_task_group": (3, lambda *row: group_of_task(decode_task(*row))),
}
"""What migrations may call: columns that were added later, of the rows that are there already."""

TABLES: Final = (
    "resonate_promises",
    "resonate_tasks",
    "resonate_schedules",
    "resonate_outbox",
    "resonate_executions",
    "resonate_labels",
)


def is_current(database: sqlite3.Connection) -> bool:
    """Whether the file has this version's schema, so that there is nothing to migrate."""
    return _has_schema(database) and _read_version(database) == len(MIGRATIONS)


def migrate(database: sqlite3.Connection, path: str) -> None:
    """Bring the file to this version; the caller is inside a write transaction.

    Raises:
        StorageUnusable: the file was written by a newer version.
    """
    version = _version(database)
    if version > len(MIGRATIONS):
        raise StorageUnusable(
            f"{path} was written by a newer version of resonate (schema {version}, this version knows up to "
            f"{len(MIGRATIONS)}). Upgrade resonate here, or use another file; nothing was changed"
        )
    if version < len(MIGRATIONS):
        for name, (arguments, column) in _COLUMNS.items():
            database.create_function(name, arguments, column, deterministic=True)
    for number, statements in enumerate(MIGRATIONS[version:], version + 1):
        for statement in statements:
            database.execute(statement)
        database.execute("UPDATE resonate_schema SET version = ?", (number,))


def _entry(
    id: str, state: PromiseState, body: bytes, task: TaskState | None = None, task_body: bytes | None = None
) -> Entry:
    known = None if task is None or task_body is None else decode_task(id, task, task_body)
    found = entry(decode_promise(id, state, body).promise, known)
    assert found is not None, f"{id} has an instant at which it was begun, so it is an execution"
    return found


def _version(database: sqlite3.Connection) -> int:
    if not _has_schema(database):
        database.execute("CREATE TABLE resonate_schema (version INTEGER NOT NULL)")
        database.execute("INSERT INTO resonate_schema VALUES (0)")
    return _read_version(database)


def _has_schema(database: sqlite3.Connection) -> bool:
    found = database.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'resonate_schema'")
    return bool(found.fetchall())


def _read_version(database: sqlite3.Connection) -> int:
    return int(database.execute("SELECT version FROM resonate_schema").fetchone()[0])
