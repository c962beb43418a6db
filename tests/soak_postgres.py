"""`python -m tests.soak_postgres --seconds 300 --seed 1`: everything over one PostgreSQL, and any of it may die.

Two servers and four workers (two on the database, two over the servers) run programs, while
every few seconds a worker or server is killed or stopped for longer than its lease, sessions are
terminated, or the database restarts. Ends with an AssertionError if a run that was acknowledged is
lost or has another result, a finished step runs again, a transaction happens twice, or anything
is left over. `postgres/test_soak.py` is a short one.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any, Final

import psycopg
from msgspec import Struct

import resonate
from resonate import Resonate
from resonate.errors import OutcomeUnknown, StorageUnavailable
from resonate.handle import Handle
from resonate.protocol.footprint import Footprint
from resonate.storage.postgres.location import parse
from resonate.storage.postgres.storage import PostgresStorage
from tests.postgres.cluster import Cluster
from tests.soak_worker import expected

REPOSITORY: Final = Path(__file__).parents[1]
SOURCE: Final = Path(resonate.__file__).parents[1]

TTL: Final = 2
"""Seconds of a lease."""

OPEN: Final = 24
"""Runs that are under way at the same time."""

PATIENCE: Final = 120.0
"""Seconds in which every run has to end once nothing is broken any more."""

SAME_TIME: Final = 0.1
"""Seconds by which the clock of a service may differ from the database's."""


class Report(Struct, frozen=True):
    """What happened in a soak."""

    runs: int
    events: dict[str, int]
    steps: int
    repeated: int
    """Steps that ran more than once before they had a result."""


class Process:
    """A server or worker that is started again whenever it dies.

    Args:
        command: of Python, such as `-m`, `tests.soak_worker`, ...
    """

    def __init__(self, *command: str) -> None:
        self._command = command
        self._process = self._start()

    def kill(self) -> None:
        """Kill it and start its successor."""
        self._process.kill()
        self._process.wait()
        self._process = self._start()

    def stop_for(self, seconds: float) -> None:
        """Let it do nothing for so long."""
        self._process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Kill it. Idempotent."""
        self._process.kill()
        self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", sys.executable, *self._command],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


class Soak:
    """One cluster with all that runs over it.

    Args:
        seed: chooses what happens when.
    """

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._cluster = Cluster()
        self._cluster.start()
        self._events: Counter[str] = Counter()
        self._over = threading.Event()
        """Nothing is to break any more."""
        with psycopg.connect(self._cluster.url, autocommit=True) as session:
            session.execute("CREATE TABLE notes (id text, at timestamptz)")
            session.execute("CREATE TABLE booked (run int)")
        url = self._cluster.url
        self._client = Resonate(url=url, group="client", ttl=TTL)
        self._client.start()
        ports = [_free_port() for _ in range(2)]
        self._servers = [Process(*_serve(url, port)) for port in ports]
        homes = [(url, "direct"), (url, "direct"), *((f"http://127.0.0.1:{port}", "served") for port in ports)]
        self._workers = [Process("-m", "tests.soak_worker", home, group, str(TTL), url) for home, group in homes]

    def run(self, seconds: float) -> Report:
        """Have runs under way for so long while things break; then all is to end as it should."""
        load = ThreadPoolExecutor(1).submit(self._load, time.monotonic() + seconds)
        # what is started ends with the thread that started it, so things break on this one
        while not load.done() and not self._over.wait(self._random.uniform(0.5, 3)):
            self._break_one()
        return self._judge(load.result())

    def close(self) -> None:
        """End and remove everything. Idempotent."""
        for process in (*self._workers, *self._servers):
            process.end()
        self._client.stop()
        self._cluster.remove()

    # ---- the load ------------------------------------------------------------------------------

    def _load(self, until: float) -> int:
        """Have runs under way until then, and wait for all; returns how many there were."""
        handles: deque[Handle[Any]] = deque()
        begun = 0
        try:
            while time.monotonic() < until:
                handles.append(self._begin(begun))
                begun += 1
                if len(handles) >= OPEN:
                    self._check(handles.popleft())
        finally:
            self._over.set()
        while handles:
            self._check(handles.popleft())
        return begun

    def _begin(self, run: int) -> Handle[Any]:
        """Begin a run; once this returns it may not be lost."""
        while True:
            try:
                return self._client.options(target="direct").begin_rpc(f"order-{run}", "order", run)
            except (StorageUnavailable, OutcomeUnknown):
                self._events["not acknowledged"] += 1  # beginning it again is safe

    def _check(self, handle: Handle[Any]) -> None:
        run = int(handle.id.partition("-")[2])
        found = handle.result(timeout=PATIENCE)
        assert found == expected(run), f"{handle.id} gave {found} instead of {expected(run)}"

    # ---- what breaks ---------------------------------------------------------------------------

    def _break_one(self) -> None:
        random = self._random
        events: dict[str, Callable[[], object]] = {
            "worker killed": lambda: random.choice(self._workers).kill(),
            "server killed": lambda: random.choice(self._servers).kill(),
            "worker stopped": lambda: random.choice(self._workers).stop_for(TTL * 1.5),
            "server stopped": lambda: random.choice(self._servers).stop_for(TTL * 1.5),
            "sessions terminated": self._terminate,
            "database restarted": lambda: self._cluster.restart("fast"),
            "database crashed": lambda: self._cluster.restart("immediate"),
        }
        weights = [5, 3, 2, 2, 6, 1, 1]
        (event,) = random.choices(list(events), weights)
        events[event]()
        self._events[event] += 1

    def _terminate(self) -> None:
        with psycopg.connect(self._cluster.url, autocommit=True) as session:
            rows = session.execute(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            ).fetchall()
            for (pid,) in self._random.sample(rows, min(len(rows), self._random.randint(1, 6))):
                session.execute("SELECT pg_terminate_backend(%s)", (pid,))

    # ---- the end -------------------------------------------------------------------------------

    def _judge(self, begun: int) -> Report:
        with psycopg.connect(self._cluster.url, autocommit=True) as session:
            booked = Counter(run for (run,) in session.execute("SELECT run FROM booked"))
            assert booked == Counter(range(begun)), f"booked wrongly: {_difference(booked, begun)}"
            notes = session.execute("SELECT id, extract(epoch FROM at)::float FROM notes").fetchall()
            self._settle_down(session)
        settled = self._settled()
        late = [(id, at - settled[id]) for id, at in notes if at > settled[id] + SAME_TIME]
        times = Counter(id for id, _ in notes)
        again = [(id, by) for id, by in late if times[id] > 1]
        assert not again, f"steps that ran again after they had a result, and by how many seconds: {again[:10]}"
        assert not late, f"steps that ran once, but after their result as the service's clock has it: {late[:10]}"
        return Report(begun, dict(self._events), len(times), sum(times.values()) - len(times))

    def _settle_down(self, session: psycopg.Connection[Any]) -> None:
        """Wait until nothing is under way; nothing may be left for ever."""
        until = time.monotonic() + PATIENCE
        left: dict[str, Any] = {"": ()}
        queries = {
            "tasks": "SELECT id, state FROM resonate.tasks WHERE state <> 'fulfilled'",
            "offers": "SELECT id FROM resonate.outbox WHERE kind = 'execute'",  # news for the dead goes with its tree
            "obligations": "SELECT * FROM resonate.obligations",
        }
        while left:
            assert time.monotonic() < until, f"left over: {left}"
            left = {name: found for name, query in queries.items() if (found := session.execute(query).fetchmany(10))}
            time.sleep(0.1)

    def _settled(self) -> dict[str, float]:
        """When each promise was settled, seconds since the epoch."""
        storage = PostgresStorage(parse(self._cluster.url))
        try:
            transaction = storage.begin(lambda: Footprint(set(), set(), set()))
            rows = [row.promise for row in transaction.promises(None)]
            transaction.rollback()
        finally:
            storage.close()
        pending = [promise.id for promise in rows if promise.settled_at is None]
        assert not pending, f"still pending: {pending[:10]}"
        return {promise.id: promise.settled_at / 1000 for promise in rows if promise.settled_at is not None}


def soak(seconds: float, seed: int) -> Report:
    """A whole soak.

    Raises:
        AssertionError: something was lost, repeated or left over; says what.
    """
    running = Soak(seed)
    try:
        return running.run(seconds)
    finally:
        running.close()


def _difference(booked: Counter[int], begun: int) -> dict[int, int]:
    return {run: booked[run] for run in {*booked, *range(begun)} if booked[run] != 1}


def _serve(url: str, port: int) -> list[str]:
    options = ["--server-port", str(port), "--observability-metrics-port", "0"]
    return ["-m", "resonate.cli", "serve", "--url", url, *options]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    report = soak(given.seconds, given.seed)
    happened = ", ".join(f"{event} {times}x" for event, times in sorted(report.events.items()))
    print(f"{report.runs} runs, {report.steps} steps, {report.repeated} unfinished steps repeated, nothing lost")
    print(happened)


if __name__ == "__main__":
    main()
