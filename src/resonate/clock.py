"""now() in milliseconds: the system's clock, and one that is set by hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> int:
        """Milliseconds since the Unix epoch."""

    def monotonic(self) -> float:
        """Seconds that never go backwards; only differences count."""

    def watch(self, changed: Callable[[], None]) -> None:
        """Have `changed` called whenever time jumps; a clock that only runs never calls."""

    @property
    def runs(self) -> bool:
        """Whether time passes by itself, so that sleeping for a while makes sense."""


class SystemClock:
    """The clock of the machine; when that is put back, time goes on at its pace until the clock has caught up."""

    runs = True

    def __init__(self) -> None:
        self._last = 0
        self._put_back: tuple[int, float] | None = None

    def now(self) -> int:
        now = time.time_ns() // 1_000_000
        if now < self._last:
            now = self._going_on()
        else:
            self._put_back = None
        self._last = now
        return now

    def monotonic(self) -> float:
        return time.monotonic()

    def watch(self, changed: Callable[[], None]) -> None:
        """The system's clock is never announced to have changed."""

    def _going_on(self) -> int:
        if self._put_back is None:
            self._put_back = self._last, time.monotonic()
        last, since = self._put_back
        return max(self._last, last + int((time.monotonic() - since) * 1000))


class SettableClock:
    """A clock that stands still until it is set; for tests and simulations.

    Args:
        now: where it starts, milliseconds since the epoch.
    """

    runs = False

    def __init__(self, now: int = 1_700_000_000_000) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._watchers: list[Callable[[], None]] = []

    def now(self) -> int:
        return self._now

    def monotonic(self) -> float:
        return self._now / 1000

    def watch(self, changed: Callable[[], None]) -> None:
        with self._lock:
            self._watchers.append(changed)

    def set(self, now: int) -> None:
        """Make it `now`, milliseconds since the epoch; backwards is allowed."""
        with self._lock:
            self._now = now
            watchers = list(self._watchers)
        for changed in watchers:
            changed()

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass at once."""
        self.set(self._now + int(seconds * 1000))
