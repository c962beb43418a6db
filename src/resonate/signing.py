"""Signed pushes: how a server signs what it posts, and how a receiver checks it.

The signature covers the body and the instant of sending, so that nobody without the key can
make one, change one, or send an old one again later. This file needs nothing but Python, so
that a receiver can use it without the rest: `verify(key, body, request.headers.get(SIGNATURE),
request.headers.get(TIMESTAMP))`.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Sequence
from typing import Final

SIGNATURE: Final = "resonate-signature"
"""The header with the signature, `v1=` and 64 hexadecimal digits."""

TIMESTAMP: Final = "resonate-timestamp"
"""The header with the instant of sending, milliseconds since the epoch."""

TOLERANCE: Final = 300_000
"""Milliseconds that a push may be old, or ahead when clocks differ."""

_VERSION: Final = "v1="
_LONGEST: Final = 19  # digits of an instant in 64 bits


def sign(key: str, body: bytes, timestamp: int) -> str:
    """The value of the header `resonate-signature`.

    Args:
        key: what server and receiver share.
        body: exactly as it is sent.
        timestamp: the value of `resonate-timestamp`, milliseconds since the epoch.
    """
    return _sign(key, body, str(timestamp))


def verify(
    key: str | Sequence[str],
    body: bytes,
    signature: str | None,
    timestamp: str | None,
    *,
    tolerance: int = TOLERANCE,
    now: int | None = None,
) -> bool:
    """Whether a push comes from a server that has the key, and was sent just now.

    Args:
        key: what server and receiver share; several while it is being replaced.
        body: exactly as it was received.
        signature, timestamp: the headers `resonate-signature` and `resonate-timestamp`, None if missing.
        tolerance: milliseconds that the push may be old or ahead.
        now: milliseconds since the epoch; None asks the clock.

    Raises:
        ValueError: there is no key, or an empty one: everybody could sign with it.
    """
    keys = (key,) if isinstance(key, str) else tuple(key)
    if not keys or not all(keys):
        raise ValueError("pushes cannot be verified without a key: give the one the server signs with")
    if not signature or not timestamp or not _is_instant(timestamp):
        return False
    given = signature.encode("utf-8", "surrogatepass")
    # all of them, so that time does not tell which key it was
    matches = [hmac.compare_digest(_sign(one, body, timestamp).encode(), given) for one in keys]
    current = time.time_ns() // 1_000_000 if now is None else now
    return any(matches) and abs(current - int(timestamp)) <= tolerance


def _is_instant(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _LONGEST


def _sign(key: str, body: bytes, timestamp: str) -> str:
    signed = timestamp.encode() + b"." + body
    return _VERSION + hmac.new(key.encode(), signed, hashlib.sha256).hexdigest()


__all__ = ["SIGNATURE", "TIMESTAMP", "TOLERANCE", "sign", "verify"]
