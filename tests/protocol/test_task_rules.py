"""Task requests, rule by rule in the order of protocol sections 3.7 to 3.18."""

from __future__ import annotations

import pytest

from resonate.protocol import requests as rq
from resonate.protocol.records import Promise, Task, Value

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
    resolve,
    suspend,
    tags,
    targeted,
    wait,
)

HELD = Task("w", "acquired", 1, 0, 1000, "p")


def ids(promises: object) -> list[str]:
    assert isinstance(promises, list | tuple)
    return [promise.id for promise in promises]


# 3.7 task.get


def test_get_answers_404_for_unknown_and_untargeted_ids(server: Bench) -> None:
    server(create("p"))

    assert server.status(rq.TaskGet("ghost")) == 404
    assert server.status(rq.TaskGet("p")) == 404
    assert server.status(rq.TaskGet("")) == 400


# 3.8 task.create


def test_task_create_bears_promise_and_acquired_task_without_an_offer(server: Bench) -> None:
    answer = server.at(5)(begin("w", 100, pid="p", ttl=10))

    assert answer.status == 200
    assert answer.promise == Promise("w", "pending", Value(), Value(), tags(target=ANY), 100, 5)
    assert answer.task == server.task("w") == Task("w", "acquired", 1, 0, 10, "p")
    assert list(answer.preload) == []
    assert server.timers() == [("w", 1, 15)]
    assert server.snap("messages") == []


@pytest.mark.parametrize(("timer", "verdict"), [("false", "rejected_timedout"), ("true", "resolved")])
def test_task_create_past_the_deadline_answers_a_fulfilled_task_of_version_0(
    server: Bench, timer: str, verdict: str
) -> None:
    answer = server.at(100)(begin("w", 100, timer=timer))

    assert answer.task == Task("w", "fulfilled", 0, 0)
    assert answer.promise is not None
    assert (answer.promise.state, answer.promise.created_at, answer.promise.settled_at) == (verdict, 100, 100)
    assert list(answer.preload) == []
    assert server.snap("messages") == []


def test_task_create_demands_a_target_no_delay_and_a_lease(server: Bench) -> None:
    assert server.status(rq.TaskCreate("p", 10, create("w"))) == 400
    assert server.status(begin("w", delay="5")) == 400
    assert server.status(begin("w", ttl=0)) == 400
    assert server.status(begin("w", pid="")) == 400
    assert server.snap("promises") == []


def test_an_untargeted_promise_has_no_task_to_create_even_when_settled(server: Bench) -> None:
    server(create("w"))
    assert server.status(begin("w")) == 422
    server(resolve("w"))
    assert server.status(begin("w")) == 422


def test_task_create_on_a_settled_target_answers_the_outcome_and_no_preload(server: Bench) -> None:
    server(begin("w", branch="w"))
    server(create("w.1", branch="w"))
    server(fulfill("w", 1, "done"))

    answer = server(begin("w"))

    assert answer.status == 200
    assert answer.task == Task("w", "fulfilled", 1, 0)
    assert answer.promise == server.promise("w")
    assert list(answer.preload) == []


def test_task_create_acquires_a_pending_task_and_keeps_the_stored_promise(server: Bench) -> None:
    stored = server(targeted("w", 100)).promise

    answer = server.at(1)(begin("w", 999, pid="q", ttl=50))

    assert answer.promise == stored
    assert answer.task == Task("w", "acquired", 1, 0, 50, "q")
    assert server.timers() == [("w", 1, 51)]
    assert server.offers() == []


def test_task_create_acquires_before_the_delay_is_over(server: Bench) -> None:
    server(targeted("w", delay="500"))

    assert server.status(begin("w")) == 200


def test_task_create_is_409_while_acquired_suspended_or_halted_even_for_the_same_pid(server: Bench) -> None:
    server(external("e"))
    server(begin("w"))
    assert server.status(begin("w")) == 409
    server(suspend("w", 1, "e"))
    assert server.status(begin("w")) == 409
    server(rq.TaskHalt("w"))
    assert server.status(begin("w")) == 409
    assert server.task("w") == Task("w", "halted", 1, 0)


# 3.9 task.acquire


def test_acquire_raises_the_version_and_takes_the_lease(server: Bench) -> None:
    promise = server(targeted("w")).promise

    answer = server.at(7)(acquire("w", 0, pid="q", ttl=20))

    assert answer.status == 200
    assert answer.promise == promise
    assert answer.task == server.task("w") == Task("w", "acquired", 1, 0, 20, "q")
    assert server.timers() == [("w", 1, 27)]
    assert server.offers() == []


def test_acquire_is_404_or_409_by_task_state_and_version(server: Bench) -> None:
    server(targeted("w"))

    assert server.status(acquire("ghost", 0)) == 404
    assert server.status(acquire("w", 1)) == 409
    assert server.status(acquire("w", 0)) == 200
    assert server.status(acquire("w", 0)) == 409
    assert server.status(acquire("w", 1)) == 409


def test_acquire_is_409_once_the_promise_is_dead(server: Bench) -> None:
    server(targeted("w", 100))

    assert server.at(99).status(acquire("w", 0)) == 200
    server(rq.TaskRelease("w", 1))
    assert server.at(100).status(acquire("w", 1)) == 409


def test_acquire_empties_the_resumes_and_names_them_in_process(server: Bench) -> None:
    server(begin("w"))
    for id in ("e1", "e2"):
        server(external(id))
        server(wait(id, "w"))
        server(resolve(id))
    server(rq.TaskRelease("w", 1))
    assert server.task("w").resumes == 2

    answer = server(acquire("w", 1))

    assert answer.task == Task("w", "acquired", 2, 0, 1000, "p")
    assert sorted(answer.resumed) == ["e1", "e2"]


def test_a_delayed_task_may_be_acquired_early_by_who_knows_it(server: Bench) -> None:
    server(targeted("w", delay="500"))

    assert server.status(acquire("w", 0)) == 200


@pytest.mark.parametrize("ttl", [1, 2**63 - 1])
def test_a_lease_of_any_length_fits_into_64_bits(server: Bench, ttl: int) -> None:
    server.at(1000)(targeted("w", 2**63 - 1))

    assert server.status(acquire("w", 0, ttl=ttl)) == 200
    assert server.timers() == [("w", 1, min(1000 + ttl, 2**63 - 1))]


# 3.10 preload


def test_preload_is_the_rest_of_the_branch_in_order_and_projected(server: Bench) -> None:
    server(targeted("w", branch="w"))
    server(create("w.2", branch="w"))
    server(create("w.10", 100, branch="w"))
    server(create("w.1.1", branch="w"))
    server(create("w.3", branch="w.3"))
    server(create("w.4"))
    server(resolve("w.2", "v"))

    preload = server.at(100)(acquire("w", 0)).preload

    assert ids(preload) == ["w.1.1", "w.10", "w.2"]
    assert [p.state for p in preload] == ["pending", "rejected_timedout", "resolved"]


def test_preload_is_empty_without_a_branch_tag(server: Bench) -> None:
    server(targeted("w"))
    server(create("w.1"))

    assert list(server(acquire("w", 0)).preload) == []


def test_preload_comes_with_create_fence_and_300_and_not_when_declined(server: Bench) -> None:
    server(create("w.1", branch="w"))
    server(external("e"))
    server(resolve("e"))
    request = suspend("w", 1, "e")
    fence = rq.TaskFence("w", 1, create("w.2", branch="w"))

    assert ids(server(begin("w", branch="w")).preload) == ["w.1"]
    assert ids(server(fence).preload) == ["w.1", "w.2"]
    assert ids(server(request).preload) == ["w.1", "w.2"]


def test_a_preload_that_is_declined_is_empty(server: Bench) -> None:
    server(create("w.1", branch="w"))
    server(external("e"))
    server(resolve("e"))
    begun = rq.TaskCreate("p", 10, targeted("w", branch="w"), preload=False)

    assert list(server(begun).preload) == []
    assert list(server(rq.TaskFence("w", 1, create("w.2"), preload=False)).preload) == []
    declined = rq.TaskSuspend("w", 1, (wait("e", "w"),), preload=False)
    assert list(server(declined).preload) == []
    server(rq.TaskRelease("w", 1))
    assert list(server(rq.TaskAcquire("w", 1, "p", 10, preload=False)).preload) == []


# Holding a task: the guard of release, fulfill, suspend and fence

GUARDED: dict[str, rq.Request] = {
    "release": rq.TaskRelease("w", 1),
    "fulfill": fulfill("w", 1),
    "suspend": suspend("w", 1, "e"),
    "fence": rq.TaskFence("w", 1, create("w.1")),
}


@pytest.fixture(params=list(GUARDED))
def guarded(request: pytest.FixtureRequest) -> rq.Request:
    return GUARDED[request.param]


def test_a_guarded_request_for_an_unknown_task_is_404(server: Bench, guarded: rq.Request) -> None:
    server(create("w"))

    assert server.status(guarded) == 404


def test_a_guarded_request_needs_an_acquired_task(server: Bench, guarded: rq.Request) -> None:
    server(external("e"))
    server(targeted("w"))
    assert server.status(guarded) == 409
    server(acquire("w", 0))
    server(rq.TaskHalt("w"))
    assert server.status(guarded) == 409
    assert server.status(rq.PromiseGet("w.1")) == 404


def test_a_guarded_request_needs_the_current_version(server: Bench, guarded: rq.Request) -> None:
    server(external("e"))
    server(begin("w"))
    server(rq.TaskRelease("w", 1))
    server(acquire("w", 1))

    assert server.status(guarded) == 409
    assert server.task("w").version == 2
    assert server.promise("w").state == "pending"
    assert server.status(rq.PromiseGet("w.1")) == 404


def test_a_guarded_request_needs_a_live_promise(server: Bench, guarded: rq.Request) -> None:
    server(external("e"))
    server(begin("w", 100))

    assert server.at(100).status(guarded) == 409
    assert server.status(rq.PromiseGet("w.1")) == 404


def test_a_guarded_request_of_a_settled_promise_is_409(server: Bench, guarded: rq.Request) -> None:
    server(external("e"))
    server(begin("w"))
    server(resolve("w"))

    assert server.status(guarded) == 409


def test_a_lease_past_its_end_still_holds_until_the_server_takes_it_back(server: Bench, guarded: rq.Request) -> None:
    server(external("e"))
    server(begin("w", ttl=10))

    assert server.at(500).status(guarded) == 200


def test_after_the_server_took_the_lease_back_the_holder_is_refused(server: Bench, guarded: rq.Request) -> None:
    server(external("e"))
    server(begin("w", ttl=10))

    assert server.tick(10).status(guarded) == 409


# 3.11 task.release


def test_release_offers_the_task_again_at_the_same_version(server: Bench) -> None:
    server(begin("w"))

    assert server.at(5)(rq.TaskRelease("w", 1)).status == 200

    assert server.task("w") == Task("w", "pending", 1, 0)
    assert server.offers() == [("w", 1)]
    assert server.timers() == [("w", 0, 30_005)]


def test_release_keeps_the_resumes(server: Bench) -> None:
    server(begin("w"))
    server(external("e"))
    server(wait("e", "w"))
    server(resolve("e"))

    server(rq.TaskRelease("w", 1))

    assert server.task("w").resumes == 1


def test_a_released_task_does_not_wait_for_its_old_delay(server: Bench) -> None:
    server(targeted("w", delay="500"))
    server(acquire("w", 0))

    server.at(1)(rq.TaskRelease("w", 1))

    assert server.offers() == [("w", 1)]


# 3.12 task.fulfill


@pytest.mark.parametrize("state", ["resolved", "rejected", "rejected_canceled"])
def test_fulfill_settles_the_promise_and_ends_the_task(server: Bench, state: rq.SettledState) -> None:
    server(begin("w"))

    answer = server.at(5)(rq.TaskFulfill("w", 1, rq.PromiseSettle("w", state, Value(data="v"))))

    assert answer.status == 200
    assert answer.promise == server.promise("w")
    assert (server.promise("w").state, server.promise("w").value) == (state, Value(data="v"))
    assert server.promise("w").settled_at == 5
    assert server.task("w") == Task("w", "fulfilled", 1, 0)
    assert server.timers() == []


def test_fulfill_must_name_its_own_promise(server: Bench) -> None:
    server(begin("w"))
    server(create("v"))

    assert server.status(rq.TaskFulfill("w", 1, resolve("v"))) == 400
    assert server.task("w") == HELD


def test_a_second_fulfill_is_409(server: Bench) -> None:
    server(begin("w"))
    server(fulfill("w", 1, "first"))

    assert server.status(fulfill("w", 1, "first")) == 409


def test_fulfill_wakes_awaiters_and_tells_listeners(server: Bench) -> None:
    server(begin("w"))
    server(begin("child"))
    server(suspend("w", 1, "child"))
    server(listen("child", "http://h"))

    server(fulfill("child", 1))

    assert server.task("w") == Task("w", "pending", 1, 1)
    assert server.offers() == [("w", 1)]
    assert server.news() == [("child", "http://h")]


# 3.13 task.suspend


def test_suspend_registers_a_callback_on_each_and_frees_the_lease(server: Bench) -> None:
    server(begin("w"))
    server(external("e1"))
    server(external("e2"))

    answer = server(suspend("w", 1, "e2", "e1"))

    assert (answer.status, list(answer.preload)) == (200, [])
    assert server.task("w") == Task("w", "suspended", 1, 0)
    assert server.timers() == []
    assert sorted(row["awaited"] for row in server.snap("callbacks")) == ["e1", "e2"]


@pytest.mark.parametrize(
    "request_",
    [
        suspend("w", 1),
        suspend("w", 1, "w"),
        suspend("w", 1, "e", "e"),
        suspend("w", 1, ""),
        rq.TaskSuspend("w", 1, (wait("e", "v"),)),
    ],
    ids=["nothing", "itself", "twice", "empty", "foreign awaiter"],
)
def test_a_malformed_suspend_is_400_and_leaves_the_task_held(server: Bench, request_: rq.Request) -> None:
    server(begin("w"))
    server(external("e"))

    assert server.status(request_) == 400
    assert server.task("w") == HELD
    assert server.snap("callbacks") == []


def test_malformed_beats_missing(server: Bench) -> None:
    assert server.status(suspend("ghost", 1)) == 400


@pytest.mark.parametrize("order", [("settled", "bad"), ("bad", "settled")])
@pytest.mark.parametrize("bad", ["ghost", "internal"])
def test_an_unsuitable_awaited_beats_a_settled_one_in_any_order(
    server: Bench, order: tuple[str, str], bad: str
) -> None:
    server(begin("w"))
    server(create("internal"))
    server(external("settled"))
    server(resolve("settled"))

    answer = server(suspend("w", 1, *(bad if name == "bad" else name for name in order)))

    assert answer.status == 422
    assert server.task("w") == HELD
    assert server.snap("callbacks") == []


def test_a_settled_awaited_keeps_the_task_running_with_the_same_lease(server: Bench) -> None:
    server(begin("w", ttl=100))
    server(external("e1"))
    server(external("e2"))
    server(wait("e1", "w"))
    server.at(50)(resolve("e1"))
    assert server.task("w").resumes == 1

    answer = server.at(60)(suspend("w", 1, "e2", "e1"))

    assert answer.status == 300
    assert server.task("w") == Task("w", "acquired", 1, 0, 100, "p")
    assert server.timers() == [("w", 1, 100)]
    assert server.snap("callbacks") == []


def test_an_awaited_past_its_deadline_counts_as_settled(server: Bench) -> None:
    server(begin("w"))
    server(external("e", 100))

    assert server.at(100).status(suspend("w", 1, "e")) == 300


def test_earlier_resumes_do_not_prevent_a_suspend_on_others_and_are_forgotten(server: Bench) -> None:
    server(begin("w"))
    server(external("e1"))
    server(external("e2"))
    server(wait("e1", "w"))
    server(resolve("e1"))

    assert server.status(suspend("w", 1, "e2")) == 200
    assert server.task("w") == Task("w", "suspended", 1, 0)


def test_the_first_of_several_awaited_wakes_the_task_and_the_others_only_count(server: Bench) -> None:
    server(begin("w"))
    for id in ("e1", "e2", "e3"):
        server(external(id))
    server(suspend("w", 1, "e1", "e2", "e3"))

    server.at(1)(resolve("e2"))
    assert server.task("w") == Task("w", "pending", 1, 1)
    assert server.offers() == [("w", 1)]
    server(resolve("e1"))
    assert server.task("w").resumes == 2
    server(acquire("w", 1))
    server(resolve("e3"))
    assert server.task("w").resumes == 1
    assert server.snap("callbacks") == []


def test_a_suspend_crosses_origins(server: Bench) -> None:
    server(begin("here:1"))
    server(external("there:1"))

    assert server.status(suspend("here:1", 1, "there:1")) == 200


# 3.14 task.fence


def test_a_fence_runs_its_create_with_the_same_instant(server: Bench) -> None:
    server(begin("w"))

    answer = server.at(5)(rq.TaskFence("w", 1, targeted("w.1", 50)))

    assert answer.status == 200
    assert answer.action is not None
    assert (answer.action.status, answer.action.promise) == (200, server.promise("w.1"))
    assert server.promise("w.1").created_at == 5
    assert server.offers() == [("w.1", 0)]


def test_a_fence_runs_its_settle(server: Bench) -> None:
    server(begin("w"))
    server(external("w.1"))
    server(listen("w.1"))

    answer = server.at(5)(rq.TaskFence("w", 1, resolve("w.1", "v")))

    assert answer.action is not None
    assert answer.action.promise == server.promise("w.1")
    assert server.promise("w.1").value == Value(data="v")
    assert server.news() == [("w.1", ANY)]


def test_settling_an_unknown_promise_is_an_inner_404(server: Bench) -> None:
    server(begin("w"))

    answer = server(rq.TaskFence("w", 1, resolve("ghost")))

    assert (answer.status, answer.error) == (200, None)
    assert answer.action is not None
    assert answer.action.status == 404
    assert answer.action.error
    assert answer.action.promise is None


def test_a_fence_must_not_touch_its_own_promise(server: Bench) -> None:
    server(begin("w"))

    assert server.status(rq.TaskFence("w", 1, resolve("w"))) == 400
    assert server.status(rq.TaskFence("w", 1, create("w"))) == 400


def test_a_malformed_action_is_an_outer_400_even_for_an_unknown_task(server: Bench) -> None:
    assert server.status(rq.TaskFence("ghost", 1, create("x", -1))) == 400
    assert server.status(rq.TaskFence("ghost", 1, create("x.1", origin="y"))) == 400


def test_strict_mode_reports_a_malformed_action_inside(strict: Bench) -> None:
    assert strict.status(rq.TaskFence("ghost", 1, targeted("x", timer="true"))) == 404
    strict(begin("w"))

    answer = strict(rq.TaskFence("w", 1, targeted("x", timer="true")))

    assert answer.status == 200
    assert answer.action is not None
    assert answer.action.status == 400
    assert answer.action.error
    assert strict.status(rq.PromiseGet("x")) == 404


def test_a_fence_may_settle_what_its_own_task_waits_for(server: Bench) -> None:
    server(begin("w"))
    server(external("e"))
    server(wait("e", "w"))

    server(rq.TaskFence("w", 1, resolve("e")))

    assert server.task("w") == Task("w", "acquired", 1, 1, 1000, "p")


# 3.15 task.heartbeat


def test_a_heartbeat_extends_exactly_the_leases_that_match(server: Bench) -> None:
    server(begin("mine", ttl=100))
    server(begin("stale", ttl=100))
    server(begin("other", ttl=100, pid="q"))
    server(targeted("idle"))
    server(begin("unnamed", ttl=100))

    answer = server.at(50)(beat("p", ("mine", 1), ("stale", 0), ("other", 1), ("idle", 0), ("ghost", 1)))

    assert answer.status == 200
    leases = [row for row in server.timers() if row[1] == 1]
    assert leases == [("mine", 1, 150), ("other", 1, 100), ("stale", 1, 100), ("unnamed", 1, 100)]


def test_a_heartbeat_may_be_empty_and_cross_origins(server: Bench) -> None:
    server(begin("a:1", ttl=100))
    server(begin("b:1", ttl=100))

    assert server.status(beat("p")) == 200
    assert server.at(50).status(beat("p", ("a:1", 1), ("b:1", 1))) == 200
    assert server.timers() == [("a:1", 1, 150), ("b:1", 1, 150)]


def test_a_heartbeat_of_nobody_is_400(server: Bench) -> None:
    assert server.status(beat("", ("w", 1))) == 400


def test_a_heartbeat_saves_a_lease_that_ran_out_but_was_not_taken_back(server: Bench) -> None:
    server(begin("w", ttl=100))

    server.at(150)(beat("p", ("w", 1)))

    assert server.timers() == [("w", 1, 250)]
    assert server.tick(249).task("w").state == "acquired"


def test_a_heartbeat_cannot_revive_a_lease_that_was_taken_back(server: Bench) -> None:
    server(begin("w", ttl=100))

    server.tick(100)(beat("p", ("w", 1)))

    assert server.task("w").state == "pending"


def test_a_heartbeat_saturates_at_64_bits(server: Bench) -> None:
    server.at(10)(begin("w", 2**63 - 1, ttl=2**63 - 1))

    server.at(20)(beat("p", ("w", 1)))

    assert server.timers() == [("w", 1, 2**63 - 1)]


# 3.16 and 3.17 halt, continue


@pytest.mark.parametrize("state", ["pending", "acquired", "suspended"])
def test_halt_takes_the_task_from_anybody_and_is_idempotent(server: Bench, state: str) -> None:
    server(external("e"))
    server(targeted("w"))
    version = 0
    if state != "pending":
        server(acquire("w", 0))
        version = 1
    if state == "suspended":
        server(suspend("w", 1, "e"))

    assert [server.status(rq.TaskHalt("w")) for _ in range(2)] == [200, 200]
    assert server.task("w") == Task("w", "halted", version, 0)
    assert server.timers() == []
    assert server.tick(YEAR - 1).offers() in ([], [("w", 0)])  # an offer already made may linger


def test_halt_and_continue_are_404_for_unknown_tasks_and_409_for_fulfilled_ones(server: Bench) -> None:
    assert server.status(rq.TaskHalt("ghost")) == 404
    assert server.status(rq.TaskContinue("ghost")) == 404
    server(begin("w"))
    server(fulfill("w", 1))
    assert server.status(rq.TaskHalt("w")) == 409
    assert server.status(rq.TaskContinue("w")) == 409


def test_only_a_halted_task_continues_and_it_is_offered_at_once(server: Bench) -> None:
    server(begin("w"))
    assert server.status(rq.TaskContinue("w")) == 409
    server(rq.TaskHalt("w"))

    assert server.at(5).status(rq.TaskContinue("w")) == 200

    assert server.task("w") == Task("w", "pending", 1, 0)
    assert server.offers() == [("w", 1)]
    assert server.timers() == [("w", 0, 30_005)]


def test_a_halted_task_counts_resumes_and_keeps_them_on_continue(server: Bench) -> None:
    server(external("e"))
    server(begin("w"))
    server(suspend("w", 1, "e"))
    server(rq.TaskHalt("w"))

    server(resolve("e"))
    assert server.task("w") == Task("w", "halted", 1, 1)
    assert server.offers() == []
    server(rq.TaskContinue("w"))

    assert server.task("w") == Task("w", "pending", 1, 1)


def test_a_halted_task_still_times_out(server: Bench) -> None:
    server(begin("w", 100))
    server(rq.TaskHalt("w"))

    assert server.tick(100).snap("tasks") == [Task("w", "fulfilled", 1, 0)]


# 3.18 task.search


def test_task_search_lists_projected_tasks_by_id_and_state(server: Bench) -> None:
    server(begin("b"))
    server(targeted("a"))
    server(begin("c", 100))
    server(create("untargeted"))
    server.at(100)

    def found(**query: object) -> list[str]:
        answer = server(rq.TaskSearch(**query))  # type: ignore[arg-type]
        return [task.id for task in answer.tasks or ()]

    assert found() == ["a", "b", "c"]
    assert found(state="acquired") == ["b"]
    assert found(state="fulfilled") == ["c"]
    assert found(limit=2) == ["a", "b"]
    assert found(limit=2, cursor=server(rq.TaskSearch(limit=2)).cursor) == ["c"]
    assert server(rq.TaskSearch(limit=3)).cursor is None
    assert server.status(rq.TaskSearch(limit=1001)) == 400
