"""Back-pressure: who wants to begin an execution waits here while as many run as may.

Between the decision to begin one and the moment at which it is held lies a request, which may
wait for a disk or a network. So whoever may begin one keeps a place for it meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from resonate.worker.waiting import await_event

_LOG: Final = logging.getLogger("resonate.worker")


class Room:
    """Places for executions, and waiters, woken one per place that gets free, in the order they came.

    Args:
        left: how many more executions there may be besides those that are held.
        spare: called when places were given back.
    """

    def __init__(self, left: Callable[[], int], spare: Callable[[], object]) -> None:
        self._left = left
        self._spare = spare
        self._kept = 0
        self._lock = threading.Lock()
        self._waiters: deque[Callable[[], object]] = deque()

    @property
    def full(self) -> bool:
        """Whether no place is free now."""
        return self._left() <= self._kept

    def keep(self, most: int = 1, beyond: int = 0) -> int:
        """Keep places for executions that are about to be held, until `give_back`.

        Args:
            most: how many are wanted.
            beyond: how many more there may be than usual.

        Returns:
            How many are kept, possibly none.
        """
        with self._lock:
            count = max(0, min(most, self._left() + beyond - self._kept))
            self._kept += count
        return count

    def give_back(self, count: int = 1) -> None:
        """What places were kept for is held, or will not be."""
        if count:
            with self._lock:
                self._kept -= count
            if self._waiters and not self.full:
                self.freed()
            self._spare()

    def wait(self) -> None:
        """Block until a place is kept for the caller."""
        while not self.keep():
            self._pause()

    async def wait_async(self) -> None:
        """`wait` for an event loop."""
        loop = asyncio.get_running_loop()
        while not self.keep():
            woken = asyncio.Event()

            def wake(woken: asyncio.Event = woken) -> None:
                loop.call_soon_threadsafe(woken.set)

            if self._enqueue(wake):
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

    def open(self) -> None:
        """Wake everybody; nobody has to wait any more."""
        while self._waiters:
            self.freed()

    def _pause(self) -> None:
        """Block until there may be a place."""
        woken = threading.Event()
        if self._enqueue(woken.set):
            try:
                await_event(woken)
            except BaseException:
                self._give_up(woken.set, woken.is_set())
                raise

    def _enqueue(self, wake: Callable[[], object]) -> bool:
        """Queue up if there is no place; whether that was needed."""
        self._waiters.append(wake)
        if self.full:
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


class Place:
    """One place, kept until it is given back, which may be done more than once and by several threads.

    Args:
        room: that keeps it; None for executions that need none.
    """

    __slots__ = ("_rooms",)

    def __init__(self, room: Room | None) -> None:
        self._rooms = [] if room is None else [room]

    def give_back(self) -> None:
        """What it was kept for is held, or will not be."""
        if self._rooms:
            try:
                room = self._rooms.pop()
            except IndexError:  # by another thread, in between
                return
            room.give_back()


__all__ = ["Place", "Room"]
