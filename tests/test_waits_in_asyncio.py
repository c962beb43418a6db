"""Durable calls of an async function of which another part waits for something that is no durable call."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from resonate import Resonate
from resonate.retry_policies import Never
from resonate.worker import ticker, worker
from tests.homes import until

pytestmark = pytest.mark.usefixtures("place")
PATIENCE = 20.0


def far(ctx: Any, n: int) -> int:
    return n


async def beside_a_wait(ctx: Any) -> list[Any]:
    waits = asyncio.create_task(asyncio.sleep(3600))
    results = [await ctx.rpc("far", 1), await ctx.rpc("far", 2), await ctx.run(far, 3), await ctx.sleep(0.001)]
    waits.cancel()
    return results


async def through_a_queue(ctx: Any) -> list[int]:
    queue: asyncio.Queue[int | None] = asyncio.Queue()
    results: list[int] = []

    async def produces() -> None:
        for n in range(3):
            await queue.put(await ctx.rpc("far", n))
        await queue.put(None)

    async def consumes() -> None:
        while (n := await queue.get()) is not None:
            results.append(await ctx.run(far, n))

    await asyncio.gather(produces(), consumes())
    return results


@pytest.mark.parametrize(("func", "result"), [(beside_a_wait, [1, 2, 3, None]), (through_a_queue, [0, 1, 2])])
def test_others_are_asked_at_once(func: Any, result: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "PULSE", 10 * PATIENCE)  # no beat makes anything known
    monkeypatch.setattr(ticker, "PULSE", 10 * PATIENCE)
    with Resonate() as r:
        r.register(far)
        r.register(func)
        assert r.begin_run("f", func).result(PATIENCE) == result


# ---- waits that end before the calls do --------------------------------------------------------------


@pytest.mark.parametrize("how", ["first", "exception", "limited", "completed"])
def test_a_function_ends_that_has_not_waited_for_all_its_calls(how: str) -> None:
    for n in range(10):  # what is woken first is chance
        over = threading.Event()

        def step(ctx: Any, n: int, over: threading.Event = over) -> int:
            if n == 1 and how != "limited":
                raise ValueError("no")
            assert n == 0 or over.wait(PATIENCE)
            return n

        async def program(ctx: Any, over: threading.Event = over, step: Any = step) -> int:
            calls = [
                ctx.run(step, n).options(retry_policy=Never()) for n in (range(3) if how != "limited" else range(2, 4))
            ]
            if how == "completed":
                for call in asyncio.as_completed(calls):
                    await asyncio.wait([asyncio.ensure_future(call)])
                    break
            else:
                when = asyncio.FIRST_EXCEPTION if how == "exception" else asyncio.FIRST_COMPLETED
                await asyncio.wait(calls, return_when=when, timeout=0.01 if how == "limited" else None)
            over.set()
            return n

        with Resonate() as client:
            client.register(program)

            assert client.options(timeout=PATIENCE).run(f"p{n}", program) == n


@pytest.mark.parametrize("other", ["limit", "future", "nested"])
def test_what_ends_a_wait_beside_a_durable_call_is_no_reason_to_run_the_code_again(other: str) -> None:
    ran: list[str] = []
    done = threading.Event()

    def step(ctx: Any) -> str:
        done.set()
        return "after"

    async def program(ctx: Any) -> list[Any]:
        loop = asyncio.get_running_loop()
        waits: list[Any] = [ctx.promise(id="answer")]
        if other != "limit":
            waits.append(loop.create_future())
            loop.call_later(0.05, waits[1].set_result, None)
        if other == "nested":
            waits = [asyncio.gather(*waits, asyncio.gather(waits[1])), waits[1]]
        limit = 0.05 if other == "limit" else None
        ended, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED, timeout=limit)
        ran.append("code")
        return [len(ended), await ctx.run(step), await waits[0] if other != "nested" else None]

    with Resonate() as client:
        client.register(program)
        handle = client.begin_run("p", program)
        assert done.wait(PATIENCE)
        client.promises.resolve("answer", data='"yes"')

        assert handle.result(PATIENCE) == [0 if other == "limit" else 1, "after", None if other == "nested" else "yes"]
        assert ran == ["code"]


def test_a_function_that_waits_for_combinators_of_durable_calls_is_suspended() -> None:
    async def program(ctx: Any) -> Any:
        a, b, c = (ctx.promise(id=name) for name in "abc")
        pair = asyncio.gather(a, b)
        await asyncio.wait([pair, asyncio.shield(c)])
        return [*await pair, await c]

    with Resonate() as client:
        client.register(program)
        handle = client.begin_run("p", program)
        warm = client._core.started().warm
        until(lambda: "p" in warm)
        for name in "abc":
            client.promises.resolve(name, data=f'"{name}"')

        assert handle.result(PATIENCE) == ["a", "b", "c"]
