"""The invariants and the comparison with the model do catch what they are for.

Rows made wrong by hand, one violation each, and servers with one bug each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace as changed

from resonate.errors import ResonateStoreError
from resonate.protocol import machine, steps
from resonate.protocol import requests as rq
from resonate.protocol.records import EMPTY, Execute, Message, Promise, Schedule, Task, Unblock, Value
from resonate.testing.invariants import PromiseRow, State, TaskRow, Violation, check_state, check_step

from .model import Model, T
from .subjects import model_state
from .test_properties import SEEDS, play_seed

ANY = "poll://any@g"
TARGET = {"resonate:target": ANY}
EXTERNAL = {"resonate:external": "true"}
NOW = 50

ROOT = Promise("w", "pending", EMPTY, EMPTY, TARGET, 100, 0)
AWAITED = Promise("e", "pending", EMPTY, EMPTY, EXTERNAL, 100, 0)
SETTLED = changed(AWAITED, state="resolved", value=Value(data="v"), settled_at=40)
DEAD = changed(AWAITED, state="rejected_timedout", timeout_at=50, settled_at=50)
PENDING = TaskRow("pending", retry_at=60)
ACQUIRED = TaskRow("acquired", 1, pid="p", ttl=10, expires_at=60)
SUSPENDED = TaskRow("suspended", 1)
HALTED = TaskRow("halted", 1)
FULFILLED = TaskRow("fulfilled", 1)
SCHEDULE = Schedule("s", "* * * * *", "x", 1, EMPTY, TARGET, 10, 70_000, 60_000)


def state(
    *rows: Promise | PromiseRow,
    w: TaskRow | None = None,
    schedules: tuple[Schedule, ...] = (),
    outbox: tuple[tuple[str, Message], ...] = (),
) -> State:
    promises = [row if isinstance(row, PromiseRow) else PromiseRow(row) for row in rows]
    return State(
        {row.record.id: row for row in promises},
        {} if w is None else {"w": w},
        {schedule.id: schedule for schedule in schedules},
        outbox,
    )


def task(row: TaskRow, **changes: Any) -> TaskRow:
    return changed(row, **changes)


GOOD = [
    state(),
    state(ROOT, w=PENDING, outbox=((ANY, Execute("w", 0)),)),
    state(ROOT, w=task(ACQUIRED, resumes=("e",))),
    state(ROOT, PromiseRow(AWAITED, ("w",), (ANY,)), w=SUSPENDED),
    state(ROOT, w=task(HALTED, resumes=("e",))),
    state(changed(ROOT, state="resolved", settled_at=40), w=FULFILLED),
    state(SETTLED, outbox=((ANY, Unblock(SETTLED)),)),
    state(DEAD),
    state(schedules=(SCHEDULE, changed(SCHEDULE, id="t", last_run_at=None))),
]


@pytest.mark.parametrize("good", GOOD, ids=range(len(GOOD)))
def test_good_rows_pass(good: State) -> None:
    check_state(good, NOW)
    check_step(good, good, rq.DebugTick(NOW), NOW)


BAD_STATES = [
    (1, state(changed(AWAITED, created_at=60))),
    (1, state(changed(AWAITED, timeout_at=0))),
    (1, state(changed(SETTLED, settled_at=60))),
    (1, state(changed(SETTLED, created_at=45))),
    (1, state(changed(DEAD, settled_at=51))),
    (2, state(changed(AWAITED, settled_at=40))),
    (2, state(changed(SETTLED, settled_at=None))),
    (2, state(changed(AWAITED, value=Value(data="v")))),
    (2, state(changed(DEAD, value=Value(data="v")))),
    (2, state(changed(DEAD, state="resolved"))),
    (2, state(changed(DEAD, tags={"resonate:timer": "true"}))),
    (3, state(changed(SETTLED, state="rejected_timedout"))),
    (4, state(ROOT, PromiseRow(AWAITED, ("w", "w")), w=SUSPENDED)),
    (4, state(ROOT, PromiseRow(AWAITED, listeners=(ANY, ANY)), w=PENDING)),
    (4, state(PromiseRow(ROOT, ("w",)), w=PENDING)),
    (4, state(ROOT, PromiseRow(changed(AWAITED, tags={}), ("w",)), w=PENDING)),
    (4, state(PromiseRow(AWAITED, ("ghost",)))),
    (4, state(PromiseRow(AWAITED, listeners=("nowhere",)))),
    (4, state(ROOT, w=task(PENDING, resumes=("e", "e")))),
    (5, state(ROOT)),
    (5, state(changed(AWAITED, id="w"), w=PENDING)),
    (5, state(ROOT, w=FULFILLED)),
    (5, state(changed(ROOT, state="resolved", settled_at=40), w=PENDING)),
    (6, state(ROOT, w=task(PENDING, pid="p"))),
    (6, state(ROOT, w=task(PENDING, retry_at=None))),
    (6, state(ROOT, w=task(ACQUIRED, expires_at=None))),
    (6, state(ROOT, w=task(ACQUIRED, retry_at=60))),
    (6, state(ROOT, w=task(ACQUIRED, version=0))),
    (6, state(ROOT, PromiseRow(AWAITED, ("w",)), w=task(SUSPENDED, resumes=("x",)))),
    (7, state(ROOT, AWAITED, w=SUSPENDED)),
    (8, state(ROOT, w=PENDING, outbox=((ANY, Execute("w", 0)), (ANY, Execute("w", 0))))),
    (8, state(outbox=((ANY, Execute("w", 0)),))),
    (8, state(ROOT, w=PENDING, outbox=((ANY, Execute("w", 1)),))),
    (8, state(ROOT, w=PENDING, outbox=(("http://h", Execute("w", 0)),))),
    (8, state(AWAITED, outbox=((ANY, Unblock(AWAITED)),))),
    (8, state(SETTLED, outbox=((ANY, Unblock(changed(SETTLED, settled_at=41))),))),
    (8, state(SETTLED, outbox=(("nowhere", Unblock(SETTLED)),))),
    (9, State({"x": PromiseRow(AWAITED)}, {}, {}, ())),
    (9, State({}, {}, {"x": SCHEDULE}, ())),
    (9, state(schedules=(changed(SCHEDULE, next_run_at=5, last_run_at=None),))),
    (9, state(schedules=(changed(SCHEDULE, last_run_at=70_000),))),
    (9, state(schedules=(changed(SCHEDULE, last_run_at=5),))),
    (10, state(ROOT, w=task(ACQUIRED, ttl=0))),
    (10, state(changed(ROOT, tags={"resonate:target": ""}), w=PENDING)),
    (10, state(changed(ROOT, tags=TARGET | {"resonate:delay": "100"}), w=PENDING)),
]


@pytest.mark.parametrize(("number", "bad"), BAD_STATES, ids=lambda value: str(value)[:40])
def test_rows_that_break_an_invariant_are_found_out(number: int, bad: State) -> None:
    with pytest.raises(Violation) as raised:
        check_state(bad, NOW)

    assert raised.value.number == number


TICK = rq.DebugTick(NOW)
ACQUIRE = rq.TaskAcquire("w", 0, "p", 10)
WAITING = state(ROOT, PromiseRow(AWAITED, ("w",), (ANY,)), w=SUSPENDED)

BAD_STEPS: list[tuple[int, State, State, rq.Request]] = [
    (11, state(AWAITED), state(), TICK),
    (11, state(ROOT, w=PENDING), State({"w": PromiseRow(ROOT)}, {}, {}, ()), TICK),
    (11, state(AWAITED), state(changed(AWAITED, timeout_at=101)), TICK),
    (11, state(SETTLED), state(changed(SETTLED, value=EMPTY)), TICK),
    (3, state(AWAITED), state(changed(SETTLED, settled_at=41)), TICK),
    (12, state(ROOT, w=PENDING), state(ROOT, w=ACQUIRED), ACQUIRE),
    (12, state(ROOT, w=task(ACQUIRED)), state(ROOT, w=task(PENDING, version=2)), rq.TaskRelease("w", 1)),
    (12, state(), state(ROOT, w=task(PENDING, version=1)), rq.PromiseCreate("w", 100)),
    (13, WAITING, state(ROOT, AWAITED, w=SUSPENDED), TICK),
    (13, WAITING, state(ROOT, PromiseRow(AWAITED, ("w",)), w=SUSPENDED), TICK),
    (13, state(SETTLED), state(PromiseRow(SETTLED, ("w",))), TICK),
    (13, state(SETTLED), state(PromiseRow(SETTLED, (), (ANY,))), TICK),
    (13, WAITING, state(ROOT, PromiseRow(changed(SETTLED, settled_at=50), (), (ANY,)), w=SUSPENDED), TICK),
    (13, state(PromiseRow(AWAITED, (), (ANY,))), state(changed(SETTLED, settled_at=50)), TICK),
    (14, state(ROOT, w=HALTED), state(ROOT, w=ACQUIRED), ACQUIRE),
    (14, state(ROOT, w=PENDING), state(ROOT, w=task(ACQUIRED)), TICK),
    (14, state(ROOT, w=ACQUIRED), state(ROOT, w=HALTED), TICK),
    (14, state(ROOT, w=ACQUIRED), state(ROOT, AWAITED, w=SUSPENDED), rq.TaskSuspend("w", 1, ())),
    (15, state(ROOT, w=PENDING), state(ROOT, w=task(PENDING, retry_at=59)), TICK),
    (15, state(ROOT, w=ACQUIRED), state(ROOT, w=task(ACQUIRED, pid="q")), TICK),
    (15, state(ROOT, w=ACQUIRED), state(ROOT, w=task(ACQUIRED, expires_at=61)), TICK),
    (16, state(ROOT, w=task(HALTED, resumes=("a", "b"))), state(ROOT, w=task(HALTED, resumes=("a",))), TICK),
    (16, state(ROOT, w=task(ACQUIRED, resumes=("a",))), state(ROOT, w=task(PENDING, version=1)), TICK),
    (17, state(ROOT, w=ACQUIRED), state(ROOT, w=ACQUIRED, outbox=((ANY, Execute("w", 1)),)), TICK),
    (
        17,
        state(changed(ROOT, timeout_at=50), w=PENDING),
        state(changed(ROOT, timeout_at=50), w=PENDING, outbox=((ANY, Execute("w", 0)),)),
        TICK,
    ),
    (18, state(), state(PromiseRow(AWAITED, (), (ANY,))), rq.PromiseCreate("e", 100)),
    (18, state(), state(changed(SETTLED, settled_at=50)), rq.PromiseCreate("e", 100)),
]


@pytest.mark.parametrize(("number", "before", "after", "cause"), BAD_STEPS, ids=lambda value: str(value)[:40])
def test_steps_that_break_an_invariant_are_found_out(
    number: int, before: State, after: State, cause: rq.Request
) -> None:
    if number == 12 and after.tasks["w"].state == "acquired":
        after = State(after.promises, {"w": task(ACQUIRED, version=2)}, {}, ())

    with pytest.raises(Violation) as raised:
        check_step(before, after, cause, NOW)

    assert raised.value.number == number


# Servers with one bug each.


class Slow(Model):
    """The model as a subject; its children break one rule each."""

    def state(self) -> State:
        return model_state(self)


class WakesTheDead(Slow):
    def resume(self, awaiter: str, awaited: str, now: int) -> None:
        if self.tasks[awaiter].state == "suspended":
            self.tasks[awaiter] = T("pending", self.tasks[awaiter].version, [awaited])
            self.tasks[awaiter].retry_at = now
            self.send(awaiter, now)
        else:
            super().resume(awaiter, awaited, now)


class ForgetsTheCallback(Slow):
    def task_suspend(self, request: rq.TaskSuspend, now: int) -> rq.Response:
        answer = super().task_suspend(request, now)
        for row in self.promises.values():
            row.callbacks = [awaiter for awaiter in row.callbacks if awaiter != request.id]
        return answer


class LetsTheLateWin(Slow):
    def live(self, id: str, now: int) -> bool:
        return super().live(id, now - 1)


class RaisesTheVersionOnRelease(Slow):
    def task_release(self, request: rq.TaskRelease, now: int) -> rq.Response:
        answer = super().task_release(request, now)
        if answer.status == 200:
            self.tasks[request.id].version += 1
        return answer


class ForgetsResumesOnRelease(Slow):
    def task_release(self, request: rq.TaskRelease, now: int) -> rq.Response:
        answer = super().task_release(request, now)
        if answer.status == 200:
            self.tasks[request.id].resumes = []
        return answer


class KeepsResumesOnAcquire(Slow):
    def acquire(self, id: str, pid: str, ttl: int, now: int) -> None:
        resumes = self.tasks[id].resumes
        super().acquire(id, pid, ttl, now)
        self.tasks[id].resumes = resumes


class HoldsTwice(Slow):
    def held(self, request: Any, now: int) -> None:
        self.known(request.id in self.tasks)
        self.demand(409, self.seen_task(request.id, now).state == "acquired")


class ForgetsToTell(Slow):
    def drain(self, now: int) -> bool:
        for row in self.promises.values():
            if row.record.state != "pending":
                row.listeners = []
        return super().drain(now)


class ShowsTheRawRow(Slow):
    def promise_search(self, request: rq.PromiseSearch, now: int) -> rq.Response:
        found = [self.promises[i].record for i in sorted(self.promises)]
        page, cursor = self.page([p for p in found if request.state in (None, p.state)], request)
        return rq.Response(200, promises=page, cursor=cursor)


class ListensToTheSettled(Slow):
    def promise_register_listener(self, request: rq.PromiseRegisterListener, now: int) -> rq.Response:
        answer = super().promise_register_listener(request, now)
        if answer.status == 200 and request.address not in self.promises[request.awaited].listeners:
            self.promises[request.awaited].listeners.append(request.address)
        return answer


class SuspendsOnTheSettled(Slow):
    def task_suspend(self, request: rq.TaskSuspend, now: int) -> rq.Response:
        answer = super().task_suspend(request, now)
        if answer.status == 300:
            self.suspended(request.id)
            return rq.Response(200)
        return answer


class KeepsAStaleOffer(Slow):
    def acquire(self, id: str, pid: str, ttl: int, now: int) -> None:
        offer = self.outbox.get(("execute", id))
        super().acquire(id, pid, ttl, now)
        self.outbox["execute", id] = offer or (ANY, Execute(id, self.tasks[id].version))


class LosesTheLease(Slow):
    def task_get(self, request: rq.TaskGet, now: int) -> rq.Response:
        answer = super().task_get(request, now)
        if answer.task and answer.task.state == "acquired":
            return rq.Response(200, task=Task(request.id, "acquired", answer.task.version, 0))
        return answer


BUGS: list[Callable[[], Any]] = [
    WakesTheDead,
    ForgetsTheCallback,
    LetsTheLateWin,
    RaisesTheVersionOnRelease,
    ForgetsResumesOnRelease,
    KeepsResumesOnAcquire,
    HoldsTwice,
    ForgetsToTell,
    ShowsTheRawRow,
    ListensToTheSettled,
    SuspendsOnTheSettled,
    KeepsAStaleOffer,
    LosesTheLease,
]


@pytest.mark.parametrize("buggy", BUGS)
def test_a_server_with_one_bug_is_found_out(buggy: Callable[[], Any]) -> None:
    with pytest.raises(AssertionError):
        for seed in SEEDS:
            play_seed(seed, buggy)


PATCHES: dict[str, tuple[Any, str, Any]] = {
    "resuming the dead": (steps, "is_live", lambda promise, now: promise.state == "pending"),
    "acting on the dead": (machine, "is_live", lambda promise, now: promise.state == "pending"),
    "showing raw rows": (machine, "project", lambda promise, now: promise),
    "awaiting internal promises": (machine, "is_external", lambda promise, strict: True),
    "leases without length": (machine, "later", lambda instant, duration: instant),
    "offers every millisecond": (steps, "later", lambda instant, duration: instant + 1),
    "an empty preload": (machine, "_preload", lambda *_: []),
    "forgetting callbacks": (machine, "_with_callback", lambda row, awaiter: ()),
}


@pytest.mark.parametrize("patch", PATCHES)
def test_a_machine_with_one_function_replaced_is_found_out(patch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, name, replacement = PATCHES[patch]
    monkeypatch.setattr(module, name, replacement)

    with pytest.raises((AssertionError, ResonateStoreError)):
        for seed in SEEDS:
            play_seed.__wrapped__(seed)


def test_the_bugs_are_the_only_difference() -> None:
    play_seed(0, Slow)
