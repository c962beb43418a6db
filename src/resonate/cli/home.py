"""Where state lives, for one command; and how each error ends the process."""

from __future__ import annotations

import inspect
import logging
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from typing import Annotated, Any, Final, NoReturn
from urllib.parse import urlsplit

import typer

from resonate.cli.output import say
from resonate.errors import (
    CapacityError,
    OutcomeUnknown,
    ResonateError,
    ResonateStoreError,
    StorageUnavailable,
    StorageUnusable,
    UsageError,
)
from resonate.inspection import Inspector, Refusal, Scheduling, Steering
from resonate.protocol import shapes
from resonate.protocol.requests import Request, Response
from resonate.resonate import Resonate
from resonate.storage.sqlite.location import absent
from resonate.urls import shown

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

_UNEXPLAINED: Final = {300: "not suspended: something that it awaits is settled already"}

GROUP: Final = "resonate-cli"
"""Of our own processes: nothing is ever sent to it."""


HERE: Final = "http://localhost:8001"
"""Who is asked where nothing else is named, as the official command does it."""


class Home:
    """Where state lives: a file, a database, or a server.

    Args:
        url: of it; None takes RESONATE_URL, and without that a server of this machine.
        token: for a server; None takes RESONATE_TOKEN.
        json: whether output is for programs.
        make: a file that does not exist is made, and so are tables in a database.
        tables: tables in a database are.

    Raises:
        UsageError: no home is named, or it is a file that does not exist.
    """

    def __init__(
        self, url: str | None, token: str | None, json: bool, make: bool = False, tables: bool = False
    ) -> None:
        self.json = json
        self.token = token
        where = url or os.environ.get("RESONATE_URL")
        if not where:
            where = HERE
            if not listens(HERE):
                raise UsageError(
                    "where does state live? Name it with --url or RESONATE_URL: sqlite:///app.db, "
                    f"postgresql://USER@HOST/DATABASE or http://HOST:8001. (There is no server at {HERE}, which would "
                    "have been asked: resonate dev starts one)"
                )
        self.log = _Once()
        logging.getLogger("resonate").addHandler(self.log)
        self.client = Resonate(url=where, token=token, group=GROUP)
        file = self.client._core.settings.file
        if file is not None and not make and not os.path.exists(file.path):
            raise absent(file.path)
        self.client._core.settings = replace(self.client._core.settings, make=make or tables)
        self.url = where

    @property
    def shown(self) -> str:
        """The URL without user and password."""
        return shown(self.url)

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

    @property
    def scheduling(self) -> Scheduling:
        """What pauses schedules and runs them."""
        return Scheduling(self.send_all, self.now)

    def send(self, *requests: Request) -> list[Response]:
        """Carry out requests of the protocol."""
        return self.send_all(requests)

    def send_all(self, requests: Sequence[Request]) -> list[Response]:
        """`send`, as others expect it."""
        return self.client._core.started().network.send(requests)

    def ask(self, request: Request) -> Response:
        """Carry out one request; what is refused ends the command.

        Raises:
            ResonateStoreError: 100.404, there is nothing of that id.
            Refusal: it was refused.
        """
        (answer,) = self.send(request)
        if answer.status == 404:
            kind, _ = shapes.WRITERS[type(request)]
            id = getattr(request, "id", None) or getattr(request, "awaited", "")
            raise ResonateStoreError(f"The specified {kind.partition('.')[0]} was not found: {id}", 40400)
        if answer.status >= 300:
            raise Refusal(answer.error or _UNEXPLAINED.get(answer.status, f"refused with status {answer.status}"))
        return answer


class _Once(logging.Handler):
    """Says the first warning, such as that a server is tried again; the error that may follow says the rest."""

    said = False

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING and not self.said:
            self.said = True
            say(record.getMessage(), err=True)


def listens(url: str) -> bool:
    """Whether anybody listens there."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), 1).close()
    except OSError:
        return False
    return True


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


_THERE_IS: Final = {
    "promise": ". What there is: resonate list, or resonate promises search",
    "schedule": ". What there is: resonate schedules list",
    "task": ". What there is: resonate tasks search",
}
"""Where to look for the id that was meant."""


def fail(error: Exception, who: str = "resonate") -> NoReturn:
    """Say what happened, and end."""
    text = error.mesg if isinstance(error, ResonateError) else str(error)
    if ends(error) == UNKNOWN:
        noun = text.removeprefix("The specified ").partition(" ")[0]
        text += _THERE_IS.get(noun, _THERE_IS["promise"])
    say(f"{who}: {text}", err=True)
    raise typer.Exit(ends(error))


_URL = typer.Option("--url", "-S", "--server", help="Where state lives; default RESONATE_URL", show_default=False)
_TOKEN = typer.Option("--token", "-T", help="For a server; default RESONATE_TOKEN", show_default=False)
_JSON = typer.Option("--json", help="Print JSON, for programs")
_OPTIONS: Final[Sequence[tuple[str, Any, Any]]] = (
    ("url", Annotated[str | None, _URL], None),
    ("token", Annotated[str | None, _TOKEN], None),
    ("json_output", Annotated[bool, _JSON], False),
)


def at_home(function: Callable[..., None], make: bool = False, tables: bool = False) -> Callable[..., None]:
    """A command whose first parameter is its `Home`, from options that all such commands have."""
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

    @wraps(function)
    def command(url: str | None, token: str | None, json_output: bool, **given: Any) -> None:
        try:
            home = Home(url, token, json_output, make, tables)
            try:
                function(home, **given)
            finally:
                home.client.stop()
                logging.getLogger("resonate").removeHandler(home.log)
        except BrokenPipeError:  # whoever reads what is printed has gone; `main` knows how to end then
            raise
        except (ResonateError, ValueError, TypeError, OSError) as error:
            fail(error)
        except RecursionError:
            fail(UsageError("what was given is nested too deep"))

    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, annotation, default in _OPTIONS
    ]
    keyword = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    command.__signature__ = inspect.Signature([*keyword, *shared])  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in [*keyword, *shared]}
    del command.__wrapped__
    return command
