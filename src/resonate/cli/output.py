"""What is printed: for people in columns, for programs as JSON."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import typer

from resonate.cli.home import Home
from resonate.inspection import Call

_COLOURS: Final = {
    "succeeded": "green",
    "failed": "red",
    "timed out": "red",
    "cancelled": "magenta",
    "halted": "red",
    "running": "cyan",
    "waiting": "blue",
    "retrying": "yellow",
    "queued": "yellow",
}
_MARKS: Final = {
    "succeeded": "✓",
    "failed": "✗",
    "timed out": "✗",
    "cancelled": "✗",
    "halted": "!",
    "running": "▶",
    "retrying": "↻",
}
_STYLE: Final = re.compile("\x1b\\[[0-9;]*m")
SHORT: Final = 60
"""Characters of a value in a line."""


def data(value: Any) -> None:
    """Print JSON."""
    typer.echo(json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False))


def state(name: str, width: int = 0) -> str:
    """A state in its colour."""
    return typer.style(name.ljust(width), fg=_COLOURS.get(name))


def at(instant: int | None) -> str:
    """An instant, in local time."""
    if instant is None:
        return "-"
    try:
        return f"{datetime.fromtimestamp(instant / 1000):%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError, OSError):
        return "never"


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
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def unstyled(text: str) -> str:
    """Text without the colours that `state` gave it."""
    return _STYLE.sub("", text)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> None:
    """Print columns; the last one is cut where the terminal ends."""
    if not rows:
        typer.echo(empty)
        return
    lines = [list(heads), *([clean(unstyled(cell)) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    typer.echo("  ".join(head.ljust(width) for head, width in zip(heads, widths, strict=True)).rstrip())
    for row, plain in zip(rows, lines[1:], strict=True):
        cells = []
        for cell, bare, width in zip(row, plain, widths, strict=True):
            cells.append(bare.ljust(width) if unstyled(cell) == cell else cell + " " * (width - len(bare)))
        typer.echo("  ".join(cells).rstrip())


def tree(call: Call, now: int) -> None:
    """Print a call and all that is below it."""
    width = shutil.get_terminal_size((160, 24)).columns
    stack = [(call, "", "")]
    while stack:
        top, lead, below = stack.pop()
        mark = typer.style(_MARKS.get(top.state, "·"), fg=_COLOURS.get(top.state))
        took = span((top.settled_at or now) - top.created_at)
        known = f"{lead}{mark} {clean(top.title)}  "
        rest = f"{top.id}  {top.state}  {took}"
        outcome = _outcome(top)
        line = f"{rest}  {outcome}" if outcome else rest
        room = max(20, width - len(unstyled(known)))
        typer.echo(known + typer.style(short(line, room), dim=top.settled))
        last = len(top.calls) - 1
        for index, child in reversed(list(enumerate(top.calls))):
            stack.append(
                (child, below + ("└─ " if index == last else "├─ "), below + ("   " if index == last else "│  "))
            )


def _outcome(call: Call) -> str:
    if call.error is not None:
        return str(call.error)
    if call.state == "succeeded":
        return "" if call.output is None else f"→ {short(call.output)}"
    if call.state == "running" and call.worker:
        return f"on {call.worker}"
    return f"group {call.group}" if call.state == "queued" else ""


def details(call: Call, now: int) -> None:
    """Print all that is known of one call."""
    lines = [
        ("id", call.id),
        ("function", f"{call.title} ({call.kind})" if call.name else call.kind),
        ("state", state(call.state)),
        ("begun", f"{at(call.created_at)}, {span(max(0, now - call.created_at))} ago"),
        ("ended", f"{at(call.settled_at)}, after {span(call.settled_at - call.created_at)}" if call.settled_at else ""),
        ("deadline", at(call.deadline)),
        ("group", call.group or ""),
        ("worker", call.worker or ""),
        ("called at", call.place),
        ("input", _input(call.input)),
        ("output", "" if call.output is None else short(call.output, 2000)),
        ("halted", " ".join((call.reason or "").split())),
        ("error", "" if call.error is None else str(call.error)),
    ]
    for name, text in lines:
        if text:
            typer.echo(f"{name.ljust(10)}{text if unstyled(text) != text else clean(text)}")
    for name, text in sorted(call.tags.items()):
        if not name.startswith("resonate:"):
            typer.echo(f"{'tag'.ljust(10)}{clean(name)} = {clean(text)}")
    if call.error is not None and call.error.traceback:
        typer.echo()
        for line in call.error.traceback.rstrip().splitlines():
            typer.echo(clean(line))


def _input(value: Any) -> str:
    """Arguments as a call has them; anything else as JSON."""
    if value is None:
        return ""
    if not isinstance(value, dict) or not isinstance(value.get("args"), list):
        return short(value, 2000)
    named = value.get("kwargs") or {}
    parts = [json.dumps(each, ensure_ascii=False) for each in value["args"]]
    parts += [f"{name}={json.dumps(each, ensure_ascii=False)}" for name, each in named.items()]
    return short(", ".join(parts), 2000)


def watch(home: Home, draw: Callable[[], bool], seconds: float = 1.0) -> None:
    """Draw again and again, until it says that nothing more will change; in a pipe each picture follows the last."""
    while True:
        if sys.stdout.isatty():
            typer.echo("\x1b[2J\x1b[H", nl=False)
        more = draw()
        if not more:
            return
        time.sleep(seconds)
        if not sys.stdout.isatty():
            typer.echo(f"-- {datetime.now(UTC):%H:%M:%S} UTC")
