"""Back-pressure: who wants to begin an execution waits here while as many run as may."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

_LOG: Final = logging.getLogger("resonate.worker")


class Room:
    """Waiters for a place, woken one per place that gets free, in the order they came.

    Args:
        full: whether no place is free now.
    """

    def __init__(self, full: Callable[[], bool]) -> None:
        self._full = full
        self._waiters: deque[Callable[[], object]] = deque()

    def wait(self) -> None:
        """Block until there is a place."""
        while True:
            woken = threading.Event()
            if not self._enqueue(woken.set):
                return
            try:
                woken.wait()
            except BaseException:
                self._give_up(woken.set, woken.is_set())
                raise

    async def wait_async(self) -> None:
        """`wait` for an event loop."""
        loop = asyncio.get_running_loop()
        while True:
            woken = asyncio.Event()

            def wake(woken: asyncio.Event = woken) -> None:
                loop.call_soon_threadsafe(woken.set)

            if not self._enqueue(wake):
                return
            try:
                await woken.wait()
            except BaseException:
                self._give_up(wake, True)
                raise

    def freed(self) -> None:
        """A place has become free: wake who waits longest."""
        if self._waiters:
            try:
                wake = self._waiters.popleft()
            except IndexError:  # given up in between
                return
            wake()

    def next(self) -> None:
        """Whoever was woken has begun or given up: if there still is a place, it is the next one's."""
        if not self._full():
            self.freed()

    def open(self) -> None:
        """Wake everybody; nobody has to wait any more."""
        while self._waiters:
            self.freed()

    def _enqueue(self, wake: Callable[[], object]) -> bool:
        """Queue up if there is no place; whether that was needed."""
        self._waiters.append(wake)
        if self._full():
            _LOG.info("%d wait for an execution to end or suspend", len(self._waiters))
            return True
        self._give_up(wake, False)
        return False

    def _give_up(self, wake: Callable[[], object], woken: bool) -> None:
        """Wait no more; a place that was meant for us goes to the next."""
        try:
            self._waiters.remove(wake)
        except ValueError:
            if woken:
                self.freed()
