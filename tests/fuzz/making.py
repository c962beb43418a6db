"""Strange values, and good ones with something changed. All choices come from one `Random`, so a seed is a case."""

from __future__ import annotations

import json
from random import Random
from typing import Any, Final

TEXTS: Final = (
    "",
    "a",
    "x" * 3000,
    "\0",
    "\r\n",
    "a\r\nx: y",
    "\x1b[2J",
    "..",
    "../..",
    "/etc/passwd",
    "%2f",
    "%00",
    "{{.id}}",
    "{{.timestamp}}",
    "\u202e",
    "\ud800",
    "\U0010ffff",
    "İ",
    "null",
    "poll://any@g",
    "poll://uni@g/a",
    "http://127.0.0.1:1/x",
    "http://[::1",
    "http://a@b@c/",
    "gcps://p/t",
    "*/0 * * * *",
    "0 0 30 2 *",
    "9" * 5000,
    "1e999",
    "-1",
    "resonate:target",
    "a:1.2",
    "a.b:",
    ":",
    "' OR 1=1 --",
    "$(id)",
    "<script>alert(1)</script>",
)
NUMBERS: Final = (0, 1, -1, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 10**30, 1.5, 1e308, -0.0, 253402300800000)


def text(rng: Random) -> str:
    """A text: a known bad one, parts of them, or characters from anywhere."""
    match rng.randrange(4):
        case 0:
            return rng.choice(TEXTS)
        case 1:
            return "".join(rng.choice(TEXTS)[:20] for _ in range(rng.randrange(4)))
        case 2:
            return "".join(
                chr(rng.choice((rng.randrange(32, 127), rng.randrange(0x300)))) for _ in range(rng.randrange(30))
            )
        case _:
            return rng.choice("abcxyz") * rng.randrange(4)


def value(rng: Random, depth: int = 3) -> Any:
    """Any JSON value."""
    kind = rng.randrange(9 if depth else 6)
    if kind < 2:
        return text(rng)
    if kind == 2:
        return rng.choice(NUMBERS)
    if kind == 3:
        return rng.choice((None, True, False))
    if kind < 6:
        return rng.randrange(-10, 10)
    if kind == 6:
        return [value(rng, depth - 1) for _ in range(rng.randrange(4))]
    if kind == 7:
        return {text(rng): value(rng, depth - 1) for _ in range(rng.randrange(4))}
    return deep(rng)


def deep(rng: Random) -> Any:
    """A value that is nested far."""
    found: Any = 1
    for _ in range(rng.choice((50, 150, 190, 210))):
        found = [found] if rng.random() < 0.5 else {"a": found}
    return found


def changed(rng: Random, good: Any, changes: int = 2) -> Any:
    """A copy of a JSON value with a few parts replaced, removed, doubled or exchanged."""
    found = json.loads(json.dumps(good))
    for _ in range(rng.randrange(changes + 1)):
        found = _changed_once(rng, found)
    return found


def _changed_once(rng: Random, whole: Any) -> Any:
    places: list[tuple[Any, Any]] = []
    stack = [whole]
    while stack:
        holder = stack.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        for key in keys:
            places.append((holder, key))
            stack.append(holder[key])
    if not places:
        return value(rng)
    holder, key = rng.choice(places)
    match rng.randrange(6):
        case 0 | 1:
            holder[key] = value(rng)
        case 2:
            del holder[key]
        case 3:
            other, at = rng.choice(places)
            if (isinstance(other, dict) and at in other) or (isinstance(other, list) and at < len(other)):
                holder[key] = json.loads(json.dumps(other[at]))
        case 4 if isinstance(holder, dict):
            holder[text(rng)] = value(rng)
        case _:
            if isinstance(holder[key], str):
                holder[key] = changed_text(rng, holder[key])
    return whole


def changed_text(rng: Random, good: str) -> str:
    """A text with a few characters changed."""
    found = good
    for _ in range(1 + rng.randrange(3)):
        at = rng.randrange(len(found) + 1)
        piece = rng.choice((text(rng)[:20], found[at : at + rng.randrange(6)], ""))
        found = found[:at] + piece + found[at + rng.randrange(3) :]
    return found


def changed_bytes(rng: Random, good: bytes) -> bytes:
    """Bytes with a few of them changed, doubled or cut off."""
    found = bytearray(good)
    for _ in range(1 + rng.randrange(4)):
        if not found:
            return rng.randbytes(rng.randrange(20))
        at = rng.randrange(len(found))
        match rng.randrange(5):
            case 0:
                found[at] = rng.randrange(256)
            case 1:
                del found[at : at + 1 + rng.randrange(8)]
            case 2:
                found[at:at] = rng.randbytes(1 + rng.randrange(8))
            case 3:
                found[at:at] = found[at : at + 1 + rng.randrange(60)]
            case _:
                found[at:at] = rng.choice((b"\r\n", b"\0", b'"', b"{", b"[" * 2000, b"\xff", b"\\u0000", b":", b" "))
    return bytes(found)


def dumped(rng: Random, found: Any) -> bytes:
    """The JSON text of a value; sometimes no JSON any more."""
    raw = json.dumps(found, ensure_ascii=rng.random() < 0.5, allow_nan=True).encode("utf-8", "surrogatepass")
    return changed_bytes(rng, raw) if rng.random() < 0.3 else raw


class FromBytes(Random):
    """Choices that are read off bytes, so that whoever changes bytes cleverly changes choices; then always the same."""

    def __init__(self, data: bytes) -> None:
        self._left = data
        self._further = Random(1)  # for ever the same number would never be a sample of several
        super().__init__(0)

    def seed(self, a: Any = None, version: int = 2) -> None:
        """Nothing is drawn from anywhere else."""

    def getrandbits(self, k: int) -> int:
        if not self._left:
            return self._further.getrandbits(k)
        size = (k + 7) // 8
        piece, self._left = self._left[:size], self._left[size:]
        return int.from_bytes(piece.ljust(size, b"\0"), "little") >> (8 * size - k)

    def random(self) -> float:
        return self.getrandbits(32) / 2**32
