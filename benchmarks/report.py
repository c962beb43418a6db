"""Turns measured figures into a Markdown table with the targets and a verdict on each."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.run import Results, middle
from benchmarks.suite import ALONE, COMPARED, OURS, OURS_ASYNC, PEERS, Alone, Compared


def number(value: float | None, unit: str = "") -> str:
    """Three significant digits, thousands separated; a dash for what was not measured."""
    if value is None:
        return "-"
    text = f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
    return f"{text} {unit}".strip() if unit != "×" else text


def advantage(figure: Compared, ours: float | None, peer: float | None) -> float | None:
    """How many times better ours is than the peer."""
    if ours is None or peer is None:
        return None
    return ours / peer if figure.better == "higher" else peer / ours


def compared_rows(results: Results) -> Iterator[str]:
    """One row per compared figure: every side's value, and the ratio to each peer."""
    yield "| program | ours | ours, async | SDK 0.6.7 | ratio | SDK 0.8.1 | ratio | target | |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---|"
    for figure in COMPARED:
        ours = middle(results, figure.workload, OURS, figure.figure)
        if ours is None:
            continue
        cells = [
            number(ours, figure.unit),
            number(middle(results, figure.workload, OURS_ASYNC, figure.figure)),
        ]
        ratios = []
        for peer in PEERS:
            theirs = middle(results, figure.workload, peer, figure.figure)
            ratio = advantage(figure, ours, theirs)
            ratios.append(ratio)
            cells += [number(theirs), "-" if ratio is None else f"{number(ratio)}×"]
        target = "" if figure.factor is None else f"≥ {figure.factor:g}×"
        cells += [target, verdict_of_ratios(figure, ratios)]
        yield f"| {figure.title} | " + " | ".join(cells) + " |"


def verdict_of_ratios(figure: Compared, ratios: list[float | None]) -> str:
    """Whether ours is far enough ahead of every peer that was measured."""
    known = [ratio for ratio in ratios if ratio is not None]
    if figure.factor is None or not known:
        return ""
    return "met" if min(known) >= figure.factor else "missed"


def alone_rows(results: Results) -> Iterator[str]:
    """One row per figure that only ours has, with its bound."""
    yield "| measured | value | target | |"
    yield "|---|---:|---:|---|"
    for figure in ALONE:
        value = middle(results, figure.workload, OURS, figure.figure)
        if value is not None:
            target, verdict = judge(figure, value)
            yield f"| {figure.title} | {number(value, figure.unit)} | {target} | {verdict} |"


def judge(figure: Alone, value: float) -> tuple[str, str]:
    """The bound of a figure as text, and whether `value` keeps it."""
    if figure.at_most is not None:
        return f"≤ {number(figure.at_most, figure.unit)}", "met" if value <= figure.at_most else "missed"
    if figure.at_least is not None:
        return f"≥ {number(figure.at_least, figure.unit)}", "met" if value >= figure.at_least else "missed"
    return "", ""


def table(results: Results) -> str:
    """The whole report."""
    return "\n".join([*compared_rows(results), "", *alone_rows(results)])
