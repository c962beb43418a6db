"""The durable programs for this package on one SQLite file, synchronous=FULL."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from measure import latencies, main, now
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


def ask(ctx: Context, n: int) -> Generator[Any, Any, int]:
    result: int = yield ctx.rpc("one", n).options(target="other")
    return result


def client(directory: str, group: str = "default") -> Resonate:
    resonate = Resonate(url=f"sqlite:///{directory}/bench.db", group=group)
    for function in (one, chain, fan, ask):
        resonate.register(function)
    return resonate


def one_step(directory: str) -> dict[str, float]:
    with client(directory) as resonate:
        samples = []
        for i in range(600):
            begin = now()
            resonate.run(f"one-{i}", one, i)
            samples.append(now() - begin)
        return latencies(samples[100:])


def sequential(directory: str) -> dict[str, float]:
    with client(directory) as resonate:
        resonate.run("warm", chain, 50)
        begin = now()
        assert resonate.run("chain", chain, STEPS) == STEPS * (STEPS + 1) // 2
        return {"steps_per_s": STEPS / (now() - begin)}


def fanout(directory: str) -> dict[str, float]:
    with client(directory) as resonate:
        resonate.run("warm", fan, 50)
        begin = now()
        assert resonate.run("fan", fan, STEPS) == STEPS * (STEPS + 1) // 2
        return {"ms": (now() - begin) * 1e3}


def concurrent(directory: str) -> dict[str, float]:
    with client(directory) as resonate, ThreadPoolExecutor(100) as threads:
        list(threads.map(lambda i: resonate.run(f"warm-{i}", one, i), range(100)))
        begin = now()
        list(threads.map(lambda i: resonate.run(f"run-{i}", one, i), range(STEPS)))
        return {"runs_per_s": STEPS / (now() - begin)}


def remote(directory: str) -> dict[str, float]:
    child = subprocess.Popen([sys.executable, __file__, "serve", directory], stdin=subprocess.PIPE)
    with client(directory) as resonate:
        samples = []
        for i in range(220):
            begin = now()
            assert resonate.run(f"ask-{i}", ask, i) == i + 1
            samples.append(now() - begin)
    child.communicate()
    return latencies(samples[20:])


def serve(directory: str) -> None:
    with client(directory, "other"):
        sys.stdin.read()


def in_a_file_of_its_own(workload: Any) -> Any:
    def measured() -> dict[str, float]:
        with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as directory:
            figures: dict[str, float] = workload(directory)
            return figures

    return measured


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        workloads = (one_step, sequential, fanout, concurrent, remote)
        main({workload.__name__: in_a_file_of_its_own(workload) for workload in workloads})
