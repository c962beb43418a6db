"""Several requests in one body: answered in order, each by itself, or up to the one that breaks the chain."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from resonate.protocol import requests as rq
from resonate.protocol import wire
from resonate.server.running import Server
from tests.server.serving import ANY, HOMES, LATER, Client, Json, batch, envelope, promise, serving


@pytest.fixture(scope="module", params=list(HOMES))
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serving(HOMES[request.param](), debug=True) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    client = Client(server)
    assert client.ask("debug.reset", {})[0] == 200
    yield client
    client.close()


def statuses(answers: list[Json]) -> list[int]:
    return [answer["head"]["status"] for answer in answers]


def bodies(*requests: rq.Request) -> list[bytes]:
    return [wire.encode_request(request, f"c{number}") for number, request in enumerate(requests)]


HELD = rq.TaskCreate("p", 60_000, rq.PromiseCreate("w", LATER, tags={"resonate:target": ANY, "resonate:branch": "w"}))


def fenced(action: Any) -> rq.TaskFence:
    return rq.TaskFence("w", 1, action, preload=False)


CHAIN: list[rq.Request] = [
    HELD,
    fenced(rq.PromiseCreate("w.1", LATER)),
    fenced(rq.PromiseSettle("w.1", "resolved")),
    rq.TaskFulfill("w", 1, rq.PromiseSettle("w", "resolved")),
]


def test_answers_come_in_order_and_are_those_of_single_requests(client: Client) -> None:
    sent = [*bodies(rq.PromiseCreate("a", LATER)), envelope("promise.get", {"id": "?"}), b"[]", envelope("nope", {})]

    answers = client.batch(sent)
    singly = [json.loads(client.answer(body)[1]) for body in sent]

    assert statuses(answers) == [200, 404, 400, 400]
    assert answers == singly


def test_without_a_chain_a_refused_request_does_not_keep_the_next_from_being_done(client: Client) -> None:
    sent = [envelope("promise.create", promise("")), envelope("promise.create", promise("b"))]

    answers = client.batch(sent)

    assert statuses(answers) == [400, 200]
    assert client.send(rq.PromiseGet("b")).status == 200


def test_a_chain_that_holds_is_answered_to_its_end(client: Client) -> None:
    answers = client.batch(bodies(*CHAIN), chain=True)

    assert statuses(answers) == [200] * 4
    promise = client.send(rq.PromiseGet("w")).promise
    assert promise is not None
    assert promise.state == "resolved"


@pytest.mark.parametrize("broken", [1, 2, 3])
def test_a_chain_ends_with_the_answer_that_is_an_error(broken: int, client: Client) -> None:
    chain: list[rq.Request] = [*CHAIN[:broken], rq.TaskRelease("w", 7), *CHAIN[broken:]]

    answers = client.batch(bodies(*chain), chain=True)

    assert statuses(answers) == [200] * broken + [409]
    assert answers[-1]["kind"] == "task.release"


@pytest.mark.parametrize("bad", [b"[]", b'"x"', envelope("nope", {}), envelope("promise.get", {"id": 5})])
@pytest.mark.parametrize("place", [0, 2, 4])
def test_a_chain_ends_with_the_request_that_cannot_be_read(bad: bytes, place: int, client: Client) -> None:
    sent = bodies(*CHAIN)

    answers = client.batch([*sent[:place], bad, *sent[place:]], chain=True)

    assert statuses(answers) == [200] * place + [400]
    found = client.send(rq.PromiseGet("w"))
    assert (found.status, found.promise is not None and found.promise.state) == {
        0: (404, False),
        2: (200, "pending"),
        4: (200, "resolved"),
    }[place]


def test_a_chain_ends_where_somebody_else_has_settled_the_promise(client: Client) -> None:
    client.batch(bodies(*CHAIN[:2]))
    client.send(rq.PromiseSettle("w.1", "rejected"))

    answers = client.batch(bodies(*CHAIN[2:]), chain=True)

    assert statuses(answers) == [200]
    assert answers[0]["data"]["action"]["data"]["promise"]["state"] == "rejected"


def test_each_request_of_a_batch_has_its_own_instant(client: Client) -> None:
    sent = [envelope("promise.create", promise(id), **{"resonate:debug_time": n}) for n, id in enumerate("aab")]

    answers = client.batch(sent, chain=True)

    assert [answer["data"]["promise"]["createdAt"] for answer in answers] == [0, 0, 2]


def test_a_fence_in_a_batch_may_do_without_its_preload(client: Client) -> None:
    with_preload = rq.TaskFence("w", 1, rq.PromiseCreate("w.2", LATER, tags={"resonate:branch": "w"}))
    client.batch(bodies(HELD))

    answers = client.batch(bodies(with_preload, fenced(rq.PromiseCreate("w.3", LATER))))

    assert [len(answer["data"]["preload"]) for answer in answers] == [1, 0]


def test_a_batch_may_hold_a_thousand_requests_and_no_more(client: Client) -> None:
    sent = [envelope("promise.get", {"id": "?"})] * wire.MAX_BATCH

    assert statuses(client.batch(sent)) == [404] * wire.MAX_BATCH
    assert client.http("POST", "/batch", batch([*sent, sent[0]]))[0] == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b"{}",
        b'{"requests":[]}',
        b'{"requests":{}}',
        b'{"requests":null}',
        b'{"requests":[{}],"chain":1}',
        b'{"requests":[{}],"chain":null}',
        b'{"requests":[{}]',
        b'{"requests":[' + b"[" * 100_000 + b"]" * 100_000 + b"]}",
    ],
)
def test_a_body_that_is_no_batch_is_400_of_an_unknown_kind(body: bytes, client: Client) -> None:
    status, reply, _ = client.http("POST", "/batch", body)

    got = json.loads(reply)
    assert (status, got["kind"], got["head"]["status"], got["head"]["corrId"]) == (400, "unknown", 400, "0")
    assert isinstance(got["data"], str)


def test_unknown_keys_of_a_batch_are_ignored(client: Client) -> None:
    status, reply, _ = client.http("POST", "/batch", b'{"more":1,"requests":[{}]}')

    assert (status, statuses(json.loads(reply)["responses"])) == (200, [400])
