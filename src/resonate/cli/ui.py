"""`resonate ui URL`: the dashboard of a file, a database or a server."""

from __future__ import annotations

from typing import Annotated

import typer

from resonate.cli.home import Home, fail
from resonate.errors import ResonateError, UsageError


def ui(
    url: Annotated[str | None, typer.Argument(metavar="[URL]", help="Where state lives; default RESONATE_URL")] = None,
    token: Annotated[str | None, typer.Option("--token", "-T", help="For a server; default RESONATE_TOKEN")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="On this machine; 0 takes a free one")] = 8002,
    read_only: Annotated[bool, typer.Option("--read-only", help="Show, and change nothing")] = False,
) -> None:
    """Serve the dashboard to this machine: see what happened, why it waits, and get it going again."""
    import socket

    import uvicorn

    from resonate.ui import app

    try:
        home = Home(url, token, json=False)  # says what is wrong with the URL
        home.client.stop()
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(("127.0.0.1", port))
        except OSError as error:
            raise UsageError(f"port {port} is not free ({error}): choose another with --port") from None
        dashboard = app(home.url, token=token, read_only=read_only)
        typer.echo(f"the dashboard of {home.shown} is at http://127.0.0.1:{bound.getsockname()[1]}/", err=True)
        server = uvicorn.Server(uvicorn.Config(dashboard, log_level="warning", timeout_graceful_shutdown=2))
        server.run(sockets=[bound])
    except ResonateError as error:
        fail(error)
