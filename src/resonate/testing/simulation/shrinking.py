"""From a run that fails to the least one that fails: fewer faults, a smaller program, fewer processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from msgspec.structs import replace

from resonate.testing.simulation.cases import Case, Root, Verdict, run_case

RUNS: Final = 400
"""Runs that a failure is shrunk with, at most."""

SEEDS: Final = 4
"""Orders of events tried for each smaller case: with less in it, the old one means something else."""


def shrink(case: Case, runs: int = RUNS) -> tuple[Case, Verdict]:
    """The smallest case found that fails like `case`, and how it went.

    Args:
        case: one that fails.
        runs: at most so many are made.

    Raises:
        ValueError: `case` does not fail.
    """
    best = run_case(case)
    if not best.problems:
        raise ValueError(f"seed {case.seed} does not fail")
    left = [runs]
    smaller = True
    while smaller and left[0] > 0:
        smaller = False
        for candidate in _smaller(case):
            found = _fails(candidate, left)
            if found is not None:
                case, best = found
                smaller = True
                break
            if left[0] <= 0:
                break
    return case, best


def _fails(case: Case, left: list[int]) -> tuple[Case, Verdict] | None:
    for shift in range(SEEDS):
        tried = replace(case, seed=case.seed + shift * 1_000_003)
        left[0] -= 1
        verdict = run_case(tried)
        if verdict.problems:
            return tried, verdict
    return None


def _smaller(case: Case) -> Iterator[Case]:
    """Cases with less in them, those with much less first."""
    faults = case.faults
    size = len(faults)
    while size:
        for begin in range(0, len(faults), size):
            yield replace(case, faults=faults[:begin] + faults[begin + size :])
        size //= 2
    for number in range(len(case.roots)):
        if len(case.roots) > 1:
            yield replace(case, roots=case.roots[:number] + case.roots[number + 1 :])
    if case.schedule:
        yield replace(case, schedule=False)
    for number, root in enumerate(case.roots):
        for simpler in _simpler(root):
            yield replace(case, roots=(*case.roots[:number], simpler, *case.roots[number + 1 :]))
    if case.threads > 1:
        yield replace(case, threads=1)


def _simpler(root: Root) -> Iterator[Root]:
    if root.cancel_after is not None:
        yield replace(root, cancel_after=None)
    if root.timeout is not None:
        yield replace(root, timeout=None)
    for plans in _shorter(root.plan[1]):
        if plans:
            yield replace(root, plan=["run", plans])


def _shorter(plans: list[Any]) -> Iterator[list[Any]]:
    """Lists of plans with one left out, replaced by what is in it, or made shorter itself."""
    for at, (kind, arg) in enumerate(plans):
        yield plans[:at] + plans[at + 1 :]
        if kind == "tries":
            yield [*plans[:at], arg[1], *plans[at + 1 :]]
        elif isinstance(arg, list):
            yield [*plans[:at], *arg, *plans[at + 1 :]]
            for inner in _shorter(arg):
                if inner:
                    yield [*plans[:at], [kind, inner], *plans[at + 1 :]]


__all__ = ["shrink"]
