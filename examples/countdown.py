"""Countdown: durable sleeps between steps.

A sleeping function holds no thread and survives a restart of its process; `ctx.sleep`
takes seconds or a `timedelta` and may just as well last a month.
"""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from typing import Any

from resonate import Context, Resonate

resonate = Resonate()

TICK = timedelta(milliseconds=100)


def announce(ctx: Context, text: str) -> None:
    print(text)


@resonate.register
def countdown(ctx: Context, count: int) -> Generator[Any, Any, str]:
    for left in range(count, 0, -1):
        yield ctx.run(announce, f"{left} ...")
        yield ctx.sleep(TICK)
    yield ctx.run(announce, "lift-off!")
    return f"counted down from {count}"


if __name__ == "__main__":
    print(resonate.run("countdown-1", countdown, 3))
