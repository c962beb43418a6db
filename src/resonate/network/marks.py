"""What the low-level clients keep on a record beside what the program gave.

The protocol is idempotent by id alone and has neither keys nor a way to tell who created
or settled a promise. So a promise made here carries a tag with a fresh text (the nonce)
and, if the program gave one, its idempotency key; a settlement carries both as headers of
its value. All of them begin with `resonate:py:` and are not shown to programs again.

Promises of executions carry neither: there an absent key means that it is the id.
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
    Value,
)

OURS: Final = "resonate:py:"
KEY: Final = "resonate:py:ikey"
NONCE: Final = "resonate:py:nonce"

OLD_TARGET: Final = "resonate:invoke"
OLD_TIMER: Final = "resonate:timeout"
"""How programs of the official client tag what the protocol of today calls target and timer."""

_TREE: Final = (ORIGIN, BRANCH, PARENT)


def nonce() -> str:
    """A text that nobody has used."""
    return os.urandom(8).hex()


def tags_for(id: str, given: Mapping[str, str] | None, ikey: str | None) -> dict[str, str]:
    """The tags of a new promise: what the program gave, what the protocol needs, and our marks.

    A promise without target is for others to settle, so it is made awaitable from outside;
    one with a target becomes the root of a tree. Old tag names gain today's beside them.
    The nonce's tag lists what was added, so that `shown_tags` gives back what was given.
    """
    tags = dict(given or ())
    added = {name: value for name, value in _needed(id, tags).items() if name not in tags}
    tags.update(added)
    tags[NONCE] = " ".join((nonce(), *added))
    if ikey is not None:
        tags[KEY] = ikey
    return tags


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


def value_for(headers: Mapping[str, str] | None, data: str | None, ikey: str | None, mark: str) -> Value:
    """The value of a settlement: text and headers as the program gave them, and our marks."""
    marked = {**(headers or {}), NONCE: mark}
    if ikey is not None:
        marked[KEY] = ikey
    return Value(marked, to_wire(data))


def shown_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags without our marks and without what we added."""
    added = set(tags.get(NONCE, "").split()[1:])
    return {name: value for name, value in tags.items() if name not in added and not name.startswith(OURS)}


def shown_headers(headers: Mapping[str, str] | None, *more: str) -> dict[str, str] | None:
    """The headers without our marks, and without `more`; None if nothing is left."""
    hidden = {KEY, NONCE, *more}
    return {name: value for name, value in (headers or {}).items() if name not in hidden} or None


def key_for_create(promise: Promise) -> str | None:
    """The idempotency key that `promise` was created with."""
    tags = promise.tags
    if KEY in tags:
        return tags[KEY]
    if NONCE in tags or SCHEDULE in tags or not any(tag in tags for tag in _TREE):
        return None
    return promise.id


def key_for_complete(promise: Promise) -> str | None:
    """The idempotency key that `promise` was settled with; a deadline has none."""
    if promise.state in (PENDING, TIMEDOUT) or promise.settled_at == promise.timeout_at:
        return None
    headers = promise.value.headers or {}
    if NONCE in headers:
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
