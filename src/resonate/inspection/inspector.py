"""Lists executions, draws their trees, and says what they wait for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, tzinfo
from typing import Final, Literal

from msgspec.structs import replace

from resonate.errors import ResonateStoreError
from resonate.execution.attempts import Ran
from resonate.execution.records import AWAITS_TAG, HALT_TAG, halt_notes
from resonate.inspection.foreign import Foreign
from resonate.inspection.grouping import alike, by_load, place_of
from resonate.inspection.reading import call_of, is_note, told_beside, told_by, with_attempts
from resonate.inspection.views import STATES, Call, Counts, FailureGroup, Group, Page, Wait, Waits
from resonate.inspection.waits import Reached, waits_of
from resonate.protocol.descent import UNKNOWN, Send, descend
from resonate.protocol.listing import Phase, Wanted
from resonate.protocol.records import ORIGIN, PARENT, PENDING, TARGET, Promise, Task
from resonate.protocol.requests import (
    ExecutionCount,
    ExecutionFailures,
    ExecutionSearch,
    GroupSearch,
    PromiseGet,
    Request,
    Response,
    TaskGet,
)
from resonate.storable import UNSTORABLE, is_storable

PAGE: Final = 1000
"""Promises asked for at once: as many as a search may give."""

TREE: Final = 100_000
"""Calls of one execution that are read at most."""

ROUNDS: Final = 50
"""Requests after which a page is shown as it is, should a service find next to nothing of what is looked for."""

COUNTED: Final = 10_000
"""Executions in one state that are counted at most; from there on it is `10,000+`."""

COUNTED_APART: Final = 1_000
"""The same where functions or groups are counted one by one."""

KINDS: Final = 200
"""Kinds of failures that are told apart at most."""


_PHASES: Final[dict[str, Phase]] = {
    "queued": "pending",
    "running": "acquired",
    "waiting": "suspended",
    "halted": "halted",
    "succeeded": "resolved",
    "failed": "rejected",
    "cancelled": "rejected_canceled",
    "timed out": "rejected_timedout",
}
_STATES: Final = {phase: state for state, phase in _PHASES.items()}
_ORDERED: Final = "n."
_NUMBERS: Final = re.compile(r"(\d+)")


class Inspector:
    """Asks a service, through whatever carries requests to it.

    Our services answer each question from an index. Of other makes everything is read that a
    search of the protocol gives.

    Args:
        send: carries requests of the protocol; `Network.send`.
        now: milliseconds since the epoch, as the service has it.
    """

    def __init__(self, send: Send, now: Callable[[], int]) -> None:
        self._send = send
        self._now = now
        self._foreign = Foreign(send, self._with_tasks)
        self._known = True
        """Whether the service answers our own kinds of requests, as far as known."""

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
            state: one of `views.STATES`; of those, retrying and pending are told apart only in a tree.
            function: its name.
            group: whose workers run it.
            tags: all of these.
            prefix: how its id begins.
            since, until: when it was begun, milliseconds since the epoch; the second instant is not included.
            limit: how many at most. A page may be shorter and have a next one, where next to nothing fits.
            cursor: of the page before.

        Raises:
            ValueError: there is no such state, or the cursor is of no page of ours.
            ResonateStoreError: the service cannot search, or is out of reach.
        """
        wanted = _wanted(state, function, group, tags, prefix, since, until)
        before = None if cursor is None else _read_cursor(cursor)
        if state is not None and state not in _PHASES:
            return Page(())
        if cursor is None or cursor.startswith(_ORDERED):
            page = self._newest(wanted, state, None if before is None else f"{before[0]}.{before[1]}", limit)
            if page is not None:
                return page
        found = self._foreign.executions(wanted, state, before, limit + 1)
        more = len(found) > limit
        items = tuple(found[:limit])
        return Page(items, f"{items[-1].created_at}.{items[-1].id}" if more and items else None)

    def counts(
        self,
        *,
        function: str | None = None,
        group: str | None = None,
        tags: Mapping[str, str] | None = None,
        prefix: str = "",
        since: int | None = None,
        until: int | None = None,
    ) -> Counts:
        """How many executions there are in each state; each is counted up to `COUNTED`.

        Args: as for `executions`.

        Raises:
            ResonateStoreError: the service cannot search, or is out of reach.
        """
        wanted = _wanted(None, function, group, tags, prefix, since, until)
        answer = self._ask(ExecutionCount(wanted, "", COUNTED))
        if answer is None or answer.counts is None:
            return self._foreign.counts(wanted, COUNTED)
        return _counted(answer.counts.get("", {}), COUNTED, answer.partial)

    def counts_by(
        self, by: Literal["function", "group"], *, since: int | None = None, until: int | None = None
    ) -> dict[str, Counts]:
        """`counts` for each function, or each group, that there are executions of; up to `COUNTED_APART` in a state.

        Raises:
            ResonateStoreError: the service cannot search, or is out of reach.
        """
        wanted = Wanted(since=since, until=until)
        answer = self._ask(ExecutionCount(wanted, by, COUNTED_APART))
        if answer is None or answer.counts is None:
            return self._foreign.counts_by(wanted, by, COUNTED)
        return {name: _counted(counts, COUNTED_APART, False) for name, counts in answer.counts.items()}

    def execution(self, id: str) -> Call:
        """One call, without what is below it.

        Raises:
            ResonateStoreError: 100.404, there is none of this id.
        """
        read, asked = self._send([PromiseGet(id), TaskGet(id)])
        if read.promise is None:
            raise ResonateStoreError(f"The specified promise was not found: {id}", 40400)
        call = call_of(read.promise, asked.task)
        return self._with_reasons([call], {id: asked.task})[0]

    def tree(self, id: str) -> Call:
        """One call with all that is below it.

        Raises:
            ResonateStoreError: 100.404, there is none of this id.
        """
        return self._reached(id).call

    def why(self, id: str, zone: tzinfo = UTC) -> list[Wait]:
        """What an execution waits for, from the root to the leaves, into other executions too; empty if it is over.

        Args:
            id: of it.
            zone: whose time is told.

        Raises:
            ResonateStoreError: 100.404, there is none of this id.
        """
        return Waits(waits_of(self._reached(id), self._elsewhere, self._now(), zone))

    def groups(self) -> list[Group]:
        """The groups that have open calls, by name.

        Raises:
            ResonateStoreError: the service cannot search, or is out of reach.
        """
        answer = self._ask(GroupSearch(COUNTED))
        if answer is None or answer.groups is None or answer.holders is None:
            return self._foreign.groups(COUNTED)
        ids = [id for holder in answer.holders for id in holder.ids]
        read = self._send([PromiseGet(id) for id in ids]) if ids else []
        calls = {one.promise.id: call_of(one.promise) for one in read if one.promise is not None}
        return by_load(answer.groups, answer.holders, calls, COUNTED)

    def failures(self, limit: int = 1000, shown: int = 20) -> list[FailureGroup]:
        """Failed executions, those together that failed alike; the newest first.

        Args:
            limit: of each kind, how many are counted; on servers of other makes, how many executions are looked at.
            shown: of each kind, how many ids are named; from 1 to 1,000.

        Raises:
            ResonateStoreError: the service cannot search, or is out of reach.
        """
        answer = self._ask(ExecutionFailures(KINDS, min(limit, PAGE), shown))
        if answer is None or answer.failures is None:
            page = self.executions(state="failed", limit=limit)
            return alike(page.items, shown, page.cursor is not None)
        ends = [id for fault in answer.failures for id in (fault.ids[0], fault.ids[-1])]
        read = self._send([PromiseGet(id) for id in ends]) if ends else []
        found: list[FailureGroup] = []
        for fault, newest, oldest in zip(answer.failures, read[::2], read[1::2], strict=True):
            call = None if newest.promise is None else call_of(newest.promise)
            if call is None or call.error is None or oldest.promise is None:
                continue  # purged since
            named = 1 < fault.count == len(fault.ids) <= limit
            found.append(
                FailureGroup(
                    function=call.name or fault.function,
                    error=call.error,
                    place=place_of(call.error),
                    count=min(fault.count, limit),
                    newest=call.settled_at or 0,
                    oldest=oldest.promise.settled_at if named else None,
                    ids=tuple(fault.ids),
                    more=fault.count > limit,
                )
            )
        return sorted(found, key=lambda group: group.newest, reverse=True)

    # ---- inside --------------------------------------------------------------------------------

    def _reached(self, id: str) -> Reached:
        """A call with all that is below it, and what it waits for elsewhere.

        Raises:
            ResonateStoreError: 100.404, there is none of this id.
        """
        top = self.execution(id)
        promises: list[Promise] = []
        for page in descend(self._send, id, top.tags.get(ORIGIN, id)):
            promises += page
            if len(promises) >= TREE:
                break
        reasons, told = _reasons(promises), _told(promises)
        below: dict[str, list[Call]] = {}
        for call in self._with_tasks([promise for promise in promises if not is_note(promise)]):
            parent = call.tags.get(PARENT, call.id)
            if call.id not in (id, parent):
                below.setdefault(parent, []).append(_completed(call, reasons, told))
            elif call.id == id:
                top = _completed(call, reasons, told)
        return Reached(_grown(top, below, self._now()), _awaits(promises))

    def _elsewhere(self, id: str) -> Reached | None:
        try:
            return self._reached(id)
        except ResonateStoreError as error:
            if round(error.code, 3) != 100.404:
                raise
            return None  # it has been purged since

    def _newest(self, wanted: Wanted, state: str | None, cursor: str | None, limit: int) -> Page[Call] | None:
        """A page from a service that lists executions; None from one that does not."""
        found: list[Call] = []
        for _ in range(ROUNDS):
            answer = self._ask(ExecutionSearch(wanted, min(limit + 1 - len(found), PAGE), cursor))
            if answer is None or answer.promises is None:
                return None
            found += [call for call in self._with_tasks(answer.promises) if state in (None, call.state)]
            cursor = answer.cursor
            if cursor is None or len(found) > limit:
                break
        items = tuple(found[:limit])
        if len(found) > limit:
            cursor = f"{items[-1].created_at}.{items[-1].id}" if items else cursor
        return Page(items, None if cursor is None else _ORDERED + cursor)

    def _ask(self, request: Request) -> Response | None:
        """The answer to a request of ours; None if the service does not know it."""
        if not self._known:
            return None
        (answer,) = self._send([request])
        if answer.status in UNKNOWN:
            self._known = not isinstance(request, ExecutionSearch)
            return None
        if answer.error is not None:
            raise ResonateStoreError(f"executions cannot be looked for here: {answer.error}", answer.status * 100)
        return answer

    def _with_tasks(self, promises: Sequence[Promise]) -> Iterable[Call]:
        open = [promise for promise in promises if promise.state == PENDING and TARGET in promise.tags]
        tasks: dict[str, Task | None] = {}
        for start in range(0, len(open), PAGE):
            asked = open[start : start + PAGE]
            answers = self._send([TaskGet(promise.id) for promise in asked])
            tasks.update((promise.id, answer.task) for promise, answer in zip(asked, answers, strict=True))
        calls = [call_of(promise, tasks.get(promise.id)) for promise in promises]
        return self._with_reasons(calls, tasks) if any(call.state == "halted" for call in calls) else calls

    def _with_reasons(self, calls: Sequence[Call], tasks: Mapping[str, Task | None] | None = None) -> list[Call]:
        """`calls`, those that are halted with the reason that is noted beside them."""
        known = tasks or {}
        halted = [(call.id, task) for call in calls if call.state == "halted" and (task := known.get(call.id))]
        asked = [(id, PromiseGet(note)) for id, task in halted for note in halt_notes(id, task.version)]
        reasons: dict[str, str] = {}
        for start in range(0, len(asked), PAGE):
            part = asked[start : start + PAGE]
            for (id, _), answer in zip(part, self._send([request for _, request in part]), strict=True):
                if answer.promise is not None and HALT_TAG in answer.promise.tags:
                    reasons[id] = answer.promise.tags[HALT_TAG]
        return [replace(call, reason=reasons[call.id]) if call.id in reasons else call for call in calls]


def _wanted(
    state: str | None,
    function: str | None,
    group: str | None,
    tags: Mapping[str, str] | None,
    prefix: str,
    since: int | None,
    until: int | None,
) -> Wanted:
    if state is not None and state not in STATES:
        raise ValueError(f"state must be one of {', '.join(STATES)}, got {state!r}")
    for name, text in {"function": function, "group": group, "prefix": prefix}.items():
        if text is not None and not is_storable(text):
            raise ValueError(f"{name} {text[:80]!r} {UNSTORABLE}")
    for tag, value in (tags or {}).items():
        if not is_storable(tag + value):
            raise ValueError(f"tag {tag!r} {UNSTORABLE}")
    phases = (_PHASES[state],) if state in _PHASES else None
    return Wanted(phases, function, group, dict(tags) if tags else None, prefix or None, since, until)


def _counted(counts: Mapping[str, int], most: int, partial: bool) -> Counts:
    states = {_STATES[phase]: min(count, most) for phase, count in counts.items() if phase in _STATES}
    more = [state for state in states if partial or counts[_PHASES[state]] > most]
    return Counts(states, tuple(more))


def _reasons(promises: Iterable[Promise]) -> dict[str, str]:
    """Why executions were halted, as noted beside them; the newest note counts."""
    noted = sorted((promise for promise in promises if HALT_TAG in promise.tags), key=lambda note: note.created_at)
    return {note.tags.get(PARENT, ""): note.tags[HALT_TAG] for note in noted}


def _awaits(promises: Iterable[Promise]) -> dict[str, list[str]]:
    """What calls wait for under ids that their programs chose, as noted beside them."""
    found: dict[str, list[str]] = {}
    for promise in promises:
        if AWAITS_TAG in promise.tags:
            found.setdefault(promise.tags.get(PARENT, ""), []).append(promise.tags[AWAITS_TAG])
    return found


def _told(promises: Iterable[Promise]) -> dict[str, list[Ran]]:
    """What is recorded of the attempts of calls, by their ids."""
    told: dict[str, list[Ran]] = {}
    for promise in promises:
        for id, ran in ((promise.id, told_by(promise)), (promise.tags.get(PARENT, ""), told_beside(promise))):
            if ran is not None:
                told.setdefault(id, []).append(ran)
    return told


def _completed(call: Call, reasons: Mapping[str, str], told: Mapping[str, list[Ran]]) -> Call:
    """`call` with what is noted beside it."""
    reason = reasons.get(call.id)
    if reason is not None:
        call = replace(call, reason=reason)
    return with_attempts(call, told[call.id]) if call.id in told else call


def _grown(call: Call, below: dict[str, list[Call]], now: int) -> Call:
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
        ordered = sorted((_cut(done[child.id], top) for child in children), key=_place)
        retries = any(child.kind == "retry" and not child.settled for child in ordered) or (top.again_at or 0) > now
        state = "retrying" if retries and not top.settled and top.state != "halted" else top.state
        done[top.id] = replace(top, calls=tuple(ordered), state=state, started_at=_started(top, ordered))
    return done[call.id]


def _cut(call: Call, above: Call) -> Call:
    """`call`; if it is a pause that the deadline of its caller ended, before its time, it has timed out with that."""
    if above.state != "timed out" or call.state != "succeeded" or call.kind not in ("sleep", "retry"):
        return call
    return replace(call, state="timed out") if call.settled_at == above.settled_at else call


def _started(call: Call, below: Sequence[Call]) -> int | None:
    """When the code of `call` began: at the latest when it made its first call. A replay begins later."""
    known = [each for each in (call.started_at, *(child.started_at or child.created_at for child in below)) if each]
    return min(known, default=None)


def _place(call: Call) -> tuple[int, list[tuple[int, int | str]]]:
    """Where a call stands among those of its caller: a short step is recorded after it has run, a remote one before."""
    return min(call.created_at, call.started_at or call.created_at), _order(call.id)


def _order(id: str) -> list[tuple[int, int | str]]:
    """Ids in the order of the code: 2 before 10."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in _NUMBERS.split(id)]


def _read_cursor(cursor: str) -> tuple[int, str]:
    at, dot, id = cursor.removeprefix(_ORDERED).partition(".")
    if not dot or not at.isdigit():
        raise ValueError(f"cursor {cursor!r} comes from no page of executions")
    return int(at), id
