"""What a prefix allows: every id that a request names, compared with it.

Section 7.2 of protocol 2026-04-01 with the holes of 7.3 closed: inner requests, awaited and
awaiting ids, lineage tags and the template of a schedule count too. The table reads a
request in its JSON form, so one and the same rule judges what came over the wire before it
is decoded and the record after it. Whatever it does not know is forbidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from resonate.protocol import shapes
from resonate.protocol.records import BRANCH, ORIGIN, PARENT
from resonate.protocol.requests import (
    ExecutionCount,
    ExecutionFailures,
    ExecutionSearch,
    ExecutionTree,
    GroupSearch,
    PromiseGet,
    PromiseSearch,
    PromiseWrite,
    Request,
    ScheduleGet,
    ScheduleSearch,
    TaskFence,
    TaskGet,
    TaskSearch,
)
from resonate.protocol.validation import expand

Data = Mapping[str, Any]
Named = Callable[[Data], Iterator[Any]]

SEARCHES: Final = (
    PromiseSearch,
    TaskSearch,
    ScheduleSearch,
    ExecutionSearch,
    ExecutionCount,
    ExecutionFailures,
    ExecutionTree,
    GroupSearch,
)

READS: Final = (PromiseGet, TaskGet, ScheduleGet, *SEARCHES)
"""Requests that change nothing."""

READ_KINDS: Final = frozenset(shapes.WRITERS[read][0] for read in READS)

_TIMESTAMP: Final = "{{.timestamp}}"


def names_only(prefix: str, kind: str, data: Data) -> bool:
    """Whether every id that `data` of a request of `kind` names begins with `prefix`.

    An id that is missing or no text names nothing: decoding refuses it later. Searches name
    nothing either: they are narrowed (`narrowed`), not refused.
    """
    named = _NAMED.get(kind)
    if named is None:
        return False
    return all(id.startswith(prefix) for id in named(data) if isinstance(id, str))


def allowed(prefix: str, request: Request) -> bool:
    """Whether a holder of `prefix` may have `request` answered: the last word, on the decoded record.

    A search is allowed only with its filter on ids set to `prefix` or longer.
    """
    if isinstance(request, SEARCHES):
        return prefix == "" or (request.prefix is not None and request.prefix.startswith(prefix))
    if isinstance(request, TaskFence) and isinstance(request.action, PromiseWrite):
        ids = (request.id, request.action.create.id, request.action.settle.id)
        return all(id.startswith(prefix) for id in (*ids, *_lineage(request.action.create.tags)))
    written = shapes.WRITERS.get(type(request))
    if written is None:
        return False
    kind, write = written
    return names_only(prefix, kind, msgspec.to_builtins(write(request)))


def narrowed(prefix: str, request: Request) -> Request:
    """`request`, with a search kept to the ids that begin with `prefix`."""
    if prefix and isinstance(request, SEARCHES):
        wanted = request.prefix
        if wanted is not None and wanted.startswith(prefix):
            return request
        if not isinstance(request, ExecutionSearch | ExecutionCount):
            return replace(request, prefix=prefix)
        if wanted and not prefix.startswith(wanted):  # nothing begins with both
            return replace(request, wanted=replace(request.wanted, prefix=prefix, since=0, until=0))
        return replace(request, wanted=replace(request.wanted, prefix=prefix))
    return request


def _lineage(tags: Any) -> Iterator[Any]:
    """The ids in a promise's tags: a branch shows its promises in preloads, parent and origin are searched by."""
    tags = _object(tags)
    yield from (tags.get(name) for name in (BRANCH, ORIGIN, PARENT))


def _own(data: Data) -> Iterator[Any]:
    yield data.get("id")


def _nothing(data: Data) -> Iterator[Any]:
    return iter(())


def _created(data: Data) -> Iterator[Any]:
    yield data.get("id")
    yield from _lineage(data.get("tags"))


def _pair(data: Data) -> Iterator[Any]:
    yield data.get("awaited")
    yield data.get("awaiter")


def _awaited(data: Data) -> Iterator[Any]:
    yield data.get("awaited")


def _inner(data: Data) -> Data:
    return _object(_object(data.get("action")).get("data"))


def _started(data: Data) -> Iterator[Any]:
    yield from _created(_inner(data))


def _wrapped(data: Data) -> Iterator[Any]:
    """A task's own id and those of the request it guards; a settle has no tags, so one reading fits both."""
    yield data.get("id")
    yield from _created(_inner(data))


def _suspended(data: Data) -> Iterator[Any]:
    yield data.get("id")
    for action in _list(data.get("actions")):
        yield from _pair(_object(_object(action).get("data")))


def _held(data: Data) -> Iterator[Any]:
    for task in _list(data.get("tasks")):
        yield _object(task).get("id")


def _scheduled(data: Data) -> Iterator[Any]:
    id, template = data.get("id"), data.get("promiseId")
    yield id
    if isinstance(id, str) and isinstance(template, str):  # what every occurrence's id begins with
        yield expand(template, id, _TIMESTAMP).partition(_TIMESTAMP)[0]


def _object(value: Any) -> Data:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()  # JSON has lists, records have tuples


_NAMED: Final[dict[str, Named]] = {
    "promise.get": _own,
    "promise.create": _created,
    "promise.settle": _own,
    "promise.register_callback": _pair,
    "promise.register_listener": _awaited,
    "promise.search": _nothing,
    "task.get": _own,
    "task.create": _started,
    "task.acquire": _own,
    "task.release": _own,
    "task.fulfill": _wrapped,
    "task.suspend": _suspended,
    "task.fence": _wrapped,
    "task.heartbeat": _held,
    "task.halt": _own,
    "task.continue": _own,
    "task.search": _nothing,
    "schedule.get": _own,
    "schedule.create": _scheduled,
    "schedule.delete": _own,
    "schedule.search": _nothing,
    "execution.search": _nothing,
    "execution.count": _nothing,
    "execution.tree": _own,
    "execution.failures": _nothing,
    "group.search": _nothing,
}
"""Who names what; `debug.*` is missing, since no prefix allows it."""

KINDS: Final = frozenset(_NAMED)
"""The kinds a prefix may allow."""
