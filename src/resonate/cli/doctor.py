"""`resonate doctor`: what is wrong where state lives, and what to do about it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import typer
from msgspec import Struct

from resonate.cli import output
from resonate.cli.home import FAILED, Home, at_home, listens
from resonate.inspection import Call, Group, drawing
from resonate.inspection.commands import command, quoted

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
            typer.echo(f"{mark} {drawing.clean(finding.text)}")
            if finding.remedy:
                typer.echo(f"    {drawing.clean(finding.remedy)}")
    if not all(finding.good for finding in findings):
        raise typer.Exit(FAILED)


def _findings(home: Home) -> Iterator[Finding]:
    began = time.monotonic()
    home.client.start()
    home.inspector.executions(limit=1)
    yield Finding(True, f"{home.shown} answers, after {(time.monotonic() - began) * 1000:.0f} ms")
    yield _clock(home)
    groups = home.inspector.groups()
    yield from _queues(home, groups)
    yield from _halted(home, groups)


def _clock(home: Home) -> Finding:
    skew = home.now() - int(time.time() * 1000)
    if abs(skew) <= SKEW:
        return Finding(True, f"its clock and this machine's differ by {abs(skew)} ms")
    ahead = "ahead of" if skew > 0 else "behind"
    text = f"its clock is {drawing.span(abs(skew))} {ahead} this machine's"
    return Finding(False, text, "deadlines and schedules go by its clock: have both machines keep time (NTP)")


def _queues(home: Home, groups: Sequence[Group]) -> Iterator[Finding]:
    """Where something waits to be taken up. Groups count all calls, and executions by themselves have names."""
    now = home.now()
    listed: dict[str, list[Call]] = {}
    for call in home.inspector.executions(state="queued", limit=LISTED).items:
        listed.setdefault(call.group or "default", []).append(call)
    quiet = True
    for group in groups:
        calls = listed.get(group.name, [])
        ready = [call for call in calls if call.begins_at <= now]
        count = group.queued - len(calls) + len(ready)
        if count <= 0 or group.oldest is None or group.oldest > now:  # what is to begin later is in nobody's way
            continue
        quiet = False
        age = now - group.oldest
        text = (
            f"{_at_least(group, 'queued')}{output.counted(count, 'execution')} in the queue for workers of group "
            f"{group.name}, the oldest for {drawing.span(age)}{_named(ready, count)}"
        )
        yield Finding(True, text) if age < LONG else Finding(False, text, _takers(group.name))
    if quiet:
        yield Finding(True, "no execution waits for a worker")


def _named(calls: Sequence[Call], count: int) -> str:
    """The functions of most of them, and how many executions there are of others."""
    names = Counter(call.title for call in calls).most_common(3)
    rest = count - sum(number for _, number in names)
    parts = [f"{name} ({number})" for name, number in names]
    if not parts:
        return ""
    return f": {', '.join(parts)}" + (f" and {rest:,} more" if rest else "")


def _takers(group: str) -> str:
    """What to do about a queue that is not emptied."""
    if "://" not in group:
        return f"is a worker running that has these? resonate worker MODULE --group {quoted(group)}"
    if group.startswith(("http://", "https://")) and not listens(group):
        return "nobody listens at that address, as seen from this machine: start what is to run there"
    return "does what is at that address take them up? Its log, and that of the server, say more"


def _halted(home: Home, groups: Sequence[Group]) -> Iterator[Finding]:
    halted = home.inspector.executions(state="halted", limit=LISTED).items
    count = max(len(halted), sum(group.halted for group in groups))
    if not count:
        yield Finding(True, "no execution is halted")
        return
    below = count - len(halted)
    ids = ", ".join(call.id for call in halted[:3]) + (", ..." if len(halted) > 3 else "")
    text = f"{output.counted(count, 'execution')} halted, by hand or as the code did not do what is recorded"
    text += f": {ids}" if ids else ""
    text += f"{' and' if ids else ':'} {below:,} called by others" if below else ""
    first = command("why", halted[0].id) if halted else "resonate tasks search --state halted"
    names = "says more" if halted else "names them"
    yield Finding(False, text, f"{first} {names}; with code that agrees: resonate resume ID")


def _at_least(group: Group, state: str) -> str:
    return "at least " if state in group.more else ""
