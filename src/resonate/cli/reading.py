"""What people type: durations, instants, JSON."""

from __future__ import annotations

import json
import math
import re
from datetime import datetime
from typing import Any, Final, Never

from resonate.errors import UsageError
from resonate.protocol.records import Value
from resonate.values.payload import pack

_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def duration(text: str) -> float:
    """Seconds of a text such as `90s`, `1h30m` or `500ms`.

    Raises:
        UsageError: it is none, or zero.
    """
    parts = _PART.findall(text)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or seconds <= 0:
        raise UsageError(f"{text!r} is no duration: write a number with ms, s, m, h or d, such as 90s or 1h30m")
    return seconds


def instant(text: str) -> int:
    """Milliseconds since the epoch of an ISO 8601 text; without a zone it is local time.

    Raises:
        UsageError: it is none.
    """
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:
        raise UsageError(f"{text!r} is no time: write 2026-11-23 or 2026-11-23T14:00") from None


def parsed(text: str, what: str) -> Any:
    """The value of a JSON text.

    Raises:
        UsageError: it is no JSON.
    """
    try:
        return _json(text)
    except ValueError as error:
        hint = f"; a text needs quotes of its own: '\"{text}\"'" if text.isidentifier() else ""
        raise UsageError(f"{what} is no JSON ({error}){hint}") from None


def argument(text: str) -> Any:
    """An argument of a function: JSON, or else the text itself."""
    try:
        return _json(text)
    except ValueError:
        return text


def _json(text: str) -> Any:
    """The value of a JSON text, without the numbers that Python writes and reads beyond JSON.

    Raises:
        ValueError: it is no JSON.
        UsageError: it is nested too deep.
    """
    try:
        return json.loads(text, parse_constant=_no_number, parse_float=_finite)
    except RecursionError:
        raise UsageError(f"{text[:20]}... is nested too deep") from None


def _no_number(text: str) -> Never:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def texts(text: str | None, what: str) -> dict[str, str]:
    """A JSON object of texts.

    Raises:
        UsageError: it is something else.
    """
    found = {} if text is None else parsed(text, what)
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise UsageError(f'{what} must be a JSON object of texts, such as \'{{"shop": "x"}}\'')
    return found


def payload(text: str | None, what: str) -> Value:
    """A value as functions read it: JSON.

    An object with nothing but `data` and `headers` is taken as the official command takes it:
    text in `data` is stored as it is, anything else as JSON.

    Raises:
        UsageError: it is no JSON.
    """
    if text is None:
        return Value()
    found = parsed(text, what)
    if isinstance(found, dict) and found and found.keys() <= {"data", "headers"}:
        data = found.get("data")
        headers = texts(json.dumps(found["headers"]), f"{what}.headers") if found.get("headers") else None
        raw = None if data is None else data if isinstance(data, str) else json.dumps(data)
        return Value(headers, None if raw is None else pack(raw.encode()))
    return Value(None, pack(json.dumps(found).encode()))
