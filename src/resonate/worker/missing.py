"""Functions that tasks ask for and this worker lacks: what is said of them, and how long their tasks are left alone.

While two versions of a program run side by side this is the normal state of affairs: each
worker is now and then offered what only the other one can run. So it costs one acquisition
and one line of the log, neither of them again and again.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Final

from msgspec import Struct

from resonate.errors import FunctionNotFound
from resonate.protocol.addresses import parse
from resonate.protocol.records import TARGET, Promise

PAUSE_NEAR: Final = 1.0
"""Seconds for which a task is left alone first, where its offer stays with the storage and others can take it."""

PAUSE_FAR: Final = 0.05
"""The same where a server gave the offer to us alone: given back soon, it gets to somebody who has the function."""

PAUSE_MAX: Final = 60.0
"""Seconds for which a task is left alone at most; each pause is twice the last."""

LOOKS: Final = 100
"""Tasks per second that are looked at again at most: thousands that wait for a version cost others next to nothing."""

SAID_FIRST: Final = 1.0
SAID_MAX: Final = 60.0
"""Seconds between two lines about one function and version; each is twice the last."""

KINDS: Final = 1000
"""Functions and versions that are remembered as missing; of more than that the oldest are said anew."""

TASKS: Final = 10_000
"""Tasks whose pauses are remembered; those beyond start again with a short one."""

QUIET: Final = 4
"""Pauses without a word after which a function that is asked for again is news once more."""

NAMES: Final = 100
"""Functions that the line at the start names."""

SHOWN: Final = 5
"""Names and versions that a line names."""

_LOG: Final = logging.getLogger("resonate.worker")


class _Kind(Struct):
    """One function and version that is missing: since when it was last spoken of, and what came since."""

    said: float
    pause: float
    unsaid: int = 0


class _Left(Struct):
    """One task that was given back: when, for how long it is left alone, and why."""

    at: float
    pause: float
    why: str


class Missing:
    """What this worker lacks, as far as tasks have asked for it.

    Args:
        group, pid: of this worker.
        near: whether offers that are left alone stay where other workers can take them.
        clock: seconds that only move forward.
    """

    def __init__(self, group: str, pid: str, near: bool, clock: Callable[[], float]) -> None:
        self._group = group
        self._pid = pid
        self._first = PAUSE_NEAR if near else PAUSE_FAR
        self._clock = clock
        self._kinds: OrderedDict[tuple[str, int], _Kind] = OrderedDict()
        self._left: OrderedDict[str, _Left] = OrderedDict()
        self._busy_until = 0.0
        self._lock = Lock()

    def here(self, names: Sequence[str]) -> None:
        """Say at the start what can be run here: in a deploy that is what one asks of each process."""
        served = _some(names, NAMES) or "nothing yet, no function is registered"
        _LOG.info("worker of group %s, pid %s, serves %s", self._group, self._pid, served)

    def lacks(self, promise: Promise, error: FunctionNotFound, versions: Sequence[int]) -> float:
        """The task of `promise` cannot run here: say so, unless it was said just now.

        Args:
            error: what is missing.
            versions: those of the same function that are here.

        Returns:
            Seconds for which to leave the task to others.
        """
        now = self._clock()
        why = f"{which(error.name, error.version)}, which this worker lacks ({_has(error, versions)})"
        with self._lock:
            line = self._line(promise, error, why, now)
            pause = self._pause(promise.id, why, now)
        if line is not None:
            _LOG.warning("%s", line)
        return pause

    def why(self, id: str) -> str | None:
        """Why the task `id` was left to others, for those who wait for it; None if it was not."""
        left = self._left.get(id)
        if left is None:
            return None
        ago = max(0.0, self._clock() - left.at)
        return (
            f"this worker (group {self._group}, pid {self._pid}) was offered it {ago:.0f} s ago: it asks for {left.why}"
        )

    def went_on(self, id: str) -> None:
        """The task `id` runs here after all."""
        self._left.pop(id, None)

    def registered(self) -> None:
        """A function was registered: the tasks that were left alone are looked at again.

        What is still missing is said no sooner for it: a program may register many functions after its start.
        """
        self._left.clear()

    def _pause(self, id: str, why: str, now: float) -> float:
        known = self._left.pop(id, None)
        pause = self._first if known is None else min(known.pause * 2, PAUSE_MAX)
        self._left[id] = _Left(now, pause, why)
        if len(self._left) > TASKS:
            self._left.popitem(last=False)
        if known is None:
            return pause
        self._busy_until = max(self._busy_until, now) + 1 / LOOKS
        return max(pause, self._busy_until - now)

    def _line(self, promise: Promise, error: FunctionNotFound, why: str, now: float) -> str | None:
        """What to say now of the function that `promise` asks for; None if that was said a moment ago."""
        key = (error.name, error.version)
        kind = self._kinds.get(key)
        if kind is not None and now < kind.said + kind.pause:
            kind.unsaid += 1
            return None
        pause, others = SAID_FIRST, ""
        if kind is not None and now < kind.said + QUIET * kind.pause:
            pause = min(kind.pause * 2, SAID_MAX)
        if kind is not None and kind.unsaid:
            others = f" ({kind.unsaid} more offers like it since this was last said.)"
        self._kinds[key] = _Kind(now, pause)
        self._kinds.move_to_end(key)
        if len(self._kinds) > KINDS:
            self._kinds.popitem(last=False)
        return (
            f"{promise.id} asks for {why}; group {self._group}, pid {self._pid}. It waits: start a worker of group "
            f"{group_of(promise) or self._group} that registers {which(error.name, error.version)}, or cancel it: "
            f"r.get({promise.id!r}).cancel(){others}"
        )


def which(name: str, version: int) -> str:
    """A function and the version asked for, as a person reads it."""
    return f"{name} version {version}" if version else f"any version of {name}"


def group_of(promise: Promise) -> str | None:
    """The group whose workers may run the task of `promise`; None if it has no such address."""
    address = parse(promise.tags.get(TARGET, ""))
    return None if address is None else address.group


def _has(error: FunctionNotFound, versions: Sequence[int]) -> str:
    if not versions:
        names = _some(error.known)
        return f"it has no {error.name}, only {names}" if names else "nothing is registered here"
    return f"it has version{'s' if len(versions) > 1 else ''} {_some([str(version) for version in versions])}"


def _some(texts: Sequence[str], limit: int = SHOWN) -> str:
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more


__all__ = ["Missing", "group_of", "which"]
