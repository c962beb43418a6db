"""Whatever is sent, in whatever order, at whatever time: the invariants hold, and the machine
answers what the slow model answers.

Every property is trusted only after three checks: it holds; a hand-made violator fails it
(`test_invariants.py`); the generator reaches the case that it guards (at the end here).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from msgspec.structs import asdict

from resonate.protocol import requests as rq
from resonate.protocol.footprint import footprint
from resonate.protocol.records import Execute
from resonate.testing.invariants import State, check_state, check_step, key

from . import scripts
from .model import Model
from .scripts import Pick, Scene
from .subjects import Subject, model_state, on_database, on_file, on_shared_database, on_shared_file

SEEDS = range(20)
SCRIPTS = 25  # per seed
STEPS = 70  # per script; after more nearly everything is settled and nothing happens any more


class Together:
    """The machine on memory storage and the model under the same requests, watched."""

    def __init__(self, subject: Any) -> None:
        self.model, self.subject = Model(), subject
        self.now = 0
        self.state = self.subject.state()
        self.seen: set[Any] = set()

    def play(self, scene: Scene, pick: Pick) -> None:
        step = scene(pick, self.model, self.now)
        if step is not None:
            self.ask(*step)

    def ask(self, now: int, request: rq.Request) -> None:
        self.now = now
        if getattr(self.subject, "stores_deadlines", False):  # what is about to be seen timed out is settled first
            self.model.settle_overdue(footprint((request,)).promises, now)
        got, want = self.subject.handle(request, now), self.model.handle(request, now)
        before, self.state = self.state, self.subject.state()
        assert comparable(got) == comparable(want), (now, request)
        assert visible(self.state, now) == visible(model_state(self.model), now), (now, request)
        check_state(self.state, now)
        check_step(before, self.state, request, now)
        self.seen |= cases(before, self.state, request, got)


def comparable(response: rq.Response) -> Any:
    """The whole answer, apart from error texts, and from the order of what is a set."""
    error = response.error is not None
    inner = comparable(response.action) if response.action else None
    lists = (response.preload, response.promises, response.tasks, response.schedules)
    records = [None if rows is None else list(rows) for rows in lists]
    shown = (response.status, response.promise, response.task, response.schedule, response.cursor)
    return (*shown, records, sorted(response.resumed), inner, error)


def visible(state: State, now: int) -> Any:
    """Rows as far as two right implementations agree: without what dead tasks still hold, and
    without offers that nobody could accept any more."""
    dead = {id for id, row in state.promises.items() if row.record.timeout_at <= now}
    promises = {id: (row.record, set(row.callbacks) - dead, set(row.listeners)) for id, row in state.promises.items()}
    tasks = {id: asdict(t) | {"resumes": set(t.resumes)} for id, t in state.tasks.items() if id not in dead}
    offered = {(id, t["version"]) for id, t in tasks.items() if t["state"] == "pending"}
    messages = {
        key((address, message)): (address, message)
        for address, message in state.outbox
        if not isinstance(message, Execute) or (message.id, message.version) in offered
    }
    return promises, tasks, state.schedules, messages


def cases(before: State, after: State, request: rq.Request, response: rq.Response) -> set[Any]:
    """What this step shows that a property could be about."""
    name = type(request).__name__
    found: set[Any] = {(name, response.status)}
    if response.action is not None:
        found.add(("inner", response.action.status))
    for id, task in after.tasks.items():
        old = before.tasks.get(id)
        found.add((old.state if old else None, task.state))
        if old and len(task.resumes) > len(old.resumes):
            found.add(("counts", task.state))
        if old and old.resumes:
            found.add((name, "with resumes", old.state, task.state))
    for id, row in after.promises.items():
        was = before.promises.get(id)
        if was and was.listeners and not row.listeners:
            found.add("told")
        if was and was.callbacks and not row.callbacks:
            found.add(("drained by", name))
    if any(row not in before.outbox for row in after.outbox):
        found.add(("sent by", name))
    return found


@cache
def play_seed(seed: int, make: Callable[[], Any] = Subject) -> frozenset[Any]:
    """Play the scripts of a seed on a subject; returns the cases they reached."""
    pick = scripts.seeded(seed)
    seen: set[Any] = set()
    for _ in range(SCRIPTS):
        both = Together(make())
        for _ in range(STEPS):
            both.play(pick(scripts.SCENES), pick)
        seen |= both.seen
    return frozenset(seen)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_long_script_keeps_every_invariant_and_answers_like_the_model(seed: int) -> None:
    play_seed(seed)


@pytest.mark.parametrize("seed", SEEDS[:4])
def test_a_long_script_on_a_file_answers_like_the_model_too(seed: int) -> None:
    assert play_seed(seed, on_file) == play_seed(seed)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", SEEDS[:2])
def test_a_long_script_on_a_database_answers_like_the_model_too(seed: int) -> None:
    assert play_seed(seed, on_database) >= play_seed(seed)


@pytest.mark.parametrize("seed", SEEDS[:4])
def test_a_long_script_on_a_file_of_several_processes_answers_like_the_model_too(seed: int) -> None:
    assert play_seed(seed, on_shared_file) == play_seed(seed)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", SEEDS[:1])
def test_a_long_script_on_a_database_of_several_processes_answers_like_the_model_too(seed: int) -> None:
    assert play_seed(seed, on_shared_database) >= play_seed(seed)


class AnyScript(RuleBasedStateMachine):
    """The same, with hypothesis to choose: fewer steps, but a failure shrinks to its core."""

    def __init__(self) -> None:
        super().__init__()
        self.both = Together(Subject())

    @rule(data=st.data(), scene=st.sampled_from(scripts.SCENES))
    def something_happens(self, data: st.DataObject, scene: Scene) -> None:
        self.both.play(scene, lambda choices: data.draw(st.sampled_from(choices)))


TestAnyScript = AnyScript.TestCase
TestAnyScript.settings = settings(max_examples=40, stateful_step_count=30)


MUST_REACH: set[Any] = {
    *((name, 200) for name in ("PromiseGet", "PromiseCreate", "PromiseSettle", "PromiseSearch", "TaskSearch")),
    *((name, 200) for name in ("PromiseRegisterCallback", "PromiseRegisterListener", "TaskGet", "TaskHeartbeat")),
    *((name, 200) for name in ("ScheduleGet", "ScheduleCreate", "ScheduleDelete", "ScheduleSearch", "DebugTick")),
    *((name, 404) for name in ("PromiseGet", "PromiseSettle", "PromiseRegisterCallback", "TaskGet")),
    *((name, 404) for name in ("PromiseRegisterListener", "ScheduleGet", "ScheduleDelete")),
    *((name, 422) for name in ("PromiseRegisterCallback", "PromiseRegisterListener", "TaskSuspend", "TaskCreate")),
    *((f"Task{name}", 200) for name in ("Acquire", "Create", "Release", "Fulfill", "Suspend", "Fence")),
    *((f"Task{name}", 404) for name in ("Acquire", "Release", "Fulfill", "Suspend", "Fence", "Halt", "Continue")),
    *((f"Task{name}", 409) for name in ("Acquire", "Create", "Release", "Fulfill", "Suspend", "Fence")),
    *((f"Task{name}", status) for name in ("Halt", "Continue") for status in (200, 409)),
    ("TaskSuspend", 300),
    ("inner", 200),
    ("inner", 404),
    *((None, state) for state in ("pending", "acquired", "fulfilled")),
    *(("pending", state) for state in ("acquired", "halted", "fulfilled")),
    *(("acquired", state) for state in ("pending", "suspended", "halted", "fulfilled")),
    *(("suspended", state) for state in ("pending", "halted", "fulfilled")),
    *(("halted", state) for state in ("pending", "fulfilled")),
    *(("counts", state) for state in ("pending", "acquired", "halted")),
    *(("drained by", name) for name in ("PromiseSettle", "TaskFence", "TaskFulfill", "DebugTick")),
    *(("sent by", name) for name in ("PromiseCreate", "PromiseSettle", "TaskRelease", "TaskContinue")),
    *(("sent by", name) for name in ("TaskFence", "TaskFulfill", "DebugTick")),
    ("TaskRelease", "with resumes", "acquired", "pending"),
    ("TaskContinue", "with resumes", "halted", "pending"),
    ("DebugTick", "with resumes", "acquired", "pending"),
    ("TaskAcquire", "with resumes", "pending", "acquired"),
    ("TaskSuspend", "with resumes", "acquired", "acquired"),
    ("TaskSuspend", "with resumes", "acquired", "suspended"),
    "told",
}
"""Every status of 3.23, every move of 4.9 and every kind of consequence."""


def test_the_scripts_reach_every_status_move_and_consequence() -> None:
    seen = frozenset[Any]().union(*map(play_seed, SEEDS))

    assert MUST_REACH - seen == set()
