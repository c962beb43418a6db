"""One open file: transactions in turn with other processes, and errors that say what to do.

All threads of a storage share one connection under one lock. A writer of any process queues
on an OS lock before it begins, so SQLite never finds the file locked by one of ours. Every
`sqlite3.Error` leaves here as an error of the client's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from resonate.errors import ResonateStoreError, StorageUnavailable, StorageUnusable
from resonate.storage.sqlite.failures import translate, unwritable, vanished
from resonate.storage.sqlite.location import Location
from resonate.storage.sqlite.locks import WriteLock
from resonate.storage.sqlite.schema import is_current, migrate

OLDEST: Final = (3, 40, 0)
"""The oldest SQLite that this is tested with."""

LOOK: Final = 0.05
"""Seconds after which a transaction makes sure that the file is still there; each time costs a tenth of a step."""

Rows = list[tuple[Any, ...]]


class Connection:
    """The file at `location`, opened and brought to this version's schema.

    Args:
        location: the file and how to use it.
        factory: the class of the connection.

    Raises:
        ResonateStoreError: it cannot be opened or written, is no database, is damaged, or newer.
    """

    def __init__(self, location: Location, factory: type[sqlite3.Connection] = sqlite3.Connection) -> None:
        if sqlite3.sqlite_version_info < OLDEST:
            raise StorageUnusable(f"SQLite {sqlite3.sqlite_version} is too old: 3.40 or newer is needed")
        self.path = location.path
        self.lock = threading.RLock()
        first = not os.path.exists(f"{location.path}-lock")
        self.locks = _lock_directory(location.path)
        self._durable = f"PRAGMA synchronous = {location.synchronous}"
        self._relaxed = "PRAGMA synchronous = normal" if location.synchronous == "full" else self._durable
        self._turn = WriteLock(self.locks, location.busy_timeout / 1000)
        self._broken: ResonateStoreError | None = None
        self._closed = False
        try:
            self._turn.acquire()
            try:
                self._database = self._open(location, factory)
            finally:
                self._turn.release()
        except BaseException as error:
            self._turn.close()
            if first and _is_no_database(error):  # nobody can be using it: it is left without our locks beside it
                shutil.rmtree(self.locks, ignore_errors=True)
            raise
        self._cursor = self._database.cursor()
        self._inode = _inode(self.path)
        self._looked_at = 0.0

    @property
    def database(self) -> sqlite3.Connection:
        """The connection itself; the caller is between `begin` and `end`."""
        return self._database

    # ---- transactions ----------------------------------------------------------------------

    def begin(self, *, durable: bool = True) -> None:
        """Wait for our turn and begin to write; the calling thread has the connection until the end.

        Raises:
            ResonateStoreError: as `failures` says; nothing was begun.
        """
        self.lock.acquire()
        try:
            self._check_open()
            self._turn.acquire()
            try:
                now = time.monotonic()
                if now > self._looked_at + LOOK:
                    if _inode(self.path) != self._inode:
                        raise vanished(self.path)
                    self._looked_at = now
                self._broken = None
                if not durable:
                    self.execute(self._relaxed)
                self.execute("BEGIN IMMEDIATE")
            except BaseException:
                self._release(durable)
                raise
        except BaseException:
            self.lock.release()
            raise

    def commit(self) -> None:
        """Store the transaction; `end` our turn then, or `rollback` if it raises.

        Raises:
            StorageUnavailable: nothing was written.
            OutcomeUnknown: the disk failed in the middle.
        """
        if self._broken is not None:
            raise self._broken
        try:
            self._cursor.execute("COMMIT")
        except sqlite3.Error as error:
            raise translate(error, self.path, committing=True) from error

    def end(self, *, durable: bool = True) -> None:
        """Our turn is over; call it once for each `begin`."""
        try:
            self._release(durable)
        finally:
            self.lock.release()

    def rollback(self, *, durable: bool = True) -> None:
        """Forget the transaction, if it has not ended by itself, and end our turn."""
        try:
            if self._database.in_transaction:
                self._cursor.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise translate(error, self.path) from error
        finally:
            self.end(durable=durable)

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Rows:
        """Run one statement; the caller holds `lock`.

        Raises:
            ResonateStoreError: as `failures` says; a transaction that saw one cannot be committed.
        """
        try:
            return self._cursor.execute(statement, parameters).fetchall()
        except sqlite3.Error as error:
            self._broken = translate(error, self.path)
            raise self._broken from error

    def last_row(self) -> int:
        """The number of the row inserted last."""
        return self._cursor.lastrowid or 0

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Have the connection for statements that only read."""
        with self.lock:
            self._check_open()
            yield

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Have our turn without a transaction: nobody else writes, opens or closes the file meanwhile."""
        with self.lock:
            self._check_open()
            self._turn.acquire()
            try:
                yield
            finally:
                self._turn.release()

    def close(self) -> None:
        """Close the file. Idempotent."""
        with self.lock:
            if self._closed:
                return
            self._closed = True
            try:
                self._turn.acquire()  # the last one to close tidies up, which nobody else must run into
            except StorageUnavailable:  # whoever holds us up will not close either
                self._database.close()
                self._turn.close()
                return
            try:
                self._database.close()
            finally:
                self._turn.release()
                self._turn.close()

    # ---- inside --------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise StorageUnavailable(f"{self.path} is closed: its client was stopped. Make a new one")

    def _release(self, durable: bool) -> None:
        try:
            if not durable:
                self._cursor.execute(self._durable)
        finally:
            self._turn.release()

    def _open(self, location: Location, factory: type[sqlite3.Connection]) -> sqlite3.Connection:
        database: sqlite3.Connection | None = None
        try:
            database = sqlite3.connect(
                location.path,
                timeout=location.busy_timeout / 1000,
                isolation_level=None,
                check_same_thread=False,
                factory=factory,
            )
            database.execute(self._durable)
            (mode,) = database.execute("PRAGMA journal_mode = wal").fetchone()
            if mode != "wal":
                raise StorageUnusable(
                    f"{location.path} is on a file system without shared memory (journal mode {mode!r}), where several "
                    "processes cannot share a file. Use a local disk"
                )
            if not os.access(location.path, os.W_OK):
                raise unwritable(location.path, "no permission")
            if not is_current(database):  # else nobody who writes need be waited for
                database.execute("BEGIN IMMEDIATE")
                migrate(database, location.path)
                database.execute("COMMIT")
        except sqlite3.Error as error:
            _discard(database)
            raise translate(error, location.path) from error
        except BaseException:
            _discard(database)
            raise
        return database


def _lock_directory(path: str) -> str:
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        raise StorageUnusable(f"{path} cannot be opened: the directory {parent} does not exist. Create it first")
    if os.path.isdir(path):
        raise StorageUnusable(f"{path} is a directory: name a file in it")
    directory = f"{path}-lock"
    try:
        _create(path)
        _make_directory(directory, os.stat(path).st_mode)
        for name in ("queue", "write", "waits", "purge"):
            os.close(os.open(f"{directory}/{name}", os.O_RDWR | os.O_CREAT, 0o666))
    except OSError as error:
        if os.path.dirname(str(error.filename)) == directory:
            raise StorageUnusable(
                f"{path} cannot be used: its lock {error.filename} cannot be opened ({error.strerror}). This user "
                f"needs to be able to write what is in {directory}: give that directory and its files the owner and "
                "rights of the file itself, or delete it while no process uses the file"
            ) from error
        raise StorageUnusable(
            f"{path} cannot be written: its locks in {directory} cannot be made ({error.strerror}). This user needs to "
            "be able to write the file and its directory"
        ) from error
    return directory


def _is_no_database(error: BaseException) -> bool:
    cause = error.__cause__
    return isinstance(cause, sqlite3.Error) and getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB


def _create(path: str) -> None:
    """Make the file if it is not there: it is for this user, and for the group where new files are for groups."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o660)
    except FileExistsError:
        return
    try:
        if not os.fstat(descriptor).st_mode & stat.S_IWGRP:
            os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def _make_directory(directory: str, mode: int) -> None:
    """Make the directory of the locks, for those who may write the file: whoever can open a lock can hold it."""
    wanted = sum(0o7 << shift for shift in (6, 3, 0) if mode >> shift & 0o6 == 0o6)
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        return
    os.chmod(directory, 0o700 | wanted)


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _discard(database: sqlite3.Connection | None) -> None:
    if database is not None:
        with contextlib.suppress(sqlite3.Error):
            database.close()
