"""The programs that `test_kills.py` and `postgres/test_kills.py` run in workers that are killed."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

from resonate import Resonate


def add(ctx: Any, a: int, b: int) -> int:
    return a + b


def note(connection: Any, run: int, step: int) -> int:
    mark = "?" if isinstance(connection, sqlite3.Connection) else "%s"
    if mark == "%s":  # PostgreSQL does not make one table twice at the same time
        connection.execute("SELECT pg_advisory_xact_lock(7)")
    connection.execute("CREATE TABLE IF NOT EXISTS notes (run INTEGER, step INTEGER)")
    connection.execute(f"INSERT INTO notes VALUES ({mark}, {mark})", (run, step))
    return int(connection.execute(f"SELECT count(*) FROM notes WHERE run = {mark}", (run,)).fetchone()[0])


def steps(ctx: Any, run: int = 0) -> Any:
    total = 0
    for number in range(3):
        total = yield ctx.run(add, total, number)
    yield ctx.sleep(0.01)
    return total + (yield ctx.run(add, 0, run))


async def gathers(ctx: Any, run: int = 0) -> int:
    values = await asyncio.gather(*(ctx.run(add, run, number) for number in range(4)))
    return sum(values)


def notes(ctx: Any) -> Any:
    return [(yield ctx.transaction(note, 1, 1)), (yield ctx.transaction(note, 1, 2))]


def mixed(ctx: Any, run: int = 0) -> Any:
    """Some of everything; the rows that it writes are counted by each of its transactions."""
    first = yield ctx.begin_rpc("steps", run)
    rows = []
    for step in range(3):
        rows.append((yield ctx.transaction(note, run, step)))
    second = yield ctx.run(gathers, run)
    yield ctx.sleep(0.02)
    return [rows, (yield first), second]


def register(client: Resonate) -> None:
    for func in (steps, gathers, mixed, notes, add):
        client.register(func)
