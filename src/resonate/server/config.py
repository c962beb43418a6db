"""How a server is configured: one table of settings, and where each value comes from.

The keys are those of the official server (protocol 2026-04-01, section 8.1), so its flags,
variables and files work here, and some of our own. Later wins: built-in default, file
`resonate.toml`, environment (`RESONATE_<SECTION>__<KEY>`), command line. A name that is not
in the table is an error that names the nearest one that is.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from resonate.errors import UsageError
from resonate.server import base
from resonate.urls import shown

FILE: Final = "resonate.toml"
"""The file that is read from the working directory if there is one."""

RETENTION: Final = 7 * 86_400_000
"""Milliseconds for which finished executions are kept on a disk, unless told otherwise."""

MASK: Final = "********"

Kind = Literal["text", "integer", "switch", "list", "entries"]
"""`entries` are tables of their own, which a flag could not show without their secrets."""


@dataclass(frozen=True, slots=True)
class Key:
    """One setting.

    Attributes:
        path: its name, `server.port` for example.
        kind: of its value.
        default: its value if nobody says anything; None is unset.
        help: what it does, with the unit.
        flag: where it is not the path in kebab case.
        choices: the texts that are allowed.
        least: the smallest integer that is allowed.
        secret: never shown.
        only: what it may be: other values are for parts that this server does not have.
    """

    path: str
    kind: Kind
    default: Any
    help: str
    flag: str | None = None
    choices: tuple[str, ...] = ()
    least: int = 0
    secret: bool = False
    only: tuple[Any, ...] | None = None

    @property
    def option(self) -> str:
        """The flag of the command line."""
        return self.flag or "--" + self.path.replace(".", "-").replace("_", "-")

    @property
    def variable(self) -> str:
        """The variable of the environment."""
        return "RESONATE_" + self.path.upper().replace(".", "__")


def _text(path: str, default: str | None, help: str, **more: Any) -> Key:
    return Key(path, "text", default, help, **more)


def _whole(path: str, default: int | None, help: str, **more: Any) -> Key:
    return Key(path, "integer", default, help, **more)


def _switch(path: str, default: bool, help: str, **more: Any) -> Key:
    return Key(path, "switch", default, help, **more)


TABLE: Final[tuple[Key, ...]] = (
    _text("url", None, "where state lives, in short: memory, sqlite:///app.db or postgresql://…; instead of storage.*"),
    _text("level", "info", "which log lines are shown", choices=("debug", "info", "warn", "error")),
    _text("log_format", "text", "how log lines are written: text, or one JSON object each", choices=("text", "json")),
    _switch("debug", False, "serve debug.* and take resonate:debug_time; never in production"),
    _switch("strict", False, "answer as the bare specification where servers differ; needs debug"),
    _text("server.host", "localhost", "the name in server.url, and one by which browsers may ask for it"),
    _whole("server.port", 8001, "the port; 0 takes a free one"),
    _text("server.bind", "127.0.0.1", "the address to listen on; 0.0.0.0 for every network"),
    _text("server.url", None, "how workers that are pushed to reach this server; default http://{host}:{port}"),
    _whole("server.shutdown_timeout", base.SHUTDOWN_TIMEOUT, "milliseconds in which requests may end"),
    _whole("server.request_timeout", base.REQUEST_TIMEOUT, "milliseconds for a request to arrive", least=1),
    _whole("server.max_body", base.MAX_BODY, "bytes of a request body", least=1),
    _whole("server.max_waiting", base.MAX_WAITING, "requests under way; beyond them 503", least=1),
    Key("server.cors.allow_origins", "list", (), "origins of pages that may ask", flag="--server-cors-allow-origin"),
    _text("server.tls.certificate", None, "PEM file of the certificate chain; the server speaks TLS then"),
    _text("server.tls.key", None, "PEM file of its private key"),
    _text("server.tls.key_password", None, "what that is encrypted with", secret=True),
    _text(
        "storage.type",
        "sqlite",
        "memory, sqlite or postgres",
        choices=("memory", "sqlite", "postgres", "mysql"),
        only=("memory", "sqlite", "postgres"),
    ),
    _text("ui", "full", "the dashboard at /ui", choices=("full", "read-only", "off")),
    _text("ui_decoder", None, "URL that the dashboard's page has values decoded by; docs/dashboard.md"),
    _text("storage.sqlite.path", "resonate.db", "the SQLite file"),
    _text("storage.postgres.url", None, "the PostgreSQL database, postgresql://…", secret=True),
    _whole("storage.postgres.pool_size", 10, "of servers with a pool; ours takes ?lanes=N in the url", least=1),
    _text("storage.mysql.url", None, "the MySQL database", secret=True, only=(None,)),
    _whole("storage.mysql.pool_size", 10, "connections to it", least=1),
    _whole("storage.retention", RETENTION, "milliseconds for which finished executions are kept; 0 is for ever"),
    _text("auth.publickey", None, "PEM text of the key that signs tokens, or `none`; switches authentication on"),
    _text("auth.iss", None, "what a token's issuer has to be"),
    _text("auth.aud", None, "what a token's audience has to be"),
    Key("auth.tokens", "entries", (), "fixed tokens: {secret, name, role, prefix, groups}", secret=True),
    Key("auth.users", "entries", (), "users: {user, password, role, prefix, groups}", secret=True),
    _whole("tasks.lease_timeout", 15_000, "of a transport that is not offered; workers bring their own", least=1),
    _whole("tasks.retry_timeout", 30_000, "milliseconds between two offers of a task", least=1),
    _text("tasks.fence_preload", "10", "records that the answer of a fence brings along, or `all`"),
    _whole("timeouts.poll_interval", 1_000, "of servers that poll; ours is woken", least=1),
    _whole("messages.poll_interval", 100, "of servers that poll; ours is woken", least=1),
    _whole("messages.batch_size", 100, "of servers that poll; ours is woken", least=1),
    _switch("transports.http_push.enabled", True, "POST messages to http(s):// addresses"),
    _whole(
        "transports.http_push.concurrency",
        256,
        "deliveries to one host at once; to all, four times as many",
        least=1,
    ),
    _whole("transports.http_push.connect_timeout", 10_000, "milliseconds to connect", least=1),
    _whole("transports.http_push.request_timeout", 180_000, "milliseconds for a delivery", least=1),
    Key("transports.http_push.allow", "list", (), "hosts and networks that may be private: localhost, 10.0.0.0/8"),
    _text("transports.http_push.signing_key", None, "deliveries are signed with it", secret=True),
    _text(
        "transports.http_push.auth.mode",
        "none",
        "what a delivery shows",
        choices=("none", "bearer", "gcp"),
        only=("none", "bearer"),
    ),
    _text(
        "transports.http_push.auth.token",
        None,
        "the token of mode bearer; shown to receivers in allow",
        secret=True,
    ),
    _text("transports.http_push.auth.audience", None, "of mode gcp", flag="--transports-http-push-auth-aud"),
    _text("transports.http_push.auth.header", "Authorization", "the header of the token"),
    _switch("transports.http_poll.enabled", True, "serve /poll", only=(True,)),
    _whole("transports.http_poll.max_connections", base.POLL_CONNECTIONS, "streams at the same time", least=1),
    _whole("transports.http_poll.buffer_size", 100, "messages on the way to one stream", least=1),
    _switch("transports.gcps.enabled", False, "Google Pub/Sub", only=(False,)),
    _text("transports.gcps.project", None, "of Google Pub/Sub"),
    _whole("transports.gcps.concurrency", 256, "of Google Pub/Sub", least=1),
    _whole("transports.gcps.timeout", 10_000, "of Google Pub/Sub", least=1),
    _switch("transports.bash_exec.enabled", False, "run scripts on the server", only=(False,)),
    _whole("observability.metrics_port", 9090, "port of /metrics; 0 is none"),
    _text("observability.otlp_endpoint", "localhost:4317", "of traces, which are not sent yet"),
)

KEYS: Final[dict[str, Key]] = {key.path: key for key in TABLE}

_OTHER_VARIABLES: Final = {"OTEL_EXPORTER_OTLP_ENDPOINT": "observability.otlp_endpoint"}
_LEVELS: Final = {key.path for key in TABLE if "." not in key.path} - {"url"}  # RESONATE_URL is the client's


@dataclass(frozen=True, slots=True)
class Setting:
    """A value and where it came from."""

    key: Key
    value: Any
    source: str

    @property
    def shown(self) -> str:
        """The value as it may be printed."""
        if self.value is None or self.value == ():
            return ""
        if self.key.secret:
            return MASK
        if isinstance(self.value, bool):
            return str(self.value).lower()
        if self.key.path == "url":
            return shown(self.value)
        return ", ".join(map(str, self.value)) if isinstance(self.value, tuple) else str(self.value)


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting, resolved."""

    settings: Mapping[str, Setting] = field(repr=False)

    def __getitem__(self, path: str) -> Any:
        return self.settings[path].value

    def given(self, path: str) -> bool:
        """Whether somebody said so, and it is no default."""
        return not self.settings[path].source.startswith("default")


def resolve(
    flags: Mapping[str, Any],
    environment: Mapping[str, str],
    file: str | None = None,
    *,
    directory: str = ".",
    defaults: Mapping[str, Any] | None = None,
) -> Config:
    """Every setting's value, with where it came from.

    Args:
        flags: values of the command line by path; None where none was given.
        environment: variables.
        file: the configuration file; None takes `resonate.toml` of `directory` if there is one.
        directory: the working directory.
        defaults: other defaults, by path (`resonate dev` has some).

    Raises:
        UsageError: an unknown name, a value of a wrong type, or the file cannot be read. Nothing was started.
    """
    found = {path: Setting(key, key.default, "default") for path, key in KEYS.items()}
    for path, value in (defaults or {}).items():
        found[path] = Setting(KEYS[path], value, "default of this command")
    for setting in (*_from_file(file, directory), *_from_environment(environment), *_from_flags(flags)):
        found[setting.key.path] = setting
    config = Config(found)
    _check_together(config)
    return config


# ---- sources ------------------------------------------------------------------------------------


def _from_flags(flags: Mapping[str, Any]) -> Iterable[Setting]:
    for path, value in flags.items():
        if value is not None and value != [] and value != ():
            key = KEYS[path]
            yield Setting(key, _read(key, value, key.option), key.option)


def _from_environment(environment: Mapping[str, str]) -> Iterable[Setting]:
    known = {key.variable: key for key in TABLE if "." in key.path or key.path in _LEVELS}
    known |= {name: KEYS[path] for name, path in _OTHER_VARIABLES.items()}
    for name in environment:
        if name.startswith("RESONATE_") and "__" in name and name not in known:
            raise UsageError(f"environment variable {name} is no setting of the server{_nearest(name, known)}")
    for name, key in known.items():  # in the order of the table, so that the official name wins
        text = environment.get(name)
        if text == "" and key.path.startswith("auth."):  # a lost secret must not switch authentication off
            raise UsageError(f"{name} is empty: give it a value, or unset it")
        if text:
            yield Setting(key, _read(key, _parsed(key, text, name), name), name)


def _from_file(file: str | None, directory: str) -> Iterable[Setting]:
    path = Path(directory, FILE if file is None else file)
    try:
        text = path.read_text()
    except FileNotFoundError:
        if file is None:
            return
        raise UsageError(f"the configuration file {path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the configuration file {path} cannot be read: {error}") from error
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is no TOML: {error}") from error
    except RecursionError:
        raise UsageError(f"{path} is no TOML of settings: it is nested too deep") from None
    for name, value in _flat(tree):
        if name not in KEYS:
            raise UsageError(f"{_place(path, text, name)}: {name} is no setting of the server{_nearest(name, KEYS)}")
        place = _place(path, text, name)
        yield Setting(KEYS[name], _read(KEYS[name], value, place), place)


def _flat(tree: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in tree.items():
        path = f"{above}{name}"
        if isinstance(value, dict):
            yield from _flat(value, f"{path}.")
        else:
            yield path, value


def _place(path: Path, text: str, name: str) -> str:
    """`file:line` of a key; the line is that of its last part, which is enough to find it."""
    last = name.rpartition(".")[2]
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("["):
            section = stripped.strip("[]").strip()
            if section == name:
                return f"{path}:{number}"
            continue
        written = stripped.partition("=")[0].strip()
        if f"{section}.{written}".strip(".") == name or (not section and written.endswith(last) and written == name):
            return f"{path}:{number}"
    return str(path)


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f"; did you mean {close[0]}?" if close else ""


# ---- values -------------------------------------------------------------------------------------


def _parsed(key: Key, text: str, source: str) -> Any:
    """What a text of the environment stands for."""
    match key.kind:
        case "integer":
            try:
                return int(text)
            except ValueError:
                raise UsageError(f"{source} must be a whole number, got {text!r}") from None
        case "switch":
            if text.lower() not in _SWITCH:
                raise UsageError(f"{source} must be true or false, got {text!r}")
            return _SWITCH[text.lower()]
        case "list":
            return [part.strip() for part in text.split(",") if part.strip()]
        case "entries":
            try:
                return json.loads(text)
            except (ValueError, RecursionError):
                raise UsageError(f"{source} must be a JSON array of objects (its text is not shown: secret)") from None
    return text


_SWITCH: Final = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


def _read(key: Key, value: Any, source: str) -> Any:
    """`value` after its checks.

    Raises:
        UsageError: a wrong type, out of range, or for a part that this server does not have.
    """
    shown = MASK if key.secret else repr(value)
    wrong = UsageError(f"{source}: {key.path} must be {_WANTED[key.kind]}, got {shown}")
    match key.kind:
        case "text":
            if key.path == "tasks.fence_preload" and isinstance(value, int) and not isinstance(value, bool):
                value = str(value)
            if not isinstance(value, str):
                raise wrong
        case "integer":
            if isinstance(value, bool) or not isinstance(value, int):
                raise wrong
            if value < key.least:
                raise UsageError(f"{source}: {key.path} must be at least {key.least}, got {value}")
        case "switch":
            if not isinstance(value, bool):
                raise wrong
        case "list":
            if not isinstance(value, list | tuple) or not all(isinstance(part, str) for part in value):
                raise wrong
            value = tuple(value)
        case "entries":
            if not isinstance(value, list | tuple) or not all(isinstance(part, dict) for part in value):
                raise wrong
            value = tuple(value)
    if key.choices and value not in key.choices:
        raise UsageError(f"{source}: {key.path} must be one of {', '.join(key.choices)}, got {shown}")
    if key.only is not None and value not in key.only:
        raise UsageError(f"{source}: {key.path} = {shown} is not offered by this server{_offered(key)}")
    return value


def _offered(key: Key) -> str:
    offered = [str(value) for value in key.only or () if isinstance(value, str)]
    return f" (it has: {', '.join(offered)})" if offered else "; leave it out"


_WANTED: Final = {
    "text": "a text",
    "integer": "a whole number",
    "switch": "true or false",
    "list": "a list of texts",
    "entries": "a list of tables",
}


def _check_together(config: Config) -> None:
    preload = config["tasks.fence_preload"]
    if preload != "all" and not (preload.isascii() and preload.isdigit()):
        source = config.settings["tasks.fence_preload"].source
        raise UsageError(f"{source}: tasks.fence_preload must be a whole number or `all`, got {preload!r}")
    if config["strict"] and not config["debug"]:
        raise UsageError("strict is for trace checkers and needs --debug")
    if (config["server.tls.certificate"] is None) != (config["server.tls.key"] is None):
        raise UsageError("server.tls.certificate and server.tls.key belong together: give both, or neither")
    if config["transports.http_push.auth.mode"] == "bearer" and not config["transports.http_push.auth.token"]:
        raise UsageError("transports.http_push.auth.mode is bearer, so transports.http_push.auth.token is needed")
    if config["storage.type"] == "postgres" and config["url"] is None and not config["storage.postgres.url"]:
        raise UsageError("storage.type is postgres, so storage.postgres.url is needed")
    for path in ("storage.type", "storage.sqlite.path", "storage.postgres.url"):
        if config["url"] is not None and config.given(path):
            raise UsageError(
                f"{config.settings['url'].source} and {config.settings[path].source} both say where state "
                "lives: give one of them"
            )


__all__ = ["Config", "FILE", "KEYS", "Key", "MASK", "Setting", "TABLE", "resolve"]
