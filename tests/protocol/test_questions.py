"""The conformance questions of protocol section 10, by number.

C has one right answer each, L brackets the free choices, P is the platform as far as one
process shows it (concurrency, delivery and durability are tested with the service).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from resonate.protocol import requests as rq
from resonate.protocol.records import EMPTY, Task, Unblock
from resonate.service.service import Service, Subscription

from .bench import (
    ANY,
    YEAR,
    Bench,
    acquire,
    beat,
    begin,
    create,
    external,
    fulfill,
    listen,
    new_service,
    resolve,
    suspend,
    targeted,
    wait,
)


def test_c1_exactly_the_external_promises_are_armed(server: Bench) -> None:
    server(begin("w", 1000, pid="a", ttl=5000))
    server(external("w:1", 100))
    assert server.status(suspend("w", 1, "w:1")) == 200

    server.tick(100)
    assert server.task("w") == Task("w", "pending", 1, 1)
    assert server.offers() == [("w", 1)]

    server(create("i", 200))
    assert "i" not in [id for id, _ in server.armed()]


def test_c2_no_callback_on_an_internal_promise_by_either_door(server: Bench) -> None:
    server(begin("w", 1000, pid="a"))
    server(create("w:1", 500))

    assert server.status(wait("w:1", "w")) == 422
    assert server.status(suspend("w", 1, "w:1")) == 422
    assert server.task("w") == Task("w", "acquired", 1, 0, 1000, "a")


def test_c3_no_listener_on_an_internal_promise(server: Bench) -> None:
    server(create("i", 500))

    assert server.status(listen("i")) == 422
    assert server.tick(500).news() == []


def test_c4_create_halt_and_continue_look_at_the_deadline(server: Bench) -> None:
    server(begin("w", 100))
    server.at(100)
    assert server.status(rq.TaskHalt("w")) == 409
    answer = server(begin("w", 100))
    assert (answer.status, answer.task, list(answer.preload)) == (200, Task("w", "fulfilled", 1, 0), [])
    assert answer.promise is not None
    assert answer.promise.state == "rejected_timedout"
    assert server.status(acquire("w", 1)) == 409

    server(begin("v", 200))
    assert server.at(150).status(rq.TaskHalt("v")) == 200
    assert server.at(200).status(rq.TaskContinue("v")) == 409


def test_c5_lease_expiry_and_dispatch_look_at_the_deadline(server: Bench) -> None:
    server(begin("w", 60, ttl=50))
    server.tick(100)
    assert server.snap("messages") == []
    assert server.timers() == []
    assert server.task("w") == Task("w", "fulfilled", 1, 0)

    server.at(100)(targeted("d", 160))
    assert server.offers() == [("d", 0)]
    server.tick(40_100)
    assert server.timers() == []


def test_c6_a_wake_up_skips_an_awaiter_past_its_own_deadline(server: Bench) -> None:
    for settle in (resolve("w:1"), rq.TaskFence("v", 1, resolve("w:1"))):
        server(rq.DebugReset())
        server.at(0)
        server(begin("w", 100))
        server(begin("v", 1000))
        server(external("w:1", 1000))
        server(suspend("w", 1, "w:1"))

        assert server.at(150).status(settle) == 200

        assert server.offers() == []
        assert [t.state for t in server.snap("tasks") if t.id == "w"] != ["pending"]
        assert server.task("w") == Task("w", "fulfilled", 1, 0)


def test_c6_also_when_the_awaited_is_fulfilled_or_times_out(server: Bench) -> None:
    server(begin("w", 100))
    server(begin("v", 100))
    server(begin("child", 1000))
    server(external("late", 120))
    server(suspend("w", 1, "child"))
    server(suspend("v", 1, "late"))

    server.at(150)(fulfill("child", 1))
    server.tick(160)

    assert server.offers() == []


def test_c7_a_heartbeat_looks_at_the_deadline(server: Bench) -> None:
    server(begin("w", 150, pid="a", ttl=100))
    server.at(90)(beat("a", ("w", 1)))
    assert server.timers() == [("w", 1, 190)]

    assert server.at(160).status(beat("a", ("w", 1))) == 200
    assert server.timers() in ([], [("w", 1, 190)])


def test_c8_every_answer_shows_the_projection(server: Bench) -> None:
    server(create("i", 100))
    server.at(100)

    answer = server(rq.PromiseSearch())
    assert [(p.id, p.state, p.settled_at) for p in answer.promises or ()] == [("i", "rejected_timedout", 100)]
    assert list(server(rq.PromiseSearch(state="pending")).promises or ()) == []
    for request in (create("i", 999), resolve("i", "late"), rq.PromiseGet("i")):
        promise = server(request).promise
        assert promise is not None
        assert (promise.state, promise.value) == ("rejected_timedout", EMPTY)
    assert [p.state for p in server.snap("promises")] == ["rejected_timedout"]


def test_c8_the_preload_shows_the_projection_too(server: Bench) -> None:
    server(begin("w", branch="w"))
    server(create("w:1", 100, branch="w"))

    server.at(100)(rq.TaskRelease("w", 1))

    assert [p.state for p in server(acquire("w", 1)).preload] == ["rejected_timedout"]


def test_c9_an_offer_never_carries_a_version_that_was_not_issued(server: Bench) -> None:
    server(begin("w"))
    server.at(1)(rq.TaskRelease("w", 1))
    assert server.offers() == [("w", 1)]

    assert server.at(2).status(acquire("w", 2)) == 409
    answer = server(acquire("w", 1))

    assert answer.task is not None
    assert answer.task.version == 2


def test_c10_two_workers_never_hold_a_valid_claim(server: Bench) -> None:
    server(targeted("w", 1000))
    assert server.status(acquire("w", 0, pid="a", ttl=100)) == 200
    assert server.status(acquire("w", 0, pid="b")) == 409

    server.tick(100)
    assert server.at(101).status(acquire("w", 1, pid="b", ttl=1000)) == 200
    server.at(102)
    server(external("e"))
    assert server.status(fulfill("w", 1)) == 409
    assert server.status(rq.TaskFence("w", 1, create("w:1"))) == 409
    assert server.status(rq.PromiseGet("w:1")) == 404
    assert server.status(suspend("w", 1, "e")) == 409
    assert server.status(beat("a", ("w", 1))) == 200
    assert server.timers() == [("w", 1, 1101)]


def test_c11_a_settled_promise_takes_no_callbacks_and_no_listeners(server: Bench) -> None:
    server(external("p", 1000))
    server(begin("w"))
    server(external("e"))
    server(suspend("w", 1, "e"))
    server.at(1)(resolve("p"))
    settled = server.promise("p")

    assert server.at(2)(listen("p")).promise == settled
    assert server(wait("p", "w")).promise == settled

    assert server.snap("listeners") == []
    assert server.snap("messages") == []
    assert server.snap("callbacks") == [{"awaiter": "w", "awaited": "e"}]
    assert server.task("w") == Task("w", "suspended", 1, 0)


SCRIPT: list[tuple[int, rq.Request]] = [
    (0, begin("w", 1000, ttl=50, branch="w")),
    (0, create("w:1", 100, branch="w")),
    (0, external("e", 100)),
    (10, suspend("w", 1, "e")),
    (100, resolve("w:1")),
    (100, resolve("e")),
    (101, acquire("w", 1)),
    (110, rq.PromiseSearch(state="pending")),
    (1000, fulfill("w", 2)),
    (1001, rq.TaskHalt("w")),
    (1002, begin("w", 5000)),
]


def test_l1_reads_between_any_two_requests_change_no_other_answer(server: Bench) -> None:
    answers: dict[bool, list[rq.Response]] = {False: [], True: []}
    for reading in answers:
        server(rq.DebugReset())
        for now, request in SCRIPT:
            server.at(now)
            for id in ("w", "w:1", "e") if reading else ():
                server(rq.PromiseGet(id))
                server(rq.TaskGet(id))
            answers[reading].append(server(request))

    assert answers[True] == answers[False]


def test_l1_a_timed_out_promise_refuses_a_settle_with_or_without_a_look(server: Bench) -> None:
    server(create("i", 100))
    server(create("j", 100))

    server.at(100)(rq.PromiseGet("i"))

    answers = [server(resolve(id)).promise for id in ("i", "j")]
    assert [p.state for p in answers if p] == ["rejected_timedout"] * 2


def test_l2_and_l3_obligations_are_drained_and_timers_follow_the_state(server: Bench) -> None:
    server(external("e"))
    server(targeted("pending"))
    server(begin("acquired"))
    server(begin("suspended"))
    server(suspend("suspended", 1, "e"))
    server(begin("halted"))
    server(rq.TaskHalt("halted"))
    server(begin("fulfilled"))
    server(fulfill("fulfilled", 1))

    assert [(id, kind) for id, kind, _ in server.timers()] == [("acquired", 1), ("pending", 0)]
    server(resolve("e"))
    assert server.snap("callbacks") == []
    assert ("suspended", 0) in [(id, kind) for id, kind, _ in server.timers()]


def test_l4_a_stale_offer_is_harmless(server: Bench) -> None:
    server(targeted("w"))
    (id, version) = server.offers()[0]
    server(acquire("w", 0))

    assert server.status(acquire(id, version)) == 409


def test_l5_the_worker_chooses_the_length_of_its_lease(server: Bench) -> None:
    server(targeted("w"))
    server(acquire("w", 0, ttl=100))
    assert server.timers() == [("w", 1, 100)]

    server.at(50)(beat("p", ("w", 1)))

    assert server.timers() == [("w", 1, 150)]


def test_l6_search_is_an_extension_that_strict_mode_does_not_offer(server: Bench, strict: Bench) -> None:
    for request in (rq.PromiseSearch(), rq.TaskSearch(), rq.ScheduleSearch()):
        assert server.status(request) == 200
        assert strict.status(request) == 501


def test_l7_a_task_that_dies_together_with_its_timer_is_not_offered(server: Bench) -> None:
    server(begin("w", 100))
    server(create("w:1", 100, timer="true"))
    server(suspend("w", 1, "w:1"))

    server.tick(100)

    assert server.task("w").state == "fulfilled"
    assert server.offers() == []


def race(*calls: Callable[[], rq.Response]) -> list[rq.Response]:
    """Run every call on a thread of its own, all let go at once; answers in the order of the calls."""
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], rq.Response]) -> rq.Response:
        gate.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_p1_of_many_concurrent_claims_exactly_one_wins() -> None:
    service = new_service()
    service.handle([targeted("w")])

    answers = race(*(partial(_first, service, acquire("w", 0, pid=f"p{i}")) for i in range(50)))

    assert sorted(answer.status for answer in answers) == [200] + [409] * 49
    winner = next(answer.task for answer in answers if answer.status == 200)
    assert _first(service, rq.TaskGet("w")).task == winner


def test_p3_settling_while_suspending_never_loses_the_wake_up() -> None:
    service = new_service()
    for i in range(50):
        service.handle([begin(f"w{i}"), external(f"e{i}")])

        settled, suspended = race(
            partial(_first, service, resolve(f"e{i}")), partial(_first, service, suspend(f"w{i}", 1, f"e{i}"))
        )

        task = _first(service, rq.TaskGet(f"w{i}")).task
        assert task is not None
        assert settled.status == 200
        assert (suspended.status, task.state) in [(300, "acquired"), (200, "pending")]


def _first(service: Service, request: rq.Request) -> rq.Response:
    return service.handle([request])[0]


@pytest.mark.parametrize("settled_first", [True, False])
def test_p3_a_task_is_never_suspended_on_something_settled(server: Bench, settled_first: bool) -> None:
    server(begin("w"))
    server(external("e"))
    steps: list[rq.Request] = [resolve("e"), suspend("w", 1, "e")]

    statuses = [server.status(request) for request in (steps if settled_first else reversed(steps))]

    assert statuses == ([200, 300] if settled_first else [200, 200])
    assert server.task("w").state == ("acquired" if settled_first else "pending")


def test_p6_many_deadlines_at_once_all_settle_and_wake_their_awaiters(server: Bench) -> None:
    for i in range(300):
        server(external(f"e{i}", 100))
        server(begin(f"w{i}"))
        server(suspend(f"w{i}", 1, f"e{i}"))

    server.tick(100)

    assert {task.state for task in server.snap("tasks")} == {"pending"}
    assert len(server.offers()) == 300


def test_p7_news_waits_for_a_listener_that_connects_later() -> None:
    service = new_service()
    service.handle([external("e"), listen("e", "poll://uni@g/p"), resolve("e", "v")])

    subscription = Subscription("g", "p", lambda: None)
    service.subscribe(subscription)

    assert subscription.take(10) == [Unblock(service.handle([rq.PromiseGet("e")])[0].promise)]  # type: ignore[arg-type]
    assert subscription.take(10) == []


def test_p8_one_offer_per_task_and_one_message_per_promise_and_address(server: Bench) -> None:
    server(targeted("w"))
    server(acquire("w", 0))
    server(rq.TaskRelease("w", 1))
    server(external("e"))
    server(listen("e"))
    server(listen("e"))
    server(resolve("e"))

    assert server.offers() == [("w", 1)]
    assert server.news() == [("e", ANY)]


def test_p11_a_clock_set_back_moves_nothing_into_the_past(server: Bench) -> None:
    server.at(YEAR)(begin("w", 2 * YEAR, ttl=100))

    server.at(YEAR - 3_600_000)
    server(beat("p", ("w", 1)))
    created = server(create("p", 2 * YEAR)).promise

    assert server.timers() == [("w", 1, YEAR + 100)]
    assert created is not None
    assert created.created_at == YEAR
