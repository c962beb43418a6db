"""The benchmarks judge fairly: ratios, bounds, and a program behind every figure."""

from __future__ import annotations

import ast

import pytest

from benchmarks.report import advantage, judge, number, table
from benchmarks.run import Results, command, python_of, schedule, sides_of
from benchmarks.suite import ALONE, COMPARED, OURS, PROGRAMS, SDK067, SDK081, WORKLOADS, Alone, Compared

FASTER = Compared("w", "f", "t", "µs", "lower", 10)
MORE = Compared("w", "f", "t", "steps/s", "higher", 10)


def one_step(ours: float, sdk067: float, sdk081: float) -> Results:
    sides = {"ours": ours, "sdk067": sdk067, "sdk081": sdk081}
    return {"one_step": {side: [{"p50_us": value, "p99_us": value}] for side, value in sides.items()}}


def row(results: Results, title: str) -> str:
    (found,) = [line for line in table(results).splitlines() if line.startswith(f"| {title} ")]
    return found


def test_an_advantage_is_above_one_when_ours_is_better() -> None:
    assert advantage(FASTER, 5.0, 50.0) == 10
    assert advantage(MORE, 50.0, 5.0) == 10
    assert advantage(MORE, None, 5.0) is None
    assert advantage(MORE, 5.0, None) is None


def test_a_target_is_met_only_if_every_peer_is_beaten_by_the_factor() -> None:
    assert row(one_step(10, 100, 100), "one-step run, p50").endswith("| ≥ 10× | met |")
    assert row(one_step(10, 100, 99), "one-step run, p50").endswith("| ≥ 10× | missed |")


def test_a_peer_that_is_not_installed_is_a_dash_and_not_a_verdict() -> None:
    results = one_step(10, 100, 100)
    del results["one_step"]["sdk067"], results["one_step"]["sdk081"]

    assert row(results, "one-step run, p50") == "| one-step run, p50 | 10 µs | - | - | - | - | - | ≥ 10× |  |"


def test_the_median_of_the_rounds_counts() -> None:
    results = one_step(10, 100, 100)
    results["one_step"]["ours"] += [{"p50_us": 11.0, "p99_us": 11.0}, {"p50_us": 99.0, "p99_us": 99.0}]

    assert row(results, "one-step run, p50").startswith("| one-step run, p50 | 11 µs |")


@pytest.mark.parametrize(
    ("figure", "value", "verdict"),
    [
        (Alone("w", "f", "t", "ms", at_most=5), 5.0, ("≤ 5 ms", "met")),
        (Alone("w", "f", "t", "ms", at_most=5), 5.1, ("≤ 5 ms", "missed")),
        (Alone("w", "f", "t", "", at_least=5), 5.0, ("≥ 5", "met")),
        (Alone("w", "f", "t", "", at_least=5), 4.9, ("≥ 5", "missed")),
        (Alone("w", "f", "t", ""), 4.9, ("", "")),
    ],
)
def test_a_bound_is_inclusive(figure: Alone, value: float, verdict: tuple[str, str]) -> None:
    assert judge(figure, value) == verdict


def test_numbers_are_short_and_readable() -> None:
    assert [number(value) for value in (0.1234, 12.345, 123.4, 12345.6, 7.0)] == ["0.123", "12.3", "123", "12,346", "7"]
    assert number(None) == "-"


def test_sides_take_turns_and_each_round_another_one_begins() -> None:
    order = [side.name for _, side in schedule(["one_step"], 2)]

    assert order == ["ours", "ours_async", "sdk067", "sdk081", "ours_async", "sdk067", "sdk081", "ours"]


def test_every_figure_comes_from_a_program_that_exists() -> None:
    for workload in WORKLOADS:
        for side in sides_of(workload):
            _, program, asked, *_ = command(workload, side, python_of(OURS) or PROGRAMS)
            assert asked == workload
            assert workload in strings(program), f"{program} does not offer {workload}"


def test_every_figure_is_produced_by_its_program() -> None:
    for figure in COMPARED:
        for side in (OURS, SDK067, SDK081):
            assert figure.figure in strings(command(figure.workload, side, PROGRAMS)[1]) | {"p50_us", "p99_us"}
    for alone in ALONE:
        assert alone.figure in strings(command(alone.workload, OURS, PROGRAMS)[1])


def strings(program: str) -> set[str]:
    """All string literals of a program: the workloads it offers and the figures it gives."""
    with open(program, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
