"""The durable programs of ours and of DBOS in one database, in turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Final

from benchmarks.postgres.database import Database
from benchmarks.report import advantage, number
from benchmarks.suite import HERE, PROGRAMS, VENVS, Compared

LIMIT_S: Final = 300

FIGURES: Final = (
    Compared("one_step", "p50_us", "one-step run, p50", "µs", "lower", 5),
    Compared("one_step", "p99_us", "one-step run, p99", "µs", "lower", None),
    Compared("sequential", "steps_per_s", "1,000 sequential steps", "steps/s", "higher", 7),
    Compared("fanout", "ms", "1,000-way fan-out and fan-in", "ms", "lower", 20),
    Compared("concurrent", "runs_per_s", "1,000 one-step runs, 100 at a time", "runs/s", "higher", 12),
    Compared("remote", "p50_us", "call of another process, p50", "µs", "lower", None),
)
WORKLOADS: Final = tuple(dict.fromkeys(figure.workload for figure in FIGURES))

Measured = dict[str, list[dict[str, float]]]
"""For each workload the figures of each round."""


def measure(side: str, workload: str, url: str) -> dict[str, float]:
    """One measurement of `ours` or `dbos` in a fresh process.

    Raises:
        RuntimeError: the program failed; the text holds what it printed.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith(("RESONATE_", "PYTHON"))}
    env["PYTHONWARNINGS"] = "ignore"
    if side == "ours":
        env["PYTHONPATH"] = str(HERE.parent / "src")
    program = str(PROGRAMS / f"{side}_db.py")
    command = [str(VENVS / side / "bin" / "python"), program, workload, "--url", url]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def run(database: Database, workloads: Sequence[str], rounds: int) -> dict[str, Measured]:
    """All rounds: for each side what it measured. DBOS is left out if `peers.sh` has not installed it."""
    sides = {"ours": database.ours}
    if (VENVS / "dbos" / "bin" / "python").exists():
        sides["dbos"] = database.url
    results: dict[str, Measured] = {side: {} for side in sides}
    for turn in range(rounds):
        for workload in workloads:
            for side in sorted(sides, reverse=turn % 2 == 0):
                figures = measure(side, workload, sides[side])
                results[side].setdefault(workload, []).append(figures)
                shown = "  ".join(f"{key}={value:,.4g}" for key, value in figures.items())
                print(f"{workload:12} {side:6} {shown}", file=sys.stderr, flush=True)
    return results


def table(results: dict[str, Measured]) -> Iterator[str]:
    """One row per figure: both values, how many times better ours is, and how many times it should be."""
    yield "| program | ours | DBOS | ratio | target | |"
    yield "|---|---:|---:|---:|---:|---|"
    for figure in FIGURES:
        ours, theirs = (_middle(results.get(side, {}), figure) for side in ("ours", "dbos"))
        if ours is None:
            continue
        ratio = advantage(figure, ours, theirs)
        target, verdict = "", ""
        if figure.factor is not None:
            target = f"≥ {figure.factor:g}×"
            verdict = "" if ratio is None else "met" if ratio >= figure.factor else "missed"
        elif figure.workload == "remote":
            target, verdict = f"≤ {number(REMOTE_US, 'µs')}", "met" if ours <= REMOTE_US else "missed"
        shown = "-" if ratio is None else f"{number(ratio)}×"
        yield f"| {figure.title} | {number(ours, figure.unit)} | {number(theirs)} | {shown} | {target} | {verdict} |"


REMOTE_US: Final = 10_000
"""What a call of another process may take; DBOS polls its queues each second, so a ratio says little."""


def _middle(measured: Measured, figure: Compared) -> float | None:
    rounds = measured.get(figure.workload)
    return median(entry[figure.figure] for entry in rounds) if rounds else None
