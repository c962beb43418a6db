"""The same questions to servers of other makes: what a search of the protocol gives is all read, and sorted here."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from resonate.errors import ResonateStoreError
from resonate.inspection.grouping import by_calls
from resonate.inspection.reading import is_root
from resonate.inspection.views import Call, Counts, Group
from resonate.protocol.listing import Wanted, fits
from resonate.protocol.records import PENDING, SCOPE, TARGET, Promise, PromiseState
from resonate.protocol.requests import PromiseSearch, Request, Response

PAGE: Final = 1000
"""Promises asked for at once: as many as a search may give."""

_SETTLED: Final[dict[str, PromiseState]] = {
    "succeeded": "resolved",
    "failed": "rejected",
    "cancelled": "rejected_canceled",
    "timed out": "rejected_timedout",
}


class Foreign:
    """Searches.

    Args:
        send: carries requests of the protocol.
        with_tasks: what promises and their tasks say, as calls.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Request]], list[Response]],
        with_tasks: Callable[[Sequence[Promise]], Iterable[Call]],
    ) -> None:
        self._send = send
        self._with_tasks = with_tasks

    def executions(self, wanted: Wanted, state: str | None, before: tuple[int, str] | None, limit: int) -> list[Call]:
        """The newest executions before that one; as many promises are read as there are of that state."""
        found = (call for call in self._all(wanted, state) if before is None or (call.created_at, call.id) < before)
        return heapq.nlargest(limit, found, key=lambda call: (call.created_at, call.id))

    def counts(self, wanted: Wanted, most: int) -> Counts:
        """How many executions there are in each state, of up to `most`."""
        found: Counter[str] = Counter()
        for count, call in enumerate(self._all(wanted, None)):
            if count == most:
                return Counts(dict(found), tuple(found))
            found[call.state] += 1
        return Counts(dict(found))

    def counts_by(self, wanted: Wanted, by: str, most: int) -> dict[str, Counts]:
        """The same for each function or group."""
        found: dict[str, Counter[str]] = {}
        more = False
        for count, call in enumerate(self._all(wanted, None)):
            if count == most:
                more = True
                break
            name = call.name if by == "function" else call.group or ""
            found.setdefault(name, Counter())[call.state] += 1
        return {name: Counts(dict(states), tuple(states) if more else ()) for name, states in sorted(found.items())}

    def groups(self, most: int) -> list[Group]:
        """The groups that have open calls, by name, of up to `most` promises or a few more."""
        found: dict[str, list[Call]] = {}
        read = 0
        for page in self._pages({SCOPE: "global"}, PENDING):
            for call in self._with_tasks([promise for promise in page if TARGET in promise.tags]):
                if call.group is not None:
                    found.setdefault(call.group, []).append(call)
            read += len(page)
            if read >= most:
                break
        return [by_calls(name, calls, read >= most) for name, calls in sorted(found.items())]

    # ---- inside --------------------------------------------------------------------------------

    def _all(self, wanted: Wanted, state: str | None) -> Iterator[Call]:
        recorded = None if state is None else _SETTLED.get(state, PENDING)
        for page in self._pages({SCOPE: "global", **(wanted.tags or {})}, recorded):
            roots = [promise for promise in page if is_root(promise) and fits(wanted, promise)]
            yield from (call for call in self._with_tasks(roots) if state in (None, call.state))

    def _pages(self, tags: dict[str, str], state: PromiseState | None) -> Iterator[Sequence[Promise]]:
        cursor = None
        while True:
            (answer,) = self._send([PromiseSearch(state, tags, PAGE, cursor)])
            if answer.promises is None:
                raise ResonateStoreError(f"promises cannot be searched for here: {answer.error}", 500)
            yield answer.promises
            cursor = answer.cursor
            if cursor is None:
                return
