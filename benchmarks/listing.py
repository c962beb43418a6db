"""What it takes to look for executions among a million: `python -m benchmarks.listing [--url URL] [--count N]`.

Fills an empty file (or schema, or memory) row by row, as a storage writes them, and asks what the
dashboard asks: pages by each filter and by several, from the newest on and from the middle, counts, failures, groups.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from resonate.clock import SystemClock
from resonate.inspection import Inspector
from resonate.protocol.ids import origin_of
from resonate.protocol.listing import entry
from resonate.protocol.records import Promise, Value
from resonate.protocol.rows import PromiseRow, TaskRow
from resonate.protocol.trees import over_at
from resonate.service.service import Service
from resonate.storage import codec
from resonate.storage.memory import MemoryStorage
from resonate.values.payload import pack

ROUNDS: Final = 30
FAR: Final = 10**14
START: Final = 1_700_000_000_000
PHASES: Final = (
    ["resolved"] * 900
    + ["rejected"] * 50
    + ["suspended"] * 30
    + ["pending"] * 10
    + ["acquired"] * 5
    + ["rejected_canceled"] * 3
    + ["rejected_timedout"] * 2
)
FAILURE: Final = pack(
    b'{"name":"LookupError","message":"no luck","stack":"Traceback (most recent call last):\\n'
    b'  File \\"shop.py\\", line 12, in charge\\n"}'
)

Rows = Iterator[tuple[PromiseRow, TaskRow]]


def made(count: int) -> Rows:
    """Executions, the oldest first: 50 functions, 8 groups, 10,000 customers, most of them over; ten are halted."""
    pick = random.Random(7)
    for number in range(count):
        id = f"{'eu' if number % 100 else 'us'}-{number:08}"
        at = START + number * 20
        phase = "halted" if number % (count // 10 or 1) == 1 else pick.choice(PHASES)
        group = f"g{number % 8}"
        function = f"f{min(int(pick.expovariate(0.2)), 49)}"
        tags = {
            "resonate:target": f"poll://any@{group}",
            "resonate:origin": id,
            "resonate:branch": id,
            "resonate:parent": id,
            "resonate:scope": "global",
            "resonate:py:call": f"root|1|0123456789abcdef|{function}|-",
            "customer": f"c{number % 10_000}",
            "tier": "gold" if number % 10 == 0 else "plain",
        }
        settled = phase in ("resolved", "rejected", "rejected_canceled", "rejected_timedout")
        state: Any = phase if settled else "pending"
        value = Value(data=FAILURE) if phase == "rejected" else Value(data="MQ==")
        param = Value(data=pack(f'{{"func":"{function}","args":[{number}]}}'.encode()))
        promise = Promise(id, state, param, value if settled else Value(), tags, FAR, at, at + 50 if settled else None)
        task_state: Any = "fulfilled" if settled else phase
        held = phase == "acquired"
        task = TaskRow(
            id,
            task_state,
            1,
            tags["resonate:target"],
            f"pid-{number % 16}" if held else None,
            10_000 if held else None,
            FAR if held else None,
            FAR if phase == "pending" else None,
            since=None if settled else at,
        )
        yield PromiseRow(promise), task


def columns(row: PromiseRow, task: TaskRow) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The rows of the tables that hold an execution, without their origins."""
    promise = row.promise
    due = promise.timeout_at if promise.state == "pending" else None
    branch = promise.tags["resonate:branch"]
    body = codec.encode_promise(row)
    yield "promises", (promise.id, promise.state, due, branch, over_at(promise), None, body)
    task_due = task.expires_at or task.retry_at
    group = codec.group_of_task(task)
    yield "tasks", (task.id, task.state, task_due, task.pid, group, task.since, codec.encode_task(task))
    found = entry(promise, task)
    assert found is not None
    yield "executions", (found.id, found.begun, found.phase, found.function, found.group, found.fault)
    for name, value in found.labels:
        yield "labels", (found.id, name, value, found.begun)


COLUMNS: Final = {
    "promises": ("id", "state", "due", "branch", "over", "stray_of", "body"),
    "tasks": ("id", "state", "due", "pid", "grp", "since", "body"),
    "executions": ("id", "begun", "state", "function", "grp", "fault"),
    "labels": ("id", "name", "value", "begun"),
}


def fill_file(path: str, rows: Rows) -> Any:
    from resonate.storage.sqlite.location import parse
    from resonate.storage.sqlite.storage import SqliteStorage

    storage = SqliteStorage(parse(f"sqlite:///{path}?synchronous=off"))
    database = storage._connection.database
    database.execute("BEGIN IMMEDIATE")
    for table, chunk in chunks(rows):
        names = ", ".join(COLUMNS[table])
        marks = ", ".join("?" * len(chunk[0]))
        database.executemany(f"INSERT INTO resonate_{table} ({names}) VALUES ({marks})", chunk)
    database.execute("COMMIT")
    storage.close()
    return SqliteStorage(parse(f"sqlite:///{path}"))


def fill_database(url: str, rows: Rows) -> Any:
    import psycopg

    from resonate.storage.postgres.location import parse
    from resonate.storage.postgres.storage import PostgresStorage

    name = f"listing_{os.getpid()}"
    location = parse(f"{url}?schema={name}")
    storage = PostgresStorage(location)
    with psycopg.connect(url, autocommit=True) as session:
        for table, chunk in chunks(rows):
            columns = ", ".join(("origin", *COLUMNS[table]))
            with session.cursor() as cursor, cursor.copy(f"COPY {name}.{table} ({columns}) FROM STDIN") as copy:
                for row in chunk:
                    copy.write_row((origin_of(row[0]), *row))
        session.execute(f"VACUUM ANALYZE {name}.executions, {name}.labels, {name}.tasks, {name}.promises")
    return storage


def chunks(rows: Rows) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    waiting: dict[str, list[tuple[Any, ...]]] = {"promises": [], "tasks": [], "executions": [], "labels": []}
    for number, (row, task) in enumerate(rows, 1):
        for table, values in columns(row, task):
            waiting[table].append(values)
        if number % 50_000 == 0:
            yield from ((table, chunk) for table, chunk in waiting.items() if chunk)
            waiting = {table: [] for table in waiting}
    yield from ((table, chunk) for table, chunk in waiting.items() if chunk)


def fill_memory(rows: Rows) -> Any:
    storage = MemoryStorage()
    for row, task in rows:
        storage._promises[row.promise.id] = row
        storage._tasks[task.id] = task
    return storage


def questions(ask: Inspector, count: int) -> dict[str, Callable[[], Any]]:
    middle = f"n.{START + count * 10}.eu-{count // 2:08}"
    since = START + count * 18
    pages: dict[str, dict[str, Any]] = {
        "all": {},
        "state=succeeded": {"state": "succeeded"},
        "state=failed": {"state": "failed"},
        "state=waiting": {"state": "waiting"},
        "state=running": {"state": "running"},
        "state=halted": {"state": "halted"},
        "function, common": {"function": "f0"},
        "function, rare": {"function": "f40"},
        "group": {"group": "g3"},
        "tag, common": {"tags": {"tier": "gold"}},
        "tag, rare": {"tags": {"customer": "c77"}},
        "prefix, common": {"prefix": "eu-"},
        "prefix, narrow": {"prefix": f"eu-{count // 3:08}"[:8]},
        "last tenth in time": {"since": since},
        "first half in time": {"until": START + count * 10},
        "state + function": {"state": "failed", "function": "f3"},
        "state + group": {"state": "halted", "group": "g1"},
        "function + group": {"function": "f9", "group": "g2"},
        "state + tag, common": {"state": "running", "tags": {"tier": "gold"}},
        "state + function + group + tag": {
            "state": "failed",
            "function": "f1",
            "group": "g0",
            "tags": {"tier": "gold"},
        },
        "prefix + state": {"prefix": "us-", "state": "failed"},
        "nothing fits": {"function": "f5", "group": "g1", "tags": {"tier": "gold"}},
    }
    found: dict[str, Callable[[], Any]] = {}
    for name, wanted in pages.items():
        found[name] = lambda wanted=wanted: ask.executions(**wanted)  # type: ignore[misc]
        found[f"{name}, from the middle"] = lambda wanted=wanted: ask.executions(**wanted, cursor=middle)  # type: ignore[misc]
    return found | {
        "counts": ask.counts,
        "counts of a function": lambda: ask.counts(function="f3"),
        "counts of a tag": lambda: ask.counts(tags={"customer": "c77"}),
        "counts by function": lambda: ask.counts_by("function"),
        "counts by group": lambda: ask.counts_by("group"),
        "failures": ask.failures,
        "groups": ask.groups,
        "tree of one": lambda: ask.tree(f"eu-{count // 2 + 1:08}"),
    }


def measured(work: Callable[[], Any]) -> tuple[float, float, float, float]:
    """Milliseconds: the first time, and of the others the shortest, the median and the longest."""
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        work()
        times.append((time.perf_counter() - begun) * 1000)
    return times[0], min(times[1:]), statistics.median(times[1:]), max(times[1:])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--url", default="sqlite", help="sqlite, memory, or postgresql://user@host/database")
    options.add_argument("--count", type=int, default=1_000_000)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        begun = time.perf_counter()
        rows = made(given.count)
        if given.url == "memory":
            storage = fill_memory(rows)
        elif given.url == "sqlite":
            storage = fill_file(f"{directory}/app.db", rows)
        else:
            storage = fill_database(given.url, rows)
        print(f"{given.count:,} executions, filled in {time.perf_counter() - begun:.0f} s")
        service = Service(storage, SystemClock())
        ask = Inspector(service.handle, service.now)
        try:
            print("| what | first, ms | best, ms | p50, ms | max, ms |\n|---|---|---|---|---|")
            for name, work in questions(ask, given.count).items():
                first, best, middle, longest = measured(work)
                print(f"| {name} | {first:.1f} | {best:.1f} | {middle:.1f} | {longest:.1f} |", flush=True)
        finally:
            if given.url not in ("memory", "sqlite"):
                storage._aside(f"DROP SCHEMA {storage._location.schema} CASCADE")
            storage.close()


if __name__ == "__main__":
    main()
