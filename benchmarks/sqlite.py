"""`python -m benchmarks.sqlite [--slower US] [DIRECTORY]`: what the SQLite storage adds to the disk's bare commits.

Commits of one disk differ by a third from minute to minute, so each round measures the bare
commit and ours one after the other, and the median of the rounds' ratios counts. What we add to
a commit is processor time, so the ratios depend on how long a commit takes: with `--slower` each
commit, bare or ours, takes so many microseconds more, as on slower disks.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from statistics import median
from typing import Any, Final

import resonate
from resonate import Resonate
from resonate.storage.sqlite.connection import Connection

ROUNDS: Final = 15
STEPS: Final = 150
"""Steps, and bare commits, in one round: about 30 ms each."""

RUNS: Final = 100
"""Executions at the same time."""

STEPS_EACH: Final = 20
CALLS: Final = 200
IDLE: Final = 10.0
"""Seconds for which an idle process is watched."""

WORKER: Final = """
import sys
from resonate import Resonate
client = Resonate(url=sys.argv[1], group="worker")
client.register(lambda ctx, a, b: a + b, name="add")
client.run(sys.argv[2], "add", 1, 2)
print("ready", flush=True)
sys.stdin.read()
client.stop()
"""

Row = tuple[str, str, str]


def step(ctx: Any, value: int) -> int:
    return value + 1


def steps(ctx: Any, count: int) -> Generator[Any, Any, int]:
    total = 0
    for _ in range(count):
        total = yield ctx.run(step, total)
    return total


class Bare:
    """Commits of single rows, as anybody would write them."""

    def __init__(self, path: str, slower: float) -> None:
        self._slower = slower
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = wal")
        self._database.execute("PRAGMA synchronous = full")
        self._database.execute("CREATE TABLE rows (id TEXT PRIMARY KEY, body BLOB)")
        self._count = 0

    def commits(self, count: int) -> None:
        execute = self._database.execute
        for _ in range(count):
            self._count += 1
            execute("BEGIN IMMEDIATE")
            execute("INSERT INTO rows VALUES (?, ?)", (f"row:{self._count}", bytes(200)))
            execute("COMMIT")
            if self._slower:
                time.sleep(self._slower)

    def close(self) -> None:
        self._database.close()


class Ours:
    """A client on a file of its own."""

    def __init__(self, url: str) -> None:
        self.client = Resonate(url=url)
        self.client.register(steps)
        self._runs = 0

    def id(self) -> str:
        self._runs += 1
        return f"run-{self._runs}"

    def sequential(self, count: int) -> None:
        self.client.run(self.id(), steps, count)

    def threads(self) -> None:
        """A thread for each run, which waits for it."""
        ids = [self.id() for _ in range(RUNS)]
        threads = [threading.Thread(target=self.client.run, args=(id, steps, STEPS_EACH)) for id in ids]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def begun(self) -> None:
        """All begun by one thread, driven by the client's own."""
        for handle in [self.client.begin_run(self.id(), steps, STEPS_EACH) for _ in range(RUNS)]:
            handle.result()


def rate(count: int, job: Callable[[], object]) -> float:
    begin = time.perf_counter()
    job()
    return count / (time.perf_counter() - begin)


def sequential(bare: Bare, ours: Ours) -> list[Row]:
    """Steps in a row against bare commits; both files have reached the size they stay at."""
    bare.commits(10 * STEPS)
    ours.sequential(10 * STEPS)
    pairs = [
        (rate(STEPS, lambda: bare.commits(STEPS)), rate(STEPS, lambda: ours.sequential(STEPS))) for _ in range(ROUNDS)
    ]
    ratio = median(mine / theirs for theirs, mine in pairs)
    commits, each = median(theirs for theirs, _ in pairs), median(mine for _, mine in pairs)
    added = median(1e6 / mine - 1e6 / theirs for theirs, mine in pairs)
    return [
        ("bare single-row commits", f"{commits:,.0f}/s ({1e6 / commits:.0f} µs)", ""),
        ("sequential durable steps", f"{each:,.0f}/s (commit + {added:.0f} µs)", ""),
        ("sequential steps / bare commits", f"{ratio:.2f}", ">= 0.80"),
    ]


def concurrent(ours: Ours) -> list[Row]:
    rows: list[Row] = []
    for name, job in (("a thread each", ours.threads), ("begun by one thread", ours.begun)):
        pairs = [
            (rate(STEPS, lambda: ours.sequential(STEPS)), rate(RUNS * STEPS_EACH, job)) for _ in range(ROUNDS // 3)
        ]
        ratio, each = median(many / one for one, many in pairs), median(many for _, many in pairs)
        rows.append((f"{RUNS} runs at once, {name}", f"{each:,.0f} steps/s = {ratio:.1f} × sequential", ">= 4 ×"))
    return rows


def one_step(ours: Ours) -> list[Row]:
    """How many commits a run of one step makes."""
    counted = 20
    service = ours.client._core._service
    assert service is not None
    connection, commits = service.storage._connection, 0  # type: ignore[attr-defined]
    commit = connection.commit

    def counting() -> None:
        nonlocal commits
        commits += 1
        commit()

    connection.commit = counting
    for _ in range(counted):
        ours.sequential(1)
    connection.commit = commit
    return [("commits of a one-step run", f"{commits / counted:g}", "2")]


def processes(url: str) -> list[Row]:
    """A call of another process and back, and what that process costs when nothing happens."""
    environment = {**os.environ, "PYTHONPATH": str(Path(resonate.__file__).parents[1])}
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, url, "worker-is-there"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None
    worker.stdout.readline()
    client = Resonate(url=url, group="caller")
    remote = client.options(target="worker")
    took: list[float] = []
    for number in range(CALLS):
        begin = time.perf_counter()
        remote.rpc(f"call-{number}", "add", number, 1)
        took.append(1e3 * (time.perf_counter() - begin))
    time.sleep(1)
    before = cpu_seconds(worker.pid)
    time.sleep(IDLE)
    idle = 100 * (cpu_seconds(worker.pid) - before) / IDLE
    worker.communicate()
    client.stop()
    return [
        ("call of another process, p50", f"{median(took):.1f} ms", "<= 5 ms"),
        ("call of another process, p99", f"{sorted(took)[int(0.99 * CALLS)]:.1f} ms", ""),
        ("an idle process", f"{idle:.2f} % of a core", "< 0.5 %"),
    ]


def cpu_seconds(pid: int) -> float:
    """What a process has used so far; Linux only."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def slow_down(seconds: float) -> None:
    """Have each commit of ours take `seconds` longer."""
    commit = Connection.commit

    def slower(self: Connection) -> None:
        commit(self)
        time.sleep(seconds)

    Connection.commit = slower  # type: ignore[method-assign]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slower", type=int, default=0, metavar="US", help="microseconds added to each commit")
    parser.add_argument("directory", nargs="?", help="where the files lie")
    given = parser.parse_args()
    if given.slower:
        slow_down(given.slower / 1e6)
    with tempfile.TemporaryDirectory(dir=given.directory) as place:
        bare, ours = Bare(f"{place}/bare.db", given.slower / 1e6), Ours(f"sqlite:///{place}/ours.db")
        rows = [*sequential(bare, ours), *one_step(ours), *concurrent(ours)]
        ours.client.stop()
        bare.close()
        rows += processes(f"sqlite:///{place}/shared.db")
    print("| what | measured | wanted |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
