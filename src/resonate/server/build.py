"""A server from its settings: storage, service, who may ask, and where it listens."""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from resonate.clock import Clock, SystemClock
from resonate.errors import UsageError
from resonate.server.auth import Authenticator, BasicUser, BearerToken, Identity
from resonate.server.base import Listening, Settings, is_loopback
from resonate.server.config import Config
from resonate.server.push import PushSettings
from resonate.server.running import Server
from resonate.service.service import Service
from resonate.storage.base import Storage
from resonate.storage.memory import MemoryStorage
from resonate.storage.postgres import location as postgres

_LOG: Final = logging.getLogger("resonate.server")


@contextlib.contextmanager
def open_server(config: Config) -> Iterator[tuple[Server, str]]:
    """The server that `config` describes, and where its state lives; its storage is open for the block.

    Raises:
        UsageError, ResonateStoreError: a setting cannot be followed, the port is taken, the file cannot be used.
    """
    auth = _authenticator(config)
    storage, clock, where = _storage(config)
    try:
        service = Service(
            storage,
            clock,
            retry_timeout=config["tasks.retry_timeout"],
            strict=config["strict"],
            debug=config["debug"],
            retention=_retention(config),
            fence_preload=None if config["tasks.fence_preload"] == "all" else int(config["tasks.fence_preload"]),
        )
        push = _push(config) if config["transports.http_push.enabled"] else None
        server = Server(service, _settings(config, auth), _listening(config), push)
        try:
            yield server, where
        finally:
            server.close()
    finally:
        storage.close()


def storage_url(config: Config) -> str:
    """The URL of where state lives; `memory` for none."""
    url: str | None = config["url"]
    if url is None:
        url = {
            "memory": "memory",
            "sqlite": f"sqlite:///{config['storage.sqlite.path']}",
            "postgres": config["storage.postgres.url"],
        }[config["storage.type"]]
    return "memory" if url in ("memory:", "memory://") else url


def _storage(config: Config) -> tuple[Storage, Clock, str]:
    """The storage, the clock to go by, and where that is, without secrets."""
    url = storage_url(config)
    if url == "memory":
        return MemoryStorage(), SystemClock(), "memory"
    if url.partition(":")[0] in postgres.SCHEMES:
        return _database(url)
    if not url.startswith("sqlite:"):
        scheme = url.partition(":")[0]
        raise UsageError(
            f"state cannot live in {scheme}:…: --url takes memory, sqlite:///FILE (relative), "
            "sqlite:////DIRECTORY/FILE (absolute) and postgresql://USER@HOST/DATABASE"
        )
    from resonate.storage.sqlite.location import parse
    from resonate.storage.sqlite.storage import SqliteStorage  # brings sqlite3

    storage = SqliteStorage(parse(url))
    storage.claim(f"server-{uuid.uuid4().hex}")
    return storage, SystemClock(), parse(url).path


def _database(url: str) -> tuple[Storage, Clock, str]:
    try:
        location = postgres.parse(url)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if find_spec("psycopg") is None:
        raise UsageError("PostgreSQL needs psycopg: python -m pip install 'resonate-py[server,postgres]'")
    from resonate.storage.postgres.storage import PostgresStorage  # brings psycopg

    storage = PostgresStorage(location)
    return storage, storage.clock, f"{location.shown}, schema {location.schema}"


def _retention(config: Config) -> int | None:
    in_memory = storage_url(config) == "memory"
    kept: int = config["storage.retention"]
    return None if kept == 0 or (in_memory and not config.given("storage.retention")) else kept


def _ui(config: Config, auth: Authenticator | None) -> Literal["full", "read-only"] | None:
    """How the dashboard is served: never to other machines without asking who is there."""
    wanted = config["ui"]
    if wanted == "off":
        return None
    if not _asks_who(auth) and not is_loopback(config["server.bind"]):
        _LOG.warning(
            "no dashboard: other machines reach %s and nobody is asked who they are. Set auth.tokens, auth.users or "
            "auth.publickey",
            config["server.bind"],
        )
        return None
    return "full" if wanted == "full" else "read-only"


def _settings(config: Config, auth: Authenticator | None) -> Settings:
    return Settings(
        ui=_ui(config, auth),
        ui_decoder=config["ui_decoder"],
        auth=auth,
        max_body=config["server.max_body"],
        max_waiting=config["server.max_waiting"],
        cors_origins=config["server.cors.allow_origins"],
        hosts=_hosts(config, auth),
        server_url=_server_url(config),
        poll_connections=config["transports.http_poll.max_connections"],
    )


def _hosts(config: Config, auth: Authenticator | None) -> tuple[str, ...] | None:
    """The names that requests may ask for, where nothing else tells whose they are."""
    if _asks_who(auth) or not is_loopback(config["server.bind"]):
        return None
    told = urlsplit(config["server.url"] or "").hostname
    return (config["server.host"], *([] if told is None else [told]))


def _asks_who(auth: Authenticator | None) -> bool:
    return auth is not None and not auth.unchecked


def _push(config: Config) -> PushSettings:
    key = "transports.http_push."
    return PushSettings(
        allow=config[key + "allow"],
        auth=config[key + "auth.mode"],
        token=config[key + "auth.token"],
        header=config[key + "auth.header"],
        signing_key=config[key + "signing_key"],
        concurrency=config[key + "concurrency"],
        connect_timeout=config[key + "connect_timeout"],
        request_timeout=config[key + "request_timeout"],
    )


def _server_url(config: Config) -> str | None:
    if config["server.url"] is not None or not config["server.port"]:  # a port that is not known yet cannot be told
        url: str | None = config["server.url"]
        return url
    return f"http://{config['server.host']}:{config['server.port']}"


def _listening(config: Config) -> Listening:
    return Listening(
        bind=config["server.bind"],
        port=config["server.port"],
        metrics_port=config["observability.metrics_port"] or None,
        certificate=config["server.tls.certificate"],
        key=config["server.tls.key"],
        key_password=config["server.tls.key_password"],
        shutdown_timeout=config["server.shutdown_timeout"],
        request_timeout=config["server.request_timeout"],
    )


def _authenticator(config: Config) -> Authenticator | None:
    tokens, users = config["auth.tokens"], config["auth.users"]
    if not (config["auth.publickey"] or tokens or users):
        return None
    return Authenticator(
        public_key=config["auth.publickey"],
        issuer=config["auth.iss"],
        audience=config["auth.aud"],
        tokens=[
            BearerToken(
                _text("auth.tokens", entry, "secret"), _identity("auth.tokens", entry, f"token {number}", "secret")
            )
            for number, entry in enumerate(tokens, 1)
        ],
        users=[
            BasicUser(
                _text("auth.users", entry, "user"),
                _text("auth.users", entry, "password"),
                _identity("auth.users", entry, entry["user"], "user", "password"),
            )
            for entry in users
        ],
    )


def _text(path: str, entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not value:
        raise UsageError(f"each of {path} needs a text `{name}` (values are not shown: they may be secret)")
    return value


def _identity(path: str, entry: Mapping[str, Any], name: str, *own: str) -> Identity:
    allowed: Sequence[str] = (*own, "name", "role", "prefix", "groups")
    for key in entry:
        if key not in allowed:
            raise UsageError(f"{path} holds a key {key!r}; it may have {', '.join(allowed)}")
    groups = entry.get("groups")
    if groups is not None and not (isinstance(groups, list) and all(isinstance(group, str) for group in groups)):
        raise UsageError(f"groups of {path} must be a list of texts")
    for key in ("name", "role", "prefix"):
        if entry.get(key) is not None and not isinstance(entry[key], str):
            raise UsageError(f"`{key}` of {path} must be a text")
    return Identity(
        entry.get("name") or name,
        entry.get("role"),
        entry.get("prefix"),
        None if groups is None else tuple(groups),
    )


__all__ = ["open_server"]
