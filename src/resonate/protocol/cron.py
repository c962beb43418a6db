"""Cron expressions: is this one readable, and when does it fire next?

Classic cron in UTC (protocol 2026-04-01, section 4.7): five fields (minute, hour, day of
month, month, day of week) or six (seconds first); lists, ranges, steps; names of months
and days in any case; 0 and 7 are Sunday; `?` for "any" in the two day fields; if both day
fields are restricted, either may match. The walk over the calendar is `cronsim`'s; this
module narrows its input to the above (no `L`, `W`, `#`), adds the aliases and translates
instants. Pure: the instant is an argument, and equal arguments give equal answers.
"""

from __future__ import annotations

import re
from copy import copy
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from cronsim import CronSim, CronSimError

ALIASES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

_EPOCH: Final = datetime(1970, 1, 1)
_SECOND: Final = timedelta(seconds=1)
_MAX_LENGTH: Final = 512  # no sensible expression is longer; the list of all seconds has 169 characters
_PARSED: Final = 1024  # expressions kept parsed; parsing costs some 20 µs, which a busy timer would notice
_PLAIN: Final = re.compile(r"[0-9*,/-]+").fullmatch
_WITH_NAMES: Final = re.compile(r"(?:[0-9*,/-]|[A-Z]{3})+").fullmatch
_FIELDS: Final = ("second", "minute", "hour", "day of month", "month", "day of week")


class _UnreadableError(Exception):
    """Carries the reason why an expression is refused."""


def check(cron: str) -> str | None:
    """Why `cron` cannot be a schedule, as half a sentence; None if it can."""
    try:
        _parse(cron)
    except _UnreadableError as problem:
        return str(problem)
    return None


def next_occurrence(cron: str, after_ms: int) -> int | None:
    """The first occurrence strictly after `after_ms`, in ms since the epoch.

    Occurrences fall on whole seconds. None if there is none: the expression is unreadable
    or the calendar ends (in the year 9999).
    """
    try:
        clock = copy(_parse(cron))  # a copy, since stepping moves it and others share the parsed one
        clock.dt = _EPOCH + timedelta(seconds=after_ms // 1000)
        return (next(clock) - _EPOCH) // _SECOND * 1000
    except (_UnreadableError, OverflowError):
        return None


@lru_cache(maxsize=_PARSED)
def _parse(cron: str) -> CronSim:
    if len(cron) > _MAX_LENGTH:
        raise _UnreadableError(f"it has {len(cron)} characters, at most {_MAX_LENGTH} are allowed")
    text = cron.strip()
    if text.startswith("@"):
        return _parse_alias(text)
    fields = text.upper().split()
    if len(fields) not in (5, 6):
        raise _UnreadableError(f"it has {len(fields)} fields, 5 or 6 (seconds first) are allowed")
    names = _FIELDS[-len(fields) :]
    return _calendar(" ".join(map(_field, names, fields)))


def _parse_alias(text: str) -> CronSim:
    expression = ALIASES.get(text.lower())
    if expression is None:
        raise _UnreadableError(f"{text!r} is none of {', '.join(ALIASES)}")
    return _calendar(expression)


def _field(name: str, text: str) -> str:
    if text == "?" and name.startswith("day"):
        return "*"
    allowed = _WITH_NAMES if name in ("month", "day of week") else _PLAIN
    if not allowed(text):
        raise _UnreadableError(f"{name} {text!r} is not a number, name, list, range or step")
    return text


def _calendar(expression: str) -> CronSim:
    try:
        return CronSim(expression, _EPOCH)
    except CronSimError as problem:
        name = str(problem).removeprefix("Bad ").replace("-", " ")
        raise _UnreadableError(f"its {name} is out of range or never comes") from None
