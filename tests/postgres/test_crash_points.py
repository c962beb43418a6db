"""Real programs, killed at each of their checkpoints, with their state in a database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from resonate.errors import UsageError
from resonate.testing import World, crash_at_every_checkpoint
from tests import databases
from tests.postgres.cluster import binaries
from tests.test_crash_points import choices, double, gathers, in_sequence, nap, nested, over_rpc, registers, sleeper

pytestmark = [pytest.mark.slow, pytest.mark.skipif(binaries() is None, reason="PostgreSQL is not installed")]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize(
    ("func", "args", "result"),
    [
        (in_sequence, (3,), 6),
        (nested, (1,), 4),
        (sleeper, (1,), 1),
        (over_rpc, (), 8),
        (choices, (), [[2, 4], 6, [8, 10, 12]]),
        (gathers, (3,), [1.5, 1.5, 1.5]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_program_comes_to_its_result_from_what_the_database_holds(
    func: Callable[..., Any], args: tuple[Any, ...], result: Any, seed: int | None
) -> None:
    others = [other for other in (double, in_sequence, nap) if other is not func]
    report = crash_at_every_checkpoint(func, *args, prepare=registers(*others), seed=seed, url=databases.url())

    assert report.result == result
    assert report.runs == 2 * report.checkpoints


def test_a_transaction_has_happened_exactly_once_wherever_its_worker_dies() -> None:
    def insert(connection: psycopg.Connection[Any], n: int) -> int:
        connection.execute("CREATE TABLE IF NOT EXISTS seen (n INTEGER)")
        connection.execute("INSERT INTO seen VALUES (%s)", (n,))
        return int(connection.execute("SELECT count(*) FROM seen").fetchone()[0])  # type: ignore[index]

    def counts(ctx: Any) -> Any:
        rows = []
        for n in range(2):
            rows.append((yield ctx.transaction(insert, n)))
            yield ctx.run(double, n)
        return rows

    report = crash_at_every_checkpoint(counts, url=databases.url())

    assert report.result == [1, 2]
    assert report.runs == 2 * report.checkpoints
    with psycopg.connect(databases.url()) as session:
        left = session.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'resonate_test_%'").fetchall()
    assert left == []


def test_a_world_on_a_database_goes_on_when_it_is_opened_again() -> None:
    def waits(ctx: Any) -> Any:
        yield ctx.sleep(30 * 86400)
        return "awake"

    with World(url=databases.fresh_url()) as world:
        first = world.client()
        first.register(waits)
        first.begin_run("w", waits)
        world.settle()
        first.crash()
        world.reopen()
        second = world.client()
        second.register(waits)

        assert second.run("w", waits) == "awake"


def test_a_world_has_a_file_or_a_database() -> None:
    with pytest.raises(UsageError, match="not both"):
        World(file="app.db", url="postgresql://host/db")
