"""A process of its own for `test_deploys.py`: `python -m tests.deploy_worker URL PID VERSIONS LOG`.

It serves group "workers" with the versions of `order`, `bill` and `where` that VERSIONS names,
`1,2` for instance, and writes what it logs to LOG.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from resonate import Context, Resonate
from tests.speaking import say


def bill(version: int, pid: str) -> Callable[..., Any]:
    """A version of `bill`: who ran it."""

    def bill(ctx: Context, cents: int) -> list[Any]:
        return [version, pid, cents]

    return bill


def order(version: int, pid: str) -> Callable[..., Any]:
    """A version of `order`: it stays in a step, waits for a promise or for another call, as its caller wants."""

    def begin(ctx: Context, middle: str) -> str:
        say("in the middle")
        if middle and not Path(middle).exists():
            sys.stdin.readline()
        return pid

    def order(ctx: Context, middle: str, promise: bool, billed: int) -> Generator[Any, Any, list[Any]]:
        first = yield ctx.run(begin, middle)
        if promise:
            yield (yield ctx.promise())
        bills = yield ctx.rpc("bill", 5).options(target="workers", version=billed)
        return [version, first, pid, bills]

    return order


def main(url: str, pid: str, versions: str, log: str) -> None:
    """Serve until killed."""
    logging.basicConfig(filename=log, level=logging.INFO, format="%(levelname)s %(message)s")
    client = Resonate(url=url, group="workers", pid=pid, ttl=1)
    for number in map(int, versions.split(",")):
        client.register(order(number, pid), version=number)
        client.register(bill(number, pid), version=number)
    client.start()
    say("ready")
    threading.Event().wait()  # until it is killed; standard input is the step's


if __name__ == "__main__":
    main(*sys.argv[1:])
