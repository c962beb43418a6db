"""Field rules: what is wrong with a request, before anybody looks at a row.

`check` holds every rule of protocol 2026-04-01, section 3, that needs nothing but the
request itself, for the server and for embedded callers alike. It names the field (by its
wire path), the rule and the value, and the first broken rule answers. It changes nothing
and never raises for a request whose fields have their declared types. Rules that need
rows (unknown ids, states, versions) are the machine's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from resonate.protocol import addresses, cron
from resonate.protocol.ids import extends
from resonate.protocol.records import BRANCH, DELAY, ORIGIN, PARENT, TARGET, TIMER
from resonate.protocol.requests import (
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

MIN_INT: Final = -(2**63)
MAX_INT: Final = 2**63 - 1
MAX_ID_BYTES: Final = 2_048
MAX_PAGE: Final = 1_000

_SETTLED: Final = frozenset(("resolved", "rejected", "rejected_canceled"))
_PROMISE_STATES: Final = _SETTLED | {"pending", "rejected_timedout"}
_TASK_STATES: Final = frozenset(("pending", "acquired", "suspended", "halted", "fulfilled"))
_SHOWN: Final = 80  # characters of a wrong value that go into an error text
_LATEST: Final = str(MAX_INT)  # the longest a schedule's {{.timestamp}} can get

Problem = str | None


def check(request: Request, *, strict: bool = False) -> Problem:
    """The first rule that `request` breaks, as a text for people; None if it breaks none.

    Args:
        request: any request; those without rules (most of `debug.*`) always pass.
        strict: replay against the formal specification: a timer with a target is refused,
            a listener's address follows the specification's rule, and the inner action of a
            fence is left to the machine, which reports it inside its answer.
    """
    rules = _RULES.get(type(request))
    return None if rules is None else rules(request, strict)


def expand(template: str, schedule_id: str, occurrence: int | str) -> str:
    """The promise id that `template` gives for the occurrence of a schedule at that instant."""
    return template.replace("{{.id}}", schedule_id).replace("{{.timestamp}}", str(occurrence))


# Rules for single fields.


def _id(path: str, id: str) -> Problem:
    if id and len(id) <= MAX_ID_BYTES and id.isascii() and "\0" not in id:
        return None
    return _unusual_id(path, id)


def _unusual_id(path: str, id: str) -> Problem:
    if not id:
        return f"{path} must not be empty"
    if "\0" in id:
        return f"{path} must not hold a NUL character, got {_shown(id)}"
    try:
        size = len(id.encode())
    except UnicodeEncodeError:
        return f"{path} must be Unicode text without lone surrogates, got {_shown(id)}"
    if size > MAX_ID_BYTES:
        depth = sum(map(id.count, ".:"))
        return (
            f"{path} must have at most {MAX_ID_BYTES} bytes, got {size}: {_shown(id)}, {depth} calls below "
            "its root. Recurse less deeply, or begin a root of its own there (a detached call)"
        )
    return None


def _filled(path: str, text: str) -> Problem:
    return None if text else f"{path} must not be empty"


def _at_least(path: str, minimum: int, number: int) -> Problem:
    if minimum <= number <= MAX_INT:
        return None
    return f"{path} must be from {minimum} to 2^63 - 1, got {number}"


def _state(path: str, states: frozenset[str], state: str | None) -> Problem:
    if state is None or state in states:
        return None
    return f"{path} must be one of {', '.join(sorted(states))}, got {_shown(state)}"


def _address(path: str, address: str) -> Problem:
    if addresses.parse(address) is not None:
        return None
    return f"{path} must be an address ({addresses.FORMS}), got {_shown(address)}"


def _page(limit: int) -> Problem:
    return None if 1 <= limit <= MAX_PAGE else f"limit must be from 1 to {MAX_PAGE}, got {limit}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


# Rules for promises.


_Named = PromiseGet | TaskGet | TaskHalt | TaskContinue | ScheduleGet | ScheduleDelete
_Claim = TaskAcquire | TaskRelease | TaskFulfill | TaskSuspend | TaskFence


def _named(request: _Named, strict: bool) -> Problem:
    return _id("id", request.id)


def _promise_create(request: PromiseCreate, strict: bool, at: str = "") -> Problem:
    return (
        _id(at + "id", request.id)
        or _at_least(at + "timeoutAt", 0, request.timeout_at)
        or (_tags(request, strict, at + "tags") if request.tags else None)
    )


def _tags(request: PromiseCreate, strict: bool, path: str) -> Problem:
    tags = request.tags
    for tag in (ORIGIN, BRANCH, PARENT):
        ancestor = tags.get(tag)
        if ancestor is not None and ancestor != request.id and not extends(ancestor, request.id):
            return (
                f"{path}.{tag} must be the id itself or an ancestor of it, got {_shown(ancestor)} "
                f"for the id {_shown(request.id)}"
            )
    target, delay = tags.get(TARGET), tags.get(DELAY)
    if delay is not None:
        problem = _delay(f"{path}.{DELAY}", delay, request.timeout_at, target)
        if problem:
            return problem
    if target is None:
        return None
    return _address(f"{path}.{TARGET}", target) or _timer_with_target(path, tags, strict)


def _delay(path: str, delay: str, timeout_at: int, target: str | None) -> Problem:
    problem = _instant(path, delay)
    if problem:
        return problem
    if int(delay) >= timeout_at:
        return f"{path} must be less than timeoutAt ({timeout_at}), got {delay}"
    return None if target is not None else f"{path} needs the tag {TARGET} beside it, got {delay} without"


def _instant(path: str, text: str) -> Problem:
    if text.isascii() and text.isdigit() and len(text) <= len(_LATEST) and int(text) <= MAX_INT:
        return None
    return f"{path} must be a decimal integer from 0 to 2^63 - 1, got {_shown(text)}"


def _timer_with_target(path: str, tags: dict[str, str], strict: bool) -> Problem:
    if strict and tags.get(TIMER) == "true":
        return f"{path} must not hold both {TIMER} and {TARGET}, got {_shown(tags)}"
    return None


def _promise_settle(request: PromiseSettle, strict: bool, at: str = "") -> Problem:
    return _id(at + "id", request.id) or _state(at + "state", _SETTLED, request.state)


def _register_callback(request: PromiseRegisterCallback, strict: bool) -> Problem:
    problem = _id("awaited", request.awaited) or _id("awaiter", request.awaiter)
    if problem or request.awaited != request.awaiter:
        return problem
    return f"awaited must differ from awaiter: nothing waits for itself, got twice {_shown(request.awaited)}"


def _register_listener(request: PromiseRegisterListener, strict: bool) -> Problem:
    problem = _id("awaited", request.awaited) or _filled("address", request.address)
    if problem or (strict and addresses.acceptable_to_specification(request.address)):
        return problem
    if strict:
        return f"address must begin with http://, https:// or poll:// and an @, got {_shown(request.address)}"
    return _address("address", request.address)


def _promise_search(request: PromiseSearch, strict: bool) -> Problem:
    return _page(request.limit) or _state("state", _PROMISE_STATES, request.state)


# Rules for tasks.


def _claim(request: _Claim, strict: bool = False) -> Problem:
    return _id("id", request.id) or _at_least("version", 0, request.version)


def _lease(request: TaskCreate | TaskAcquire) -> Problem:
    return _filled("pid", request.pid) or _at_least("ttl", 1, request.ttl)


def _task_create(request: TaskCreate, strict: bool) -> Problem:
    problem = _lease(request) or _promise_create(request.action, strict, "action.data.")
    if problem:
        return problem
    tags = request.action.tags
    if TARGET not in tags:
        return f"action.data.tags must hold {TARGET}: no task without a target, got {_shown(tags)}"
    if DELAY in tags:
        return f"action.data.tags must not hold {DELAY}: the task starts at once, got {_shown(tags[DELAY])}"
    return None


def _task_acquire(request: TaskAcquire, strict: bool) -> Problem:
    return _claim(request) or _lease(request)


def _task_fulfill(request: TaskFulfill, strict: bool) -> Problem:
    problem = _claim(request) or _promise_settle(request.action, strict, "action.data.")
    if problem or request.action.id == request.id:
        return problem
    return f"action.data.id must be the task's id {_shown(request.id)}, got {_shown(request.action.id)}"


def _task_suspend(request: TaskSuspend, strict: bool) -> Problem:
    problem = _claim(request)
    if problem:
        return problem
    if not request.actions:
        return "actions must not be empty: a task that waits for nothing is never woken"
    seen: set[str] = set()
    for position, action in enumerate(request.actions):
        problem = _awaiting(f"actions[{position}].data", request.id, action, seen)
        if problem:
            return problem
        seen.add(action.awaited)
    return None


def _awaiting(path: str, id: str, action: PromiseRegisterCallback, seen: set[str]) -> Problem:
    if action.awaiter != id:
        return f"{path}.awaiter must be the task's id {_shown(id)}, got {_shown(action.awaiter)}"
    if action.awaited == id:
        return f"{path}.awaited must not be the task's own id: it cannot wait for itself, got {_shown(id)}"
    if action.awaited in seen:
        return f"{path}.awaited must not occur twice, got {_shown(action.awaited)} again"
    return _id(f"{path}.awaited", action.awaited)


def _task_fence(request: TaskFence, strict: bool) -> Problem:
    problem = _claim(request)
    if problem:
        return problem
    if request.action.id == request.id:
        return f"action.data.id must not be the task's own id: use task.fulfill, got {_shown(request.id)}"
    if strict:
        return None
    action = request.action
    if isinstance(action, PromiseSettle):
        return _promise_settle(action, strict, "action.data.")
    if isinstance(action, PromiseCreate):
        return _promise_create(action, strict, "action.data.")
    problem = _promise_create(action.create, strict, "action.create.data.")
    return problem or _promise_settle(action.settle, strict, "action.settle.data.")


def _task_heartbeat(request: TaskHeartbeat, strict: bool) -> Problem:
    problem = _filled("pid", request.pid)
    if problem:
        return problem
    for position, task in enumerate(request.tasks):
        problem = _at_least(f"tasks[{position}].version", MIN_INT, task.version)
        if problem:
            return problem
    return None


def _task_search(request: TaskSearch, strict: bool) -> Problem:
    return _page(request.limit) or _state("state", _TASK_STATES, request.state)


# Rules for schedules and debug.


def _schedule_create(request: ScheduleCreate, strict: bool) -> Problem:
    return (
        _id("id", request.id)
        or _filled("promiseId", request.promise_id)
        or _at_least("promiseTimeout", 0, request.promise_timeout)
        or _id("promiseId, expanded,", expand(request.promise_id, request.id, _LATEST))
        or _cron(request.cron)
        or _schedule_tags(request.promise_tags, strict)
    )


def _schedule_tags(tags: dict[str, str], strict: bool) -> Problem:
    """Lineage tags are not looked at: each occurrence overwrites them with its own id."""
    target, delay = tags.get(TARGET), tags.get(DELAY)
    if target is None:
        return f"promiseTags must hold {TARGET}: who would run the occurrences? Got {_shown(tags)}"
    return (
        _address(f"promiseTags.{TARGET}", target)
        or (_instant(f"promiseTags.{DELAY}", delay) if delay is not None else None)
        or _timer_with_target("promiseTags", tags, strict)
    )


def _cron(expression: str) -> Problem:
    problem = cron.check(expression)
    return f"cron must be a cron expression: {problem}, got {_shown(expression)}" if problem else None


def _schedule_search(request: ScheduleSearch, strict: bool) -> Problem:
    return _page(request.limit)


MOST: Final = 100_000
"""What is counted one by one at most."""


def _execution_search(request: ExecutionSearch, strict: bool) -> Problem:
    return _page(request.limit)


def _execution_count(request: ExecutionCount | GroupSearch, strict: bool) -> Problem:
    return None if 0 <= request.most <= MOST else f"most must be from 0 to {MOST}, got {request.most}"


def _execution_tree(request: ExecutionTree, strict: bool) -> Problem:
    return _id("id", request.id) or _page(request.limit)


def _execution_failures(request: ExecutionFailures, strict: bool) -> Problem:
    for name in ("limit", "most", "shown"):
        if not 0 <= getattr(request, name) <= MAX_PAGE:
            return f"{name} must be from 0 to {MAX_PAGE}, got {getattr(request, name)}"
    return None


def _debug_tick(request: DebugTick, strict: bool) -> Problem:
    return _at_least("time", MIN_INT, request.time)


_RULES: Final[dict[type, Callable[[Any, bool], Problem]]] = {
    PromiseGet: _named,
    PromiseCreate: _promise_create,
    PromiseSettle: _promise_settle,
    PromiseRegisterCallback: _register_callback,
    PromiseRegisterListener: _register_listener,
    PromiseSearch: _promise_search,
    TaskGet: _named,
    TaskCreate: _task_create,
    TaskAcquire: _task_acquire,
    TaskRelease: _claim,
    TaskFulfill: _task_fulfill,
    TaskSuspend: _task_suspend,
    TaskFence: _task_fence,
    TaskHeartbeat: _task_heartbeat,
    TaskHalt: _named,
    TaskContinue: _named,
    TaskSearch: _task_search,
    ScheduleGet: _named,
    ScheduleCreate: _schedule_create,
    ScheduleDelete: _named,
    ScheduleSearch: _schedule_search,
    ExecutionSearch: _execution_search,
    ExecutionCount: _execution_count,
    ExecutionTree: _execution_tree,
    ExecutionFailures: _execution_failures,
    GroupSearch: _execution_count,
    DebugTick: _debug_tick,
}
