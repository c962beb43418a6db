"""A process of its own for `tests/http/test_processes.py`: `python -m tests.http_worker URL NOTES TTL`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator
from typing import Any

from resonate import Context, Resonate
from tests.speaking import say


def main(url: str, notes: str, ttl: str) -> None:
    """Serve a function of four steps; the third of the first process waits for a line."""
    client = Resonate(url=url, group="workers", ttl=int(ttl))

    def step(ctx: Context, number: int) -> int:
        with open(notes, "a+") as file:
            file.seek(0)
            before = file.read().split()
            file.write(f"{number}\n")
        if number == 2 and "2" not in before:
            say("in the middle")
            sys.stdin.readline()
        return number

    def count(ctx: Context) -> Generator[Any, Any, list[int]]:
        done: list[int] = []
        for number in range(4):
            done.append((yield ctx.run(step, number)))
        return done

    client.register(count)
    client.start()
    say("ready")
    threading.Event().wait()  # until it is killed; standard input is the step's


if __name__ == "__main__":
    main(*sys.argv[1:])
