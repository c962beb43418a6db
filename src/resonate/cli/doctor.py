"""`resonate doctor`: what is wrong where state lives, and what to do about it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Final

import typer
from msgspec import Struct

from resonate.cli import output
from resonate.cli.home import FAILED, Home, at_home
from resonate.inspection import Call

LISTED: Final = 10_000
"""Executions of each state that are looked at."""

SKEW: Final = 2_000
"""Milliseconds between two clocks from which deadlines are a surprise."""

LONG: Final = 60_000
"""Milliseconds in the queue from which somebody should know."""


class Finding(Struct, frozen=True):
    """One thing that was looked at.

    Attributes:
        good: whether nothing needs to be done.
        text: what was found.
        remedy: what to do, or empty.
    """

    good: bool
    text: str
    remedy: str = ""


@at_home
def doctor(home: Home) -> None:
    """Look for what keeps functions from going on. Exit code 1 if something needs to be done."""
    findings = list(_findings(home))
    if home.json:
        output.data(findings)
    else:
        for finding in findings:
            mark = typer.style("ok ", fg="green") if finding.good else typer.style("!! ", fg="red")
            typer.echo(f"{mark} {output.clean(finding.text)}")
            if finding.remedy:
                typer.echo(f"    {output.clean(finding.remedy)}")
    if not all(finding.good for finding in findings):
        raise typer.Exit(FAILED)


def _findings(home: Home) -> Iterator[Finding]:
    began = time.monotonic()
    home.client.start()
    home.inspector.executions(limit=1)
    yield Finding(True, f"{home.shown} answers, after {(time.monotonic() - began) * 1000:.0f} ms")
    yield _clock(home)
    yield from _queues(home)
    yield from _halted(home)


def _clock(home: Home) -> Finding:
    skew = home.now() - int(time.time() * 1000)
    if abs(skew) <= SKEW:
        return Finding(True, f"its clock and this machine's differ by {abs(skew)} ms")
    ahead = "ahead of" if skew > 0 else "behind"
    text = f"its clock is {output.span(abs(skew))} {ahead} this machine's"
    return Finding(False, text, "deadlines and schedules go by its clock: have both machines keep time (NTP)")


def _queues(home: Home) -> Iterator[Finding]:
    queued = home.inspector.executions(state="queued", limit=LISTED).items
    now = home.now()
    groups: dict[str, list[Call]] = {}
    for call in queued:
        groups.setdefault(call.group or "default", []).append(call)
    if not groups:
        yield Finding(True, "no execution waits for a worker")
    for group, calls in sorted(groups.items()):
        oldest = now - min(call.created_at for call in calls)
        wanted = ", ".join(f"{name} ({count})" for name, count in Counter(call.title for call in calls).most_common(3))
        text = (
            f"{len(calls)} executions wait for workers of group {group}, the oldest for {output.span(oldest)}: {wanted}"
        )
        if oldest < LONG:
            yield Finding(True, text)
        else:
            yield Finding(False, text, f"is a worker running that has these? resonate worker MODULE --group {group}")


def _halted(home: Home) -> Iterator[Finding]:
    halted = home.inspector.executions(state="halted", limit=LISTED).items
    if not halted:
        yield Finding(True, "no execution is halted")
        return
    ids = ", ".join(call.id for call in halted[:3]) + (", ..." if len(halted) > 3 else "")
    text = f"{len(halted)} executions are halted, since their code no longer does what is recorded: {ids}"
    yield Finding(False, text, f"resonate why {halted[0].id} says more; with code that agrees: resonate resume ID")
