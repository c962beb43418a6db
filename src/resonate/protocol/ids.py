"""Ids: which id extends which, and which origin an id belongs to (protocol 5.2).

Both dialects are accepted: `:` or `.` after the origin, `.` below.
"""

from __future__ import annotations


def extends(ancestor: str, id: str) -> bool:
    """Whether `id` is `ancestor` followed by a separator and more."""
    return len(id) > len(ancestor) and id.startswith(ancestor) and id[len(ancestor)] in ":."


def origin_of(id: str) -> str:
    """The key that storages lead with: the text before the first `:`, else the whole id."""
    return id.partition(":")[0]
