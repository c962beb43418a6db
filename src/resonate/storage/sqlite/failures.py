"""What SQLite's errors mean for a caller, and what to do about each."""

from __future__ import annotations

import sqlite3
from typing import Final

from resonate.errors import OutcomeUnknown, ResonateStoreError, StorageUnavailable, StorageUnusable

_PRIMARY: Final = 0xFF
"""The low byte of an extended error code is the primary one."""


def translate(error: sqlite3.Error, path: str, *, committing: bool = False) -> ResonateStoreError:
    """The error to raise in place of `error`; unless it says otherwise, nothing of the batch was written."""
    code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
    said = f"{getattr(error, 'sqlite_errorname', type(error).__name__)}: {error}"
    match code:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StorageUnavailable(
                f"another program holds {path} for longer than busy_timeout; nothing was written. "
                "Have it end its transaction, then try again"
            )
        case sqlite3.SQLITE_FULL:
            return StorageUnavailable(f"no space is left for {path}; nothing was written. Free some and try again")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return unwritable(path, said)
        case sqlite3.SQLITE_CANTOPEN:
            return StorageUnusable(
                f"{path} cannot be opened ({said}). Check that its directory exists and can be written"
            )
        case sqlite3.SQLITE_NOTADB:
            return StorageUnusable(f"{path} is no SQLite database. Name another file; this one was left as it is")
        case sqlite3.SQLITE_CORRUPT:
            return StorageUnusable(
                f"{path} is damaged ({said}). Stop all processes that use it, keep a copy of it with its -wal file, "
                "and bring back a backup, or save what can be read: sqlite3 FILE .recover"
            )
        case sqlite3.SQLITE_IOERR if committing:
            return OutcomeUnknown(
                f"the disk failed while {path} was being committed ({said}): the batch may be there after a restart. "
                "Read before deciding"
            )
        case sqlite3.SQLITE_IOERR:
            return StorageUnavailable(f"the disk failed below {path} ({said}); nothing was written")
    return ResonateStoreError(f"{path}: {said}; nothing was written", 500)


def unwritable(path: str, said: str) -> ResonateStoreError:
    """We may not write the file."""
    return StorageUnusable(
        f"{path} cannot be written ({said}). This user needs to be able to write the file and its directory, "
        "which holds the journal and the locks"
    )


def vanished(path: str) -> ResonateStoreError:
    """The file we have open is not the one of that name any more."""
    return StorageUnusable(
        f"{path} was deleted or replaced while it was in use; nothing was written. What was in it can only come back "
        "from a backup: stop all processes that use it, put the file back, start again"
    )
