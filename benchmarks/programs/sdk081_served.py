"""The same programs for resonate-sdk 0.8.1, against the server that BENCH_SERVER names."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from uuid import uuid4

from measure import latencies, main, now
from resonate.context import Context
from resonate.resonate import Resonate

RUN = uuid4().hex[:8]


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


async def client(group: str = "default") -> Resonate:
    resonate = Resonate(url=os.environ["BENCH_SERVER"], group=group)
    for function in (step, one, chain, fan):
        resonate.register(function)
    for i in range(5):
        await resonate.run(f"warm-{group}-{RUN}-{os.getpid()}-{i}", one, i).result()
    return resonate


async def one_step() -> dict[str, float]:
    resonate, samples = await client(), []
    for i in range(50):
        begin = now()
        await resonate.run(f"one-{RUN}-{i}", one, i).result()
        samples.append(now() - begin)
    await resonate.stop()
    return latencies(samples)


async def sequential() -> dict[str, float]:
    resonate = await client()
    begin = now()
    await resonate.run(f"sequential-{RUN}", chain, 300).result()
    elapsed = now() - begin
    await resonate.stop()
    return {"steps_per_s": 300 / elapsed}


async def fanout() -> dict[str, float]:
    resonate = await client()
    begin = now()
    await resonate.run(f"fan-{RUN}", fan, 300).result()
    elapsed = now() - begin
    await resonate.stop()
    return {"steps_per_s": 300 / elapsed}


async def concurrent() -> dict[str, float]:
    resonate = await client()
    begin = now()
    for start in range(0, 500, 100):
        handles = [resonate.run(f"many-{RUN}-{i}", one, i) for i in range(start, start + 100)]
        await asyncio.gather(*(handle.result() for handle in handles))
    elapsed = now() - begin
    await resonate.stop()
    return {"runs_per_s": 500 / elapsed}


async def remote() -> dict[str, float]:
    worker = subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    worker.stdout.readline()
    resonate, samples = await client("caller"), []
    for i in range(50):
        begin = now()
        await resonate.options(target="worker").rpc(f"remote-{RUN}-{i}", "one", i).result()
        samples.append(now() - begin)
    await resonate.stop()
    worker.kill()
    worker.communicate()
    return latencies(samples)


async def serve() -> dict[str, float]:
    await client("worker")
    print("ready", flush=True)
    await asyncio.sleep(3600)
    return {}


if __name__ == "__main__":
    programs = (one_step, sequential, fanout, concurrent, remote, serve)
    main({program.__name__: lambda program=program: asyncio.run(program()) for program in programs})
