"""One thread per client for everything that happens later: retries, deadlines, late flushes.

Instants are on a heap; between two of them the thread sleeps. While executions are being
driven it also beats every 50 ms, so that no step needs a timer of its own.
"""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Callable
from itertools import count
from typing import Final

from resonate.daemons import Daemon

PULSE: Final = 0.05
"""Seconds between two beats while anything is being driven (design 7, "Flush")."""

LINGER: Final = 20
"""Beats without work before the thread sleeps deeply; waking it costs more than a beat."""

_LOG: Final = logging.getLogger("resonate.worker")


class Ticker:
    """Runs small jobs at their instants, on its own thread.

    Args:
        now: seconds on the client's clock; only differences count.
        pulse: called at each beat; returns whether there is still work to watch.
    """

    def __init__(self, now: Callable[[], float], pulse: Callable[[], bool]) -> None:
        self._now = now
        self._pulse = pulse
        self._heap: list[tuple[float, int, Callable[[], object]]] = []
        self._order = count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._beating = 0
        self.wakes_at = float("inf")

    def after(self, seconds: float, job: Callable[[], object]) -> None:
        """Run `job` `seconds` from now; it must be short."""
        self.at(self._now() + seconds, job)

    def at(self, instant: float, job: Callable[[], object]) -> None:
        """Run `job` when the clock reads `instant` or later."""
        with self._changed:
            heapq.heappush(self._heap, (instant, next(self._order), job))
            if instant < self.wakes_at:
                self._wake()

    def watch(self) -> None:
        """There is work to look after: beat until `pulse` says that there is none."""
        if self._beating:
            return
        with self._changed:
            self._beating = LINGER
            self._wake()

    def poke(self) -> None:
        """The clock has been set: look again at what is due."""
        with self._changed:
            self._changed.notify()

    def stop(self) -> None:
        """End the thread; what is not due yet is dropped."""
        with self._changed:
            self._stopped = True
            self._heap.clear()
            self._changed.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _wake(self) -> None:
        if self._thread is None and not self._stopped:
            self._thread = Daemon(target=self._run, name="resonate-ticker")
            self._thread.start()
        self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._stopped:
                    return
                jobs = self._due()
                if not jobs:
                    beat = self._sleep()
                    jobs = self._due()
                else:
                    beat = False
            if beat:
                self._beating -= 1  # first: whoever calls `watch` after the pulse has looked finds it so
                if self._guarded(self._pulse):
                    self._beating = LINGER
            for job in jobs:
                self._guarded(job)

    def _due(self) -> list[Callable[[], object]]:
        now, jobs = self._now(), []
        while self._heap and self._heap[0][0] <= now:
            jobs.append(heapq.heappop(self._heap)[2])
        return jobs

    def _sleep(self) -> bool:
        """Wait for the next instant or beat; whether a beat is due."""
        self.wakes_at = self._heap[0][0] if self._heap else float("inf")
        wait = max(0.0, self.wakes_at - self._now())
        if self._beating:
            wait = min(wait, PULSE)
        self._changed.wait(None if wait == float("inf") else min(wait, threading.TIMEOUT_MAX))
        self.wakes_at = float("-inf")
        return self._beating > 0

    def _guarded(self, job: Callable[[], object]) -> object:
        try:
            return job()
        except Exception:
            _LOG.exception("a timed job failed; the others go on")
            return True
