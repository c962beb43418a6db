"""`python -m benchmarks.served [ROUNDS]`: programs of ours and of the official SDK 0.8.1 against our server.

`resonate serve` keeps state in a file (synchronous = full) and is started anew for each program.
The SDK runs in the environment that `bash benchmarks/peers.sh` makes; without it only ours is
measured. Beside each figure stands what SDK 0.8.1 reached with the official server on SQLite on
a machine of this kind.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import resonate
from benchmarks.report import number
from benchmarks.suite import PROGRAMS, VENVS

LIMIT_S: Final = 180
SOURCE: Final = str(Path(resonate.__file__).parents[1])


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    workload: str
    key: str
    title: str
    unit: str
    higher: bool
    target: float
    official: float
    """SDK 0.8.1 with the official server 0.9.8 on SQLite."""


FIGURES: Final = (
    Figure("one_step", "p50_us", "one-step run, p50", "µs", False, 6_000, 102_000),
    Figure("sequential", "steps_per_s", "sequential steps", "steps/s", True, 700, 65),
    Figure("fanout", "steps_per_s", "fan-out and fan-in", "steps/s", True, 1_500, 24),
    Figure("concurrent", "runs_per_s", "one-step runs, 100 at a time", "runs/s", True, 1_500, 289),
    Figure("remote", "p50_us", "call of another process, p50", "µs", False, 5_000, 204_000),
)


@contextmanager
def served() -> Iterator[str]:
    """The URL of a server in a process of its own."""
    with tempfile.TemporaryDirectory() as directory:
        process = subprocess.Popen(
            [sys.executable, "-m", "resonate.cli", "serve", "--server-port", "0", "--observability-metrics-port", "0"],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": SOURCE},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if "ready at " in line:
                    yield line.partition("ready at ")[2].partition(",")[0]
                    break
        finally:
            process.terminate()
            process.communicate()


def measure(python: str, program: str, figure: Figure) -> float | None:
    """One figure of one side; None if it did not come to an end."""
    with served() as url:
        environment = {**os.environ, "BENCH_SERVER": url, "PYTHONWARNINGS": "ignore"}
        if program.startswith("ours"):
            environment["PYTHONPATH"] = SOURCE
        else:
            environment.pop("PYTHONPATH", None)
        try:
            done = subprocess.run(
                [python, str(PROGRAMS / program), figure.workload],
                env=environment,
                capture_output=True,
                text=True,
                timeout=LIMIT_S,
                check=True,
            )
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
            return None
        value: float = json.loads(done.stdout.splitlines()[-1])[figure.key]
        return value


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    sdk = VENVS / "sdk081" / "bin" / "python"
    print("| program | ours | target | | SDK 0.8.1, our server | SDK 0.8.1, official server | our server is |")
    print("|---|---:|---:|---|---:|---:|---:|")
    for figure in FIGURES:
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(measure(sys.executable, "ours_served.py", figure))
            if sdk.exists():
                theirs.append(measure(str(sdk), "sdk081_served.py", figure))
        print(_row(figure, _middle(ours), _middle(theirs)), flush=True)


def _middle(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _row(figure: Figure, ours: float | None, theirs: float | None) -> str:
    met = ours is not None and (ours >= figure.target if figure.higher else ours <= figure.target)
    faster = None
    if theirs is not None:
        faster = theirs / figure.official if figure.higher else figure.official / theirs
    return (
        f"| {figure.title} | {number(ours, figure.unit)} | {'≥' if figure.higher else '≤'} {number(figure.target)} | "
        f"{'met' if met else 'missed'} | {number(theirs)} | {number(figure.official)} | "
        f"{f'{faster:.1f}× as fast' if faster is not None else '-'} |"
    )


if __name__ == "__main__":
    main()
