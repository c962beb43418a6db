"""Envelopes (sections 1 and 2): shapes, order of checks, both ends of a connection."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict

from resonate.protocol import requests as rq
from resonate.protocol import shapes, wire
from resonate.protocol.listing import Fault, Holder, Load, Wanted
from resonate.protocol.records import Execute, Promise, Schedule, Task, Unblock, Value
from resonate.protocol.requests import Request, Response
from resonate.protocol.wire import Call, Refusal, WireError

PROMISE = Promise("a", "resolved", Value(), Value(data="v"), {"k": "v"}, 10, 1, 5)
PENDING = Promise("b", "pending", Value(headers={}, data=""), Value(), {}, 10, 1)
TASK = Task("a", "acquired", 1, 0, 100, "p")
IDLE = Task("a", "pending", 0, 2)
SCHEDULE = Schedule("s", "* * * * *", "x", 5, Value(), {"k": "v"}, 1, 60_000)
TARGET = {"resonate:target": "poll://any@g"}


def body(kind: Any, data: Any, **head: Any) -> bytes:
    return json.dumps({"kind": kind, "head": {"corrId": "c", "version": "2026-04-01", **head}, "data": data}).encode()


def decoded(raw: bytes, **options: Any) -> Call:
    call = wire.decode(raw, **options)
    assert isinstance(call, Call), call
    return call


def refused(raw: bytes, **options: Any) -> dict[str, Any]:
    refusal = wire.decode(raw, **options)
    assert isinstance(refusal, Refusal), refusal
    envelope: dict[str, Any] = json.loads(refusal.body)
    assert envelope["head"]["status"] == refusal.status
    assert envelope["head"]["version"] == "2026-04-01"
    assert isinstance(envelope["data"], str)
    return envelope


def never(request: Request, now: int | None) -> Response:
    raise AssertionError(f"handled {request}")


# Every kind, there and back.

SETTLE = rq.PromiseSettle("a", "resolved", Value(data="v"))
CREATE = rq.PromiseCreate("a", 10, Value({"h": "1"}, "x"), {"k": "v"})

WANTED = Wanted(("pending", "halted"), "f", "g", {"k": "v"}, "a", 1, 9)

EXCHANGES: list[tuple[Request, Response]] = [
    (rq.PromiseGet("a"), Response(200, promise=PROMISE)),
    (CREATE, Response(200, promise=PENDING)),
    (SETTLE, Response(200, promise=PROMISE)),
    (rq.PromiseRegisterCallback("a", "b"), Response(200, promise=PENDING)),
    (rq.PromiseRegisterListener("a", "http://h"), Response(200, promise=PENDING)),
    (rq.PromiseSearch(), Response(200, promises=[])),
    (rq.PromiseSearch("pending", {"k": "v"}, 2, "a"), Response(200, promises=[PENDING], cursor="b")),
    (rq.TaskGet("a"), Response(200, task=IDLE)),
    (
        rq.TaskCreate("p", 100, rq.PromiseCreate("a", 10, tags=TARGET)),
        Response(200, task=TASK, promise=PENDING, preload=[PROMISE]),
    ),
    (rq.TaskAcquire("a", 0, "p", 100), Response(200, task=TASK, promise=PENDING, preload=[PROMISE, PENDING])),
    (rq.TaskRelease("a", 1), Response(200)),
    (rq.TaskFulfill("a", 1, SETTLE), Response(200, promise=PROMISE)),
    (rq.TaskSuspend("a", 1, (rq.PromiseRegisterCallback("b", "a"),)), Response(200)),
    (rq.TaskSuspend("a", 1, (rq.PromiseRegisterCallback("b", "a"),)), Response(300, preload=[PROMISE])),
    (
        rq.TaskFence("w", 1, CREATE),
        Response(200, action=Response(200, promise=PENDING), preload=[PROMISE]),
    ),
    (rq.TaskFence("w", 1, SETTLE), Response(200, action=Response(404, error="no such promise"))),
    (rq.TaskHeartbeat("p", (rq.TaskRef("a", 1), rq.TaskRef("b", 2))), Response(200)),
    (rq.TaskHalt("a"), Response(200)),
    (rq.TaskContinue("a"), Response(200)),
    (rq.TaskSearch(), Response(200, tasks=[])),
    (rq.TaskSearch("halted", 1, "a"), Response(200, tasks=[TASK, IDLE], cursor="a")),
    (rq.ScheduleGet("s"), Response(200, schedule=SCHEDULE)),
    (
        rq.ScheduleCreate("s", "* * * * *", "x", 5, Value(data="d"), TARGET),
        Response(200, schedule=SCHEDULE),
    ),
    (rq.ScheduleDelete("s"), Response(200)),
    (rq.ScheduleSearch(), Response(200, schedules=[])),
    (rq.ScheduleSearch({"k": "v"}, 3, "r"), Response(200, schedules=[SCHEDULE], cursor="s")),
    (rq.ExecutionSearch(), Response(200, promises=[])),
    (rq.ExecutionSearch(WANTED, 3, "5.a"), Response(200, promises=[PROMISE], cursor="4.b")),
    (rq.ExecutionCount(WANTED, "group", 7), Response(200, counts={"g": {"pending": 8}}, partial=True)),
    (rq.ExecutionTree("a", 5, "a:1"), Response(200, promises=[PROMISE], cursor="a:2")),
    (rq.ExecutionFailures(3, 2, 1), Response(200, failures=[Fault("f", "E|x.py:1 in f", 3, ["a"])])),
    (
        rq.GroupSearch(4),
        Response(200, groups=[Load("g", {"pending": 1}, 5)], holders=[Holder("p", "g", 1, 100, 7)]),
    ),
    (rq.DebugStart(), Response(200)),
    (rq.DebugStop(), Response(200)),
    (rq.DebugReset(), Response(200)),
    (rq.DebugTick(5), Response(200)),
]


def plain(response: Response) -> dict[str, Any]:
    """Comparable whatever kind of sequence holds the records."""
    return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(response).items()}


@pytest.mark.parametrize(("request_", "response"), EXCHANGES, ids=lambda value: repr(value)[:50])
def test_what_a_client_sends_arrives_and_what_a_server_answers_comes_back(
    request_: Request, response: Response
) -> None:
    call = decoded(wire.encode_request(request_, "c-7"), debug=True)
    assert call.request == request_
    assert call.corr_id == "c-7"

    returned = wire.decode_response(wire.encode(call, response), request_, "c-7")
    assert plain(returned) == plain(response)


def test_every_kind_of_request_has_a_reader_a_writer_and_an_answer() -> None:
    sent = {kind for kind, _ in shapes.WRITERS.values()}

    assert sent == set(shapes.READERS) == set(shapes.ANSWERS) | {"task.fence"}
    assert {type(request) for request, _ in EXCHANGES} | {rq.DebugSnap} == set(shapes.WRITERS)


@pytest.mark.parametrize(("request_", "response"), EXCHANGES, ids=lambda value: repr(value)[:50])
def test_an_error_comes_back_as_its_status_and_text(request_: Request, response: Response) -> None:
    call = decoded(wire.encode_request(request_, "c"), debug=True)

    returned = wire.decode_response(wire.encode(call, Response(409, error="no")), request_, "c")

    assert returned == Response(409, error="no")


# The exact JSON.


def answered(request: Request, response: Response) -> Any:
    call = decoded(wire.encode_request(request, "c"), debug=True)
    return json.loads(wire.encode(call, response))


def test_an_answer_echoes_kind_and_corr_id_and_states_status_and_version() -> None:
    assert answered(rq.TaskHalt("a"), Response(200)) == {
        "kind": "task.halt",
        "head": {"corrId": "c", "status": 200, "version": "2026-04-01"},
        "data": {},
    }


def test_absent_fields_are_absent_and_empty_ones_stay_empty() -> None:
    assert answered(rq.PromiseGet("b"), Response(200, promise=PENDING))["data"] == {
        "promise": {
            "id": "b",
            "state": "pending",
            "param": {"headers": {}, "data": ""},
            "value": {},
            "tags": {},
            "timeoutAt": 10,
            "createdAt": 1,
        }
    }
    assert answered(rq.PromiseGet("a"), Response(200, promise=PROMISE))["data"]["promise"]["settledAt"] == 5


def test_a_task_shows_its_lease_only_while_acquired() -> None:
    held = answered(rq.TaskGet("a"), Response(200, task=TASK))["data"]["task"]
    idle = answered(rq.TaskGet("a"), Response(200, task=IDLE))["data"]["task"]

    assert held == {"id": "a", "state": "acquired", "version": 1, "resumes": 0, "ttl": 100, "pid": "p"}
    assert idle == {"id": "a", "state": "pending", "version": 0, "resumes": 2}


def test_a_schedule_is_spelled_in_camel_case() -> None:
    assert answered(rq.ScheduleGet("s"), Response(200, schedule=SCHEDULE))["data"]["schedule"] == {
        "id": "s",
        "cron": "* * * * *",
        "promiseId": "x",
        "promiseTimeout": 5,
        "promiseParam": {},
        "promiseTags": {"k": "v"},
        "createdAt": 1,
        "nextRunAt": 60_000,
    }


def test_a_claim_carries_task_promise_and_a_preload_even_if_empty() -> None:
    data = answered(rq.TaskAcquire("a", 0, "p", 1), Response(200, task=TASK, promise=PENDING, resumed=["x"]))["data"]

    assert set(data) == {"task", "promise", "preload"}
    assert data["preload"] == []


def test_a_suspend_answers_nothing_or_the_preload() -> None:
    suspend = rq.TaskSuspend("a", 1, (rq.PromiseRegisterCallback("b", "a"),))

    assert answered(suspend, Response(200))["data"] == {}
    assert answered(suspend, Response(300))["data"] == {"preload": []}


@pytest.mark.parametrize(
    ("action", "kind"), [(CREATE, "promise.create"), (SETTLE, "promise.settle")], ids=["create", "settle"]
)
def test_a_fence_answers_with_a_whole_envelope_of_its_action(action: Any, kind: str) -> None:
    fence = rq.TaskFence("w", 1, action)

    good = answered(fence, Response(200, action=Response(200, promise=PENDING)))["data"]
    bad = answered(fence, Response(200, action=Response(404, error="gone")))["data"]

    assert good["action"]["kind"] == bad["action"]["kind"] == kind
    assert good["action"]["head"] == {"corrId": "c", "status": 200, "version": "2026-04-01"}
    assert good["action"]["data"]["promise"]["id"] == "b"
    assert good["preload"] == []
    assert bad["action"]["head"]["status"] == 404
    assert bad["action"]["data"] == "gone"


def test_a_page_has_a_cursor_only_if_there_is_more() -> None:
    assert answered(rq.PromiseSearch(), Response(200, promises=[]))["data"] == {"promises": []}
    assert answered(rq.TaskSearch(), Response(200, tasks=[], cursor="x"))["data"] == {"tasks": [], "cursor": "x"}


def test_a_tick_answers_an_array() -> None:
    assert answered(rq.DebugTick(5), Response(200))["data"] == []


def test_a_snapshot_shows_messages_with_an_empty_head() -> None:
    snapshot: dict[str, object] = {
        "promises": [PROMISE],
        "tasks": [],
        "messages": [
            {"address": "http://h", "message": Execute("a", 3)},
            {"address": "http://i", "message": Unblock(PROMISE)},
        ],
    }

    data = answered(rq.DebugSnap(), Response(200, snapshot=snapshot))["data"]

    assert data["promises"][0]["id"] == "a"
    assert data["messages"][0] == {
        "address": "http://h",
        "message": {"kind": "execute", "head": {}, "data": {"task": {"id": "a", "version": 3}}},
    }
    assert data["messages"][1]["message"]["data"]["promise"]["settledAt"] == 5


def test_a_client_reads_a_snapshot_as_plain_json() -> None:
    call = decoded(wire.encode_request(rq.DebugSnap(), "c"), debug=True)
    reply = wire.encode(call, Response(200, snapshot={"tasks": [TASK], "messages": []}))

    snapshot = wire.decode_response(reply, rq.DebugSnap(), "c").snapshot

    assert snapshot == {
        "tasks": [{"id": "a", "state": "acquired", "version": 1, "resumes": 0, "ttl": 100, "pid": "p"}],
        "messages": [],
    }


# What a bad request gets (2.3).

INNER = {"id": "a", "timeoutAt": 1, "state": "resolved"}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not json",
        b"{",
        b"[]",
        b'"x"',
        b"1",
        b"null",
        b"{}",
        b'{"head":{},"data":{}}',
        b'{"kind":5,"head":{"version":"2026-04-01"},"data":{}}',
        b'{"kind":null,"head":"x","data":{}}',
        b'{"kind":"\xff","head":{"corrId":"x"},"data":{}}',
        b'{"a":' + b"[" * 100_000,
    ],
    ids=lambda raw: repr(raw)[:40],
)
def test_a_body_that_is_no_envelope_is_400_without_any_echo(raw: bytes) -> None:
    envelope = refused(raw)

    assert (envelope["kind"], envelope["head"]["corrId"], envelope["head"]["status"]) == ("unknown", "0", 400)
    assert envelope["data"].startswith("Invalid request envelope: ")


@pytest.mark.parametrize(
    ("raw", "kind", "corr_id"),
    [
        (b'{"kind":"promise.get","head":{"version":"2026-04-01"},"data":{"id":"a"}}', "promise.get", "0"),
        (b'{"kind":"promise.get","data":{}}', "promise.get", "0"),
        (b'{"kind":"promise.get","head":{"corrId":7,"version":"2026-04-01"},"data":{}}', "promise.get", "0"),
        (b'{"kind":"promise.get","head":{"corrId":"x"},"data":{}}', "promise.get", "x"),
        (b'{"kind":"promise.get","head":{"corrId":"x","version":1},"data":{}}', "promise.get", "x"),
        (b'{"kind":"promise.get","head":{"corrId":"x","version":"2026-04-01"}}', "promise.get", "x"),
        (b'{"kind":7,"head":{"corrId":"x","version":"2026-04-01"},"data":{}}', "unknown", "x"),
        (b'{"head":{"corrId":"x","version":"2026-04-01"},"data":{}}', "unknown", "x"),
        (b'{"kind":"","head":{"corrId":"x"},"data":{}}', "", "x"),
    ],
)
def test_a_broken_envelope_echoes_what_can_be_read(raw: bytes, kind: str, corr_id: str) -> None:
    envelope = refused(raw)

    assert (envelope["kind"], envelope["head"]["corrId"]) == (kind, corr_id)


@pytest.mark.parametrize(
    "head",
    [
        {"auth": 5},
        {"auth": {}},
        {"resonate:debug_time": "5"},
        {"resonate:debug_time": 1.0},
        {"resonate:debug_time": 2**63},
        {"resonate:debug_time": True},
    ],
    ids=repr,
)
def test_a_head_of_wrong_types_is_400_whatever_is_enabled(head: dict[str, Any]) -> None:
    assert refused(body("promise.get", {"id": "a"}, **head))["head"]["status"] == 400


def test_null_and_unknown_keys_in_the_head_are_ignored() -> None:
    raw = body("promise.get", {"id": "a"}, **{"auth": None, "resonate:debug_time": None, "resonate:origin": [1]})

    assert decoded(raw, debug=True) == Call("promise.get", "c", rq.PromiseGet("a"), None)


def test_debug_time_replaces_now_only_where_debug_is_enabled() -> None:
    raw = body("promise.get", {"id": "a"}, **{"resonate:debug_time": 1000})

    assert decoded(raw, debug=True).now == 1000
    assert decoded(raw).now is None


def forbid(kind: str, token: str | None, data: dict[str, Any]) -> int:
    return 401


ORDER = [
    ("no envelope", b'{"kind":"promise.get","head":{"corrId":"c"},"data":[]}', 400, "Invalid request envelope: "),
    ("kind is empty", body("", [], version="x"), 400, "kind must not be empty"),
    ("data is no object", body("nope", [], version="x"), 400, "data must be an object"),
    ("version is another", body("nope", {"id": 5}, version="x"), 400, "head.version must be '2026-04-01', got 'x'"),
    ("token is bad", body("nope", {"id": 5}), 401, "Unauthorized"),
]


@pytest.mark.parametrize(("raw", "status", "text"), [row[1:] for row in ORDER], ids=[row[0] for row in ORDER])
def test_checks_run_in_order_up_to_the_token(raw: bytes, status: int, text: str) -> None:
    envelope = refused(raw, authorise=forbid)

    assert envelope["head"]["status"] == status
    assert text in envelope["data"]


@pytest.mark.parametrize("data", [None, [], "x", 5, True])
def test_data_that_is_no_object_is_400_with_the_echo(data: Any) -> None:
    envelope = refused(body("promise.get", data))

    assert (envelope["kind"], envelope["head"]["corrId"]) == ("promise.get", "c")
    assert "data must be an object" in envelope["data"]


@pytest.mark.parametrize("kind", ["nope", "promise", "debug.nope", "promise.GET"])
def test_an_unknown_kind_is_400(kind: str) -> None:
    for debug in (False, True):
        envelope = refused(body(kind, {}), debug=debug)
        assert envelope["head"]["status"] == 400
        assert envelope["data"].startswith("Unknown operation: ")


@pytest.mark.parametrize("kind", ["debug.start", "debug.stop", "debug.reset", "debug.tick", "debug.snap"])
def test_debug_kinds_are_403_unless_enabled_even_if_malformed(kind: str) -> None:
    assert refused(body(kind, {"time": "x"}))["head"]["status"] == 403


def test_a_tick_needs_an_instant_that_does_not_contradict_the_envelope() -> None:
    assert "time" in refused(body("debug.tick", {}), debug=True)["data"]
    assert "time" in refused(body("debug.tick", {"time": 1.5}), debug=True)["data"]
    problem = refused(body("debug.tick", {"time": 5}, **{"resonate:debug_time": 6}), debug=True)["data"]
    assert problem == "time must equal head['resonate:debug_time'] (6) if that is given, got 5"
    assert decoded(body("debug.tick", {"time": 5}, **{"resonate:debug_time": 5}), debug=True).now == 5


@pytest.mark.parametrize(
    ("kind", "data", "path"),
    [
        ("promise.get", {}, "missing required field `id` at `$.data`"),
        ("promise.get", {"id": 5}, "Expected `str`, got `int` at `$.data.id`"),
        ("promise.create", {"id": "a", "timeoutAt": 1.0}, "got `float` at `$.data.timeoutAt`"),
        ("promise.create", {"id": "a", "timeoutAt": "5"}, "got `str` at `$.data.timeoutAt`"),
        ("promise.create", {"id": "a", "timeoutAt": True}, "got `bool` at `$.data.timeoutAt`"),
        ("promise.create", {"id": "a", "timeoutAt": 2**63}, "<= 9223372036854775807 at `$.data.timeoutAt`"),
        ("promise.create", {"id": "a", "timeoutAt": 1, "tags": None}, "got `null` at `$.data.tags`"),
        ("promise.create", {"id": "a", "timeoutAt": 1, "tags": {"k": 1}}, "got `int` at `$.data.tags[...]`"),
        ("promise.create", {"id": "a", "timeoutAt": 1, "param": None}, "got `null` at `$.data.param`"),
        ("promise.create", {"id": "a", "timeoutAt": 1, "param": {"data": 1}}, "at `$.data.param.data`"),
        ("promise.create", {"id": "a", "timeoutAt": 1, "param": {"headers": {"h": 1}}}, "`$.data.param.headers[...]`"),
        ("promise.settle", {"id": "a", "state": "pending"}, "at `$.data.state`"),
        ("promise.settle", {"id": "a", "state": "resolved", "value": None}, "got `null` at `$.data.value`"),
        ("promise.search", {"state": "done"}, "at `$.data.state`"),
        ("promise.search", {"tags": 3}, "at `$.data.tags`"),
        ("promise.search", {"limit": "5"}, "at `$.data.limit`"),
        ("promise.search", {"limit": None}, "at `$.data.limit`"),
        ("task.search", {"state": 1}, "at `$.data.state`"),
        ("task.create", {"pid": "p", "ttl": 1, "action": 1}, "at `$.data.action`"),
        ("task.create", {"pid": "p", "ttl": 1, "action": {"head": {}, "data": INNER}}, "missing required field `kind`"),
        (
            "task.create",
            {"pid": "p", "ttl": 1, "action": {"kind": "x", "data": INNER}},
            "missing required field `head`",
        ),
        (
            "task.create",
            {"pid": "p", "ttl": 1, "action": {"kind": "x", "head": {}, "data": {"id": 1}}},
            "at `$.data.action.data.id`",
        ),
        ("task.acquire", {"id": "a", "version": 0, "pid": "p"}, "missing required field `ttl` at `$.data`"),
        ("task.suspend", {"id": "a", "version": 0, "actions": [{"kind": "x"}]}, "at `$.data.actions[0]`"),
        ("task.fulfill", {"id": "a", "version": 0, "action": {"kind": "x", "data": INNER}}, "`head`"),
        ("task.fence", {"id": "a", "version": 0, "action": {"kind": "promise.get", "data": {}}}, "data.action.kind"),
        (
            "task.fence",
            {"id": "a", "version": 0, "action": {"kind": "promise.create", "data": {"id": "b"}}},
            "missing required field `timeoutAt` at `$.data.action.data`",
        ),
        (
            "task.fence",
            {"id": "a", "version": 0, "action": {"kind": "promise.settle", "data": {"id": 5}}},
            "at `$.data.action.data.id`",
        ),
        ("task.heartbeat", {"pid": "p", "tasks": [{"id": "a"}]}, "at `$.data.tasks[0]`"),
        ("schedule.create", {"id": "s", "cron": 1}, "at `$.data.cron`"),
        ("schedule.search", {"tags": {"k": 1}}, "at `$.data.tags[...]`"),
    ],
)
def test_a_field_of_the_wrong_type_is_400_with_its_path(kind: str, data: Any, path: str) -> None:
    envelope = refused(body(kind, data))

    assert envelope["head"]["status"] == 400
    assert envelope["data"].startswith("Invalid request: ")
    assert path in envelope["data"]


def test_a_field_that_nests_too_deeply_is_400_and_not_a_crash() -> None:
    deep = "[" * 50_000 + "]" * 50_000
    raw = body("promise.get", {"id": "a", "x": "deep"}).decode().replace('"deep"', deep)

    assert "nested too deeply" in refused(raw.encode())["data"]


def test_text_that_is_not_utf8_is_400_with_the_echo() -> None:
    raw = b'{"kind":"promise.get","head":{"corrId":"c","version":"2026-04-01"},"data":{"id":"\xff"}}'

    envelope = refused(raw)

    assert (envelope["kind"], envelope["head"]["status"]) == ("promise.get", 400)


def test_a_broken_field_rule_is_400_and_never_reaches_the_handler() -> None:
    status, reply = wire.answer(body("promise.get", {"id": ""}), never)

    assert status == 400
    assert json.loads(reply)["data"] == "id must not be empty"


def test_strict_mode_reaches_the_field_rules() -> None:
    raw = body("promise.create", {"id": "a", "timeoutAt": 1, "tags": TARGET | {"resonate:timer": "true"}})

    assert isinstance(wire.decode(raw), Call)
    assert "must not hold both" in refused(raw, strict=True)["data"]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({"param": {"headers": None, "data": None}}, Value()),
        ({"param": {}}, Value()),
        ({}, Value()),
        ({"param": {"headers": {}, "data": "", "x": 1}}, Value({}, "")),
    ],
)
def test_null_in_a_value_is_absent_and_unknown_keys_are_ignored(sent: Any, expected: Value) -> None:
    call = decoded(body("promise.create", {"id": "a", "timeoutAt": 1, "tag": 5, **sent}))

    assert call.request == rq.PromiseCreate("a", 1, expected)


def test_null_filters_of_a_search_are_absent() -> None:
    assert decoded(body("promise.search", {"state": None, "tags": None, "cursor": None})).request == rq.PromiseSearch()
    assert decoded(body("task.search", {"state": None, "cursor": None})).request == rq.TaskSearch()
    assert decoded(body("schedule.search", {"tags": None, "cursor": None})).request == rq.ScheduleSearch()


def test_preload_is_no_field_of_the_data() -> None:
    call = decoded(body("task.acquire", {"id": "a", "version": 0, "pid": "p", "ttl": 1, "preload": "no"}))

    assert call.request == rq.TaskAcquire("a", 0, "p", 1)
    assert b"preload" not in wire.encode_request(rq.TaskAcquire("a", 0, "p", 1), "c")


def test_a_head_may_ask_for_an_answer_without_preload() -> None:
    request = rq.TaskAcquire("a", 0, "p", 1, preload=False)

    call = wire.decode(wire.encode_request(request, "c"))

    assert isinstance(call, wire.Call)
    assert call.request == request


def test_a_preload_key_of_another_type_or_on_another_kind_is_left_alone() -> None:
    for kind, data in (("promise.get", {"id": "a"}), ("task.acquire", {"id": "a", "version": 0, "pid": "p", "ttl": 1})):
        head = {"corrId": "c", "version": "2026-04-01", "resonate:preload": "no"}

        call = wire.decode(json.dumps({"kind": kind, "head": head, "data": data}).encode())

        assert isinstance(call, wire.Call)
        assert getattr(call.request, "preload", True) is True


def test_an_acquisition_without_preload_tells_what_woke_the_task() -> None:
    request = rq.TaskAcquire("a", 0, "p", 1, preload=False)
    call = wire.decode(wire.encode_request(request, "c"))
    assert isinstance(call, wire.Call)

    answer = wire.decode_response(
        wire.encode(call, Response(200, task=TASK, promise=PENDING, resumed=("b", "c"))), request, "c"
    )

    assert list(answer.resumed) == ["b", "c"]


def test_the_head_of_an_inner_action_may_be_anything_and_be_absent_in_a_fence() -> None:
    create = {"id": "w.1", "timeoutAt": 1}
    fence = decoded(body("task.fence", {"id": "w", "version": 0, "action": {"kind": "promise.create", "data": create}}))
    assert fence.request == rq.TaskFence("w", 0, rq.PromiseCreate("w.1", 1))

    action = {"kind": 7, "head": None, "data": {"id": "w", "timeoutAt": 1, "tags": TARGET}}
    begun = decoded(body("task.create", {"pid": "p", "ttl": 1, "action": action}))
    assert begun.request == rq.TaskCreate("p", 1, rq.PromiseCreate("w", 1, tags=TARGET))


# Authorisation and answer.


def test_the_token_is_judged_with_kind_and_data_before_the_kind_is_known() -> None:
    asked: list[Any] = []

    def authorise(kind: str, token: str | None, data: dict[str, Any]) -> int | None:
        asked.append((kind, token, data))
        return 403

    envelope = refused(body("nope", {"id": [1]}, auth="jwt"), authorise=authorise)

    assert (envelope["head"]["status"], envelope["data"]) == (403, "Forbidden")
    assert asked == [("nope", "jwt", {"id": [1]})]


def test_data_that_cannot_be_read_names_nothing_to_the_judge() -> None:
    asked: list[Any] = []

    def authorise(kind: str, token: str | None, data: dict[str, Any]) -> int | None:
        asked.append(data)
        return None

    raw = b'{"kind":"promise.get","head":{"corrId":"c","version":"2026-04-01"},"data":{"id":"\xff"}}'

    assert refused(raw, authorise=authorise)["head"]["status"] == 400
    assert asked == [{}]


def test_answer_hands_request_and_instant_over_and_returns_status_and_body() -> None:
    seen: list[Any] = []

    def handle(request: Request, now: int | None) -> Response:
        seen.append((request, now))
        return Response(404, error="promise 'a' does not exist")

    status, reply = wire.answer(body("promise.get", {"id": "a"}, **{"resonate:debug_time": 7}), handle, debug=True)

    assert seen == [(rq.PromiseGet("a"), 7)]
    assert status == 404
    assert json.loads(reply)["data"] == "promise 'a' does not exist"


def test_what_the_handler_raises_passes_through() -> None:
    with pytest.raises(AssertionError, match="handled"):
        wire.answer(body("promise.get", {"id": "a"}), never)


@given(st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5).map(json.dumps))
def test_any_body_is_answered_in_the_envelope_of_an_error(raw: bytes | str) -> None:
    status, reply = wire.answer(raw if isinstance(raw, bytes) else raw.encode(), never)

    assert status == json.loads(reply)["head"]["status"] == 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KINDS = st.sampled_from(sorted(shapes.READERS))
FIELDS = ["id", "timeoutAt", "tags", "param", "state", "action", "actions", "pid", "ttl", "version", "tasks", "limit"]


@given(kind=KINDS, data=st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_any_data_of_any_kind_is_either_a_request_or_a_400_that_echoes(kind: str, data: dict[str, Any]) -> None:
    result = wire.decode(body(kind, data), debug=True)

    if isinstance(result, Refusal):
        envelope = json.loads(result.body)
        assert (result.status, envelope["kind"], envelope["head"]["corrId"]) == (400, kind, "c")
    else:
        assert wire.decode(wire.encode_request(result.request, "c"), debug=True) == result


# The client's end.


def test_a_request_carries_token_and_debug_time_only_if_given() -> None:
    plain = json.loads(wire.encode_request(rq.PromiseGet("a"), "c"))
    full = json.loads(wire.encode_request(rq.PromiseGet("a"), "c", auth="jwt", debug_time=0))

    assert plain["head"] == {"corrId": "c", "version": "2026-04-01"}
    assert full["head"] == {"corrId": "c", "version": "2026-04-01", "auth": "jwt", "resonate:debug_time": 0}


def test_inner_actions_are_whole_envelopes() -> None:
    sent = json.loads(wire.encode_request(rq.TaskFence("w", 1, CREATE), "c"))["data"]

    assert sent["action"] == {
        "kind": "promise.create",
        "head": {},
        "data": {"id": "a", "timeoutAt": 10, "param": {"headers": {"h": "1"}, "data": "x"}, "tags": {"k": "v"}},
    }


def reply(kind: str, status: int, data: Any, corr_id: str = "c") -> bytes:
    return json.dumps({"kind": kind, "head": {"corrId": corr_id, "status": status}, "data": data}).encode()


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b"", "unreadable answer to promise.get"),
        (b"<html>", "unreadable answer to promise.get"),
        (b"\xff", "unreadable answer to promise.get"),
        (reply("promise.create", 200, {}), "answer of another request"),
        (reply("promise.get", 200, {}, "d"), "answer of another request"),
        (b'{"kind":"promise.get","head":{"corrId":"c"},"data":{}}', "missing required field `status` - at"),
        (reply("promise.get", 200, {}), "answer to promise.get with status 200 lacks data.promise"),
        (reply("promise.get", 200, {"promise": {"id": 5}}), "Expected `str`, got `int`"),
        (reply("promise.get", 200, []), "Expected `object`"),
    ],
)
def test_an_answer_that_is_none_raises_and_says_why(raw: bytes, complaint: str) -> None:
    with pytest.raises(WireError) as raised:
        wire.decode_response(raw, rq.PromiseGet("a"), "c")

    assert complaint.replace(" - at", "") in str(raised.value)


def test_a_fence_without_inner_promise_raises() -> None:
    fence = rq.TaskFence("w", 1, CREATE)
    inner = {"kind": "promise.create", "head": {"status": 200}, "data": {}}

    with pytest.raises(WireError, match="inner answer of a fence with status 200 lacks"):
        wire.decode_response(reply("task.fence", 200, {"action": inner}), fence, "c")


def test_an_error_that_is_no_string_is_shown_as_it_came() -> None:
    answer = wire.decode_response(reply("promise.get", 500, {"oops": 1}), rq.PromiseGet("a"), "c")

    assert answer == Response(500, error='{"oops": 1}')


def test_unknown_keys_and_nulls_of_a_foreign_server_are_ignored() -> None:
    record = {
        "id": "a", "state": "pending", "param": {"headers": None, "data": None}, "value": {}, "tags": {},
        "timeoutAt": 5, "createdAt": 1, "settledAt": None, "origin": "a",
    }  # fmt: skip
    answer = wire.decode_response(reply("promise.get", 200, {"promise": record, "x": 1}), rq.PromiseGet("a"), "c")

    assert answer.promise == Promise("a", "pending", Value(), Value(), {}, 5, 1)


# Messages.


@pytest.mark.parametrize("message", [Execute("a", 3), Unblock(PROMISE)], ids=["execute", "unblock"])
def test_a_message_survives_the_way_and_is_one_line(message: Any) -> None:
    sent = wire.encode_message(message, "http://h:8001")

    assert b"\n" not in sent
    assert wire.decode_message(sent) == message
    assert wire.decode_message(sent.decode()) == message


def test_only_an_execute_tells_where_to_talk_back_to() -> None:
    assert json.loads(wire.encode_message(Execute("a", 3), "http://h:8001")) == {
        "kind": "execute",
        "head": {"serverUrl": "http://h:8001"},
        "data": {"task": {"id": "a", "version": 3}},
    }
    assert json.loads(wire.encode_message(Execute("a", 3)))["head"] == {}
    assert json.loads(wire.encode_message(Unblock(PROMISE), "http://h:8001"))["head"] == {}


def test_a_message_of_an_unknown_kind_is_none() -> None:
    assert wire.decode_message(b'{"kind":"later","data":[1]}') is None


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b'{"kind":"execute","data":{}}', b'{"kind":"unblock","data":{"promise":{}}}', b"\xff"]
)
def test_what_is_no_message_raises(raw: bytes) -> None:
    with pytest.raises(WireError, match="unreadable message"):
        wire.decode_message(raw)


def test_a_request_that_its_sender_may_not_make_is_answered_403_with_its_kind_and_id() -> None:
    refusal = wire.forbid(Call("promise.get", "c-1", rq.PromiseGet("p"), None))

    answer = json.loads(refusal.body)
    assert (refusal.status, refusal.kind) == (403, "promise.get")
    assert (answer["head"]["status"], answer["head"]["corrId"], answer["data"]) == (403, "c-1", "Forbidden")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[]", "Invalid batch"),
        (b'{"requests": []}', "from 1 to 1000 envelopes, got 0"),
        (b'{"requests": [' + b",".join([b"1"] * 1001) + b"]}", "got 1001"),
    ],
    ids=["no object", "none", "too many"],
)
def test_a_batch_that_is_none_is_refused(body: bytes, said: str) -> None:
    refused = wire.decode_batch(body)

    assert isinstance(refused, Refusal)
    assert (refused.status, said in json.loads(refused.body)["data"]) == (400, True)


def test_a_batch_gives_its_requests_and_its_answers_make_one_body() -> None:
    found = wire.decode_batch(b'{"requests": [1, {"a": 2}], "chain": true}')

    assert not isinstance(found, Refusal)
    assert ([bytes(request) for request in found[0]], found[1]) == ([b"1", b'{"a": 2}'], True)
    assert wire.encode_batch([b"1", b"{}"]) == b'{"responses":[1,{}]}'
