"""Retry policies: how many tries have failed -> seconds to wait before the next, or None.

Policies are immutable and compared by value. They decide only; waiting is the worker's.
`to_wire` and `from_wire` translate the `retry` field of an invocation, which other
languages write in milliseconds.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, Protocol, runtime_checkable

from msgspec import Struct
from msgspec.structs import force_setattr

from resonate.errors import UnfitArguments, UnfitValue

FOR_EVER: Final = sys.maxsize
"""The default of `max_retries`: until the deadline."""

LONGEST: Final = 9_000_000_000_000.0
"""Seconds beyond which an instant in milliseconds may no longer fit 64 bits."""

_DIGITS: Final = 50


@runtime_checkable
class RetryPolicy(Protocol):
    """Anything that can say how long to wait; the policies below, or one's own."""

    def next(self, attempt: int) -> float | None:
        """Seconds to wait after `attempt` failed tries (from 1), or None to give up."""


def seconds(given: float | timedelta, name: str = "timeout") -> float:
    """A duration as seconds.

    Args:
        given: seconds, or a timedelta.
        name: what it is, for the message.

    Raises:
        UnfitArguments: something else (also a bool); a TypeError.
        UnfitValue: negative, NaN, infinite, or too long to be an instant; a ValueError.
    """
    if isinstance(given, timedelta):
        given = given.total_seconds()
    elif isinstance(given, bool) or not isinstance(given, int | float):
        raise UnfitArguments(f"{name} must be `int | float | timedelta` (seconds), got {type(given).__name__}")
    if given != given:
        raise UnfitValue(f"{name} must be a number of seconds, got {given}")
    if given < 0:
        raise UnfitValue(f"{name} must be greater than or equal to zero, got {figure(given)}")
    if given > LONGEST:
        raise UnfitValue(f"{name} must be at most {LONGEST:.0f} seconds, got {figure(given)}")
    return float(given)


def figure(given: Any) -> str:
    """A number as a message shows it: Python refuses to write very long ones."""
    return str(given) if isinstance(given, float) or abs(given) < 10**_DIGITS else f"a number of over {_DIGITS} digits"


class Exponential(Struct, frozen=True):
    """Wait `delay * factor ** n` after the n-th failure, at most `max_delay`: 2, 4, 8, 16, 30, 30 ...

    Args:
        delay: the unit, in seconds.
        max_retries: tries after the first one.
        factor: growth per failure.
        max_delay: the longest wait, in seconds.
    """

    delay: float | timedelta = 1
    max_retries: int = FOR_EVER
    factor: float = 2
    max_delay: float | timedelta = 30

    def __post_init__(self) -> None:
        _check_delay(self, "delay")
        _check_delay(self, "max_delay")
        _check_count(self)
        factor = self.factor
        if isinstance(factor, bool) or not isinstance(factor, int | float):
            raise TypeError(f"Exponential: factor must be `int | float`, got {type(factor).__name__}")
        if not 0 <= factor < math.inf:
            raise ValueError(f"Exponential: factor must be greater than or equal to zero, got {factor}")

    def next(self, attempt: int) -> float | None:
        """Seconds to wait after `attempt` failed tries, or None to give up."""
        if attempt == 0:
            return 0
        if attempt > self.max_retries:
            return None
        try:
            return min(self.delay * float(self.factor) ** attempt, self.max_delay)  # type: ignore[return-value]
        except OverflowError:
            return self.max_delay  # type: ignore[return-value]


class Linear(Struct, frozen=True):
    """Wait `delay * n` after the n-th failure.

    Args:
        delay: the unit, in seconds.
        max_retries: tries after the first one.
    """

    delay: float | timedelta = 1
    max_retries: int = FOR_EVER

    def __post_init__(self) -> None:
        _check_delay(self, "delay")
        _check_count(self)

    def next(self, attempt: int) -> float | None:
        """Seconds to wait after `attempt` failed tries, or None to give up."""
        if attempt == 0:
            return 0
        return None if attempt > self.max_retries else self.delay * attempt  # type: ignore[return-value]


class Constant(Struct, frozen=True):
    """Wait `delay` after each failure.

    Args:
        delay: in seconds.
        max_retries: tries after the first one.
    """

    delay: float | timedelta = 1
    max_retries: int = FOR_EVER

    def __post_init__(self) -> None:
        _check_delay(self, "delay")
        _check_count(self)

    def next(self, attempt: int) -> float | None:
        """Seconds to wait after `attempt` failed tries, or None to give up."""
        if attempt == 0:
            return 0
        return None if attempt > self.max_retries else self.delay  # type: ignore[return-value]


class Never(Struct, frozen=True):
    """The first failure is final."""

    def next(self, attempt: int) -> float | None:
        """None, which gives up; 0 before anything has failed."""
        return 0 if attempt == 0 else None


def to_wire(policy: RetryPolicy) -> dict[str, Any] | None:
    """`policy` as the `retry` field of an invocation; None if it is one of the user's own."""
    match policy:
        case Exponential():
            data = {"delay": _ms(policy.delay), "factor": policy.factor, "maxDelay": _ms(policy.max_delay)}
            return {"type": "exponential", "data": _with_count(data, policy.max_retries)}
        case Linear():
            return {"type": "linear", "data": _with_count({"delay": _ms(policy.delay)}, policy.max_retries)}
        case Constant():
            return {"type": "constant", "data": _with_count({"delay": _ms(policy.delay)}, policy.max_retries)}
        case Never():
            return {"type": "never", "data": {}}
        case _:
            return None


def from_wire(retry: Mapping[str, Any] | None) -> RetryPolicy | None:
    """The policy that an invocation asks for; None if it asks for none that is known here."""
    if not isinstance(retry, Mapping):
        return None
    data = retry.get("data")
    given = data if isinstance(data, Mapping) else {}
    try:
        return _policy(retry.get("type"), given)
    except (TypeError, ValueError):
        return None


def _policy(kind: object, given: Mapping[str, Any]) -> RetryPolicy | None:
    common: dict[str, Any] = {}
    if "delay" in given:
        common["delay"] = given["delay"] / 1000
    if "maxRetries" in given:
        common["max_retries"] = given["maxRetries"]
    if kind == "exponential":
        if "factor" in given:
            common["factor"] = given["factor"]
        if "maxDelay" in given:
            common["max_delay"] = given["maxDelay"] / 1000
        return Exponential(**common)
    if kind == "linear":
        return Linear(**common)
    if kind == "constant":
        return Constant(**common)
    return Never() if kind == "never" else None


def _with_count(data: dict[str, Any], max_retries: int) -> dict[str, Any]:
    return data if max_retries == FOR_EVER else {**data, "maxRetries": max_retries}


def _ms(delay: Any) -> float:
    ms = delay * 1000
    return int(ms) if ms == int(ms) else ms


def _check_delay(policy: Exponential | Linear | Constant, field: str) -> None:
    """Check a duration, and keep a timedelta as seconds; a number stays as it was given."""
    given = getattr(policy, field)
    checked = seconds(given, f"{type(policy).__name__}: {field}")
    if isinstance(given, timedelta):
        force_setattr(policy, field, checked)


def _check_count(policy: Exponential | Linear | Constant) -> None:
    given = policy.max_retries
    name = type(policy).__name__
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f"{name}: max_retries must be `int`, got {type(given).__name__}")
    if given < 0:
        raise ValueError(f"{name}: max_retries must be greater than or equal to zero, got {given}")


__all__ = ["FOR_EVER", "Constant", "Exponential", "Linear", "Never", "RetryPolicy", "from_wire", "seconds", "to_wire"]
