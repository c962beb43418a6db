"""What measured programs need: a stopwatch, percentiles, its memory, and one line of JSON as its answer.

Runs in the peers' environments too, so it imports the standard library only.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

now = time.perf_counter


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least `share` (0..1) of all samples do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, -(-len(ordered) * share // 1).__trunc__() - 1)]


def latencies(samples: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile in microseconds of samples in seconds."""
    return {"p50_us": percentile(samples, 0.5) * 1e6, "p99_us": percentile(samples, 0.99) * 1e6}


def resident_bytes() -> int:
    """Resident memory of this process now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmRSS in /proc/self/status: memory is measured on Linux only")


def database(workloads: Sequence[Callable[[str], dict[str, float]]]) -> dict[str, Callable[[], dict[str, float]]]:
    """Programs that ask for a database, for `main`: that of `--url`, else a SQLite file of their own in BENCH_DIR."""

    def on(workload: Callable[[str], dict[str, float]]) -> Callable[[], dict[str, float]]:
        def measured() -> dict[str, float]:
            if "--url" in sys.argv:
                return workload(sys.argv[sys.argv.index("--url") + 1])
            with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as directory:
                return workload(f"sqlite:///{directory}/bench.db")

        return measured

    return {workload.__name__: on(workload) for workload in workloads}


def main(workloads: dict[str, Callable[[], dict[str, float]]]) -> None:
    """Run the workload named on the command line and print its figures as one line of JSON."""
    print(json.dumps(workloads[sys.argv[1]]()))
