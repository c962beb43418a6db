"""SQLite storages for tests that are about rules, not about files: a few files, emptied again and again.

Making a file costs more than most tests, so those of a run are shared. Nothing here is
durable (`synchronous=off`); tests of durability make files of their own.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache

from resonate.protocol.footprint import Footprint
from resonate.protocol.rows import Reset
from resonate.storage.base import Storage
from resonate.storage.sqlite.location import Location
from resonate.storage.sqlite.storage import SqliteStorage

FILES = 3
"""Storages that one test may use at the same time; the next one handed out is the first again."""

_open: list[SqliteStorage] = []


def emptied() -> SqliteStorage:
    """A storage without rows, for as long as the next two are handed out."""
    if not _open:
        directory = _directory()
        _open.extend(_storage(f"{directory}/{number}.db") for number in range(FILES))
    storage = _open.pop(0)
    _open.append(storage)
    empty(storage)
    return storage


@cache
def _on_one_file(count: int) -> list[SqliteStorage]:
    path = f"{_directory()}/shared.db"
    return [_storage(path) for _ in range(count)]


def shared(count: int) -> list[SqliteStorage]:
    """Storages as of so many processes on one file without rows, until they are asked for again."""
    storages = _on_one_file(count)
    empty(storages[0])
    for storage in storages:
        storage.fresh()
    return storages


def _directory() -> str:
    directory = tempfile.mkdtemp(prefix="resonate-test-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def _storage(path: str) -> SqliteStorage:
    storage = SqliteStorage(Location(path, synchronous="off"))
    atexit.register(storage.close)
    return storage


def empty(storage: Storage) -> None:
    """Delete all rows."""
    transaction = storage.begin(lambda: Footprint(set(), set(), set()))
    transaction.apply([Reset()])
    transaction.commit()
    storage.fresh()
