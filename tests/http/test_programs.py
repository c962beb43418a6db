"""Whole programs over a server: ours, and servers of both other dialects."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from resonate import Context, Resonate
from resonate.errors import ResonateCanceledError, ResonateStoreError
from resonate.protocol.requests import PromiseSearch
from tests.wire_server import WireServer, serving

STEPS = 25
"""More than a foreign server's preload holds."""


@pytest.fixture(params=[None, ".", ":"], ids=["ours", "dots", "colons"])
def server(request: pytest.FixtureRequest) -> Iterator[WireServer]:
    with serving(foreign=request.param) as server:
        yield server


def add(ctx: Context, a: int, b: int) -> int:
    return a + b


def count(ctx: Context, steps: int) -> Generator[Any, Any, int]:
    total = 0
    for _ in range(steps):
        total = yield ctx.run(add, total, 1)
    return total


def far(ctx: Context, group: str, a: int, b: int) -> Generator[Any, Any, int]:
    found: int = yield ctx.rpc("add", a, b).options(target=group)
    return found


def client(server: WireServer, group: str = "default", **given: Any) -> Resonate:
    resonate = Resonate(url=server.url, group=group, **given)
    for function in (add, count, far):
        resonate.register(function)
    return resonate


def ids_at(server: WireServer) -> set[str]:
    return {promise.id for promise in server.service.handle([PromiseSearch(limit=1000)])[0].promises or ()}


def test_a_function_with_steps_runs(server: WireServer) -> None:
    with client(server) as resonate:
        assert resonate.run("steps", count, 5) == 5
        assert resonate.run("steps", count, 5) == 5


def test_a_call_goes_to_a_worker_of_another_group(server: WireServer) -> None:
    with client(server, "callers") as caller, client(server, "adders") as adder:
        adder.start()
        assert caller.run("far", far, "adders", 2, 3) == 5
        assert caller.options(target="adders").rpc("direct", "add", 4, 5) == 9


def test_a_handle_waits_for_what_another_client_runs(server: WireServer) -> None:
    with client(server, "callers") as caller, client(server, "adders") as adder:
        handle = caller.options(target="adders").begin_rpc("later", "count", 3)
        adder.start()
        assert handle.result(20) == 3
        assert adder.get("later").result(20) == 3


def test_a_sleep_suspends_and_goes_on(server: WireServer) -> None:
    def nap(ctx: Context) -> Generator[Any, Any, str]:
        for _ in range(3):
            yield ctx.sleep(0.05)
        return "rested"

    with client(server) as resonate:
        resonate.register(nap)
        assert resonate.run("nap", nap) == "rested"


def test_detached_calls_outlive_their_caller(server: WireServer) -> None:
    def start(ctx: Context) -> Generator[Any, Any, str]:
        promise = yield ctx.detached("count", 2)
        return str(promise.id)

    with client(server) as resonate:
        resonate.register(start)
        id = resonate.run("start", start)
        assert resonate.get(id).result(20) == 2


def test_a_promise_is_resolved_from_outside(server: WireServer) -> None:
    ids: list[str] = []
    made = threading.Event()

    def ask(ctx: Context) -> Generator[Any, Any, Any]:
        promise = yield ctx.promise()
        ids.append(promise.id)
        made.set()
        answer = yield promise
        return answer

    with client(server) as resonate, client(server, "others") as other:
        resonate.register(ask)
        handle = resonate.begin_run("ask", ask)
        assert made.wait(20)
        other.promises.resolve(ids[0], data='"yes"')
        assert handle.result(20) == "yes"


def test_an_async_function_gathers(server: WireServer) -> None:
    async def fan(ctx: Context) -> list[int]:
        local = [ctx.run(add, n, n) for n in range(5)]
        remote = [ctx.rpc("add", n, 1) for n in range(5)]
        return list(await asyncio.gather(*local, *remote))

    async def main() -> list[int]:
        async with client(server) as resonate:
            resonate.register(fan)
            found: list[int] = await resonate.aio.run("fan", fan)
            return found

    assert asyncio.run(main()) == [0, 2, 4, 6, 8, 1, 2, 3, 4, 5]


class Text(str):
    """Text of a class of the program's own."""

    __slots__ = ()


def test_ids_keys_tags_and_targets_may_be_of_a_subclass_of_str() -> None:
    named = {"id": Text("main:child"), "tags": {Text("x"): Text("y")}, "idempotency_key": lambda id: Text("key")}

    async def main(ctx: Context) -> int:
        promise = ctx.promise()
        resonate.promises.resolve(promise.id, data="1")
        far: int = await ctx.rpc(Text("add"), 1, 2).options(target=Text("default"), **named)
        settled: int = await promise
        return far + settled

    with serving() as server, client(server) as resonate:
        resonate.register(main)
        assert resonate.options(tags={Text("x"): Text("y")}).run(Text("main"), main) == 4
        resonate.promises.create(Text("p"), 2**53 - 1, ikey=Text("k"), tags={Text("x"): Text("y")})
        resonate.promises.resolve(Text("p"), data=Text("1"), headers={Text("h"): Text("v")})
        assert resonate.get(Text("p")).result() == 1


def test_the_low_level_clients_work_on_a_loop(server: WireServer) -> None:
    async def main() -> str:
        async with client(server) as resonate:
            await resonate.promises.aio.create("p", 2**53 - 1, data='"x"')
            await resonate.promises.aio.resolve("p", data='"y"')
            return (await resonate.promises.aio.get("p")).state

    assert asyncio.run(main()) == "RESOLVED"


def test_a_schedule_fires(server: WireServer) -> None:
    ran = threading.Event()

    def tick(ctx: Context) -> None:
        ran.set()

    with client(server) as resonate:
        resonate.register(tick)
        resonate.schedule("every-second", tick, "* * * * * *")
        assert ran.wait(20)
        resonate.schedules.delete("every-second")


def test_cancelling_reaches_the_client_that_runs_it(server: WireServer) -> None:
    began = threading.Event()

    def wait(ctx: Context) -> Generator[Any, Any, None]:
        yield ctx.run(lambda ctx: began.set())
        yield ctx.promise()
        yield ctx.sleep(3600)

    with client(server) as resonate, client(server, "others") as other:
        resonate.register(wait)
        handle = resonate.begin_run("wait", wait)
        assert began.wait(20)
        other.get("wait").cancel()
        with pytest.raises(ResonateCanceledError):
            handle.result(20)


def test_many_steps_recorded_elsewhere_do_not_run_again(server: WireServer) -> None:
    ran: list[int] = []

    def note(ctx: Context, n: int) -> int:
        ran.append(n)
        return n

    def long(ctx: Context) -> Generator[Any, int, int]:
        total = 0
        for n in range(STEPS):
            total += yield ctx.run(note, n)
        yield ctx.sleep(0.6)
        total += yield ctx.run(note, STEPS)
        return total

    first = client(server, ttl=1)
    first.register(long)
    handle = first.begin_run("long", long)
    server.wait(lambda: "task.suspend" in server.kinds)
    first.stop()
    with client(server) as second:
        second.register(long)
        second.start()
        assert second.get("long").result(20) == sum(range(STEPS + 1))
    assert ran == list(range(STEPS + 1))
    assert handle is not None


def test_deep_trees_keep_their_dialect(server: WireServer) -> None:
    def outer(ctx: Context) -> Generator[Any, Any, int]:
        inner: int = yield ctx.run(count, 2)
        there: int = yield ctx.rpc("far", "default", inner, 1)
        return there

    with client(server) as resonate:
        resonate.register(outer)
        assert resonate.run("deep", outer) == 3
    separator = server.foreign or ":"
    assert {f"deep{separator}1.1", f"deep{separator}2.1"} <= ids_at(server)


def test_the_clock_that_counts_is_the_servers() -> None:
    with serving(clock_skew=3_600_000) as server, client(server) as resonate:
        begun = time.monotonic()

        def nap(ctx: Context) -> Generator[Any, Any, None]:
            yield ctx.sleep(0.3)

        resonate.register(nap)
        resonate.run("nap", nap)  # by our own clock it would have been over an hour ago

    assert 0.25 < time.monotonic() - begun < 10


def test_what_the_server_refuses_is_shown_with_its_words(server: WireServer) -> None:
    with client(server) as resonate, pytest.raises(ResonateStoreError, match="not found"):
        resonate.promises.get("nobody")
