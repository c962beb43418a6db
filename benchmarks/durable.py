"""`python -m benchmarks.durable`: the same programs on one SQLite file, on DBOS, and in the official SDKs.

DBOS runs on SQLite, and on PostgreSQL if BENCH_POSTGRES_URL names a database that may be
filled (postgresql://user@host/database). The official SDKs have no home on a disk,
so they run in memory, which is the easier job. All sides take turns within each round.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.report import advantage, number
from benchmarks.suite import HERE, PROGRAMS, VENVS, Compared

LIMIT_S: Final = 300


@dataclass(frozen=True)
class Side:
    """A program of its own and where its state lives."""

    title: str
    program: str
    venv: str
    postgres: bool = False


OURS: Final = Side("ours, SQLite", "ours_db.py", "ours")
PEERS: Final = (
    Side("DBOS, SQLite", "dbos_db.py", "dbos"),
    Side("DBOS, PostgreSQL", "dbos_db.py", "dbos", postgres=True),
    Side("SDK 0.6.7, memory", "sdk067.py", "sdk067"),
    Side("SDK 0.8.1, memory", "sdk081.py", "sdk081"),
)
IN_MEMORY_TOO: Final = ("one_step", "sequential", "fanout")
FIGURES: Final = (
    Compared("one_step", "p50_us", "one-step run, p50", "µs", "lower", 1),
    Compared("sequential", "steps_per_s", "1,000 sequential steps", "steps/s", "higher", 1),
    Compared("fanout", "ms", "1,000-way fan-out and fan-in", "ms", "lower", 1),
    Compared("concurrent", "runs_per_s", "1,000 one-step runs, 100 at a time", "runs/s", "higher", 1),
    Compared("remote", "p50_us", "call of another process, p50", "µs", "lower", 1),
)
WORKLOADS: Final = tuple(dict.fromkeys(figure.workload for figure in FIGURES))

Measured = dict[tuple[str, str], list[dict[str, float]]]


def sides_of(workload: str) -> Iterator[Side]:
    """Who runs `workload` and is installed."""
    for side in (OURS, *PEERS):
        if "memory" in side.title and workload not in IN_MEMORY_TOO:
            continue
        if (VENVS / side.venv / "bin" / "python").exists() and (
            not side.postgres or os.environ.get("BENCH_POSTGRES_URL")
        ):
            yield side


def measure(side: Side, workload: str) -> dict[str, float]:
    """One measurement in a fresh process.

    Raises:
        RuntimeError: the program failed; the text holds what it printed.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith(("RESONATE_", "PYTHON"))}
    env["PYTHONWARNINGS"] = "ignore"
    if side is OURS:
        env["PYTHONPATH"] = str(HERE.parent / "src")
    command = [str(VENVS / side.venv / "bin" / "python"), str(PROGRAMS / side.program), workload]
    if side.postgres:
        command += ["--url", env["BENCH_POSTGRES_URL"]]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def run(workloads: Sequence[str], rounds: int) -> Measured:
    """Measure everything, all sides in turn."""
    results: Measured = {}
    for _ in range(rounds):
        for workload in workloads:
            for side in sides_of(workload):
                figures = measure(side, workload)
                results.setdefault((workload, side.title), []).append(figures)
                shown = "  ".join(f"{key}={value:,.4g}" for key, value in figures.items())
                print(f"{workload:12} {side.title:18} {shown}", file=sys.stderr, flush=True)
    return results


def table(results: Measured) -> str:
    """One row per figure: every side's value, and how many times better ours is."""
    lines = [
        "| program | " + " | ".join([OURS.title, *(f"{peer.title} | ratio" for peer in PEERS)]) + " |",
        "|---|---:" + "|---:|---:" * len(PEERS) + "|",
    ]
    for figure in FIGURES:
        values = [
            median(entry[figure.figure] for entry in results[figure.workload, side.title])
            if (figure.workload, side.title) in results
            else None
            for side in (OURS, *PEERS)
        ]
        if values[0] is None:
            continue
        cells = [number(values[0], figure.unit)]
        for theirs in values[1:]:
            ratio = advantage(figure, values[0], theirs)
            cells += [number(theirs), "-" if ratio is None else f"{number(ratio)}×"]
        lines.append(f"| {figure.title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.durable", description=__doc__)
    parser.add_argument("workload", nargs="*", choices=[*WORKLOADS, []], help=f"default: {', '.join(WORKLOADS)}")
    parser.add_argument("--rounds", type=int, default=3, help="measure so often, the median counts (default 3)")
    parser.add_argument("--json", type=Path, help="where the figures go as JSON")
    given = parser.parse_args(argv)
    results = run(given.workload or WORKLOADS, given.rounds)
    if given.json is not None:
        given.json.write_text(json.dumps({f"{w}, {side}": entries for (w, side), entries in results.items()}, indent=1))
    print(table(results))


if __name__ == "__main__":
    main(sys.argv[1:])
