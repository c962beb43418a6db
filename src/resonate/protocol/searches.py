"""What is answered with pages: searches of promises, tasks and schedules, and our own of executions and groups.

They are the steps of the machine that write nothing. A page of the protocol's goes by id, one of executions by when
they began (`listing`). A server that is held to the bare specification answers none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain, islice, takewhile
from typing import Any, Final

from resonate.protocol.records import Promise, Task, Value
from resonate.protocol.requests import (
    ExecutionCount,
    ExecutionFailures,
    ExecutionSearch,
    ExecutionTree,
    GroupSearch,
    PromiseSearch,
    Response,
    ScheduleSearch,
    TaskSearch,
)
from resonate.protocol.rows import PromiseRow, View, is_live, project, show
from resonate.protocol.steps import Rules, Step
from resonate.protocol.trees import ranges

PAGE_SIZE: Final = 8 * 1024 * 1024
"""Characters of payloads after which a page of promises ends, however many were asked for: answers need memory."""

_LAST: Final = "\U0010ffff"  # stands behind all that begins alike


def promise_search(view: View, request: PromiseSearch, now: int, rules: Rules) -> Step:
    wanted = request.tags or {}

    def matching() -> Iterable[Promise]:
        for row in _searched(view.promise, view.promises, request):
            promise = project(row.promise, now)
            if request.state in (None, promise.state) and _tagged(promise.tags, wanted):
                yield promise

    if rules.strict:
        return _no_search(), ()
    page, cursor = _page(matching(), request.limit)
    return Response(200, promises=page, cursor=cursor), ()


def task_search(view: View, request: TaskSearch, now: int, rules: Rules) -> Step:
    def matching() -> Iterable[Task]:
        for row in _searched(view.task, view.tasks, request):
            promise = view.promise(row.id)
            task = show(row, promise is not None and is_live(promise.promise, now))
            if request.state in (None, task.state):
                yield task

    if rules.strict:
        return _no_search(), ()
    page, cursor = _page(matching(), request.limit)
    return Response(200, tasks=page, cursor=cursor), ()


def schedule_search(view: View, request: ScheduleSearch, now: int, rules: Rules) -> Step:
    wanted = request.tags or {}
    if rules.strict:
        return _no_search(), ()
    found = (s for s in _searched(view.schedule, view.schedules, request) if _tagged(s.promise_tags, wanted))
    page, cursor = _page(found, request.limit)
    return Response(200, schedules=page, cursor=cursor), ()


def execution_search(view: View, request: ExecutionSearch, now: int, rules: Rules) -> Step:
    if rules.strict:
        return _no_search(), ()
    rows, cursor = view.listing().search(request.wanted, read_cursor(request.cursor), request.limit)
    page = [project(row.promise, now) for row in rows]
    return Response(200, promises=page, cursor=None if cursor is None else _told(cursor, request.prefix or "")), ()


def _told(position: tuple[int, str], prefix: str) -> str:
    """Where a page ended; what was looked at last may be an id that whoever asks may not know."""
    at, id = position
    if not id.startswith(prefix):
        id = f"{prefix}{_LAST}" if id > prefix else prefix
    return f"{at}.{id}"


def execution_count(view: View, request: ExecutionCount, now: int, rules: Rules) -> Step:
    if rules.strict:
        return _no_search(), ()
    counts, partial = view.listing().count(request.wanted, request.by, request.most)
    return Response(200, counts=counts, partial=partial), ()


def execution_tree(view: View, request: ExecutionTree, now: int, rules: Rules) -> Step:
    """A page of what is in the ranges of a promise, itself first, and the strays of what is in that page."""
    if rules.strict:
        return _no_search(), ()
    anchor, cursor = request.id, request.cursor
    spans = sorted(span for span in ranges(anchor) if cursor is None or cursor < span[1])
    first = [view.promise(anchor)] if cursor is None else []
    found = chain(first, (row for above, end in spans for row in view.below(max(above, cursor or ""), end)))
    rows = list(islice((row for row in found if row is not None), request.limit + 1))
    more = len(rows) > request.limit
    rows = rows[: request.limit]
    ids = [row.promise.id for row in rows]
    last = ids[-1] if more else None
    if anchor in ids[:1]:
        rows += view.strays(ids.pop(0), anchor)
    if ids:
        rows += view.strays(ids[0], ids[-1])
    allowed = request.prefix or ""
    page = [project(row.promise, now) for row in rows if row.promise.id.startswith(allowed)]
    return Response(200, promises=page, cursor=last), ()


def execution_failures(view: View, request: ExecutionFailures, now: int, rules: Rules) -> Step:
    if rules.strict or request.prefix:
        return _no_search(), ()
    return Response(200, failures=view.listing().faults(request.limit, request.most, request.shown)), ()


def group_search(view: View, request: GroupSearch, now: int, rules: Rules) -> Step:
    if rules.strict or request.prefix:
        return _no_search(), ()
    listing = view.listing()
    return Response(200, groups=listing.loads(request.most), holders=listing.holders(request.most)), ()


def read_cursor(cursor: str | None) -> tuple[int, str] | None:
    """Where a page of executions ended; one of another kind begins anew."""
    at, dot, id = (cursor or "").partition(".")
    return (int(at), id) if dot and at.isascii() and at.isdigit() and len(at) < 17 else None


def _tagged(tags: dict[str, str], wanted: dict[str, str]) -> bool:
    return all(tags.get(key) == value for key, value in wanted.items())


def _searched(get: Callable[[str], Any], above: Callable[[str | None], Iterable[Any]], request: Any) -> Iterable[Any]:
    """The rows a search goes through, ids ascending: those after its cursor, of those with its prefix."""
    prefix, cursor = request.prefix, request.cursor
    if not prefix:
        return above(cursor)
    if cursor is not None and cursor >= prefix:
        rows = above(cursor)
    else:  # nothing begins with the prefix below the id that is the prefix itself
        first = get(prefix)
        rows = above(prefix) if first is None else chain((first,), above(prefix))
    return takewhile(lambda row: _id_of(row).startswith(prefix), rows)


def _id_of(row: Any) -> str:
    id: str = row.promise.id if isinstance(row, PromiseRow) else row.id
    return id


def _page(found: Iterable[Any], limit: int) -> tuple[list[Any], str | None]:
    page: list[Any] = []
    size = 0
    for record in found:
        if len(page) == limit or size > PAGE_SIZE:
            return page, page[-1].id
        page.append(record)
        if type(record) is Promise:
            size += _size(record.param) + _size(record.value)
    return page, None


def _size(value: Value) -> int:
    headers = value.headers
    return len(value.data or "") + (0 if headers is None else sum(map(len, headers.values())))


def _no_search() -> Response:
    return Response(501, error="search is not part of the specification this server is held to")
