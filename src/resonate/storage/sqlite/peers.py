"""Wakes the other processes that use the same file: a datagram each, on sockets they have registered.

A process registers by binding a socket in a directory of the system's temporary one, named
after the file. A datagram says "look"; it may be lost, so nothing depends on it: whoever
waits looks by itself each second. Where sockets cannot be had, that is all there is.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import stat
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from resonate.daemons import Daemon

POLL: Final = 1.0
"""Seconds after which a process looks by itself: repairs lost datagrams, costs next to nothing."""

GROUPS: Final = 1_000
"""Groups under which one process is found; messages for further ones are found by looking."""

SETTLED: Final = 0.1
"""Seconds for which a directory must not have changed before its time stamp is trusted to show the next change."""

_LOG: Final = logging.getLogger("resonate.storage")


class Peers:
    """The processes that use the file at `path`, this one among them."""

    def __init__(self, path: str) -> None:
        found = os.stat(path)
        name = f"{os.path.realpath(path)}\0{found.st_dev}\0{found.st_ino}"
        self._directory = Path(tempfile.gettempdir()) / f"resonate-{_digest(name, 16)}"
        self._out: socket.socket | None = None
        self._in: socket.socket | None = None
        self._mine: list[Path] = []
        self._known: dict[str, list[str]] = {}
        self._stamp = -1
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()

    def watch(self, group: str, look: Callable[[], None]) -> None:
        """Have `look` called when somebody else may have sent to `group`, and each second."""
        if self._thread is not None:
            self._register_also(group)
            return
        try:
            self._register(group)
        except OSError as error:
            _LOG.warning(
                "messages from other processes are only looked for each %g s: no socket in %s (%s)",
                POLL,
                self._directory,
                error,
            )
        self._thread = Daemon(target=self._run, args=(look,), name="resonate-peers")
        self._thread.start()

    def notify(self, groups: Iterable[str]) -> None:
        """Tell the processes that listen for `groups` to look. Never waits, never raises."""
        try:
            self._refresh()
            for group in groups:
                for path in self._known.get(_digest(group, 8), ()):
                    self._tell(path)
        except OSError as error:
            _LOG.debug("other processes could not be told, they look by themselves: %s", error)

    def close(self) -> None:
        """Listen no longer. Idempotent."""
        self._stopped.set()
        thread, self._thread = self._thread, None
        if self._in is not None and self._mine:
            self._tell(str(self._mine[0]))  # wakes our own thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        for path in self._mine:
            path.unlink(missing_ok=True)
        for end in (self._in, self._out):
            if end is not None:
                end.close()
        self._in = self._out = None
        try:
            self._directory.rmdir()
        except OSError:  # others are registered
            pass

    # ---- inside ------------------------------------------------------------------------------

    def _register(self, group: str) -> None:
        try:
            self._directory.mkdir(mode=0o700)
        except FileExistsError:
            pass
        self._look_at_directory()
        path = self._directory / f"{_digest(group, 8)}-{uuid.uuid4().hex[:12]}"
        end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            end.bind(str(path))
        except OSError:
            end.close()
            raise
        end.settimeout(POLL)
        self._in = end
        self._mine.append(path)
        for name in os.listdir(self._directory):  # those of dead processes are found, and removed, by writing to them
            if name != path.name:
                self._tell(f"{self._directory}/{name}")

    def _look_at_directory(self) -> os.stat_result:
        """Where the directory lies everybody may write, and its name can be guessed: it has to be one of ours.

        Raises:
            OSError: it is not there, or somebody else can put things into it.
        """
        found = os.lstat(self._directory)
        if not stat.S_ISDIR(found.st_mode):
            raise OSError("it is no directory")
        if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise OSError("it belongs to another user, or others may write to it")
        return found

    def _register_also(self, group: str) -> None:
        """Be found under another group too: by a second name of the same socket."""
        if self._in is None or not self._mine or len(self._mine) >= GROUPS:
            return
        name = _digest(group, 8)
        if any(path.name.startswith(f"{name}-") for path in self._mine):
            return
        path = self._directory / f"{name}-{uuid.uuid4().hex[:12]}"
        try:
            path.symlink_to(self._mine[0])
        except OSError as error:
            _LOG.debug("messages for %r from other processes are only looked for each %g s: %s", group, POLL, error)
            return
        self._mine.append(path)

    def _run(self, look: Callable[[], None]) -> None:
        end = self._in
        while not self._stopped.is_set():
            try:
                if end is not None:
                    end.recv(1)
                else:
                    self._stopped.wait(POLL)
            except TimeoutError:
                pass
            except OSError:
                end = None
                continue
            if self._stopped.is_set():
                return
            self._drain(end)
            try:
                look()
            except Exception:
                _LOG.exception("looking for messages of other processes failed; trying again in %g s", POLL)

    def _drain(self, end: socket.socket | None) -> None:
        """One look answers all datagrams that are there."""
        if end is None:
            return
        end.setblocking(False)  # MSG_DONTWAIT would not do: a socket with a timeout waits before it asks
        try:
            while True:
                end.recv(1)
        except OSError:
            end.settimeout(POLL)

    def _refresh(self) -> None:
        """Read who is registered, if that may have changed."""
        stamp = self._look_at_directory().st_mtime_ns
        if stamp == self._stamp:
            return
        known: dict[str, list[str]] = {}
        mine = {path.name for path in self._mine}
        for name in os.listdir(self._directory):
            if name not in mine:
                known.setdefault(name.partition("-")[0], []).append(f"{self._directory}/{name}")
        self._known = known
        # two changes within one tick of the file system's clock share a time stamp
        self._stamp = stamp if time.time_ns() - stamp > SETTLED * 1e9 else -1

    def _tell(self, path: str) -> None:
        out = self._out
        if out is None:
            out = self._out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            out.setblocking(False)
        try:
            out.sendto(b"!", path)
        except BlockingIOError:  # it has plenty to look at already
            return
        except (ConnectionRefusedError, FileNotFoundError):  # its process is gone
            _remove(path)
            self._stamp = -1


def _remove(path: str) -> None:
    """Remove a socket or a second name of one; whatever else lies there is not ours."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISSOCK(mode) or stat.S_ISLNK(mode):
        Path(path).unlink(missing_ok=True)


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:length]
