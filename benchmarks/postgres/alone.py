"""What is measured of ours alone: against bare commits, by the number of steps, per step and run, and when idle."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Final

import psycopg

import resonate
from benchmarks.postgres.database import Database, Looked, processor_seconds
from resonate import Context, Resonate

SOURCE: Final = str(Path(resonate.__file__).parents[1])
ROOT: Final = str(Path(__file__).parents[2])
PAIRS: Final = 15
"""Bare commits and our steps are measured in so many pairs, one right after the other."""

STEPS: Final = 300
"""Steps, and bare commits, of one half of a pair."""

WINDOW: Final = 1_000
"""Steps whose duration is one sample of how the cost grows."""


def step(ctx: Context, value: int) -> int:
    return value + 1


def chain(ctx: Context, count: int) -> Generator[Any, Any, int]:
    total = 0
    for _ in range(count):
        total = yield ctx.run(step, total)
    return total


@contextmanager
def client(database: Database, group: str = "default") -> Iterator[Resonate]:
    """A client that is stopped at the end, so that its sessions have reported what they did."""
    made = Resonate(url=database.ours, group=group)
    made.register(chain)
    try:
        yield made
    finally:
        made.stop()


def rate(count: int, job: Callable[[], object]) -> float:
    """So many a second."""
    begin = time.perf_counter()
    job()
    return count / (time.perf_counter() - begin)


# ---- against the bare database -------------------------------------------------------------------


class Bare:
    """Commits of single rows, as anybody would write them with psycopg: one round trip each."""

    def __init__(self, url: str) -> None:
        self._session = psycopg.connect(url, autocommit=True)
        self._session.execute("DROP TABLE IF EXISTS bare")
        self._session.execute('CREATE TABLE bare (id text COLLATE "C" PRIMARY KEY, body bytea)')
        self._count = 0

    def commits(self, count: int) -> None:
        execute = self._session.execute
        for _ in range(count):
            self._count += 1
            execute("INSERT INTO bare VALUES (%s, %s)", (f"row:{self._count}", bytes(200)))

    def close(self) -> None:
        self._session.close()


def against_bare(database: Database, name: str, pairs: int = PAIRS) -> dict[str, float]:
    """Steps in a row against bare commits of the same server, in pairs."""
    bare = Bare(database.url)
    with client(database) as ours:
        bare.commits(STEPS)
        ours.run(f"{name}-warm", chain, STEPS)
        both = [
            (
                rate(STEPS, lambda: bare.commits(STEPS)),
                rate(STEPS, lambda n=number: ours.run(f"{name}-{n}", chain, STEPS)),  # type: ignore[misc]
            )
            for number in range(pairs)
        ]
    bare.close()
    return {
        "commits_per_s": median(theirs for theirs, _ in both),
        "steps_per_s": median(mine for _, mine in both),
        "ratio": median(mine / theirs for theirs, mine in both),
        "added_us": median(1e6 / mine - 1e6 / theirs for theirs, mine in both),
    }


# ---- by the number of steps ----------------------------------------------------------------------


def growth(database: Database, steps: int) -> dict[str, float]:
    """One function of `steps` steps: what a step costs, and how much more in its last tenth than in its first.

    Bare commits in between, of which the disk makes now more and now fewer, are what the tenths are measured by.
    """
    marks: list[tuple[float, float]] = []
    bare = Bare(database.url)

    def timed(ctx: Context, count: int) -> Generator[Any, Any, int]:
        total = 0
        for number in range(count):
            if number % WINDOW == 0:
                end = time.perf_counter()
                bare.commits(WINDOW // 10)
                marks.append((end, time.perf_counter()))
            total = yield ctx.run(step, total)
        marks.append((time.perf_counter(), 0.0))
        return total

    with client(database) as ours:
        ours.register(timed)
        ours.run(f"growth-{steps}", timed, steps)
    bare.close()
    each = [(after[0] - before[1]) / WINDOW * 1e6 for before, after in pairwise(marks)]
    against = [
        step_us / ((begun - ended) / (WINDOW // 10) * 1e6)
        for step_us, (ended, begun) in zip(each, marks[:-1], strict=True)
    ]
    tenth = max(1, len(each) // 10)
    return {
        "us_per_step": sum(each) / len(each),
        "last_over_first": median(against[-tenth:]) / median(against[:tenth]),
    }


# ---- per step and per run ------------------------------------------------------------------------


def costs(database: Database, steps: int, runs: int, calls: int) -> dict[str, dict[str, float]]:
    """What the server does for one step, one run of one step, and one such run that another process does."""

    def in_a_row() -> None:
        with client(database) as ours:
            ours.run(f"cost-of-{steps}-steps", chain, steps)

    def one_by_one() -> None:
        with client(database) as ours:
            for number in range(runs):
                ours.run(f"cost-{number}", chain, 1)

    def at_once() -> None:
        with client(database) as ours, ThreadPoolExecutor(100) as threads:
            list(threads.map(lambda number: ours.run(f"crowd-{number}", chain, 1), range(runs)))

    def by_another() -> None:
        with worker(database, "cost"), client(database, "asks") as ours:
            remote = ours.options(target="cost")
            for number in range(calls):
                remote.rpc(f"call-{number}", "one", number)

    with client(database) as ours:
        ours.run("cost-warm", chain, 10)
    return {
        "a step in a row of them": _each(database, in_a_row, steps),
        "a run of one step": _each(database, one_by_one, runs),
        "a run of one step, 100 at a time": _each(database, at_once, runs),
        "a call of another process": _each(database, by_another, calls),
    }


def _each(database: Database, job: Callable[[], None], count: int) -> dict[str, float]:
    before = _settled(database)
    job()
    added = _settled(database).since(before)
    return {name: value / count for name, value in added.__dict__.items() if value is not None}


def _settled(database: Database) -> Looked:
    """The counters once all clients are gone: a session reports for the last time when it ends."""
    limit = time.monotonic() + 30
    while database.ask(
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' "
        "AND pid <> pg_backend_pid() AND state IS NOT NULL AND application_name = 'resonate'"
    ):
        if time.monotonic() > limit:
            raise RuntimeError("sessions of a client that was stopped are still there")
        time.sleep(0.05)
    return database.look()


# ---- a worker, and one that has nothing to do ----------------------------------------------------


@contextmanager
def worker(database: Database, group: str) -> Iterator[subprocess.Popen[str]]:
    """One started worker process in a group."""
    with tempfile.TemporaryDirectory() as directory:
        process = spawn(database, group, Path(directory) / "counter", 0)
        start([process])
        try:
            yield process
        finally:
            process.communicate()


def spawn(database: Database, group: str, counter: Path, slot: int) -> subprocess.Popen[str]:
    """A worker process that waits to be started."""
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.postgres.worker", database.ours, group, str(counter), str(slot)],
        env={**os.environ, "PYTHONPATH": f"{SOURCE}{os.pathsep}{ROOT}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def start(processes: list[subprocess.Popen[str]]) -> None:
    """Start workers that have been spawned, all at once."""
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()


def idle(database: Database, seconds: float) -> dict[str, float]:
    """What a started worker costs that has nothing to do."""
    with worker(database, "idle") as process:
        time.sleep(2)  # whatever follows a start is over
        own, all_of_it = processor_seconds(process.pid), sum(database.processor().values())
        statements = database.statements()
        time.sleep(seconds)
        used = (processor_seconds(process.pid) or 0.0) - (own or 0.0)
        of_server = sum(database.processor().values()) - all_of_it
        found = {"percent": 100 * used / seconds, "server_percent": 100 * of_server / seconds}
        if statements is not None:
            found["statements_per_s"] = ((database.statements() or 0.0) - statements) / seconds
        ((sessions,),) = database.ask(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'resonate'"
        )
        found["sessions"] = float(sessions)
    return found
