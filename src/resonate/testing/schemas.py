"""Schemas of a PostgreSQL database that tests make, use for one run and drop again."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from resonate.storage.postgres import location

if TYPE_CHECKING:
    from resonate.clock import SettableClock
    from resonate.storage.postgres.storage import PostgresStorage


def check(url: str) -> None:
    """Refuse what is no database to make schemas in.

    Raises:
        ValueError: `url` is of something else, or names a schema.
    """
    parts = urlsplit(url)
    if parts.scheme not in location.SCHEMES:
        raise ValueError(f"url is {location.SCHEMES[0]}://... or left out, which is a file, got {parts.scheme}:...")
    if any(name == "schema" for name, _ in parse_qsl(parts.query)):
        raise ValueError("url names a schema: leave that out, each run gets one of its own")
    location.parse(url)


def new_name() -> str:
    """The name of a schema that nobody has made yet."""
    return f"resonate_test_{os.getpid()}_{uuid.uuid4().hex[:8]}"


def in_schema(url: str, name: str) -> str:
    """`url` with a schema for our tables and for those that a program makes without naming one."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    query["schema"] = name
    query["options"] = f"{query.get('options', '')} -csearch_path={name},public".strip()
    return parts._replace(query=urlencode(query, quote_via=quote)).geturl()


def drop(url: str, names: Sequence[str]) -> None:
    """Drop schemas, those that are there.

    Args:
        url: of the database.
        names: of the schemas, with all that is in them.
    """
    from resonate.storage.postgres.connection import connect  # not before: psycopg may not be installed

    with connect(location.parse(url)) as session:
        for name in names:
            session.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE".encode())


def alone(url: str, clock: SettableClock) -> PostgresStorage:
    """The storage at `url`, whose only user this is: nobody else is listened to, and its time is `clock`'s."""
    from resonate.storage.postgres.storage import PostgresStorage

    class Alone(PostgresStorage):
        def __init__(self) -> None:
            super().__init__(location.parse(url))
            self.clock = clock  # type: ignore[assignment]
            self._teller.tell = lambda sent, mine: None  # type: ignore[method-assign]

        def watch(self, group: str, pid: str, changed: Any) -> None:
            with self._state:
                self._watched[(group, pid)] = self._watched.get((group, pid), 0) + 1

        def _read_next_due(self, *, jitter: bool) -> None:
            ((due, _),) = self._aside(self._statements.next_due)
            with self._state:
                self._next_due = self._wake_at = due

    return Alone()


__all__ = ["alone", "check", "drop", "in_schema", "new_name"]
