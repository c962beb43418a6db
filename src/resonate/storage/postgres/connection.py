"""One session with the database: opened when needed, reopened when lost, and errors that say what to do.

Statements outside of a transaction are one each: one round trip, committed or not at all.
Every `psycopg.Error` leaves here as an error of the client's, `Conflict` or `Lost`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from resonate.errors import StorageUnavailable, StorageUnusable
from resonate.storage.base import Conflict
from resonate.storage.postgres.failures import Lost, is_lost, refused, translate, unreachable
from resonate.storage.postgres.location import Location
from resonate.storage.postgres.prepared import Prepared
from resonate.storage.postgres.presence import Presence

PATIENCE: Final = 15.0
"""Seconds for which a caller waits for a database that is away: a restart or a switch-over takes no longer."""

AGAIN: Final = (0.01, 0.05, 0.1, 0.25, 0.5)
"""Seconds between two attempts to connect; the last one repeats."""

CONNECT_TIMEOUT: Final = 5
"""Seconds for one attempt at one host."""

PREPARED_AFTER: Final = 2
"""How often psycopg sends a statement before it prepares it."""

STATEMENTS: Final = 500
"""Statements that a session keeps prepared."""

DEFAULTS: Final[dict[str, Any]] = {
    "connect_timeout": CONNECT_TIMEOUT,
    "application_name": "resonate",
    # a host that is gone without a word is noticed after some ten seconds, not after two hours
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""What we ask of libpq where the URL says nothing else."""

UNICODE: Final = "UTF8"
"""How our sessions write text, whatever the database, the role or the environment would have them do."""

ENCODINGS: Final = (UNICODE, "SQL_ASCII", None)
"""Encodings of databases that hold any text: the second keeps bytes as they come, None is of those with no other."""

_LOG: Final = logging.getLogger("resonate.storage")

Statement = tuple[str, Sequence[Any]]


class Connection:
    """A session that comes back.

    Args:
        location: the database.
        presence: told whether the database is there; of its own unless there are others to share it with.
        opened: called with each new session before its first use.
        relaxed: its commits need not be durable.
    """

    def __init__(
        self,
        location: Location,
        presence: Presence | None = None,
        opened: Callable[[psycopg.Connection[Any]], None] | None = None,
        *,
        relaxed: bool = False,
    ) -> None:
        self.where = location.shown
        self.lock = threading.RLock()
        self.pooled = False
        """Whether a pooler stands between us and the sessions, which then are not ours alone."""
        self.waiting_since: float | None = None
        """When the statement was sent whose answer is waited for, on the monotonic clock."""
        self._location = location
        self._presence = presence or Presence(location.shown, PATIENCE)
        self._opened = opened
        self._relaxed = relaxed
        self._session: psycopg.Connection[Any] | None = None
        self._prepared: Prepared
        self._closed = threading.Event()
        self._away_since: float | None = None
        self._known = False
        """Whether there ever was a session: then what fails now may pass."""

    @property
    def session(self) -> psycopg.Connection[Any]:
        """The session, opened if there is none.

        Raises:
            StorageUnavailable, StorageUnusable: there is none to be had.
        """
        session = self._session
        if session is not None and not session.closed:
            return session
        return self._reopen()

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one statement.

        Raises:
            Lost: the session ended; nobody knows whether the statement was carried out.
            Conflict: others were in the way; nothing was done, and trying again may help.
            ResonateStoreError: as `failures` says; nothing was done.
        """
        session = self.session
        self.waiting_since = time.monotonic()
        try:
            if (rows := self._prepared.run(statement, parameters)) is not None:
                return rows
            cursor = session.execute(statement, parameters, binary=True)
            return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            self._failed(error)
            raise translate(error, self.where) from error
        finally:
            self.waiting_since = None

    def together(self, statements: Sequence[Statement]) -> list[list[tuple[Any, ...]]]:
        """The rows of several statements that are sent in one go; after an error the rest is not carried out.

        Raises:
            as `execute`.
        """
        session = self.session
        self.waiting_since = time.monotonic()
        try:
            pipeline = session.pipeline()
            pipeline.__enter__()
            try:
                cursors = [session.execute(s, p, binary=True) for s, p in statements]
            finally:  # told of an error, it would log what it raises otherwise
                pipeline.__exit__(None, None, None)
            return [cursor.fetchall() if cursor.description else [] for cursor in cursors]
        except psycopg.Error as error:
            self._failed(error)
            raise translate(error, self.where) from error
        finally:
            self.waiting_since = None

    def ask(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """`execute` of what may be carried out twice: once more if the session was lost.

        Raises:
            StorageUnavailable: it was lost each time.
        """
        for _ in AGAIN[1:]:
            with contextlib.suppress(Lost):
                return self.execute(statement, parameters)
        try:
            return self.execute(statement, parameters)
        except Lost as lost:
            raise unreachable(self.where, lost) from lost

    def rollback(self) -> None:
        """End whatever transaction is open; never raises."""
        session = self._session
        if session is not None and not session.closed and session.info.transaction_status != IDLE:
            self.waiting_since = time.monotonic()
            try:
                if not self._prepared.command("ROLLBACK"):
                    session.execute("ROLLBACK")
            except psycopg.Error:
                self.drop()
            finally:
                self.waiting_since = None

    @property
    def backend(self) -> int | None:
        """The process of the database behind the session; None if there is no session."""
        session = self._session
        with contextlib.suppress(psycopg.Error):
            return None if session is None else session.info.backend_pid
        return None

    def cut(self, since: float) -> bool:
        """End the connection under the statement that is waited for since then; from any thread.

        Returns:
            Whether it was waited for still.
        """
        session = self._session
        try:
            own = -1 if session is None else os.dup(session.fileno())
        except (psycopg.Error, OSError):
            return False
        if own == -1:
            return False
        with socket.socket(fileno=own) as ours:
            # a session is closed only after its statement: as long as that is waited for, this is its socket
            if self.waiting_since != since:
                return False
            with contextlib.suppress(OSError):
                ours.shutdown(socket.SHUT_RDWR)
        return True

    def drop(self) -> None:
        """End the session; the next use opens another."""
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(psycopg.Error):
                session.close()

    def give_up(self) -> None:
        """Wait for the database no longer; the session that is there can still be used."""
        self._closed.set()

    def close(self) -> None:
        """End the session for good. Idempotent."""
        self._closed.set()
        with self.lock:
            self.drop()

    # ---- inside --------------------------------------------------------------------------------

    def _failed(self, error: psycopg.Error) -> None:
        if is_lost(error) or (self._session is not None and self._session.closed):
            self.drop()

    def _reopen(self) -> psycopg.Connection[Any]:
        """A new session, waited for while there is hope."""
        self.drop()
        now = time.monotonic()
        since = self._away_since
        until = now + PATIENCE if since is None else max(since + PATIENCE, now)
        attempt = 0
        while not self._closed.is_set():
            try:
                session = self._session = connect(self._location)
                self.waiting_since = time.monotonic()
                try:
                    self._prepare(session)
                finally:
                    self.waiting_since = None
                self._away_since = None
                self._known = True
                self._presence.back()
                return session
            except psycopg.Error as error:
                self.drop()
                if not is_lost(error) or not _passing(error):
                    raise no_session(error, self.where, passing=self._known) from error
                self._presence.away(_first_line(error))
                if time.monotonic() >= until:
                    self._away_since = since or now
                    raise unreachable(self.where, _first_line(error)) from error
            self._closed.wait(AGAIN[min(attempt, len(AGAIN) - 1)])
            attempt += 1
        raise StorageUnavailable(f"{self.where} is closed: its client was stopped. Make a new one")

    def _prepare(self, session: psycopg.Connection[Any]) -> None:
        self.pooled = is_pooled(session)
        self._prepared = Prepared(session, 0 if self.pooled else STATEMENTS)
        if not self.pooled:
            session.prepare_threshold = PREPARED_AFTER
            _by_index(session)
            if self._relaxed:
                session.execute("SET synchronous_commit = off")
        if self._opened is not None:
            self._opened(session)


IDLE: Final = psycopg.pq.TransactionStatus.IDLE
BROKEN: Final = psycopg.pq.TransactionStatus.INERROR


def connect(location: Location, factory: type[psycopg.Connection[Any]] = psycopg.Connection) -> psycopg.Connection[Any]:
    """A session in which each statement is a transaction. It prepares nothing until it is known to be ours alone.

    Raises:
        psycopg.Error: there is none to be had.
        StorageUnusable: the database does not hold every text.
    """
    given = conninfo_to_dict(location.conninfo)
    missing = {name: value for name, value in DEFAULTS.items() if name not in given}
    session = factory.connect(location.conninfo, autocommit=True, **{**missing, "client_encoding": UNICODE})
    encoding = session.info.parameter_status("server_encoding")
    if encoding not in ENCODINGS:
        session.close()
        raise StorageUnusable(
            f"{location.shown} has the encoding {encoding}, which cannot hold every id and tag. Use a database that "
            "was made with ENCODING 'UTF8'"
        )
    session.prepare_threshold = None
    session.prepared_max = STATEMENTS
    return session


def is_pooled(session: psycopg.Connection[Any]) -> bool:
    """Whether a pooler stands in between: then the process behind the session is not the one that we were told.

    What is prepared in such a session is found, or not, by whoever is given its other end next, under names that are
    the same for all of us.
    """
    (pid,) = session.execute("SELECT pg_backend_pid()").fetchone() or (0,)
    return bool(pid != session.info.backend_pid)


def no_session(error: psycopg.Error, where: str, *, passing: bool = False) -> Exception:
    """What to raise where `error` kept one from having a session.

    Args:
        passing: whether the URL is known to be right.
    """
    found = translate(error, where)
    if isinstance(found, Conflict):
        return StorageUnavailable(f"{where}: {found}; others were in the way, and nothing was written. Try again")
    if error.sqlstate is not None and not isinstance(found, Lost):
        return found
    said = _first_line(error)
    return unreachable(where, said) if passing or (is_lost(error) and _passing(error)) else refused(where, said)


def _by_index(session: psycopg.Connection[Any]) -> None:
    """Have the statements of this session go by index, whatever the database believes of the tables.

    A prepared statement is planned once. While a table is young it is small or nothing is known of it, so the plan
    reads all of it, and goes on doing so while thousands of rows come, until the table is analysed: 4 ms for what
    takes 0.3 ms. All our statements name keys or ends of an index.
    """
    try:
        session.execute("; ".join(f"SET {name} = off" for name in _ALL_ROWS))
    except psycopg.Error as error:
        if is_lost(error):
            raise
        _LOG.debug("this database plans in its own way: %s", error)


_ALL_ROWS: Final = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "enable_material")


def _passing(error: psycopg.Error) -> bool:
    """Whether a failed attempt to connect may be due to something that passes: a start, a restart, a cut network.

    libpq gives no SQLSTATE for what the server answers to an attempt, only its text.
    """
    return error.sqlstate is not None or _may_pass(str(error))


def _may_pass(text: str) -> bool:
    return _NO_VALUE.search(text) is None and not any(mark in text for mark in _LASTING)


_LASTING: Final = (
    "authentication failed",
    "no password supplied",
    "does not exist",
    "no pg_hba.conf entry",
    "invalid connection option",
    "unsupported startup parameter",
    "unrecognized configuration parameter",
    "invalid value for parameter",
    "permission denied to set parameter",
    "invalid URI",
    "invalid port number",
    "invalid integer value",
    "could not translate host name",
    "Name or service not known",
    "failed to resolve host",
    "is not permitted to log in",
    "permission denied for database",
    "does not support SSL",
    "certificate",
)

_NO_VALUE: Final = re.compile(r"invalid \w+ value")
"""What libpq says of an option that has none of its values."""


def _first_line(error: psycopg.Error) -> str:
    """What an attempt to connect has failed of; of several hosts each, what does not pass by itself first."""
    text = str(error)
    reasons = dict.fromkeys(map(_reason, _HOST.split(text)[1:] or [text]))
    return "; ".join(sorted(reasons, key=_may_pass)) or type(error).__name__


def _reason(text: str) -> str:
    said = " ".join(text.split())
    for prefix in _SAYS:
        said = said.removeprefix(prefix)
    return said.removesuffix("?").removesuffix(_ASKS).removesuffix(".")


_HOST: Final = re.compile(r"^- host: .*?': ", re.MULTILINE)
"""What psycopg puts in front of the failure of each of several hosts, all of which come behind the last one's."""

_SAYS: Final = ("connection failed: ", "connection is bad: ")
"""What psycopg puts in front of what libpq says; so do we."""


_ASKS: Final = " Is the server running on that host and accepting TCP/IP connections"
