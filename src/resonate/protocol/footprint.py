"""Which rows a batch of requests may read, so that a storage can load and lock them at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from msgspec import Struct, field

from resonate.protocol.requests import (
    DebugReset,
    DebugSnap,
    DebugStart,
    DebugStop,
    DebugTick,
    ExecutionCount,
    ExecutionFailures,
    ExecutionSearch,
    ExecutionTree,
    GroupSearch,
    PromiseCreate,
    PromiseGet,
    PromiseRegisterCallback,
    PromiseRegisterListener,
    PromiseSearch,
    PromiseSettle,
    Request,
    ScheduleCreate,
    ScheduleDelete,
    ScheduleGet,
    ScheduleSearch,
    TaskAcquire,
    TaskContinue,
    TaskCreate,
    TaskFence,
    TaskFulfill,
    TaskGet,
    TaskHalt,
    TaskHeartbeat,
    TaskRelease,
    TaskSearch,
    TaskSuspend,
)


class Footprint(Struct):
    """Every row that some requests may read: ids of promises (with their tasks), schedules, branches.

    `everything` asks for what only a scan can answer: a search, a snapshot.

    Attributes:
        created: those of `promises` that a request means to create: most likely they are not there.
        spare: rows that others have locked may be left out; `View.reachable` then says so.
    """

    promises: set[str]
    schedules: set[str]
    branches_of: set[str]
    everything: bool = False
    created: set[str] = field(default_factory=set)
    spare: bool = False


def footprint(requests: Iterable[Request]) -> Footprint:
    """The rows that applying `requests` may read.

    The awaiters in the callbacks of a settled promise, and a promise's branch, are named
    by rows, not by requests: a storage that locks loads them with the promises named here.
    """
    found = Footprint(set(), set(), set())
    for request in requests:
        _FOOTPRINTS[type(request)](request, found)
    return found


def subject(request: Request) -> str:
    """The id of what a request is mostly about; empty if it is about no single one."""
    if type(request) is TaskCreate:
        return request.action.id
    named = getattr(request, "id", None) or getattr(request, "awaited", "")
    assert isinstance(named, str)
    return named


def _reads_promise(request: Any, found: Footprint) -> None:
    found.promises.add(request.id)


def _reads_created(request: Any, found: Footprint) -> None:
    found.promises.add(request.id)
    found.created.add(request.id)


def _reads_held(request: Any, found: Footprint) -> None:
    found.promises.add(request.id)
    if request.preload:
        found.branches_of.add(request.id)


def _reads_create(request: TaskCreate, found: Footprint) -> None:
    _reads_created(request.action, found)
    if request.preload:
        found.branches_of.add(request.action.id)


def _reads_pair(request: PromiseRegisterCallback, found: Footprint) -> None:
    found.promises.update((request.awaited, request.awaiter))


def _reads_awaited(request: PromiseRegisterListener, found: Footprint) -> None:
    found.promises.add(request.awaited)


def _reads_suspend(request: TaskSuspend, found: Footprint) -> None:
    _reads_held(request, found)
    found.promises.update(action.awaited for action in request.actions)


def _reads_fence(request: TaskFence, found: Footprint) -> None:
    _reads_held(request, found)
    found.promises.add(request.action.id)


def _reads_refs(request: TaskHeartbeat, found: Footprint) -> None:
    found.promises.update(ref.id for ref in request.tasks)


def _reads_schedule(request: Any, found: Footprint) -> None:
    found.schedules.add(request.id)


def _reads_everything(request: Any, found: Footprint) -> None:
    found.everything = True


def _reads_nothing(request: Any, found: Footprint) -> None:
    pass


_FOOTPRINTS: Final[dict[type, Callable[[Any, Footprint], None]]] = {
    PromiseGet: _reads_promise,
    PromiseCreate: _reads_created,
    PromiseSettle: _reads_promise,
    PromiseRegisterCallback: _reads_pair,
    PromiseRegisterListener: _reads_awaited,
    PromiseSearch: _reads_everything,
    TaskGet: _reads_promise,
    TaskCreate: _reads_create,
    TaskAcquire: _reads_held,
    TaskRelease: _reads_promise,
    TaskFulfill: _reads_promise,
    TaskSuspend: _reads_suspend,
    TaskFence: _reads_fence,
    TaskHeartbeat: _reads_refs,
    TaskHalt: _reads_promise,
    TaskContinue: _reads_promise,
    TaskSearch: _reads_everything,
    ScheduleGet: _reads_schedule,
    ScheduleCreate: _reads_schedule,
    ScheduleDelete: _reads_schedule,
    ScheduleSearch: _reads_everything,
    ExecutionSearch: _reads_nothing,
    ExecutionCount: _reads_nothing,
    ExecutionTree: _reads_promise,
    ExecutionFailures: _reads_nothing,
    GroupSearch: _reads_nothing,
    DebugStart: _reads_nothing,
    DebugStop: _reads_nothing,
    DebugReset: _reads_nothing,
    DebugTick: _reads_nothing,
    DebugSnap: _reads_everything,
}
