"""Who ran a call, since when, and which attempts of it failed: recorded beside what is written anyway.

A header of the value that settles a call (others ignore it), and a tag of the timers and notes
between two attempts, hold `start|pid`, followed by `|[[number, start, end, type, text, again], ...]`
where attempts failed that nothing else records yet. All instants are milliseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct

from resonate.protocol.records import RAN

KEPT: Final = 50
"""Failed attempts that one record holds at most: the first one and the last ones; the rest is left out."""

SHOWN: Final = 300
"""Characters of an error's text that are kept of an attempt after which another one came."""


class Failed(Struct, frozen=True, array_like=True, gc=False):
    """An attempt that failed, and after which there is to be another.

    Attributes:
        number: 1 for the first.
        started_at, ended_at: when its code began and when it failed.
        type, text: the error's class and message; without a message where the call has an encoder of its own.
        again_at: when the next attempt is to begin.
    """

    number: int
    started_at: int
    ended_at: int
    type: str
    text: str
    again_at: int


class Ran(Struct, frozen=True):
    """What one record says.

    Attributes:
        started_at: when the code of the last attempt that it tells of began; None if none has begun.
        worker: pid of the process that ran it.
        failed: attempts that failed before it.
    """

    started_at: int | None
    worker: str
    failed: tuple[Failed, ...] = ()


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(tuple[Failed, ...]).decode


def ran(started_at: int | None, worker: str, failed: Sequence[Failed]) -> str:
    """The text of such a record."""
    if not failed:
        return f"{started_at or ''}|{worker}"
    return f"{started_at or ''}|{worker}|{_encode(failed).decode()}"


def read_ran(text: str) -> Ran | None:
    """Such a record taken apart; None if that text is none."""
    start, bar, rest = text.partition("|")
    worker, _, failed = rest.partition("|")
    if not bar or (start and not (start.isascii() and start.isdigit())):
        return None
    try:
        return Ran(int(start) if start else None, worker, _decode(failed) if failed else ())
    except (msgspec.MsgspecError, RecursionError):
        return None


def add(failed: list[Failed], attempt: Failed) -> list[Failed]:
    """`failed` with one more, cut where there are too many."""
    return [*failed, attempt] if len(failed) < KEPT else [failed[0], *failed[2:], attempt]


__all__ = ["KEPT", "RAN", "SHOWN", "Failed", "Ran", "add", "ran", "read_ran"]
