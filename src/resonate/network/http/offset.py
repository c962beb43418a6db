"""The server's clock, as a client far away can know it.

Each answer that tells the server's time bounds the offset between its clock and ours: the
server read its clock after we sent and before we received. The offset is moved only as far
as these bounds force it, so an answer that took long spoils nothing. Ours is a clock that
cannot be put back; what has been shown never falls either.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from threading import Lock
from typing import Final

DRIFT: Final = 200e-6
"""How far two clocks may move apart in a second, in seconds: the bounds widen by it."""

NOW: Final = b"resonate-now"
"""The header in which our server tells its clock, milliseconds since the epoch."""


class ServerClock:
    """`now()` of a server, from what its answers tell.

    Args:
        monotonic: seconds, for differences.
        wall: seconds since the epoch, read once.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self.monotonic = monotonic
        self._wall = wall
        self._start = wall() * 1000 - monotonic() * 1000
        self._offset = 0.0
        self._low = float("-inf")
        self._high = float("inf")
        self._at = 0.0
        self._told = False
        self._last = 0
        self._lock = Lock()

    def now(self) -> int:
        """Milliseconds since the epoch; never goes backwards."""
        if not self._told:  # of a server that tells nothing we believe what our own machine says
            self._start = self._wall() * 1000 - self.monotonic() * 1000
        now = int(self._start + self.monotonic() * 1000 + self._offset)
        if now < self._last:
            return self._last
        self._last = now
        return now

    def learn(self, headers: dict[bytes, bytes], sent: float) -> None:
        """An answer came to a request that left when `monotonic` was `sent`."""
        told = headers.get(NOW)
        if told is not None and told.isdigit():
            self._bound(int(told), 1, sent)
        elif b"date" in headers and self.monotonic() - self._at > 1:  # its second says little, rarely is enough
            try:
                date = parsedate_to_datetime(headers[b"date"].decode("latin-1"))
            except (TypeError, ValueError):
                return
            self._bound(int(date.timestamp() * 1000), 1000, sent)

    def _bound(self, told: int, width: int, sent: float) -> None:
        """The server's clock stood in `told .. told + width` at some instant between `sent` and now."""
        with self._lock:
            received = self.monotonic()
            low = told - (self._start + received * 1000)
            high = told + width - (self._start + sent * 1000)
            slack = (received - self._at) * DRIFT * 1000
            if not self._told:
                self._last = 0  # shown so far was what our own machine believed, which may be far ahead
            self._at, self._told = received, True
            self._low, self._high = max(low, self._low - slack), min(high, self._high + slack)
            if self._low > self._high:  # one of the clocks was set, or a machine slept: only the newest counts
                self._low, self._high = low, high
            self._offset = min(max(self._offset, self._low), self._high)


__all__ = ["ServerClock"]
