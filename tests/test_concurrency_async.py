"""Several chains of calls at once in an async function: they replay right whatever came first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from resonate.testing import Simulation, WorldClient
from tests.homes import Home, every_home

pytestmark = pytest.mark.usefixtures("place")

Program = Callable[..., Any]


class Steps:
    """A step that counts how often it ran for each of its arguments."""

    def __init__(self) -> None:
        self.ran: dict[str, int] = {}

    def of(self) -> Program:
        def step(ctx: Any, name: str) -> str:
            self.ran[name] = self.ran.get(name, 0) + 1
            return name

        return step

    def aof(self, chance: Random | None = None) -> Program:
        async def astep(ctx: Any, name: str) -> str:
            self.ran[name] = self.ran.get(name, 0) + 1
            for _ in range(chance.randrange(4) if chance is not None else 1):
                await asyncio.sleep(0)
            return name

        return astep

    @property
    def once(self) -> bool:
        return set(self.ran.values()) == {1}


# ---- chains --------------------------------------------------------------------------------------


@every_home
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("combine", ["gather", "group", "completed", "lazily", "wait", "nested"])
def test_chains_replay_right_however_they_interleave(kind: str, evict: bool, combine: str, seed: int) -> None:
    steps, chance = Steps(), Random(seed)
    step = steps.aof(chance)

    async def chain(ctx: Any, name: str, length: int) -> str:
        done = [await ctx.run(step, f"{name}{n}") for n in range(length)]
        return "".join(done)

    async def pair(ctx: Any, name: str) -> str:
        return " ".join(await asyncio.gather(chain(ctx, name + "x", 2), chain(ctx, name + "y", 1)))

    async def together(ctx: Any, names: str) -> list[str]:
        if combine == "group":
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(chain(ctx, name, 3)) for name in names]
            return [task.result() for task in tasks]
        if combine == "completed":
            return sorted([await each for each in asyncio.as_completed([chain(ctx, n, 3) for n in names])])
        if combine == "lazily":
            return sorted([await each for each in asyncio.as_completed(iter([chain(ctx, n, 3) for n in names]))])
        if combine == "wait":
            made = [asyncio.create_task(chain(ctx, name, 3)) for name in names]
            await asyncio.wait(made)
            return [task.result() for task in made]
        if combine == "nested":
            return list(await asyncio.gather(*(pair(ctx, name) for name in names)))
        return list(await asyncio.gather(*(chain(ctx, name, 3) for name in names)))

    async def program(ctx: Any) -> Any:
        before = await together(ctx, "abc")
        answer = await ctx.promise(id="answer")
        after = await together(ctx, "def")
        return [before, answer, after]

    def expected(names: str) -> list[str]:
        if combine == "nested":
            return [f"{n}x0{n}x1 {n}y0" for n in names]
        return ["".join(f"{n}{i}" for i in range(3)) for n in names]

    with Home(kind, evict) as home:
        handle = home.start("p", program)
        home.suspended("p")
        home.resolve("answer", "42")

        assert handle.result() == [expected("abc"), 42, expected("def")]
        assert steps.once


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("following", ["run", "rpc", "sleep", "promise", "detached"])
def test_what_follows_the_first_outcome_is_the_same_on_replay(following: str, seed: int) -> None:
    """`as_completed` sees an order that is chance; what it did next must be found again by a replay."""
    with Simulation(seed) as world:
        client, other = world.client(), world.client()
        steps = Steps()
        step = steps.of()

        async def chain(ctx: Any, name: str) -> str:
            await ctx.sleep(1)
            await ctx.rpc("remote", name)
            return name

        async def program(ctx: Any) -> list[str]:
            order = []
            for done in asyncio.as_completed([chain(ctx, name) for name in "abcd"]):
                name = await done
                order.append(name)
                match following:
                    case "run":
                        await ctx.run(step, name)
                    case "rpc":
                        await ctx.rpc("remote", name * 2)
                    case "sleep":
                        await ctx.sleep(1 + ord(name) % 3)
                    case "promise":
                        ctx.promise(id=f"told-{name}", timeout=1).id
                    case _:
                        await ctx.detached("remote", name * 2)
            last = await ctx.promise(id="answer")
            return [*order, last]

        def remote(ctx: Any, name: str) -> str:
            return name

        for each in (client, other):
            each.register(remote)
        client.register(program)
        handle = client.begin_run("p", program)
        worker = client._core.started()
        for _ in range(40):
            world.advance(0.5)
            for held in list(worker.warm.values()):
                worker.evict(held)
        world.promises.resolve("answer", data='"end"')

        assert sorted(handle.result()) == ["a", "b", "c", "d", "end"]
        assert set(steps.ran.values()) <= {1}
        world.check()


@every_home
def test_the_order_that_was_seen_is_the_order_of_the_replay(kind: str, evict: bool) -> None:
    seen: list[list[str]] = []

    async def waits(ctx: Any, name: str) -> str:
        await ctx.promise(id=name)
        return name

    async def program(ctx: Any) -> Any:
        order: list[str] = []
        seen.append(order)
        for done in asyncio.as_completed([waits(ctx, name) for name in "abc"]):
            order.append(await done)
            await ctx.run(lambda _: None)
        await ctx.promise(id="answer")
        return order

    with Home(kind, evict) as home:
        handle = home.start("p", program)
        for name in ("c", "a", "b", "answer"):
            home.suspended("p")
            home.resolve(name)

        assert handle.result() == ["c", "a", "b"]
        assert seen[-1] == ["c", "a", "b"]
        assert len(seen) == (5 if evict else 1)


# ---- failures ------------------------------------------------------------------------------------


@every_home
def test_a_failing_task_group_cancels_its_other_tasks_and_replays(kind: str, evict: bool) -> None:
    steps = Steps()
    step = steps.of()

    async def good(ctx: Any) -> None:
        await ctx.run(step, "good")
        await ctx.promise(id="never", timeout=3600)
        await ctx.run(step, "unreached")

    async def bad(ctx: Any) -> None:
        await ctx.promise(id="go")
        await ctx.run(step, "bad")
        raise ValueError("bad")

    async def program(ctx: Any) -> Any:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(good(ctx))
                group.create_task(bad(ctx))
        except* ValueError as errors:
            texts = [str(error) for error in errors.exceptions]
            await ctx.run(step, "handled")
            await ctx.promise(id="answer")
            assert texts == ["bad"]
        return "ended"

    with Home(kind, evict) as home:
        handle = home.start("p", program)
        for name in ("go", "answer", "never"):
            home.suspended("p")
            home.resolve(name)

        assert handle.result() == "ended"
        assert steps.ran == {"good": 1, "bad": 1, "handled": 1}


def test_gather_that_returns_exceptions_gives_them(resonate: WorldClient) -> None:
    async def chain(ctx: Any, n: int) -> int:
        await ctx.sleep(n)
        if n == 2:
            raise ValueError("two")
        return n

    @resonate.register
    async def program(ctx: Any) -> Any:
        values = await asyncio.gather(*(chain(ctx, n) for n in (1, 2, 3)), return_exceptions=True)
        return [str(value) for value in values]

    assert resonate.run("p", program) == ["1", "two", "3"]


def test_tasks_with_durable_calls_that_nobody_awaits_are_joined(resonate: WorldClient) -> None:
    ended: list[str] = []

    async def chain(ctx: Any) -> None:
        await ctx.sleep(5)
        ended.append(await ctx.run(lambda _: "chain"))

    @resonate.register
    async def program(ctx: Any) -> str:
        program.task = asyncio.create_task(chain(ctx))  # type: ignore[attr-defined]
        await ctx.sleep(1)
        return "program"

    assert resonate.run("p", program) == "program"
    assert ended == ["chain"]


# ---- ids -----------------------------------------------------------------------------------------


def name_of(ctx: Any) -> str:
    return str(ctx.id)


def test_each_task_has_numbers_of_its_own_by_its_coroutine_and_place(resonate: WorldClient) -> None:
    async def left(ctx: Any) -> list[str]:
        return [await ctx.run(name_of), await ctx.run(name_of)]

    async def right(ctx: Any) -> list[str]:
        inner = asyncio.create_task(left(ctx))
        return [await ctx.run(name_of), *(await inner)]

    @resonate.register
    async def program(ctx: Any) -> Any:
        return [await ctx.run(name_of), *(await asyncio.gather(left(ctx), left(ctx), right(ctx)))]

    assert resonate.run("p", program) == [
        "p:1",
        ["p:left-1.1", "p:left-1.2"],
        ["p:left-2.1", "p:left-2.2"],
        ["p:right-1.1", "p:right-1.left-1.1", "p:right-1.left-1.2"],
    ]


def test_tasks_of_a_library_do_not_shift_ours(resonate: WorldClient) -> None:
    async def library() -> None:
        await asyncio.sleep(0)

    async def ours(ctx: Any) -> Any:
        return await ctx.run(name_of)

    @resonate.register
    async def program(ctx: Any, noise: int) -> Any:
        for _ in range(noise):
            await asyncio.create_task(library())
        return [await asyncio.create_task(ours(ctx)), await ctx.run(name_of)]

    assert resonate.run("a", program, 0) == ["a:ours-1.1", "a:1"]
    assert resonate.run("b", program, 3) == ["b:ours-1.1", "b:1"]


def test_a_thousand_calls_at_once(resonate: WorldClient) -> None:
    @resonate.register
    async def program(ctx: Any) -> int:
        return sum(await asyncio.gather(*(ctx.run(lambda _, n: n, n) for n in range(1000))))

    assert resonate.run("p", program) == 499500


@every_home
def test_a_queue_between_two_tasks_replays(kind: str, evict: bool) -> None:
    steps = Steps()
    step = steps.of()

    async def producer(ctx: Any, queue: asyncio.Queue[Any]) -> None:
        for name in "abc":
            queue.put_nowait(await ctx.run(step, name))
            await ctx.sleep(0.001)
        queue.put_nowait(None)

    async def program(ctx: Any) -> Any:
        queue: asyncio.Queue[Any] = asyncio.Queue()
        making = asyncio.create_task(producer(ctx, queue))
        seen = []
        while (item := await queue.get()) is not None:
            seen.append(await ctx.run(step, item * 2))
        await making
        await ctx.promise(id="answer")
        return seen

    with Home(kind, evict) as home:
        handle = home.start("p", program)
        home.suspended("p", awaiting="answer")
        home.resolve("answer")

        assert handle.result() == ["aa", "bb", "cc"]
        assert steps.ran == dict.fromkeys(("a", "b", "c", "aa", "bb", "cc"), 1)


@every_home
def test_locks_and_events_of_asyncio_keep_their_order_on_replay(kind: str, evict: bool) -> None:
    steps = Steps()
    step = steps.of()

    async def worker(ctx: Any, lock: asyncio.Lock, name: str) -> str:
        async with lock:
            await ctx.run(step, f"{name}1")
            await ctx.sleep(0.001)
            return str(await ctx.run(step, f"{name}2"))

    async def program(ctx: Any) -> Any:
        lock = asyncio.Lock()
        values = await asyncio.gather(*(worker(ctx, lock, name) for name in "abc"))
        await ctx.promise(id="answer")
        return values

    with Home(kind, evict) as home:
        handle = home.start("p", program)
        home.suspended("p", awaiting="answer")
        home.resolve("answer")

        assert handle.result() == ["a2", "b2", "c2"]
        assert steps.once
