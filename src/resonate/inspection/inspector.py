"""Lists executions, draws their trees, and says what they wait for."""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from resonate.errors import ResonateStoreError
from resonate.execution.records import HALT_TAG
from resonate.inspection.reading import call_of, is_note, is_root
from resonate.inspection.views import STATES, Call, Failure, FailureGroup, Group, Page, Wait
from resonate.inspection.waits import waits_of
from resonate.protocol.records import ORIGIN, PARENT, PENDING, SCOPE, TARGET, Promise, PromiseState, Task
from resonate.protocol.requests import PromiseGet, PromiseSearch, Request, Response, TaskGet

PAGE: Final = 1000
"""Promises asked for at once: as many as a search may give."""

TREE: Final = 100_000
"""Calls of one execution that are read at most."""

Send = Callable[[Sequence[Request]], list[Response]]

_SETTLED: Final[dict[str, PromiseState]] = {
    "succeeded": "resolved",
    "failed": "rejected",
    "cancelled": "rejected_canceled",
    "timed out": "rejected_timedout",
}
FAILED_SHOWN: Final = 20
"""Ids that are named of executions that failed alike."""

_AGAIN: Final = "Traceback (most recent call last):"
_FRAME: Final = re.compile(r'File "([^"]*)", line (\d+), in (.*)')
NEWEST: Final = "newest:"
"""How cursors begin of a service that lists executions the newest first."""

_ORDERED: Final = "n."
_NUMBERS: Final = re.compile(r"(\d+)")


class Inspector:
    """Asks a service, through whatever carries requests to it.

    Args:
        send: carries requests of the protocol; `Network.send`.
        now: milliseconds since the epoch, as the service has it.
    """

    def __init__(self, send: Send, now: Callable[[], int]) -> None:
        self._send = send
        self._now = now

    def executions(
        self,
        *,
        state: str | None = None,
        function: str | None = None,
        group: str | None = None,
        tags: Mapping[str, str] | None = None,
        prefix: str = "",
        since: int | None = None,
        until: int | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[Call]:
        """Executions, the newest first.

        Args:
            state: one of `views.STATES`.
            function: its name.
            group: whose workers run it.
            tags: all of these.
            prefix: how its id begins.
            since, until: when it was begun, milliseconds since the epoch; the second instant is not included.
            limit: how many at most.
            cursor: of the page before.

        Raises:
            ValueError: there is no such state, or the cursor is of no page of ours.
            ResonateStoreError: the service cannot search, or is out of reach.
        """
        if state is not None and state not in STATES:
            raise ValueError(f"state must be one of {', '.join(STATES)}, got {state!r}")
        before = None if cursor is None else _read_cursor(cursor)

        def matches(promise: Promise) -> bool:
            at = promise.created_at
            return (
                is_root(promise)
                and promise.id.startswith(prefix)
                and (since is None or at >= since)
                and (until is None or at < until)
                and (before is None or (at, promise.id) < before)
            )

        def fits(call: Call) -> bool:
            return state in (None, call.state) and function in (None, call.name) and group in (None, call.group)

        known = cursor is None or cursor.startswith(_ORDERED)
        alone = function is None and group is None and (state is None or state in _SETTLED)
        found: list[Call] = []
        ordered = False
        for page, ordered in self._newest(
            PromiseSearch(
                _recorded(state),
                dict(tags or {}) or None,
                min(limit + 1, PAGE) if alone else PAGE,
                prefix=prefix or None,
            ),
            before,
            known,
        ):
            found += filter(fits, self._with_tasks([promise for promise in page if matches(promise)]))
            if ordered and (len(found) > limit or (since is not None and page and page[-1].created_at < since)):
                break
        newest = heapq.nlargest(limit + 1, found, key=lambda call: (call.created_at, call.id))
        items = tuple(newest[:limit])
        if len(newest) <= limit:
            return Page(items)
        return Page(items, f"{_ORDERED if ordered else ''}{items[-1].created_at}.{items[-1].id}")

    def execution(self, id: str) -> Call:
        """One call, without what is below it.

        Raises:
            ResonateStoreError: 100.404, there is none of this id.
        """
        read, asked = self._send([PromiseGet(id), TaskGet(id)])
        if read.promise is None:
            raise ResonateStoreError(f"The specified promise was not found: {id}", 40400)
        call = call_of(read.promise, asked.task)
        return replace(call, reason=self._reason(read.promise)) if call.state == "halted" else call

    def tree(self, id: str) -> Call:
        """One call with all that is below it.

        Raises:
            ResonateStoreError: 100.404, there is none of this id.
        """
        top = self.execution(id)
        origin = top.tags.get(ORIGIN, id)
        promises = [promise for page in self._pages({ORIGIN: origin}, None, TREE) for promise in page]
        reasons = _reasons(promises)
        below: dict[str, list[Call]] = {}
        for call in self._with_tasks([promise for promise in promises if not is_note(promise)]):
            parent = call.tags.get(PARENT, call.id)
            if call.id not in (id, parent):
                below.setdefault(parent, []).append(replace(call, reason=reasons.get(call.id)))
        return _grown(replace(top, reason=reasons.get(id, top.reason)), below)

    def why(self, id: str) -> list[Wait]:
        """What an execution waits for, from the root to the leaves; empty if it is over.

        Raises:
            ResonateStoreError: 100.404, there is none of this id.
        """
        return waits_of(self.tree(id), self._now())

    def groups(self) -> list[Group]:
        """The groups that have open calls, by name."""
        found: dict[str, list[Call]] = {}
        for page in self._pages({SCOPE: "global"}, PENDING):
            for call in self._with_tasks([promise for promise in page if TARGET in promise.tags]):
                if call.group is not None:
                    found.setdefault(call.group, []).append(call)
        return [_group(name, calls) for name, calls in sorted(found.items())]

    def failures(self, limit: int = 1000) -> list[FailureGroup]:
        """Failed executions, those together that failed alike; the newest first.

        Args:
            limit: how many executions are looked at.
        """
        alike: dict[tuple[str, str, str], list[Call]] = {}
        for call in self.executions(state="failed", limit=limit).items:
            if call.error is not None:
                alike.setdefault((call.title, call.error.type, place_of(call.error)), []).append(call)
        groups = [_alike(function, place, calls) for (function, _, place), calls in alike.items()]
        return sorted(groups, key=lambda group: group.newest, reverse=True)

    # ---- inside --------------------------------------------------------------------------------

    def _newest(
        self, search: PromiseSearch, before: tuple[int, str] | None, known: bool
    ) -> Iterator[tuple[Sequence[Promise], bool]]:
        """Executions, the newest first and True where the service knows that order, else all there are and False.

        Args:
            search: what to look for.
            before: where the page before ended.
            known: False if the service is known not to know that order.
        """
        cursor = None if before is None else f"{NEWEST}{before[0]}:{before[1]}"
        while known:
            (answer,) = self._send([replace(search, cursor=cursor, newest=True)])
            if answer.promises is None:
                raise ResonateStoreError(f"promises cannot be searched for here: {answer.error}", 500)
            cursor = answer.cursor
            known = cursor is None or cursor.startswith(NEWEST)
            if known:
                yield answer.promises, cursor is not None
            if cursor is None:
                return
        for page in self._pages({SCOPE: "global", **(search.tags or {})}, search.state):
            yield page, False

    def _pages(
        self, tags: dict[str, str], state: PromiseState | None, most: int | None = None
    ) -> Iterator[Sequence[Promise]]:
        cursor, seen = None, 0
        while most is None or seen < most:
            (answer,) = self._send([PromiseSearch(state, tags, PAGE, cursor)])
            if answer.promises is None:
                raise ResonateStoreError(f"promises cannot be searched for here: {answer.error}", 500)
            yield answer.promises
            seen += len(answer.promises)
            cursor = answer.cursor
            if cursor is None:
                return

    def _with_tasks(self, promises: Sequence[Promise]) -> Iterable[Call]:
        open = [promise for promise in promises if promise.state == PENDING and TARGET in promise.tags]
        tasks: dict[str, Task | None] = {}
        for start in range(0, len(open), PAGE):
            asked = open[start : start + PAGE]
            answers = self._send([TaskGet(promise.id) for promise in asked])
            tasks.update((promise.id, answer.task) for promise, answer in zip(asked, answers, strict=True))
        return [call_of(promise, tasks.get(promise.id)) for promise in promises]

    def _reason(self, promise: Promise) -> str | None:
        origin = promise.tags.get(ORIGIN, promise.id)
        notes = [found for page in self._pages({ORIGIN: origin, SCOPE: "local"}, None, TREE) for found in page]
        return _reasons(notes).get(promise.id)


def _recorded(state: str | None) -> PromiseState | None:
    """The state that promises of calls in `state` have."""
    return None if state is None else _SETTLED.get(state, PENDING)


def _reasons(promises: Iterable[Promise]) -> dict[str, str]:
    """Why executions were halted, as noted beside them; the newest note counts."""
    noted = sorted((promise for promise in promises if HALT_TAG in promise.tags), key=lambda note: note.created_at)
    return {note.tags.get(PARENT, ""): note.tags[HALT_TAG] for note in noted}


def _grown(call: Call, below: dict[str, list[Call]]) -> Call:
    """`call` with all that is below it."""
    done: dict[str, Call] = {}
    waiting = [call]
    while waiting:  # a chain of calls may be longer than Python may recurse
        top = waiting[-1]
        children = below.get(top.id, [])
        missing = [child for child in children if child.id not in done]
        if missing:
            waiting += missing
            continue
        waiting.pop()
        ordered = sorted((done[child.id] for child in children), key=lambda one: (one.created_at, _order(one.id)))
        retries = any(child.kind == "retry" and not child.settled for child in ordered)
        state = "retrying" if retries and not top.settled and top.state != "halted" else top.state
        done[top.id] = replace(top, calls=tuple(ordered), state=state)
    return done[call.id]


def _group(name: str, calls: Sequence[Call]) -> Group:
    states = Counter(call.state for call in calls)
    queued = [call.created_at for call in calls if call.state == "queued"]
    return Group(
        name=name,
        queued=states["queued"],
        running=states["running"],
        waiting=states["waiting"],
        halted=states["halted"],
        oldest=min(queued, default=None),
        workers=dict(Counter(call.worker for call in calls if call.worker)),
    )


def _alike(function: str, place: str, calls: Sequence[Call]) -> FailureGroup:
    newest = max(calls, key=lambda call: call.settled_at or 0)
    assert newest.error is not None
    return FailureGroup(
        function=function,
        error=newest.error,
        place=place,
        count=len(calls),
        newest=newest.settled_at or 0,
        ids=tuple(call.id for call in calls[:FAILED_SHOWN]),
    )


def place_of(error: Failure) -> str:
    """The line of code that raised, as its traceback has it: `shop.py:12 in charge`."""
    frames = _FRAME.findall(error.traceback.partition(_AGAIN)[2].partition(_AGAIN)[0])  # where it was raised first
    if not frames:
        return ""
    path, line, name = frames[-1]
    return f"{path.replace(chr(92), '/').rpartition('/')[2]}:{line} in {name}"


def _order(id: str) -> list[tuple[int, int | str]]:
    """Ids in the order of the code: 2 before 10."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in _NUMBERS.split(id)]


def _read_cursor(cursor: str) -> tuple[int, str]:
    at, dot, id = cursor.removeprefix(_ORDERED).partition(".")
    if not dot or not at.isdigit():
        raise ValueError(f"cursor {cursor!r} comes from no page of executions")
    return int(at), id
