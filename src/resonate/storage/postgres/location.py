"""Which database, and which schema in it: URLs such as `postgresql://user@host/db?schema=resonate`.

Only reads text: nothing is connected to, and `psycopg` is not imported, so that a client
can refuse a bad URL when it is made. Options that are not ours go to libpq as they are
(`sslmode`, `target_session_attrs`, `application_name`, ...), several hosts too.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from msgspec import Struct

from resonate.urls import shown as shown_url

SCHEMES: Final = ("postgresql", "postgres")

LANES: Final = 2
"""Connections that write side by side: one that waits for a lock holds up only its own share of the executions."""

LANES_MAX: Final = 16

POOL: Final = 8
"""Connections for steps of `ctx.transaction` at most; further ones wait for one of them."""

POOL_MAX: Final = 500

_NO_PORT: Final = re.compile(r":(?!\d*(?:,|$))")
_ONLY_READ: Final = ("read-only", "standby", "prefer-standby")
_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,39}")


class Location(Struct, frozen=True):
    """A schema of a database, and how many connections to use.

    Attributes:
        conninfo: the URL for libpq; holds the password.
        shown: the same without user, password and options, for errors.
        schema: holds all our tables.
        lanes: connections that write side by side.
        pool: connections for `ctx.transaction` at most.
    """

    conninfo: str
    shown: str
    schema: str = "resonate"
    lanes: int = LANES
    pool: int = POOL

    def __repr__(self) -> str:
        return f"Location({self.shown!r}, schema={self.schema!r})"


def parse(url: str) -> Location:
    """Read a `postgresql:` URL.

    Raises:
        ValueError: an option or value of ours is wrong; says what would be right. Never shows the password.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"url {shown_url(url)!r} cannot be read: is the host an address in brackets?") from None
    shown = f"postgresql://{shown_url(f'//{parts.netloc}{parts.path}')[2:]}"
    misread = "@" in url and "@" not in parts.netloc and ("@" in parts.path or _NO_PORT.search(parts.netloc))
    if misread or parts.netloc.count("@") > 1:
        raise ValueError(
            f"url {shown_url(url)!r} holds an '@' {'behind its host' if misread else 'too many'}: a password needs "
            "/ ? # and @ escaped (%2F %3F %23 %40)"
        )
    if parts.fragment:
        raise ValueError(f"url {shown!r} holds a '#': write it as %23 if it is part of a name or password")
    options: dict[str, Any] = {}
    rest: list[tuple[str, str]] = []
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in _OPTIONS:
            meant = get_close_matches(name, _OPTIONS, 1, 0.8)
            if meant:
                raise ValueError(f"url {shown!r} has no option {name!r}: did you mean {meant[0]!r}?")
            rest.append((name, value))
        elif name in options:
            raise ValueError(f"url {shown!r}: option {name!r} is given twice")
        else:
            options[name] = _OPTIONS[name](shown, name, value)
    given = dict(rest)
    if given.get("target_session_attrs") in _ONLY_READ:
        raise ValueError(
            f"url {shown!r}: target_session_attrs={given['target_session_attrs']} asks for a server that cannot be "
            "written to; leave it out"
        )
    if "," in parts.netloc and "target_session_attrs" not in given:
        rest.append(("target_session_attrs", "read-write"))  # of several hosts, the one that can be written to
    conninfo = parts._replace(scheme="postgresql", query=urlencode(rest, quote_via=quote)).geturl()
    if not parts.netloc and conninfo.startswith("postgresql:/") and not conninfo.startswith("postgresql://"):
        conninfo = conninfo.replace("postgresql:", "postgresql://", 1)
    return Location(conninfo, shown, **options)


def quoted(schema: str) -> str:
    """A schema as it is written in a statement: it may be called `user` or `order`."""
    return f'"{schema}"'


def _schema(shown: str, name: str, value: str) -> str:
    if _SCHEMA.fullmatch(value) is None or value.startswith("pg_"):
        raise ValueError(
            f"url {shown!r}: schema must be up to 40 of a-z, 0-9 and _, not begin with a digit or pg_, got {value!r}"
        )
    return value


def _count(most: int) -> Any:
    def check(shown: str, name: str, value: str) -> int:
        if not (value.isascii() and value.isdigit()) or not 1 <= int(value) <= most:
            raise ValueError(f"url {shown!r}: {name} must be a whole number from 1 to {most}, got {value!r}")
        return int(value)

    return check


_OPTIONS: Final[dict[str, Any]] = {"schema": _schema, "lanes": _count(LANES_MAX), "pool": _count(POOL_MAX)}
