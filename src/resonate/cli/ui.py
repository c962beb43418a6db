"""`resonate ui`: the dashboard of a file, a database or a server, by itself."""

from __future__ import annotations

import socket
from typing import Annotated

import typer
import uvicorn

from resonate.cli.home import Home, at_home
from resonate.errors import UsageError
from resonate.ui import Dashboard, app


@at_home
def ui(
    home: Home,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of this machine; 0 takes a free one")] = 8002,
    read_only: Annotated[bool, typer.Option("--read-only", help="Show, and change nothing")] = False,
) -> None:
    """Serve the dashboard of a file, a database or a server on this machine."""
    bound = _bind(port)
    page: Dashboard = app(home.url, token=home.token, read_only=read_only)
    typer.echo(f"the dashboard of {home.shown} is at http://127.0.0.1:{bound.getsockname()[1]}/", err=True)
    try:
        config = uvicorn.Config(page, log_level="warning", timeout_graceful_shutdown=2)
        uvicorn.Server(config).run(sockets=[bound])
    finally:
        page.close()


def _bind(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(("127.0.0.1", port))
    except OSError as error:
        bound.close()
        raise UsageError(
            f"port {port} cannot be had ({error}): choose another with --port, 0 takes a free one"
        ) from None
    bound.listen()  # whoever reads where it is may come at once
    return bound


__all__ = ["ui"]
