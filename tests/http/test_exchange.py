"""What is sent, and what an answer must be to count."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Generator
from typing import Any

import pytest

from resonate import Context, Resonate
from resonate.errors import ResonateStoreError, StorageUnavailable, StorageUnusable
from resonate.network.http import batches
from resonate.network.http.network import HttpNetwork
from resonate.protocol.records import BRANCH, ORIGIN, TARGET, Promise, Value
from resonate.protocol.requests import (
    PromiseCreate,
    PromiseGet,
    PromiseSettle,
    TaskAcquire,
    TaskCreate,
    TaskFence,
    TaskHeartbeat,
    TaskRef,
    TaskRelease,
)
from tests.wire_server import WireServer, serving

FAR = 2**53 - 1


def network(server: WireServer, **given: Any) -> HttpNetwork:
    return HttpNetwork(server.url, "default", "me", **given)


def test_a_token_is_sent_in_the_envelope_and_in_the_header() -> None:
    with serving(token="secret") as server:
        net = network(server, token="secret", auth=("user", "password"))

        assert net.send([PromiseGet("a")])[0].status == 404
        assert server.heads[0]["authorization"] == "Bearer secret"
        assert server.bodies[0]["head"]["auth"] == "secret"
        net.stop()


def test_basic_auth_is_a_header_only() -> None:
    with serving() as server:
        net = network(server, auth=("user", "pass word"))
        net.send([PromiseGet("a")])

        expected = "Basic " + base64.b64encode(b"user:pass word").decode()
        assert server.heads[0]["authorization"] == expected
        assert "auth" not in server.bodies[0]["head"]
        net.stop()


def test_a_refused_token_is_an_error_that_says_what_to_do() -> None:
    with serving(token="secret") as server:
        net = network(server, token="wrong")

        for requests in ([PromiseGet("a")], [PromiseGet("a"), PromiseGet("b")]):
            with pytest.raises(ResonateStoreError, match="RESONATE_TOKEN") as refused:
                net.send(requests)
            assert refused.value.code == 100.401
        net.stop()


def test_what_is_no_server_of_the_protocol_is_told_from_a_missing_promise() -> None:
    with serving() as server:
        net = HttpNetwork(server.url + "/elsewhere", "default", "me")

        with pytest.raises(StorageUnusable, match="HTTP 404 and no answer of the protocol"):
            net.send([PromiseGet("a")])
        net.stop()


def test_a_server_that_has_answered_is_away_while_something_else_answers_in_its_place() -> None:
    with serving() as server:
        net = network(server)
        net.send([PromiseGet("a")])
        server.fail("404")

        with pytest.raises(StorageUnavailable, match="HTTP 404 and no answer of the protocol"):
            net.send([PromiseGet("a")])

        assert net.send([PromiseGet("a")])[0].status == 404
        net.stop()


def test_a_batch_is_one_request_once_the_server_has_offered_it() -> None:
    with serving() as server:
        net = network(server)
        net.send([PromiseGet("a"), PromiseGet("b"), PromiseGet("c")])
        net.send([PromiseGet("a"), PromiseGet("b"), PromiseGet("c")])

        assert [len(post) for post in server.posts] == [1, 2, 3]
        net.stop()


def test_a_server_without_batches_gets_alike_requests_side_by_side_in_order() -> None:
    with serving(foreign=":") as server:
        net = network(server)
        ids = [f"p{n}" for n in range(20)]
        net.send([PromiseCreate(id, FAR) for id in ids])

        answers = net.send([PromiseGet(id) for id in ids])

        assert [answer.promise.id for answer in answers if answer.promise] == ids
        assert all(len(post) == 1 for post in server.posts)
        net.stop()


def test_large_batches_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH_MAX", 10)
    monkeypatch.setattr(batches, "BATCH_BYTES", 2000)
    with serving() as server:
        net = network(server)
        net.send([PromiseGet("x")])
        creates = [PromiseCreate(f"p{n}", FAR, Value(None, "x" * (1500 if n == 3 else 1))) for n in range(25)]

        answers = net.send(creates)

        assert [answer.promise.id for answer in answers if answer.promise] == [f"p{n}" for n in range(25)]
        assert max(len(post) for post in server.posts) <= 10
        assert sum(len(post) for post in server.posts) == 26
        net.stop()


def test_one_heartbeat_goes_to_each_origin_of_a_foreign_server_and_one_for_all_to_ours() -> None:
    refs = tuple(TaskRef(id, 1) for id in ("a", "a:1", "b", "c.1"))
    for foreign, beats in ((None, 1), (":", 3)):
        with serving(foreign=foreign) as server:
            net = network(server)
            net.send([PromiseGet("x")])

            assert net.send([TaskHeartbeat("me", refs)])[0].status == 200
            assert server.kinds.count("task.heartbeat") == beats
            net.stop()


def children(net: HttpNetwork, count: int) -> None:
    """A task that has been given back with `count` recorded children."""
    net.send(
        [TaskCreate("me", 60_000, PromiseCreate("a", FAR, tags={TARGET: "poll://any@g", ORIGIN: "a", BRANCH: "a"}))]
    )
    for n in range(count):
        tags = {ORIGIN: "a", BRANCH: "a"}
        net.send([TaskFence("a", 1, PromiseCreate(f"a:{n}", FAR, tags=tags), False)])
        net.send([TaskFence("a", 1, PromiseSettle(f"a:{n}", "resolved"), False)])
    net.send([TaskRelease("a", 1)])


@pytest.mark.parametrize("foreign", [None, ":"], ids=["ours", "foreign"])
def test_a_preload_is_complete_whatever_the_server_gives(foreign: str | None) -> None:
    with serving(foreign=foreign) as server:
        net = network(server)
        children(net, 30)

        answer = net.send([TaskAcquire("a", 1, "me", 60_000)])[0]

        assert {promise.id for promise in answer.preload} == {f"a:{n}" for n in range(30)}
        assert all(isinstance(promise, Promise) for promise in answer.preload)
        assert not answer.partial
        net.stop()


def test_a_preload_that_cannot_be_completed_is_said_to_be_partial() -> None:
    with serving(foreign=":", search=False) as server:
        net = network(server)
        children(net, 12)

        answer = net.send([TaskAcquire("a", 1, "me", 60_000)])[0]

        assert answer.partial
        assert len(answer.preload) == 10
        net.stop()


def test_steps_that_a_partial_preload_lacks_do_not_run_again() -> None:
    ran: list[int] = []

    def note(ctx: Context, n: int) -> int:
        ran.append(n)
        return n

    def long(ctx: Context) -> Generator[Any, Any, int]:
        total = 0
        for n in range(25):
            found: int = yield ctx.run(note, n)
            total += found
        yield ctx.sleep(0.5)
        last: int = yield ctx.run(note, 25)
        return total + last

    with serving(foreign=":", search=False) as server:
        first = Resonate(url=server.url, ttl=1)
        first.register(long)
        first.begin_run("long", long)
        server.wait(lambda: "task.suspend" in server.kinds)
        first.stop()
        with Resonate(url=server.url) as second:
            second.register(long)
            second.start()
            assert second.get("long").result(20) == sum(range(26))

    assert ran == list(range(26))


def test_the_dialect_is_asked_for_once_and_only_of_foreign_servers() -> None:
    for foreign, separator, probes in ((None, ":", 0), (":", ":", 2), (".", ".", 2)):
        with serving(foreign=foreign) as server:
            net = network(server)
            net.send([PromiseGet("x")])

            assert [net.dialect.separator, net.dialect.separator] == [separator] * 2
            assert server.kinds.count("promise.register_callback") == probes
            net.stop()


def test_timers_of_a_server_of_the_old_dialect_have_a_target_that_reaches_nobody() -> None:
    def nap(ctx: Context) -> Generator[Any, Any, None]:
        yield ctx.sleep(0.05)

    with serving(foreign=".") as server, Resonate(url=server.url, group="g") as resonate:
        resonate.register(nap)
        resonate.run("nap", nap)
        create = next(body["data"]["action"]["data"] for body in server.bodies if body["kind"] == "task.fence")

    assert create["id"] == "nap.1"
    assert create["tags"]["resonate:target"] == "poll://uni@g"
    assert create["tags"]["resonate:timer"] == "true"


def test_a_loop_turns_while_requests_are_under_way() -> None:
    async def main(server: WireServer) -> list[int]:
        net = network(server)
        answers = await asyncio.gather(*(net.asend([PromiseGet(f"p{n}")]) for n in range(50)))
        net.stop()
        return [answer[0].status for answer in answers]

    with serving() as server:
        assert asyncio.run(main(server)) == [404] * 50
