"""The compared programs for resonate-sdk 0.8.1: async functions, local mode, inside one event loop."""

from __future__ import annotations

import asyncio

from measure import latencies, main, now
from resonate.context import Context
from resonate.resonate import Resonate

STEPS = 1_000


async def step(ctx: Context, n: int) -> int:
    return n + 1


async def one(ctx: Context, n: int) -> int:
    return await ctx.run(step, n)


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


async def client() -> Resonate:
    resonate = Resonate()
    for function in (step, one, chain, fan):
        resonate.register(function)
    for i in range(50):
        assert await resonate.run(f"warm-{i}", one, i).result() == i + 1
    return resonate


async def one_step() -> dict[str, float]:
    resonate, samples = await client(), []
    for i in range(500):
        begin = now()
        await resonate.run(f"one-{i}", one, i).result()
        samples.append(now() - begin)
    await resonate.stop()
    return latencies(samples)


async def sequential() -> dict[str, float]:
    resonate = await client()
    begin = now()
    assert await resonate.run("sequential", chain, STEPS).result() == STEPS * (STEPS + 1) // 2
    elapsed = now() - begin
    await resonate.stop()
    return {"steps_per_s": STEPS / elapsed}


async def fanout() -> dict[str, float]:
    resonate = await client()
    begin = now()
    assert await resonate.run("fanout", fan, STEPS).result() == STEPS * (STEPS + 1) // 2
    elapsed = now() - begin
    await resonate.stop()
    return {"ms": elapsed * 1e3}


if __name__ == "__main__":
    main(
        {
            "one_step": lambda: asyncio.run(one_step()),
            "sequential": lambda: asyncio.run(sequential()),
            "fanout": lambda: asyncio.run(fanout()),
        }
    )
