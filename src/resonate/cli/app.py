"""The commands and what they have in common."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import metadata
from typing import Annotated, Final

import typer

from resonate.cli import executions, moving, records
from resonate.cli.conformance import conformance
from resonate.cli.doctor import doctor
from resonate.cli.migrate import migrate
from resonate.cli.serve import dev, serve
from resonate.cli.ui import ui
from resonate.cli.worker import worker

DISTRIBUTION: Final = "resonate-py"

app: Final = typer.Typer(
    name="resonate",
    help="Durable execution for Python: run servers and workers, see what happened, get it going again.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"resonate {metadata.version(DISTRIBUTION)}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Durable execution for Python: run servers and workers, see what happened, get it going again.

    Exit codes: 0 done, 1 failed, 2 the command line makes no sense, 3 there is nothing of that id, 4 the state of
    things does not allow it, 5 where state lives is out of reach.
    """
    if os.environ.get("NO_COLOR"):
        context.color = False


def _add(name: str, short: str, command: Callable[..., None], *examples: str) -> None:
    shown = "\n".join(f"  $ resonate {example}" for example in examples)
    app.command(name=name, short_help=short, epilog=f"\b\nExamples:\n{shown}" if examples else None)(command)


_add("dev", "Run a server for development, state in memory", dev, "dev", "dev --server-port 9000 --debug")
_add("serve", "Run a server, state in a file or PostgreSQL", serve, "serve", "serve --url postgresql://app@db/shop")
_add(
    "worker",
    "Run the functions of a module until told to end",
    worker,
    "worker shop --url sqlite:///app.db",
    "worker shop.py:client --group orders --concurrency 50 --reload",
    "worker shop --health-port 8080 --drain 60",
)
_add(
    "invoke",
    "Begin an execution",
    executions.invoke,
    "invoke charge 42",
    """invoke checkout '{"card": "visa"}' kettle --id order-7 --timeout 2d --follow""",
    "invoke order-7 --func checkout --arg kettle --target poll://any@orders",
)
_add(
    "list",
    "List executions, the newest first",
    executions.list_executions,
    "list --state failed --since 2026-11-23 --function checkout",
    "list --tag customer=7 --json",
    "list --state waiting --watch",
)
_add(
    "show", "Show one execution or call: input, output, error", executions.show, "show order-7", "show order-7:2 --json"
)
_add("tree", "Draw an execution with all its calls", executions.tree, "tree order-7 --watch")
_add("why", "Say what an execution waits for, and what unblocks it", executions.why, "why order-7")
_add("cancel", "Cancel an execution and what it waits for", executions.cancel, "cancel order-7")
_add("resume", "Have a halted execution go on", executions.resume, "resume order-7")
_add("retry", "Begin the next attempt now", executions.retry, "retry order-7")
_add(
    "export",
    "Write an execution, with every call, as a file",
    moving.export,
    "export order-7 --output order-7.json",
    "export order-7 --url sqlite:///app.db | resonate import - --url http://localhost:8001",
)
_add("import", "Store an execution that was exported", moving.bring, "import order-7.json --url sqlite:///copy.db")
_add("purge", "Delete finished executions", executions.purge, "purge order-7", "purge --older-than 30d")
for name, group in (("promise", records.promises), ("task", records.tasks), ("schedule", records.schedules)):
    app.add_typer(group, name=f"{name}s")
    app.add_typer(group, name=name, hidden=True)
_add("ui", "Serve the dashboard of a file, database or server", ui, "ui --url sqlite:///app.db --port 8002")
_add("doctor", "Look for what keeps executions from going on", doctor, "doctor --url sqlite:///app.db")
_add("migrate", "Make or upgrade the tables in PostgreSQL", migrate, "migrate --url postgresql://owner@db/shop")
_add(
    "conformance",
    "Compare a server's answers with recorded ones",
    conformance,
    "conformance http://localhost:8100",
    "conformance http://localhost:8100 --topic tasks --max 1",
)

__all__ = ["app"]
