"""A world in memory: time that is skipped, clients that crash, and what is said when nothing can happen."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from resonate.errors import ClientStopped, ResonateShutdownError, ResonateTimedoutError
from resonate.registry import Registry
from resonate.retry_policies import Constant
from resonate.testing import Crashed, Stuck, World, WorldClient

pytest_plugins = ["resonate.testing.fixtures"]

DAY = 86400


def double(ctx: Any, n: int) -> int:
    return 2 * n


def naps(ctx: Any, seconds: float) -> Any:
    yield ctx.sleep(seconds)
    return "awake"


def waits(ctx: Any) -> Any:
    return (yield (yield ctx.promise(id="answer")))


def seconds_in(world: World, act: Callable[[], object]) -> float:
    """How much time of the world passes while `act` is done."""
    before = world.clock.now()
    act()
    return (world.clock.now() - before) / 1000


# ---- time -------------------------------------------------------------------------------------------


def test_a_month_of_sleep_takes_no_time(resonate: WorldClient, world: World) -> None:
    resonate.register(naps)
    began = time.monotonic()

    slept = seconds_in(world, lambda: resonate.run("n", naps, 30 * DAY))

    assert slept == 30 * DAY
    assert time.monotonic() - began < 20


def test_time_stands_still_until_somebody_waits(resonate: WorldClient, world: World) -> None:
    resonate.register(naps)
    handle = resonate.begin_run("n", naps, 60)

    assert seconds_in(world, world.settle) == 0
    assert not handle.done()


def test_advance_passes_exactly_the_time_that_is_asked_for(resonate: WorldClient, world: World) -> None:
    resonate.register(naps)
    handle = resonate.begin_run("n", naps, 60)

    assert seconds_in(world, lambda: world.advance(59.9)) == 59.9
    assert not handle.done()
    world.advance(0.1)
    assert handle.done()


def test_skip_goes_from_one_instant_to_the_next(world: World) -> None:
    done: list[int] = []
    for second in (3, 1, 2):
        world.after(second, lambda second=second: done.append(second))  # type: ignore[misc]

    assert world.skip()
    assert done == [1]
    assert seconds_in(world, world.skip) == 1
    assert done == [1, 2]


def test_skip_says_when_nothing_will_ever_be_due(world: World) -> None:
    assert not world.skip()


def test_a_handle_waits_as_long_as_the_clock_of_the_world_says(resonate: WorldClient, world: World) -> None:
    resonate.register(naps)
    handle = resonate.begin_run("n", naps, 60)

    with pytest.raises(TimeoutError, match="not done after 30 s"):
        handle.result(timeout=30)
    assert handle.result(timeout=31) == "awake"


def test_a_deadline_is_reached_in_no_time(resonate: WorldClient, world: World) -> None:
    resonate.register(naps)

    with pytest.raises(ResonateTimedoutError):
        resonate.options(timeout=3600).run("n", naps, DAY)
    assert world.clock.now() / 1000 == pytest.approx(1_700_000_000 + 3600, abs=1)


def test_backoffs_are_skipped_and_keep_their_lease(resonate: WorldClient, world: World) -> None:
    tries = []

    @resonate.register
    def flaky(ctx: Any) -> int:
        tries.append(world.clock.now())
        if len(tries) < 3:
            raise ConnectionError
        return len(tries)

    policy = Constant(delay=45, max_retries=5)

    assert resonate.options(retry_policy=policy).run("f", flaky) == 3
    assert [round((b - a) / 1000) for a, b in pairwise(tries)] == [45, 45]


def test_functions_see_the_time_of_the_world(resonate: WorldClient) -> None:
    @resonate.register
    def clock(ctx: Any) -> Any:
        before = yield ctx.time.time()
        yield ctx.sleep(7 * DAY)
        return (yield ctx.time.strftime("%Y-%m-%d")), (yield ctx.time.time()) - before

    assert resonate.run("c", clock) == ("2023-11-21", 7 * DAY)


def test_sleeps_of_asyncio_are_skipped_too(resonate: WorldClient, world: World) -> None:
    @resonate.register
    async def rests(ctx: Any) -> str:
        async with asyncio.timeout(DAY):
            await asyncio.sleep(3600)
        return "rested"

    assert seconds_in(world, lambda: resonate.run("r", rests)) == 3600


def test_a_schedule_fires_through_the_days(resonate: WorldClient, world: World) -> None:
    runs: list[int] = []

    @resonate.register
    def report(ctx: Any) -> None:
        runs.append(world.clock.now())

    resonate.schedule("daily", report, "0 6 * * *")
    world.advance(3 * DAY)

    assert [(at // 1000) % DAY for at in runs] == [6 * 3600] * 3


# ---- what happens outside ------------------------------------------------------------------------------


def test_somebody_outside_settles_what_a_function_waits_for(resonate: WorldClient, world: World) -> None:
    resonate.register(waits)
    world.after(3600, lambda: world.promises.resolve("answer"))

    assert seconds_in(world, lambda: resonate.run("w", waits)) == 3600


def test_an_answer_that_never_comes_is_a_timeout_in_no_time(resonate: WorldClient) -> None:
    resonate.register(waits)

    with pytest.raises(ResonateTimedoutError):
        resonate.options(timeout=60).run("w", waits)


def test_an_async_function_may_wait_for_threads(resonate: WorldClient, world: World) -> None:
    @resonate.register
    async def works(ctx: Any) -> int:
        def elsewhere() -> int:
            time.sleep(0.02)
            return threading.get_ident()

        assert threading.get_ident() != await asyncio.to_thread(elsewhere)
        return int(await ctx.run(double, 4))

    assert seconds_in(world, lambda: resonate.run("w", works)) < 1


def test_an_async_function_may_wait_for_sockets(resonate: WorldClient, world: World) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    @resonate.register
    async def asks(ctx: Any) -> str:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"hello\n")
        line = await asyncio.wait_for(reader.readline(), 30)
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return line.decode().strip()

    assert resonate.run("a", asks) == "HELLO"


def test_a_world_is_driven_from_a_loop_of_the_program(resonate: WorldClient, world: World) -> None:
    resonate.register(naps)

    async def main() -> list[str]:
        handle = await resonate.aio.begin_run("a", naps, DAY)
        return [await resonate.aio.run("b", naps, 3 * DAY), await handle]

    assert asyncio.run(main()) == ["awake", "awake"]


def test_a_step_may_call_run(resonate: WorldClient) -> None:
    resonate.register(naps)

    @resonate.register
    def outer(ctx: Any) -> Any:
        return resonate.run("inner", naps, 10)

    @resonate.register
    def outermost(ctx: Any) -> Any:
        return (yield ctx.run(outer))

    assert resonate.run("outer", outermost) == "awake"


def test_begin_run_goes_on_when_there_is_room(world: World) -> None:
    client = world.client(max_concurrent=1)

    @client.register
    async def rests(ctx: Any) -> None:
        await asyncio.sleep(60)

    for n in range(3):
        client.begin_run(f"r{n}", rests)

    assert world.clock.now() / 1000 == 1_700_000_000 + 120


# ---- clients -----------------------------------------------------------------------------------------------


def test_clients_of_two_groups_call_each_other(world: World) -> None:
    shop, bank = world.client(group="shop"), world.client(group="bank")
    bank.register(double)
    bank.start()

    @shop.register
    def order(ctx: Any) -> Any:
        return (yield ctx.rpc("double", 21).options(target="bank"))

    assert shop.run("o", order) == 42
    assert [event.client for event in world.trace.events if event.detail == "double"] == ["bank-1", "bank-1"]


def test_another_client_takes_over_when_the_lease_of_a_crashed_one_is_over(world: World) -> None:
    registry = Registry()
    first = world.client(registry=registry, ttl=20)
    first.register(naps)
    first.begin_run("n", naps, 5)
    world.settle()
    first.crash()
    second = world.client(registry=registry)
    second.start()

    assert first.crashed
    assert second.get("n").result() == "awake"
    assert [event.client for event in world.trace.events if event.what == "start"] == ["default-1", "default-2"]


def test_a_step_that_kills_its_client_runs_again_elsewhere(world: World) -> None:
    registry = Registry()
    clients = [world.client(registry=registry), world.client(registry=registry)]
    ran: list[str] = []

    @clients[0].register
    def fatal(ctx: Any) -> str:
        ran.append("fatal")
        if len(ran) == 1:
            clients[0].crash()
        return "survived"

    @clients[0].register
    def root(ctx: Any) -> Any:
        try:
            return (yield ctx.run(fatal))
        finally:
            ran.append("left")

    with pytest.raises(Crashed):
        clients[0].run("r", root)

    assert clients[1].run("r", root) == "survived"
    assert ran == ["fatal", "fatal", "left"]


def test_a_crashed_client_answers_no_more(world: World) -> None:
    client = world.client()
    client.register(double)
    client.run("d", double, 1)
    client.crash()

    with pytest.raises(ClientStopped):
        client.run("d", double, 1)


def test_cleanup_of_crashed_code_waits_for_the_end_of_the_world() -> None:
    cleaned: list[str] = []

    def holds(ctx: Any) -> Any:
        try:
            yield ctx.sleep(60)
        finally:
            cleaned.append("generator")

    async def holds_too(ctx: Any) -> None:
        try:
            await ctx.sleep(60)
        finally:
            cleaned.append("async")

    with World() as world:
        client = world.client()
        for func in (holds, holds_too):
            client.register(func)
            client.begin_run(func.__name__, func)
        world.settle()
        client.crash()
        world.advance(3600)
        assert cleaned == []

    assert sorted(cleaned) == ["async", "generator"]


def test_a_client_that_is_stopped_gives_its_tasks_back_at_once(world: World) -> None:
    first = world.client()

    @first.register
    async def rests(ctx: Any) -> str:
        await asyncio.sleep(60)
        return "rested"

    handle = first.begin_run("r", rests)
    world.settle()
    first.stop()
    second = world.client()
    second.register(rests.func)

    with pytest.raises(ResonateShutdownError):
        handle.result()
    assert seconds_in(world, lambda: second.run("r", rests.func)) == 60


def test_everybody_is_stopped_at_the_end_of_the_world() -> None:
    with World() as world:
        client = world.client()
        client.register(naps)
        handle = client.begin_run("n", naps, 60)

    with pytest.raises(ResonateShutdownError):
        handle.result()


def test_a_bad_name_is_refused(world: World) -> None:
    with pytest.raises(ValueError, match="group"):
        world.client(group="a/b")


# ---- when nothing can happen -----------------------------------------------------------------------------------


def test_waiting_for_nothing_is_an_error_that_says_what_waits(world: World) -> None:
    with pytest.raises(Stuck, match="nothing can happen"):
        world.run_until(lambda: False)


def test_an_async_function_that_waits_for_nothing_is_named(
    resonate: WorldClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resonate.testing.world.FRUITLESS", 1000)

    @resonate.register
    async def hangs(ctx: Any) -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stuck, match="h in default-1 waits for something that is no durable call"):
        resonate.run("h", hangs)


def test_a_call_that_no_worker_can_take_is_named(resonate: WorldClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resonate.testing.world.FRUITLESS", 1000)

    with pytest.raises(Stuck, match="default-1 waits for the result of nobody"):
        resonate.rpc("nobody", "unknown")


def test_a_sound_world_passes_its_check(resonate: WorldClient, world: World) -> None:
    resonate.register(naps)
    resonate.run("n", naps, 1)

    world.check()


def test_a_finished_step_that_starts_again_fails_the_check(resonate: WorldClient, world: World) -> None:
    resonate.register(double)
    resonate.run("d", double, 1)
    held = type("Held", (), {"execution": type("Execution", (), {"id": "d", "calls": {}})})
    call = type("Call", (), {"id": "d", "name": "double", "attempt": 1, "prefix": "d:"})
    world.trace.started("default-1", held.execution, call)  # type: ignore[arg-type,attr-defined]

    with pytest.raises(AssertionError, match=r"d \(double\) started in default-1 although its result is recorded"):
        world.check()
