"""`python -m tests.soak --seconds 600 --seed 1`: workers killed at random, round after round, each with its own seed.

Not part of the test suite. Ends with an AssertionError that names the seed if a run is lost
or a finished step runs again.
"""

from __future__ import annotations

import argparse
import time

from resonate.testing import kill_at_random


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--workers", type=int, default=4)
    given = parser.parse_args()
    until, seed, kills, repeated = time.monotonic() + given.seconds, given.seed, 0, 0
    while time.monotonic() < until:
        try:
            report = kill_at_random(
                "tests.kill_programs", "mixed", runs=given.runs, workers=given.workers, kills=given.runs, seed=seed
            )
            assert report.results == [[[1, 2, 3], 3 + run, 4 * run + 6] for run in range(given.runs)], report.results
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        kills += report.kills
        repeated += report.repeated
        print(f"seed {seed}: {given.runs} runs, {report.kills} kills, {report.repeated} unfinished steps repeated")
        seed += 1
    print(f"{seed - given.seed} rounds, {kills} kills, {repeated} unfinished steps repeated, nothing lost")


if __name__ == "__main__":
    main()
