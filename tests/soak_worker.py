"""A worker of `soak_postgres.py`: `python -m tests.soak_worker URL GROUP TTL DATABASE`."""

from __future__ import annotations

import sys
import threading
from typing import Any

import psycopg

from resonate import Resonate

BRANCHES = 4


def expected(run: int) -> list[Any]:
    """What `order` gives for `run`."""
    return [[run, run + 1, run + 2], sum(range(run, run + BRANCHES)), 3 * run, run]


def main(url: str, group: str, ttl: str, database: str) -> None:
    """Serve the functions of the soak until killed."""
    client = Resonate(url=url, group=group, ttl=int(ttl))
    local = threading.local()

    def note(id: str) -> None:
        """Write down, outside of everything durable, that the step `id` runs now."""
        while True:
            try:
                if getattr(local, "session", None) is None:
                    local.session = psycopg.connect(database, autocommit=True)
                local.session.execute("INSERT INTO notes VALUES (%s, clock_timestamp())", (id,))
                return
            except psycopg.OperationalError:  # ended by the soak
                local.session = None

    def step(ctx: Any, value: int) -> int:
        note(ctx.id)
        return value

    def book(connection: Any, run: int) -> int:
        connection.execute("INSERT INTO booked VALUES (%s)", (run,))
        return run

    def order(ctx: Any, run: int) -> Any:
        """On workers that have the database: steps, a fan-out, a call of the other group, a transaction."""
        steps = []
        for number in range(3):
            steps.append((yield ctx.run(step, run + number)))
        yield ctx.sleep(0.02)
        branches = []
        for number in range(BRANCHES):
            branches.append((yield ctx.begin_run(step, run + number)))
        total = 0
        for branch in branches:
            total += yield branch
        packed = yield ctx.rpc("pack", run).options(target="served")
        booked = yield ctx.transaction(book, run)
        return [steps, total, packed, booked]

    def pack(ctx: Any, run: int) -> Any:
        """On workers that have a server: steps, a sleep, and a call back."""
        total = yield ctx.run(step, run)
        yield ctx.sleep(0.01)
        total += yield ctx.rpc("weigh", run).options(target="direct")
        return total + (yield ctx.run(step, run))

    def weigh(ctx: Any, run: int) -> int:
        note(ctx.id)
        return run

    for function in (order, pack, weigh):
        client.register(function)
    client.start()
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
