"""Addresses: where a message may be sent, and who may take it.

The grammar of protocol 2026-04-01, section 6.1. Everything that names a receiver (the tag
`resonate:target`, a listener's address) is read here and nowhere else, so that what is
accepted is also what delivery understands. Pure: nothing is resolved or contacted.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal

from msgspec import Struct

FORMS: Final = (
    "poll://any@GROUP, poll://any@GROUP/ID, poll://uni@GROUP/ID, http://HOST…, https://HOST… or gcps://PROJECT/TOPIC"
)
"""The accepted forms, for error texts."""

PUSHED: Final = "http://"
"""The channel of everything that is sent by HTTP; no group can be called so, since none has a slash."""

_REMEMBERED: Final = 4096  # addresses repeat (one per group, one per process); a bound all the same


class Address(Struct, frozen=True, gc=False):
    """A readable address.

    `transport` decides which other fields mean anything: for `poll`, `cast`, `group` and
    `id` (the preferred or only receiver, None if the address names none); for `http` and
    `gcps`, `url` is all there is. `url` is always the address as it was written.
    """

    transport: Literal["poll", "http", "gcps"]
    url: str
    cast: Literal["any", "uni"] | None = None
    group: str = ""
    id: str | None = None


@lru_cache(maxsize=_REMEMBERED)
def parse(address: str) -> Address | None:
    """Read `address`; None if it is none. The scheme may have any case, the rest is exact."""
    scheme, separator, rest = address.partition("://")
    if not separator or not _printable(rest):
        return None
    match scheme.lower():
        case "poll":
            return _poll(address, rest)
        case "http" | "https":
            return Address("http", address) if _host(rest) else None
        case "gcps":
            project, _, topic = rest.partition("/")
            return Address("gcps", address) if project and topic else None
    return None


def channel(address: str) -> str | None:
    """What a receiver of messages for `address` listens to: the group, or `PUSHED`; None if nothing delivers there."""
    found = parse(address)
    if found is None or found.transport == "gcps":
        return None
    return PUSHED if found.transport == "http" else found.group


def acceptable_to_specification(address: str) -> bool:
    """Whether the formal specification lets `address` listen: a looser rule, for strict mode only."""
    return address.startswith(("http://", "https://")) or (address.startswith("poll://") and "@" in address)


def _poll(address: str, rest: str) -> Address | None:
    cast, at, receiver = rest.partition("@")
    group, slash, id = receiver.partition("/")
    if not at or not group or (slash and not id):
        return None
    if cast == "any":
        return Address("poll", address, "any", group, id or None)
    if cast == "uni":
        return Address("poll", address, "uni", group, id or None)
    return None


def _printable(rest: str) -> bool:
    """No spaces and no control characters: neither can be part of a URL or of a header."""
    return rest.isprintable() and " " not in rest


def _host(rest: str) -> bool:
    for end in "/?#":
        rest = rest.partition(end)[0]
    host = rest.rpartition("@")[2]
    return bool(host) and not host.startswith(":")
