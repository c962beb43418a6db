"""Who has been offered which task: so that what comes back goes to somebody else, and nothing is lost with a stream.

A worker that lacks the function of a task, since another version of the program runs on it,
gives it back. So a task that comes back is dealt to a stream that has not had it, and is
offered again when a stream joins: that may be the worker it waits for. And the offers of a
stream that ends go to others: a process that was killed does not say what it had in hand.
Whether an offer still holds is for whoever puts it back to find out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from msgspec import Struct

from resonate.protocol.records import Execute
from resonate.protocol.rows import Send

DEALT: Final = 10_000
"""Tasks, of those that came back and of the others, that are remembered; what is forgotten waits for its timer."""

AGAIN: Final = 1000
"""Offers that are put back when a stream joins or ends, the latest: in one transaction, which is to stay short."""


K = TypeVar("K")


class _Dealt(Struct):
    """The last offer of a task, where it went, to whom it has been offered, and whether it came back before."""

    send: Send
    group: str
    to: str
    ids: set[str]
    returned: bool


class Dealing:
    """What the streams of one service have been offered."""

    def __init__(self) -> None:
        self._new: OrderedDict[str, _Dealt] = OrderedDict()
        self._returned: OrderedDict[str, _Dealt] = OrderedDict()
        self._by_stream: dict[tuple[str, str], dict[str, None]] = {}
        self._by_group: dict[str, dict[str, None]] = {}  # those that came back, and were not put back since

    def choose(
        self, send: Send, group: str, ready: Sequence[str], turn: int, busy: Callable[[], Sequence[str]]
    ) -> int | str:
        """Which stream gets an offer to a group: from `turn` on the first that has not had this task.

        Args:
            ready: the ids of the streams that can take it; at least one.
            turn: whose turn it is otherwise.
            busy: the ids of the others; asked only if all who are ready have given the task back.

        Returns:
            Its place in `ready`, or the id of a busy one that is to have it before anybody else.
        """
        known = self._forget(send.key[1])
        ids: set[str] = set() if known is None else known.ids
        returned = came_back(send) or _is_again(send, known)
        at: int | None = turn
        if ids:
            count = len(ready)
            at = next((place % count for place in range(turn, turn + count) if ready[place % count] not in ids), None)
        if at is None and known is not None and returned:
            found = next((id for id in busy() if id not in ids), None)
            if found is not None:
                self._remember(_Dealt(send, group, known.to, ids, True))  # not offered yet
                return found
        if at is None:  # all of them have had it: begin anew
            at, ids = turn, set()
        self._remember(_Dealt(send, group, ready[at], ids, returned))
        return at

    def goes_to(self, send: Send, group: str, id: str) -> None:
        """An offer goes to the stream that it prefers or names."""
        known = self._forget(send.key[1])
        ids: set[str] = set() if known is None else known.ids
        self._remember(_Dealt(send, group, id, ids, _is_again(send, known)))

    def joined(self, group: str) -> list[Send]:
        """Offers that came back before, to be put back now that somebody else may be able to keep them."""
        tasks = list(self._by_group.pop(group, ()))[-AGAIN:]
        return [self._returned[task].send for task in tasks]

    def left(self, group: str, id: str) -> list[Send]:
        """Offers that the stream `id`, which has ended, had last."""
        tasks = list(self._by_stream.get((group, id), ()))
        known = [self._forget(task) for task in tasks]
        return [dealt.send for dealt in known[-AGAIN:] if dealt is not None]

    def _remember(self, dealt: _Dealt) -> None:
        task, kind = dealt.send.key[1], self._returned if dealt.returned else self._new
        dealt.ids.add(dealt.to)
        kind[task] = dealt
        self._by_stream.setdefault((dealt.group, dealt.to), {})[task] = None
        if dealt.returned:
            self._by_group.setdefault(dealt.group, {})[task] = None
        if len(kind) > DEALT:
            self._forget(next(iter(kind)))

    def _forget(self, task: str) -> _Dealt | None:
        dealt = self._returned.pop(task, None) or self._new.pop(task, None)
        if dealt is not None:
            _discard(self._by_stream, (dealt.group, dealt.to), task)
            _discard(self._by_group, dealt.group, task)
        return dealt


def came_back(send: Send) -> bool:
    """Whether an offer is of a task that was acquired and given back or lost; one that suspended prefers somebody."""
    return type(send.message) is Execute and send.message.version > 0 and send.prefer is None


def _is_again(send: Send, known: _Dealt | None) -> bool:
    """Whether this very offer was known to have come back already; we had it put back for a busy stream."""
    return known is not None and known.returned and known.send.message == send.message


def _discard(index: dict[K, dict[str, None]], key: K, task: str) -> None:
    tasks = index.get(key)
    if tasks is not None:
        tasks.pop(task, None)
        if not tasks:
            del index[key]


__all__ = ["Dealing", "came_back"]
