"""Which messages wait for this process: looked for in pieces, and only beyond what is known.

Messages of a channel are numbered by the clocks of their writers and become visible when those
commit, so a message may appear behind one that has been seen. A look goes back a little
(`OVERLAP`), and once in `WHOLE` one begins at the start: it also finds offers whose taker died.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

LOOK: Final = 250
"""Messages of a channel that are looked for at once; the next ones when these are nearly gone."""

LOOK_FIRST: Final = 1_000
"""The same for a receiver that has just come."""

LOW: Final = 64
"""Known offers, beyond those wanted, below which more are looked for if there are more."""

OVERLAP: Final = 1_000_000
"""Microseconds: how far behind others a message may appear and be found by the next look."""

WHOLE: Final = 1.0
"""Seconds between two looks from the start."""


class Arrivals:
    """What is known of the channels that this process receives.

    Args:
        execute: carries a statement out; called by one thread at a time, or by several.
        statement: reads the messages of some channels; see `Statements.arrived`.
    """

    def __init__(self, execute: Callable[..., list[tuple[Any, ...]]], statement: str) -> None:
        self._execute = execute
        self._statement = statement
        self._after: dict[str, int] = {}
        """For each channel the number of the last message that was seen."""
        self._unended: set[str] = set()
        """Channels that have more than was looked for."""
        self._whole_at = 0.0

    def is_time(self) -> bool:
        """Whether the next look should begin at the start."""
        return time.monotonic() >= self._whole_at

    def look(self, channels: Collection[str], now: int, *, whole: bool, limit: int = LOOK) -> list[tuple[Any, ...]]:
        """Messages that wait in `channels` at `now` (ms), oldest first: kind, id, listener, body."""
        if not channels:
            return []
        if whole:
            self._whole_at = time.monotonic() + WHOLE
        names = list(channels)
        after = [0 if whole else self._from(name) for name in names]
        rows = self._execute(self._statement, (names, after, now, limit))
        self._learn(names, rows, limit)
        rows.sort(key=_number)
        return [row[1:5] for row in rows]

    @property
    def behind(self) -> bool:
        """Whether more waits than was looked for."""
        return bool(self._unended)

    def is_low(self, offers: Sequence[object], wanted: int) -> bool:
        """Whether so few `offers` are known, of which `wanted` are taken, that it is time to look for more."""
        return bool(self._unended) and len(offers) < wanted + LOW

    def _from(self, channel: str) -> int:
        seen = self._after.get(channel, 0)
        return seen if channel in self._unended else seen - OVERLAP

    def _learn(self, names: Sequence[str], rows: Sequence[tuple[Any, ...]], limit: int) -> None:
        last: dict[str, int] = {}
        count = dict.fromkeys(names, 0)
        for channel, _, _, _, _, number in rows:
            last[channel] = number
            count[channel] += 1
        for name, found in count.items():
            seen = self._after.get(name, 0)
            if found and last[name] >= seen:
                self._after[name] = last[name]
            if found == limit:
                self._unended.add(name)
            else:
                self._unended.discard(name)


def _number(row: tuple[Any, ...]) -> int:
    number: int = row[5]
    return number
