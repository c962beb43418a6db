"""What the low-level clients keep on a record beside what the program gave.

The protocol is idempotent by id alone and has neither keys nor a way to tell who created
or settled a promise. So a promise made here carries a tag with a fresh text (the mark)
and, if the program gave one, its idempotency key; a settlement carries both as headers of
its value. The mark also lists what else was added, so that programs are shown exactly what
they gave. Clients may be stacked (one's store is a wrapper around another's): each has a
mark of its own and leaves those of the others alone.

Promises of executions carry no mark: there an absent key means that it is the id.
"""

from __future__ import annotations

import os
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping
from typing import Final

from resonate.protocol.records import (
    BRANCH,
    EXTERNAL,
    ORIGIN,
    PARENT,
    PENDING,
    SCHEDULE,
    SCOPE,
    TARGET,
    TIMEDOUT,
    TIMER,
    Promise,
)

KEY: Final = "resonate:py:ikey"
MARK: Final = "resonate:py:mark"

OLD_TARGET: Final = "resonate:invoke"
OLD_TIMER: Final = "resonate:timeout"
"""How programs of the official client tag what the protocol of today calls target and timer."""

_TREE: Final = (ORIGIN, BRANCH, PARENT)


def mark(given: Mapping[str, str], added: Mapping[str, str], ikey: str | None) -> tuple[dict[str, str], str]:
    """`given` with `added`, the key and a fresh mark; and the name under which that mark is."""
    marked = {**given, **added}
    if ikey is not None:
        marked[KEY] = ikey
    name = MARK
    while name in marked:
        name += "+"
    marked[name] = " ".join((os.urandom(8).hex(), *(new for new in marked if new not in given)))
    return marked, name


def mark_of(marked: Mapping[str, str], name: str = MARK) -> str | None:
    """The name of the last mark in `marked`: the one of the client that stored it. None if there is none."""
    found = None
    while name in marked:
        found, name = name, name + "+"
    return found


def unmarked(marked: Mapping[str, str]) -> dict[str, str]:
    """What the program gave to the client that marked it; all of it if nobody did."""
    name = mark_of(marked)
    if name is None:
        return {key: value for key, value in marked.items() if key != KEY}
    hidden = {name, *marked[name].split()[1:]}
    return {key: value for key, value in marked.items() if key not in hidden}


def tags_for(id: str, given: Mapping[str, str] | None, ikey: str | None) -> tuple[dict[str, str], str]:
    """The tags of a new promise, and the name of the mark among them.

    A promise without target is for others to settle, so it is made awaitable from outside;
    one with a target becomes the root of a tree. Old tag names gain today's beside them.
    """
    given = given or {}
    return mark(given, {name: value for name, value in _needed(id, given).items() if name not in given}, ikey)


def _needed(id: str, tags: Mapping[str, str]) -> dict[str, str]:
    needed = todays_names(tags)
    if TARGET in tags or TARGET in needed:
        needed.update({ORIGIN: id.partition(":")[0], BRANCH: id, PARENT: id, SCOPE: "global"})
    elif tags.get(TIMER, needed.get(TIMER)) != "true":
        needed.update({EXTERNAL: "true", SCOPE: "global"})
    return needed


def todays_names(tags: Mapping[str, str]) -> dict[str, str]:
    """What the tags of the old names are called today, where today's are not there."""
    names: dict[str, str] = {}
    if OLD_TARGET in tags and TARGET not in tags:
        names[TARGET] = address(tags[OLD_TARGET])
    if tags.get(OLD_TIMER) == "true" and TIMER not in tags:
        names[TIMER] = "true"
    return names


def address(target: str) -> str:
    """The address that a target of any generation means: a group, or an address with an old scheme."""
    scheme, separator, rest = target.partition("://")
    if not separator:
        return f"poll://any@{target}"
    if scheme not in ("local", "poll"):
        return target
    return f"poll://{rest}" if "@" in rest else f"poll://any@{rest}"


def key_for_create(promise: Promise) -> str | None:
    """The idempotency key that `promise` was created with."""
    tags = promise.tags
    if KEY in tags:
        return tags[KEY]
    if MARK in tags or SCHEDULE in tags or not any(tag in tags for tag in _TREE):
        return None
    return promise.id


def key_for_complete(promise: Promise) -> str | None:
    """The idempotency key that `promise` was settled with; a deadline has none."""
    if promise.state in (PENDING, TIMEDOUT) or promise.settled_at == promise.timeout_at:
        return None
    headers = promise.value.headers or {}
    if MARK in headers:
        return headers.get(KEY)
    return promise.id if any(tag in promise.tags for tag in _TREE) else None


def to_wire(text: str | None) -> str | None:
    """The base64 form in which text is stored."""
    return None if text is None else b2a_base64(text.encode(), newline=False).decode("ascii")


def from_wire(data: str | None) -> str | None:
    """The stored text; what other writers stored in another form is given as it is."""
    if data is None:
        return None
    try:
        return a2b_base64(data, strict_mode=True).decode()
    except (Base64Error, ValueError):
        return data
