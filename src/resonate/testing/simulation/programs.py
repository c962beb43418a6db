"""Random programs: trees of durable calls of every kind, with values that are known beforehand.

A plan is a list [kind, argument]. The functions here carry plans out. Each step leaves a
value that no other run of it leaves again, and a notebook keeps who saw which, so that a
replay which sees something else than the first run is found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any, Final

from resonate.retry_policies import Constant, Never

Plan = list[Any]

LEAVES: Final = ("step", "step", "sleep", "flaky", "stubborn", "fails", "asks", "map", "race")
BRANCHES: Final = (
    "run", "run", "fan", "rpc", "rpc", "other", "async", "gather", "group", "completed", "detached", "all", "tries",
)  # fmt: skip
SLEEPS: Final = (0.01, 1, 5, 90)


def make_plan(chance: Random, depth: int, room: list[int]) -> Plan:
    """A random plan.

    Args:
        chance: draws.
        depth: levels below at most.
        room: [calls it may still have]; used up.
    """
    room[0] -= 1
    kind = chance.choice(LEAVES if not depth or room[0] <= 0 or chance.random() < 0.35 else BRANCHES)
    match kind:
        case "sleep":
            return [kind, chance.choice(SLEEPS)]
        case "flaky" | "stubborn":
            return [kind, chance.randrange(1, 4)]
        case "step" | "fails" | "asks" | "map" | "race":
            return [kind, chance.randrange(100)]
        case "tries":
            return [kind, [chance.randrange(2), make_plan(chance, depth - 1, room)]]
        case _:
            return [kind, [make_plan(chance, depth - 1, room) for _ in range(chance.randrange(1, 4))]]


def value_of(plan: Plan) -> Any:
    """What carrying out `plan` gives, with `plain` applied."""
    kind, arg = plan
    match kind:
        case "step":
            return arg + 1
        case "race":
            return "raced"
        case "sleep":
            return None
        case "flaky" | "stubborn":
            return f"after {arg}"
        case "fails":
            return f"no {arg}"
        case "asks":
            return "answered"
        case "map":
            return [1, 2, 3]
        case "detached" | "completed":
            return len(arg)
        case "tries":
            return [value_of(arg[1])]
        case _:
            return [value_of(child) for child in arg]


def plain(value: Any) -> Any:
    """A result without what tells its runs apart."""
    if isinstance(value, dict):
        return value["n"]
    return [plain(each) for each in value] if isinstance(value, list) else value


def marks(value: Any) -> list[tuple[str, int]]:
    """Which run of which step the parts of a result come from."""
    if isinstance(value, dict):
        return [(value["id"], value["run"])]
    return [mark for each in value for mark in marks(each)] if isinstance(value, list) else []


class Notebook:
    """What the functions of one simulation saw, in all processes: the world outside of them."""

    def __init__(self) -> None:
        self.runs = 0
        self.seen: dict[tuple[str, str], list[Any]] = {}
        self.firm: dict[str, list[Any]] = {}
        self.complaints: list[str] = []

    def began(self, pid: str, id: str) -> None:
        """A function begins from the top."""
        self.seen[pid, id] = []

    def saw(self, pid: str, id: str, value: Any) -> None:
        """A function has the result of its next call."""
        self.seen[pid, id].append(value)

    def steps_on(self, pid: str, id: str) -> None:
        """A step begins in a function: all that the function has seen is there for good."""
        seen = self.seen.get((pid, id))
        if not seen:
            return
        firm = self.firm.get(id, [])
        both = min(len(firm), len(seen))
        if firm[:both] != seen[:both]:
            self.complaints.append(
                f"{id} went on in {pid} with {seen[:both]}, and had gone on before with {firm[:both]}"
            )
        if len(seen) > len(firm):
            self.firm[id] = list(seen)

    def stamp(self, id: str, n: int) -> dict[str, Any]:
        """The value of a step, which no other run of it has."""
        self.runs += 1
        return {"id": id, "run": self.runs, "n": n}


def make_functions(book: Notebook, pid: str) -> list[Callable[..., Any]]:
    """The functions that carry out plans, as one process registers them."""

    def step(ctx: Any, n: int, owner: str = "") -> dict[str, Any]:
        book.steps_on(pid, owner)
        return book.stamp(ctx.id, n + 1)

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
        promise = yield ctx.promise(id=f"{ctx.id}.ask")
        yield ctx.run(step, 0)
        yield promise
        return "answered"

    def maps(ctx: Any) -> Any:
        return (yield ctx.map(step, range(3), limit=2))

    def echo(ctx: Any, value: Any) -> Any:
        return value

    def races(ctx: Any, n: int) -> Any:
        winner = yield ctx.race([ctx.sleep(60), ctx.rpc("step", n)])
        assert (yield ctx.run(echo, winner)) == winner
        return "raced"

    def tries(ctx: Any, failures: int, plan: Plan) -> Any:
        """A function that is tried again after it has done all it does."""
        value = yield command(ctx, plan)
        if ctx.info.attempt <= failures:
            raise ConnectionError("once more")
        return [value]

    async def completes(ctx: Any, plans: list[Plan]) -> Any:
        """The order in which calls end is chance; that it stays the same after a crash is not."""
        seen = []
        for done in asyncio.as_completed([command(ctx, plan) for plan in plans]):
            seen.append(await done)
            assert await ctx.run(echo, seen) == seen
        return len(seen)

    async def groups(ctx: Any, plans: list[Plan]) -> Any:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(awaits(ctx, [plan])) for plan in plans]
        return [task.result()[0] for task in tasks]

    async def awaits(ctx: Any, plans: list[Plan]) -> Any:
        return [await command(ctx, plan) for plan in plans]

    async def gathers(ctx: Any, plans: list[Plan]) -> Any:
        async def one(plan: Plan) -> Any:
            await ctx.run(step, 0)
            return await command(ctx, plan)

        return list(await asyncio.gather(*[one(plan) for plan in plans]))

    async def in_turn(ctx: Any, plans: list[Plan]) -> Any:
        book.began(pid, ctx.id)
        results = []
        for plan in plans:
            results.append(await command(ctx, plan, ctx.id))
            book.saw(pid, ctx.id, results[-1])
        return results

    def in_order(ctx: Any, plans: list[Plan]) -> Any:
        book.began(pid, ctx.id)
        results = []
        for plan in plans:
            results.append((yield command(ctx, plan, ctx.id)))
            book.saw(pid, ctx.id, results[-1])
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

    def detaches(ctx: Any, plans: list[Plan]) -> Any:
        for plan in plans:
            yield ctx.detached("in_order", [plan])
        return len(plans)

    def command(ctx: Any, plan: Plan, owner: str = "") -> Any:
        """What carries out `plan`, as something to yield, await or begin."""
        kind, arg = plan
        match kind:
            case "step":
                return ctx.run(step, arg, owner)
            case "sleep":
                return ctx.sleep(arg)
            case "flaky":
                return ctx.run(flaky, arg).options(retry_policy=Constant(delay=arg * 2, max_retries=9))
            case "stubborn":  # its pauses are durable timers
                return ctx.run(flaky, arg).options(retry_policy=Constant(delay=70, max_retries=9))
            case "fails":
                return ctx.run(fails, arg)
            case "asks":
                return ctx.run(asks)
            case "map":
                return ctx.run(maps)
            case "race":
                return ctx.run(races, arg)
            case "tries":
                again = Constant(delay=1, max_retries=3)
                return ctx.run(tries, arg[0], arg[1]).options(retry_policy=again)
            case "completed":
                return ctx.run(completes, arg)
            case "group":
                return ctx.run(groups, arg)
            case "rpc":
                return ctx.rpc("in_order", arg)
            case "other":
                return ctx.rpc("in_turn", arg).options(target="other")
            case "run":
                return ctx.run(in_order, arg)
            case "fan":
                return ctx.run(fans_out, arg)
            case "all":
                return ctx.run(takes_all, arg)
            case "async":
                return ctx.run(in_turn, arg)
            case "gather":
                return ctx.run(gathers, arg)
            case _:
                return ctx.run(detaches, arg)

    return [in_order, in_turn, step]


__all__ = ["Notebook", "Plan", "make_functions", "make_plan", "marks", "plain", "value_of"]
