"""The compared programs for this package: async functions inside one event loop, as in `sdk081.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from measure import latencies, main, now, percentile
from resonate import Context, Resonate

STEPS = 1_000
Figures = dict[str, float]


async def step(ctx: Context, n: int) -> int:
    return n + 1


async def one(ctx: Context, n: int) -> int:
    result: int = await ctx.run(step, n)
    return result


async def chain(ctx: Context, n: int) -> int:
    total = 0
    for i in range(n):
        total += await ctx.run(step, i)
    return total


async def fan(ctx: Context, n: int) -> int:
    begun = [ctx.run(step, i) for i in range(n)]
    total = 0
    for future in begun:
        total += await future
    return total


def inside(measured: Callable[[Resonate], Coroutine[Any, Any, Figures]]) -> Callable[[], Figures]:
    """Run `measured` with a warm client that is bound to a new event loop."""

    async def body() -> Figures:
        async with Resonate() as resonate:
            for function in (one, chain, fan):
                resonate.register(function)
            for i in range(200):
                assert await resonate.aio.run(f"warm-{i}", one, i) == i + 1
            return await measured(resonate)

    return lambda: asyncio.run(body())


async def one_step(resonate: Resonate) -> Figures:
    samples = []
    for i in range(5_000):
        begin = now()
        await resonate.aio.run(f"one-{i}", one, i)
        samples.append(now() - begin)
    return latencies(samples)


async def elapsed(resonate: Resonate, function: Any) -> float:
    """Median seconds of ten runs of 1,000 steps each."""
    samples = []
    for i in range(10):
        begin = now()
        assert await resonate.aio.run(f"{function.__name__}-{i}", function, STEPS) == STEPS * (STEPS + 1) // 2
        samples.append(now() - begin)
    return percentile(samples, 0.5)


async def sequential(resonate: Resonate) -> Figures:
    return {"steps_per_s": STEPS / await elapsed(resonate, chain)}


async def fanout(resonate: Resonate) -> Figures:
    return {"ms": await elapsed(resonate, fan) * 1e3}


if __name__ == "__main__":
    main({"one_step": inside(one_step), "sequential": inside(sequential), "fanout": inside(fanout)})
