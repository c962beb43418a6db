"""One worker process and several: calls that wait in the database are worked off."""

from __future__ import annotations

import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.postgres.alone import client, spawn, start
from benchmarks.postgres.database import Database, spent
from benchmarks.postgres.worker import Steps

CALLERS: Final = 50
"""Threads that make the calls, which wait until the workers start."""

LIMIT_S: Final = 300


def drain(database: Database, name: str, workers: int, calls: int) -> dict[str, float]:
    """So many calls of one step each wait; so many workers are started: how long until all are done, and at what cost.

    Raises:
        RuntimeError: they were not done within `LIMIT_S`.
    """
    with tempfile.TemporaryDirectory() as directory, client(database, "asks") as caller:
        remote = caller.options(target=name)
        with ThreadPoolExecutor(CALLERS) as threads:
            handles = list(threads.map(lambda n: remote.begin_rpc(f"{name}-{n}", "one", n), range(calls)))
        steps = Steps(Path(directory) / "counter", workers)
        processes = [spawn(database, name, Path(directory) / "counter", slot) for slot in range(workers)]
        start(processes)
        before, begin = database.processor(), time.perf_counter()
        while steps.all() < calls:
            time.sleep(0.002)
            if time.perf_counter() - begin > LIMIT_S:
                raise RuntimeError(f"{workers} workers: {steps.all()} of {calls} calls done after {LIMIT_S} s")
        took = time.perf_counter() - begin
        of_server = spent(before, database.processor())
        for number, handle in enumerate(handles):
            if handle.result() != number + 1:
                raise RuntimeError(f"{name}-{number} has a wrong result")
        ended = [process.communicate()[0] for process in processes]
        used = sum(_processor(text) for text in ended)
        return {
            "calls_per_s": calls / took,
            "worker_us": used / calls * 1e6,
            "server_us": of_server / calls * 1e6,
            "steps_each": steps.all() / calls,
        }


def _processor(printed: str) -> float:
    return float(json.loads(printed.splitlines()[-1])["processor_s"])


def scale(database: Database, many: int, calls: int, rounds: int) -> dict[str, float]:
    """One worker and `many` in turn: medians, and of their ratios."""
    pairs = []
    for turn in range(rounds):
        found = {}
        for workers in (1, many) if turn % 2 == 0 else (many, 1):
            found[workers] = drain(database, f"scale-{turn}-{workers}", workers, calls)
        pairs.append((found[1], found[many]))
    figures: dict[str, float] = {}
    for key in ("calls_per_s", "worker_us", "server_us", "steps_each"):
        figures[f"one_{key}"] = median(one[key] for one, _ in pairs)
        figures[f"many_{key}"] = median(several[key] for _, several in pairs)
    figures["times_faster"] = median(several["calls_per_s"] / one["calls_per_s"] for one, several in pairs)
    figures["times_processor"] = median(several["worker_us"] / one["worker_us"] for one, several in pairs)
    return figures
