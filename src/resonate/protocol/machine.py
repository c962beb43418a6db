"""The protocol machine: what each request answers and which rows it writes.

One function per request kind, in the order of the protocol document. A step reads rows
from a `View` and returns a response plus the effects it wants; it performs none of them.
The storage applies all effects of a step together, or none. `footprint` names every row a
step may read, so a storage can fetch them in one query and lock them in one order.
Time is an argument (milliseconds since the epoch). Nothing here may import a storage,
sleep, log, draw a random number or look at a clock. Field rules are `validation`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec.structs import replace

from resonate.protocol import pauses, searches, validation
from resonate.protocol.cron import next_occurrence
from resonate.protocol.records import (
    ACQUIRED,
    BRANCH,
    EMPTY,
    FULFILLED,
    HALTED,
    PENDING,
    RESOLVED,
    SUSPENDED,
    TARGET,
    TIMEDOUT,
    TIMER,
    Promise,
    PromiseState,
    Schedule,
    Task,
)
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
    PromiseWrite,
    Request,
    Response,
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
from resonate.protocol.rows import (
    DropSchedule,
    Effect,
    PromiseRow,
    Reset,
    TaskRow,
    Unsend,
    View,
    is_external,
    is_live,
    later,
    project,
    show,
)
from resonate.protocol.snapshot import snapshot
from resonate.protocol.steps import Rules, Step, enter_pending, first_offer, following, settle

_OK: Final = Response(200)


def apply(view: View, request: Request, now: int, rules: Rules) -> Step:
    """Answer one request at instant `now`; equal inputs give equal steps."""
    return HANDLERS[type(request)](view, request, now, rules)


# ---- promises ------------------------------------------------------------------------------------


def promise_get(view: View, request: PromiseGet, now: int, rules: Rules) -> Step:
    row = view.promise(request.id)
    if row is None:
        return _no_promise(request.id), ()
    return Response(200, project(row.promise, now)), ()


def promise_create(view: View, request: PromiseCreate, now: int, rules: Rules) -> Step:
    row = view.promise(request.id)
    if row is not None:
        return Response(200, project(row.promise, now)), ()
    promise = _born(request, now)
    effects: list[Effect] = [PromiseRow(promise)]
    if TARGET in request.tags:
        if promise.state == PENDING:
            first_offer(rules, promise, now, effects)
        else:
            effects.append(TaskRow(request.id, FULFILLED, 0, request.tags[TARGET]))
    return Response(200, promise), effects


def promise_write(view: View, request: PromiseWrite, now: int, rules: Rules) -> Step:
    """What a create and then a settle would do; a create that finds something settled answers with that."""
    create, settle = request.create, request.settle
    if view.promise(create.id) is not None:
        return promise_settle(view, settle, now, rules)
    if create.timeout_at <= now or TARGET in create.tags:
        return promise_create(view, create, now, rules)
    promise = Promise(create.id, settle.state, create.param, settle.value, create.tags, create.timeout_at, now, now)
    return Response(200, promise), (PromiseRow(promise),)


def promise_settle(view: View, request: PromiseSettle, now: int, rules: Rules) -> Step:
    row = view.promise(request.id)
    if row is None:
        return _no_promise(request.id), ()
    if not is_live(row.promise, now):
        return Response(200, project(row.promise, now)), ()  # settled once, settled for ever
    effects: list[Effect] = []
    return Response(200, _settled(view, rules, row, request, now, effects)), effects


def promise_register_callback(view: View, request: PromiseRegisterCallback, now: int, rules: Rules) -> Step:
    awaited, awaiter = view.promise(request.awaited), view.promise(request.awaiter)
    if awaited is None:
        return _no_promise(request.awaited), ()
    if awaiter is None:
        return Response(422, error=f"awaiter: promise {request.awaiter!r} not found"), ()
    if TARGET not in awaiter.promise.tags:
        return Response(422, error=f"awaiter: promise {request.awaiter!r} has no resonate:target, hence no task"), ()
    if not is_external(awaited.promise, rules.strict):
        return _internal(request.awaited), ()
    shown = Response(200, project(awaited.promise, now))
    if not is_live(awaited.promise, now) or not is_live(awaiter.promise, now):
        return shown, ()
    return shown, _with_callback(awaited, request.awaiter)


def promise_register_listener(view: View, request: PromiseRegisterListener, now: int, rules: Rules) -> Step:
    row = view.promise(request.awaited)
    if row is None:
        return _no_promise(request.awaited), ()
    if not is_external(row.promise, rules.strict):
        return _internal(request.awaited), ()
    shown = Response(200, project(row.promise, now))
    if not is_live(row.promise, now) or request.address in row.listeners:
        return shown, ()
    return shown, (PromiseRow(row.promise, row.callbacks, (*row.listeners, request.address)),)


# ---- tasks -----------------------------------------------------------------------------------------


def task_get(view: View, request: TaskGet, now: int, rules: Rules) -> Step:
    task, promise = _task(view, request.id)
    if task is None or promise is None:
        return _no_task(request.id), ()
    return Response(200, task=show(task, is_live(promise, now))), ()


def task_create(view: View, request: TaskCreate, now: int, rules: Rules) -> Step:
    action = request.action
    id = action.id
    row = view.promise(id)
    if row is None:
        promise = _born(action, now)
        if promise.state != PENDING:
            done = TaskRow(id, FULFILLED, 0, action.tags[TARGET])
            return Response(200, promise, Task(id, FULFILLED, 0, 0)), (PromiseRow(promise), done)
        end = later(now, request.ttl)
        held = TaskRow(id, ACQUIRED, 1, action.tags[TARGET], request.pid, request.ttl, end, since=now)
        preload = _preload(view, promise, now) if request.preload else ()
        answer = Response(200, promise, Task(id, ACQUIRED, 1, 0, request.ttl, request.pid), preload=preload)
        return answer, (PromiseRow(promise), held)
    task = view.task(id)
    if task is None:
        return Response(422, error=f"promise {id!r} exists without resonate:target, hence without a task"), ()
    if not is_live(row.promise, now):
        return Response(200, project(row.promise, now), show(task, False)), ()
    if task.state != PENDING:
        return _not(task, PENDING), ()
    return _acquire(view, task, row.promise, request, now)


def task_acquire(view: View, request: TaskAcquire, now: int, rules: Rules) -> Step:
    task, promise = _task(view, request.id)
    if task is None or promise is None:
        return _no_task(request.id), ()
    if not is_live(promise, now) or task.state != PENDING:
        return _not(show(task, is_live(promise, now)), PENDING), ()
    if task.version != request.version:
        return _other_version(task, request.version), ()
    return _acquire(view, task, promise, request, now)


def task_release(view: View, request: TaskRelease, now: int, rules: Rules) -> Step:
    task, promise, refusal = _held(view, request, now)
    if refusal is not None:
        return refusal, ()
    effects: list[Effect] = []
    enter_pending(rules, task, promise, now, effects, task.since)
    return _OK, effects


def task_fulfill(view: View, request: TaskFulfill, now: int, rules: Rules) -> Step:
    _, promise, refusal = _held(view, request, now)
    if refusal is not None:
        return refusal, ()
    row = view.promise(promise.id)
    assert row is not None
    effects: list[Effect] = []
    return Response(200, _settled(view, rules, row, request.action, now, effects)), effects


def task_suspend(view: View, request: TaskSuspend, now: int, rules: Rules) -> Step:
    task, promise, refusal = _held(view, request, now)
    if refusal is not None:
        return refusal, ()
    rows: list[PromiseRow] = []
    for action in request.actions:
        row = view.promise(action.awaited)
        if row is None:
            return Response(422, error=f"awaited: promise {action.awaited!r} not found"), ()
        if not is_external(row.promise, rules.strict):
            return _internal(action.awaited), ()
        rows.append(row)
    if not all(is_live(row.promise, now) for row in rows):
        preload = _preload(view, promise, now) if request.preload else ()
        return Response(300, preload=preload), ((replace(task, resumes=()),) if task.resumes else ())
    effects: list[Effect] = [TaskRow(task.id, SUSPENDED, task.version, task.target, last_pid=task.pid, since=now)]
    for row in rows:
        effects.extend(_with_callback(row, task.id))
    return _OK, effects


def task_fence(view: View, request: TaskFence, now: int, rules: Rules) -> Step:
    _, promise, refusal = _held(view, request, now)
    if refusal is not None:
        return refusal, ()
    action = request.action
    problem = validation.check(action, strict=True) if rules.strict and not isinstance(action, PromiseWrite) else None
    inner: Response
    effects: Sequence[Effect] = ()
    if problem is not None:
        inner = Response(400, error=problem)
    else:
        inner, effects = _ACTIONS[type(action)](view, action, now, rules)
    preload = _preload_after(view, promise, inner.promise, now, rules) if request.preload else ()
    return Response(200, preload=preload, action=inner), effects


def task_heartbeat(view: View, request: TaskHeartbeat, now: int, rules: Rules) -> Step:
    effects: list[Effect] = []
    for ref in request.tasks:
        task, promise = _task(view, ref.id)
        if task is None or promise is None or not is_live(promise, now):
            continue
        if task.state == ACQUIRED and task.version == ref.version and task.pid == request.pid:
            effects.append(replace(task, expires_at=later(now, task.ttl or 0), since=now))
    return _OK, effects


def task_halt(view: View, request: TaskHalt, now: int, rules: Rules) -> Step:
    task, promise = _task(view, request.id)
    if task is None or promise is None:
        return _no_task(request.id), ()
    if not is_live(promise, now):
        return _not(show(task, False), "live"), ()
    if task.state == HALTED:
        return _OK, ()
    halted = TaskRow(task.id, HALTED, task.version, task.target, resumes=task.resumes, last_pid=task.pid, since=now)
    return _OK, (halted, Unsend(("execute", task.id)))


def task_continue(view: View, request: TaskContinue, now: int, rules: Rules) -> Step:
    task, promise = _task(view, request.id)
    if task is None or promise is None:
        return _no_task(request.id), ()
    if task.state != HALTED or not is_live(promise, now):
        return _not(show(task, is_live(promise, now)), HALTED), ()
    effects: list[Effect] = []
    enter_pending(rules, task, promise, now, effects)
    return _OK, effects


# ---- schedules ----------------------------------------------------------------------------------------


def schedule_get(view: View, request: ScheduleGet, now: int, rules: Rules) -> Step:
    schedule = view.schedule(request.id)
    if schedule is None:
        return _no_schedule(request.id), ()
    return Response(200, schedule=schedule), ()


def schedule_create(view: View, request: ScheduleCreate, now: int, rules: Rules) -> Step:
    known = view.schedule(request.id)
    if known is not None:
        if rules.strict or not pauses.wants_change(known, request.promise_tags):
            return Response(200, schedule=known), ()
        steered = pauses.steered(known, following(known.cron, now, now))
        return Response(200, schedule=steered), (steered,)
    first = next_occurrence(request.cron, now)
    if first is None:
        return Response(400, error=f"cron {request.cron!r} has no occurrence after {now}"), ()
    schedule = Schedule(
        request.id,
        request.cron,
        request.promise_id,
        request.promise_timeout,
        request.promise_param,
        request.promise_tags if rules.strict else pauses.new(request.promise_tags),
        now,
        first,
    )
    return Response(200, schedule=schedule), (schedule,)


def schedule_delete(view: View, request: ScheduleDelete, now: int, rules: Rules) -> Step:
    if view.schedule(request.id) is None:
        return _no_schedule(request.id), ()
    return _OK, (DropSchedule(request.id),)


# ---- debug ---------------------------------------------------------------------------------------------


def debug_reset(view: View, request: DebugReset, now: int, rules: Rules) -> Step:
    return _OK, (Reset(),)


def debug_snap(view: View, request: DebugSnap, now: int, rules: Rules) -> Step:
    return Response(200, snapshot=snapshot(view, now, rules.strict)), ()


def debug_loops(view: View, request: DebugStart | DebugStop | DebugTick, now: int, rules: Rules) -> Step:
    """start, stop and tick concern the service's loops, not the rows."""
    return _OK, ()


# ---- shared --------------------------------------------------------------------------------------------


def _born(request: PromiseCreate, now: int) -> Promise:
    """A new promise; with its deadline in the past it is born settled, as of its deadline."""
    at = request.timeout_at
    if at > now:
        return Promise(request.id, PENDING, request.param, EMPTY, request.tags, at, now)
    state: PromiseState = RESOLVED if request.tags.get(TIMER) == "true" else TIMEDOUT
    return Promise(request.id, state, request.param, EMPTY, request.tags, at, at, at)


def _settled(
    view: View, rules: Rules, row: PromiseRow, request: PromiseSettle, now: int, effects: list[Effect]
) -> Promise:
    known = row.promise
    promise = Promise(
        known.id, request.state, known.param, request.value, known.tags, known.timeout_at, known.created_at, now
    )
    settle(view, rules, row, promise, now, effects)
    return promise


def _task(view: View, id: str) -> tuple[TaskRow | None, Promise | None]:
    task, row = view.task(id), view.promise(id)
    return task, row.promise if row is not None else None


def _held(view: View, request: TaskRelease | TaskFulfill | TaskSuspend | TaskFence, now: int) -> Any:
    """The task and its promise if the sender holds it, else a refusal."""
    task, row = view.task(request.id), view.promise(request.id)
    if task is None or row is None:
        return None, None, _no_task(request.id)
    promise = row.promise
    if task.state != ACQUIRED or not is_live(promise, now):
        return None, None, _not(show(task, is_live(promise, now)), ACQUIRED)
    if task.version != request.version:
        return None, None, _other_version(task, request.version)
    return task, promise, None


def _acquire(view: View, task: TaskRow, promise: Promise, request: TaskAcquire | TaskCreate, now: int) -> Step:
    end = later(now, request.ttl)
    since = now if task.since is None else min(now, task.since)  # before its delay is over it has not waited
    held = TaskRow(task.id, ACQUIRED, task.version + 1, task.target, request.pid, request.ttl, end, since=since)
    answer = Response(
        200,
        promise,
        Task(task.id, ACQUIRED, held.version, 0, request.ttl, request.pid),
        preload=_preload(view, promise, now) if request.preload else (),
        resumed=task.resumes,
    )
    return answer, (held, Unsend(("execute", task.id)))


def _preload(view: View, promise: Promise, now: int) -> list[Promise]:
    branch = promise.tags.get(BRANCH)
    if branch is None:
        return []
    return [project(other, now) for other in view.branch(branch) if other.id != promise.id]


def _preload_after(view: View, promise: Promise, changed: Promise | None, now: int, rules: Rules) -> list[Promise]:
    """The preload of a fence: the first records of the branch as its action leaves it."""
    preload = _preload(view, promise, now)
    if changed is not None and BRANCH in changed.tags and changed.tags[BRANCH] == promise.tags.get(BRANCH):
        others = [other for other in preload if other.id != changed.id]
        preload = sorted([*others, changed], key=lambda other: other.id)
    return preload if rules.fence_preload is None else preload[: rules.fence_preload]


def _with_callback(row: PromiseRow, awaiter: str) -> tuple[Effect, ...]:
    if awaiter in row.callbacks:
        return ()
    return (PromiseRow(row.promise, (*row.callbacks, awaiter), row.listeners),)


def _no_promise(id: str) -> Response:
    return Response(404, error=f"promise {id!r} not found")


def _no_task(id: str) -> Response:
    return Response(404, error=f"task {id!r} not found")


def _no_schedule(id: str) -> Response:
    return Response(404, error=f"schedule {id!r} not found")


def _internal(id: str) -> Response:
    return Response(
        422,
        error=f"awaited: promise {id!r} is internal; one that is awaited from outside has resonate:target, "
        "resonate:timer, resonate:external or resonate:scope=global",
    )


def _not(task: TaskRow | Task, state: str) -> Response:
    return Response(409, error=f"task {task.id!r} is {task.state} (version {task.version}), not {state}")


def _other_version(task: TaskRow, version: int) -> Response:
    return Response(409, error=f"task {task.id!r} is at version {task.version}, not {version}")


_ACTIONS: Final[dict[type, Callable[[View, Any, int, Rules], Step]]] = {
    PromiseCreate: promise_create,
    PromiseSettle: promise_settle,
    PromiseWrite: promise_write,
}

HANDLERS: Final[dict[type, Callable[[View, Any, int, Rules], Step]]] = {
    PromiseGet: promise_get,
    PromiseCreate: promise_create,
    PromiseSettle: promise_settle,
    PromiseRegisterCallback: promise_register_callback,
    PromiseRegisterListener: promise_register_listener,
    PromiseSearch: searches.promise_search,
    TaskGet: task_get,
    TaskCreate: task_create,
    TaskAcquire: task_acquire,
    TaskRelease: task_release,
    TaskFulfill: task_fulfill,
    TaskSuspend: task_suspend,
    TaskFence: task_fence,
    TaskHeartbeat: task_heartbeat,
    TaskHalt: task_halt,
    TaskContinue: task_continue,
    TaskSearch: searches.task_search,
    ScheduleGet: schedule_get,
    ScheduleCreate: schedule_create,
    ScheduleDelete: schedule_delete,
    ScheduleSearch: searches.schedule_search,
    ExecutionSearch: searches.execution_search,
    ExecutionCount: searches.execution_count,
    ExecutionTree: searches.execution_tree,
    ExecutionFailures: searches.execution_failures,
    GroupSearch: searches.group_search,
    DebugStart: debug_loops,
    DebugStop: debug_loops,
    DebugTick: debug_loops,
    DebugReset: debug_reset,
    DebugSnap: debug_snap,
}
