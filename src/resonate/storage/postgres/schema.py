"""The tables, and how a schema of an older version becomes one of this.

Every key leads with the origin (the part of an id before its first `:`), no constraint and
no index reaches across two of them: so a tree lives in one place, and the tables can be
distributed by that column. Ids are compared bytewise (`COLLATE "C"`). What is searched for
is a column; the rest of a row is one blob (`codec`).

`origins` holds one row for each origin: its version changes with every transaction that
writes anything below it. What a process remembers of an origin is right exactly as long as
the version is the one it remembers; every write says which version it relies on.

Migrations are numbered by their place in the list and run by the first that comes, under a
lock. One that has been released never changes. `{s}` stands for the schema, in quotes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from resonate.errors import StorageUnusable
from resonate.storage.postgres.executions import Execute, fill
from resonate.storage.postgres.location import quoted

MIGRATIONS: Final[tuple[tuple[str | Callable[[Execute, str], None], ...], ...]] = (
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
    # 2: executions are found by phase, function, group, label and error (`protocol.listing`), open tasks by group.
    # The column `begun` stays, unused: programs of the older version that are connected go on writing it.
    (
        """
        CREATE TABLE {s}.executions (
            origin text COLLATE "C" NOT NULL,
            id text COLLATE "C" NOT NULL,
            begun bigint NOT NULL,
            state text COLLATE "C" NOT NULL,
            function text COLLATE "C" NOT NULL,
            grp text COLLATE "C" NOT NULL,
            fault text COLLATE "C",
            PRIMARY KEY (origin, id)
        ) WITH (fillfactor = 80)
        """,
        """
        CREATE TABLE {s}.labels (
            origin text COLLATE "C" NOT NULL,
            id text COLLATE "C" NOT NULL,
            name text COLLATE "C" NOT NULL,
            value text COLLATE "C" NOT NULL,
            begun bigint NOT NULL,
            PRIMARY KEY (origin, id, name)
        )
        """,
        'ALTER TABLE {s}.tasks ADD COLUMN grp text COLLATE "C", ADD COLUMN since bigint',
        fill,
        "CREATE INDEX executions_state ON {s}.executions (state, begun, id)",
        "CREATE INDEX executions_function ON {s}.executions (function, state, begun, id)",
        "CREATE INDEX executions_group ON {s}.executions (grp, state, begun, id)",
        "CREATE INDEX executions_fault ON {s}.executions (function, fault, begun, id) WHERE fault IS NOT NULL",
        "CREATE INDEX labels_value ON {s}.labels (name, value, begun, id)",
        "CREATE INDEX tasks_group ON {s}.tasks (grp, state, since) WHERE grp IS NOT NULL",
        "DROP INDEX {s}.promises_begun",
    ),
)

TABLES: Final = ("promises", "tasks", "schedules", "outbox", "obligations", "origins", "executions", "labels")

LOCK: Final = 0x7265_736F_6E61_7465
"""The advisory lock under which a schema is migrated."""


def version_of(execute: Execute, schema: str) -> int | None:
    """The version of the tables in `schema`; None if there are none."""
    there = execute(
        "SELECT 1 FROM information_schema.tables WHERE table_schema = %s AND table_name = 'schema_version'", (schema,)
    )
    return int(execute(f"SELECT version FROM {quoted(schema)}.schema_version")[0][0]) if there else None


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
    s = quoted(schema)
    version = version_of(execute, schema)
    if version is None:
        if not execute("SELECT 1 FROM information_schema.schemata WHERE schema_name = %s", (schema,)):
            execute(f"CREATE SCHEMA IF NOT EXISTS {s}")
        execute(f"CREATE TABLE {s}.schema_version (version integer NOT NULL PRIMARY KEY)")
        execute(f"INSERT INTO {s}.schema_version VALUES (0)")
        version = 0
    check(version, where, schema)
    for number, statements in enumerate(MIGRATIONS[version:], version + 1):
        for statement in statements:
            if callable(statement):
                statement(execute, s)
            else:
                execute(statement.format(s=s))
        execute(f"UPDATE {s}.schema_version SET version = %s", (number,))
    return version, len(MIGRATIONS)
