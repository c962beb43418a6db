"""In which order outcomes reach an async function (design 7, "Order of outcomes is history").

A function that has several calls open may do one thing or another by which of them ends first, and by whether it has
gone on, woken by a timer of asyncio, before it saw an outcome. So both are noted: each outcome, in the order in which
they were seen, and each call that was begun when something that is no durable call had woken the function while
outcomes were to come. A replay hands outcomes over in that order, and none before the function has begun what it
began without it. A note is carried by the next promise that is created.

An entry is the short id of a call whose outcome was seen, or a list: the short id of a call that was begun, and in the
first such entry those of the calls whose outcomes had not been seen by then. From there on every outcome is noted, also
where only one call was open.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from resonate.execution.call import Call


class Order:
    """What is recorded of one function.

    Args:
        prefix: what the ids of its calls begin with.
        entries: see the module's text.
    """

    __slots__ = ("_ahead", "_entries", "_places", "_prefix")

    def __init__(self, prefix: str, entries: Sequence[Any]) -> None:
        self._prefix = prefix
        self._entries = entries
        self._places = {entry: at for at, entry in enumerate(entries) if type(entry) is str}
        self._ahead = [(at, entry) for at, entry in enumerate(entries) if type(entry) is list]
        """The calls that were begun before some outcome was seen, and are yet to be begun again."""

    def first(self, ids: Sequence[str]) -> int | None:
        """Which of several outcomes is to be handed over now; None: the function went on before it saw any of them."""
        shorts = [short(self._prefix, id) for id in ids]
        free = [at for at, name in enumerate(shorts) if not self._is_held(name)] if self._ahead else range(len(ids))
        return min(free, key=lambda at: (self._places.get(shorts[at], len(self._entries)), at), default=None)

    def begins(self, id: str, seen: int) -> bool | None:
        """The function begins the call `id` after `seen` entries: what it began without some outcome may be that.

        Returns:
            Whether an entry of this call stands there; None if nothing is recorded any more.
        """
        name = short(self._prefix, id)
        self._ahead = [(at, entry) for at, entry in self._ahead if entry[0] != name]
        if seen >= len(self._entries):
            return None
        entry = self._entries[seen]
        return type(entry) is list and entry[0] == name

    def let_go(self) -> None:
        """The function does not go on as it did: hand it what there is, and see what it asks for then."""
        self._ahead = []

    def _is_held(self, name: str) -> bool:
        at, (_, *unseen) = self._ahead[0]
        place = self._places.get(name)
        if place is not None:
            return place > at
        return not unseen or name in unseen  # seen before the first such entry, it may not have been noted


class Notes:
    """Order notes that no record carries yet."""

    __slots__ = ("unwritten",)

    def __init__(self) -> None:
        self.unwritten: dict[str, tuple[int, list[Any]]] = {}

    def saw(self, call: Call, child: Call) -> None:
        """`call` sees the outcome of `child` now: that order is history."""
        self._add(call, short(call.prefix, child.id))

    def went_on(self, call: Call, id: str, unseen: Iterable[str]) -> None:
        """`call` begins the call `id`, woken by something that is no durable call.

        Args:
            unseen: the ids of those whose outcomes it has not seen; none but for the first such note.
        """
        self._add(call, [short(call.prefix, each) for each in (id, *unseen)])

    def take(self) -> str:
        """All of them, as the text of a tag."""
        text = json.dumps(self.unwritten, separators=(",", ":"))
        self.unwritten = {}
        return text

    def _add(self, call: Call, entry: Any) -> None:
        self.unwritten.setdefault(call.id, (call.seen, []))[1].append(entry)
        call.seen += 1


def short(prefix: str, id: str) -> str:
    """The id of a call as order notes have it: without its caller's, and in full where the program chose it."""
    return id[len(prefix) :] if id.startswith(prefix) else f"={id}"
