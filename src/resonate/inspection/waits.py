"""Why an execution does not go on: its waits, from the root to what has not ended, into other trees too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Final, NamedTuple

from msgspec.structs import replace

from resonate.inspection.commands import command, quoted
from resonate.inspection.views import Call, Wait
from resonate.protocol.addresses import parse
from resonate.protocol.records import TARGET

ENDLESS: Final = "the end of time"
"""An instant beyond the calendar."""


class Reached(NamedTuple):
    """What was read of one call.

    Attributes:
        call: with all that is below it.
        awaits: ids that calls of it wait for and that need not be below it, by the ids of those calls.
    """

    call: Call
    awaits: Mapping[str, Sequence[str]] = {}


Read = Callable[[str], Reached | None]
"""A call by its id; None if there is none."""


def waits_of(root: Reached, read: Read, now: int, zone: tzinfo = UTC) -> list[Wait]:
    """One `Wait` for each thing that `root` waits for, from the top to the leaves; empty if it is over.

    Args:
        root: what is asked about.
        read: reads what a call waits for in another tree.
        now: milliseconds since the epoch.
        zone: whose time is told.
    """
    if root.call.settled:
        return []
    found = list(_walk(root, read, Words(now, zone)))
    return found or [_unknown(root.call)]


def _walk(root: Reached, read: Read, words: Words) -> Iterator[Wait]:
    awaits = dict(root.awaits)
    known: dict[str, Call] = {}
    stack: list[tuple[Call, tuple[str, ...]]] = [(root.call, ())]
    while stack:
        call, above = stack.pop()
        if call.id in known:  # several may wait for one and the same
            continue
        known[call.id] = call
        path = (*above, call.id)
        own = words.own(call)
        if own is not None:
            yield replace(own, path=path)
            if own.kind in ("worker", "halted", "retry", "delay"):
                continue
        below = [child for child in call.calls if not child.settled and child.kind != "detached"]
        named = {child.id for child in call.calls}
        for id in awaits.get(call.id, ()):
            elsewhere = None if id in named or id in known else read(id)
            if elsewhere is not None and not elsewhere.call.settled:
                awaits.update(elsewhere.awaits)
                below.append(elsewhere.call)
        stack += [(child, path) for child in reversed(below)]


def _unknown(call: Call) -> Wait:
    return Wait(
        call.id,
        f"{_name(call)} is {call.state}, and nothing that is open is recorded below it: it is about to go on, or waits "
        "for a promise that it has not made itself",
        kind="unknown",
        path=(call.id,),
    )


class Words:
    """Says what a call waits for.

    Args:
        now: milliseconds since the epoch.
        zone: whose time is told.
    """

    def __init__(self, now: int, zone: tzinfo) -> None:
        self._now = now
        self._zone = zone

    def own(self, call: Call) -> Wait | None:
        """What a call waits for itself, rather than for the calls below it."""
        match call.state:
            case "halted":
                return self._halted(call)
            case "retrying":
                return self._retrying(call)
            case "queued":
                return self._queued(call)
            case "running":
                return self._running(call)
        match call.kind:
            case "retry":
                return Wait(
                    call.id,
                    f"{call.id} is a pause before a retry, {self._until(call.deadline)}",
                    kind="retry",
                )
            case "sleep":
                end = command("promises resolve", call.id)
                return Wait(call.id, f"{_name(call)} sleeps {self._until(call.deadline)}", end, kind="sleep")
            case "promise":
                text = f"{_name(call)} waits for somebody to settle it, {self._until(call.deadline)}"
                return Wait(call.id, text, command("promises resolve", call.id, "--value JSON"), "promise")
            case "plain" | "transaction" | "generator" | "async" | "run":
                return Wait(call.id, f"{_name(call)} runs since {self._at(call.created_at)}", kind="step")
        return None

    def _halted(self, call: Call) -> Wait:
        lines = [line.strip() for line in (call.reason or "").splitlines() if line.strip()]
        why = ": " + "\n".join(lines) if lines else ""
        return Wait(call.id, f"{_name(call)} is halted{why}", command("resume", call.id), kind="halted")

    def _retrying(self, call: Call) -> Wait:
        pauses = [child for child in call.calls if child.kind == "retry" and not child.settled]
        failed = max(sum(child.kind == "retry" for child in call.calls), len(call.attempts))
        at = pauses[-1].deadline if pauses else call.again_at or 0
        error = call.attempts[-1].error if call.attempts else None
        times = "once" if failed == 1 else f"{failed} times"
        last = f" ({' '.join(str(error).split())})" if error is not None else ""
        text = f"{_name(call)} has failed {times}{last}; retry {failed} begins at {self._at(at)} ({self._in(at)})"
        return Wait(call.id, text, command("retry", call.id) if pauses else "", kind="retry")

    def _queued(self, call: Call) -> Wait:
        at = call.begins_at
        if at > max(call.created_at, self._now):
            return Wait(call.id, f"{_name(call)} is to begin at {self._at(at)} ({self._in(at)})", kind="delay")
        group, since = call.group or "default", _queued_at(call)
        if "://" in group:
            text = f"{_name(call)} waits since {self._at(since)} for {group} to take it up"
            return Wait(call.id, text, kind="worker")
        address = parse(call.tags.get(TARGET, ""))
        if address is not None and address.cast == "uni" and address.id is not None:
            text = (
                f"{_name(call)} waits since {self._at(since)} for process {address.id} of group {group}, "
                "which alone may take it up: start a program with that pid, or cancel it"
            )
            return Wait(call.id, text, command("cancel", call.id), kind="worker")
        has = f" that has {call.name} version {call.version}" if call.name else ""
        on = "" if call.started_at is None else " to go on with it"
        text = (
            f"{_name(call)} waits for a worker{on}: none of group {group}{has} has taken it up since "
            f"{self._at(since)} ({self.span(self._now - since)})"
        )
        return Wait(call.id, text, f"resonate worker MODULE --group {quoted(group)}", kind="worker")

    def _running(self, call: Call) -> Wait:
        text = f"{_name(call)} is run by worker {call.worker or '(unknown)'}, which holds its lease"
        if call.lease_ms is None or call.task_version is None:
            return Wait(call.id, text, kind="lease")
        gone = f"should that one be gone for good, others have it within {self.span(call.lease_ms)}, or at once by"
        release = command("tasks release", call.id, f"--version {call.task_version}")
        return Wait(call.id, f"{text}; {gone}", release, kind="lease")

    def _at(self, instant: int) -> str:
        """An instant as a person reads it; the day only where it is another one."""
        try:
            then, today = (datetime.fromtimestamp(at / 1000, self._zone) for at in (instant, self._now))
        except (OverflowError, ValueError, OSError):
            return ENDLESS
        day = "" if then.date() == today.date() else f"{then:%Y-%m-%d} "
        return f"{day}{then:%H:%M:%S %Z}".rstrip()

    def _until(self, instant: int) -> str:
        at = self._at(instant)
        return f"until {at}" if at == ENDLESS else f"until {at} ({self._in(instant)})"

    def _in(self, instant: int) -> str:
        left = instant - self._now
        return f"in {self.span(left)}" if left > 0 else "now"

    @staticmethod
    def span(milliseconds: int) -> str:
        """How long something is, in its two largest units."""
        seconds = max(0, milliseconds) // 1000
        units = [(seconds // 86_400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s")]
        first = next((at for at, (number, _) in enumerate(units) if number), len(units) - 1)
        return " ".join(f"{number}{unit}" for number, unit in units[first : first + 2] if number) or "0s"


def _queued_at(call: Call) -> int:
    """From when a queued call waits: from its creation, or from the last thing that is recorded below it."""
    if call.started_at is None:
        return call.created_at
    return max([call.started_at, *(child.settled_at or child.created_at for child in call.calls)])


def _name(call: Call) -> str:
    """What a call is called: its id, and in brackets what it calls and from where."""
    known = [*([call.title] if call.name and call.kind not in ("sleep", "promise") else []), *_place(call)]
    return f"{call.id} ({', '.join(known)})" if known else call.id


def _place(call: Call) -> list[str]:
    """File and line of the call, without the directories."""
    return [call.place.replace("\\", "/").rpartition("/")[2]] if call.place else []
