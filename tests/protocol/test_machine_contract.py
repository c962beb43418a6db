"""What storages and services may rely on: footprints are complete, batches are transparent,
internal steps commute, and a handler has no memory of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any

import pytest

from resonate.clock import SettableClock
from resonate.protocol import machine, steps
from resonate.protocol import requests as rq
from resonate.protocol.footprint import Footprint, footprint
from resonate.protocol.records import EMPTY, Promise, Schedule
from resonate.protocol.rows import PromiseRow, Resume, Send, TaskRow, is_external
from resonate.protocol.steps import Rules
from resonate.service.service import Service
from resonate.storage.base import Storage
from resonate.storage.executions import Executions
from resonate.storage.memory import MemoryStorage
from resonate.testing.invariants import view_state
from tests import files

from . import scripts
from .bench import begin, create, external, fulfill, resolve, suspend, targeted
from .model import Model
from .subjects import model_state
from .test_properties import SEEDS, STEPS, comparable, visible

RULES = Rules()
READS = (rq.PromiseGet, rq.PromiseSearch, rq.TaskGet, rq.TaskSearch, rq.ScheduleGet, rq.ScheduleSearch, rq.DebugSnap)


class Fenced:
    """A view of a storage that serves only rows named by a footprint; asking for more fails."""

    def __init__(self, storage: MemoryStorage, rows: Footprint) -> None:
        self.storage = storage
        self.everything = rows.everything
        self.schedule_ids = rows.schedules
        named = rows.promises
        found = [row for row in map(storage.promise, named) if row is not None]
        self.ids = named | {awaiter for row in found for awaiter in row.callbacks}
        self.branches_of = rows.branches_of
        self.asked: set[str] = set()

    def promise(self, id: str) -> PromiseRow | None:
        assert self.everything or id in self.ids, f"promise {id} is outside the footprint"
        return self.storage.promise(id)

    def task(self, id: str) -> TaskRow | None:
        assert self.everything or id in self.ids, f"task {id} is outside the footprint"
        return self.storage.task(id)

    def schedule(self, id: str) -> Schedule | None:
        assert self.everything or id in self.schedule_ids, f"schedule {id} is outside the footprint"
        return self.storage.schedule(id)

    def branch(self, branch: str) -> Iterable[Promise]:
        assert self.branches_of, f"branch {branch} is outside the footprint"
        return self.storage.branch(branch)

    def reachable(self, id: str) -> bool:
        return id in self.ids

    def promises(self, after: str | None) -> Iterator[PromiseRow]:
        assert self.everything, "a scan is outside the footprint"
        return self.storage.promises(after)

    def below(self, above: str, end: str) -> Iterable[PromiseRow]:
        return self.storage.below(above, end)

    def strays(self, first: str, last: str) -> Iterable[PromiseRow]:
        return self.storage.strays(first, last)

    def listing(self) -> Executions:
        return self.storage.listing()

    def tasks(self, after: str | None) -> Iterator[TaskRow]:
        assert self.everything, "a scan is outside the footprint"
        return self.storage.tasks(after)

    def schedules(self, after: str | None) -> Iterator[Schedule]:
        assert self.everything, "a scan is outside the footprint"
        return self.storage.schedules(after)

    def messages(self) -> list[Send]:
        assert self.everything, "the outbox is outside the footprint"
        return self.storage.messages()


def script(seed: int) -> Iterator[tuple[int, rq.Request, rq.Response, Model]]:
    """The requests of a seeded script, each with the model's answer and the model as it is then."""
    pick, model, now = scripts.seeded(seed), Model(), 0
    for _ in range(6 * STEPS):
        step = pick(scripts.SCENES)(pick, model, now)
        if step is not None:
            now, request = step
            yield now, request, model.handle(request, now), model


def tick(storage: MemoryStorage, now: int) -> None:
    """Every internal step that is due, in the order of the storage, to a fixed point."""
    while due := storage.due(now, 1000):
        for kind, id in due:
            storage.apply(STEPS_OF[kind](storage, RULES, id, now))


STEPS_OF: dict[str, Callable[..., Any]] = {"promise": steps.time_out, "task": steps.wake, "schedule": steps.fire}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_view_that_serves_only_the_footprint_gives_the_same_answers(seed: int) -> None:
    storage = MemoryStorage()
    for now, request, want, _ in script(seed):
        if isinstance(request, rq.DebugTick):
            tick(storage, now)
            continue
        view = Fenced(storage, footprint([request]))

        answer, effects = machine.apply(view, request, now, RULES)
        storage.apply(effects)

        assert comparable(answer) == comparable(want), request


@pytest.mark.parametrize("seed", SEEDS)
def test_equal_inputs_give_equal_steps_and_neither_a_step_alone_nor_a_read_changes_anything(seed: int) -> None:
    storage = MemoryStorage()
    for now, request, _, _ in script(seed):
        if isinstance(request, rq.DebugTick):
            tick(storage, now)
            continue
        before = view_state(storage)

        first = machine.apply(storage, request, now, RULES)
        second = machine.apply(storage, request, now, RULES)

        assert first == second
        assert view_state(storage) == before
        assert not (first[1] and isinstance(request, READS)), "a read that writes"
        storage.apply(first[1])


@pytest.mark.parametrize("storage", [MemoryStorage, files.emptied])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_batch_answers_like_its_requests_one_by_one(seed: int, storage: Callable[[], Storage]) -> None:
    alone = Service(MemoryStorage(), SettableClock(0), debug=True)
    together = Service(storage(), SettableClock(0), debug=True)
    batch: list[rq.Request] = []
    at = 0
    for now, request, _, _ in script(seed):
        if batch and (now != at or len(batch) == 8 or isinstance(request, rq.DebugTick)):
            answers = together.handle(batch, now=at)
            assert list(map(comparable, answers)) == [comparable(alone.handle([r], now=at)[0]) for r in batch]
            batch = []
        at = now
        batch.append(request)

    assert view_state(alone.storage) == view_state(together.storage)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", SEEDS)
def test_internal_steps_in_any_order_lead_to_the_same_rows(seed: int) -> None:
    """L7: the model takes them in its order; here every step is tried for every row, shuffled."""
    storage, chance = MemoryStorage(), Random(seed)
    for now, request, _, model in script(seed):
        if isinstance(request, rq.DebugTick):
            _shuffled_tick(storage, now, chance)
            assert visible(view_state(storage), now) == visible(model_state(model), now)
        else:
            storage.apply(machine.apply(storage, request, now, RULES)[1])


def _shuffled_tick(storage: MemoryStorage, now: int, chance: Random) -> None:
    busy = True
    while busy:
        busy = False
        tries = [(steps.wake, row.id) for row in storage.tasks(None)]
        tries += [(steps.fire, schedule.id) for schedule in storage.schedules(None)]
        tries += [(steps.time_out, row.promise.id) for row in storage.promises(None) if is_external(row.promise)]
        chance.shuffle(tries)
        for step, id in tries:
            effects = step(storage, RULES, id, now)
            storage.apply(effects)
            busy = busy or bool(effects)


# Awaiters whose rows are not at hand.


class Elsewhere(Fenced):
    """A view that cannot write the rows of awaiters: they live in another partition."""

    def reachable(self, id: str) -> bool:
        return False


def _waiting() -> MemoryStorage:
    storage = MemoryStorage()
    for request in (begin("w"), external("e"), suspend("w", 1, "e")):
        storage.apply(machine.apply(storage, request, 0, RULES)[1])
    return storage


def test_an_awaiter_out_of_reach_becomes_an_obligation_that_wakes_it_later() -> None:
    storage = _waiting()
    view = Elsewhere(storage, footprint([resolve("e")]))

    _, effects = machine.apply(view, resolve("e"), 5, RULES)
    obligations = [effect for effect in effects if isinstance(effect, Resume)]
    storage.apply([effect for effect in effects if not isinstance(effect, Resume)])

    assert obligations == [Resume("w", "e")]
    assert [row.state for row in storage.tasks(None)] == ["suspended"]
    storage.apply(steps.work_off(storage, RULES, obligations[0], 9))
    assert [(row.state, row.resumes, row.retry_at) for row in storage.tasks(None)] == [("pending", ("e",), 30_009)]


def test_an_obligation_worked_off_twice_wakes_once() -> None:
    storage = _waiting()

    storage.apply(steps.work_off(storage, RULES, Resume("w", "e"), 9))
    again = steps.work_off(storage, RULES, Resume("w", "e"), 10)

    assert list(again) == []


# Steps check their own condition again.


@pytest.mark.parametrize(
    "request_", [create("x", 100), begin("x", 1000, ttl=500), targeted("x", 1000), external("x", 500)], ids=repr
)
def test_a_step_that_is_not_due_does_nothing(request_: rq.Request) -> None:
    storage = MemoryStorage()
    storage.apply(machine.apply(storage, request_, 0, RULES)[1])

    for step in (steps.time_out, steps.wake, steps.fire):
        assert list(step(storage, RULES, "x", 99)) == []
        assert list(step(storage, RULES, "ghost", 99)) == []


def test_a_step_on_what_is_over_does_nothing() -> None:
    storage = MemoryStorage()
    for request in (begin("w", 100, ttl=10), fulfill("w", 1)):
        storage.apply(machine.apply(storage, request, 0, RULES)[1])

    assert list(steps.time_out(storage, RULES, "w", 100)) == []
    assert list(steps.wake(storage, RULES, "w", 100)) == []
    assert list(steps.wake(storage, RULES, "w", 50)) == []


def test_a_promise_settles_even_if_its_task_is_missing() -> None:
    """No request leads there; a storage that lost a row must not make its promise unsettleable."""
    storage = MemoryStorage()
    lost = Promise("w", "pending", EMPTY, EMPTY, {"resonate:target": "poll://any@g"}, 100, 0)
    storage.apply([PromiseRow(lost)])

    answer, effects = machine.apply(storage, resolve("w"), 1, RULES)

    assert answer.status == 200
    assert [type(effect) for effect in effects] == [PromiseRow]


def test_a_schedule_whose_promises_have_no_target_fires_promises_without_tasks() -> None:
    """The field rules refuse such a schedule; the step does not rely on them."""
    storage = MemoryStorage()
    request = rq.ScheduleCreate("s", "* * * * *", "x", 1000)
    storage.apply(machine.apply(storage, request, 0, RULES)[1])

    storage.apply(steps.fire(storage, RULES, "s", 60_000))

    assert [row.promise.id for row in storage.promises(None)] == ["x"]
    assert list(storage.tasks(None)) == []


def test_the_retry_timeout_is_a_choice_of_the_server() -> None:
    storage = MemoryStorage()

    storage.apply(machine.apply(storage, targeted("w"), 0, Rules(retry_timeout=7))[1])

    assert [row.retry_at for row in storage.tasks(None)] == [7]


def test_a_footprint_names_what_each_request_reads() -> None:
    everything = footprint([rq.PromiseSearch(), rq.TaskSearch(), rq.ScheduleSearch(), rq.DebugSnap()])
    nothing = footprint([rq.DebugTick(1), rq.DebugReset(), rq.DebugStart(), rq.DebugStop()])

    assert everything.everything
    assert nothing == Footprint(set(), set(), set())
    acquire = rq.TaskAcquire("w", 0, "p", 1)
    assert footprint([acquire, rq.ScheduleGet("s")]) == Footprint({"w"}, {"s"}, {"w"})
    assert footprint([rq.TaskAcquire("w", 0, "p", 1, preload=False)]) == Footprint({"w"}, set(), set())
    assert footprint([rq.TaskCreate("p", 1, targeted("w"), preload=False)]).branches_of == set()
