"""The commands and what they have in common."""

from __future__ import annotations

from importlib import metadata
from typing import Annotated, Final

import typer

from resonate.cli.migrate import migrate
from resonate.cli.serve import dev, serve

DISTRIBUTION: Final = "resonate-py"

app: Final = typer.Typer(
    name="resonate",
    help="Durable execution for Python: run a server, upgrade a database.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"resonate {metadata.version(DISTRIBUTION)}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Durable execution for Python."""


app.command(name="serve")(serve)
app.command(name="dev")(dev)
app.command(name="migrate")(migrate)

__all__ = ["app"]
