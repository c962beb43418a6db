"""The compared programs for this package: generator functions in a plain script, as in `sdk067.py`."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from measure import latencies, main, now, percentile
from resonate import Context, Resonate

STEPS = 1_000


def step(ctx: Context, n: int) -> int:
    return n + 1


def one(ctx: Context, n: int) -> Generator[Any, Any, int]:
    result: int = yield ctx.run(step, n)
    return result


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
    resonate = Resonate()
    for function in (one, chain, fan):
        resonate.register(function)
    for i in range(200):
        assert resonate.run(f"warm-{i}", one, i) == i + 1
    return resonate


def one_step() -> dict[str, float]:
    resonate, samples = client(), []
    for i in range(5_000):
        begin = now()
        resonate.run(f"one-{i}", one, i)
        samples.append(now() - begin)
    return latencies(samples)


def elapsed(resonate: Resonate, function: Any) -> float:
    """Median seconds of ten runs of 1,000 steps each."""
    samples = []
    for i in range(10):
        begin = now()
        assert resonate.run(f"{function.__name__}-{i}", function, STEPS) == STEPS * (STEPS + 1) // 2
        samples.append(now() - begin)
    return percentile(samples, 0.5)


def sequential() -> dict[str, float]:
    return {"steps_per_s": STEPS / elapsed(client(), chain)}


def fanout() -> dict[str, float]:
    return {"ms": elapsed(client(), fan) * 1e3}


if __name__ == "__main__":
    main({"one_step": one_step, "sequential": sequential, "fanout": fanout})
