"""`resonate serve` and `resonate dev`: a server, from its settings."""

from __future__ import annotations

import inspect
import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from resonate.cli import logs
from resonate.cli.home import fail
from resonate.errors import ResonateError
from resonate.server.config import TABLE, Config, Key, resolve

DEV: Final[Mapping[str, Any]] = {"url": "memory", "observability.metrics_port": 0}
"""What `resonate dev` does unless told otherwise."""

_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_LOG: Final = logging.getLogger("resonate.server")


def _command(name: str, text: str, defaults: Mapping[str, Any]) -> Callable[..., None]:
    """A command with one option for each setting that may stand on a command line."""

    def command(**given: Any) -> None:
        file, printing = given.pop("config"), given.pop("print_config")
        flags = {key.path: given[_name(key)] for key in _ON_COMMAND_LINE}
        try:
            config = resolve(flags, os.environ, file, defaults=defaults)
            if printing:
                print_config(config)
                return
            run(config)
        except BrokenPipeError:
            raise
        except (ResonateError, ValueError, OSError) as error:
            fail(error, f"resonate {name}")

    options = [_parameter(key, defaults) for key in _ON_COMMAND_LINE]
    options.append(
        inspect.Parameter(
            "config",
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                str | None, typer.Option("--config", help="The file of settings; default resonate.toml if there is one")
            ],
        )
    )
    options.append(
        inspect.Parameter(
            "print_config",
            inspect.Parameter.KEYWORD_ONLY,
            default=False,
            annotation=Annotated[
                bool, typer.Option("--print-config", help="Print each setting and where it comes from, and exit")
            ],
        )
    )
    command.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    command.__annotations__ = {option.name: option.annotation for option in options}
    command.__name__ = name
    command.__doc__ = text
    return command


_TYPES: Final[dict[str, Any]] = {
    "text": str | None,
    "integer": int | None,
    "switch": bool | None,
    "list": list[str] | None,
}
_ON_COMMAND_LINE: Final = tuple(key for key in TABLE if key.kind != "entries")


def _name(key: Key) -> str:
    return key.path.replace(".", "_")


def _parameter(key: Key, defaults: Mapping[str, Any]) -> inspect.Parameter:
    default = defaults.get(key.path, key.default)
    shown = ""
    if default not in (None, ()):
        shown = f"; default {str(default).lower() if isinstance(default, bool) else default}"
    names = [f"{key.option}/--no-{key.option[2:]}"] if key.kind == "switch" else [key.option]
    option = typer.Option(*names, help=f"{key.help[0].upper()}{key.help[1:]}{shown}", show_default=False)
    return inspect.Parameter(
        _name(key), inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[_TYPES[key.kind], option]
    )


def print_config(config: Config) -> None:
    """Print every setting, its value (secrets masked), and where it came from."""
    table = Table("setting", "value", "from", box=None, pad_edge=False)
    for setting in config.settings.values():
        table.add_row(setting.key.path, setting.shown, setting.source)
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def run(config: Config) -> None:
    """Serve until SIGINT or SIGTERM, then drain.

    Raises:
        ResonateError: the server cannot be started; says why and what to do.
    """
    from resonate.server.build import open_server

    logs.set_up(_LEVELS[config["level"]], config["log_format"])
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, _LEVELS[config["level"]]))
    with open_server(config) as (server, where):
        _warn(config)
        page = "" if server.app.dashboard is None else f"; the dashboard is at {server.url}/ui/"
        server.run(lambda: _LOG.info("ready at %s, state in %s%s", server.url, where, page))


def _warn(config: Config) -> None:
    loopback = config["server.bind"] in ("127.0.0.1", "::1", "localhost")
    if not loopback and not server_has_auth(config):
        _LOG.warning(
            "everybody who reaches %s may do everything: there is no authentication (auth.publickey, auth.tokens or "
            "auth.users)",
            config["server.bind"],
        )
    if "*" in config["server.cors.allow_origins"] and not server_has_auth(config):
        _LOG.warning("every page that a browser of this machine or network opens may do everything: CORS allows any")
    if config["debug"]:
        _LOG.warning("debug is on: whoever may send requests may stop time and erase everything")


def server_has_auth(config: Config) -> bool:
    """Whether anything is configured to check who asks."""
    key = config["auth.publickey"]
    checked = key is not None and key.strip().lower() != "none"
    return bool(checked or config["auth.tokens"] or config["auth.users"])


serve: Final = _command(
    "serve",
    "Run a server: protocol 2026-04-01 over HTTP, state in a SQLite file or PostgreSQL.\n\n"
    "Settings come from flags, the environment (RESONATE_SECTION__KEY), resonate.toml and defaults, in this order.",
    {},
)
dev: Final = _command("dev", "Run a server for development: like serve, with state in memory, gone when it ends.", DEV)

__all__ = ["dev", "print_config", "run", "serve"]
