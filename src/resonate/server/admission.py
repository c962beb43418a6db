"""How many requests are let in at once, and how those that are not are turned away.

A request is counted from the moment its head is read, before a task exists for it: on a busy
event loop thousands of requests can be read before the first of them begins. What is beyond the
limit costs a few microseconds: its body is dropped, and one answer is written that is the same for
all. These answers are paced, so that clients that ask again at once cannot spend the server's time
on being refused: however many there are, so and so many a second are told.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

RETRY_AFTER: Final = 1
"""Seconds after which whoever was turned away may try again."""

PACE: Final = 2_000
"""Refusals a second; at some 50 µs each that is a tenth of a core. Further ones wait for their turn."""

BUSY: Final = "Too many requests are under way. Nothing was done; try again later"

ANSWER: Final = (
    f"HTTP/1.1 503 Service Unavailable\r\nretry-after: {RETRY_AFTER}\r\ncontent-type: text/plain; charset=utf-8\r\n"
    f"content-length: {len(BUSY)}\r\n\r\n{BUSY}"
).encode()


class Admission:
    """The requests of one server that have been read and not answered.

    Args:
        limit: how many there may be.
        refused: called for each that is turned away.
        clock: seconds that only move forward.
    """

    def __init__(self, limit: int, refused: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self.inside = 0
        self._refused = refused
        self._clock = clock
        self._turn = 0.0

    @property
    def full(self) -> bool:
        """Whether no further request is let in."""
        return self.inside >= self.limit

    def refuse(self) -> float:
        """Count a refusal; seconds after which it may be told."""
        self._refused()
        now = self._clock()
        self._turn = max(now, self._turn) + 1 / PACE
        return self._turn - now


__all__ = ["ANSWER", "BUSY", "RETRY_AFTER", "Admission"]
