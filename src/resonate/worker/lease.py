"""Keeps the leases of all tasks we hold: one thread, one heartbeat for all of them.

User code that blocks a loop or a thread cannot stop it. A heartbeat's answer proves
nothing (protocol 9.5): that a lease is lost shows at the next fenced write.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from resonate.daemons import Daemon
from resonate.protocol.requests import TaskHeartbeat, TaskRef

_LOG: Final = logging.getLogger("resonate.worker")


class Leases:
    """The tasks held by one pid, renewed every `ttl / 2` while there are any.

    Args:
        pid: the holder.
        ttl_ms: length of a lease, milliseconds.
        send: carries the heartbeat; may block.
        beat: called after each heartbeat with the ids held; for what is read once per heartbeat.
    """

    def __init__(
        self, pid: str, ttl_ms: int, send: Callable[[TaskHeartbeat], object], beat: Callable[[list[str]], None]
    ) -> None:
        self.pid = pid
        self.ttl_ms = ttl_ms
        self._send = send
        self._beat = beat
        self._held: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def hold(self, id: str, version: int) -> None:
        """Renew this lease from now on."""
        self._held[id] = version
        if self._thread is None:
            self._start()

    def drop(self, id: str) -> None:
        """Stop renewing it."""
        self._held.pop(id, None)

    def stop(self) -> None:
        """End the thread. Idempotent."""
        self._stop.set()
        with self._lock:
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._stop.is_set():
                thread = Daemon(target=self._run, name="resonate-heartbeat")
                thread.start()
                self._thread = thread  # once it runs, so that `stop` can join it

    def _run(self) -> None:
        while not self._stop.wait(self.ttl_ms / 2000):
            held = list(self._held.items())
            if not held:
                continue
            try:
                self._send(TaskHeartbeat(self.pid, tuple(TaskRef(id, version) for id, version in held)))
                self._beat([id for id, _ in held])
            except Exception as error:
                _LOG.warning(
                    "heartbeat for %d tasks failed, trying again in %d ms: %s", len(held), self.ttl_ms // 2, error
                )
