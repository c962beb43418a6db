"""Calls and waits as lines of plain text: what the command line prints, and `print` in a program."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from resonate.inspection.views import Call, Wait

MARKS: Final = {
    "succeeded": "✓",
    "failed": "✗",
    "timed out": "✗",
    "cancelled": "✗",
    "halted": "!",
    "running": "▶",
    "retrying": "↻",
}
SHORT: Final = 60
"""Characters of a value in a line."""

WIDE: Final = 160
"""Characters of a line, where no terminal says how many it has."""

LEAST: Final = 20
"""Characters of what is said of a call, however deep in a tree it is."""


def span(milliseconds: int) -> str:
    """How long something took."""
    seconds = milliseconds / 1000
    if seconds < 1:
        return f"{milliseconds} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s")]
    first = next(index for index, (number, _) in enumerate(parts) if number)
    return " ".join(f"{number}{unit}" for number, unit in parts[first : first + 2])


def short(value: Any, width: int = SHORT) -> str:
    """A value in one line, cut."""
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return clean(text if len(text) <= width else f"{text[: width - 1]}…")


def clean(text: str) -> str:
    """Text from elsewhere without what a terminal would obey."""
    return text if text.isprintable() else "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"


def mark(call: Call) -> str:
    """One character for the state of a call."""
    return MARKS.get(call.state, "·")


def line(call: Call) -> str:
    """A call that has ended, in one line."""
    took = span((call.settled_at or call.created_at) - (call.started_at or call.created_at))
    outcome = _outcome(call)
    return f"{mark(call)} {call.title}  {call.id}  {call.state}  {took}" + (f"  {short(outcome)}" if outcome else "")


def rows(call: Call, width: int = WIDE, now: int | None = None) -> Iterator[tuple[str, Call, str, str]]:
    """A call and all that is below it, from the top: lead, call, title and what is said of it, cut to `width`.

    Args:
        now: milliseconds since the epoch; None leaves out how long what has not ended has taken.
    """
    stack = [(call, "", "")]
    while stack:
        top, lead, below = stack.pop()
        title = clean(top.title)
        yield lead, top, title, short(_said(top, now), max(LEAST, width - (len(lead) + len(title) + 4)))
        last = len(top.calls) - 1
        for index, child in reversed(list(enumerate(top.calls))):
            stack.append(
                (child, below + ("└─ " if index == last else "├─ "), below + ("   " if index == last else "│  "))
            )


def tree(call: Call) -> str:
    """A call and all that is below it."""
    return "\n".join(f"{lead}{mark(each)} {title}  {said}" for lead, each, title, said in rows(call))


def wait(wait: Wait) -> Iterator[str]:
    """One thing that is waited for, as deep as it is below the execution, and the command that would unblock it."""
    lead = "  " * (len(wait.path) - 1)
    first, *rest = wait.text.split("\n")
    yield f"{lead}{clean(first)}"
    for more in rest:  # marked, so that none passes for a line of ours
        yield f"{lead}  | {clean(more)}"
    if wait.command:
        yield f"{lead}    {clean(wait.command)}"


def _said(call: Call, now: int | None) -> str:
    end = call.settled_at or now
    parts = (call.id, call.state, "" if end is None else span(end - call.created_at), _outcome(call))
    return "  ".join(filter(None, parts))


def _outcome(call: Call) -> str:
    if call.error is not None:
        return str(call.error)
    if call.state == "succeeded":
        return "" if call.output is None else f"→ {short(call.output)}"
    if call.state == "running" and call.worker:
        return f"on {call.worker}"
    return f"group {call.group}" if call.state == "queued" else ""
