"""Where state lives, for one command; and how each error ends the process."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Annotated, Any, Final, NoReturn
from urllib.parse import urlsplit

import typer

from resonate.errors import (
    CapacityError,
    OutcomeUnknown,
    ResonateError,
    ResonateStoreError,
    StorageUnavailable,
    StorageUnusable,
    UsageError,
)
from resonate.inspection import Inspector, Refusal, Steering
from resonate.protocol.requests import Request, Response
from resonate.resonate import Resonate

FAILED: Final = 1
"""Something else."""
MISUSED: Final = 2
"""The command line, or what it asks for, makes no sense; nothing was changed."""
UNKNOWN: Final = 3
"""There is nothing of that id."""
REFUSED: Final = 4
"""It exists, and its state does not allow that; nothing was changed."""
AWAY: Final = 5
"""Where state lives cannot be reached or used."""

GROUP: Final = "resonate-cli"
"""Of our own processes: nothing is ever sent to it."""


class Home:
    """Where state lives: a file, a database, or a server.

    Args:
        url: of it; None takes RESONATE_URL.
        token: for a server; None takes RESONATE_TOKEN.
        json: whether output is for programs.

    Raises:
        UsageError: no home is named, or it is a file that does not exist.
    """

    def __init__(self, url: str | None, token: str | None, json: bool) -> None:
        self.json = json
        self.token = token
        where = url or os.environ.get("RESONATE_URL")
        if not where:
            raise UsageError(
                "where does state live? Name it with --url or RESONATE_URL: sqlite:///app.db, "
                "postgresql://USER@HOST/DATABASE or http://HOST:8001"
            )
        self.client = Resonate(url=where, token=token, group=GROUP)
        file = self.client._core.settings.file
        if file is not None and not os.path.exists(file.path):
            raise UsageError(f"there is no file {file.path}; programs make it when they start")
        self.url = where

    @property
    def shown(self) -> str:
        """The URL without user and password."""
        parts = urlsplit(self.url)
        return self.url.replace(parts.netloc, parts.netloc.rpartition("@")[2], 1) if parts.netloc else self.url

    @property
    def inspector(self) -> Inspector:
        """What answers questions about executions."""
        return self.client._core.inspector()

    @property
    def steering(self) -> Steering:
        """What gets executions going again."""
        network = self.client._core.started().network
        return Steering(network.send, network.now)

    def now(self) -> int:
        """Milliseconds since the epoch, as they have it there."""
        return self.client._core.started().network.now()

    def send(self, *requests: Request) -> list[Response]:
        """Carry out requests of the protocol."""
        return self.client._core.started().network.send(requests)

    def ask(self, request: Request) -> Response:
        """Carry out one request; what is refused ends the command.

        Raises:
            ResonateStoreError: 100.404, there is nothing of that id.
            Refusal: it was refused.
        """
        (answer,) = self.send(request)
        if answer.status == 404:
            raise ResonateStoreError(answer.error or "not found", 40400)
        if answer.status >= 300:
            raise Refusal(answer.error or f"refused with status {answer.status}")
        return answer


def ends(error: Exception) -> int:
    """The exit code of a command that ended with `error`."""
    if isinstance(error, Refusal):
        return REFUSED
    if isinstance(error, StorageUnavailable | StorageUnusable | OutcomeUnknown):
        return AWAY
    if isinstance(error, ResonateStoreError):
        return UNKNOWN if round(error.code, 3) == 100.404 else FAILED
    if isinstance(error, UsageError | ValueError | TypeError) and not isinstance(error, CapacityError):
        return MISUSED
    return FAILED


def fail(error: Exception) -> NoReturn:
    """Say what happened, and end."""
    text = error.mesg if isinstance(error, ResonateError) else str(error)
    typer.echo(f"resonate: {text}", err=True)
    raise typer.Exit(ends(error))


_URL = typer.Option("--url", "-S", "--server", help="Where state lives; default RESONATE_URL", show_default=False)
_TOKEN = typer.Option("--token", "-T", help="For a server; default RESONATE_TOKEN", show_default=False)
_JSON = typer.Option("--json", help="Print JSON, for programs")
_OPTIONS: Final[Sequence[tuple[str, Any, Any]]] = (
    ("url", Annotated[str | None, _URL], None),
    ("token", Annotated[str | None, _TOKEN], None),
    ("json_output", Annotated[bool, _JSON], False),
)


def at_home(function: Callable[..., None]) -> Callable[..., None]:
    """A command whose first parameter is its `Home`, from options that all such commands have."""
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

    @wraps(function)
    def command(url: str | None, token: str | None, json_output: bool, **given: Any) -> None:
        try:
            home = Home(url, token, json_output)
            try:
                function(home, **given)
            finally:
                home.client.stop()
        except (ResonateError, ValueError, TypeError, OSError) as error:
            fail(error)

    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, annotation, default in _OPTIONS
    ]
    keyword = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    command.__signature__ = inspect.Signature([*keyword, *shared])  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in [*keyword, *shared]}
    del command.__wrapped__
    return command
