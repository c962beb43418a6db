"""Fibonacci: a durable function that calls itself.

Each call is a durable promise with an id of its own (`fib-10`, `fib-10:1`, `fib-10:1.1` ...),
both branches of a call run as children of it, and every number is recorded.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from resonate import Context, Resonate

resonate = Resonate()


@resonate.register
def fibonacci(ctx: Context, n: int) -> Generator[Any, Any, int]:
    if n < 2:
        return n
    left = yield ctx.begin_run(fibonacci, n - 1)
    right = yield ctx.begin_run(fibonacci, n - 2)
    total: int = (yield left) + (yield right)
    return total


if __name__ == "__main__":
    print("fibonacci(10) =", resonate.run("fib-10", fibonacci, 10))
    print("its first branch, fibonacci(9) =", resonate.get("fib-10:1").result())
