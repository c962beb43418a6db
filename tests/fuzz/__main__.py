"""`python -m tests.fuzz --seconds 600 --seed 1 [--target NAME]`: cases for as long as you like, on each target in turn.

A case that fails is shown with the command that repeats it. Memory is bounded: a case that
wants more than a GiB beyond what there was fails too.
"""

from __future__ import annotations

import argparse
import faulthandler
import resource
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from random import Random

from tests.fuzz.targets import TARGETS, run

MEMORY = 1 << 30
"""Bytes that cases may need."""

HANGING = 60
"""Seconds after which a case that does not end is shown with its stack, and all is over."""


def main() -> int:
    """Run; 1 if a case has failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="in all")
    parser.add_argument("--seed", type=int, default=1, help="of the first case of each target")
    parser.add_argument("--cases", type=int, default=None, help="of each target, instead of a time")
    parser.add_argument("--target", choices=sorted(TARGETS), action="append", help="only this one; may be repeated")
    given = parser.parse_args()
    _bound_memory()
    names = given.target or list(TARGETS)
    failed: Counter[str] = Counter()
    for name in names:
        failed[name] = _fuzz(name, given.seed, given.seconds / len(names), given.cases)
    return 1 if failed.total() else 0


def _fuzz(name: str, seed: int, seconds: float, cases: int | None) -> int:
    begun, count, failures = time.monotonic(), 0, Counter[str]()
    while (count < cases) if cases is not None else (time.monotonic() - begun < seconds):
        faulthandler.dump_traceback_later(HANGING, exit=True)
        try:
            run(name, Random(seed + count))
        except Exception as error:
            kind = f"{type(error).__name__} at {_place(error)}"
            failures[kind] += 1
            if failures[kind] == 1:
                traceback.print_exc()
                print(f"again: python -m tests.fuzz --target {name} --cases 1 --seed {seed + count}\n", file=sys.stderr)
        count += 1
    faulthandler.cancel_dump_traceback_later()
    took = time.monotonic() - begun
    print(f"{name:16} {count:9,} cases in {took:6.1f} s, {failures.total()} failed {dict(failures) or ''}", flush=True)
    return failures.total()


def _place(error: Exception) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/resonate/" in frame.filename]
    frame = frames[-1] if frames else traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"


def _bound_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


if __name__ == "__main__":
    sys.exit(main())
