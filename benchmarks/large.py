"""`python -m benchmarks.large [--url postgresql://...]`: what a store that holds millions of promises costs.

Two stores of the same kind: one is empty, the other is filled with finished executions and pending
timers, by multiplying rows that a real run has left. Then both do the same point operations, in
turns, so that whatever else the machine does befalls both. Prints how fast the full one is in terms
of the empty one, and how long it takes to open it. Commits do not wait for the disk, which would
hide what the store itself costs.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from typing import Any, Final

from resonate import Context, Resonate
from resonate.clock import SystemClock
from resonate.protocol.requests import PromiseCreate, PromiseGet, PromiseSettle
from resonate.service.service import Service
from resonate.storage.postgres import location as postgres
from resonate.storage.sqlite import location as sqlite

FAR: Final = 10**14
"""A deadline that nobody lives to see."""

ROUNDS: Final = 40
"""Turns of each store."""

COUNT: Final = 100
"""Point operations of each kind in a turn."""

NAMED: Final = ("origin", "id", "branch", "stray_of")
"""Columns that hold an id, or begin with one."""

TEMPLATES: Final = {"template": "fill", "timer": "wait"}
"""The roots that are multiplied, and what their copies begin with."""

Run = Callable[[str], list[tuple[Any, ...]]]


def step(ctx: Context, number: int) -> int:
    """The one step of an execution."""
    return number


def template(ctx: Context) -> Any:
    """An execution of one step, which is two promises."""
    return (yield ctx.run(step, 1))


def prepare(url: str) -> None:
    """Leave one finished execution and one pending timer in a store."""
    with Resonate(url=url) as client:
        client.register(template)
        client.run("template", template)
        client.promises.create("timer", FAR, tags={"resonate:timer": "true"})


def multiply(run: Run, tables: dict[str, list[str]], numbers: Callable[[int], str], counts: dict[str, int]) -> None:
    """Copy the rows of each template.

    Args:
        run: carries out a statement.
        tables: their columns.
        numbers: the statement's source of the numbers from 1 on, as `n(i)`.
        counts: of copies, by template.
    """
    for table, columns in tables.items():
        key = "id" if "id" in columns else "origin"
        for name, count in counts.items():
            copy = f"'{TEMPLATES[name]}-' || substr('0000000' || n.i, -8)"
            if numbers(1).startswith("generate_series"):
                copy = f"'{TEMPLATES[name]}-' || lpad(n.i::text, 8, '0')"
            values = [f"replace({column}, '{name}', {copy})" if column in NAMED else column for column in columns]
            run(
                f"WITH x AS MATERIALIZED (SELECT * FROM {table} WHERE {key} = '{name}' OR {key} LIKE '{name}:%') "
                f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)} FROM {numbers(count)}, x"
            )


def fill_postgres(url: str, counts: dict[str, int]) -> None:
    """Fill a schema of PostgreSQL."""
    import psycopg

    found = postgres.parse(url)
    with psycopg.connect(found.conninfo, autocommit=True) as session:
        rows = session.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = %s "
            "AND table_name NOT IN ('outbox', 'obligations', 'schema_version', 'schedules')",
            (found.schema,),
        ).fetchall()
        tables: dict[str, list[str]] = {}
        for table, column in rows:
            tables.setdefault(f"{found.schema}.{table}", []).append(column)
        session.execute("SET synchronous_commit = off")

        def run(statement: str) -> list[tuple[Any, ...]]:
            session.execute(statement.encode())
            return []

        multiply(run, tables, lambda count: f"generate_series(1, {count}) AS n(i)", counts)
        for table in tables:
            session.execute(f"VACUUM ANALYZE {table}".encode())


def fill_sqlite(url: str, counts: dict[str, int]) -> None:
    """Fill a file of SQLite."""
    with sqlite3.connect(sqlite.parse(url).path) as file:
        for pragma in ("synchronous = off", "cache_size = -1000000", "temp_store = memory"):
            file.execute(f"PRAGMA {pragma}")
        tables = {
            name: [row[1] for row in file.execute(f"PRAGMA table_info({name})")]
            for (name,) in file.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'resonate!_%' ESCAPE '!'"
            )
            if name.rpartition("_")[2] not in ("outbox", "schedules", "version")
        }
        tables = {name: columns for name, columns in tables.items() if "id" in columns}
        multiply(
            lambda statement: file.execute(statement).fetchall(),
            tables,
            lambda count: (
                f"(WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < {count}) SELECT i FROM c) n"
            ),
            counts,
        )
    file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file.execute("ANALYZE")
    file.close()


class Store:
    """A store that is asked."""

    def __init__(self, url: str) -> None:
        began = time.perf_counter()
        if url.startswith("sqlite"):
            from resonate.storage.sqlite.storage import SqliteStorage

            self.storage: Any = SqliteStorage(sqlite.parse(url))
            self.service = Service(self.storage, SystemClock())
        else:
            from resonate.storage.postgres.storage import PostgresStorage

            self.storage = PostgresStorage(postgres.parse(url))
            self.service = Service(self.storage, self.storage.clock)
        self.service.start()
        self.service.handle([PromiseGet("nobody")])
        self.opened = time.perf_counter() - began
        self._turn = 0

    def turn(self, old: int) -> dict[str, float]:
        """Seconds that an operation of each kind takes; reads of old promises are of any of `old`, or always of one."""
        self._turn += 1
        ids = [f"ask-{self._turn}-{number}" for number in range(COUNT)]
        some = (
            [f"fill-{number:08}" for number in random.choices(range(1, old + 1), k=COUNT)]
            if old
            else ["template"] * COUNT
        )
        took: dict[str, float] = {}
        for kind, names, request in (
            ("create", ids, lambda id: PromiseCreate(id, FAR)),
            ("read", ids, PromiseGet),
            ("settle", ids, lambda id: PromiseSettle(id, "resolved")),
            ("read old", some, PromiseGet),
        ):
            began = time.perf_counter()
            for id in names:
                self.service.handle([request(id)])
            took[kind] = (time.perf_counter() - began) / len(names)
        return took

    def close(self) -> None:
        """Stop it."""
        self.service.stop()
        self.storage.close()


def compare(empty: str, full: str, counts: dict[str, int], fill: Callable[[str, dict[str, int]], None]) -> None:
    """Fill one of two stores, ask both in turns, print the best turns: what disturbs a turn makes it slower only."""
    for url in (empty, full):
        prepare(url)
    began = time.perf_counter()
    fill(full, counts)
    print(f"filled in {time.perf_counter() - began:.0f} s: {2 * counts['template']:,} promises of finished executions,")
    print(f"  {counts['timer']:,} pending timers")
    stores = Store(empty), Store(full)
    print(f"opened in {stores[0].opened * 1000:.0f} ms empty, {stores[1].opened * 1000:.0f} ms full")
    stores[0].turn(0)
    stores[1].turn(counts["template"])
    turns = [(stores[0].turn(0), stores[1].turn(counts["template"])) for _ in range(ROUNDS)]
    for kind in turns[0][0]:
        first, second = (min(turn[side][kind] for turn in turns) * 1e6 for side in (0, 1))
        print(f"{kind:>8}: {first:5.0f} us empty, {second:5.0f} us full: {first / second:.0%} of the speed")
    for store in stores:
        store.close()


def main() -> None:
    """Read the arguments, fill, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a PostgreSQL database to make two schemas in; without it two files of SQLite")
    parser.add_argument("--promises", type=int, default=10_000_000)
    parser.add_argument("--timers", type=int, default=1_000_000)
    parser.add_argument("--directory", help="where the files of SQLite go")
    given = parser.parse_args()
    counts = {"template": given.promises // 2, "timer": given.timers}
    if given.url is None:
        directory = tempfile.mkdtemp(prefix="resonate-large-", dir=given.directory)
        try:
            empty, full = (f"sqlite:///{directory}/{name}.db?synchronous=off" for name in ("empty", "full"))
            compare(empty, full, counts, fill_sqlite)
        finally:
            shutil.rmtree(directory)
        return
    import psycopg

    mark = "&" if "?" in given.url else "?"
    names = [f"large_{os.getpid()}_{kind}" for kind in ("empty", "full")]
    empty, full = (f"{given.url}{mark}schema={name}&options=-csynchronous_commit%3Doff" for name in names)
    try:
        compare(empty, full, counts, fill_postgres)
    finally:
        with psycopg.connect(given.url, autocommit=True) as session:
            for name in names:
                session.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE".encode())


if __name__ == "__main__":
    main()
