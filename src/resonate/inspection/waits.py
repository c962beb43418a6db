"""Why an execution does not go on: its tree, walked from the root to what has not ended."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from datetime import UTC, datetime

from resonate.inspection.views import Call, Wait


def waits_of(root: Call, now: int) -> list[Wait]:
    """One `Wait` for each thing that `root` waits for.

    Args:
        root: with all that is below it.
        now: milliseconds since the epoch.
    """
    return [] if root.settled else list(_waits(root, now))


def _waits(call: Call, now: int) -> Iterator[Wait]:
    """What `call`, which has not ended, waits for."""
    stack = [call]
    while stack:
        top = stack.pop()
        own = _own(top, now)
        if own is not None:
            yield own
            if top.state in ("queued", "halted", "retrying"):
                continue
        stack += [child for child in reversed(top.calls) if not child.settled and child.kind != "detached"]


def _own(call: Call, now: int) -> Wait | None:
    """What a call waits for itself, rather than for the calls below it."""
    name = f"{call.id} ({call.title})" if call.name else call.id
    if call.state == "halted":
        why = f": {' '.join(call.reason.split())}" if call.reason else ""
        return Wait(call.id, f"{name} is halted{why}", f"resonate resume {shlex.quote(call.id)}")
    if call.kind == "retry":
        return Wait(call.id, f"{call.id} is the pause before the next attempt, until {_at(call.deadline, now)}")
    if call.state == "retrying":
        pauses = [child for child in call.calls if child.kind == "retry" and not child.settled]
        until = _at(pauses[-1].deadline, now)
        failed = sum(child.kind == "retry" for child in call.calls)
        return Wait(
            call.id,
            f"{name} has failed and is tried again at {until} (after pause {failed})",
            f"resonate retry {shlex.quote(call.id)}",
        )
    if call.state == "queued":
        since = _at(call.created_at, now)
        wants = f"{call.title} " if call.name else ""
        return Wait(
            call.id,
            f"{name} waits since {since} for a worker of group {call.group} that has {wants}and room for it",
            f"resonate worker MODULE --group {shlex.quote(call.group or 'default')}",
        )
    if call.state == "running":
        lease = f", which has to renew its lease every {call.lease_ms / 1000:g} s" if call.lease_ms else ""
        return Wait(call.id, f"{name} is run by worker {call.worker or '(unknown)'}{lease}")
    if call.kind == "sleep":
        return Wait(
            call.id,
            f"{call.id} sleeps until {_at(call.deadline, now)}",
            f"resonate promises resolve {shlex.quote(call.id)}",
        )
    if call.kind == "promise":
        return Wait(
            call.id,
            f"{call.id} waits for somebody to settle it, until {_at(call.deadline, now)}",
            f"resonate promises resolve {shlex.quote(call.id)} --value JSON",
        )
    return None


def _at(instant: int, now: int) -> str:
    """An instant as a person reads it, UTC; the day only where it is another one."""
    try:
        then, today = (datetime.fromtimestamp(at / 1000, UTC) for at in (instant, now))
    except (OverflowError, ValueError, OSError):
        return "the end of time"
    day = "" if then.date() == today.date() else f"{then:%Y-%m-%d} "
    return f"{day}{then:%H:%M:%S} UTC"
