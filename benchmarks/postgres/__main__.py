"""`python -m benchmarks.postgres --url postgresql://user@host:port/database [--quick] [PART ...]`.

Everything happens in a database of its own, which is dropped at the end; the role must be allowed
to create one. Run it with the environment of ours (`benchmarks/.venvs/ours/bin/python`), so that
all sides have the same Python. Give it a server on which nothing else runs, with
`shared_preload_libraries = 'pg_stat_statements'` if statements shall be counted.

PART is any of compared, bare, growth, costs, scale, idle; all of them without one. `--quick` takes
about two minutes, all of it about fifteen.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.postgres import alone, compared, scale
from benchmarks.postgres.database import Database, fresh
from benchmarks.report import judge, number
from benchmarks.suite import HERE, Alone

PARTS: Final = ("compared", "bare", "growth", "costs", "scale", "idle")
WORKERS: Final = 4
SLOWER_US: Final = 300
"""Added to each commit in one part: data centres have disks of 0.3 to 1 ms, the test machine one of 0.15 ms."""

ALONE: Final = (
    Alone("bare", "commits_per_s", "bare single-row commits", "/s"),
    Alone("bare", "steps_per_s", "sequential steps, in pairs with them", "/s"),
    Alone("bare", "ratio", "sequential steps / bare commits", "×", at_least=0.7),
    Alone("bare", "added_us", "what a step adds to a commit", "µs"),
    Alone("slower", "commits_per_s", f"bare commits that take {SLOWER_US} µs longer", "/s"),
    Alone("slower", "ratio", "sequential steps / these", "×", at_least=0.7),
    Alone("growth", "1000", "1,000 steps in one function, each", "µs"),
    Alone("growth", "10000", "10,000 steps in one function, each", "µs"),
    Alone("growth", "100000", "100,000 steps in one function, each", "µs"),
    Alone("growth", "last_over_first", "the longest: last tenth / first tenth", "×", at_most=1.3),
    Alone("scale", "one_calls_per_s", "waiting calls, one worker process", "/s"),
    Alone("scale", "many_calls_per_s", f"waiting calls, {WORKERS} worker processes", "/s"),
    Alone("scale", "times_faster", f"{WORKERS} workers / one", "×", at_least=1.2),
    Alone("scale", "one_worker_us", "processor time of a call, one worker", "µs"),
    Alone("scale", "many_worker_us", f"processor time of a call, {WORKERS} workers", "µs"),
    Alone("scale", "times_processor", f"the same, {WORKERS} workers / one", "×", at_most=1.3),
    Alone("scale", "one_server_us", "processor time of the database for it, one worker", "µs"),
    Alone("scale", "many_server_us", f"processor time of the database for it, {WORKERS} workers", "µs"),
    Alone("idle", "percent", "an idle process", "% of a core", at_most=0.5),
    Alone("idle", "server_percent", "the database for it", "% of a core"),
    Alone("idle", "statements_per_s", "statements of an idle process", "/s"),
    Alone("idle", "sessions", "sessions of an idle process", ""),
)

COSTS: Final = {
    "statements": "statements",
    "transactions": "transactions",
    "flushes": "flushes of the log",
    "log_bytes": "bytes of log",
    "rows_inserted": "rows inserted",
    "rows_updated": "rows updated",
    "rows_updated_in_place": "of them in place",
    "rows_deleted": "rows deleted",
    "heap_bytes": "bytes of tables",
    "index_bytes": "bytes of indexes",
}

Results = dict[str, Any]


def measure(database: Database, parts: Sequence[str], quick: bool, rounds: int) -> Results:
    """All parts asked for, in their order."""
    results: Results = {"settings": database.settings, "cores": os.cpu_count()}
    if "compared" in parts:
        results["compared"] = compared.run(database, compared.WORKLOADS, rounds)
    if "bare" in parts:
        pairs = 5 if quick else alone.PAIRS
        results["bare"] = alone.against_bare(database, "bare", pairs)
        with database.slower(SLOWER_US) as slower:
            if slower:
                results["slower"] = alone.against_bare(database, "slower", pairs)
    if "growth" in parts:
        sizes = (1_000, 10_000) if quick else (1_000, 10_000, 100_000)
        grown = {size: alone.growth(database, size) for size in sizes}
        results["growth"] = {str(size): found["us_per_step"] for size, found in grown.items()}
        results["growth"]["last_over_first"] = grown[sizes[-1]]["last_over_first"]
    if "costs" in parts:
        counts = (1_000, 200, 100) if quick else (5_000, 2_000, 500)
        results["costs"] = alone.costs(database, *counts)
    if "scale" in parts:
        results["scale"] = scale.scale(database, WORKERS, 1_000 if quick else 3_000, 1 if quick else rounds)
    if "idle" in parts:
        results["idle"] = alone.idle(database, 10 if quick else 60)
    return results


def table(results: Results) -> Iterator[str]:
    """The whole report as Markdown."""
    if "compared" in results:
        yield from compared.table(results["compared"])
        yield ""
    yield "| measured | value | target | |"
    yield "|---|---:|---:|---|"
    for figure in ALONE:
        value = results.get(figure.workload, {}).get(figure.figure)
        if value is not None:
            target, verdict = judge(figure, value)
            yield f"| {figure.title} | {number(value, figure.unit)} | {target} | {verdict} |"
    if "costs" in results:
        yield ""
        yield from _costs(results["costs"])


def _costs(costs: dict[str, dict[str, float]]) -> Iterator[str]:
    yield f"| the database, for each | {' | '.join(costs)} |"
    yield f"|---|{'---:|' * len(costs)}"
    for key, title in COSTS.items():
        if any(key in found for found in costs.values()):
            yield f"| {title} | {' | '.join(number(found.get(key)) for found in costs.values())} |"


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.postgres", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help="what to measure")
    parser.add_argument("--url", default=os.environ.get("BENCH_POSTGRES_URL"), help="else BENCH_POSTGRES_URL")
    parser.add_argument("--quick", action="store_true", help="one round, fewer steps")
    parser.add_argument("--rounds", type=int, help="of everything that is compared; the median counts (default 3)")
    parser.add_argument("--json", type=Path, default=HERE / "results" / "postgres.json", help="where the figures go")
    given = parser.parse_args(argv)
    if not given.url:
        parser.error("--url postgresql://user@host:port/database is missing, and BENCH_POSTGRES_URL is not set")
    rounds = given.rounds or (1 if given.quick else 3)
    with fresh(given.url) as database:
        print(", ".join(f"{name}={value}" for name, value in database.settings.items()), file=sys.stderr)
        results = measure(database, given.part or PARTS, given.quick, rounds)
    given.json.parent.mkdir(exist_ok=True)
    given.json.write_text(json.dumps(results, indent=1))
    print("\n".join(table(results)))


if __name__ == "__main__":
    main(sys.argv[1:])
