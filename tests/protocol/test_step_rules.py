"""The server's own steps, rule by rule in the order of protocol section 4."""

from __future__ import annotations

import pytest

from resonate.protocol import requests as rq
from resonate.protocol.records import EMPTY, Task

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
    targeted,
    wait,
)

# 4.1 R1: promise timeout


def test_a_timeout_settles_at_the_deadline_however_late_it_fires(server: Bench) -> None:
    server(external("e", 100))

    seen = server.tick(5000).promise("e")

    assert (seen.state, seen.value, seen.settled_at) == ("rejected_timedout", EMPTY, 100)
    assert server.armed() == []


def test_a_timeout_fulfills_the_task(server: Bench) -> None:
    server(begin("w", 100))

    server.tick(100)

    assert server.snap("tasks") == [Task("w", "fulfilled", 1, 0)]
    assert server.timers() == []


def test_exactly_the_external_promises_have_an_armed_deadline(server: Bench) -> None:
    server(external("external", 100))
    server(targeted("target", 200))
    server(create("timer", 300, timer="true"))
    server(create("scope", 400, scope="global"))
    server(create("internal", 500))
    server(create("local", 600, scope="local"))

    assert server.armed() == [("external", 100), ("scope", 400), ("target", 200), ("timer", 300)]


# 4.2 R3: listeners


@pytest.mark.parametrize("timer", ["true", "false"])
def test_a_timeout_tells_the_listeners(server: Bench, timer: str) -> None:
    server(external("e", 100, timer=timer))
    server(listen("e", "http://a"))

    server.tick(100)

    assert server.news() == [("e", "http://a")]
    assert server.snap("listeners") == []
    assert server.snap("messages")[0]["message"].promise == server.promise("e")


def test_a_listener_is_told_once(server: Bench) -> None:
    server(external("e", 100))
    server(listen("e"))

    server(resolve("e"))
    server(resolve("e"))

    assert server.tick(100).news() == [("e", ANY)]


# 4.3 R4: callbacks


def test_a_timeout_wakes_the_awaiter_with_the_instant_of_the_step(server: Bench) -> None:
    server(begin("w"))
    server(external("e", 100))
    server(suspend("w", 1, "e"))

    assert server.at(150).task("w").state == "suspended"
    server.tick(200)

    assert server.task("w") == Task("w", "pending", 1, 1)
    assert server.offers() == [("w", 1)]
    assert server.timers() == [("w", 0, 30_200)]


@pytest.mark.parametrize("state", ["pending", "acquired", "halted"])
def test_an_awaiter_that_is_not_suspended_only_counts(server: Bench, state: str) -> None:
    server(targeted("w"))
    server(external("e"))
    server(wait("e", "w"))
    if state != "pending":
        server(acquire("w", 0))
    if state == "halted":
        server(rq.TaskHalt("w"))
    timers = server.timers()

    server(resolve("e"))

    assert (server.task("w").state, server.task("w").resumes) == (state, 1)
    assert server.timers() == timers


def test_the_same_awaited_counts_once(server: Bench) -> None:
    server(begin("w"))
    server(external("e"))
    server(wait("e", "w"))
    server(suspend("w", 1, "e"))

    server(resolve("e"))

    assert server.task("w") == Task("w", "pending", 1, 1)


def test_settling_wakes_several_awaiters(server: Bench) -> None:
    server(external("e"))
    for id in ("a", "b"):
        server(begin(id))
        server(suspend(id, 1, "e"))

    server(resolve("e"))

    assert server.offers() == [("a", 1), ("b", 1)]


@pytest.mark.parametrize("how", ["fulfilled", "dead"])
def test_an_awaiter_that_is_over_is_left_alone(server: Bench, how: str) -> None:
    server(begin("w", 100))
    server(external("e"))
    server(wait("e", "w"))
    if how == "fulfilled":
        server(fulfill("w", 1))

    server.at(100)(resolve("e"))

    assert server.offers() == []
    assert server.task("w") == Task("w", "fulfilled", 1, 0)
    assert server.snap("callbacks") == []


def test_a_chain_of_timeouts_wakes_nobody_who_dies_at_the_same_instant(server: Bench) -> None:
    server(begin("outer"))
    server(begin("middle", 100))
    server(create("inner", 100, timer="true"))
    server(suspend("middle", 1, "inner"))
    server(suspend("outer", 1, "middle"))

    server.tick(100)

    assert server.task("middle").state == "fulfilled"
    assert server.offers() == [("outer", 1)]


# 4.4 R5: lease expiry


def test_a_lease_that_ran_out_makes_the_task_pending_at_the_same_version(server: Bench) -> None:
    server(begin("w", ttl=100))
    server(external("e"))
    server(wait("e", "w"))
    server(resolve("e"))

    assert server.tick(99).task("w").state == "acquired"
    server.tick(100)

    assert server.task("w") == Task("w", "pending", 1, 1)
    assert server.offers() == [("w", 1)]
    assert server.timers() == [("w", 0, 30_100)]


def test_a_heartbeat_moves_the_lease_away(server: Bench) -> None:
    server(begin("w", ttl=100))
    server.at(60)(beat("p", ("w", 1)))

    assert server.tick(159).task("w").state == "acquired"
    assert server.tick(160).task("w").state == "pending"


# 4.5 R6: dispatch


def test_an_undelivered_offer_is_renewed_at_a_fixed_interval_and_never_doubled(server: Bench) -> None:
    server(targeted("w"))

    assert server.tick(29_999).timers() == [("w", 0, 30_000)]
    assert server.tick(30_000).timers() == [("w", 0, 60_000)]
    assert server.tick(95_000).timers() == [("w", 0, 125_000)]
    assert server.offers() == [("w", 0)]


def test_a_newer_offer_replaces_the_older(server: Bench) -> None:
    server(targeted("w"))
    server(acquire("w", 0))
    server(rq.TaskRelease("w", 1))

    assert server.offers() == [("w", 1)]


def test_an_offer_does_not_collide_with_news_of_a_strange_id(server: Bench) -> None:
    strange = f"e:notify:{ANY}"
    server(external("e"))
    server(listen("e"))
    server(targeted(strange))

    server(resolve("e"))

    assert server.offers() == [(strange, 0)]
    assert server.news() == [("e", ANY)]


# 4.6 R7 and 3.19 to 3.21: schedules

MINUTE = 60_000
WAIT = 1000


def schedule(
    id: str = "s",
    promise_id: str = "{{.id}}-{{.timestamp}}",
    *,
    timeout: int = YEAR,
    cron: str = "* * * * *",
    **names: str,
) -> rq.ScheduleCreate:
    promise_tags = {"resonate:target": ANY} | {f"resonate:{k}": v for k, v in names.items()}
    return rq.ScheduleCreate(id, cron, promise_id, timeout, promise_tags=promise_tags)


def stored(server: Bench, id: str = "s") -> tuple[int | None, int]:
    found = server(rq.ScheduleGet(id)).schedule
    assert found is not None
    return found.last_run_at, found.next_run_at


def test_a_schedule_is_stored_once_and_shows_its_next_occurrence(server: Bench) -> None:
    first = server.at(MINUTE)(schedule())
    again = server.at(MINUTE + 1)(schedule(cron="0 0 * * *", timeout=1))

    assert first.status == again.status == 200
    assert first.schedule == again.schedule == server(rq.ScheduleGet("s")).schedule
    assert first.schedule is not None
    assert (first.schedule.created_at, first.schedule.next_run_at) == (MINUTE, 2 * MINUTE)
    assert first.schedule.last_run_at is None


def test_a_schedule_without_target_or_readable_cron_is_400(server: Bench) -> None:
    assert server.status(rq.ScheduleCreate("s", "* * * * *", "x", 1)) == 400
    assert server.status(schedule(cron="0 0 30 2 *")) == 400
    assert server.status(rq.ScheduleGet("s")) == 404


def test_a_schedule_that_would_never_fire_again_is_400(server: Bench) -> None:
    end_of_the_calendar = 253_402_300_799_000

    answer = server.at(end_of_the_calendar)(schedule())

    assert answer.status == 400
    assert answer.error
    assert server.status(rq.ScheduleGet("s")) == 404


def test_get_and_delete_are_404_for_unknown_schedules(server: Bench) -> None:
    server(schedule())

    assert server.status(rq.ScheduleDelete("s")) == 200
    assert server.status(rq.ScheduleDelete("s")) == 404
    assert server.status(rq.ScheduleGet("s")) == 404


def test_a_deleted_schedule_fires_no_more_and_its_promises_stay(server: Bench) -> None:
    server(schedule())
    server.tick(MINUTE)

    server(rq.ScheduleDelete("s"))
    server.tick(5 * MINUTE)

    assert [p.id for p in server.snap("promises")] == ["s-60000"]


def paused(text: str) -> rq.ScheduleCreate:
    return schedule(paused=text)


def test_a_paused_schedule_leaves_its_occurrences_out_and_goes_on_with_the_next_one(server: Bench) -> None:
    server(schedule(color="red"))
    server.tick(MINUTE)

    pause = server.at(MINUTE + 1)(paused("true")).schedule
    server.tick(5 * MINUTE)
    during = stored(server)
    resume = server.at(5 * MINUTE + 1)(paused("false")).schedule
    server.tick(6 * MINUTE)

    assert pause is not None
    assert pause.promise_tags == {"resonate:target": ANY, "resonate:color": "red", "resonate:paused": "true"}
    assert during == (MINUTE, 6 * MINUTE)
    assert resume is not None
    assert resume.promise_tags == {"resonate:target": ANY, "resonate:color": "red"}
    assert (resume.created_at, resume.last_run_at, resume.next_run_at) == (0, MINUTE, 6 * MINUTE)
    assert sorted(p.id for p in server.snap("promises")) == ["s-360000", "s-60000"]
    assert "resonate:paused" not in server.promise("s-360000").tags


def test_a_pause_is_over_with_what_it_missed_even_if_no_step_looked_meanwhile(server: Bench) -> None:
    server(schedule())
    server(paused("true"))

    server.at(10 * MINUTE)(paused("false"))
    server.tick(10 * MINUTE)

    assert stored(server) == (None, 11 * MINUTE)
    assert server.snap("promises") == []


def test_creating_a_schedule_again_leaves_it_paused_and_pausing_twice_changes_nothing(server: Bench) -> None:
    server(schedule())
    first = server(paused("true")).schedule

    again = server.at(1)(schedule()).schedule
    twice = server.at(2)(paused("true")).schedule

    assert first == again == twice == server(rq.ScheduleGet("s")).schedule


@pytest.mark.parametrize("text", ["false", "perhaps"])
def test_only_true_pauses(server: Bench, text: str) -> None:
    server(paused(text))
    server.at(1)(paused(text))

    server.tick(MINUTE)

    assert stored(server) == (MINUTE, 2 * MINUTE)
    assert server.promise("s-60000").tags.get("resonate:paused") == (None if text == "false" else text)


def test_the_bare_specification_knows_no_pause(strict: Bench) -> None:
    strict(paused("true"))
    strict(paused("false"))

    strict.tick(MINUTE)

    assert stored(strict) == (MINUTE, 2 * MINUTE)


def test_a_schedule_may_begin_paused(server: Bench) -> None:
    server(paused("true"))

    server.tick(MINUTE)
    server(paused("false"))
    server.tick(2 * MINUTE)

    assert [p.id for p in server.snap("promises")] == ["s-120000"]


def test_an_occurrence_creates_its_promise_as_of_its_own_instant(server: Bench) -> None:
    server.at(1)(schedule(timeout=5 * MINUTE))

    server.tick(MINUTE + 5)

    promise = server.promise("s-60000")
    assert (promise.created_at, promise.timeout_at) == (MINUTE, 6 * MINUTE)
    assert stored(server) == (MINUTE, 2 * MINUTE)
    assert server.task("s-60000") == Task("s-60000", "pending", 0, 0)
    assert server.offers() == [("s-60000", 0)]


def test_the_promise_of_an_occurrence_is_a_root_of_its_own(server: Bench) -> None:
    server(schedule(origin="elsewhere", color="red"))

    server.tick(MINUTE)

    assert server.promise("s-60000").tags == {
        "resonate:target": ANY,
        "resonate:color": "red",
        "resonate:schedule": "s",
        "resonate:origin": "s-60000",
        "resonate:branch": "s-60000",
        "resonate:parent": "s-60000",
    }


def test_every_missed_occurrence_fires_at_its_nominal_time(server: Bench) -> None:
    server(schedule())

    server.tick(3 * MINUTE + 1)

    assert sorted(p.created_at for p in server.snap("promises")) == [MINUTE, 2 * MINUTE, 3 * MINUTE]
    assert stored(server) == (3 * MINUTE, 4 * MINUTE)


def test_more_missed_occurrences_than_one_transaction_takes_all_fire(server: Bench) -> None:
    server(schedule())

    server.tick(250 * MINUTE)

    assert len(server.snap("promises")) == 250
    assert stored(server) == (250 * MINUTE, 251 * MINUTE)


def test_an_occurrence_past_its_own_timeout_reads_as_timed_out_and_is_not_offered(server: Bench) -> None:
    server(schedule(timeout=WAIT))

    server.tick(MINUTE + WAIT)

    promise = server.promise("s-60000")
    assert (promise.state, promise.created_at, promise.settled_at) == ("rejected_timedout", MINUTE, MINUTE + WAIT)
    assert server.offers() == []
    assert server.task("s-60000") == Task("s-60000", "fulfilled", 0, 0)


def test_an_occurrence_without_any_time_is_born_settled(server: Bench) -> None:
    server(schedule(timeout=0))

    server.tick(MINUTE)

    promise = server.promise("s-60000")
    assert (promise.state, promise.created_at, promise.settled_at) == ("rejected_timedout", MINUTE, MINUTE)


def test_an_occurrence_adopts_a_promise_that_exists(server: Bench) -> None:
    server(schedule(promise_id="fixed"))
    before = server(create("fixed", 5 * YEAR)).promise

    server.tick(2 * MINUTE)

    assert server.promise("fixed") == before
    assert server.status(rq.TaskGet("fixed")) == 404
    assert stored(server) == (2 * MINUTE, 3 * MINUTE)


def test_a_template_without_an_instant_fires_once_and_then_adopts(server: Bench) -> None:
    server(schedule(promise_id="{{.id}}-once"))

    server.tick(3 * MINUTE)

    assert [p.created_at for p in server.snap("promises")] == [MINUTE]


def test_the_deadline_of_an_occurrence_saturates(server: Bench) -> None:
    server(schedule(timeout=2**63 - 1))

    server.tick(MINUTE)

    assert server.promise("s-60000").timeout_at == 2**63 - 1


def test_a_schedule_honours_the_delay_of_its_promises(server: Bench) -> None:
    server(schedule(delay=str(MINUTE + 500)))

    assert server.tick(MINUTE).offers() == []
    assert server.tick(MINUTE + 500).offers() == [("s-60000", 0)]


def test_schedule_search_filters_by_promise_tags_and_pages_by_ten(server: Bench) -> None:
    for i in range(12):
        server(schedule(f"s{i:02}", half=str(i // 6)))

    def found(**query: object) -> list[str]:
        answer = server(rq.ScheduleSearch(**query))  # type: ignore[arg-type]
        return [s.id for s in answer.schedules or ()]

    assert found() == [f"s{i:02}" for i in range(10)]
    assert found(cursor=server(rq.ScheduleSearch()).cursor) == ["s10", "s11"]
    assert found(tags={"resonate:half": "1"}) == [f"s{i:02}" for i in range(6, 12)]
    assert server(rq.ScheduleSearch(limit=12)).cursor is None
    assert server.status(rq.ScheduleSearch(limit=1001)) == 400


# 3.22 debug, 4.8 order


def test_reset_deletes_everything_schedules_too(server: Bench) -> None:
    server(begin("w"))
    server(external("e"))
    server(listen("e"))
    server(schedule())

    assert server.status(rq.DebugReset()) == 200

    for key in ("promises", "promiseTimeouts", "callbacks", "listeners", "tasks", "taskTimeouts", "messages"):
        assert server.snap(key) == []
    assert server.status(rq.ScheduleGet("s")) == 404
    assert server.tick(YEAR).snap("promises") == []


def test_start_and_stop_answer_200(server: Bench) -> None:
    assert [server.status(rq.DebugStart()), server.status(rq.DebugStop())] == [200, 200]


def test_one_tick_reaches_a_fixed_point(server: Bench) -> None:
    server(begin("w"))
    server(create("timer", 100, timer="true"))
    server(suspend("w", 1, "timer"))
    server(schedule())

    server.tick(2 * MINUTE)
    before = server(rq.DebugSnap()).snapshot
    server.tick(2 * MINUTE)

    assert server(rq.DebugSnap()).snapshot == before
    assert ("w", 1) in server.offers()


def test_a_repeated_tick_changes_nothing(server: Bench) -> None:
    server(targeted("w"))
    server(begin("v", ttl=100))
    server.tick(30_000)
    before = server(rq.DebugSnap()).snapshot

    assert server.tick(30_000)(rq.DebugSnap()).snapshot == before


def test_a_settlement_and_its_consequences_are_one_transition(server: Bench) -> None:
    server(begin("w"))
    server(external("e"))
    server(suspend("w", 1, "e"))

    server(resolve("e"))

    assert server.task("w").state == "pending"
    assert server.snap("callbacks") == []
