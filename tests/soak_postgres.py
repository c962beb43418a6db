"""`python -m tests.soak_postgres --minutes 5 --seed 1`: everything around a PostgreSQL fails, again and again.

A cluster, two servers, two workers straight on the database and two over the servers, all of
them processes; callers that begin runs without a pause. Every few seconds, as the seed has it,
one of `Soak.NUISANCES` happens. In the end every run has its one right result, no step was
started by the owner of its execution after its result was stored, the rows of `ctx.transaction`
are there once, and nothing is left over. Ends with an AssertionError that names the seed else.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final, LiteralString, Self

import psycopg
from msgspec import Struct

from resonate import Resonate
from resonate.errors import ResonateStoreError
from resonate.protocol.records import PENDING
from resonate.storage import codec
from tests.postgres.cluster import Cluster, free_port
from tests.postgres.soak_worker import DIRECT, REMOTE, STEPS, TABLES, result_of_order, result_of_trip

TTL: Final = 3
"""Seconds of the leases."""

PAUSES: Final = (1.0, 4.0)
"""Seconds between two nuisances, at least and at most."""

CALLERS: Final = 6
"""Runs under way at the same time."""

PATIENCE: Final = 60.0
"""Seconds after the last nuisance in which everything has to end."""


SLOW: Final = 12.0
"""Seconds from which a run is shown, together with what happened when."""


class Figures(Struct):
    """What happened.

    Attributes:
        runs: how many were begun; all of them ended well.
        seconds: how long runs were begun.
        nuisances: how often each happened.
        refused: calls that were answered with an error and made again.
        steps: how many were started.
        repeated: steps that started again because their result was not stored.
        stale: steps started by a worker that had lost the execution while it stood still.
        median, longest: seconds that a run took.
    """

    runs: int
    seconds: float
    nuisances: dict[str, int]
    refused: int
    steps: int
    repeated: int
    stale: int
    median: float
    longest: float

    def __str__(self) -> str:
        happened = ", ".join(f"{count} x {name}" for name, count in sorted(self.nuisances.items()))
        return (
            f"{self.runs} runs in {self.seconds:.0f} s ({self.runs / self.seconds:.1f}/s; median {self.median:.2f} s, "
            f"longest {self.longest:.1f} s), {self.steps} steps, {self.repeated} unfinished ones repeated, "
            f"{self.stale} by workers that had lost them, {self.refused} calls made again; {happened}; nothing lost"
        )


class Process:
    """A process that is killed and stopped; what it says is in a file.

    Args:
        arguments: of Python.
        log: where its errors go.
    """

    def __init__(self, arguments: list[str], log: Path) -> None:
        self.arguments = arguments
        self._log = log
        self.start()

    def start(self) -> None:
        """Start it (again)."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.arguments],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdin=subprocess.PIPE,  # a worker ends with us
                stderr=log,
                cwd=self._log.parent,
            )

    def kill(self) -> None:
        """End it without a word. Idempotent."""
        self.process.kill()
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def stand_still(self, seconds: float) -> None:
        """Stop it for a while."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            self.process.send_signal(signal.SIGCONT)

    def check(self) -> None:
        """It must not have ended by itself."""
        code = self.process.poll()
        assert code is None, f"{self.arguments} ended with {code}:\n{self._log.read_text()[-3000:]}"


class Soak:
    """All of it.

    Args:
        seed: of what happens when and to whom.
        pauses: seconds between two nuisances, at least and at most.
    """

    def __init__(self, seed: int, pauses: tuple[float, float]) -> None:
        self.random = Random(seed)
        self._pauses = pauses
        self.nuisances: Counter[str] = Counter()
        self.refused = 0
        self.took: list[tuple[float, str, float]] = []
        self.times: list[str] = []
        self._began = time.monotonic()
        self.runs: list[str] = []
        self.wrong: list[str] = []
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._stack = contextlib.ExitStack()
        self._addresses = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
        self._processes: list[Process] = []
        self._made = 0
        self._dead: list[str] = []
        self.directory = Path(tempfile.mkdtemp(prefix="resonate-soak-"))

    def __enter__(self) -> Self:
        with self._stack as stack:
            self.cluster = Cluster()
            stack.callback(self.cluster.remove)
            self.cluster.start()
            with self.session() as session:
                session.execute(TABLES)
            self.url = f"{self.cluster.url}?application_name=resonate-soak"
            stack.callback(self._end)
            self.servers = [self._server(number) for number in range(2)]
            self.workers = [self._worker(number) for number in range(4)]
            self.clients = [
                stack.enter_context(Resonate(url=url, group=f"callers-{number}"))
                for number, url in enumerate((self.url, *self._addresses))
            ]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._over.set()
        self._stack.close()
        if kind is None:
            shutil.rmtree(self.directory, ignore_errors=True)

    def session(self) -> psycopg.Connection[Any]:
        """A session of the soak's own."""
        return psycopg.connect(self.cluster.url, autocommit=True, connect_timeout=10)

    def run(self, seconds: float) -> Figures:
        """Begin runs for so long while things happen, and see how it ends."""
        callers = [threading.Thread(target=self._call, args=(number,), daemon=True) for number in range(CALLERS)]
        to_come: list[str] = []
        self._began = began = time.monotonic()
        for caller in callers:
            caller.start()
        while (left := began + seconds - time.monotonic()) > 0:
            if self._over.wait(min(self.random.uniform(*self._pauses), left)):
                break
            if not to_come:  # each once before one comes again
                to_come = self.random.sample(list(self.NUISANCES), len(self.NUISANCES))
            name = to_come.pop()
            self.nuisances[name] += 1
            self.times.append(f"{time.monotonic() - began:.1f} {name}")
            self.NUISANCES[name](self)
            for process in (*self.servers, *self.workers):
                process.check()
        self._over.set()
        lasted = time.monotonic() - began
        until = time.monotonic() + PATIENCE
        for caller in callers:
            caller.join(max(0.0, until - time.monotonic()))
        assert not self.wrong, self.wrong
        assert not any(caller.is_alive() for caller in callers), "runs that were begun do not end"
        return self._judge(lasted, until)

    # ---- the load ----------------------------------------------------------------------------------

    def _call(self, number: int) -> None:
        count = 0
        while not self._over.is_set():
            run = number * 1_000_000 + count
            count += 1
            try:
                began = time.monotonic()
                self._one(self.clients[number % len(self.clients)], run)
                self.took.append((time.monotonic() - began, name_of(run), began - self._began))
            except BaseException as error:
                self.wrong.append(f"{name_of(run)}: {error!r}")
                self._over.set()

    def _one(self, client: Resonate, run: int) -> None:
        """Begin a run until that is acknowledged, and wait for its result."""
        id, (func, group, expected) = name_of(run), kind_of(run)
        caller = client.options(target=group)
        result = self._insist(lambda: caller.begin_rpc(id, func, run).result(PATIENCE))
        assert result == expected, f"{result} instead of {expected}"
        with self._lock:
            self.runs.append(id)

    def _insist(self, ask: Callable[[], Any]) -> Any:
        until = time.monotonic() + 2 * PATIENCE
        while True:
            try:
                return ask()
            except ResonateStoreError:
                with self._lock:
                    self.refused += 1
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)

    # ---- what happens ------------------------------------------------------------------------------

    def _kill_worker(self) -> None:
        number = self.random.randrange(len(self.workers))
        self.workers[number].kill()
        if self.random.random() < 0.5:  # a new life of the same process, or another process
            self.workers[number].start()
        else:
            *_, group, pid, _, _ = self.workers[number].arguments
            self._dead.append(f"{group}/{pid}")
            self.workers[number] = self._worker(number)

    def _kill_server(self) -> None:
        server = self.random.choice(self.servers)
        server.kill()
        time.sleep(self.random.choice((0.0, 1.0)))
        server.start()

    def _worker_stands_still(self) -> None:
        self.random.choice(self.workers).stand_still(TTL + 1)

    def _server_stands_still(self) -> None:
        self.random.choice(self.servers).stand_still(TTL + 1)

    def _end_sessions(self) -> None:
        with self.session() as session:
            found = session.execute(
                "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            ).fetchall()
            for (pid,) in self.random.sample(found, min(len(found), self.random.randint(1, 6))):
                session.execute("SELECT pg_terminate_backend(%s)", (pid,))

    def _restart(self) -> None:
        self.cluster.restart("fast")

    def _crash(self) -> None:
        self.cluster.restart("immediate")

    NUISANCES: Final[dict[str, Callable[[Soak], None]]] = {
        "worker killed": _kill_worker,
        "server killed": _kill_server,
        "worker stopped": _worker_stands_still,
        "server stopped": _server_stands_still,
        "sessions ended": _end_sessions,
        "database restarted": _restart,
        "database crashed": _crash,
    }

    # ---- the end -----------------------------------------------------------------------------------

    def _judge(self, lasted: float, until: float) -> Figures:
        assert len(set(self.runs)) == len(self.runs)
        with Resonate(url=self.url, group="judge") as judge:
            for id in self.runs:
                expected = kind_of(int(id.partition("-")[2]))[2]
                assert judge.get(id).result(PATIENCE) == expected, f"{id} has two results"
        with self.session() as session:
            self._nothing_left(session, until)
            self._rows_once(session)
            steps, repeated, stale = self._judge_steps(session)
        took = sorted(self.took)
        if took[-1][0] > SLOW:
            slow = [f"{id} begun at {began:.1f} took {seconds:.1f} s" for seconds, id, began in took if seconds > SLOW]
            print(f"slow: {slow}; {self.times}")
        return Figures(
            len(self.runs),
            lasted,
            dict(self.nuisances),
            self.refused,
            steps,
            repeated,
            stale,
            took[len(took) // 2][0],
            took[-1][0],
        )

    def _nothing_left(self, session: psycopg.Connection[Any], until: float) -> None:
        """No execution that is not over, no message, no awaiter that is still to be resumed, no pending promise."""
        left: dict[str, list[Any]] = {}
        while time.monotonic() < until:
            left = {table: session.execute(query, {"dead": self._dead}).fetchall() for table, query in LEFT.items()}
            if not any(left.values()):
                return
            time.sleep(0.1)
        raise AssertionError(f"left over: {left}; not there any more: {self._dead}")

    def _rows_once(self, session: psycopg.Connection[Any]) -> None:
        orders = [int(id.partition("-")[2]) for id in self.runs if id.startswith("order")]
        rows = session.execute("SELECT run, number FROM soak.rows").fetchall()
        assert sorted(rows) == sorted((run, number) for run in orders for number in range(STEPS)), "rows differ"

    def _judge_steps(self, session: psycopg.Connection[Any]) -> tuple[int, int, int]:
        """How many steps there were, how many repeated, and how many by a worker that had lost them."""
        started, stale, finished = Counter[tuple[str, int]](), 0, []
        query = "SELECT id, attempt, pid, held, state, task_state, task FROM soak.started"
        for id, attempt, pid, held, state, task_state, task in session.execute(query):
            version = codec.decode_task(id, task_state, bytes(task)).version
            if held < version:
                stale += 1
            elif state not in (None, PENDING):
                finished.append(f"{id} by {pid}, version {held}, {state}")
            started[id, attempt] += 1
        assert not finished, f"steps started although their results were stored: {finished}"
        return len(started), started.total() - len(started), stale

    # ---- processes ---------------------------------------------------------------------------------

    def _end(self) -> None:
        for process in self._processes:
            process.kill()

    def _server(self, number: int) -> Process:
        port = self._addresses[number].rpartition(":")[2]
        arguments = ["--url", self.url, "--server-port", port, "--observability-metrics-port", "0"]
        process = Process(["-m", "resonate.cli", "serve", *arguments], self.directory / f"server-{number}")
        self._processes.append(process)
        return process

    def _worker(self, number: int) -> Process:
        """Two are straight on the database and two over a server each."""
        self._made += 1
        url, group = (self.url, DIRECT) if number < 2 else (self._addresses[number - 2], REMOTE)
        pid = f"worker-{number}-{self._made}"
        arguments = [url, group, pid, self.cluster.url, str(TTL)]
        process = Process(["-m", "tests.postgres.soak_worker", *arguments], self.directory / f"worker-{number}")
        self._processes.append(process)
        return process


LEFT: Final[dict[str, LiteralString]] = {
    "tasks": "SELECT id, state FROM resonate.tasks WHERE state <> 'fulfilled' LIMIT 10",
    "promises": "SELECT id, state FROM resonate.promises WHERE state = 'pending' LIMIT 10",
    # news for a process that is no more waits for its next life, which does not come here
    "outbox": "SELECT kind, id, channel FROM resonate.outbox WHERE NOT channel = ANY(%(dead)s) LIMIT 10",
    "obligations": "SELECT awaited, awaiter FROM resonate.obligations LIMIT 10",
}
"""What has to be empty in the end."""


def kind_of(run: int) -> tuple[str, str, list[Any]]:
    """The function of a run, its group and its result."""
    return ("trip", REMOTE, result_of_trip(run)) if run % 3 == 0 else ("order", DIRECT, result_of_order(run))


def name_of(run: int) -> str:
    """The id of a run."""
    return f"{kind_of(run)[0]}-{run}"


def soak(seconds: float, seed: int, pauses: tuple[float, float] = PAUSES) -> Figures:
    """One soak of so many seconds.

    Raises:
        AssertionError: something was lost, repeated or left over; names the seed and where the logs are.
    """
    made = Soak(seed, pauses)
    try:
        with made:
            return made.run(seconds)
    except AssertionError as error:
        raise AssertionError(f"seed {seed}, after {dict(made.nuisances)}, logs in {made.directory}: {error}") from error


def main() -> None:
    """Read the arguments, soak, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(f"seed {given.seed}: {soak(given.minutes * 60, given.seed)}")


if __name__ == "__main__":
    main()
