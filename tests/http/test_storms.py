"""Many executions while a tenth of all requests fails in any way: every result, and no step twice."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Generator
from typing import Any

import pytest

from resonate import Context, Resonate
from tests.wire_server import Fault, WireServer, serving

FAULTS: list[Fault] = ["cut before", "cut after", "cut within", "500", "503", "502 after", "garbage"]
EACH = 8
"""Executions of each kind."""


def failing(server: WireServer, chance: random.Random, share: float) -> None:
    """Have each request fail with the probability `share`, as `chance` has it."""
    note = server.note

    def noted(kinds: list[str], heads: dict[str, str], body: Any) -> Fault | None:
        note(kinds, heads, body)
        with server.changed:
            return chance.choice(FAULTS) if chance.random() < share else None

    server.note = noted  # type: ignore[method-assign]


@pytest.mark.parametrize("foreign", [None, ".", ":"], ids=["ours", "dots", "colons"])
@pytest.mark.parametrize("seed", range(3))
def test_no_storm_of_faults_changes_a_result_or_runs_a_step_twice(seed: int, foreign: str | None) -> None:
    ran: list[str] = []

    def step(ctx: Context, name: str) -> str:
        ran.append(name)
        return name

    def far(ctx: Context, name: str) -> Generator[Any, Any, str]:
        found: str = yield ctx.run(step, f"{name}/far")
        return found

    def flow(ctx: Context, n: int) -> Generator[Any, Any, str]:
        yield ctx.run(step, f"{n}/1")
        begun = yield ctx.begin_rpc("far", f"{n}")
        yield ctx.run(step, f"{n}/2")
        there = yield begun
        yield ctx.sleep(0.05)
        last = yield ctx.run(step, f"{n}/3")
        return f"{there} {last}"

    async def fan(ctx: Context, n: int) -> list[str]:
        steps = [ctx.run(step, f"fan {n}/{m}") for m in range(3)]
        found = await asyncio.gather(*steps, ctx.rpc("far", f"fan {n}"))
        await ctx.sleep(0.02)
        return list(found)

    with serving(foreign=foreign, retry_timeout=300) as server:
        failing(server, random.Random(seed), 0.1)
        with Resonate(url=server.url, ttl=2) as one, Resonate(url=server.url, ttl=2) as other:
            for client in (one, other):
                for function in (far, flow, fan):
                    client.register(function)
            other.start()
            flows = [one.begin_run(f"flow-{n}", flow, n) for n in range(EACH)]
            fans = [one.begin_run(f"fan-{n}", fan, n) for n in range(EACH)]
            threading.Timer(0.1, server.cut).start()

            assert [handle.result(40) for handle in flows] == [f"{n}/far {n}/3" for n in range(EACH)]
            wanted = [[f"fan {n}/0", f"fan {n}/1", f"fan {n}/2", f"fan {n}/far"] for n in range(EACH)]
            assert [handle.result(40) for handle in fans] == wanted

    assert sorted(ran) == sorted(set(ran))
    assert len(ran) == EACH * 8
