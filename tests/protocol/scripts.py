"""Random scripts: small pools of ids, tags and instants, so that they meet each other often.

A scene is one plausible next thing to happen (a holder acts, somebody waits, time comes to
a deadline), drawn with knowledge of the model's present state so that most requests hit.
Chance comes in as `pick`: hypothesis draws where failures should shrink, a seeded
generator where many steps are wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol, TypeVar

from resonate.protocol import requests as rq
from resonate.protocol.records import PromiseState, TaskState, Value

from .model import Model

T = TypeVar("T")


class Pick(Protocol):
    def __call__(self, choices: Sequence[T], /) -> T: ...


ROOTS = ["w", "v", "w:1"]
OUTSIDE = ["e", "x", "w:2", "e:1"]
IDS = [*ROOTS, *OUTSIDE, "w.3"]
PIDS = ["p", "q"]
ADDRESSES = ["poll://any@g", "poll://uni@g/p", "http://h/x"]
JUMPS = [0, 1, 1, 5, 5, 10, 50, 100, 29_999, 60_000]
SPANS = [-10, 0, 1, 10, 100, 1_000, *[1_000_000] * 9]
TTLS = [1, 10, 50, 100, *[1_000_000] * 3]
SKEWS = [0, 0, 0, 0, 0, 0, 1, -1]
VALUES = [Value(), Value(data="x"), Value({"h": "1"}, "")]
OUTCOMES: list[rq.SettledState] = ["resolved", "rejected", "rejected_canceled"]
SCHEDULES = ["s", "t"]
TARGET = {"resonate:target": "poll://any@g"}
BRANCH = {"resonate:branch": "w"}
EXTERNAL = {"resonate:external": "true"}
TIMER = {"resonate:timer": "true"}

Scene = Callable[[Pick, Model, int], tuple[int, rq.Request] | None]
"""(chance, present, now) -> the instant and the request; None if the scene does not fit."""


def seeded(seed: int) -> Pick:
    return Random(seed).choice


# Pieces.


def _promise(pick: Pick, model: Model) -> str:
    """Mostly the id of a promise that exists."""
    return pick([*sorted(model.promises) * 3, *IDS])


def _live(model: Model) -> list[str]:
    return sorted(id for id in model.promises if model.live(id, model.now))


def _waitable(model: Model) -> list[str]:
    return [id for id in _live(model) if model.external(model.promises[id].record)]


def _in_state(model: Model, *states: str) -> list[str]:
    return sorted(id for id in _live(model) if id in model.tasks and model.tasks[id].state in states)


def _claim(pick: Pick, model: Model) -> tuple[str, int]:
    """Mostly a task that exists and its version."""
    id = pick([*sorted(model.tasks) * 3, *IDS])
    version = model.tasks[id].version if id in model.tasks else 0
    return id, max(version + pick(SKEWS), 0)


def _create(pick: Pick, now: int, ids: Sequence[str], tag_sets: Sequence[dict[str, str]]) -> rq.PromiseCreate:
    id, timeout_at = pick(ids), max(now + pick(SPANS), 0)
    tags = dict(pick(tag_sets))
    if not id.startswith(tags.get("resonate:branch", "")):
        del tags["resonate:branch"]
    if int(tags.get("resonate:delay", -1)) >= timeout_at:
        del tags["resonate:delay"]
    return rq.PromiseCreate(id, timeout_at, pick(VALUES), tags)


def _any_create(pick: Pick, now: int) -> rq.PromiseCreate:
    plain = [{}, BRANCH, TARGET, TARGET | BRANCH, EXTERNAL, EXTERNAL | BRANCH, TIMER, {"resonate:scope": "global"}]
    delayed = TARGET | {"resonate:delay": str(now + 7)}
    return _create(pick, now, IDS, [*plain, {"resonate:target": "http://h/x"}, TARGET | TIMER, delayed])


def _settle(pick: Pick, id: str) -> rq.PromiseSettle:
    return rq.PromiseSettle(id, pick(OUTCOMES), pick(VALUES))


def _suspend(pick: Pick, id: str, version: int, others: Sequence[str]) -> rq.TaskSuspend:
    awaited = dict.fromkeys(pick(others) for _ in range(pick([1, 1, 2, 3])))
    return rq.TaskSuspend(id, version, tuple(rq.PromiseRegisterCallback(x, id) for x in awaited))


def _inner(pick: Pick, now: int, id: str, others: Sequence[str]) -> rq.PromiseCreate | rq.PromiseSettle:
    actions: list[rq.PromiseCreate | rq.PromiseSettle] = [_any_create(pick, now), _settle(pick, pick(others))]
    action = pick(actions)
    return action if action.id != id else rq.PromiseSettle("ghost", "resolved")


# Scenes.


def anybody_creates(pick: Pick, model: Model, now: int) -> tuple[int, rq.Request]:
    return now, _any_create(pick, now)


def something_external_appears(pick: Pick, model: Model, now: int) -> tuple[int, rq.Request]:
    return now, _create(pick, now, OUTSIDE, [EXTERNAL, TIMER])


def a_root_begins(pick: Pick, model: Model, now: int) -> tuple[int, rq.Request]:
    return now, rq.TaskCreate(pick(PIDS), pick(TTLS), _create(pick, now, ROOTS, [TARGET, TARGET | BRANCH]))


def a_worker_takes_a_task(pick: Pick, model: Model, now: int) -> tuple[int, rq.Request] | None:
    pending = _in_state(model, "pending")
    if not pending:
        return None
    id = pick(pending)
    return now, rq.TaskAcquire(id, model.tasks[id].version, pick(PIDS), pick(TTLS))


def a_holder_acts(pick: Pick, model: Model, now: int) -> tuple[int, rq.Request] | None:
    held = _in_state(model, "acquired")
    if not held:
        return None
    id = pick([*held, *[id for id in held if model.tasks[id].resumes] * 3])
    task, others = model.tasks[id], [*sorted(set(model.promises) - {id}), "ghost"]
    waitable = [x for x in _waitable(model) if x != id] or others
    requests: list[Callable[[], rq.Request]] = [
        lambda: _suspend(pick, id, task.version, others),
        lambda: _suspend(pick, id, task.version, waitable),
        lambda: _suspend(pick, id, task.version, waitable),
        lambda: rq.TaskFence(id, task.version, _inner(pick, now, id, others)),
        lambda: rq.TaskFence(id, task.version, _settle(pick, pick(waitable))),
        lambda: rq.TaskFulfill(id, task.version, _settle(pick, id)),
        lambda: rq.TaskRelease(id, task.version),
        lambda: rq.TaskHeartbeat(task.pid or "", (rq.TaskRef(id, task.version),)),
    ]
    return now, pick(requests)()


def somebody_holds_the_wrong_end(pick: Pick, model: Model, now: int) -> tuple[int, rq.Request]:
    id, version = _claim(pick, model)
    others = [x for x in [*IDS, "ghost"] if x != id]
    requests: list[Callable[[], rq.Request]] = [
        lambda: rq.TaskAcquire(id, version, pick(PIDS), pick(TTLS)),
        lambda: rq.TaskRelease(id, version),
        lambda: rq.TaskFulfill(id, version, _settle(pick, id)),
        lambda: _suspend(pick, id, version, others),
        lambda: rq.TaskFence(id, version, _inner(pick, now, id, others)),
        lambda: rq.TaskHeartbeat(
            pick(PIDS), (rq.TaskRef(id, version), rq.TaskRef(*_claim(pick, model)), rq.TaskRef("ghost", 1))
        ),
    ]
    return now, pick(requests)()


def an_operator_acts(pick: Pick, model: Model, now: int) -> tuple[int, rq.Request]:
    halted = _in_state(model, "halted")
    id = pick([*halted * 4, *_in_state(model, "suspended"), _promise(pick, model)])
    proceed = (id in halted) == pick([True, True, True, False])
    return now, rq.TaskContinue(id) if proceed else rq.TaskHalt(id)


def somebody_waits(pick: Pick, model: Model, now: int) -> tuple[int, rq.Request]:
    awaited = pick([*_waitable(model) * 3, *IDS])
    awaiter = pick([*_in_state(model, "acquired") * 3, *sorted(model.tasks), *IDS])
    callback = rq.PromiseRegisterCallback(awaited, awaiter if awaiter != awaited else "ghost")
    listener = rq.PromiseRegisterListener(awaited, pick(ADDRESSES))
    return now, callback if pick([True, False]) else listener


def somebody_settles(pick: Pick, model: Model, now: int) -> tuple[int, rq.Request]:
    return now, _settle(pick, pick([*OUTSIDE, *IDS, "ghost"]))


def what_is_awaited_settles(pick: Pick, model: Model, now: int) -> tuple[int, rq.Request] | None:
    awaited = [id for id in _live(model) if model.promises[id].callbacks]
    return (now, _settle(pick, pick(awaited))) if awaited else None


def a_holder_asks_to_be_told(pick: Pick, model: Model, now: int) -> tuple[int, rq.Request] | None:
    held = _in_state(model, "acquired")
    if not held:
        return None
    id = pick(held)
    others = [x for x in _waitable(model) if x != id and id not in model.promises[x].callbacks]
    return (now, rq.PromiseRegisterCallback(pick(others), id)) if others else None


def schedules_change(pick: Pick, model: Model, now: int) -> tuple[int, rq.Request]:
    id = pick(SCHEDULES)
    template = pick(["{{.id}}-{{.timestamp}}", "{{.id}}-once", "x" if id == "s" else "y"])
    cron, timeout = pick(["* * * * *", "*/30 * * * * *"]), pick([0, 10, 100_000])
    create = rq.ScheduleCreate(id, cron, template, timeout, promise_tags=TARGET)
    return now, create if pick([True, False]) else rq.ScheduleDelete(id)


def somebody_looks(pick: Pick, model: Model, now: int) -> tuple[int, rq.Request]:
    id, limit, cursor = _promise(pick, model), pick([1, 2, 100]), pick([None, None, *IDS])
    states: list[PromiseState | None] = [None, "pending", "resolved", "rejected_timedout"]
    task_states: list[TaskState | None] = [None, "pending", "suspended", "fulfilled"]
    requests: list[rq.Request] = [
        rq.PromiseGet(id),
        rq.TaskGet(id),
        rq.ScheduleGet(pick(SCHEDULES)),
        rq.PromiseSearch(pick(states), pick([None, BRANCH, TARGET]), limit, cursor),
        rq.TaskSearch(pick(task_states), limit, cursor),
        rq.ScheduleSearch(pick([None, TARGET]), limit, cursor),
    ]
    return now, pick(requests)


def time_passes(pick: Pick, model: Model, now: int) -> tuple[int, rq.Request]:
    at = now + pick(JUMPS)
    return at, rq.DebugTick(at) if pick([True, False]) else rq.PromiseGet(pick(IDS))


def time_comes_to_a_deadline(pick: Pick, model: Model, now: int) -> tuple[int, rq.Request] | None:
    """To an instant, or just before one, at which something happens by itself."""
    tasks = model.tasks.values()
    instants = {model.promises[id].record.timeout_at for id in _live(model)}
    instants |= {at for t in tasks for at in (t.retry_at, t.expires_at) if at is not None}
    instants |= {schedule.next_run_at for schedule in model.schedules.values()}
    near = sorted(at for at in instants if now <= at <= now + 200_000)
    if not near:
        return None
    at = max(now, pick(near) - pick([0, 0, 0, 1]))
    return at, rq.DebugTick(at) if pick([True, True, False]) else rq.TaskGet(pick(IDS))


SCENES: list[Scene] = [
    anybody_creates,
    something_external_appears,
    a_root_begins,
    a_worker_takes_a_task,
    a_holder_acts,
    a_holder_acts,
    a_holder_acts,
    somebody_holds_the_wrong_end,
    an_operator_acts,
    somebody_waits,
    somebody_settles,
    what_is_awaited_settles,
    a_holder_asks_to_be_told,
    schedules_change,
    somebody_looks,
    time_passes,
    time_comes_to_a_deadline,
]
