"""The commands and what they have in common."""

from __future__ import annotations

from importlib import metadata
from typing import Annotated, Final

import typer

from resonate.cli import executions, records
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
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Durable execution for Python: run servers and workers, see what happened, get it going again.

    Exit codes: 0 done, 1 failed, 2 the command line makes no sense, 3 there is nothing of that id, 4 the state of
    things does not allow it, 5 where state lives is out of reach.
    """


app.command(name="dev")(dev)
app.command(name="serve")(serve)
app.command(name="worker")(worker)
app.command(name="invoke")(executions.invoke)
app.command(name="list")(executions.list_executions)
app.command(name="show")(executions.show)
app.command(name="tree")(executions.tree)
app.command(name="why")(executions.why)
app.command(name="cancel")(executions.cancel)
app.command(name="resume")(executions.resume)
app.command(name="retry")(executions.retry)
app.command(name="purge")(executions.purge)
for name, group in (("promise", records.promises), ("task", records.tasks), ("schedule", records.schedules)):
    app.add_typer(group, name=f"{name}s")
    app.add_typer(group, name=name, hidden=True)
app.command(name="ui")(ui)
app.command(name="doctor")(doctor)
app.command(name="migrate")(migrate)

__all__ = ["app"]
