"""Ids: which id extends which, and which origin an id belongs to (protocol 5.2).

Both dialects are accepted: `:` or `.` after the origin, `.` below.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Dialect(NamedTuple):
    """How a service wants the ids and timers of an execution (protocol 0.2, 9.3, 9.6).

    `separator` stands between a root and its children. `timer_target` is the address that
    timers need there to be armed, one that reaches nobody; None where they need none. `strays`
    is whether a promise may belong to an execution whose id its own does not extend.
    """

    separator: str
    timer_target: str | None
    strays: bool = False


TODAY: Final = Dialect(":", None)
"""What servers speak wherever nothing else is asked for."""

EMBEDDED: Final = Dialect(":", None, strays=True)
"""What we speak with a storage of our own."""


def extends(ancestor: str, id: str) -> bool:
    """Whether `id` is `ancestor` followed by a separator and more."""
    return len(id) > len(ancestor) and id.startswith(ancestor) and id[len(ancestor)] in ":."


def origin_of(id: str) -> str:
    """The key that storages lead with: the text before the first `:`, else the whole id."""
    return id.partition(":")[0]
