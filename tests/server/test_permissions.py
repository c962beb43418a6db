"""What a prefix allows: every kind of request, and every id that it names."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from resonate.protocol import requests as rq
from resonate.protocol import shapes, wire
from resonate.protocol.listing import Wanted
from resonate.protocol.records import BRANCH, ORIGIN, PARENT
from resonate.server import permissions
from resonate.server.auth import Authenticator, BearerToken, Identity

AUTH = Authenticator(tokens=[BearerToken("t", Identity("t"))])
ADMIN = Identity("admin", role="admin")
EVERYWHERE = Identity("everywhere", prefix="")
NOWHERE = Identity("nowhere")
ANN = Identity("ann", prefix="ann.")

LINEAGE = (BRANCH, ORIGIN, PARENT)


def create(id: str, *lineage: str) -> rq.PromiseCreate:
    return rq.PromiseCreate(
        id, 9, tags={"resonate:target": "poll://any@g", **dict(zip(LINEAGE, lineage, strict=False))}
    )


Make = Callable[..., rq.Request]

# kind -> how to build a request from the ids it names, and how many those are
NAMING: dict[str, tuple[int, Make]] = {
    "promise.get": (1, lambda a: rq.PromiseGet(a)),
    "promise.create": (4, create),
    "promise.settle": (1, lambda a: rq.PromiseSettle(a, "resolved")),
    "promise.register_callback": (2, lambda a, b: rq.PromiseRegisterCallback(a, b)),
    "promise.register_listener": (1, lambda a: rq.PromiseRegisterListener(a, "http://x")),
    "task.get": (1, lambda a: rq.TaskGet(a)),
    "task.create": (4, lambda *ids: rq.TaskCreate("p", 1, create(*ids))),
    "task.acquire": (1, lambda a: rq.TaskAcquire(a, 1, "p", 1)),
    "task.release": (1, lambda a: rq.TaskRelease(a, 1)),
    "task.fulfill": (2, lambda a, b: rq.TaskFulfill(a, 1, rq.PromiseSettle(b, "resolved"))),
    "task.suspend": (
        5,
        lambda a, b, c, d, e: rq.TaskSuspend(
            a, 1, (rq.PromiseRegisterCallback(b, c), rq.PromiseRegisterCallback(d, e))
        ),
    ),
    "task.fence create": (5, lambda a, *ids: rq.TaskFence(a, 1, create(*ids))),
    "task.fence settle": (2, lambda a, b: rq.TaskFence(a, 1, rq.PromiseSettle(b, "resolved"))),
    "task.fence write": (
        6,
        lambda a, b, *ids: rq.TaskFence(a, 1, rq.PromiseWrite(create(*ids), rq.PromiseSettle(b, "resolved"))),
    ),
    "task.heartbeat": (2, lambda a, b: rq.TaskHeartbeat("p", (rq.TaskRef(a, 1), rq.TaskRef(b, 2)))),
    "task.halt": (1, lambda a: rq.TaskHalt(a)),
    "task.continue": (1, lambda a: rq.TaskContinue(a)),
    "schedule.get": (1, lambda a: rq.ScheduleGet(a)),
    "schedule.create": (2, lambda a, b: rq.ScheduleCreate(a, "* * * * *", b, 1)),
    "schedule.delete": (1, lambda a: rq.ScheduleDelete(a)),
}
SEARCHES: list[Any] = [rq.PromiseSearch, rq.TaskSearch, rq.ScheduleSearch]
LISTS: list[Any] = [rq.ExecutionSearch, rq.ExecutionCount]
"""Searches of ours for executions, which have their prefix among other filters."""
WHOLES: list[Any] = [rq.ExecutionFailures, rq.GroupSearch]
"""Questions of ours about everything that there is."""
DEBUG: list[rq.Request] = [rq.DebugStart(), rq.DebugStop(), rq.DebugReset(), rq.DebugTick(1), rq.DebugSnap()]
POSITIONS = [(kind, n) for kind, (count, _) in NAMING.items() for n in range(count)]


def data_of(request: rq.Request) -> tuple[str, dict[str, Any]]:
    """Kind and data as they come over the wire."""
    envelope = json.loads(wire.encode_request(request, "c"))
    return envelope["kind"], envelope["data"]


def both(identity: Identity, request: rq.Request) -> bool:
    """What is permitted before decoding and after; the two must agree."""
    permitted = AUTH.permit(identity, request)
    if not (isinstance(request, rq.TaskFence) and isinstance(request.action, rq.PromiseWrite)):  # never on the wire
        assert AUTH.names_only_permitted(identity, *data_of(request)) is permitted
    return permitted


def test_every_kind_of_request_is_tried_here() -> None:
    searches = [*SEARCHES, *LISTS, *WHOLES, rq.ExecutionTree]
    tried = {type(make(*"abcdef"[:count])) for count, make in NAMING.values()} | set(searches)

    assert tried | {type(request) for request in DEBUG} == set(shapes.WRITERS)
    assert {kind.partition(" ")[0] for kind in NAMING} | {shapes.WRITERS[kind][0] for kind in searches} == (
        permissions.KINDS
    )


@pytest.mark.parametrize("kind", NAMING)
def test_a_request_that_names_only_ids_with_the_prefix_is_permitted(kind: str) -> None:
    count, make = NAMING[kind]

    assert both(ANN, make(*(f"ann.{n}" for n in range(count))))
    assert both(ANN, make(*["ann."] * count))


@pytest.mark.parametrize(("kind", "position"), POSITIONS)
@pytest.mark.parametrize("foreign", ["bob.1", "ann", "Ann.1", "", " ann.1", "xann.1"])
def test_one_foreign_id_at_any_place_is_forbidden(kind: str, position: int, foreign: str) -> None:
    count, make = NAMING[kind]
    ids = [f"ann.{n}" for n in range(count)]

    ids[position] = foreign

    assert not both(ANN, make(*ids))


@pytest.mark.parametrize("kind", NAMING)
def test_admin_and_the_empty_prefix_may_name_everything_and_no_prefix_nothing(kind: str) -> None:
    count, make = NAMING[kind]
    request = make(*(f"any{n}" for n in range(count)))

    assert both(ADMIN, request)
    assert both(EVERYWHERE, request)
    assert not both(NOWHERE, request)


def test_a_prefix_is_plain_text_and_stops_at_no_dot() -> None:
    assert both(Identity("a", prefix="a"), rq.PromiseGet("ab"))


def test_a_heartbeat_that_names_no_task_is_permitted() -> None:
    assert both(ANN, rq.TaskHeartbeat("p", ()))


@pytest.mark.parametrize("request_", DEBUG, ids=lambda request: type(request).__name__)
def test_debug_is_for_admins_only(request_: rq.Request) -> None:
    assert both(ADMIN, request_)
    for identity in (EVERYWHERE, NOWHERE, ANN):
        assert not both(identity, request_)


@pytest.mark.parametrize(
    ("template", "permitted"),
    [
        ("ann.{{.timestamp}}", True),
        ("{{.id}}.{{.timestamp}}", True),
        ("{{.id}}", True),
        ("ann.{{.id}}", True),
        ("an{{.timestamp}}", False),
        ("{{.timestamp}}", False),
        ("{{.timestamp}}ann.", False),
        ("bob.{{.id}}", False),
        ("{{ .id }}", False),
        ("{{.other}}ann.", False),
        ("", False),
    ],
)
def test_what_all_occurrences_of_a_schedule_begin_with_must_have_the_prefix(template: str, permitted: bool) -> None:
    assert both(ANN, rq.ScheduleCreate("ann.s", "* * * * *", template, 1)) is permitted


def test_a_template_with_the_prefix_does_not_excuse_the_schedules_own_id() -> None:
    assert not both(ANN, rq.ScheduleCreate("bob", "* * * * *", "ann.{{.timestamp}}", 1))


# Searches.


@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_is_permitted_to_a_prefix_only_when_narrowed_to_it(search: Any) -> None:
    assert not AUTH.permit(ANN, search())
    assert not AUTH.permit(ANN, search(prefix=""))
    assert not AUTH.permit(ANN, search(prefix="an"))
    assert not AUTH.permit(ANN, search(prefix="bob."))
    assert AUTH.permit(ANN, search(prefix="ann."))
    assert AUTH.permit(ANN, search(prefix="ann.1"))
    assert AUTH.permit(ADMIN, search())
    assert AUTH.permit(EVERYWHERE, search())
    assert not AUTH.permit(NOWHERE, search(prefix="x"))


@pytest.mark.parametrize("search", SEARCHES)
def test_narrowing_gives_a_search_the_prefix_and_leaves_the_rest(search: Any) -> None:
    asked = search(limit=7, cursor="c")

    assert AUTH.narrow(ANN, asked) == search(limit=7, cursor="c", prefix="ann.")
    assert AUTH.narrow(ANN, search(prefix="ann.1")) == search(prefix="ann.1")
    assert AUTH.narrow(ANN, search(prefix="bob.")) == search(prefix="ann.")
    assert AUTH.narrow(ADMIN, asked) is asked
    assert AUTH.narrow(EVERYWHERE, asked) is asked
    assert AUTH.permit(ANN, AUTH.narrow(ANN, asked))


@pytest.mark.parametrize("search", LISTS)
def test_executions_are_looked_for_among_those_with_the_prefix(search: Any) -> None:
    assert not AUTH.permit(ANN, search())
    assert not AUTH.permit(ANN, search(Wanted(prefix="an")))
    assert AUTH.permit(ANN, search(Wanted(prefix="ann.1")))
    assert AUTH.permit(EVERYWHERE, search())
    assert AUTH.narrow(ANN, search(Wanted(function="f"))) == search(Wanted(function="f", prefix="ann."))
    assert AUTH.narrow(ANN, search(Wanted(prefix="an"))) == search(Wanted(prefix="ann."))
    assert AUTH.narrow(ANN, search(Wanted(prefix="ann.1"))) == search(Wanted(prefix="ann.1"))
    none: Any = AUTH.narrow(ANN, search(Wanted(prefix="bob.")))
    assert none.wanted.until == 0
    assert AUTH.permit(ANN, none)


@pytest.mark.parametrize("whole", [*WHOLES, lambda **more: rq.ExecutionTree("ann.1", **more)])
def test_what_cannot_be_kept_to_a_prefix_is_told_it_and_decides(whole: Any) -> None:
    assert not AUTH.permit(ANN, whole())
    assert AUTH.narrow(ANN, whole()) == whole(prefix="ann.")
    assert AUTH.permit(ANN, whole(prefix="ann."))
    assert AUTH.permit(ADMIN, whole())


@pytest.mark.parametrize("kind", NAMING)
def test_a_reader_changes_nothing(kind: str) -> None:
    count, make = NAMING[kind]
    request = make(*(f"any{n}" for n in range(count)))

    assert both(Identity("r", role="Reader", prefix=""), request) is kind.endswith(".get")
    assert not both(Identity("r", role="reader"), request)


def test_a_reader_sees_what_the_prefix_allows() -> None:
    reader = Identity("r", role="reader", prefix="ann.")

    assert both(reader, rq.PromiseGet("ann.1"))
    assert not both(reader, rq.PromiseGet("bob.1"))
    for search in (*SEARCHES, *LISTS, *WHOLES):
        assert AUTH.permit(reader, AUTH.narrow(reader, search()))
    assert not AUTH.permit(reader, rq.DebugReset())
    assert not reader.may_poll("g")
    assert reader.may_see("g")


def test_narrowing_leaves_other_requests_alone() -> None:
    request = rq.PromiseGet("bob")

    assert AUTH.narrow(ANN, request) is request
    assert AUTH.narrow(NOWHERE, rq.PromiseSearch()) == rq.PromiseSearch()


@pytest.mark.parametrize("kind", ["promise.search", "task.search", "schedule.search"])
def test_the_filter_on_ids_cannot_be_given_over_the_wire(kind: str) -> None:
    call = wire.decode(envelope(kind, {"prefix": "bob."}))

    assert isinstance(call, wire.Call)
    assert call.request.prefix is None  # type: ignore[union-attr]
    assert "prefix" not in data_of(msgspec.structs.replace(call.request, prefix="x"))[1]


# In the server's order of checks.


def envelope(kind: str, data: Any, auth: str | None = None) -> bytes:
    head = {"corrId": "c", "version": "2026-04-01", "auth": auth}
    return json.dumps({"kind": kind, "head": head, "data": data}).encode()


WIRED = Authenticator(tokens=[BearerToken("ann", ANN), BearerToken("all", EVERYWHERE), BearerToken("none", NOWHERE)])


@pytest.mark.parametrize(
    ("token", "kind", "data", "status"),
    [
        (None, "promise.get", {"id": "ann.1"}, 401),
        ("wrong", "nope", {}, 401),
        ("wrong", "debug.snap", {}, 401),
        ("wrong", "promise.get", {}, 401),
        ("ann", "promise.get", {"id": "ann.1"}, 200),
        ("ann", "promise.get", {"id": "bob.1"}, 403),
        ("ann", "promise.get", {}, 400),
        ("ann", "promise.get", {"id": 7}, 400),
        ("ann", "promise.get", {"id": None}, 400),
        ("ann", "promise.create", {"id": "bob.1"}, 403),
        ("ann", "promise.create", {"id": "ann.1"}, 400),
        ("ann", "promise.create", {"id": "ann.1", "tags": 7}, 400),
        ("ann", "task.create", {"action": 7}, 400),
        ("ann", "task.create", {"action": {"data": {"id": "bob.1"}}}, 403),
        ("ann", "task.suspend", {"id": "ann.1", "actions": [7, {}, {"data": []}]}, 400),
        ("ann", "task.heartbeat", {"pid": "p", "tasks": 7}, 400),
        ("ann", "task.heartbeat", {"pid": "p", "tasks": [7, {"id": "bob.1"}]}, 403),
        ("ann", "schedule.create", {"id": "ann.s", "promiseId": 7}, 400),
        ("ann", "promise.search", {}, 200),
        ("ann", "nope", {}, 403),
        ("ann", "debug.snap", {}, 403),
        ("all", "debug.snap", {}, 403),
        ("all", "nope", {}, 400),
        ("all", "promise.get", {"id": "anything"}, 200),
        ("none", "promise.get", {"id": "ann.1"}, 403),
        ("none", "promise.get", {}, 403),
        ("none", "nope", {}, 403),
        ("none", "promise.search", {}, 403),
    ],
)
def test_the_envelopes_checks_answer_in_their_order(token: str | None, kind: str, data: Any, status: int) -> None:
    answered = wire.decode(envelope(kind, data, token), authorise=WIRED.authorise())

    assert (answered.status if isinstance(answered, wire.Refusal) else 200) == status


def test_the_header_counts_in_the_envelopes_checks() -> None:
    raw = envelope("promise.get", {"id": "ann.1"})

    assert isinstance(wire.decode(raw, authorise=WIRED.authorise("Bearer ann")), wire.Call)
    assert isinstance(wire.decode(raw, authorise=WIRED.authorise("Bearer wrong")), wire.Refusal)


@pytest.mark.parametrize("junk", [b'"x":"\xff"', b'"\xff":1', b'"x":1e999'])
def test_data_that_names_nothing_before_decoding_is_still_judged_after_it(junk: bytes) -> None:
    raw = envelope("promise.get", {"id": "bob.1"}, "ann").replace(b'"id"', junk + b',"id"')

    answered = wire.decode(raw, authorise=WIRED.authorise())

    assert isinstance(answered, wire.Refusal) or not WIRED.permit(ANN, answered.request)
