"""Trees: which promises are kept and deleted together, and when (protocol P10).

A root is a promise without a parent; its tree is what is below it. Most ids say where they
are: `order-7:2.1` is below `order-7`. A promise whose id does not (the program chose it, or
it is of another dialect) is a stray: it is found by the parent that its tags name. So a
storage that can list a range of ids and the strays of a range of parents finds a tree.
"""

from __future__ import annotations

from typing import Final

from resonate.protocol.ids import origin_of
from resonate.protocol.records import ORIGIN, PARENT, PENDING, TARGET, Promise
from resonate.protocol.rows import is_external, is_live, project

NEWS_KEPT: Final = 3_600_000
"""Milliseconds for which undelivered news of a settled promise keeps its tree, so that whoever waits in another
process hears of it; who has not asked for so long is gone."""


def is_root(promise: Promise) -> bool:
    """Whether the promise is nobody's child."""
    return promise.tags.get(PARENT, promise.id) == promise.id


def stray_of(promise: Promise) -> str | None:
    """The parent of a promise whose own id does not say what it is below; None if it does, and of a root."""
    id, tags = promise.id, promise.tags
    parent = tags.get(PARENT, id)
    if parent == id:
        return None
    origin = origin_of(id)
    if tags.get(ORIGIN, origin) == origin and is_below(id, parent):
        return None
    return parent


def is_below(id: str, ancestor: str) -> bool:
    """Whether `id` is in one of the `ranges` of `ancestor`."""
    return any(first < id < end for first, end in ranges(ancestor))


def ranges(ancestor: str) -> tuple[tuple[str, str], ...]:
    """What stands below `ancestor`, as ranges of ids, both ends excluded.

    A `.` extends only what holds a `:`, for `a.b` may well be a root beside `a`.
    """
    colon = (f"{ancestor}:", f"{ancestor};")
    return (colon, (f"{ancestor}.", f"{ancestor}/")) if ":" in ancestor else (colon,)


def begun_at(promise: Promise) -> int | None:
    """When an execution was begun: a root that a worker runs. None of everything else."""
    return promise.created_at if TARGET in promise.tags and is_root(promise) else None


def over_at(promise: Promise) -> int | None:
    """The instant at which a root was settled or, where nothing but a read notices its deadline, will be.

    None of what is no root, and of a root that has yet to be settled by a step.
    """
    if not is_root(promise):
        return None
    if promise.state != PENDING:
        return promise.settled_at
    return None if is_external(promise) else promise.timeout_at


def holds_back(promise: Promise, before: int, now: int) -> bool:
    """Whether the tree that holds `promise` has to stay: it is live at `now`, or a root not settled before `before`."""
    if is_live(promise, now):
        return True
    settled_at = project(promise, now).settled_at
    return is_root(promise) and settled_at is not None and settled_at >= before
