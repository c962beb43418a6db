"""Executions as files: written by `export`, read by `import`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer

from resonate.cli import output
from resonate.cli.home import Home, at_home
from resonate.errors import NotSupported, UsageError
from resonate.inspection import Refusal, drawing, exporting
from resonate.inspection.commands import command
from resonate.inspection.reading import group_of
from resonate.protocol import transfer
from resonate.protocol.records import FULFILLED, HALTED
from resonate.protocol.transfer import Tree

KEPT: Final = 7 * 86_400_000
"""Milliseconds for which what is finished is kept unless somebody says otherwise."""


@at_home
def export(
    home: Home,
    id: Annotated[str, typer.Argument(metavar="ID", help="Of the execution, or of any call in it")],
    file: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write it; default standard output")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if there is one")] = False,
) -> None:
    """Write a whole execution, with every call below it, as JSON: `resonate import` reads it."""
    if file is not None and file.exists() and not force:
        raise UsageError(f"{file} exists: choose another --output, or --force to replace it")
    with output.progress("promises read") as told:
        tree = exporting.export(home.send_all, home.now, id, told)
    text = transfer.dump(tree)
    if file is None:
        sys.stdout.write(text.decode())
        return
    file.write_bytes(text)
    shown = {"root": tree.root, "promises": len(tree.promises), "tasks": len(tree.tasks), "file": str(file)}
    if home.json:
        output.data(shown)
    else:
        output.say(f"{tree.root}: {_count(tree)} written to {file}")


@partial(at_home, make=True)
def bring(
    home: Home,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="As export has written it; - is standard input")],
) -> None:
    """Store an execution that `resonate export` has written: all of it, or nothing.

    Ids, states, values, tags and times stay as they are. What was open is offered to the workers of its groups here,
    wherever it is run already: cancel it there first, or stop its workers. Whatever exists is never overwritten.
    """
    if str(file) != "-" and (not file.exists() or file.is_dir()):  # a pipe, as <(...) makes one, is fine
        raise UsageError(f"there is no file {file}: write one with resonate export ID --output {file}")
    text = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    tree = transfer.load(text)
    try:
        with output.busy(f"storing {len(tree.promises):,} promises"):
            home.client._core.started().network.bring(tree)
    except NotSupported:
        raise
    except UsageError as error:
        raise Refusal(f"{error.mesg}: {command('purge', tree.root)}") from None
    open = [task for task in tree.tasks if task.state not in (FULFILLED, HALTED)]
    if home.json:
        output.data({"root": tree.root, "promises": len(tree.promises), "offered": len(open)})
        return
    output.say(f"{tree.root}: {_count(tree)} stored")
    if open:
        groups = sorted({group for promise in tree.promises if (group := group_of(promise)) is not None})
        waits = "waits" if len(open) == 1 else "wait"
        output.say(
            f"{len(open)} of its functions {waits} for workers of {', '.join(groups)}: {command('why', tree.root)}"
        )
    age = home.now() - (tree.promises[0].settled_at or home.now())
    if age > KEPT:
        output.say(
            f"it ended {drawing.span(age)} ago: programs and servers that keep what is finished for less than that "
            "(retention, 7 days unless set) delete it soon"
        )


def _count(tree: Tree) -> str:
    """How much there is of it."""
    return f"{output.counted(len(tree.promises), 'promise')}, {output.counted(len(tree.tasks), 'task')}"
