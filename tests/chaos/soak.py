"""One soak: a home, a plan, and the judge's verdict."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from tests.chaos import calls, functions, history, judge, linear
from tests.chaos.calls import Noted
from tests.chaos.homes import Home
from tests.chaos.plan import PAUSES, Fault, plan

TTL: Final = 2
"""Seconds of the leases."""

SETTLED: Final = 2.0
"""Leases without faults before it is over."""

CLOCKS: Final[dict[str, dict[str, Any]]] = {
    "memory": {},
    "sqlite": {},
    # its clock is learnt; and a process may stand still between reading it and writing
    "postgres": {"tolerance": 30, "skew": 10_000, "settles": True},
}
"""What is to be expected of the instants of answers; see `linear.check`."""


class Figures(Struct):
    """What happened.

    Attributes:
        home, seed, seconds: where, and for how long.
        faults: how often each came.
        requests, unknown, refused: of raw clients; those checked, those of them without a known outcome, and those that
            were answered with the assurance that nothing was done (checked by leaving them out).
        trees: trees of promises, each checked for itself.
        runs, insisted: of durable functions; how often a call was made again.
        steps: what became of their steps.
        median, longest: seconds that a run took.
        recovery: seconds from the end of a fault until runs that were begun after it had ended for every client, the
            worst case, and of which fault; of faults that came before that the last one counts.
    """

    home: str
    seed: int
    seconds: float
    faults: dict[str, int]
    requests: int
    unknown: int
    refused: int
    trees: int
    runs: int
    insisted: int
    steps: judge.Steps
    median: float
    longest: float
    recovery: tuple[float, str]

    def __str__(self) -> str:
        happened = ", ".join(f"{count} x {name}" for name, count in sorted(self.faults.items()))
        worst, after = self.recovery
        return (
            f"{self.home}, seed {self.seed}: {self.seconds:.0f} s, {sum(self.faults.values())} faults ({happened}). "
            f"{self.requests} requests checked in {self.trees} trees ({self.unknown} without a known outcome, "
            f"{self.refused} refused ones left out). {self.runs} runs (median {self.median:.2f} s, longest "
            f"{self.longest:.1f} s), {self.insisted} calls made again, {self.steps.finished} steps, "
            f"{self.steps.repeated} unfinished ones repeated. Worst recovery {worst:.1f} s, after: {after}. "
            "No violation"
        )


class _Struck(Struct, frozen=True):
    name: str
    began: float
    ended: float


def soak(
    home: str,
    seconds: float,
    seed: int,
    pauses: tuple[float, float] = PAUSES,
    ttl: int = TTL,
    faults: Sequence[str] | None = None,
) -> Figures:
    """One soak.

    Args:
        home: `memory`, `sqlite` or `postgres`.
        seconds: for how long things go wrong.
        seed: of what goes wrong when, and of what raw clients ask for.
        pauses: seconds between two faults, at least and at most.
        ttl: of the leases, in seconds.
        faults: what may go wrong; None for everything.

    Raises:
        AssertionError: a promise was broken; names the seed and where everything that was written is.
    """
    directory = Path(tempfile.mkdtemp(prefix=f"resonate-chaos-{home}-"))
    directory.chmod(0o755)
    struck: list[_Struck] = []
    try:
        with Home(home, directory, seed, ttl) as made:
            _wait_until_runs_end(directory)
            began = time.monotonic()
            for fault in plan(home, seed, seconds, pauses, faults):
                _wait_until(began + fault.at)
                _strike(made, fault, struck)
            _wait_until(began + max(seconds, fault.at) + SETTLED * ttl)
            lasted = time.monotonic() - began
            figures = _judge(made, seed, lasted, struck)
    except AssertionError as error:
        text = f"{home}, seed {seed}, after {[each.name for each in struck]}, see {directory}: {error}"
        raise AssertionError(text) from error
    shutil.rmtree(directory, ignore_errors=True)
    return figures


def _strike(home: Home, fault: Fault, struck: list[_Struck]) -> None:
    began = time.time()
    if home.strike(fault):
        struck.append(_Struck(fault.name, began, time.time()))


def _wait_until(instant: float) -> None:
    time.sleep(max(0.0, instant - time.monotonic()))


def _wait_until_runs_end(directory: Path) -> None:
    """Everything has started: each caller has seen the end of a run."""
    until = time.monotonic() + judge.PATIENCE
    while True:
        notes = calls.read(sorted(directory.glob("*.calls")))
        callers = {_caller_of(note.run) for note in notes if note.what == "ended"}
        if len(callers) >= len(list(directory.glob("caller-*.log"))) and list(directory.glob("*.history")):
            return
        assert time.monotonic() < until, f"not everybody has begun: {callers}"
        time.sleep(0.1)


def _judge(home: Home, seed: int, lasted: float, struck: Sequence[_Struck]) -> Figures:
    for client in (*home.traffic, *home.callers):
        client.end()
    until = time.monotonic() + judge.PATIENCE
    notes = calls.read(sorted(home.directory.glob("*.calls")))
    found = judge.results(home, notes, until)
    judge.nothing_left(home, until)
    executed = functions.read(sorted(home.directory.glob("*.steps")))
    judge.rows_once(home, found)
    recorded = history.read(sorted(home.directory.glob("*.history")))
    violations = linear.check(recorded.operations, **CLOCKS[home.name])
    assert not violations, "\n\n".join(map(str, violations))
    took = _took(notes)
    return Figures(
        home.name,
        seed,
        lasted,
        dict(Counter(each.name for each in struck)),
        len(recorded.operations),
        sum(operation.answer is None for operation in recorded.operations),
        recorded.refused,
        len({operation.group for operation in recorded.operations}),
        len(found),
        sum(note.what == "refused" for note in notes),
        judge.steps(found, executed),
        took[len(took) // 2],
        took[-1],
        _recovery(notes, struck),
    )


def _took(notes: Sequence[Noted]) -> list[float]:
    began = {note.run: note.at for note in notes if note.what == "begins"}
    return sorted(note.at - began[note.run] for note in notes if note.what == "ended")


def _recovery(notes: Sequence[Noted], struck: Sequence[_Struck]) -> tuple[float, str]:
    """The longest that it took until runs had ended again for every client."""
    began = {note.run: note.at for note in notes if note.what == "begins"}
    ended = [(_caller_of(note.run), began[note.run], note.at) for note in notes if note.what == "ended"]
    worst = 0.0, "none"
    for fault, following in zip(struck, [*struck[1:], None], strict=True):
        first: dict[str, float] = {}
        for caller, begun_at, ended_at in ended:
            if begun_at >= fault.ended:
                first[caller] = min(first.get(caller, ended_at), ended_at)
        recovered = max(first.values(), default=fault.ended)
        if following is None or recovered < following.began:
            worst = max(worst, (recovered - fault.ended, fault.name))
    return worst


def _caller_of(run: str) -> str:
    """`order-caller-3-PID-0-17` was begun by caller 3."""
    return "-".join(run.split("-")[1:3])
