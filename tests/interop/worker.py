"""A worker written with the official Python SDK 0.8.1: `python worker.py URL GROUP [NOTES]`."""

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

from resonate.context import Context
from resonate.resonate import Resonate
from resonate.retry import Never

URL, GROUP = sys.argv[1], sys.argv[2]
NOTES = Path(sys.argv[3]) if len(sys.argv) > 3 else None


async def add(ctx: Context, a, b):
    return a + b


async def echo(ctx: Context, value):
    return value


async def fail(ctx: Context, message):
    raise ValueError(message)


async def flow(ctx: Context, target, n):
    """A local step, a sleep, a call of another group, and an error of it."""
    doubled = await ctx.run(add, n, n)
    await ctx.sleep(timedelta(milliseconds=50))
    added = await ctx.options(target=target).rpc("add", doubled, 1)
    try:
        await ctx.options(target=target).rpc("fail", "as asked")
        caught = "nothing"
    except Exception as error:
        caught = str(error)
    return [added, caught]


async def waits(ctx: Context):
    promise = ctx.promise(timeout=timedelta(minutes=5))
    return await promise


async def leaves(ctx: Context, target, id):
    await ctx.options(target=target).detached("mark", id)
    return "left"


async def note(ctx: Context, name):
    with NOTES.open("a") as file:
        file.write(f"{name}\n")
    return name


async def survives(ctx: Context):
    first = await ctx.run(note, "first")
    while not Path(f"{NOTES}.go").exists():
        await asyncio.sleep(0.02)
    return [first, await ctx.run(note, "second")]


async def main():
    resonate = Resonate(url=URL, group=GROUP, ttl=timedelta(seconds=2))
    for function in (add, echo, flow, waits, leaves, survives):
        resonate.register(function)
    resonate.register(fail, retry_policy=Never())
    print("ready", flush=True)
    await asyncio.sleep(3600)


asyncio.run(main())
