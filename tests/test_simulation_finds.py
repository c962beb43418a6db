"""What simulations have found, each as a test of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from resonate.testing import Fault, Simulation, WorldClient


def step(ctx: Any) -> str:
    return "done"


@pytest.mark.parametrize("kind", ["generator", "async"])
def test_a_process_that_stood_still_begins_no_step_that_another_has_finished(kind: str) -> None:
    ran: list[str] = []
    results: list[str] = []

    def worker(client: WorldClient) -> None:
        def once(ctx: Any) -> str:
            ran.append(client.pid)
            return "done"

        def order(ctx: Any) -> Any:
            yield ctx.begin_rpc(step)
            return (yield ctx.run(once))

        async def aorder(ctx: Any) -> Any:
            ctx.begin_rpc(step)
            return await ctx.run(once)

        client.register(step)
        client.register(order if kind == "generator" else aorder, name="order")

    def shop(client: WorldClient) -> None:
        results.append(client.options(target="default").rpc("o", "order"))

    with Simulation(1, faults=[]) as world:
        workers = [world.process(worker), world.process(worker)]
        world.process(shop, group="shop")
        # the call before the step is stored, its answer is on the way: now the lease ends without its holder
        world.run_until(lambda: world.storage.promise("o:1") is not None)
        task = world.storage.task("o")
        assert task is not None
        holder = next(each.client for each in workers if each.client is not None and each.client.pid == task.pid)
        world.pause(holder, 20)
        world.run(seconds=600)

    assert results == ["done"]
    assert len(ran) == 1
    assert ran != [holder.pid]


def lost_news(faults: list[Fault], program: Callable[[WorldClient], object]) -> None:
    """Run `program` beside a helper of its group."""

    def helper(client: WorldClient) -> None:
        client.register(naps)

    with Simulation(1, faults=faults) as world:
        world.process(helper, group="shop")
        world.process(program, group="shop")
        world.run(seconds=600)


def naps(ctx: Any) -> Any:
    yield ctx.sleep(1)
    return "awake"


def test_a_caller_whose_call_went_on_elsewhere_is_told_although_the_news_was_lost() -> None:
    results: list[str] = []

    def caller(client: WorldClient) -> None:
        client.register(naps)
        results.append(client.begin_run("n", naps).result())

    # it is suspended here, the offer to go on is lost, another process goes on, and the news of the end is lost
    lost_news([Fault(1, "drop"), Fault(3, "drop")], caller)

    assert results == ["awake"]


def test_a_sleep_is_as_long_as_it_says_however_far_ahead_the_clock_of_its_machine_is() -> None:
    ended: list[float] = []

    def caller(client: WorldClient) -> None:
        client.register(naps)
        client.run("n", naps)
        ended.append(world.clock.now() / 1000)

    with Simulation(1, faults=[]) as world:
        process = world.process(caller)
        assert process.client is not None
        world.server.clock.skew = -3_600_000
        began = world.clock.now() / 1000
        world.run()

    assert 1 <= ended[0] - began < 2
