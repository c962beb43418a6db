"""Programs that only this package is measured with: what must stay flat, small or linear."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Generator
from typing import Any

from measure import main, now, percentile, resident_bytes
from resonate import Context, Resonate
from resonate.stores import LocalStore

Steps = Generator[Any, Any, Any]
Figures = dict[str, float]


def step(ctx: Context, n: int) -> int:
    return n + 1


def flat() -> Figures:
    """What a step costs at the end of a long function, over what it costs at the start."""
    steps, window = 100_000, 1_000
    marks: list[float] = []

    def long(ctx: Context) -> Steps:
        for i in range(steps):
            if i % window == 0:
                marks.append(now())
            yield ctx.run(step, i)
        marks.append(now())

    resonate = Resonate()
    resonate.register(long)
    resonate.run("warm", resonate.register(chain, name="chain"), window)
    resonate.run("flat", long)
    windows = [later - earlier for earlier, later in itertools.pairwise(marks)]
    return {
        "last_over_first": windows[-1] / windows[0],
        "steps_per_s": steps / (marks[-1] - marks[0]),
        "slowest_over_median": max(windows) / percentile(windows, 0.5),
    }


def chain(ctx: Context, n: int) -> Steps:
    for i in range(n):
        yield ctx.run(step, i)


def sleepers() -> Figures:
    """Ten thousand functions asleep at once: how late they wake, what memory each keeps, how many threads."""
    count, seconds = 10_000, 5.0
    due: dict[int, float] = {}
    late: list[float] = []

    def sleeper(ctx: Context, i: int) -> Steps:
        due.setdefault(i, time.monotonic() + seconds)  # a replay keeps the first instant
        yield ctx.sleep(seconds)
        late.append(time.monotonic() - due[i])

    resonate = Resonate()
    resonate.register(sleeper)
    resonate.run("warm", resonate.register(chain, name="chain"), 1_000)
    before = resident_bytes()
    begin = now()
    handles = [resonate.begin_run(f"sleeper-{i}", sleeper, i) for i in range(count)]
    started = now() - begin
    while len(due) < count:
        time.sleep(0.01)
    assert not late, "some woke while others were still being started: too slow for this measurement"
    memory, threads = resident_bytes() - before, threading.active_count()
    for handle in handles:
        handle.result()
    assert len(late) == count, f"{len(late)} wake-ups of {count} sleepers"
    return {
        "p50_late_ms": percentile(late, 0.5) * 1e3,
        "p99_late_ms": percentile(late, 0.99) * 1e3,
        "kb_per_sleeper": memory / count / 1024,
        "threads": threads,
        "start_s": started,
    }


def sleep_loop() -> Figures:
    """One function that sleeps 1 ms ten thousand times: linear, and never replayed while it is warm."""
    rounds, window = 10_000, 1_000
    marks: list[float] = []
    passes = 0

    def napper(ctx: Context) -> Steps:
        nonlocal passes
        for i in range(rounds):
            if i % window == 0:
                marks.append(now())
            passes += 1
            yield ctx.sleep(0.001)
        marks.append(now())

    resonate = Resonate()
    resonate.register(napper)
    resonate.run("napper", napper)
    windows = [later - earlier for earlier, later in itertools.pairwise(marks)]
    return {
        "last_over_first": windows[-1] / windows[0],
        "replayed": passes - rounds,
        "ms_per_sleep": (marks[-1] - marks[0]) / rounds * 1e3,
    }


def replay() -> Figures:
    """A function is interrupted in its 100,000th step; another client replays it from the record."""
    steps = 100_000
    store = LocalStore()
    executed, interrupted = 0, False
    begun = reached = 0.0

    def counted(ctx: Context, n: int) -> int:
        nonlocal executed, interrupted, reached
        executed += 1
        if n == steps - 1:
            reached = now()
            if not interrupted:
                interrupted = True
                raise KeyboardInterrupt
        return n + 1

    def long(ctx: Context) -> Steps:
        nonlocal begun
        begun = now()
        for i in range(steps):
            yield ctx.run(counted, i)

    def client(pid: str) -> Resonate:
        resonate = Resonate(pid=pid, store=store, message_source=store.message_source("default", pid))
        resonate.register(long)
        return resonate

    first = client("first")
    try:
        first.run("replay", long)
    except KeyboardInterrupt:
        first.stop()
    assert executed == steps, f"{executed} steps before the interruption"
    start = now()
    with client("second") as second:
        second.get("replay").result()
    return {
        "steps_per_s": steps / (reached - begun),
        "executed_again": executed - steps,
        "ms_until_there": (reached - start) * 1e3,
    }


if __name__ == "__main__":
    main({"flat": flat, "sleepers": sleepers, "sleep_loop": sleep_loop, "replay": replay})
