"""An event loop that runs a turn at a time and takes its time from a world.

`asyncio.sleep` in it costs nothing: the world skips to the instant. Sockets and executors
work as ever; a world waits for them in real time before it skips.
"""

from __future__ import annotations

import asyncio
import heapq
import selectors
from asyncio import events
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import Context
from itertools import count
from typing import Any, Final, TypeVar, TypeVarTuple

from resonate.testing.network import Crashed

EARLY: Final = 0.0005
"""Seconds that the loop may run a timer early: its own tolerance is lost in the digits of an epoch."""


TICK: Final = 0.001
"""Seconds: the least by which a world's clock moves."""

T = TypeVar("T")
Args = TypeVarTuple("Args")


class _Selector(selectors.DefaultSelector):
    """Waits for as long as the world says, whatever the loop's timers say."""

    patience = 0.0
    own = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if not self.patience and len(self.get_map()) <= self.own:
            return []  # nothing but what wakes the loop from other threads, which `awake` says too
        return super().select(self.patience)


class SteppedEventLoop(asyncio.SelectorEventLoop):
    """The event loop of one client of a world.

    Args:
        now: the world's clock, seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._selected = _Selector()
        self._instants: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._count = count()
        self._world_now = now
        self._in_executor = 0
        self.awake = False
        self.turning = False
        super().__init__(self._selected)
        self._own_files = self._selected.own = len(self._selected.get_map())
        self.abandoned = False
        self.set_exception_handler(self._unhandled)

    def time(self) -> float:
        """The world's clock."""
        return self._world_now()

    def call_soon(
        self, callback: Callable[[*Args], object], *args: *Args, context: Context | None = None
    ) -> asyncio.Handle:
        self.awake = True
        return super().call_soon(callback, *args, context=context)

    def call_soon_threadsafe(
        self, callback: Callable[[*Args], object], *args: *Args, context: Context | None = None
    ) -> asyncio.Handle:
        self.awake = True
        return super().call_soon_threadsafe(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Args], object], *args: *Args, context: Context | None = None
    ) -> asyncio.TimerHandle:
        now = self.time()
        if now <= when < now + TICK:  # rounded off in the digits of an epoch: it would come back before time moves
            when = now + TICK
        handle = super().call_at(when - EARLY, callback, *args, context=context)
        heapq.heappush(self._instants, (when, next(self._count), handle))
        return handle

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Args], T], *args: *Args) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self._in_executor += 1
        future.add_done_callback(self._left_executor)
        return future

    @property
    def working(self) -> bool:
        """Whether an executor works for this loop."""
        return self._in_executor > 0

    @property
    def outside(self) -> bool:
        """Whether a socket or an executor may bring something."""
        return self._in_executor > 0 or len(self._selected.get_map()) > self._own_files

    def next_at(self) -> float | None:
        """The next instant that something on this loop waits for."""
        while self._instants and self._instants[0][2].cancelled():
            heapq.heappop(self._instants)
        return self._instants[0][0] if self._instants else None

    def turn(self, patience: float = 0.0) -> None:
        """Run everything that is ready, once.

        Args:
            patience: real seconds to wait for a socket or an executor if nothing is ready.
        """
        now = self.time()
        while self._instants and self._instants[0][0] <= now:
            heapq.heappop(self._instants)
        outer = events._get_running_loop()
        events._set_running_loop(None)
        self.turning = True
        self._selected.patience = patience
        try:
            self.call_soon(self.stop)
            self.awake = False
            self.run_forever()
        finally:
            self.turning = False
            events._set_running_loop(outer)

    def _left_executor(self, future: Any) -> None:
        self._in_executor -= 1

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Code of a crashed client ends anyhow; nobody is told of it."""
        if not self.abandoned and not isinstance(context.get("exception"), Crashed):
            self.default_exception_handler(context)
