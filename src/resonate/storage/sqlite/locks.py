"""Locks between processes: who may write now, and which pid is alive.

They are `flock`s on files in a directory beside the database, `app.db-lock`. The kernel
frees them when a process ends, however it ends, so a lock that can be had is a proof. A
descriptor is closed in forked children, which would keep the lock alive otherwise.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import mmap
import os
import struct
import threading
import time
import weakref
from pathlib import Path
from typing import Final

from resonate.daemons import Daemon
from resonate.errors import StorageUnavailable, UsageError

PATIENCE: Final = 10.0
"""Seconds for which one process may write before the others give up."""

_NOW: Final = fcntl.LOCK_EX | fcntl.LOCK_NB
_NAME_LIMIT: Final = 120
"""Characters of a pid that go into a file's name; what is longer goes in as a digest."""

_SHARED: Final = 16
_HOLDER: Final = struct.Struct("<Id")
_HOLDER_AT: Final = 4
"""The shared memory: whether somebody waits (one byte), then who writes and since when (monotonic seconds)."""

_LOOK: Final = 0.05
"""Seconds after which whoever waits looks at who holds it up."""

_COMPLAIN_AFTER: Final = 1.0
"""Seconds after which whoever waits says for whom, and gives up if that one has been at it for too long."""

_LOG: Final = logging.getLogger("resonate.storage")


class LockFile:
    """One open lock file.

    Raises:
        StorageUnavailable: it cannot be made: no space, no permission.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            self.descriptor = -1
            raise StorageUnavailable(f"{path} cannot be made ({error.strerror}); nothing was written") from error

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
    """The right to write, for one process at a time, in turns, and never waited for without end.

    Two locks make the turns: whoever waits for the second holds the first, so a process that
    has just written and wants to write again queues behind all who waited meanwhile. A byte
    of shared memory says that somebody waits; while it is zero, the second lock alone will
    do. It is a hint: were it wrong, turns would be less fair, never less exclusive. Beside it
    is who writes and since when, for whoever has to be told why nothing goes on.

    A call that waits for a lock cannot be taken back, so a thread makes it and we wait for the
    thread, for as long as we like. For use by one thread at a time.

    Args:
        directory: of the locks, beside the database.
        limit: seconds for which one process may write before the others give up.
    """

    def __init__(self, directory: str, limit: float = PATIENCE) -> None:
        self._path = directory.removesuffix("-lock")
        self._limit = limit
        self._write = LockFile(f"{directory}/write")
        self._shared = _shared_memory(f"{directory}/waits")
        self._turns = _Turns(LockFile(f"{directory}/queue"), self._write, self._shared)
        self._complained = float("-inf")
        self._write.close_in_children()

    def acquire(self) -> None:
        """Wait until it is our turn.

        Raises:
            StorageUnavailable: another process has been writing for longer than the limit; says which one.
        """
        if self._shared[0] or not self._write.try_lock():
            self._wait()
        _HOLDER.pack_into(self._shared, _HOLDER_AT, os.getpid(), time.monotonic())

    def release(self) -> None:
        """Let the next one write."""
        _HOLDER.pack_into(self._shared, _HOLDER_AT, 0, 0.0)
        fcntl.flock(self._write.descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Free the locks. Idempotent."""
        self._turns.close()
        self._write.close()
        self._shared.close()

    def _wait(self) -> None:
        began = time.monotonic()
        self._turns.want()
        try:
            while not self._turns.come(_LOOK):
                waited = time.monotonic() - began
                if waited > _COMPLAIN_AFTER:
                    self._complain(waited)
        except BaseException:
            self._turns.want_no_more()
            raise

    def _complain(self, waited: float) -> None:
        """Say who holds us up, at first in the log and then with an error."""
        now = time.monotonic()
        pid, since = _HOLDER.unpack_from(self._shared, _HOLDER_AT)
        who, what_to_do, seen = _described(pid)
        # of one that is gone, since when it wrote says nothing about who writes now
        held = max(waited, now - since if seen and 0 < since <= now else 0.0)
        text = f"{who} has held the write lock of {self._path} for {held:.0f} s"
        if held > self._limit:
            raise StorageUnavailable(f"{text}; nothing was written. {what_to_do}")
        if now - self._complained > self._limit:
            self._complained = now
            _LOG.warning("%s, and others wait. %s", text, what_to_do)


class _Turns:
    """A thread that queues for the second lock, and hands it over to whoever wants it by then.

    Args:
        queue, write: the two locks.
        shared: its first byte says that somebody waits.
    """

    def __init__(self, queue: LockFile, write: LockFile, shared: mmap.mmap) -> None:
        self._queue = queue
        self._write = write
        self._shared = shared
        self._state = threading.Lock()
        self._queues = False
        """Whether the thread is at it, for us or for one who has given up."""
        self._first = False
        self._wanted = False
        self._asked = threading.Semaphore(0)
        self._handed = threading.Semaphore(0)
        self._thread: threading.Thread | None = None
        self._closed = False
        queue.close_in_children()

    def want(self) -> None:
        """Have it queue."""
        if self._thread is None:
            self._thread = Daemon(target=self._run, name="resonate-sqlite-turn")
            self._thread.start()
        with self._state:
            self._wanted = True
            if not self._queues:
                self._queues = True
                self._asked.release()

    def come(self, seconds: float) -> bool:
        """Whether it is our turn, within so long."""
        if self._handed.acquire(timeout=seconds):
            return True
        with self._state:  # a process that stands still first in the queue is not to hold up those behind it
            if self._wanted and not self._first and self._write.try_lock():
                self._wanted = False
                return True
        return False

    def want_no_more(self) -> None:
        """We have given up: let others have it when it comes."""
        with self._state:
            wanted, self._wanted = self._wanted, False
            if not wanted and self._handed.acquire(blocking=False):  # it has come just now
                self._write.unlock()

    def close(self) -> None:
        """End the thread, or leave it where it waits. Idempotent."""
        self._closed = True
        self._asked.release()
        self._queue.close()

    def _run(self) -> None:
        while True:
            self._asked.acquire()
            if self._closed:
                return
            try:
                self._take()
            except (OSError, ValueError):  # closed meanwhile, by which the locks are free
                return

    def _take(self) -> None:
        queue, write, shared = self._queue.descriptor, self._write, self._shared
        fcntl.flock(queue, fcntl.LOCK_EX)
        try:
            with self._state:
                self._first = self._wanted  # else who wanted it has found it free
                self._queues = self._first
            if not self._first:
                return
            shared[0] = 1
            fcntl.flock(write.descriptor, fcntl.LOCK_EX)
            self._hand_over()
        finally:
            if self._first:
                self._first = False
                shared[0] = 0
            fcntl.flock(queue, fcntl.LOCK_UN)

    def _hand_over(self) -> None:
        """The second lock is ours; as long as the byte says that somebody waits, nobody else here looks for it."""
        with self._state:
            self._queues = False
            if self._wanted:
                self._wanted = False
                self._handed.release()
            else:
                self._write.unlock()


def _described(pid: int) -> tuple[str, str, bool]:
    """Who that is, what can be done about it, and whether it is a living process of this machine that we see."""
    who = f"process {pid}" if pid else "another process"
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1]
    except OSError:
        return who, "Have it end its transaction, or end it: the lock is freed then", False
    if state in b"Tt":
        return f"{who}, which is stopped,", f"Have it go on (kill -CONT {pid}), or end it", True
    return who, f"Have it end its transaction, or end it (kill {pid}): the lock is freed then", True


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
        with contextlib.suppress(OSError):  # on a full disk nobody can be told who we are, but the lock is ours
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
        except StorageUnavailable:
            continue
        try:
            if lock.try_lock() and lock.is_current():
                path.unlink(missing_ok=True)
        finally:
            lock.close()


def _shared_memory(path: str) -> mmap.mmap:
    file = LockFile(path)
    try:
        there = os.fstat(file.descriptor).st_size
        if there < _SHARED:  # written, not left as a hole: memory without a block on a full disk ends the process
            os.pwrite(file.descriptor, bytes(_SHARED - there), there)
        return mmap.mmap(file.descriptor, _SHARED)
    except OSError as error:
        raise StorageUnavailable(f"{path} cannot be written ({error.strerror}); nothing was written") from error
    finally:
        file.close()


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
