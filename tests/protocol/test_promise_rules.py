"""Promise requests, rule by rule in the order of protocol sections 3.0 to 3.6."""

from __future__ import annotations

import pytest

from resonate.protocol import requests as rq
from resonate.protocol.records import EMPTY, Promise, Task, Value

from .bench import (
    ANY,
    YEAR,
    Bench,
    acquire,
    begin,
    carrying,
    create,
    external,
    listen,
    resolve,
    suspend,
    tags,
    targeted,
    wait,
)

# 3.0 projection


def test_at_the_deadline_itself_a_promise_reads_as_timed_out(server: Bench) -> None:
    server(external("p", 100, k="v"))

    assert server.at(99).promise("p").state == "pending"
    assert server.at(100).promise("p") == Promise(
        "p", "rejected_timedout", EMPTY, EMPTY, tags(external="true", k="v"), 100, 0, 100
    )


@pytest.mark.parametrize(
    ("timer", "verdict"),
    [("true", "resolved"), ("True", "rejected_timedout"), ("1", "rejected_timedout"), ("", "rejected_timedout")],
)
def test_only_a_timer_of_exactly_true_resolves_at_its_deadline(server: Bench, timer: str, verdict: str) -> None:
    server(create("p", 100, timer=timer))

    seen = server.at(500).promise("p")

    assert (seen.state, seen.value, seen.settled_at) == (verdict, EMPTY, 100)


@pytest.mark.parametrize("halt", [False, True])
def test_the_task_of_a_dead_promise_reads_as_fulfilled_with_its_version_and_nothing_else(
    server: Bench, halt: bool
) -> None:
    server(begin("w", 100))
    if halt:
        server(rq.TaskHalt("w"))

    assert server.at(100).task("w") == Task("w", "fulfilled", 1, 0)


# 3.1 promise.get


def test_get_answers_the_record_or_404(server: Bench) -> None:
    assert server.status(rq.PromiseGet("p")) == 404
    assert server.status(rq.PromiseGet("")) == 400

    server.at(7)(carrying("p", Value({"h": "1"}, "x"), 100))

    assert server.promise("p") == Promise("p", "pending", Value({"h": "1"}, "x"), EMPTY, {}, 100, 7)


def test_an_error_says_which_promise_is_unknown(server: Bench) -> None:
    error = server(rq.PromiseGet("ghost-7")).error

    assert error


# 3.2 promise.create


def test_create_answers_the_new_record(server: Bench) -> None:
    answer = server.at(5)(create("p", 100))

    assert answer.status == 200
    assert answer.promise == Promise("p", "pending", EMPTY, EMPTY, {}, 100, 5)


def test_create_on_a_known_id_changes_nothing_and_answers_what_is_stored(server: Bench) -> None:
    first = server(carrying("p", Value(data="x"), 100)).promise

    again = server.at(50)(targeted("p", 999))

    assert (again.status, again.promise) == (200, first)
    assert server.status(rq.TaskGet("p")) == 404


def test_create_on_a_dead_promise_shows_the_timeout(server: Bench) -> None:
    server(create("p", 100))

    again = server.at(100)(create("p", 999)).promise

    assert again is not None
    assert (again.state, again.settled_at) == ("rejected_timedout", 100)


def test_a_refused_create_leaves_no_trace(server: Bench) -> None:
    assert server.status(create("p", -1)) == 400
    assert server.status(create("p.1", origin="q")) == 400
    assert server.status(targeted("p", 100, delay="100")) == 400

    assert server.snap("promises") == []
    assert server.snap("tasks") == []


def test_creating_a_target_bears_a_pending_task_that_is_offered_at_once(server: Bench) -> None:
    server.at(5)(targeted("w"))

    assert server.task("w") == Task("w", "pending", 0, 0)
    assert server.offers() == [("w", 0)]
    assert server.timers() == [("w", 0, 30_005)]
    assert server.snap("messages")[0]["address"] == ANY


def test_a_delayed_task_is_offered_at_the_instant_it_names(server: Bench) -> None:
    server(targeted("w", delay="500"))
    assert server.offers() == []
    assert server.timers() == [("w", 0, 500)]

    assert server.tick(499).offers() == []
    assert server.tick(500).offers() == [("w", 0)]
    assert server.timers() == [("w", 0, 30_500)]


def test_a_delay_in_the_past_is_no_delay(server: Bench) -> None:
    server.at(100)(targeted("w", delay="50"))

    assert server.offers() == [("w", 0)]
    assert server.timers() == [("w", 0, 30_100)]


@pytest.mark.parametrize(("timer", "verdict"), [("true", "resolved"), ("false", "rejected_timedout")])
@pytest.mark.parametrize("late_by", [0, 30])
def test_a_promise_created_past_its_deadline_is_born_settled_in_the_past(
    server: Bench, timer: str, verdict: str, late_by: int
) -> None:
    answer = server.at(100)(create("p", 100 - late_by, timer=timer))

    deadline = 100 - late_by
    assert answer.promise == Promise("p", verdict, EMPTY, EMPTY, tags(timer=timer), deadline, deadline, deadline)  # type: ignore[arg-type]
    assert server.armed() == []


def test_a_target_created_past_its_deadline_bears_a_fulfilled_task_and_no_message(server: Bench) -> None:
    server.at(100)(targeted("w", 100))

    assert server.task("w") == Task("w", "fulfilled", 0, 0)
    assert server.snap("messages") == []
    assert server.timers() == []


@pytest.mark.parametrize("separator", ".:")
def test_both_dialects_of_ids_are_accepted(server: Bench, separator: str) -> None:
    root = "a.b:c"
    child = f"{root}{separator}1"

    assert server.status(create(child, origin=root, branch=root, parent=root)) == 200


def test_values_come_back_as_they_were_sent(server: Bench) -> None:
    values = [Value(), Value({}, ""), Value({}, None), Value(None, ""), Value({"é": "\n"}, "n\0l")]
    for position, value in enumerate(values):
        server(carrying(f"p{position}", value))
        server(rq.PromiseSettle(f"p{position}", "rejected", value))

    assert [server.promise(f"p{i}").param for i in range(len(values))] == values
    assert [server.promise(f"p{i}").value for i in range(len(values))] == values


def test_a_timer_with_a_target_is_accepted_and_never_offered_until_it_resolves(server: Bench) -> None:
    server(targeted("w", 100_000, timer="true"))
    assert server.timers() == [("w", 0, 100_000)]

    assert server.tick(99_999).offers() == []
    server.tick(100_000)

    assert server.offers() == []
    assert server.promise("w").state == "resolved"
    assert server.task("w").state == "fulfilled"


def test_a_targeted_timer_stays_away_after_release_lease_end_and_continue(server: Bench) -> None:
    server(targeted("w", 100_000, timer="true"))

    server(acquire("w", 0))
    server(rq.TaskRelease("w", 1))
    assert server.timers() == [("w", 0, 100_000)]
    server(acquire("w", 1, ttl=10))
    assert server.tick(10).timers() == [("w", 0, 100_000)]
    server(rq.TaskHalt("w"))
    server(rq.TaskContinue("w"))
    assert server.timers() == [("w", 0, 100_000)]
    assert server.offers() == []


def test_strict_mode_refuses_a_timer_with_a_target(strict: Bench) -> None:
    assert strict.status(targeted("w", timer="true")) == 400
    assert strict.status(begin("w", timer="true")) == 400


# 3.3 promise.settle


@pytest.mark.parametrize("state", ["resolved", "rejected", "rejected_canceled"])
def test_settle_stores_state_value_and_instant(server: Bench, state: rq.SettledState) -> None:
    server(create("p", 100))

    answer = server.at(7)(rq.PromiseSettle("p", state, Value(data="v")))

    assert answer.promise == Promise("p", state, EMPTY, Value(data="v"), {}, 100, 0, 7)
    assert server.promise("p") == answer.promise


def test_settle_answers_400_for_other_states_and_404_for_unknown_ids(server: Bench) -> None:
    assert server.status(rq.PromiseSettle("p", "rejected_timedout")) == 400  # type: ignore[arg-type]
    assert server.status(resolve("p")) == 404


def test_a_second_settle_is_200_with_the_first_outcome(server: Bench) -> None:
    server(create("p", 100))
    first = server.at(1)(resolve("p", "first")).promise

    second = server.at(2)(rq.PromiseSettle("p", "rejected", Value(data="second")))

    assert (second.status, second.promise) == (200, first)


def test_a_late_settle_is_200_with_the_timeout(server: Bench) -> None:
    server(create("p", 100))

    late = server.at(100)(resolve("p", "late"))

    assert late.status == 200
    assert late.promise is not None
    assert (late.promise.state, late.promise.value, late.promise.settled_at) == ("rejected_timedout", EMPTY, 100)


def test_settling_is_not_fenced_and_fulfills_the_task_in_any_state(server: Bench) -> None:
    server(external("e"))
    server(begin("acquired"))
    server(begin("suspended"))
    server(suspend("suspended", 1, "e"))
    server(begin("halted"))
    server(rq.TaskHalt("halted"))
    server(targeted("pending"))

    for id, version in [("acquired", 1), ("suspended", 1), ("halted", 1), ("pending", 0)]:
        assert server.status(resolve(id)) == 200
        assert server.task(id) == Task(id, "fulfilled", version, 0)
    assert server.timers() == []
    assert server.status(rq.TaskRelease("acquired", 1)) == 409


# 3.4 promise.register_callback


def test_a_callback_needs_two_known_promises_a_task_and_an_external_awaited(server: Bench) -> None:
    server(targeted("w"))
    server(external("e"))
    server(create("internal"))

    assert server.status(wait("e", "e")) == 400
    assert server.status(wait("ghost", "w")) == 404
    assert server.status(wait("ghost", "ghost2")) == 404
    assert server.status(wait("e", "ghost")) == 422
    assert server.status(wait("e", "internal")) == 422
    assert server.status(wait("internal", "w")) == 422
    assert server.snap("callbacks") == []


def test_a_settled_internal_promise_is_refused_too(server: Bench) -> None:
    server(targeted("w"))
    server(create("internal"))
    server(resolve("internal"))

    assert server.status(wait("internal", "w")) == 422
    assert server.status(listen("internal")) == 422


@pytest.mark.parametrize(
    ("names", "accepted"),
    [
        ({"external": "true"}, True),
        ({"external": "True"}, False),
        ({"timer": "true"}, True),
        ({"timer": "1"}, False),
        ({"target": ANY}, True),
        ({"scope": "global"}, True),
        ({"scope": "local"}, False),
        ({}, False),
    ],
)
def test_external_is_a_target_a_timer_an_external_tag_or_a_global_scope(
    server: Bench, names: dict[str, str], accepted: bool
) -> None:
    server(targeted("w"))
    server(rq.PromiseCreate("x", 500, tags=tags(**names)))

    assert server.status(wait("x", "w")) == (200 if accepted else 422)
    assert server.status(listen("x")) == (200 if accepted else 422)
    assert (("x", 500) in server.armed()) is accepted


def test_strict_mode_does_not_take_a_global_scope_for_external(strict: Bench) -> None:
    strict(targeted("w"))
    strict(create("x", scope="global"))

    assert strict.status(wait("x", "w")) == 422
    assert strict.status(listen("x")) == 422
    assert [id for id, _ in strict.armed()] == ["w"]


def test_a_callback_is_kept_once_and_answers_the_awaited_promise(server: Bench) -> None:
    server(targeted("w"))
    awaited = server(external("e")).promise

    answers = [server(wait("e", "w")) for _ in range(2)]

    assert [(a.status, a.promise) for a in answers] == [(200, awaited)] * 2
    assert server.snap("callbacks") == [{"awaiter": "w", "awaited": "e"}]
    assert server.task("w").state == "pending"


def test_a_callback_crosses_origins(server: Bench) -> None:
    server(targeted("here:1", origin="here"))
    server(external("there:1", origin="there"))

    assert server.status(wait("there:1", "here:1")) == 200


@pytest.mark.parametrize("dead", ["e", "w"])
def test_a_callback_between_a_dead_and_a_live_promise_is_200_and_not_kept(server: Bench, dead: str) -> None:
    deadlines = {"e": YEAR, "w": YEAR, dead: 100}
    server(targeted("w", deadlines["w"]))
    server(external("e", deadlines["e"]))

    assert server.at(100).status(wait("e", "w")) == 200
    assert server.snap("callbacks") == []


# 3.5 promise.register_listener


def test_a_listener_needs_an_address_and_an_external_promise(server: Bench) -> None:
    server(external("e"))
    server(create("internal"))

    assert server.status(listen("e", "")) == 400
    assert server.status(listen("e", "poll://g")) == 400
    assert server.status(listen("ghost")) == 404
    assert server.status(listen("internal")) == 422
    assert server.snap("listeners") == []


def test_a_listener_is_kept_once_per_address_and_told_once(server: Bench) -> None:
    server(external("e"))
    for address in ("poll://uni@g/b", "http://a", "poll://uni@g/b"):
        assert server.status(listen("e", address)) == 200
    assert len(server.snap("listeners")) == 2

    server(resolve("e", "v"))

    assert server.snap("listeners") == []
    assert server.news() == [("e", "http://a"), ("e", "poll://uni@g/b")]
    settled = server.promise("e")
    assert all(row["message"].promise == settled for row in server.snap("messages"))


@pytest.mark.parametrize("how", ["settled", "dead"])
def test_a_listener_on_a_settled_promise_gets_the_record_and_no_message_ever(server: Bench, how: str) -> None:
    server(external("e", 100))
    if how == "settled":
        server(resolve("e"))

    answer = server.at(100)(listen("e"))

    assert answer.promise is not None
    assert answer.promise.state != "pending"
    assert server.tick(YEAR).news() == []


def test_strict_mode_lets_anything_with_an_at_sign_listen(strict: Bench) -> None:
    strict(external("e"))

    assert strict.status(listen("e", "poll://x@y")) == 200
    assert strict.status(listen("e", "gcps://p/t")) == 400


# 3.6 promise.search


def found(server: Bench, **query: object) -> list[str]:
    answer = server(rq.PromiseSearch(**query))  # type: ignore[arg-type]
    assert answer.promises is not None
    return [promise.id for promise in answer.promises]


def test_search_lists_by_ascending_bytes_of_the_id(server: Bench) -> None:
    for id in ("r.2", "r.10", "é", "z", "a", "Z"):
        server(create(id))

    assert found(server) == ["Z", "a", "r.10", "r.2", "z", "é"]


def test_search_filters_by_state_and_by_every_tag(server: Bench) -> None:
    server(create("a", color="red", size="1"))
    server(create("b", color="red"))
    server(create("c", color="blue"))
    server(resolve("b"))

    assert found(server, tags=tags(color="red")) == ["a", "b"]
    assert found(server, tags=tags(color="red", size="1")) == ["a"]
    assert found(server, tags={}) == ["a", "b", "c"]
    assert found(server, state="resolved") == ["b"]
    assert found(server, state="pending", tags=tags(color="red")) == ["a"]


def test_search_filters_and_shows_what_a_read_would_show(server: Bench) -> None:
    server(create("dead", 100))
    server(create("live", 200))
    server.at(100)

    assert found(server, state="pending") == ["live"]
    assert found(server, state="rejected_timedout") == ["dead"]
    assert [p.settled_at for p in server(rq.PromiseSearch()).promises or ()] == [100, None]


def test_search_pages_without_gap_or_repeat_and_the_last_page_has_no_cursor(server: Bench) -> None:
    ids = [f"p{i}" for i in range(5)]
    for id in ids:
        server(create(id, parity=str(len(id) % 2)))
    seen: list[str] = []
    cursor: str | None = None
    pages = 0

    while pages == 0 or cursor is not None:
        answer = server(rq.PromiseSearch(limit=1, cursor=cursor))
        seen += [p.id for p in answer.promises or ()]
        cursor, pages = answer.cursor, pages + 1

    assert (seen, pages) == (ids, 5)


def test_a_cursor_appears_only_if_another_match_follows(server: Bench) -> None:
    for i in range(4):
        server(create(f"p{i}", half=str(i // 2)))

    page = server(rq.PromiseSearch(tags=tags(half="0"), limit=2))
    assert [p.id for p in page.promises or ()] == ["p0", "p1"]
    assert page.cursor is None
    assert server(rq.PromiseSearch(limit=4)).cursor is None
    assert server(rq.PromiseSearch(limit=3)).cursor is not None
    assert found(server, cursor="zzz") == []


PREFIXES = ["a", "a.", "a.1", "a.2", "aa", "b", "c", "é", "\U0010ffff", ""]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_search_with_a_prefix_finds_the_ids_that_begin_with_it_page_by_page(server: Bench, prefix: str) -> None:
    ids = ["A", "a", "a.1", "a.10", "a.11", "a.2", "a/", "aa", "b", "é", "éa", "\uffff", "\U0010ffff"]
    for id in ids:
        server(targeted(id))
        server(rq.ScheduleCreate(id, "* * * * *", id, 1, promise_tags=tags(target=ANY)))

    for cursor in (None, "", "A", "a", "a.", "a.1", "a.10", "ab", "z", "\U0010ffff"):
        for limit in (1, 2, 100):
            wanted = [id for id in ids if id.startswith(prefix) and (cursor is None or id > cursor)]
            promises = server(rq.PromiseSearch(limit=limit, cursor=cursor, prefix=prefix))
            tasks = server(rq.TaskSearch(limit=limit, cursor=cursor, prefix=prefix))
            schedules = server(rq.ScheduleSearch(limit=limit, cursor=cursor, prefix=prefix))

            for records in (promises.promises, tasks.tasks, schedules.schedules):
                assert [record.id for record in records or ()] == wanted[:limit]
            rest = wanted[limit - 1] if len(wanted) > limit else None
            assert promises.cursor == tasks.cursor == schedules.cursor == rest


def test_search_shows_100_unless_told_otherwise_and_at_most_1000(server: Bench) -> None:
    for i in range(101):
        server(create(f"p{i:03}"))

    assert len(found(server)) == 100
    assert len(found(server, limit=1000)) == 101
    assert server.status(rq.PromiseSearch(limit=1001)) == 400
    assert server.status(rq.PromiseSearch(limit=0)) == 400


def test_strict_mode_offers_no_search(strict: Bench) -> None:
    assert strict.status(rq.PromiseSearch()) == 501
    assert strict.status(rq.TaskSearch()) == 501
    assert strict.status(rq.ScheduleSearch()) == 501
    assert strict.status(rq.PromiseSearch(limit=0)) == 400
