"""`resonate ui`: the dashboard of a file, a database or a server, by itself."""

from __future__ import annotations

from typing import Annotated

import typer
import uvicorn

from resonate.cli.home import Home, at_home
from resonate.ui import Dashboard, app


@at_home
def ui(
    home: Home,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of this machine")] = 8002,
    read_only: Annotated[bool, typer.Option("--read-only", help="Show, and change nothing")] = False,
) -> None:
    """Serve the dashboard of a file, a database or a server on this machine."""
    page: Dashboard = app(home.url, token=home.token, read_only=read_only)
    typer.echo(f"the dashboard of {home.shown} is at http://127.0.0.1:{port}/", err=True)
    try:
        uvicorn.run(page, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=2)
    finally:
        page.close()


__all__ = ["ui"]
