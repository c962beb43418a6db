"""Transcripts of the command line: text files that hold commands and what they printed.

A line `$ resonate ...` is a command, what follows up to the next command is what it prints;
lines of the standard error begin with `! `, and an exit code other than 0 comes last as `[3]`.
`# wait ID STATE` waits until an execution is in that state. Other lines with `#` are comments.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

from typer.testing import CliRunner

from resonate.cli.app import app

DIRECTORY = Path(__file__).parent / "transcripts"

MASKS = (
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC|\b\d\d:\d\d:\d\d UTC", "TIME"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME"),
    (r"\b[\d.]+ (ms|s)\b|\b\d+[smhd]( \d+[smhd])?\b", "SPAN"),
    (r"\b\d{13}\b", "INSTANT"),
    (r'File "[^"]*/', 'File "'),
    (r"(?<=\.py:)\d+|(?<=, line )\d+", "LINE"),
)
"""What differs from run to run, and what stands for it."""


def names() -> list[str]:
    return sorted(path.stem for path in DIRECTORY.glob("*.txt"))


def path(name: str) -> Path:
    return DIRECTORY / f"{name}.txt"


def played(name: str, wait: Callable[[str, str], None], hide: dict[str, str]) -> str:
    """The transcript as it comes out now.

    Args:
        name: of the transcript.
        wait: waits until an execution is in a state.
        hide: texts of this home, and what stands for them.
    """
    lines: list[str] = []
    for line in path(name).read_text().splitlines():
        if line.startswith("# wait "):
            wait(*line.removeprefix("# wait ").split(maxsplit=1))
        if line.startswith("#"):
            lines.append(line)
        elif line.startswith("$ "):
            lines += [line, *_run(shlex.split(line)[2:], hide)]
    return "\n".join(lines) + "\n"


def _run(arguments: list[str], hide: dict[str, str]) -> Iterator[str]:
    done = CliRunner().invoke(app, arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    yield from masked(done.stdout, hide).splitlines()
    yield from (f"! {line}" for line in masked(done.stderr, hide).splitlines())
    if done.exit_code:
        yield f"[{done.exit_code}]"


def masked(text: str, hide: dict[str, str]) -> str:
    for shown, instead in hide.items():
        text = text.replace(shown, instead)
    for pattern, instead in MASKS:
        text = re.sub(pattern, instead, text)
    lines = [
        line for line in text.splitlines() if not re.fullmatch(r" +[~^]+", line)
    ]  # each Python underlines other parts
    return "\n".join(re.sub(r"(?<=\S)  +", "  ", line) for line in lines)
