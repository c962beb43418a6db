"""The compared programs for resonate-sdk 0.6.7: generator functions, local mode."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from measure import latencies, main, now
from resonate import Context, Resonate

STEPS = 1_000


def step(ctx: Context, n: int) -> int:
    return n + 1


def one(ctx: Context, n: int) -> Generator[Any, Any, int]:
    return (yield ctx.run(step, n))


def chain(ctx: Context, n: int) -> Generator[Any, Any, int]:
    total = 0
    for i in range(n):
        total += yield ctx.run(step, i)
    return total


def fan(ctx: Context, n: int) -> Generator[Any, Any, int]:
    begun = []
    for i in range(n):
        begun.append((yield ctx.begin_run(step, i)))
    total = 0
    for promise in begun:
        total += yield promise
    return total


def client() -> Resonate:
    resonate = Resonate.local(log_level="CRITICAL")
    for function in (one, chain, fan):
        resonate.register(function)
    for i in range(50):
        assert resonate.run(f"warm-{i}", one, i) == i + 1
    return resonate


def one_step() -> dict[str, float]:
    resonate, samples = client(), []
    for i in range(500):
        begin = now()
        resonate.run(f"one-{i}", one, i)
        samples.append(now() - begin)
    return latencies(samples)


def sequential() -> dict[str, float]:
    resonate = client()
    begin = now()
    assert resonate.run("sequential", chain, STEPS) == STEPS * (STEPS + 1) // 2
    return {"steps_per_s": STEPS / (now() - begin)}


def fanout() -> dict[str, float]:
    resonate = client()
    begin = now()
    assert resonate.run("fanout", fan, STEPS) == STEPS * (STEPS + 1) // 2
    return {"ms": (now() - begin) * 1e3}


if __name__ == "__main__":
    main({"one_step": one_step, "sequential": sequential, "fanout": fanout})
