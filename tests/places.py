"""Where state lives in the tests that run for each kind of it: memory, a SQLite file, a PostgreSQL database.

Making a schema costs more than most tests, so those of a run are emptied and used again, except where a test
has left a client behind.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

from resonate.storage.postgres.location import parse
from resonate.storage.postgres.schema import TABLES
from resonate.storage.postgres.storage import migrate
from resonate.storage.sqlite.location import Location
from resonate.storage.sqlite.storage import SqliteStorage
from resonate.testing import World
from tests import databases

KINDS: Final = [
    "memory",
    pytest.param("sqlite", marks=pytest.mark.slow),  # not slow one by one, but there are a thousand of them
    pytest.param("postgres", marks=pytest.mark.slow),
]

in_memory = pytest.mark.parametrize("place", ["memory"], indirect=True)
"""For a test, in a file of tests that have places, of what is so in memory alone."""

SCHEMAS: Final = 4
"""Schemas in turn: sessions of a client that was stopped have ended when its schema is next."""

_used: list[str] = []
_numbers = count()


@contextlib.contextmanager
def taken(kind: str) -> Iterator[str | None]:
    """An empty place of this kind, for the block; its URL, or None for memory."""
    if kind == "memory":
        yield None
    elif kind == "sqlite":
        file = _directory() / f"{next(_numbers)}.db"
        shutil.copyfile(_empty_file(), file)
        yield f"sqlite:///{file}?synchronous=off"
    else:
        url = _free_schema()
        yield url
        _used.append(url)


def world() -> World:
    """A world that keeps state where `Resonate()` does."""
    url = os.environ.get("RESONATE_URL")
    if url is None:
        return World()
    if url.startswith("sqlite:"):
        return World(file=url.removeprefix("sqlite:///").partition("?")[0])
    return World(url=url)


# ---- files --------------------------------------------------------------------------------------


@cache
def _directory() -> Path:
    made = tempfile.mkdtemp(prefix="resonate-test-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


@cache
def _empty_file() -> Path:
    path = _directory() / "empty.db"
    SqliteStorage(Location(str(path), synchronous="off")).close()
    return path


# ---- schemas ------------------------------------------------------------------------------------


def _free_schema() -> str:
    """The URL of an empty schema that nobody uses."""
    while len(_used) >= SCHEMAS:
        url = _used.pop(0)
        name = parse(url).schema
        session = _session()
        if not session.execute("SELECT 1 FROM pg_stat_activity WHERE application_name = %s", (name,)).fetchall():
            session.execute("; ".join(f"DELETE FROM {name}.{table}" for table in TABLES))
            return url
    url = databases.fresh_url()
    migrate(parse(url))
    return f"{url}&options=-csynchronous_commit%3Doff&application_name={parse(url).schema}"


@cache
def _session() -> Any:
    import psycopg

    session = psycopg.connect(databases.url(), autocommit=True)
    atexit.register(session.close)
    return session
