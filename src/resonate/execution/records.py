"""What is already recorded about an execution, and how records say what they are.

Each child's record carries one tag of ours, `kind|version|digest|name|file:line`: what was
called. A replay compares it with what the code asks for now. Order notes (`order`) are
read here from the records that carry them.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable
from typing import Any, Final

from resonate.errors import NonDeterminismError
from resonate.execution.call import Call
from resonate.execution.order import Order
from resonate.protocol.records import PARENT, Promise

CALL_TAG: Final = "resonate:py:call"
SEEN_TAG: Final = "resonate:py:seen"
RETRY_TAG: Final = "resonate:py:retry"
HALT_TAG: Final = "resonate:py:halt"
TRACE_TAG: Final = "resonate:py:traceparent"
"""Where the caller stands in a distributed trace, as W3C's header of that name says it; children inherit it."""

AWAITS_TAG: Final = "resonate:py:awaits"
"""Of a note: the id of a promise that is awaited, and that another execution may have made."""

KEY_TAG: Final = "resonate:py:ikey"
"""The idempotency key, where it is not the id."""


def identity(kind: str, version: int, digest: str, name: str, where: str) -> str:
    """The text of the tag that says what was called, and from where."""
    return f"{kind}|{version}|{digest}|{name}|{where}"


def split(text: str) -> tuple[str, str, str, str, str]:
    """`identity` taken apart; the name may hold any character, the place no `|`."""
    kind, version, digest, rest = text.split("|", 3)
    name, _, where = rest.rpartition("|")
    return kind, version, digest, name, where


def halt_notes(id: str, version: int) -> tuple[str, str]:
    """Where it is noted why the execution `id` was halted at that version of its task, in both dialects of ids."""
    return f"{id}:halt{version}", f"{id}.halt{version}"


def describe(text: str) -> str:
    """`identity` as a person reads it."""
    kind, version, digest, name, where = split(text)
    called = f"{kind} {name}" + (f" version {version}" if version not in ("0", "1") else "")
    return f"{called}{f' with arguments {digest}' if digest else ''} at {where}"


def agree(recorded: str | None, asked: str, check_args: bool = True, any_version: bool = False) -> bool:
    """Whether the record's tag and the code's name the same call; the place does not count.

    Args:
        check_args: compare the arguments too.
        any_version: the code left the version open, so the recorded one is what it asks for.
    """
    if recorded is None or recorded == asked:
        return True
    old, new = split(recorded), split(asked)
    same_args = not check_args or old[2] == new[2]
    same_version = any_version or old[1] == new[1]
    return same_args and same_version and (old[0], old[3]) == (new[0], new[3])


class Records:
    """The recorded promises of one execution, as they were when its task was acquired."""

    __slots__ = ("_orders", "by_id", "children", "pointed", "retries", "seen")

    def __init__(self, promises: Iterable[Promise]) -> None:
        self.by_id: dict[str, Promise] = {}
        self.children: dict[str, list[str]] = {}
        self.retries: dict[str, int] = {}
        self.seen: dict[str, list[Any]] = {}
        self._orders: dict[str, Order] = {}
        self.pointed: set[str] = set()
        for promise in promises:
            self._add(promise)

    def _add(self, promise: Promise) -> None:
        tags = promise.tags
        parent = tags.get(PARENT, "")
        if SEEN_TAG in tags:
            self._see(json.loads(tags[SEEN_TAG]))
        if AWAITS_TAG in tags:
            self.pointed.add(tags[AWAITS_TAG])
        if HALT_TAG in tags or (SEEN_TAG in tags and CALL_TAG not in tags and RETRY_TAG not in tags):
            return  # a note, no call
        if RETRY_TAG in tags:
            self.retries[parent] = max(self.retries.get(parent, 0), int(tags[RETRY_TAG]))
        else:
            self.children.setdefault(parent, []).append(promise.id)
        self.by_id[promise.id] = promise

    def _see(self, notes: dict[str, Any]) -> None:
        for id, (start, suffixes) in notes.items():
            order = self.seen.setdefault(id, [])
            order.extend([""] * (start + len(suffixes) - len(order)))
            order[start : start + len(suffixes)] = suffixes

    def order(self, call: Call) -> Order | None:
        """In which order outcomes reached `call` when it ran before; None if nothing is noted of it."""
        noted = self.seen.get(call.id)
        if noted is None:
            return None
        order = self._orders.get(call.id)
        if order is None:
            order = self._orders[call.id] = Order(call.prefix, noted)
        return order

    def check_end(self, call: Call, begun: Container[str]) -> None:
        """Refuse the end of a function that did not make all the calls that are recorded under it.

        Raises:
            NonDeterminismError: the code ended without one of its recorded calls.
        """
        recorded = self.children.get(call.id, ())
        missing = [id for id in recorded if id not in begun]
        if missing:
            first = self.by_id[missing[0]].tags.get(CALL_TAG)
            raise NonDeterminismError(
                missing[0],
                f"{len(recorded)} calls recorded under it, {describe(first) if first else missing[0]} among them",
                f"{call.name or 'the function'} ended after {len(recorded) - len(missing)} of them",
            )
