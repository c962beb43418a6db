"""The constructor's arguments and the environment: checked, and made one set of settings."""

from __future__ import annotations

import logging
import math
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import urlsplit

from resonate.dependencies import Dependencies
from resonate.errors import NotSupported
from resonate.models.message_source import MessageSource
from resonate.models.store import Store
from resonate.registry import Registry
from resonate.retry_policies import seconds
from resonate.storable import UNSTORABLE, is_storable
from resonate.storage.postgres import location as postgres
from resonate.storage.sqlite import location
from resonate.urls import shown

THREADS_MAX: Final = 32
MAX_CONCURRENT: Final = 1000
GROUP: Final = "default"
TTL_MAX: Final = 31_536_000
"""Seconds: a lease beyond a year is a mistake of units, and no clock of the system waits for ever."""

RETENTION: Final = 7 * 86_400.0
"""Seconds for which a durable storage keeps what is finished, unless told otherwise."""

MEMORY: Final = "memory:"
"""The URL that means the memory of this process, whatever the environment says; `Resonate.local` asks for it."""

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

SERVER: Final = ("http", "https")
"""Schemes of a URL that names a server."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a client was told, resolved. `url` None means: in the memory of this process.

    `file` is where a `sqlite:` URL points to, fixed when the client is made; `database` is what a
    `postgresql:` URL names; `server` is the URL of a server.
    """

    url: str | None = field(repr=False)
    file: location.Location | None
    database: postgres.Location | None
    server: str | None = field(repr=False)
    auth: tuple[str, str] | None = field(repr=False)
    token: str | None = field(repr=False)
    group: str
    pid: str
    ttl: int
    log_level: int
    workers: int
    max_concurrent: int
    retention: float
    """Seconds for which what is finished is kept; infinite for ever."""
    make: bool = True
    """Whether a file or tables that are not there are made; those who only look are told instead."""


def check_parts(
    dependencies: object,
    group: object,
    log_level: object,
    message_source: object,
    pid: object,
    registry: object,
    store: object,
    ttl: object,
) -> None:
    """Refuse what the contract refuses, in its order.

    Raises:
        TypeError: a parameter of a wrong type, named.
        ValueError: an unknown log level, a group or pid that cannot be in an address, or only
            one of store and message_source.
    """

    if dependencies is not None and not isinstance(dependencies, Dependencies):
        raise TypeError(f"dependencies must be `Dependencies | None`, got {type(dependencies).__name__}")
    _address_part("group", group)
    level_of(log_level)
    if message_source is not None and not isinstance(message_source, MessageSource):
        raise TypeError(f"message_source must be `MessageSource | None`, got {type(message_source).__name__}")
    if pid is not None:
        _address_part("pid", pid)
    if registry is not None and not isinstance(registry, Registry):
        raise TypeError(f"registry must be `Registry | None`, got {type(registry).__name__}")
    if store is not None and not isinstance(store, Store):
        raise TypeError(f"store must be `Store | None`, got {type(store).__name__}")
    if isinstance(ttl, bool) or not isinstance(ttl, int):
        raise TypeError(f"ttl must be `int` (whole seconds), got {type(ttl).__name__}")
    if ttl < 1:
        raise ValueError(f"ttl must be at least 1 second, got {ttl}")
    if ttl > TTL_MAX:
        raise ValueError(f"ttl must be at most {TTL_MAX} seconds (one year), got {ttl}")
    if (store is None) != (message_source is None):
        raise ValueError("store and message_source must both be set or both be unset")


def resolve(
    *,
    url: Any,
    auth: Any,
    token: Any,
    group: str,
    pid: str | None,
    ttl: int,
    log_level: Any,
    workers: Any,
    max_concurrent: Any,
    retention: Any = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """The settings of a client: argument before variable, one by one; empty counts as unset.

    Raises:
        TypeError, ValueError: a parameter of a wrong type or value, named.
        NotSupported: a URL of a kind for which something is not installed.
    """
    env = os.environ if environment is None else environment
    if url is not None and not isinstance(url, str):
        raise TypeError(f"url must be `str | None`, got {type(url).__name__}")
    if token is not None and not isinstance(token, str):
        raise TypeError(f"token must be `str | None`, got {type(token).__name__}")
    if auth is not None and not _is_pair(auth):
        raise TypeError(f"auth must be a pair (user, password) of `str`, got {type(auth).__name__}")
    if workers is not None:
        _whole("workers", workers, 0)
    if max_concurrent == MAX_CONCURRENT and env.get("RESONATE_MAX_CONCURRENT"):
        max_concurrent = _number("RESONATE_MAX_CONCURRENT", env["RESONATE_MAX_CONCURRENT"])
    _whole("max_concurrent", max_concurrent, 1)
    kept = None if retention is None else _retention(retention)
    url = check_url(url or env.get("RESONATE_URL") or _from_host(env))
    # Where writes wait for a disk, threads mostly wait too, and those that wait together share a commit.
    threads = os.cpu_count() or 1 if url is None else THREADS_MAX
    user = env.get("RESONATE_USERNAME")
    token = token or env.get("RESONATE_TOKEN") or None
    if token is not None and not _printable(token):
        raise ValueError("token must be printable ASCII without spaces: it is sent in a header")
    named = env.get("RESONATE_GROUP") if group == GROUP else None
    if named:
        _address_part("RESONATE_GROUP", named)
    return Settings(
        url=url,
        file=location.parse(url) if url is not None and urlsplit(url).scheme == "sqlite" else None,
        database=postgres.parse(url) if url is not None and urlsplit(url).scheme in postgres.SCHEMES else None,
        server=url if url is not None and urlsplit(url).scheme in SERVER else None,
        auth=tuple(auth) if auth else ((user, env.get("RESONATE_PASSWORD", "")) if user else None),
        token=token,
        group=named or group,
        pid=pid or uuid.uuid4().hex,
        ttl=ttl,
        log_level=level_of(log_level),
        workers=min(THREADS_MAX, workers or threads),
        max_concurrent=max_concurrent,
        retention=(math.inf if url is None else RETENTION) if kept is None else kept,
    )


def _number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{name} must be a whole number, got {text!r}") from None


def check_url(url: str | None) -> str | None:
    """`url`, if it names a home that exists.

    Raises:
        ValueError: no URL, of an unknown kind, or with an option that its kind does not have.
        NotSupported: of a kind for which something is not installed.
    """
    if url is None or url == MEMORY:
        return None
    scheme = urlsplit(url).scheme
    if scheme == "sqlite":
        return url
    if scheme in SERVER:
        return _check_server(url)
    if scheme in postgres.SCHEMES:
        return _check_database(url)
    raise ValueError(
        f"url {shown(url)!r} is of no known kind; known are sqlite:///FILE, postgresql://..., http(s)://HOST, "
        "or no url at all for the memory of this process"
    )


def _check_database(url: str) -> str:
    postgres.parse(url)
    if find_spec("psycopg") is None:
        raise NotSupported(
            "a postgresql: url needs psycopg, which is not installed: python -m pip install 'resonate-py[postgres]'"
        )
    return url


def _check_server(url: str) -> str:
    try:
        parts = urlsplit(url)
        named = parts.hostname is not None and parts.port != 0
    except ValueError as error:
        why = "a password needs / ? # and @ escaped (%2F %3F %23 %40)" if "@" in url else str(error)
        raise ValueError(f"url {shown(url)!r} is no address of a server: {why}") from None
    if not named or parts.query or parts.fragment or not _printable(url):
        raise ValueError(
            f"url {shown(url)!r} is no address of a server: write http://HOST:PORT or http://HOST:PORT/PATH"
        )
    return url


def level_of(log_level: object) -> int:
    """The number of a log level given by number or name."""
    if isinstance(log_level, bool) or not isinstance(log_level, int | str):
        raise TypeError(f"log_level must be `int | str`, got {type(log_level).__name__}")
    if isinstance(log_level, int):
        return log_level
    if log_level not in LEVELS:
        raise ValueError(f"log_level must be one of {', '.join(LEVELS)}, got {log_level!r}")
    return int(getattr(logging, log_level))


def _from_host(env: Mapping[str, str]) -> str | None:
    host = (env.get("RESONATE_HOST") or "").rstrip("/")
    if not host:
        return None
    if "://" not in host:
        if host.count(":") > 1 and not host.startswith("["):
            host = f"[{host}]"  # an IPv6 address
        host = f"{env.get('RESONATE_SCHEME') or 'http'}://{host}"
    port = env.get("RESONATE_PORT") or "8001"
    try:
        parts = urlsplit(host)
        if parts.port is None:
            parts = parts._replace(netloc=f"{parts.netloc}:{port}")
        if parts.port is None:
            raise ValueError("no port")
    except ValueError as error:
        raise ValueError(
            f"RESONATE_HOST {shown(host)!r} and RESONATE_PORT {port!r} make no address"
            f"{'' if '@' in host else f': {error}'}"
        ) from None
    return parts.geturl()


def _printable(text: str) -> bool:
    return all("!" <= character <= "~" for character in text)


def _address_part(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be `str`, got {type(value).__name__}")
    if not value or any(character in value for character in " /?#@\n\t"):
        raise ValueError(
            f"{name} {value!r} must not be empty nor hold spaces, '/', '?', '#' or '@': it is part of an address"
        )
    if not is_storable(value):
        raise ValueError(f"{name} {value!r} {UNSTORABLE}")


def _is_pair(auth: object) -> bool:
    return isinstance(auth, tuple | list) and len(auth) == 2 and all(isinstance(part, str) for part in auth)


def _retention(given: Any) -> float:
    if isinstance(given, float) and given == math.inf:
        return given
    kept = seconds(given, "retention")
    if kept == 0:
        raise ValueError("retention must be more than zero: whoever waits for a result has to find it")
    return kept


def _whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be `int`, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
