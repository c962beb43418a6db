"""The tables, and how a schema of an older version becomes one of this.

Every key leads with the origin (the part of an id before its first `:`), no constraint and
no index reaches across two of them: so a tree lives in one place, and the tables can be
distributed by that column. Ids are compared bytewise (`COLLATE "C"`). What is searched for
is a column; the rest of a row is one blob (`codec`).

`origins` holds one row for each origin: its version changes with every transaction that
writes anything below it. What a process remembers of an origin is right exactly as long as
the version is the one it remembers; every write says which version it relies on.

Migrations are numbered by their place in the list and run by the first that comes, under a
lock. One that has been released never changes. `{s}` stands for the schema.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from resonate.errors import StorageUnusable

Execute = Callable[..., list[tuple[Any, ...]]]

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """
        CREATE TABLE {s}.origins (
            origin text COLLATE "C" NOT NULL PRIMARY KEY,
            version bigint NOT NULL
        ) WITH (fillfactor = 50)
        """,
        """
        CREATE TABLE {s}.promises (
            origin text COLLATE "C" NOT NULL,
            id text COLLATE "C" NOT NULL,
            state text NOT NULL,
            due bigint,
            branch text COLLATE "C",
            over bigint,
            stray_of text COLLATE "C",
            begun bigint,
            body bytea NOT NULL,
            PRIMARY KEY (origin, id)
        )
        """,
        "CREATE INDEX promises_due ON {s}.promises (due) WHERE due IS NOT NULL",
        "CREATE INDEX promises_branch ON {s}.promises (branch, id) WHERE branch IS NOT NULL",
        "CREATE INDEX promises_over ON {s}.promises (over) WHERE over IS NOT NULL",
        "CREATE INDEX promises_stray ON {s}.promises (stray_of, id) WHERE stray_of IS NOT NULL",
        "CREATE INDEX promises_begun ON {s}.promises (begun, id) WHERE begun IS NOT NULL",
        """
        CREATE TABLE {s}.tasks (
            origin text COLLATE "C" NOT NULL,
            id text COLLATE "C" NOT NULL,
            state text NOT NULL,
            due bigint,
            pid text COLLATE "C",
            body bytea NOT NULL,
            PRIMARY KEY (origin, id)
        ) WITH (fillfactor = 70)
        """,
        "CREATE INDEX tasks_due ON {s}.tasks (due) WHERE due IS NOT NULL",
        "CREATE INDEX tasks_pid ON {s}.tasks (pid) WHERE pid IS NOT NULL",
        """
        CREATE TABLE {s}.schedules (
            origin text COLLATE "C" NOT NULL,
            id text COLLATE "C" NOT NULL,
            due bigint NOT NULL,
            body bytea NOT NULL,
            PRIMARY KEY (origin, id)
        )
        """,
        "CREATE INDEX schedules_due ON {s}.schedules (due)",
        # `channel` is who hears of it: a group, group/pid, or everything that is pushed. `hidden` is the
        # instant until which somebody has it in hand.
        """
        CREATE TABLE {s}.outbox (
            origin text COLLATE "C" NOT NULL,
            kind text NOT NULL,
            id text COLLATE "C" NOT NULL,
            listener text COLLATE "C" NOT NULL,
            channel text COLLATE "C" NOT NULL,
            hidden bigint NOT NULL,
            seq bigint NOT NULL,
            body bytea NOT NULL,
            PRIMARY KEY (origin, kind, id, listener)
        )
        """,
        "CREATE INDEX outbox_channel ON {s}.outbox (channel, seq)",
        # Awaiters of another origin than that of the promise they await: to be resumed by a transaction of theirs.
        """
        CREATE TABLE {s}.obligations (
            origin text COLLATE "C" NOT NULL,
            awaited text COLLATE "C" NOT NULL,
            awaiter text COLLATE "C" NOT NULL,
            PRIMARY KEY (origin, awaited, awaiter)
        )
        """,
    ),
)

TABLES: Final = ("promises", "tasks", "schedules", "outbox", "obligations", "origins")

LOCK: Final = 0x7265_736F_6E61_7465
"""The advisory lock under which a schema is migrated."""


def version_of(execute: Execute, schema: str) -> int | None:
    """The version of the tables in `schema`; None if there are none."""
    there = execute(
        "SELECT 1 FROM information_schema.tables WHERE table_schema = %s AND table_name = 'schema_version'", (schema,)
    )
    return int(execute(f"SELECT version FROM {schema}.schema_version")[0][0]) if there else None


def check(version: int, where: str, schema: str) -> None:
    """Refuse what is newer than this program.

    Raises:
        StorageUnusable: it is.
    """
    if version > len(MIGRATIONS):
        raise StorageUnusable(
            f"schema {schema!r} of {where} was written by a newer version of resonate (schema version {version}, this "
            f"one knows up to {len(MIGRATIONS)}). Upgrade resonate here, or use another schema; nothing was changed"
        )


def migrate(execute: Execute, where: str, schema: str, *, lock: bool = True) -> tuple[int, int]:
    """Bring `schema` to this version; the caller is inside a transaction.

    Returns:
        The versions before and after; 0 stands for no tables at all.

    Raises:
        StorageUnusable: the schema was written by a newer version.
    """
    if lock:
        execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
    version = version_of(execute, schema)
    if version is None:
        if not execute("SELECT 1 FROM information_schema.schemata WHERE schema_name = %s", (schema,)):
            execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        execute(f"CREATE TABLE {schema}.schema_version (version integer NOT NULL PRIMARY KEY)")
        execute(f"INSERT INTO {schema}.schema_version VALUES (0)")
        version = 0
    check(version, where, schema)
    for number, statements in enumerate(MIGRATIONS[version:], version + 1):
        for statement in statements:
            execute(statement.format(s=schema))
        execute(f"UPDATE {schema}.schema_version SET version = %s", (number,))
    return version, len(MIGRATIONS)
