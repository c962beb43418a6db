"""Transactions that hold a user's statements and ours: both are committed, or neither is.

`ctx.transaction` lends a second connection of ours to a step (`Lent`); `begin_run_in` writes
through a connection of the user's (`WithinTransaction`). To the rest of the storage, which
has its own connection, either looks like another process that has written.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Final, Literal, Self

from resonate.errors import ResonateStoreError, TransactionTooLong, UsageError
from resonate.protocol.rows import Send
from resonate.storage.drivers import driver_connection, no_connection
from resonate.storage.sqlite.connection import Connection
from resonate.storage.sqlite.failures import translate
from resonate.storage.sqlite.rows import Rows

CHECK_EVERY: Final = 10_000
"""Instructions of SQLite between two looks at the clock."""

_READS: Final = frozenset((sqlite3.SQLITE_READ, sqlite3.SQLITE_SELECT, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_PRAGMA))


class Lent(sqlite3.Connection):
    """What a step of `ctx.transaction` writes with. It cannot end the transaction it is in, nor touch our tables."""

    lent = False
    shared = False
    """SQLAlchemy works on it too: what it ends is a transaction that it believes to be its own."""
    ours = False
    misuse: UsageError | None = None
    sent: Sequence[Send] = ()
    """What `begin_run_in` has put into the outbox with it."""

    def commit(self) -> None:
        if self.lent and self.shared:
            return
        self._refuse("commit()")
        super().commit()

    def rollback(self) -> None:
        if self.lent and self.shared:
            return
        self._refuse("rollback()")
        super().rollback()

    def close(self) -> None:
        if self.lent and self.shared:
            return
        self._refuse("close()")
        super().close()

    def executescript(self, script: str, /) -> sqlite3.Cursor:
        self._refuse("executescript(), which commits first")
        return super().executescript(script)

    def __enter__(self) -> Self:
        """A savepoint: the transaction itself is committed with the step's result."""
        self.execute("SAVEPOINT resonate_lent")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        if error is not None:
            self.execute("ROLLBACK TO resonate_lent")
        self.execute("RELEASE resonate_lent")
        return False

    def authorize(self, action: int, first: str | None, second: str | None, *_: str | None) -> int:
        """Whether a statement of the step may be run; for `set_authorizer`."""
        if action == sqlite3.SQLITE_TRANSACTION:
            self.misuse = self._misused(first or "")
            return sqlite3.SQLITE_DENY
        if action in _READS or self.ours:
            return sqlite3.SQLITE_OK
        for name in (first, second):
            if name is not None and name.startswith("resonate_") and name != "resonate_lent":
                self.misuse = UsageError(f"a step of ctx.transaction changed {name}, which is kept by resonate itself")
                return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK

    def _refuse(self, what: str) -> None:
        if self.lent:
            self.misuse = self._misused(what)
            raise self.misuse

    @staticmethod
    def _misused(what: str) -> UsageError:
        return UsageError(
            f"a step of ctx.transaction called {what}: its transaction is begun before it and committed after it, "
            "together with its result. Leave that out (`with connection:` is a savepoint), or raise to undo everything"
        )


class JointTransaction(Rows):
    """A write transaction on a connection of its own, which is lent to a step before we write.

    Args:
        connection: to the file; its database is a `Lent`.
        told: called after the commit with the messages it put into the outbox.
    """

    def __init__(self, connection: Connection, told: Callable[[Sequence[Send]], None]) -> None:
        super().__init__(connection)
        self._own = connection
        self._told = told

    def begin(self) -> None:
        """Wait for our turn and begin to write."""
        self._own.begin()
        self.forget()

    @contextlib.contextmanager
    def lend(self, seconds: float) -> Iterator[sqlite3.Connection]:
        """Give the connection away for the block.

        Raises:
            TransactionTooLong: the block took longer than `seconds`.
            UsageError: what ran in the block tried to end the transaction.
        """
        database = self._own.database
        assert isinstance(database, Lent)
        until = time.monotonic() + seconds
        database.sent = ()
        database.misuse = None
        database.lent = True
        database.set_authorizer(database.authorize)
        database.set_progress_handler(lambda: time.monotonic() > until, CHECK_EVERY)
        try:
            yield database
        except Exception as error:
            if time.monotonic() > until:
                raise TransactionTooLong(self._own.path, seconds) from error
            if database.misuse is not None:
                raise database.misuse from error
            raise
        finally:
            database.set_progress_handler(None, 0)
            database.set_authorizer(None)
            database.lent = False
            database.row_factory, database.text_factory = None, str
        if time.monotonic() > until:
            raise TransactionTooLong(self._own.path, seconds)
        if database.misuse is not None:
            raise database.misuse

    def commit(self) -> None:
        self.flush()
        self._own.commit()
        sent = [*self._lent().sent, *self.sent]
        self.committed()
        self._own.end()
        self._told(sent)

    def rollback(self) -> None:
        self.undo()
        self._own.rollback()

    def close(self) -> None:
        self._own.close()

    def _lent(self) -> Lent:
        database = self._own.database
        assert isinstance(database, Lent)
        return database


class WithinTransaction(Rows):
    """Our rows in a transaction of the user's: theirs to commit or roll back.

    Args:
        database: the user's connection.
        path: the file that it must be connected to.

    Raises:
        TypeError, UsageError: it is no connection to that file.
        StorageUnavailable: another program holds the file.
    """

    def __init__(self, connection: Any, path: str) -> None:
        database = driver_connection(connection)
        if not isinstance(database, sqlite3.Connection):
            wanted = "`sqlite3.Connection`, or a session or connection of SQLAlchemy over one"
            raise no_connection(connection, wanted)
        self._borrowed = _Borrowed(database, path)
        super().__init__(self._borrowed)
        self._check_file(path)
        self._begun = not database.in_transaction
        if self._begun:
            _refuse_autocommit(database)
            self._execute("BEGIN IMMEDIATE")
        self._changes = database.total_changes

    def commit(self) -> None:
        """Have everything in the user's transaction; nothing is durable before they commit it."""
        database = self._borrowed.database
        with self._borrowed.as_ours():
            self.flush()
        if database.total_changes == self._changes:
            self.rollback()
        if isinstance(database, Lent):
            database.sent = [*database.sent, *self.sent]

    def rollback(self) -> None:
        """Leave the connection as it was: nothing has been written before `commit`, but a transaction may be begun."""
        if self._begun and self._borrowed.database.in_transaction:
            self._execute("ROLLBACK")

    def leave(self) -> Callable[[], bool]:
        """What tells whether the user has yet to commit or roll back."""
        return _Pending(self._borrowed.database).still

    def _check_file(self, path: str) -> None:
        files = {name: file for _, name, file in self._execute("PRAGMA database_list")}
        file = files.get("main") or ""
        if not file or not os.path.samefile(file, path):
            raise UsageError(
                f"begin_run_in was given a connection to {file or 'a database in memory'}, but state lives in {path}: "
                "both have to be in one file to be committed together"
            )


def _refuse_autocommit(database: sqlite3.Connection) -> None:
    """Nobody is to be left with a transaction that they did not begin, and would not end."""
    if database.isolation_level is None or getattr(database, "autocommit", False) is True:  # that came with Python 3.12
        raise UsageError(
            "begin_run_in was given a connection in autocommit mode outside of a transaction: what it starts could not "
            "be part of one. Execute BEGIN IMMEDIATE on it before, and COMMIT after"
        )


class _Pending:
    """Whether a connection of the user's is in a transaction; lets go of it when they have dropped it."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database: sqlite3.Connection | None = database

    def still(self) -> bool:
        """Whether the user has yet to commit or roll back."""
        if self._database is None:
            return False
        if self.holders() <= _alone():
            self._database = None
            gc.collect()  # it refers to itself, and nobody can write before its transaction is rolled back
            return False
        try:
            return self._database.in_transaction
        except sqlite3.Error:  # closed
            return False

    def holders(self) -> int:
        """How many have the connection: `sqlite3` knows no weak references to one."""
        return sys.getrefcount(self._database)

    def close(self) -> None:
        """End the connection."""
        if self._database is not None:
            self._database.close()


@functools.cache
def _alone() -> int:
    """The holders of a connection that nobody else has."""
    pending = _Pending(sqlite3.connect(":memory:"))
    try:
        return pending.holders()
    finally:
        pending.close()


class _Borrowed:
    """The statements of `Rows` on a connection of the user's, whatever they have set up on it."""

    def __init__(self, database: sqlite3.Connection, path: str) -> None:
        self.database = database
        self._path = path
        try:
            self._cursor = database.cursor()
        except sqlite3.ProgrammingError as error:
            raise UsageError(
                f"begin_run_in was given a connection that cannot be used here: {error} Open it with check_same_thread="
                "False for use on several threads, which `await r.aio.begin_run_in(...)` is too"
            ) from error
        self._cursor.row_factory = None

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        database = self.database
        texts, database.text_factory = database.text_factory, str
        try:
            return self._cursor.execute(statement, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._translated(error) from error
        finally:
            database.text_factory = texts

    def last_row(self) -> int:
        return self._cursor.lastrowid or 0

    @contextlib.contextmanager
    def as_ours(self) -> Iterator[None]:
        """For the block, statements may change our tables."""
        lent = self.database if isinstance(self.database, Lent) else None
        if lent is not None:
            lent.ours = True
        try:
            yield
        finally:
            if lent is not None:
                lent.ours = False

    def _translated(self, error: sqlite3.Error) -> ResonateStoreError:
        return translate(error, self._path)


__all__ = ["JointTransaction", "Lent", "WithinTransaction"]
