"""Which way a wait of asyncio ended is history: a replay takes the way that the code took before its process died."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from resonate.errors import NonDeterminismError
from resonate.testing import Crashed, World, WorldClient

SLOW = 0.5
SHORT = 0.1
CHECKPOINTS = 12
"""More than any of these functions has."""


async def slow(ctx: Any, seconds: float) -> float:
    await ctx.sleep(seconds)
    return seconds


def note(ctx: Any, given: Any) -> Any:
    noted.append(now[-1])
    return given


now: list[Any] = []
"""What the running code has just seen."""

noted: list[Any] = []
"""The same, when the step after it ran."""


async def with_timeout(ctx: Any) -> Any:
    try:
        async with asyncio.timeout(SHORT):
            return await ctx.run(slow, SLOW)
    except TimeoutError:
        return "too late"


async def with_wait_for(ctx: Any) -> Any:
    try:
        return await asyncio.wait_for(ctx.run(slow, SLOW), SHORT)
    except TimeoutError:
        return "too late"


async def with_wait(ctx: Any) -> Any:
    done, left = await asyncio.wait([asyncio.ensure_future(ctx.run(slow, SLOW))], timeout=SHORT)
    return len(done), len(left)


async def with_a_look(ctx: Any) -> Any:
    call = ctx.run(slow, SLOW)
    await asyncio.sleep(SHORT)
    return call.done()


async def beside_another_task(ctx: Any) -> Any:
    call = asyncio.ensure_future(ctx.run(slow, SLOW))
    ticks = []

    async def ticking() -> None:
        for tick in range(3):
            await asyncio.sleep(SHORT)
            ticks.append((await ctx.run(slow, 0.01), call.done(), tick))

    await asyncio.gather(ticking())
    return [done for _, done, _ in ticks]


WAYS = [with_timeout, with_wait_for, with_wait, with_a_look, beside_another_task]


def ended(world: World, client: WorldClient, func: Callable[..., Any]) -> Any:
    client.register(func)
    client.register(slow)
    return client.run("p", func)


def replayed(func: Callable[..., Any], check: Callable[[Any], None]) -> int:
    """Have `func` crash at each of its writes, and `check` each result; returns how often it crashed."""
    crashes = 0
    for batch in range(1, CHECKPOINTS):
        for applied in (False, True):
            now.clear()
            noted.clear()
            with World() as world:
                first = world.client()
                first.crash_at(batch, applied=applied)
                try:
                    result = ended(world, first, func)
                except Crashed:
                    crashes += 1
                    first.crash()
                    result = ended(world, world.client(), func)
            check(result)
    return crashes


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("same", [False, True], ids=["other steps", "the same step"])
def test_the_code_goes_the_way_that_its_record_shows(way: Callable[..., Any], same: bool) -> None:
    async def program(ctx: Any) -> Any:
        seen = await way(ctx)
        now.append(seen)
        told = await ctx.run(note, "same" if same else seen)
        await ctx.sleep(1)
        await ctx.run(slow, 0.01)
        return seen, told

    def check(result: Any) -> None:
        seen, told = result
        assert told == ("same" if same else seen)
        assert seen == noted[-1], "the step that is recorded ran when something else had been seen"

    assert replayed(program, check) > 5


def test_rounds_of_waits_for_the_first_are_the_same_again() -> None:
    kept: dict[int, list[float]] = {}

    def keep(ctx: Any, number: int, results: list[float]) -> list[float]:
        kept[number] = results
        return results

    async def program(ctx: Any) -> Any:
        pending: set[Any] = {asyncio.ensure_future(ctx.run(slow, seconds)) for seconds in (0.4, 0.2, 0.6)}
        rounds: list[list[float]] = []
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            rounds.append(await ctx.run(keep, len(rounds), sorted(each.result() for each in done)))
        return rounds

    def check(result: Any) -> None:
        assert result == [kept[number] for number in range(len(result))]
        assert sorted(each for results in result for each in results) == [0.2, 0.4, 0.6]

    assert replayed(program, check) > 5


def test_code_that_no_longer_goes_on_by_itself_is_told_what_there_is_and_halted() -> None:
    async def limited(ctx: Any) -> Any:
        call = asyncio.ensure_future(ctx.run(slow, SLOW))
        await asyncio.wait([call], timeout=SHORT)
        await ctx.run(slow, 0.01)
        await ctx.sleep(10)
        return await call

    async def changed(ctx: Any) -> Any:
        await ctx.run(slow, SLOW)
        await ctx.run(note, "other")

    with World() as world:
        first = world.client()
        first.register(limited, name="f")
        first.register(slow)
        first.begin_run("p", "f")
        world.advance(5)
        first.crash()
        second = world.client()
        second.register(changed, name="f")
        second.register(slow)
        handle = second.get("p")
        world.settle()
        with pytest.raises(NonDeterminismError, match="'p:2'"):
            handle.result()
