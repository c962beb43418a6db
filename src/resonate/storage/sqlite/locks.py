"""Locks between processes: who may write now, and which pid is alive.

They are `flock`s on files in a directory beside the database, `app.db-lock`. The kernel
frees them when a process ends, however it ends, so a lock that can be had is a proof. A
descriptor is closed in forked children, which would keep the lock alive otherwise.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import weakref
from pathlib import Path
from typing import Final

from resonate.errors import UsageError

_NOW: Final = fcntl.LOCK_EX | fcntl.LOCK_NB
_NAME_LIMIT: Final = 120
"""Characters of a pid that go into a file's name; what is longer goes in as a digest."""


class LockFile:
    """One open lock file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def close_in_children(self) -> None:
        """Close it in processes that this one forks: a child must not keep the lock when we are gone."""
        mine = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _drop(mine))

    def try_lock(self) -> bool:
        """Take the lock if nobody has it."""
        try:
            fcntl.flock(self.descriptor, _NOW)
        except BlockingIOError:
            return False
        return True

    def unlock(self) -> None:
        """Let others have the lock."""
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    def is_current(self) -> bool:
        """Whether the file that is locked is still the one of that name."""
        try:
            there, here = os.stat(self.path), os.fstat(self.descriptor)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)

    def close(self) -> None:
        """Free the lock. Idempotent."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class WriteLock:
    """The right to write, for one process at a time, in turns.

    Two locks make the turns: whoever waits for the second holds the first, so a process that
    has just written and wants to write again queues behind all who waited meanwhile. A byte
    of shared memory says that somebody waits; while it is zero, the second lock alone will
    do. It is a hint: were it wrong, turns would be less fair, never less exclusive.
    """

    def __init__(self, directory: str) -> None:
        self._queue = LockFile(f"{directory}/queue")
        self._write = LockFile(f"{directory}/write")
        self._waits = _shared_byte(f"{directory}/waits")
        self._queue.close_in_children()
        self._write.close_in_children()

    def acquire(self) -> None:
        """Wait until it is our turn."""
        flock = fcntl.flock
        queue, write, waits = self._queue.descriptor, self._write.descriptor, self._waits
        if not waits[0]:
            try:
                flock(write, _NOW)
                return
            except BlockingIOError:
                pass
        flock(queue, fcntl.LOCK_EX)
        try:
            waits[0] = 1
            flock(write, fcntl.LOCK_EX)
        finally:
            waits[0] = 0
            flock(queue, fcntl.LOCK_UN)

    def release(self) -> None:
        """Let the next one write."""
        fcntl.flock(self._write.descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Free the locks. Idempotent."""
        self._queue.close()
        self._write.close()
        self._waits.close()


class PidLock:
    """Held for as long as the process that goes by `pid` lives; to be made by whoever may write now.

    Raises:
        UsageError: another live process goes by that pid.
    """

    def __init__(self, directory: str, pid: str) -> None:
        path = f"{directory}/pid-{_file_name(pid)}"
        while True:
            lock = LockFile(path)
            if not lock.try_lock():
                holder = _read(path)
                lock.close()
                raise UsageError(
                    f"pid {pid!r} is in use by another live process of this file ({holder or 'process unknown'}). "
                    "Stop that one first, or give each process a pid of its own"
                )
            if lock.is_current():
                break
            lock.close()  # whoever had it removed the file before we got the lock
        os.ftruncate(lock.descriptor, 0)
        os.pwrite(lock.descriptor, f"process {os.getpid()}".encode(), 0)
        lock.close_in_children()
        self._lock = lock

    def close(self) -> None:
        """The process goes by this pid no longer. Idempotent."""
        if self._lock.descriptor >= 0:
            if self._lock.is_current():
                os.unlink(self._lock.path)
            self._lock.close()


def forget_dead(directory: str) -> None:
    """Remove the files of pids whose processes ended without removing them; for whoever may write now."""
    for path in Path(directory).glob("pid-*"):
        try:
            lock = LockFile(str(path))
        except OSError:
            continue
        try:
            if lock.try_lock() and lock.is_current():
                path.unlink(missing_ok=True)
        finally:
            lock.close()


def _shared_byte(path: str) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        os.ftruncate(descriptor, 1)
        return mmap.mmap(descriptor, 1)
    finally:
        os.close(descriptor)


def _file_name(pid: str) -> str:
    return pid if len(pid) <= _NAME_LIMIT and pid.isascii() else hashlib.sha256(pid.encode()).hexdigest()


def _read(path: str) -> str:
    try:
        return Path(path).read_text("ascii", "replace")[:40]
    except OSError:
        return ""


def _drop(mine: weakref.ref[LockFile]) -> None:
    lock = mine()
    if lock is not None:
        lock.close()
