"""Field rules of section 3: every rule refuses what breaks it and says field, rule and value."""

from __future__ import annotations

from typing import Any

import pytest

from resonate.protocol.requests import (
    DebugReset,
    DebugTick,
    ExecutionFailures,
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
    TaskRef,
    TaskRelease,
    TaskSearch,
    TaskSuspend,
)
from resonate.protocol.validation import check, expand

TARGET = {"resonate:target": "poll://any@g"}
NUL = "a\0b"
TOO_BIG = 2**63


def created(id: str = "w", timeout_at: int = 1000, **tags: str) -> PromiseCreate:
    return PromiseCreate(id, timeout_at, tags={f"resonate:{name}": value for name, value in tags.items()})


def begun(id: str = "w", timeout_at: int = 1000, **tags: str) -> TaskCreate:
    return TaskCreate("p", 10, created(id, timeout_at, **({"target": "poll://any@g"} | tags)))


def suspended(*awaited: str, awaiter: str = "w") -> TaskSuspend:
    return TaskSuspend("w", 1, tuple(PromiseRegisterCallback(id, awaiter) for id in awaited))


def scheduled(**changes: Any) -> ScheduleCreate:
    good: dict[str, Any] = {
        "id": "s",
        "cron": "* * * * *",
        "promise_id": "{{.id}}-{{.timestamp}}",
        "promise_timeout": 0,
        "promise_tags": TARGET,
    }
    return ScheduleCreate(**(good | changes))


@pytest.mark.parametrize(
    "request_",
    [
        PromiseGet("w"),
        PromiseGet("ü" * 1024),
        created(),
        created(timeout_at=0),
        created(timeout_at=2**63 - 1),
        created("a" * 2048),
        created("w", origin="w", branch="w", parent="w"),
        created("w.1", origin="w", branch="w", parent="w"),
        created("w:1.2", origin="w", branch="w:1", parent="w:1"),
        created("w.x", origin="w.x"),
        created("w", prefix="no.rule:here"),
        created("w", target="poll://any@g", delay="0"),
        created("w", target="poll://any@g", delay="999"),
        created("w", target="poll://any@g", timer="true"),
        created("w", timer="true"),
        created("w", external="whatever", scope="whatever"),
        PromiseSettle("w", "resolved"),
        PromiseSettle("w", "rejected"),
        PromiseSettle("w", "rejected_canceled"),
        PromiseRegisterCallback("a", "b"),
        PromiseRegisterCallback("w.1", "v.1"),
        PromiseRegisterListener("a", "http://h"),
        PromiseRegisterListener("a", "gcps://p/t"),
        PromiseSearch(),
        PromiseSearch("rejected_timedout", {"a": "b"}, 1, ""),
        PromiseSearch(limit=1000),
        TaskGet("w"),
        begun(),
        begun(timeout_at=0),
        TaskAcquire("w", 0, "p", 1),
        TaskRelease("w", 0),
        TaskFulfill("w", 0, PromiseSettle("w", "resolved")),
        suspended("a"),
        suspended("a", "b"),
        TaskFence("w", 0, created("w.1")),
        TaskFence("w", 0, PromiseSettle("w.1", "resolved")),
        TaskHeartbeat("p", ()),
        TaskHeartbeat("p", (TaskRef("a", 1), TaskRef("b", -1), TaskRef("", 1))),
        TaskHalt("w"),
        TaskContinue("w"),
        TaskSearch(),
        TaskSearch("halted", 1000, "x"),
        ScheduleGet("s"),
        ScheduleDelete("s"),
        scheduled(),
        scheduled(id="a.b:c", promise_id="fixed"),
        scheduled(promise_tags=TARGET | {"resonate:delay": "99999", "resonate:origin": "elsewhere"}),
        scheduled(promise_tags=TARGET | {"resonate:timer": "true"}),
        ScheduleSearch(),
        ScheduleSearch({}, 1000),
        DebugReset(),
        DebugTick(-1),
    ],
    ids=repr,
)
def test_a_request_that_keeps_all_rules_passes(request_: Request) -> None:
    assert check(request_) is None


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        # ids, wherever one is named
        (PromiseGet(""), "id must not be empty"),
        (PromiseGet(NUL), "id must not hold a NUL character, got 'a\\x00b'"),
        (PromiseGet("a\ud800"), "id must be Unicode text without lone surrogates, got 'a\\ud800'"),
        (TaskGet(""), "id must not be empty"),
        (TaskHalt(""), "id must not be empty"),
        (TaskContinue(""), "id must not be empty"),
        (ScheduleGet(""), "id must not be empty"),
        (ScheduleDelete(""), "id must not be empty"),
        (created("a" * 2049), "id must have at most 2048 bytes, got 2049"),
        (created("ü" * 1025), "id must have at most 2048 bytes, got 2050"),
        (created("w:1" + ".1" * 1023), "1024 calls below its root. Recurse less deeply"),
        # 3.2 promise.create
        (created(""), "id must not be empty"),
        (created(timeout_at=-1), "timeoutAt must be from 0 to 2^63 - 1, got -1"),
        (created(timeout_at=TOO_BIG), "timeoutAt must be from 0 to 2^63 - 1, got 9223372036854775808"),
        (created("w", origin="v"), "tags.resonate:origin must be the id itself or an ancestor of it, got 'v'"),
        (created("wide.1", origin="w"), "tags.resonate:origin"),
        (created("w", origin=""), "tags.resonate:origin"),
        (created("w.1", origin="w", branch="v"), "tags.resonate:branch"),
        (created("w.1", origin="w", branch="w.1.1"), "tags.resonate:branch"),
        (created("w.1", parent="w.2"), "tags.resonate:parent"),
        (created(target="poll://any@g", delay="1e3"), "tags.resonate:delay must be a decimal integer"),
        (created(target="poll://any@g", delay="-1"), "tags.resonate:delay must be a decimal integer"),
        (created(target="poll://any@g", delay=""), "tags.resonate:delay must be a decimal integer"),
        (created(target="poll://any@g", delay="٣"), "tags.resonate:delay must be a decimal integer"),
        (created(target="poll://any@g", delay=str(TOO_BIG)), "tags.resonate:delay must be a decimal integer"),
        (created(target="poll://any@g", delay="9" * 5000), "tags.resonate:delay must be a decimal integer"),
        (created(target="poll://any@g", delay="1000"), "tags.resonate:delay must be less than timeoutAt (1000)"),
        (created(delay="1"), "tags.resonate:delay needs the tag resonate:target"),
        (created(target=""), "tags.resonate:target must be an address (poll://any@GROUP"),
        (created(target="workers"), "tags.resonate:target must be an address"),
        # 3.3 promise.settle
        (PromiseSettle("", "resolved"), "id must not be empty"),
        (PromiseSettle("w", "pending"), "state must be one of rejected, rejected_canceled, resolved, got 'pending'"),  # type: ignore[arg-type]
        (PromiseSettle("w", "rejected_timedout"), "state must be one of"),  # type: ignore[arg-type]
        # 3.4 and 3.5
        (PromiseRegisterCallback("", "w"), "awaited must not be empty"),
        (PromiseRegisterCallback("w", ""), "awaiter must not be empty"),
        (PromiseRegisterCallback("w", "w"), "awaited must differ from awaiter"),
        (PromiseRegisterListener("", "http://h"), "awaited must not be empty"),
        (PromiseRegisterListener("w", ""), "address must not be empty"),
        (PromiseRegisterListener("w", "poll://x@y"), "address must be an address"),
        # the searches
        (PromiseSearch(limit=0), "limit must be from 1 to 1000, got 0"),
        (PromiseSearch(limit=1001), "limit must be from 1 to 1000, got 1001"),
        (PromiseSearch(state="done"), "state must be one of pending, rejected"),  # type: ignore[arg-type]
        (PromiseSearch(state=""), "state must be one of"),  # type: ignore[arg-type]
        (TaskSearch(limit=0), "limit must be from 1 to 1000"),
        (TaskSearch(state="resolved"), "state must be one of acquired, fulfilled"),  # type: ignore[arg-type]
        (ScheduleSearch(limit=1001), "limit must be from 1 to 1000"),
        # 3.8 task.create
        (TaskCreate("", 10, created(target="http://h")), "pid must not be empty"),
        (TaskCreate("p", 0, created(target="http://h")), "ttl must be from 1"),
        (TaskCreate("p", TOO_BIG, created(target="http://h")), "ttl must be from 1"),
        (begun(""), "action.data.id must not be empty"),
        (begun(timeout_at=-1), "action.data.timeoutAt must be"),
        (begun("w", origin="v"), "action.data.tags.resonate:origin must be"),
        (begun(target="workers"), "action.data.tags.resonate:target must be an address"),
        (TaskCreate("p", 10, created()), "action.data.tags must hold resonate:target"),
        (begun(delay="1"), "action.data.tags must not hold resonate:delay"),
        # 3.9 and 3.11 to 3.14
        (TaskAcquire("", 0, "p", 1), "id must not be empty"),
        (TaskAcquire("w", -1, "p", 1), "version must be from 0"),
        (TaskAcquire("w", 0, "", 1), "pid must not be empty"),
        (TaskAcquire("w", 0, "p", 0), "ttl must be from 1"),
        (TaskRelease("", 0), "id must not be empty"),
        (TaskRelease("w", -1), "version must be from 0"),
        (TaskRelease("w", TOO_BIG), "version must be from 0"),
        (TaskFulfill("", 0, PromiseSettle("w", "resolved")), "id must not be empty"),
        (TaskFulfill("w", -1, PromiseSettle("w", "resolved")), "version must be from 0"),
        (TaskFulfill("w", 0, PromiseSettle("", "resolved")), "action.data.id must not be empty"),
        (TaskFulfill("w", 0, PromiseSettle("w", "pending")), "action.data.state must be one of"),  # type: ignore[arg-type]
        (TaskFulfill("w", 0, PromiseSettle("v", "resolved")), "action.data.id must be the task's id 'w', got 'v'"),
        (TaskSuspend("", 1, ()), "id must not be empty"),
        (TaskSuspend("w", -1, ()), "version must be from 0"),
        (TaskSuspend("w", 1, ()), "actions must not be empty"),
        (suspended("a", awaiter="v"), "actions[0].data.awaiter must be the task's id 'w', got 'v'"),
        (suspended("a", "w"), "actions[1].data.awaited must not be the task's own id"),
        (suspended("a", "b", "a"), "actions[2].data.awaited must not occur twice, got 'a'"),
        (suspended("a", ""), "actions[1].data.awaited must not be empty"),
        (TaskFence("", 0, created("w.1")), "id must not be empty"),
        (TaskFence("w", -1, created("w.1")), "version must be from 0"),
        (TaskFence("w", 0, created("w")), "action.data.id must not be the task's own id"),
        (TaskFence("w", 0, PromiseSettle("w", "resolved")), "action.data.id must not be the task's own id"),
        (TaskFence("w", 0, created("w.1", -1)), "action.data.timeoutAt must be"),
        (TaskFence("w", 0, PromiseSettle("w.1", "x")), "action.data.state must be one of"),  # type: ignore[arg-type]
        # 3.15
        (TaskHeartbeat("", ()), "pid must not be empty"),
        (TaskHeartbeat("p", (TaskRef("a", 1), TaskRef("a", TOO_BIG))), "tasks[1].version must be from"),
        # 3.20 schedule.create
        (scheduled(id=""), "id must not be empty"),
        (scheduled(promise_id=""), "promiseId must not be empty"),
        (scheduled(promise_id=NUL), "promiseId, expanded, must not hold a NUL character"),
        (scheduled(promise_id="{{.id}}" * 3000), "promiseId, expanded, must have at most 2048 bytes"),
        (scheduled(promise_timeout=-1), "promiseTimeout must be from 0"),
        (scheduled(promise_tags={}), "promiseTags must hold resonate:target"),
        (scheduled(promise_tags={"resonate:target": "workers"}), "promiseTags.resonate:target must be an address"),
        (scheduled(promise_tags=TARGET | {"resonate:delay": "soon"}), "promiseTags.resonate:delay must be a decimal"),
        (scheduled(cron=""), "cron must be a cron expression: it has 0 fields, 5 or 6 (seconds first) are allowed"),
        (scheduled(cron="0 0 30 2 *"), "cron must be a cron expression: its day of month is out of range"),
        (scheduled(cron="0 0 12 * * * 2030"), "cron must be a cron expression: it has 7 fields"),
        (DebugTick(TOO_BIG), "time must be from"),
        (ExecutionFailures(shown=-1), "shown must be from 0 to 1000, got -1"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_broken_rule_is_named_with_its_field_and_the_value(request_: Request, complaint: str) -> None:
    problem = check(request_)

    assert problem is not None
    assert complaint in problem


def test_a_long_wrong_value_is_cut_in_the_text() -> None:
    problem = check(PromiseRegisterListener("w", "x" * 10_000))

    assert problem is not None
    assert len(problem) < 400
    assert problem.endswith("…")


@pytest.mark.parametrize(
    "request_",
    [
        created(target="poll://any@g", timer="true"),
        begun(timer="true"),
        scheduled(promise_tags=TARGET | {"resonate:timer": "true"}),
    ],
    ids=repr,
)
def test_only_strict_mode_refuses_a_timer_with_a_target(request_: Request) -> None:
    assert check(request_) is None
    problem = check(request_, strict=True)
    assert problem is not None
    assert "must not hold both resonate:timer and resonate:target" in problem


def test_strict_mode_lets_a_timer_of_another_spelling_have_a_target() -> None:
    assert check(created(target="poll://any@g", timer="True"), strict=True) is None
    assert check(created(timer="true"), strict=True) is None


def test_strict_mode_leaves_the_inner_action_of_a_fence_to_the_machine() -> None:
    assert check(TaskFence("w", 0, created("w.1", -1)), strict=True) is None
    assert check(TaskFence("w", 0, created("w")), strict=True) is not None
    assert check(TaskFence("w", -1, created("w.1")), strict=True) is not None


@pytest.mark.parametrize(
    ("address", "accepted", "accepted_strictly"),
    [
        ("poll://any@g", True, True),
        ("poll://x@y", False, True),
        ("http://", False, True),
        ("gcps://p/t", True, False),
        ("POLL://any@g", True, False),
        ("workers", False, False),
    ],
)
def test_strict_mode_judges_listeners_as_the_specification_does(
    address: str, accepted: bool, accepted_strictly: bool
) -> None:
    listener = PromiseRegisterListener("w", address)

    assert (check(listener) is None) is accepted
    assert (check(listener, strict=True) is None) is accepted_strictly


def test_a_template_expands_to_the_schedule_and_the_instant_and_nothing_else_is_special() -> None:
    assert expand("{{.id}}-{{.timestamp}}", "s", 60_000) == "s-60000"
    assert expand("{{ .id }}{{.x}}%d", "s", 1) == "{{ .id }}{{.x}}%d"
    assert expand("{{.id}}{{.id}}", "s", 1) == "ss"
