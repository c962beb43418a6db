"""The commands as a page: `python -m resonate.cli.describing > docs/cli.md`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from os import PathLike
from typing import Any

import typer

from resonate.cli.app import app
from resonate.inspection import Call, Wait

HEAD = """# The command `resonate`

It comes with the extra `server`: `python -m pip install 'resonate-py[server]'`. Commands that ask where state lives
take `--url` (also `--server`, `-S`) or the variable `RESONATE_URL`: `sqlite:///app.db`,
`postgresql://USER@HOST/DATABASE` or `http://HOST:8001`; with `--token` (`-T`) or `RESONATE_TOKEN` for a server. With
`--json` they print JSON. Durations are numbers with units: `500ms`, `90s`, `1h30m`, `7d`.
A file or tables that are not there are made by `worker`, `serve`, `import` and `migrate`, tables by `invoke` too.
Without a URL a server at `http://localhost:8001` is asked. `resonate --install-completion` has the shell complete
names.

| exit code | |
|---|---|
| 0 | done |
| 1 | failed; `doctor`: something needs to be done; `worker`: its module cannot be imported |
| 2 | the command line makes no sense, or asks for what cannot be; nothing was changed |
| 3 | there is nothing of that id |
| 4 | it exists, and its state does not allow that; nothing was changed |
| 5 | where state lives is out of reach, or cannot be used |
| 130, 141 | Ctrl-C ended it; whoever read its output has gone, as with `head -1` |

The flags of `serve` and `dev` are in [configuration.md](configuration.md).
"""

JSON = """## What `--json` prints

Names of fields stay; new ones may be added. All instants are milliseconds since the epoch. `show` and `tree` print a
call, `list` an object with `items` (calls) and, if there is more, `cursor` for the next page; `why` prints a list of
waits. What is not known or empty is left out. `invoke`, `cancel`, `resume` and `retry` print the call as it is
afterwards, `purge` the ids that were `deleted`, `doctor` what it looked at (`good`, `text`, `remedy`). `promises`,
`tasks` and `schedules` print the records of protocol 2026-04-01 with or without it; `schedules list`, `pause` and
`resume` add `paused`.
"""

WITHOUT_FLAGS = ("serve", "dev")
"""Commands whose flags have a page of their own."""

_EVERYWHERE = ("--url", "--token", "--json", "--help")


def page() -> str:
    """The whole page."""
    group = typer.main.get_command(app)
    return "\n".join([HEAD, *_commands(group, "resonate"), JSON, *_fields(Call), *_fields(Wait)])


def _fields(shown: type) -> Iterator[str]:
    """The fields of a class as its docstring has them."""
    text = inspect.cleandoc(shown.__doc__ or "").partition("Attributes:\n")[2]
    rows = re.findall(r"^    ([\w, ]+): (.*(?:\n        .*)*)", text, re.M)
    yield f"### A {shown.__name__.lower()}\n\n| field | |\n|---|---|"
    for names, meaning in rows:
        yield f"| {', '.join(f'`{name}`' for name in names.split(', '))} | {' '.join(meaning.split())} |"
    yield ""


def _commands(group: Any, path: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            yield f"## {path} {name}\n\n{command.help}\n"
            yield from _commands(command, f"{path} {name}")
        else:
            yield from _one(command, f"{path} {name}")


def _one(command: Any, path: str) -> Iterator[str]:
    arguments = [parameter.metavar or parameter.name.upper() for parameter in command.params if _is_argument(parameter)]
    yield f"### {' '.join([path, *arguments])}\n\n{_text(command)}\n"
    examples = (command.epilog or "").partition("Examples:\n")[2]
    if examples:
        lines = "\n".join(line.strip() for line in examples.splitlines())
        yield f"```console\n{lines}\n```\n"
    flags = [found for found in map(_flag, command.params) if found is not None]
    if flags and command.name not in WITHOUT_FLAGS:
        yield "\n".join(["| flag | default | |", "|---|---|---|", *flags]) + "\n"


def _text(command: Any) -> str:
    return " ".join((command.help or "").split())


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _flag(parameter: Any) -> str | None:
    if _is_argument(parameter) or parameter.opts[0] in _EVERYWHERE:
        return None
    default = parameter.default
    hidden = default in (None, False, "", ()) or callable(default) or isinstance(default, PathLike)  # of this machine
    shown = "" if hidden else f"`{default}`"
    names = ", ".join(f"`{name}`" for name in parameter.opts)
    required = " (required)" if parameter.required else ""
    return f"| {names} | {shown} | {getattr(parameter, 'help', None) or ''}{required} |"


if __name__ == "__main__":
    print(page(), end="")
