"""A worker process of `tests/soak_postgres.py`: `python -m tests.postgres.soak_worker URL GROUP PID DATABASE TTL`.

Each step notes that it starts, in one statement that also reads what is stored of it at that
instant: whether its result is there already, and which version its execution's task has.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import Any, Final

import psycopg

from resonate import Context, Resonate

DIRECT: Final = "direct"
"""The group of the workers that are straight on the database."""

REMOTE: Final = "remote"
"""The group of those over the servers."""

DEPTH: Final = 2
FANNED: Final = 4
STEPS: Final = 3

TABLES: Final = """
    CREATE SCHEMA soak;
    CREATE TABLE soak.started (id text, attempt int, pid text, held int, state text, task_state text, task bytea);
    CREATE TABLE soak.rows (run int, number int);
"""

_NOTE: Final = """
    INSERT INTO soak.started
    SELECT %(id)s, %(attempt)s, %(pid)s, %(held)s,
        (SELECT state FROM resonate.promises WHERE origin = %(origin)s AND id = %(id)s), t.state, t.body
    FROM (SELECT 1) one LEFT JOIN resonate.tasks t ON t.origin = %(origin)s AND t.id = %(execution)s
"""

_COUNT: Final = "SELECT count(*) FROM soak.rows WHERE run = %s"


class Notes:
    """The table of what started, reached from any thread, however often the database goes away.

    Args:
        database: its URL.
        pid: who notes.
    """

    def __init__(self, database: str, pid: str) -> None:
        self._database = database
        self._pid = pid
        self._local = threading.local()

    def started(self, ctx: Context) -> None:
        """Note that this step starts; waits for a database that is away."""
        execution, info = ctx._execution, ctx.info
        row = {
            "id": info.id,
            "attempt": info.attempt,
            "pid": self._pid,
            "held": execution.version,
            "origin": info.origin_id,
            "execution": execution.id,
        }
        while True:
            try:
                self._session().execute(_NOTE, row)
                return
            except psycopg.OperationalError:
                self._local.session = None
                time.sleep(0.05)

    def _session(self) -> psycopg.Connection[Any]:
        session: psycopg.Connection[Any] | None = getattr(self._local, "session", None)
        if session is None or session.closed:
            session = self._local.session = psycopg.connect(self._database, autocommit=True, connect_timeout=5)
        return session


def result_of_trip(run: int) -> list[int]:
    """What `trip` returns."""
    return [run, sum(range(run, run + FANNED)), FANNED * run + sum(range(FANNED))]


def result_of_order(run: int) -> list[Any]:
    """What `order` returns."""
    return [list(range(1, STEPS + 1)), result_of_trip(run), 2**DEPTH * run, STEPS]


def write(connection: psycopg.Connection[Any], run: int, number: int) -> int:
    """A row that has to be there once; how many there are of this run."""
    connection.execute("INSERT INTO soak.rows VALUES (%s, %s)", (run, number))
    return int(connection.execute(_COUNT, (run,)).fetchone()[0])  # type: ignore[index]


def register(client: Resonate, notes: Notes) -> None:
    """Give `client` the programs."""

    def step(ctx: Context, value: int) -> int:
        notes.started(ctx)
        return value

    def nested(ctx: Context, run: int, depth: int) -> Any:
        if depth == 0:
            return (yield ctx.run(step, run))
        left = yield ctx.begin_run(nested, run, depth - 1)
        right = yield ctx.run(nested, run, depth - 1)
        return (yield left) + right

    def order(ctx: Context, run: int) -> Any:
        trip = yield ctx.begin_rpc("trip", run).options(target=REMOTE)
        rows = []
        for number in range(STEPS):
            rows.append((yield ctx.transaction(write, run, number)))
        deep = yield ctx.run(nested, run, DEPTH)
        yield ctx.sleep(0.05)
        total = 0
        for _ in range(STEPS):
            total += yield ctx.run(step, 1)
        return [rows, (yield trip), deep, total]

    def trip(ctx: Context, run: int) -> Any:
        first = yield ctx.run(step, run)
        yield ctx.sleep(0.05)
        price = yield ctx.rpc("price", run).options(target=DIRECT)
        legs = yield ctx.map(step, range(run, run + FANNED))
        return [first, sum(legs), price]

    async def price(ctx: Context, run: int) -> int:
        values = await asyncio.gather(*(ctx.run(step, run + number) for number in range(FANNED)))
        return sum(values)

    for function in (step, nested, order, trip, price):
        client.register(function)


def main(url: str, group: str, pid: str, database: str, ttl: str) -> None:
    """Serve until standard input ends."""
    client = Resonate(url=url, group=group, pid=pid, ttl=int(ttl))
    register(client, Notes(database, pid))
    client.start()
    sys.stdin.read()
    client.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
