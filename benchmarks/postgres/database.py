"""A database of its own on the server under test, and what that server has done since the last look.

The counters are the server's: the database's statements from `pg_stat_statements` (if that is
loaded), transactions and rows from the cumulative statistics, the log from its own position,
processor time from /proc (if the server runs on this machine). Log and flushes are those of the
whole server, so nothing else should run on it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg

SCHEMA: Final = "resonate"
NOT_OURS: Final = "^(SELECT|WITH) .*pg_(stat|class|current|total|table|indexes)"
"""Statements of this file, which do not count."""

BACKGROUND: Final = ("walwriter", "checkpointer", "background writer", "autovacuum worker", "autovacuum launcher")


@dataclass(frozen=True)
class Looked:
    """The counters of one moment; subtract two of them."""

    statements: float | None
    transactions: float
    flushes: float | None
    log_bytes: float
    rows_inserted: float
    rows_updated: float
    rows_updated_in_place: float
    rows_deleted: float
    heap_bytes: float
    index_bytes: float

    def since(self, before: Looked) -> Looked:
        """What was added since `before`."""
        values: dict[str, Any] = {
            name: None if value is None else value - getattr(before, name) for name, value in self.__dict__.items()
        }
        return Looked(**values)


@dataclass
class Database:
    """A fresh database.

    Attributes:
        url: for any client.
        ours: the same with our schema named.
        settings: what the server is and how durable.
    """

    url: str
    settings: dict[str, str]
    _session: psycopg.Connection[Any] = field(repr=False)
    _counted: bool = False

    @property
    def ours(self) -> str:
        """The URL for a client of ours."""
        return f"{self.url}?schema={SCHEMA}"

    def ask(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """All rows of a statement in this database."""
        return self._session.execute(statement, parameters).fetchall()

    def execute(self, statement: str) -> None:
        """A statement without an answer."""
        self._session.execute(statement)

    def look(self) -> Looked:
        """The counters now. Sessions report theirs when they end, so have the clients stopped before."""
        self.execute("SELECT pg_stat_clear_snapshot()")
        ((commits,),) = self.ask(
            "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
        )
        ((log,),) = self.ask("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
        rows = self.ask(
            "SELECT coalesce(sum(n_tup_ins), 0), coalesce(sum(n_tup_upd), 0), coalesce(sum(n_tup_hot_upd), 0), "
            "coalesce(sum(n_tup_del), 0), coalesce(sum(pg_table_size(relid)), 0), "
            "coalesce(sum(pg_indexes_size(relid)), 0) FROM pg_stat_user_tables WHERE schemaname = %s",
            SCHEMA,
        )[0]
        return Looked(self.statements(), float(commits), self._flushes(), float(log), *map(float, rows))

    def statements(self) -> float | None:
        """Statements that clients have sent to this database; None if the server does not count them."""
        if not self._counted:
            return None
        found = self.ask(
            "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid "
            "WHERE d.datname = current_database() AND s.query !~ %s",
            NOT_OURS,
        )
        return float(found[0][0])

    def _flushes(self) -> float | None:
        try:
            return float(self.ask("SELECT wal_sync FROM pg_stat_wal")[0][0])
        except psycopg.errors.UndefinedColumn:  # moved elsewhere in PostgreSQL 18
            return None

    @contextmanager
    def slower(self, microseconds: int) -> Iterator[bool]:
        """Have each commit of a new session wait so much longer before it flushes, as slower disks would.

        Gives whether that is so: only superusers may ask for it.
        """
        name = self.ask("SELECT current_database()")[0][0]
        try:
            self.execute(f"ALTER DATABASE {name} SET commit_siblings = 0")
            self.execute(f"ALTER DATABASE {name} SET commit_delay = {microseconds}")
        except psycopg.errors.InsufficientPrivilege:
            yield False
            return
        try:
            yield True
        finally:
            self.execute(f"ALTER DATABASE {name} RESET ALL")

    def processor(self) -> dict[int, float]:
        """Seconds of processor time of each of the server's processes that work for this database, or for all."""
        pids = self.ask(
            "SELECT pid FROM pg_stat_activity WHERE (datname = current_database() AND pid <> pg_backend_pid()) "
            "OR backend_type = ANY(%s)",
            list(BACKGROUND),
        )
        return {pid: seconds for (pid,) in pids if (seconds := processor_seconds(pid)) is not None}

    def tables(self) -> dict[str, tuple[int, int, int]]:
        """For each table of ours its live rows, its bytes and those of its indexes."""
        self.execute(f"ANALYZE {SCHEMA}.promises")
        found = self.ask(
            "SELECT relname, n_live_tup, pg_table_size(relid), pg_indexes_size(relid) "
            "FROM pg_stat_user_tables WHERE schemaname = %s ORDER BY relname",
            SCHEMA,
        )
        return {name: (rows, heap, index) for name, rows, heap, index in found}


def processor_seconds(pid: int) -> float | None:
    """What a process on this machine has used so far; None if it is not there, or not of PostgreSQL or Python."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    if not text.partition("(")[2].startswith(("postgres", "python")):
        return None
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def spent(before: dict[int, float], after: dict[int, float]) -> float:
    """Seconds between two looks at `Database.processor`."""
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())


@contextmanager
def fresh(url: str) -> Iterator[Database]:
    """A database of its own on the server of `url`, dropped at the end.

    Args:
        url: `postgresql://user@host:port/database` of a role that may create databases; without options.

    Raises:
        ValueError: the URL has options.
        psycopg.Error: the server cannot be reached, or does not allow it.
    """
    parts = urlsplit(url)
    if parts.query:
        raise ValueError(f"--url: expected no options, got ?{parts.query}: libpq takes them from PG... variables")
    name = f"resonate_bench_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
        try:
            with psycopg.connect(parts._replace(path=f"/{name}").geturl(), autocommit=True) as session:
                counted = _count_statements(session)
                yield Database(parts._replace(path=f"/{name}").geturl(), _settings(session), session, counted)
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _count_statements(session: psycopg.Connection[Any]) -> bool:
    try:
        session.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        session.execute("SELECT 1 FROM pg_stat_statements LIMIT 1")
    except psycopg.Error:
        return False
    return True


def _settings(session: psycopg.Connection[Any]) -> dict[str, str]:
    names = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "wal_sync_method", "shared_buffers")
    found = {name: session.execute(f"SHOW {name}").fetchone() for name in names}
    return {name: row[0] for name, row in found.items() if row is not None}
