"""SQLite storages for tests that are about rules, not about files: a few files, emptied again and again.

Making a file costs more than most tests, so those of a run are shared. Nothing here is
durable (`synchronous=off`); tests of durability make files of their own.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile

from resonate.protocol.footprint import Footprint
from resonate.protocol.rows import Reset
from resonate.storage.sqlite.location import Location
from resonate.storage.sqlite.storage import SqliteStorage

FILES = 3
"""Storages that one test may use at the same time; the next one handed out is the first again."""

_open: list[SqliteStorage] = []


def emptied() -> SqliteStorage:
    """A storage without rows, for as long as the next two are handed out."""
    if not _open:
        directory = tempfile.mkdtemp(prefix="resonate-test-")
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
        for number in range(FILES):
            _open.append(SqliteStorage(Location(f"{directory}/{number}.db", synchronous="off")))
            atexit.register(_open[-1].close)
    storage = _open.pop(0)
    _open.append(storage)
    transaction = storage.begin(lambda: Footprint(set(), set(), set()))
    transaction.apply([Reset()])
    transaction.commit()
    storage.fresh()
    return storage
