"""The checker: what it accepts, and that it rejects what must not be."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from resonate.clock import SystemClock
from resonate.network.embedded import EmbeddedNetwork
from resonate.protocol import machine
from resonate.protocol.records import EMPTY, Promise, Task, Value
from resonate.protocol.requests import (
    PromiseCreate,
    PromiseGet,
    PromiseSettle,
    Request,
    Response,
    TaskAcquire,
    TaskCreate,
    TaskFulfill,
    TaskGet,
    TaskHeartbeat,
    TaskRef,
    TaskSuspend,
)
from resonate.protocol.requests import PromiseRegisterCallback as Await
from resonate.service.service import Service
from resonate.storage.memory import MemoryStorage
from tests.chaos import history, linear, traffic
from tests.chaos.history import Answer, Operation

NOW = 1_700_000_000_000
LATE = NOW + 3_600_000
ROOT = {"resonate:target": "poll://any@nobody"}
OUTSIDE = {"resonate:external": "true"}


def did(begin: int, end: int | None, request: Request, answer: Answer | None, client: str = "a") -> Operation:
    """A request from `begin` to `end`, milliseconds after NOW."""
    returned = None if end is None else (NOW + end) * 1_000_000
    return Operation(client, (NOW + begin) * 1_000_000, returned, request, answer)


def promise(id: str, state: Any = "pending", at: int | None = None, value: str | None = None, **made: Any) -> Promise:
    """As an answer shows it; settled `at` milliseconds after NOW."""
    return Promise(
        id,
        state,
        EMPTY,
        EMPTY if value is None else Value(data=value),
        made.get("tags", OUTSIDE),
        made.get("timeout_at", LATE),
        NOW + made.get("born", 5),
        None if at is None else NOW + at,
    )


def told(shown: Promise) -> Answer:
    return Answer(200, shown)


def held(version: int, ttl: int, pid: str = "a") -> Task:
    return Task("p", "acquired", version, 0, ttl, pid)


CREATE = PromiseCreate("p", LATE, tags=OUTSIDE)
CREATED = did(0, 10, CREATE, told(promise("p")))
RESOLVE = PromiseSettle("p", "resolved", Value(data="x"))
REJECT = PromiseSettle("p", "rejected", Value(data="y"))
RESOLVED = promise("p", "resolved", 25, "x")
REJECTED = promise("p", "rejected", 25, "y")
OWN = TaskCreate("a", 100, PromiseCreate("p", LATE, tags=ROOT), False)
OWNED = did(0, 10, OWN, Answer(200, promise("p", tags=ROOT), held(1, 100)))


def accepted(*operations: Operation, **options: Any) -> bool:
    return linear.check(operations, **options) == []


class TestWritesAndReads:
    def test_a_read_during_a_write_may_see_it_or_not(self) -> None:
        settle = did(20, 30, RESOLVE, told(RESOLVED))

        assert accepted(CREATED, settle, did(21, 29, PromiseGet("p"), told(promise("p")), "b"))
        assert accepted(CREATED, settle, did(21, 29, PromiseGet("p"), told(RESOLVED), "b"))

    def test_a_stale_read_is_rejected(self) -> None:
        settle = did(20, 30, RESOLVE, told(RESOLVED))

        assert not accepted(CREATED, settle, did(31, 40, PromiseGet("p"), told(promise("p")), "b"))

    def test_two_reads_may_not_see_a_write_come_and_go(self) -> None:
        settle = did(20, 60, RESOLVE, told(RESOLVED))
        new, old = did(26, 30, PromiseGet("p"), told(RESOLVED), "b"), did(31, 40, PromiseGet("p"), told(promise("p")))

        assert accepted(CREATED, settle, new)
        assert not accepted(CREATED, settle, new, old)

    def test_a_lost_write_is_rejected(self) -> None:
        assert not accepted(CREATED, did(20, 30, PromiseGet("p"), Answer(404), "b"))

    def test_a_double_settle_is_rejected(self) -> None:
        first, second = did(20, 30, RESOLVE, told(RESOLVED)), did(20, 30, REJECT, told(REJECTED), "b")

        assert not accepted(CREATED, first, second)
        assert accepted(CREATED, first, did(20, 30, REJECT, told(RESOLVED), "b"))

    def test_a_promise_has_the_instants_that_its_answers_show(self) -> None:
        assert not accepted(did(0, 10, CREATE, told(promise("p", born=12))))
        assert not accepted(CREATED, did(20, 30, RESOLVE, told(promise("p", "resolved", 3, "x"))))

    def test_trees_do_not_explain_each_other(self) -> None:
        other = did(20, 30, PromiseGet("q"), told(promise("q")), "b")

        (violation,) = linear.check([CREATED, other])

        assert violation.group == "q"
        assert "q is not linearisable" in str(violation)
        assert "PromiseGet" in str(violation)


class TestUnknownOutcomes:
    def test_it_may_have_happened_or_not(self) -> None:
        lost = did(20, None, RESOLVE, None)

        assert accepted(CREATED, lost, did(100, 110, PromiseGet("p"), told(promise("p")), "b"))
        assert accepted(CREATED, lost, did(100, 110, PromiseGet("p"), told(RESOLVED), "b"))

    def test_it_may_happen_later_but_once(self) -> None:
        lost = did(20, None, RESOLVE, None)
        before = did(40, 50, PromiseGet("p"), told(promise("p")), "b")
        after = did(100, 110, PromiseGet("p"), told(promise("p", "resolved", 70, "x")), "b")
        again = did(120, 130, PromiseGet("p"), told(promise("p")), "b")

        assert accepted(CREATED, lost, before, after)
        assert not accepted(CREATED, lost, before, after, again)

    def test_it_does_not_happen_before_it_is_asked_for(self) -> None:
        assert not accepted(CREATED, did(90, None, RESOLVE, None), did(40, 50, PromiseGet("p"), told(RESOLVED), "b"))

    def test_one_explains_one_settlement_only(self) -> None:
        lost = did(20, None, RESOLVE, None)

        assert not accepted(CREATED, lost, did(40, 50, PromiseGet("p"), told(promise("p", "resolved", 45, "z")), "b"))


class TestTime:
    SOON = promise("p", timeout_at=NOW + 100)
    BORN = did(0, 10, PromiseCreate("p", NOW + 100, tags=OUTSIDE), told(SOON))
    OVER = replace(SOON, state="rejected_timedout", settled_at=NOW + 100)

    def test_a_deadline_passes_when_it_does(self) -> None:
        early, late = did(50, 60, PromiseGet("p"), told(self.OVER)), did(150, 160, PromiseGet("p"), told(self.SOON))
        across = [did(90, 120, PromiseGet("p"), told(seen)) for seen in (self.SOON, self.OVER)]

        assert not accepted(self.BORN, early)
        assert not accepted(self.BORN, late)
        assert all(accepted(self.BORN, one) for one in across)

    def test_what_was_seen_timed_out_is_never_settled_otherwise(self) -> None:
        seen = did(101, 110, PromiseGet("p"), told(self.OVER), "b")
        settled = replace(self.SOON, state="resolved", value=Value(data="x"), settled_at=NOW + 95)

        assert accepted(self.BORN, did(90, 130, RESOLVE, told(settled)))
        assert not accepted(self.BORN, did(90, 130, RESOLVE, told(settled)), seen)
        assert accepted(self.BORN, did(90, 130, RESOLVE, told(self.OVER)), seen)

    def test_clocks_may_differ_by_as_much_as_is_said(self) -> None:
        late = did(110, 120, PromiseGet("p"), told(self.SOON))

        assert not accepted(self.BORN, late, tolerance=5)
        assert accepted(self.BORN, late, tolerance=15)

    def test_two_servers_may_differ_by_as_much_as_is_said(self) -> None:
        over = did(95, 105, PromiseGet("p"), told(self.OVER))
        not_yet = did(106, 108, PromiseGet("p"), told(self.SOON))

        assert not accepted(self.BORN, over, not_yet, tolerance=10)
        assert accepted(self.BORN, over, not_yet, tolerance=10, skew=10)

    def test_where_it_is_stored_what_was_seen_no_clock_can_undo_it(self) -> None:
        seen = did(101, 110, PromiseGet("p"), told(self.OVER), "b")
        settled = replace(self.SOON, state="resolved", value=Value(data="x"), settled_at=NOW + 95)
        late = did(90, 130, RESOLVE, told(settled))

        assert accepted(self.BORN, late, seen, skew=1_000)  # the read may have come first, and changed nothing
        assert not accepted(self.BORN, did(90, 130, RESOLVE, told(settled)), seen, skew=1_000, settles=True)
        assert accepted(self.BORN, did(90, 130, RESOLVE, told(self.OVER)), seen, skew=1_000, settles=True)


class TestTasks:
    ACQUIRE = TaskAcquire("p", 1, "b", 100, False)
    TAKEN = Answer(200, promise("p", tags=ROOT), held(2, 100, "b"))

    def test_a_lease_ends_and_another_owner_comes(self) -> None:
        assert accepted(OWNED, did(120, 130, self.ACQUIRE, self.TAKEN, "b"))

    def test_two_owners_at_a_time_are_rejected(self) -> None:
        assert not accepted(OWNED, did(50, 60, self.ACQUIRE, self.TAKEN, "b"))

    def test_two_owners_of_one_version_are_rejected(self) -> None:
        first, second = (
            did(120, 130, replace(self.ACQUIRE, pid=pid), replace(self.TAKEN, task=held(2, 100, pid)), pid)
            for pid in ("b", "c")
        )

        assert accepted(OWNED, first)
        assert not accepted(OWNED, first, second)

    def test_a_heartbeat_makes_a_lease_longer(self) -> None:
        beat = did(90, 95, TaskHeartbeat("a", (TaskRef("p", 1),)), Answer(200))

        assert not accepted(OWNED, beat, did(120, 130, self.ACQUIRE, self.TAKEN, "b"))
        assert accepted(OWNED, beat, did(220, 230, self.ACQUIRE, self.TAKEN, "b"))

    def test_a_lease_that_has_ended_may_not_have_been_looked_at_yet(self) -> None:
        still = did(150, 160, TaskGet("p"), Answer(200, task=held(1, 100)))

        assert accepted(OWNED, still)
        assert accepted(OWNED, did(150, 160, TaskGet("p"), Answer(200, task=Task("p", "pending", 1, 0))))

    def test_who_has_lost_a_task_writes_nothing(self) -> None:
        taken = did(120, 130, self.ACQUIRE, self.TAKEN, "b")
        late = TaskFulfill("p", 1, PromiseSettle("p", "resolved", Value(data="x")))

        assert not accepted(OWNED, taken, did(140, 150, late, told(promise("p", "resolved", 145, "x", tags=ROOT))))
        assert accepted(OWNED, taken, did(140, 150, late, Answer(409)))

    def test_a_suspended_task_is_woken_by_what_it_awaits_and_by_nothing_else(self) -> None:
        child = did(12, 14, PromiseCreate("p:1", LATE, tags=OUTSIDE), told(promise("p:1", born=13)))
        suspend = did(20, 30, TaskSuspend("p", 1, (Await("p:1", "p"),), False), Answer(200))
        settle = did(40, 50, PromiseSettle("p:1", "resolved"), told(promise("p:1", "resolved", 45, born=13)))
        woken = did(60, 70, TaskGet("p"), Answer(200, task=Task("p", "pending", 1, 1)))

        assert accepted(OWNED, child, suspend, settle, woken)
        assert not accepted(OWNED, child, suspend, woken)


# ---- histories that really happened --------------------------------------------------------------


class Counting(traffic.Thread):
    """Goes on to another tree after so many requests: all come to all of them, however fast they are."""

    asked = 0

    def tree(self) -> str:
        self.asked += 1
        return f"raw-{self.asked // 15}"


def recorded(directory: Path, threads: int = 4, requests: int = 150) -> history.Recorded:
    """What clients of one process are told by its service, all at the same time."""
    service = Service(MemoryStorage(), SystemClock())
    service.start()
    network = EmbeddedNetwork(service, "traffic", "traffic")

    def ask(number: int) -> None:
        way = traffic.Ours(network)
        way.pid = f"client-{number}"
        thread = Counting(way, history.Recorder(directory / f"{number}.history"), Random(number))
        for _ in range(requests):
            thread.one()
            time.sleep(0.002)

    asking = [threading.Thread(target=ask, args=(number,)) for number in range(threads)]
    for each in asking:
        each.start()
    for each in asking:
        each.join()
    service.stop()
    return history.read(sorted(directory.glob("*.history")))


def stale_reads(original: Callable[..., Any]) -> Callable[..., Any]:
    """Answers from a cache that nobody clears."""
    cache: dict[str, Any] = {}

    def get(view: Any, request: Any, now: int, rules: Any) -> Any:
        answer, effects = original(view, request, now, rules)
        return (cache.setdefault(request.id, answer) if answer.status == 200 else answer), effects

    return get


def acknowledged_only(original: Callable[..., Any]) -> Callable[..., Any]:
    """Answers as if it had settled the promise, and loses every second one."""
    count = iter(range(1_000_000))

    def settle(view: Any, request: Any, now: int, rules: Any) -> Any:
        answer, effects = original(view, request, now, rules)
        return answer, effects if next(count) % 2 else ()

    return settle


def anybodys(original: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a task to whoever asks, whoever has it, under the version that it has."""

    def acquire(view: Any, request: Any, now: int, rules: Any) -> Any:
        row, task = view.promise(request.id), view.task(request.id)
        if row is None or task is None or task.state != "acquired" or row.promise.timeout_at <= now:
            return original(view, request, now, rules)
        mine = replace(task, pid=request.pid, ttl=request.ttl, expires_at=now + request.ttl)
        shown = Task(task.id, "acquired", task.version, len(task.resumes), request.ttl, request.pid)
        return Response(200, row.promise, shown), (mine,)

    return acquire


class TestServers:
    def test_what_a_right_one_answers_is_accepted(self, tmp_path: Path) -> None:
        found = recorded(tmp_path)

        assert len(found.operations) == 600
        assert len({operation.answer.status for operation in found.operations if operation.answer}) >= 4
        assert linear.check(found.operations) == []

    @pytest.mark.parametrize(
        ("kind", "broken"),
        [(PromiseGet, stale_reads), (PromiseSettle, acknowledged_only), (TaskAcquire, anybodys)],
    )
    def test_a_broken_one_is_found_out(
        self, kind: type, broken: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(machine.HANDLERS, kind, broken(machine.HANDLERS[kind]))

        found = recorded(tmp_path)
        monkeypatch.undo()  # the checker goes by the right one

        violations = linear.check(found.operations)
        assert violations
        assert not any(violation.undecided for violation in violations)
