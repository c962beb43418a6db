"""The programs for this package, against the server that BENCH_SERVER names."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

from measure import latencies, main, now
from resonate import Context, Resonate

STEPS = 1_000
RUN = uuid4().hex[:8]


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


def client(group: str = "default") -> Resonate:
    resonate = Resonate(url=os.environ["BENCH_SERVER"], group=group)
    for function in (step, one, chain, fan):
        resonate.register(function)
    for i in range(20):
        resonate.run(f"warm-{group}-{RUN}-{os.getpid()}-{i}", one, i)
    return resonate


def one_step() -> dict[str, float]:
    resonate, samples = client(), []
    for i in range(300):
        begin = now()
        resonate.run(f"one-{RUN}-{i}", one, i)
        samples.append(now() - begin)
    resonate.stop()
    return latencies(samples)


def sequential() -> dict[str, float]:
    resonate = client()
    begin = now()
    resonate.run(f"sequential-{RUN}", chain, STEPS)
    elapsed = now() - begin
    resonate.stop()
    return {"steps_per_s": STEPS / elapsed}


def fanout() -> dict[str, float]:
    resonate = client()
    begin = now()
    resonate.run(f"fan-{RUN}", fan, STEPS)
    elapsed = now() - begin
    resonate.stop()
    return {"steps_per_s": STEPS / elapsed}


def concurrent() -> dict[str, float]:
    resonate = client()
    with ThreadPoolExecutor(100) as threads:
        list(threads.map(lambda i: resonate.run(f"early-{RUN}-{i}", one, i), range(100)))
        begin = now()
        list(threads.map(lambda i: resonate.run(f"many-{RUN}-{i}", one, i), range(STEPS)))
        elapsed = now() - begin
    resonate.stop()
    return {"runs_per_s": STEPS / elapsed}


def remote() -> dict[str, float]:
    worker = subprocess.Popen(
        [sys.executable, __file__, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert worker.stdout is not None
    worker.stdout.readline()
    resonate, samples = client("caller"), []
    caller = resonate.options(target="worker")
    for i in range(200):
        begin = now()
        caller.rpc(f"remote-{RUN}-{i}", "one", i)
        samples.append(now() - begin)
    resonate.stop()
    worker.kill()
    worker.communicate()
    return latencies(samples)


def serve() -> dict[str, float]:
    client("worker")
    print("ready", flush=True)
    sys.stdin.read()
    return {}


if __name__ == "__main__":
    main(
        {
            "one_step": one_step,
            "sequential": sequential,
            "fanout": fanout,
            "concurrent": concurrent,
            "remote": remote,
            "serve": serve,
        }
    )
