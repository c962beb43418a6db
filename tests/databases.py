"""PostgreSQL for tests: one cluster for all of them, started when first asked for, and schemas in it.

`RESONATE_TEST_POSTGRES=postgresql://...` names a server to use instead.
"""

from __future__ import annotations

import atexit
import os
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from resonate.storage.postgres.location import parse
from tests.files import empty
from tests.postgres.cluster import Cluster, binaries

if TYPE_CHECKING:
    from resonate.storage.postgres.storage import PostgresStorage

SCHEMAS = 3
"""Storages that one test may use at the same time; the next one handed out is the first again."""

_GIVEN = os.environ.get("RESONATE_TEST_POSTGRES")  # read now: tests run without variables of ours

_open: list[PostgresStorage] = []
_made = 0


@cache
def url() -> str:
    """A database to make schemas in; skips the test where there is none, which is a failure in CI."""
    if _GIVEN:
        return _GIVEN
    if binaries() is None:
        missing = "PostgreSQL is not installed (Debian: apt-get install postgresql)"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    cluster = Cluster()
    atexit.register(cluster.remove)
    cluster.start()
    return cluster.url


def fresh_url() -> str:
    """The URL of a schema that nobody has used yet; it goes with the cluster, or is dropped at the end."""
    global _made
    _made += 1
    name = f"t_{os.getpid()}_{_made}"
    if _GIVEN:
        atexit.register(_drop, name)
    return f"{url()}?schema={name}"


def bare(url: str) -> str:
    """`url` without its query: for sessions of the test itself."""
    return url.partition("?")[0]


def port() -> int:
    """The port of the server."""
    return urlsplit(url()).port or 5432


def given() -> bool:
    """Whether the server is not the tests' own, so that it must not be stopped and its users are not known."""
    return _GIVEN is not None


def _drop(name: str) -> None:
    import psycopg

    with psycopg.connect(url(), autocommit=True) as session:
        session.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE".encode())


def emptied() -> PostgresStorage:
    """A storage without rows, for as long as the next two are handed out."""
    if not _open:
        for _ in range(SCHEMAS):
            _open.append(_storage(fresh_url()))
    storage = _open.pop(0)
    _open.append(storage)
    _empty(storage)
    return storage


@cache
def _on_one_schema(count: int) -> list[PostgresStorage]:
    url = fresh_url()
    return [_storage(url) for _ in range(count)]


def shared(count: int) -> list[PostgresStorage]:
    """Storages of as many processes on one schema without rows, until they are asked for again."""
    storages = _on_one_schema(count)
    _empty(storages[0])
    for storage in storages:
        storage.fresh()
        storage.owed()
        storage._next_due = storage._wake_at = None
    return storages


def _storage(url: str) -> PostgresStorage:
    from resonate.storage.postgres.storage import PostgresStorage

    storage = PostgresStorage(parse(f"{url}&options=-csynchronous_commit%3Doff"))
    atexit.register(storage.close)
    return storage


def _empty(storage: PostgresStorage) -> None:
    empty(storage)
    storage._next_due = storage._wake_at = None
