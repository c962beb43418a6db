"""The durable programs for this package: `WORKLOAD [--url URL]`, by default on a SQLite file with synchronous=FULL."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from measure import database, latencies, main, now
from resonate import Context, Resonate

STEPS = 1_000
RUN = uuid.uuid4().hex[:8]  # a PostgreSQL database outlives this program


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


def ask(ctx: Context, n: int) -> Generator[Any, Any, int]:
    result: int = yield ctx.rpc("one", n).options(target="other")
    return result


def client(url: str, group: str = "default") -> Resonate:
    resonate = Resonate(url=url, group=group)
    for function in (one, chain, fan, ask):
        resonate.register(function)
    return resonate


def one_step(url: str) -> dict[str, float]:
    with client(url) as resonate:
        samples = []
        for i in range(600):
            begin = now()
            resonate.run(f"{RUN}-one-{i}", one, i)
            samples.append(now() - begin)
        return latencies(samples[100:])


def sequential(url: str) -> dict[str, float]:
    with client(url) as resonate:
        resonate.run(f"{RUN}-warm", chain, 50)
        begin = now()
        assert resonate.run(f"{RUN}-chain", chain, STEPS) == STEPS * (STEPS + 1) // 2
        return {"steps_per_s": STEPS / (now() - begin)}


def fanout(url: str) -> dict[str, float]:
    with client(url) as resonate:
        resonate.run(f"{RUN}-warm", fan, 50)
        begin = now()
        assert resonate.run(f"{RUN}-fan", fan, STEPS) == STEPS * (STEPS + 1) // 2
        return {"ms": (now() - begin) * 1e3}


def concurrent(url: str) -> dict[str, float]:
    with client(url) as resonate, ThreadPoolExecutor(100) as threads:
        list(threads.map(lambda i: resonate.run(f"{RUN}-warm-{i}", one, i), range(100)))
        begin = now()
        list(threads.map(lambda i: resonate.run(f"{RUN}-run-{i}", one, i), range(STEPS)))
        return {"runs_per_s": STEPS / (now() - begin)}


def remote(url: str) -> dict[str, float]:
    child = subprocess.Popen([sys.executable, __file__, "serve", url], stdin=subprocess.PIPE)
    with client(url) as resonate:
        samples = []
        for i in range(220):
            begin = now()
            assert resonate.run(f"{RUN}-ask-{i}", ask, i) == i + 1
            samples.append(now() - begin)
    child.communicate()
    return latencies(samples[20:])


def serve(url: str) -> None:
    with client(url, "other"):
        sys.stdin.read()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        main(database([one_step, sequential, fanout, concurrent, remote]))
