"""Where the file is and how it is to be treated: URLs such as `sqlite:///app.db?synchronous=normal`.

Only reads text and follows links: no file is opened, and `sqlite3` is not imported, so that a
client can refuse a bad URL when it is made.
"""

from __future__ import annotations

import os
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from msgspec import Struct

from resonate.errors import UsageError

SYNCHRONOUS: Final = ("full", "normal", "off")
"""What a commit waits for: the disk; the disk at checkpoints only (a power cut may lose the last commits); nothing."""

BUSY_TIMEOUT: Final = 10_000
"""Milliseconds to wait for a program that is not ours; our own processes queue on a lock instead."""

_FORMS: Final = "sqlite:///app.db (relative) or sqlite:////var/lib/app.db (absolute)"
_IN_MEMORY: Final = "Leave the url out to keep state in the memory of this process"


class Location(Struct, frozen=True):
    """A file, absolute and without symbolic links (its locks are beside it, for all who use it), and its options."""

    path: str
    synchronous: str = "full"
    busy_timeout: int = BUSY_TIMEOUT


def parse(url: str) -> Location:
    """Read a `sqlite:` URL; a relative path is relative to the directory that is current now.

    Raises:
        ValueError: no file is named, or an option or value is unknown; says what would be right.
    """
    parts = urlsplit(url)
    if parts.netloc:
        raise ValueError(f"url {url!r} names a host ({parts.netloc}), but a file has none: write {_FORMS}")
    if parts.fragment:
        raise ValueError(f"url {url!r} holds a '#': write it as %23 if it is part of the file's name")
    path = unquote(parts.path[1:])
    if parts.path in ("", "/") or path == ":memory:":
        raise ValueError(f"url {url!r} names no file. {_IN_MEMORY}, or name one: {_FORMS}")
    if not url[len("sqlite") :].startswith(":///"):
        raise ValueError(f"url {url!r} has too few slashes: write 'sqlite:///{parts.path}' for {unquote(parts.path)}")
    if "\0" in path or path.endswith("/"):
        raise ValueError(f"url {url!r} does not name a file: write {_FORMS}")
    return Location(os.path.realpath(path), **_options(url, parts.query))


def _options(url: str, query: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _OPTIONS:
            raise ValueError(f"url {url!r}: unknown option {name!r}; known are {', '.join(_OPTIONS)}")
        if name in found:
            raise ValueError(f"url {url!r}: option {name!r} is given twice")
        found[name] = _OPTIONS[name](url, value)
    return found


def _synchronous(url: str, value: str) -> str:
    if value not in SYNCHRONOUS:
        raise ValueError(f"url {url!r}: synchronous must be one of {', '.join(SYNCHRONOUS)}, got {value!r}")
    return value


def _busy_timeout(url: str, value: str) -> int:
    if not (value.isascii() and value.isdigit()) or not 0 < int(value) <= 3_600_000:
        raise ValueError(f"url {url!r}: busy_timeout must be whole milliseconds from 1 to 3600000, got {value!r}")
    return int(value)


_OPTIONS: Final = {"synchronous": _synchronous, "busy_timeout": _busy_timeout}


def absent(path: str) -> UsageError:
    """What whoever only looks is told where a file does not exist."""
    return UsageError(
        f"there is no file {path}; programs make it when they start. A relative URL is relative to the working "
        "directory"
    )
