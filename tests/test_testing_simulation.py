"""One seed is one history: random programs on several workers that die at random, under many seeds."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from resonate.registry import Registry
from resonate.retry_policies import Constant, Never
from resonate.testing import Crashed, Simulation, World, WorldClient

SEEDS = range(40)

# A plan is a tree of what a program does: (kind, children or argument). Its value is known beforehand.
Plan = list[Any]


def make_plan(chance: Random, depth: int) -> Plan:
    kinds = ["step", "sleep", "flaky", "fails", "asks", "map", "race"]
    if depth:
        kinds += ["run", "fan", "rpc", "async", "gather", "group", "completed", "detached", "all"] * 3
    kind = chance.choice(kinds)
    if kind in ("step", "fails", "asks", "map", "race"):
        return [kind, chance.randrange(100)]
    if kind == "sleep":
        return [kind, chance.choice([0.01, 5, 90])]
    if kind == "flaky":
        return [kind, chance.randrange(1, 4)]
    return [kind, [make_plan(chance, depth - 1) for _ in range(chance.randrange(1, 4))]]


def value_of(plan: Plan) -> Any:
    kind, arg = plan
    if kind == "step":
        return arg + 1
    if kind == "sleep":
        return None
    if kind == "flaky":
        return f"after {arg}"
    if kind == "fails":
        return f"no {arg}"
    if kind == "asks":
        return "answered"
    if kind == "map":
        return [1, 2, 3, 4]
    if kind == "race":
        return arg + 1
    if kind in ("detached", "completed"):
        return len(arg)
    return [value_of(child) for child in arg]


def step(ctx: Any, n: int) -> int:
    return n + 1


def flaky(ctx: Any, needed: int) -> str:
    if ctx.info.attempt < needed:
        raise ConnectionError(f"attempt {ctx.info.attempt}")
    return f"after {needed}"


def refuses(ctx: Any, n: int) -> None:
    raise ValueError(f"no {n}")


def fails(ctx: Any, n: int) -> Any:
    try:
        yield ctx.run(refuses, n).options(retry_policy=Never())
    except ValueError as error:
        return str(error)


def asks(ctx: Any) -> Any:
    promise = yield ctx.promise(id=f"{ctx.id}-ask")
    yield ctx.run(step, 0)
    yield promise
    return "answered"


def maps(ctx: Any) -> Any:
    return (yield ctx.map(step, range(4), limit=2))


def races(ctx: Any, n: int) -> Any:
    return (yield ctx.race([ctx.sleep(1000), ctx.rpc("step", n)]))


def echo(ctx: Any, value: Any) -> Any:
    return value


async def completes(ctx: Any, plans: list[Plan]) -> Any:
    """The order in which calls end is chance; that it stays the same after a crash is not."""
    seen = []
    for done in asyncio.as_completed([command(ctx, plan) for plan in plans]):
        seen.append(await done)
        assert await ctx.run(echo, seen) == seen
    return len(seen)


async def groups(ctx: Any, plans: list[Plan]) -> Any:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(in_turn(ctx, [plan])) for plan in plans]
    return [task.result()[0] for task in tasks]


async def in_turn(ctx: Any, plans: list[Plan]) -> Any:
    return [await command(ctx, plan) for plan in plans]


def command(ctx: Any, plan: Plan) -> Any:
    """What carries out `plan`, as something to yield, await or begin."""
    kind, arg = plan
    match kind:
        case "step":
            return ctx.run(step, arg)
        case "sleep":
            return ctx.sleep(arg)
        case "flaky":
            return ctx.run(flaky, arg).options(retry_policy=Constant(delay=arg * 25, max_retries=9))
        case "fails":
            return ctx.run(fails, arg)
        case "asks":
            return ctx.run(asks)
        case "map":
            return ctx.run(maps)
        case "race":
            return ctx.run(races, arg)
        case "completed":
            return ctx.run(completes, arg)
        case "group":
            return ctx.run(groups, arg)
        case "rpc":
            return ctx.rpc("in_order", arg)
        case "run":
            return ctx.run(in_order, arg)
        case "fan":
            return ctx.run(fans_out, arg)
        case "all":
            return ctx.run(takes_all, arg)
        case "async":
            return ctx.run(awaits, arg)
        case "gather":
            return ctx.run(gathers, arg)
        case _:
            return ctx.run(detaches, arg)


def in_order(ctx: Any, plans: list[Plan]) -> Any:
    results = []
    for plan in plans:
        results.append((yield command(ctx, plan)))
    return results


def fans_out(ctx: Any, plans: list[Plan]) -> Any:
    begun = []
    for plan in plans:
        begun.append((yield ctx.begin_run(in_order, [plan])))
    results = []
    for promise in reversed(begun):
        results.append((yield promise)[0])
    return results[::-1]


def takes_all(ctx: Any, plans: list[Plan]) -> Any:
    return (yield ctx.all([command(ctx, plan) for plan in plans]))


async def awaits(ctx: Any, plans: list[Plan]) -> Any:
    return [await command(ctx, plan) for plan in plans]


async def gathers(ctx: Any, plans: list[Plan]) -> Any:
    async def one(plan: Plan) -> Any:
        await ctx.run(step, 0)
        return await command(ctx, plan)

    return list(await asyncio.gather(*[one(plan) for plan in plans]))


def detaches(ctx: Any, plans: list[Plan]) -> Any:
    for plan in plans:
        yield ctx.detached("in_order", [plan])
    return len(plans)


FUNCTIONS = (in_order, step)


def answer_all(world: World) -> None:
    """Somebody outside answers every question each minute."""
    for row in list(world.storage.promises(None)):
        if row.promise.id.endswith("-ask") and row.promise.state == "pending":
            world.promises.resolve(row.promise.id)
    world.after(60, lambda: answer_all(world))


def doom(world: Simulation, clients: list[WorldClient]) -> None:
    """Have each of `clients` crash soon."""
    for client in clients:
        client.crash_at(client.batches + world.random.randrange(1, 10), applied=world.random.random() < 0.5)


def simulate(seed: int, crashes: int) -> tuple[Any, Any, list[Any]]:
    """Run a random program under `seed`, killing workers at random batches."""
    chance = Random(seed)
    plans = [make_plan(chance, 3) for _ in range(2)]
    with Simulation(seed) as world:
        answer_all(world)
        registry = Registry()

        def worker() -> WorldClient:
            client = world.client(registry=registry, ttl=5)
            client.start()
            return client

        clients = [worker(), worker()]
        for func in FUNCTIONS:
            clients[0].register(func)
        watcher = world.client(group="watcher", registry=registry)
        handle = watcher.options(target="default").begin_rpc("root", in_order, plans)
        doom(world, clients if crashes else [])
        while crashes > 0 and not handle.done():
            world.run_until(lambda: handle.done() or any(client.crashed for client in clients))
            for dead in [client for client in clients if client.crashed]:
                crashes -= 1
                clients.remove(dead)
                clients.append(worker())
                doom(world, clients[-1:])
        for client in clients:
            client.crash_at(0, applied=False)
        result = handle.result()
        world.advance(600)
        world.check()
        return result, [value_of(plan) for plan in plans], list(world.trace.events)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_program_has_one_result_whatever_happens_next(seed: int) -> None:
    result, expected, _ = simulate(seed, crashes=0)

    assert result == expected


@pytest.mark.parametrize("seed", SEEDS)
def test_a_program_has_one_result_whoever_dies(seed: int) -> None:
    result, expected, _ = simulate(seed, crashes=8)

    assert result == expected


def test_one_seed_is_one_history() -> None:
    histories = [simulate(5, crashes=2)[2] for _ in range(3)]

    assert histories[0] == histories[1] == histories[2]
    assert len(histories[0]) > 20


def test_other_seeds_are_other_histories() -> None:
    def order(seed: int) -> list[str]:
        with Simulation(seed) as world:
            client = world.client()
            client.register(fans_out)
            client.run("f", fans_out, [["step", n] for n in range(4)])
            return [event.id for event in world.trace.events if event.what == "start"]

    assert len({tuple(order(seed)) for seed in range(10)}) > 3


def test_a_race_of_two_writers_is_found_by_some_seed() -> None:
    """A program with a lost update, which only some interleavings show."""

    def lost_update(seed: int) -> int:
        account = {"balance": 0}

        async def deposit(ctx: Any) -> None:
            seen = account["balance"]
            await asyncio.sleep(0)
            account["balance"] = seen + 1

        with Simulation(seed) as world:
            clients = [world.client(), world.client()]
            handles = []
            for n, client in enumerate(clients):
                client.register(deposit)
                handles.append(client.begin_run(f"d{n}", deposit))
            for handle in handles:
                handle.result()
        return account["balance"]

    assert {lost_update(seed) for seed in range(20)} == {1, 2}


def test_a_simulation_of_a_crashed_caller_unwinds_to_it() -> None:
    with Simulation(1) as world:
        client = world.client()
        client.register(in_order)
        client.crash_at(1, applied=True)

        with pytest.raises(Crashed):
            client.run("r", in_order, [["step", 1]])
