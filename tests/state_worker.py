"""A process of its own for tests of many on one file or database: `python -m tests.state_worker JOB URL ...`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from resonate import Resonate
from resonate.clock import SystemClock
from resonate.protocol.records import Value
from resonate.protocol.requests import PromiseCreate
from resonate.service.service import Service
from resonate.storage.postgres import location as postgres
from resonate.storage.postgres.storage import PostgresStorage
from resonate.storage.sqlite.location import parse
from resonate.storage.sqlite.storage import SqliteStorage
from tests.speaking import say

FAR = 10**14


def opened(url: str) -> SqliteStorage | PostgresStorage:
    """The storage at `url`."""
    if url.startswith("sqlite"):
        return SqliteStorage(parse(url))
    return PostgresStorage(postgres.parse(url))


def hammer(url: str, name: str, count: str) -> None:
    """Write `count` promises of its own and claim as many that others claim too; say who got those."""
    storage = opened(url)
    service = Service(storage, SystemClock())
    say("ready")
    sys.stdin.readline()
    winners = []
    for number in range(int(count)):
        own = PromiseCreate(f"{name}-{number}", FAR)
        shared = PromiseCreate(f"shared-{number}", FAR, Value(data=name))
        _, claimed = service.handle([own, shared])
        assert claimed.promise is not None
        winners.append(claimed.promise.param.data or "")
    say(" ".join(winners))
    storage.close()


def serve(url: str, group: str, pid: str, ttl: str, notes: str) -> None:
    """Serve a function of six steps that stays in its fourth until there is a file `NOTES.go`."""
    client = Resonate(url=url, group=group, pid=pid, ttl=int(ttl))

    def step(ctx: Any, number: int) -> int:
        with open(notes, "a") as file:
            file.write(f"{number}\n")
        if number == 3 and not Path(f"{notes}.go").exists():
            say("in the middle")
            sys.stdin.readline()
        return number

    def count(ctx: Any) -> Generator[Any, Any, list[int]]:
        done = []
        for number in range(6):
            done.append((yield ctx.run(step, number)))
        return [*done, os.getpid()]

    client.register(count)
    client.register(lambda ctx, a, b: a + b, name="add")
    client.promises.create(f"{pid}-{os.getpid()}-is-there", FAR)
    say("ready")
    sys.stdin.read()
    client.stop()


if __name__ == "__main__":
    JOBS: dict[str, Callable[..., None]] = {"hammer": hammer, "serve": serve}
    JOBS[sys.argv[1]](*sys.argv[2:])
