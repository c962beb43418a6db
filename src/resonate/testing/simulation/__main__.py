"""`python -m resonate.testing.simulation`: run seeds, show one, shrink one that fails."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Final

from resonate.testing.simulation.cases import Case, Verdict, make_case, run_case, run_seeds
from resonate.testing.simulation.shrinking import shrink
from resonate.testing.trace import told

CHUNK: Final = 25
"""Seeds that a process runs in one go."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; the exit status: 1 if a seed fails, else 0."""
    parser = argparse.ArgumentParser(prog="python -m resonate.testing.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this seed")
    parser.add_argument("--seeds", default="0:100", help="run these, FROM:TO (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="processes to run them in (default %(default)s)")
    parser.add_argument("--trace", action="store_true", help="with --seed: show everything that happened")
    parser.add_argument("--no-shrink", action="store_true", help="show the first seed that fails as it is")
    given = parser.parse_args(arguments)
    if given.seed is not None:
        return _one(given.seed, trace=given.trace, shrunk=not given.no_shrink)
    first, _, last = given.seeds.partition(":")
    return _many(int(first), int(last), given.jobs, shrunk=not given.no_shrink)


def _one(seed: int, *, trace: bool, shrunk: bool) -> int:
    case = make_case(seed)
    verdict = run_case(case)
    print(f"seed {seed}: {'fails' if verdict.problems else 'holds'}, {verdict.steps} steps, digest {verdict.digest}")
    if trace:
        print(_shown(case, verdict))
    if verdict.problems and shrunk:
        _show_least(case)
    elif verdict.problems and not trace:
        print(_shown(case, verdict))
    return 1 if verdict.problems else 0


def _many(first: int, last: int, jobs: int, *, shrunk: bool) -> int:
    began = time.monotonic()
    failed: list[int] = []
    steps = 0
    for seed, taken, problem in _results(first, last, jobs):
        steps += taken
        if problem:
            failed.append(seed)
            print(f"seed {seed} fails: {problem}", flush=True)
    seconds = time.monotonic() - began
    count = last - first
    print(f"{count} seeds, {len(failed)} fail; {steps / max(1, count):.0f} steps each, {seconds:.1f} s")
    if failed and shrunk:
        _show_least(make_case(min(failed)))
    return 1 if failed else 0


def _results(first: int, last: int, jobs: int) -> Iterator[tuple[int, int, str]]:
    chunks = [range(begin, min(last, begin + CHUNK)) for begin in range(first, last, CHUNK)]
    if jobs <= 1:
        for chunk in chunks:
            yield from run_seeds(chunk)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        for results in pool.map(run_seeds, chunks):
            yield from results


def _show_least(case: Case) -> None:
    least, verdict = shrink(case)
    print(f"\nthe least of it ({len(case.faults)} faults before, {len(least.faults)} now):")
    print(_shown(least, verdict))


def _shown(case: Case, verdict: Verdict) -> str:
    lines = ["", *(f"root{number}: {root}" for number, root in enumerate(case.roots))]
    lines.append(f"workers: {', '.join(case.workers)}; threads: {case.threads}; schedule: {case.schedule}")
    lines += [f"fault: {fault}" for fault in case.faults]
    lines += ["", told(verdict.events, len(verdict.events)), "", *verdict.problems]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
