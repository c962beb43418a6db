"""`resonate ui`: the dashboard of a file, a database or a server, by itself."""

from __future__ import annotations

import importlib
import inspect
import os
import socket
import sys
from typing import Annotated, Any, Final

import typer
import uvicorn

from resonate.cli.home import Home, at_home
from resonate.encoders import Encoder
from resonate.errors import UsageError
from resonate.ui import Dashboard, app


@at_home
def _at(
    home: Home,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of this machine; 0 takes a free one")] = 8002,
    read_only: Annotated[bool, typer.Option("--read-only", help="Show, and change nothing")] = False,
    encoder: Annotated[
        str | None, typer.Option(metavar="MODULE:OBJECT", help="The encoder that programs store their values with")
    ] = None,
    decoder: Annotated[str | None, typer.Option(metavar="URL", help="Asked by the page to decode values")] = None,
) -> None:
    page: Dashboard = app(
        home.url,
        token=home.token,
        read_only=read_only,
        encoder=None if encoder is None else _loaded(encoder),
        decoder=decoder,
        hosts=(),
    )
    try:
        bound = _bind(port)
        typer.echo(f"the dashboard of {home.shown} is at http://127.0.0.1:{bound.getsockname()[1]}/", err=True)
        config = uvicorn.Config(page, log_level="warning", timeout_graceful_shutdown=2)
        uvicorn.Server(config).run(sockets=[bound])
    finally:
        page.close()


def ui(place: str | None, **given: Any) -> None:
    """Serve the dashboard of a file, a database or a server on this machine."""
    _at(**given | ({} if place is None else {"url": place}))


_PLACE: Final = Annotated[str | None, typer.Argument(metavar="URL", help="Where state lives; or --url")]
_FIRST: Final = inspect.Parameter("place", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_PLACE)
ui.__signature__ = inspect.Signature([_FIRST, *inspect.signature(_at).parameters.values()])  # type: ignore[attr-defined]
ui.__annotations__ = {"place": _PLACE, **_at.__annotations__}


def _loaded(where: str) -> Any:
    """The object that MODULE:OBJECT names, imported from the working directory.

    Raises:
        UsageError: there is none, or it is no encoder.
    """
    module, _, name = where.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, ValueError, AttributeError) as error:
        raise UsageError(f"there is no encoder {where}: {error}") from error
    finally:
        sys.path.remove(os.getcwd())
    if not isinstance(found, Encoder):
        raise UsageError(f"{where} is a {type(found).__name__}, and no encoder: it has to have encode and decode")
    return found


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
