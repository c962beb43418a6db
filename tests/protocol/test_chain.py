"""When a worker's batch goes on, and ids of both dialects."""

from __future__ import annotations

import pytest

from resonate.protocol import requests as rq
from resonate.protocol.chain import holds, whole
from resonate.protocol.ids import extends, origin_of
from resonate.protocol.records import EMPTY, RAN, Promise, PromiseState, Value
from resonate.protocol.requests import Request, Response

from .bench import acquire, begin, create, fulfill, resolve, suspend


def promise(state: PromiseState = "pending", value: Value = EMPTY) -> Promise:
    return Promise("w:1", state, EMPTY, value, {}, 100, 0, None if state == "pending" else 5)


def fenced(inner: Response) -> Response:
    return Response(200, action=inner)


CREATE = rq.TaskFence("w", 1, create("w:1"))
SETTLE = rq.TaskFence("w", 1, resolve("w:1", "v"))
FULFILL = fulfill("w", 1, "v")
TIMER = rq.TaskFence("w", 1, create("w:1", timer="true", scope="global"))
AS_SENT = promise("resolved", Value(data="v"))


@pytest.mark.parametrize(
    ("request_", "response", "expected"),
    [
        (CREATE, fenced(Response(200, promise())), True),
        (CREATE, fenced(Response(200, promise("resolved"))), False),
        (CREATE, fenced(Response(200, promise("rejected_timedout"))), False),
        (CREATE, fenced(Response(400, error="x")), False),
        (CREATE, Response(409, error="x"), False),
        (TIMER, fenced(Response(200, promise())), True),
        (TIMER, fenced(Response(200, promise("resolved"))), True),
        (SETTLE, fenced(Response(200, AS_SENT)), True),
        (SETTLE, fenced(Response(200, promise("resolved", Value(data="other")))), False),
        (SETTLE, fenced(Response(200, promise("rejected", Value(data="v")))), False),
        (SETTLE, fenced(Response(200, promise("rejected_timedout"))), False),
        (SETTLE, fenced(Response(404, error="x")), False),
        (SETTLE, Response(404, error="x"), False),
        (FULFILL, Response(200, AS_SENT), True),
        (FULFILL, Response(200, promise("rejected_canceled")), False),
        (FULFILL, Response(409, error="x"), False),
        (suspend("w", 1, "e"), Response(200), True),
        (suspend("w", 1, "e"), Response(300), True),
        (suspend("w", 1, "e"), Response(422, error="x"), False),
        (begin("w"), Response(200, promise("resolved")), True),
        (acquire("w", 0), Response(409, error="x"), False),
        (create("w:1"), Response(200, promise("resolved")), True),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_chain_holds_while_the_record_is_what_the_worker_sent(
    request_: Request, response: Response, expected: bool
) -> None:
    assert holds(request_, response) is expected


@pytest.mark.parametrize(
    ("ancestor", "id", "expected"),
    [
        ("w", "w:1", True),
        ("w", "w.1", True),
        ("w:1", "w:1.2", True),
        ("w:1", "w:1:2", True),
        ("w", "w", False),
        ("w", "wide", False),
        ("w:1", "w:10", False),
        ("w:1", "w", False),
        ("", ":1", True),
        ("v", "w:1", False),
    ],
)
def test_an_id_extends_what_stands_before_a_separator(ancestor: str, id: str, expected: bool) -> None:
    assert extends(ancestor, id) is expected


@pytest.mark.parametrize(("id", "origin"), [("w", "w"), ("w:1.2", "w"), ("w.1", "w.1"), ("a.b:1:2", "a.b"), (":x", "")])
def test_the_origin_of_an_id_stands_before_its_first_colon(id: str, origin: str) -> None:
    assert origin_of(id) == origin


def test_a_chain_is_whole_if_every_answer_is_there_and_the_last_one_holds() -> None:
    good, bad = fenced(Response(200, AS_SENT)), Response(409, error="x")

    assert whole([SETTLE, FULFILL], [good, Response(200, AS_SENT)])
    assert whole([], [])
    assert not whole([SETTLE, FULFILL], [good])
    assert not whole([SETTLE], [bad])


def test_who_gave_a_value_is_no_part_of_it() -> None:
    request = rq.TaskFulfill("w", 1, rq.PromiseSettle("w", "resolved", Value({RAN: "1|me"}, "v")))

    def holds_for(headers: dict[str, str] | None) -> bool:
        return holds(request, Response(200, promise("resolved", Value(headers, "v"))))

    assert holds_for({RAN: "1|me"})
    assert holds_for({RAN: "2|another"})
    assert holds_for(None)
    assert not holds_for({"resonate:py": '"tuple"'})
