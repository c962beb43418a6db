"""Runs the programs, each in a process of its own, all sides in turn within every round."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.suite import COMPARED, HERE, OURS, OURS_ASYNC, PEERS, PROGRAMS, SIDES, VENVS, Side

Figures = dict[str, float]
Results = dict[str, dict[str, list[Figures]]]  # workload -> side -> one entry a round

LIMIT_S: Final = 300  # no program takes a tenth of it where the targets are met; the slowest peer takes 30 s


def python_of(side: Side) -> Path | None:
    """The interpreter of `side`; ours falls back to the running one, a peer without one is left out."""
    python = VENVS / side.venv / "bin" / "python"
    if python.exists():
        return python
    return Path(sys.executable) if side in (OURS, OURS_ASYNC) else None


def missing_peers() -> list[str]:
    """Titles of the peers whose environment is not there yet."""
    return [peer.title for peer in PEERS if python_of(peer) is None]


def sides_of(workload: str) -> list[Side]:
    """Who runs `workload`: everybody who has it."""
    if workload == "import_time":
        return [side for side in SIDES if side is not OURS_ASYNC]
    return list(SIDES) if workload in {figure.workload for figure in COMPARED} else [OURS]


def command(workload: str, side: Side, python: Path) -> list[str]:
    """The command line that measures `workload` on `side`."""
    if workload == "import_time":
        return [str(python), str(PROGRAMS / "import_time.py"), workload, side.module]
    compared = workload in {figure.workload for figure in COMPARED}
    return [str(python), str(PROGRAMS / (side.program if compared else "alone.py")), workload]


def execute(side: Side, command: list[str]) -> str:
    """The last line that `command` prints, run in a fresh process in the environment of `side`.

    Raises:
        RuntimeError: the program failed; the text holds what it printed.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith(("RESONATE_", "PYTHON"))}
    if side in (OURS, OURS_ASYNC):
        env["PYTHONPATH"] = str(HERE.parent / "src")  # this tree, whatever is installed
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return done.stdout.splitlines()[-1]


def measure(workload: str, side: Side) -> Figures | None:
    """One measurement in a fresh process, or None if the side is not installed."""
    python = python_of(side)
    if python is None:
        return None
    figures: Figures = json.loads(execute(side, command(workload, side, python)))
    return figures


def schedule(workloads: Iterable[str], rounds: int) -> Iterator[tuple[str, Side]]:
    """Every measurement, in order: the sides take turns, and each round another one begins."""
    for turn in range(rounds):
        for workload in workloads:
            sides = sides_of(workload)
            first = turn % len(sides)
            for side in sides[first:] + sides[:first]:
                yield workload, side


def run(workloads: Iterable[str], rounds: int, say: Callable[[str], None]) -> Results:
    """Measure everything; `say` hears of each measurement as it ends."""
    results: Results = {}
    for workload, side in schedule(list(workloads), rounds):
        figures = measure(workload, side)
        if figures is not None:
            results.setdefault(workload, {}).setdefault(side.name, []).append(figures)
            say(f"{workload:12} {side.title:12} " + "  ".join(f"{key}={value:,.4g}" for key, value in figures.items()))
    return results


def middle(results: Results, workload: str, side: Side, figure: str) -> float | None:
    """The median of one figure over all rounds, or None if it was not measured."""
    rounds = results.get(workload, {}).get(side.name)
    return median(entry[figure] for entry in rounds) if rounds else None
