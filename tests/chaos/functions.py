"""A worker process: `python -m tests.chaos.functions URL GROUP NAME DIRECTORY TTL`, and what it runs.

Each execution of a step makes a token that no other execution makes, writes it to a log on
the disk (`fsync`) before it returns, and returns it. What a function returns is made of the
tokens of its steps, so the judge sees of each step which of its executions was recorded, and
which others there were. Ends when standard input does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from resonate import Context, Resonate
from tests.chaos.traffic import insist

GROUPS: Final = ("orders", "trips")
"""The groups of the workers; a function of the first calls one of the second, and that one of the first."""

STEPS: Final = 3
FANNED: Final = 4
DEPTH: Final = 2
SLEEP: Final = 0.05


class Executed(Struct, frozen=True):
    """One execution of a step: its call and label, its token, and under which version of which task it ran."""

    id: str
    label: str
    token: str
    task: str
    version: int
    at: float


class Log:
    """What the steps of one process do to the world.

    Args:
        directory: of its file.
        name: of the process.
    """

    def __init__(self, directory: str, name: str) -> None:
        self._file = os.open(Path(directory) / f"{name}.steps", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._name = f"{name}.{os.getpid()}"
        self._numbers = count()

    def execute(self, ctx: Context, label: str) -> str:
        """The effect of a step, and its token."""
        execution = ctx._execution
        token = f"{label}|{self._name}.{next(self._numbers)}"
        line = Executed(ctx.info.id, label, token, execution.id, execution.version, time.time())
        os.write(self._file, msgspec.json.encode(line) + b"\n")
        os.fsync(self._file)
        return token


def read(paths: list[Path]) -> list[Executed]:
    """What steps have done."""
    decode = msgspec.json.Decoder(Executed).decode
    lines = [line for path in paths for line in path.read_bytes().splitlines(keepends=True)]
    return [decode(line) for line in lines if line.endswith(b"\n")]


# ---- the functions -----------------------------------------------------------------------------


def write(connection: Any, run: str, number: int) -> int:
    """A row that has to be there once; how many there are of this run."""
    mark = "?" if isinstance(connection, sqlite3.Connection) else "%s"
    connection.execute(f"INSERT INTO chaos_rows VALUES ({mark}, {mark})", (run, number))
    (rows,) = connection.execute(f"SELECT count(*) FROM chaos_rows WHERE run = {mark}", (run,)).fetchone()
    return int(rows)


TABLE: Final = "CREATE TABLE IF NOT EXISTS chaos_rows (run text, number int)"


def labels_of_trip(run: str) -> list[str]:
    """The labels of the tokens that `trip` returns, in order."""
    return [f"{run}-first", *(f"{run}-leg-{n}" for n in range(FANNED)), *(f"{run}-price-{n}" for n in range(FANNED))]


def labels_of_order(run: str) -> list[str]:
    """Those that `order` returns."""
    deep = [f"{run}-deep-{n}" for n in range(2**DEPTH)]
    return [*(f"{run}-step-{n}" for n in range(STEPS)), *deep, *labels_of_trip(run)]


def register(client: Resonate, execute: Callable[[Context, str], str], transactions: bool) -> None:
    """Give `client` the functions.

    Args:
        client: to register them with.
        execute: the effect of a step.
        transactions: whether the home has a database that steps can write to.
    """

    def step(ctx: Context, label: str) -> str:
        return execute(ctx, label)

    def nested(ctx: Context, run: str, depth: int, number: int) -> Any:
        if depth == 0:
            return [(yield ctx.run(step, f"{run}-deep-{number}"))]
        left = yield ctx.begin_run(nested, run, depth - 1, 2 * number)
        right = yield ctx.run(nested, run, depth - 1, 2 * number + 1)
        return (yield left) + right

    def order(ctx: Context, run: str) -> Any:
        trip = yield ctx.begin_rpc("trip", run).options(target="trips")
        for number in range(STEPS if transactions else 0):
            rows = yield ctx.transaction(write, run, number)
            assert rows == number + 1, f"{run} has {rows} rows after {number} and one more"
        tokens = []
        for number in range(STEPS):
            tokens.append((yield ctx.run(step, f"{run}-step-{number}")))
        deep = yield ctx.run(nested, run, DEPTH, 0)
        yield ctx.sleep(SLEEP)
        return tokens + deep + (yield trip)

    def trip(ctx: Context, run: str) -> Any:
        first = yield ctx.run(step, f"{run}-first")
        yield ctx.sleep(SLEEP)
        price = yield ctx.begin_rpc("price", run).options(target="orders")
        legs = yield ctx.map(step, [f"{run}-leg-{number}" for number in range(FANNED)])
        return [first, *legs, *(yield price)]

    async def price(ctx: Context, run: str) -> list[str]:
        return list(await asyncio.gather(*(ctx.run(step, f"{run}-price-{number}") for number in range(FANNED))))

    for function in (step, nested, order, trip, price):
        client.register(function)


def main(url: str, group: str, name: str, directory: str, ttl: str) -> None:
    """Serve until standard input ends."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(message)s")
    log = Log(directory, name)

    def begin() -> Resonate:
        client = Resonate(url=url, group=group, pid=name, ttl=int(ttl))
        try:
            register(client, log.execute, transactions=not url.startswith("http"))
            client.start()
        except BaseException:
            client.stop()
            raise
        return client

    client = insist(begin)
    sys.stdin.read()
    client.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
