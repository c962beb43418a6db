"""The shape of `data` for each kind: how it is read, written and answered.

One row per kind in each table. What a client sends decodes into the private structs below
(types, required keys and the camelCase spelling are their whole content) and leaves as a
request record; the way back builds plain dicts, which msgspec turns into JSON. An inner
action is an envelope of its own; its `kind` matters only to a fence, its `head` never.
`wire` owns the envelopes around all this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from resonate.protocol import requests as rq
from resonate.protocol.listing import Phase, Wanted
from resonate.protocol.records import EMPTY, Message, PromiseState, TaskState, Unblock, Value

Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]

Data = dict[str, object]


# What requests look like.


class _PromiseCreate(Struct, rename="camel", gc=False):
    id: str
    timeout_at: Int64
    param: Value = EMPTY
    tags: dict[str, str] = {}


class _PromiseSearch(Struct, gc=False):
    state: PromiseState | None = None
    tags: dict[str, str] | None = None
    limit: Int64 = 100
    cursor: str | None = None


class _CreateAction(Struct, gc=False):
    kind: Raw
    head: Raw
    data: _PromiseCreate


class _TaskCreate(Struct, gc=False):
    pid: str
    ttl: Int64
    action: _CreateAction


class _TaskAcquire(Struct, gc=False):
    id: str
    version: Int64
    pid: str
    ttl: Int64


class _SettleAction(Struct, gc=False):
    kind: Raw
    head: Raw
    data: rq.PromiseSettle


class _TaskFulfill(Struct, gc=False):
    id: str
    version: Int64
    action: _SettleAction


class _CallbackAction(Struct, gc=False):
    kind: Raw
    head: Raw
    data: rq.PromiseRegisterCallback


class _TaskSuspend(Struct, gc=False):
    id: str
    version: Int64
    actions: list[_CallbackAction]


class _FenceAction(Struct, gc=False):
    kind: Literal["promise.create", "promise.settle"]
    data: Raw


class _TaskFence(Struct, gc=False):
    id: str
    version: Int64
    action: _FenceAction


class _TaskSearch(Struct, gc=False):
    state: TaskState | None = None
    limit: Int64 = 100
    cursor: str | None = None


class _ScheduleCreate(Struct, rename="camel", gc=False):
    id: str
    cron: str
    promise_id: str
    promise_timeout: Int64
    promise_param: Value = EMPTY
    promise_tags: dict[str, str] = {}


class _ScheduleSearch(Struct, gc=False):
    tags: dict[str, str] | None = None
    limit: Int64 = 10
    cursor: str | None = None


class _Wanted(Struct, gc=False):
    phases: tuple[Phase, ...] | None = None
    function: str | None = None
    group: str | None = None
    tags: dict[str, str] | None = None
    prefix: str | None = None
    since: Int64 | None = None
    until: Int64 | None = None


class _ExecutionSearch(_Wanted, gc=False):
    limit: Int64 = 100
    cursor: str | None = None


class _ExecutionCount(_Wanted, gc=False):
    by: Literal["", "function", "group"] = ""
    most: Int64 = 10_000


class _ExecutionTree(Struct, gc=False):
    id: str
    limit: Int64 = 1000
    cursor: str | None = None


class _ExecutionFailures(Struct, gc=False):
    limit: Int64 = 200
    most: Int64 = 1000
    shown: Int64 = 20


class _GroupSearch(Struct, gc=False):
    most: Int64 = 10_000


class _DebugTick(Struct, gc=False):
    time: Int64


# How they are read.

Reader = Callable[[Raw], rq.Request]


def _decoder(shape: Any) -> Callable[[Raw], Any]:
    return msgspec.json.Decoder(shape).decode


_create = _decoder(_PromiseCreate)
_settle = _decoder(rq.PromiseSettle)
_promise_search = _decoder(_PromiseSearch)
_task_create = _decoder(_TaskCreate)
_task_acquire = _decoder(_TaskAcquire)
_task_fulfill = _decoder(_TaskFulfill)
_task_suspend = _decoder(_TaskSuspend)
_task_fence = _decoder(_TaskFence)
_task_search = _decoder(_TaskSearch)
_schedule_create = _decoder(_ScheduleCreate)
_schedule_search = _decoder(_ScheduleSearch)
_execution_search = _decoder(_ExecutionSearch)
_execution_count = _decoder(_ExecutionCount)
_execution_tree = _decoder(_ExecutionTree)
_execution_failures = _decoder(_ExecutionFailures)
_group_search = _decoder(_GroupSearch)
_debug_tick = _decoder(_DebugTick)


def _created(data: _PromiseCreate) -> rq.PromiseCreate:
    return rq.PromiseCreate(data.id, data.timeout_at, data.param, data.tags)


def _read_promise_create(data: Raw) -> rq.PromiseCreate:
    return _created(_create(data))


def _read_promise_search(data: Raw) -> rq.PromiseSearch:
    found = _promise_search(data)
    return rq.PromiseSearch(found.state, found.tags, found.limit, found.cursor)


def _read_task_create(data: Raw) -> rq.TaskCreate:
    found = _task_create(data)
    return rq.TaskCreate(found.pid, found.ttl, _created(found.action.data))


def _read_task_acquire(data: Raw) -> rq.TaskAcquire:
    found = _task_acquire(data)
    return rq.TaskAcquire(found.id, found.version, found.pid, found.ttl)


def _read_task_fulfill(data: Raw) -> rq.TaskFulfill:
    found = _task_fulfill(data)
    return rq.TaskFulfill(found.id, found.version, found.action.data)


def _read_task_suspend(data: Raw) -> rq.TaskSuspend:
    found = _task_suspend(data)
    return rq.TaskSuspend(found.id, found.version, tuple(action.data for action in found.actions))


def _read_task_fence(data: Raw) -> rq.TaskFence:
    found = _task_fence(data)
    inner, payload = found.action.kind, found.action.data
    try:
        action = _read_promise_create(payload) if inner == "promise.create" else _settle(payload)
    except msgspec.ValidationError as problem:
        raise msgspec.ValidationError(_below_action(str(problem))) from None
    return rq.TaskFence(found.id, found.version, action)


def _below_action(text: str) -> str:
    """The inner data was decoded on its own: put its path below the fence's."""
    head, at, path = text.partition(" - at `$")
    return f"{head} - at `$.action.data{path if at else '`'}"


def _read_task_search(data: Raw) -> rq.TaskSearch:
    found = _task_search(data)
    return rq.TaskSearch(found.state, found.limit, found.cursor)


def _read_schedule_create(data: Raw) -> rq.ScheduleCreate:
    found = _schedule_create(data)
    return rq.ScheduleCreate(
        found.id, found.cron, found.promise_id, found.promise_timeout, found.promise_param, found.promise_tags
    )


def _read_schedule_search(data: Raw) -> rq.ScheduleSearch:
    found = _schedule_search(data)
    return rq.ScheduleSearch(found.tags, found.limit, found.cursor)


def _wanted(found: _Wanted) -> Wanted:
    return Wanted(found.phases, found.function, found.group, found.tags, found.prefix, found.since, found.until)


def _read_execution_search(data: Raw) -> rq.ExecutionSearch:
    found = _execution_search(data)
    return rq.ExecutionSearch(_wanted(found), found.limit, found.cursor)


def _read_execution_count(data: Raw) -> rq.ExecutionCount:
    found = _execution_count(data)
    return rq.ExecutionCount(_wanted(found), found.by, found.most)


def _read_execution_tree(data: Raw) -> rq.ExecutionTree:
    found = _execution_tree(data)
    return rq.ExecutionTree(found.id, found.limit, found.cursor)


def _read_execution_failures(data: Raw) -> rq.ExecutionFailures:
    found = _execution_failures(data)
    return rq.ExecutionFailures(found.limit, found.most, found.shown)


def _read_group_search(data: Raw) -> rq.GroupSearch:
    return rq.GroupSearch(_group_search(data).most)


def _read_debug_tick(data: Raw) -> rq.DebugTick:
    return rq.DebugTick(_debug_tick(data).time)


READERS: Final[dict[str, Reader]] = {
    "promise.get": _decoder(rq.PromiseGet),
    "promise.create": _read_promise_create,
    "promise.settle": _settle,
    "promise.register_callback": _decoder(rq.PromiseRegisterCallback),
    "promise.register_listener": _decoder(rq.PromiseRegisterListener),
    "promise.search": _read_promise_search,
    "task.get": _decoder(rq.TaskGet),
    "task.create": _read_task_create,
    "task.acquire": _read_task_acquire,
    "task.release": _decoder(rq.TaskRelease),
    "task.fulfill": _read_task_fulfill,
    "task.suspend": _read_task_suspend,
    "task.fence": _read_task_fence,
    "task.heartbeat": _decoder(rq.TaskHeartbeat),
    "task.halt": _decoder(rq.TaskHalt),
    "task.continue": _decoder(rq.TaskContinue),
    "task.search": _read_task_search,
    "schedule.get": _decoder(rq.ScheduleGet),
    "schedule.create": _read_schedule_create,
    "schedule.delete": _decoder(rq.ScheduleDelete),
    "schedule.search": _read_schedule_search,
    "execution.search": _read_execution_search,
    "execution.count": _read_execution_count,
    "execution.tree": _read_execution_tree,
    "execution.failures": _read_execution_failures,
    "group.search": _read_group_search,
    "debug.start": _decoder(rq.DebugStart),
    "debug.stop": _decoder(rq.DebugStop),
    "debug.reset": _decoder(rq.DebugReset),
    "debug.tick": _read_debug_tick,
    "debug.snap": _decoder(rq.DebugSnap),
}


# How requests are written.


def _plain(request: Any) -> Any:
    """The record's own fields are the wire's."""
    return request


def _present(**fields: object) -> Data:
    return {name: value for name, value in fields.items() if value is not None}


def _write_promise_create(request: rq.PromiseCreate) -> Data:
    return {"id": request.id, "timeoutAt": request.timeout_at, "param": request.param, "tags": request.tags}


def _write_promise_search(request: rq.PromiseSearch) -> Data:
    return _present(state=request.state, tags=request.tags, limit=request.limit, cursor=request.cursor)


def _action(kind: str, data: object) -> Data:
    return {"kind": kind, "head": {}, "data": data}


def _write_task_create(request: rq.TaskCreate) -> Data:
    action = _action("promise.create", _write_promise_create(request.action))
    return {"pid": request.pid, "ttl": request.ttl, "action": action}


def _write_task_acquire(request: rq.TaskAcquire) -> Data:
    return {"id": request.id, "version": request.version, "pid": request.pid, "ttl": request.ttl}


def _write_task_fulfill(request: rq.TaskFulfill) -> Data:
    return {"id": request.id, "version": request.version, "action": _action("promise.settle", request.action)}


def _write_task_suspend(request: rq.TaskSuspend) -> Data:
    actions = [_action("promise.register_callback", action) for action in request.actions]
    return {"id": request.id, "version": request.version, "actions": actions}


def _write_task_fence(request: rq.TaskFence) -> Data:
    inner = request.action
    assert not isinstance(inner, rq.PromiseWrite), "the wire has no such action: send its two halves"
    if isinstance(inner, rq.PromiseCreate):
        action = _action("promise.create", _write_promise_create(inner))
    else:
        action = _action("promise.settle", inner)
    return {"id": request.id, "version": request.version, "action": action}


def _write_task_search(request: rq.TaskSearch) -> Data:
    return _present(state=request.state, limit=request.limit, cursor=request.cursor)


def _write_schedule_create(request: rq.ScheduleCreate) -> Data:
    return {
        "id": request.id,
        "cron": request.cron,
        "promiseId": request.promise_id,
        "promiseTimeout": request.promise_timeout,
        "promiseParam": request.promise_param,
        "promiseTags": request.promise_tags,
    }


def _write_schedule_search(request: rq.ScheduleSearch) -> Data:
    return _present(tags=request.tags, limit=request.limit, cursor=request.cursor)


def _write_wanted(wanted: Wanted) -> Data:
    return _present(
        phases=wanted.phases,
        function=wanted.function,
        group=wanted.group,
        tags=wanted.tags,
        prefix=wanted.prefix,
        since=wanted.since,
        until=wanted.until,
    )


def _write_execution_search(request: rq.ExecutionSearch) -> Data:
    return {**_write_wanted(request.wanted), **_present(limit=request.limit, cursor=request.cursor)}


def _write_execution_count(request: rq.ExecutionCount) -> Data:
    return {**_write_wanted(request.wanted), "by": request.by, "most": request.most}


def _write_execution_tree(request: rq.ExecutionTree) -> Data:
    return _present(id=request.id, limit=request.limit, cursor=request.cursor)


def _write_execution_failures(request: rq.ExecutionFailures) -> Data:
    return {"limit": request.limit, "most": request.most, "shown": request.shown}


def _write_group_search(request: rq.GroupSearch) -> Data:
    return {"most": request.most}


WRITERS: Final[dict[type, tuple[str, Callable[[Any], object]]]] = {
    rq.PromiseGet: ("promise.get", _plain),
    rq.PromiseCreate: ("promise.create", _write_promise_create),
    rq.PromiseSettle: ("promise.settle", _plain),
    rq.PromiseRegisterCallback: ("promise.register_callback", _plain),
    rq.PromiseRegisterListener: ("promise.register_listener", _plain),
    rq.PromiseSearch: ("promise.search", _write_promise_search),
    rq.TaskGet: ("task.get", _plain),
    rq.TaskCreate: ("task.create", _write_task_create),
    rq.TaskAcquire: ("task.acquire", _write_task_acquire),
    rq.TaskRelease: ("task.release", _plain),
    rq.TaskFulfill: ("task.fulfill", _write_task_fulfill),
    rq.TaskSuspend: ("task.suspend", _write_task_suspend),
    rq.TaskFence: ("task.fence", _write_task_fence),
    rq.TaskHeartbeat: ("task.heartbeat", _plain),
    rq.TaskHalt: ("task.halt", _plain),
    rq.TaskContinue: ("task.continue", _plain),
    rq.TaskSearch: ("task.search", _write_task_search),
    rq.ScheduleGet: ("schedule.get", _plain),
    rq.ScheduleCreate: ("schedule.create", _write_schedule_create),
    rq.ScheduleDelete: ("schedule.delete", _plain),
    rq.ScheduleSearch: ("schedule.search", _write_schedule_search),
    rq.ExecutionSearch: ("execution.search", _write_execution_search),
    rq.ExecutionCount: ("execution.count", _write_execution_count),
    rq.ExecutionTree: ("execution.tree", _write_execution_tree),
    rq.ExecutionFailures: ("execution.failures", _write_execution_failures),
    rq.GroupSearch: ("group.search", _write_group_search),
    rq.DebugStart: ("debug.start", _plain),
    rq.DebugStop: ("debug.stop", _plain),
    rq.DebugReset: ("debug.reset", _plain),
    rq.DebugTick: ("debug.tick", _plain),
    rq.DebugSnap: ("debug.snap", _plain),
}


# What answers look like.


def _promise(response: rq.Response) -> Data:
    return {"promise": response.promise}


def _task(response: rq.Response) -> Data:
    return {"task": response.task}


def _claimed(response: rq.Response) -> Data:
    return {"task": response.task, "promise": response.promise, "preload": response.preload}


def _suspended(response: rq.Response) -> Data:
    return {"preload": response.preload} if response.status == 300 else {}


def _schedule(response: rq.Response) -> Data:
    return {"schedule": response.schedule}


def _nothing(response: rq.Response) -> Data:
    return {}


def _ticked(response: rq.Response) -> list[object]:
    return []


def _page(key: str, response: rq.Response, found: object) -> Data:
    return {key: found} if response.cursor is None else {key: found, "cursor": response.cursor}


def _promises(response: rq.Response) -> Data:
    return _page("promises", response, response.promises)


def _tasks(response: rq.Response) -> Data:
    return _page("tasks", response, response.tasks)


def _schedules(response: rq.Response) -> Data:
    return _page("schedules", response, response.schedules)


def _counts(response: rq.Response) -> Data:
    return {"counts": response.counts, "partial": response.partial}


def _failures(response: rq.Response) -> Data:
    return {"failures": response.failures}


def _groups(response: rq.Response) -> Data:
    return {"groups": response.groups, "holders": response.holders}


def _snapshot(response: rq.Response) -> object:
    snapshot: Any = response.snapshot
    messages = [dict(row, message=message_data(row["message"])) for row in snapshot["messages"]]
    return dict(snapshot, messages=messages)


def message_data(message: Message, server_url: str | None = None) -> Data:
    """A message as JSON-ready data; `server_url` tells a pushed worker where to talk back to."""
    if isinstance(message, Unblock):
        return {"kind": "unblock", "head": {}, "data": {"promise": message.promise}}
    head = {} if server_url is None else {"serverUrl": server_url}
    return {"kind": "execute", "head": head, "data": {"task": message}}


ANSWERS: Final[dict[str, Callable[[rq.Response], object]]] = {
    "promise.get": _promise,
    "promise.create": _promise,
    "promise.settle": _promise,
    "promise.register_callback": _promise,
    "promise.register_listener": _promise,
    "promise.search": _promises,
    "task.get": _task,
    "task.create": _claimed,
    "task.acquire": _claimed,
    "task.release": _nothing,
    "task.fulfill": _promise,
    "task.suspend": _suspended,
    "task.heartbeat": _nothing,
    "task.halt": _nothing,
    "task.continue": _nothing,
    "task.search": _tasks,
    "schedule.get": _schedule,
    "schedule.create": _schedule,
    "schedule.delete": _nothing,
    "schedule.search": _schedules,
    "execution.search": _promises,
    "execution.count": _counts,
    "execution.tree": _promises,
    "execution.failures": _failures,
    "group.search": _groups,
    "debug.start": _nothing,
    "debug.stop": _nothing,
    "debug.reset": _nothing,
    "debug.tick": _ticked,
    "debug.snap": _snapshot,
}

REQUIRED: Final[dict[str, tuple[str, ...]]] = {
    "promise.get": ("promise",),
    "promise.create": ("promise",),
    "promise.settle": ("promise",),
    "promise.register_callback": ("promise",),
    "promise.register_listener": ("promise",),
    "promise.search": ("promises",),
    "task.get": ("task",),
    "task.create": ("task", "promise"),
    "task.acquire": ("task", "promise"),
    "task.fulfill": ("promise",),
    "task.fence": ("action",),
    "task.search": ("tasks",),
    "schedule.get": ("schedule",),
    "schedule.create": ("schedule",),
    "schedule.search": ("schedules",),
    "execution.search": ("promises",),
    "execution.count": ("counts",),
    "execution.tree": ("promises",),
    "execution.failures": ("failures",),
    "group.search": ("groups", "holders"),
}
"""Fields of a successful answer that a client relies on."""
