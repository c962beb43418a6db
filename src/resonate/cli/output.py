"""What is printed: for people in columns, for programs as JSON."""

from __future__ import annotations

import io
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

import msgspec
import typer

from resonate.inspection import Call, drawing
from resonate.inspection.drawing import clean, short, span

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
NARROW: Final = 6
"""Characters of a column at least, however narrow the terminal."""

LONG: Final = 60
"""Characters of the first column at most; longer texts run over in their rows."""

INTERRUPTED: Final = 130
"""Exit code of a command that Ctrl-C ended, as shells have it."""

SOON: Final = 0.5
"""Seconds after which long work shows how far it is."""


def data(value: Any) -> None:
    """Print JSON."""
    text = json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False)
    typer.echo("".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text))


def say(text: str, *, err: bool = False) -> None:
    """Print lines that may hold text from elsewhere, such as ids."""
    typer.echo("\n".join(map(clean, text.split("\n"))), err=err)


class Coloured(str):
    """Text of our own with the codes that colour it, which goes to the terminal as it is."""

    __slots__ = ("bare",)
    bare: str


def state(name: str) -> Coloured:
    """A state in its colour."""
    coloured = Coloured(typer.style(clean(name), fg=_COLOURS.get(name)))
    coloured.bare = clean(name)
    return coloured


def local_zone() -> tzinfo:
    """Of this machine, or what TZ says."""
    return datetime.now().astimezone().tzinfo or UTC


def at(instant: int | None) -> str:
    """An instant, in local time."""
    if instant is None:
        return "-"
    try:
        return f"{datetime.fromtimestamp(instant / 1000):%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError, OSError):
        return "never"


def counted(count: int, noun: str) -> str:
    """A number with its noun: 1 promise, 2,000 promises."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], empty: str, cut: Sequence[str] = ()) -> None:
    """Print columns; in a terminal that is too narrow some of them are cut, or the last ones left out.

    Ids come first and are never cut, so that they can be copied: one longer than most runs over, in its row alone.

    Args:
        cut: heads of the columns that still say something when they are cut.
    """
    if not rows:
        typer.echo(empty)
        return
    lines = [list(heads), *([cell.bare if isinstance(cell, Coloured) else clean(cell) for cell in row] for row in rows)]
    widths = _fitting(
        [[len(cell) for cell in column] for column in zip(*lines, strict=True)], list(map(heads.index, cut))
    )
    for row, plain in zip([heads, *rows], lines, strict=True):
        cells: list[str] = []
        for cell, bare, width in zip(row, plain, widths, strict=False):  # those that are left out come last
            text = bare if len(bare) <= width or not cells else f"{bare[: width - 1]}…"
            shown = cell if isinstance(cell, Coloured) and text == bare else text
            cells.append(shown + " " * (width - len(text)))
        typer.echo("  ".join(cells).rstrip())


def _fitting(lengths: list[list[int]], cut: list[int]) -> list[int]:
    """The widths of as many columns as there is room for, from the lengths of their texts."""
    room = shutil.get_terminal_size((160, 24)).columns if sys.stdout.isatty() else sys.maxsize
    first = [length for length in lengths[0] if length <= min(LONG, room // 2)]
    wanted = [max(first, default=0), *map(max, lengths[1:])]
    while True:
        widths, over = wanted.copy(), sum(wanted) + 2 * (len(wanted) - 1) - room
        while over > 0 and (wide := [column for column in cut if column < len(widths) and widths[column] > NARROW]):
            widths[max(wide, key=widths.__getitem__)] -= 1
            over -= 1
        if over <= 0 or len(wanted) <= 2:
            return widths
        wanted.pop()


def tree(call: Call, now: int) -> None:
    """Print a call and all that is below it."""
    width = shutil.get_terminal_size((drawing.WIDE, 24)).columns
    for lead, top, title, said in drawing.rows(call, width, now):
        mark = typer.style(drawing.mark(top), fg=_COLOURS.get(top.state))
        typer.echo(f"{lead}{mark} {title}  {typer.style(said, dim=top.settled)}")


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
        *_reason(call),
        ("error", "" if call.error is None else str(call.error)),
    ]
    for name, text in lines:
        if text:
            typer.echo(f"{name.ljust(10)}{text if isinstance(text, Coloured) else clean(text)}")
    for name, text in sorted(call.tags.items()):
        if not name.startswith("resonate:"):
            typer.echo(f"{'tag'.ljust(10)}{clean(name)} = {clean(text)}")
    if call.error is not None and call.error.traceback:
        typer.echo()
        for line in call.error.traceback.rstrip().splitlines():
            typer.echo(clean(line))


def _reason(call: Call) -> list[tuple[str, str]]:
    """Why it is halted, in its own lines."""
    lines = (call.reason or "").strip().splitlines()
    return [("" if number else "halted", line) for number, line in enumerate(lines)]


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


@contextmanager
def progress(what: str) -> Iterator[Callable[[int], None]]:
    """Counts on standard error, in place, while long work goes on; on a terminal only, and not of what is short.

    Args:
        what: is counted, such as "promises read".
    """
    begun, shown = time.monotonic(), 0

    def tell(count: int) -> None:
        nonlocal shown
        if sys.stderr.isatty() and time.monotonic() - begun > SOON:
            text = f"{count:,} {what}"
            sys.stderr.write(f"\r{text.ljust(shown)}")
            sys.stderr.flush()
            shown = len(text)

    try:
        yield tell
    finally:
        if shown:
            sys.stderr.write("\r" + " " * shown + "\r")
            sys.stderr.flush()


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Says on standard error, on a terminal only, what goes on for a while."""
    if not sys.stderr.isatty():
        yield
        return
    sys.stderr.write(f"{what} ...")
    sys.stderr.flush()
    try:
        yield
    finally:
        sys.stderr.write("\r" + " " * (len(what) + 4) + "\r")
        sys.stderr.flush()


def watch(draw: Callable[[], bool], on: bool, seconds: float = 1.0) -> None:
    """Draw once, or again and again until nothing more will change or Ctrl-C ends it.

    On a terminal each picture is written over the last one; in a pipe it follows it.

    Args:
        draw: prints, and says whether more will change.
        on: whether to draw again at all.
        seconds: between two pictures.
    """
    if not on:
        draw()
        return
    first = True
    try:
        while True:
            more, picture = _picture(draw)
            sys.stdout.write(_over(picture, first, more) if sys.stdout.isatty() else picture)
            sys.stdout.flush()
            if not more:
                return
            first = False
            time.sleep(seconds)
            if not sys.stdout.isatty():
                typer.echo(f"-- {datetime.now(UTC):%H:%M:%S} UTC")
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


class _Canvas(io.StringIO):
    """Takes what is printed as the terminal would, colours included if it is one."""

    def __init__(self) -> None:
        super().__init__()
        self._terminal = sys.stdout.isatty()

    def isatty(self) -> bool:
        return self._terminal


def _picture(draw: Callable[[], bool]) -> tuple[bool, str]:
    """What `draw` says and prints."""
    written = _Canvas()
    with redirect_stdout(written):
        more = draw()
    return more, written.getvalue()


def _over(picture: str, first: bool, more: bool) -> str:
    """A picture that takes the place of the one before it without a moment in which nothing is there."""
    lines = picture.splitlines()
    room = max(2, shutil.get_terminal_size((160, 24)).lines - 1)
    if more and len(lines) > room:
        lines = [*lines[: room - 1], f"... {len(lines) - room + 1} more lines"]
    begin = "\x1b[2J\x1b[H" if first else "\x1b[H"
    return begin + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J"
