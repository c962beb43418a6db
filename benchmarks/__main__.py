"""`python -m benchmarks`: measure ours and the peers in one run, print a table, keep the figures as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.report import table
from benchmarks.run import missing_peers, python_of, run
from benchmarks.suite import HERE, SIDES, WORKLOADS

LATEST: Final = HERE / "results" / "latest.json"


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("workload", nargs="*", help=f"which to run (default all): {', '.join(WORKLOADS)}")
    parser.add_argument("--rounds", type=int, default=3, help="measure so often, the median counts (default 3)")
    parser.add_argument("--json", type=Path, default=LATEST, help=f"where the figures go (default {LATEST})")
    given = parser.parse_args(argv)
    unknown = set(given.workload) - set(WORKLOADS)
    if unknown:
        parser.error(f"no workload {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")
    if given.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {given.rounds}")
    return given


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    pythons = {}
    for side in SIDES:
        python = python_of(side)
        if python is not None:
            done = subprocess.run([str(python), "--version"], check=True, capture_output=True, text=True)
            pythons[side.name] = done.stdout.split()[-1]
    return {"cores": os.cpu_count(), "platform": platform.platform(), "python": pythons}


def say(line: str) -> None:
    """Progress goes to stderr, so that stdout is the report alone."""
    print(line, file=sys.stderr, flush=True)


def main(argv: Sequence[str]) -> None:
    given = arguments(argv)
    absent = missing_peers()
    if absent:
        say(f"not installed: {', '.join(absent)}. Run benchmarks/peers.sh to compare.")
    results = run(given.workload or WORKLOADS, given.rounds, say)
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps({"machine": machine(), "results": results}, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main(sys.argv[1:])
