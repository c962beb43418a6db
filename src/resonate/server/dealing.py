"""Whose turn it is: the offers of a group go round its streams, and what comes back goes to somebody else.

A worker that lacks the function of a task, since another version of the program runs on it,
gives it back. So a task that comes back is dealt to a stream that has not had it, and is
offered again when a stream joins: that may be the worker it waits for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from resonate.protocol.records import Execute
from resonate.protocol.rows import Send

DEALT: Final = 10_000
"""Tasks of which it is known who has been offered them; of those beyond, the oldest may go to the same one again."""

AGAIN: Final = 1000
"""Tasks that are offered again when a stream joins, the latest; others wait for their worker's pause or their timer."""


class _Dealt(Struct):
    """Who has been offered a task, and its last offer if that came back before and may do so again."""

    ids: set[str]
    send: Send | None


class Dealing:
    """Who of one group has been offered what."""

    def __init__(self) -> None:
        self._dealt: OrderedDict[str, _Dealt] = OrderedDict()

    def choose(self, send: Send, ready: Sequence[str], turn: int) -> int:
        """Which of the streams that are ready gets an offer: from `turn` on the first that has not had this task.

        Args:
            ready: their ids; at least one.
            turn: whose turn it is otherwise.
        """
        task = send.key[1]
        known = self._dealt.pop(task, None)
        ids: set[str] = set() if known is None else known.ids
        for step in range(len(ready)):
            at = (turn + step) % len(ready)
            if ready[at] not in ids:
                break
        else:  # all of them have had it: begin anew
            at, ids = turn, set()
        ids.add(ready[at])
        self._dealt[task] = _Dealt(ids, send if came_back(send) else None)
        if len(self._dealt) > DEALT:
            self._dealt.popitem(last=False)
        return at

    def again(self) -> list[Send]:
        """Offers that came back before: somebody new has joined, who may be able to keep them. Each is told once."""
        found: list[Send] = []
        for dealt in reversed(self._dealt.values()):
            if dealt.send is not None:
                found.append(dealt.send)
                dealt.send = None
            if len(found) == AGAIN:
                break
        return found[::-1]


def came_back(send: Send) -> bool:
    """Whether an offer is of a task that was acquired and given back or lost; one that suspended prefers somebody."""
    return type(send.message) is Execute and send.message.version > 0 and send.prefer is None


__all__ = ["Dealing", "came_back"]
