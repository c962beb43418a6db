"""Processes killed with SIGKILL on a database, by the harness that users have too."""

from __future__ import annotations

import psycopg
import pytest

from resonate.testing import kill_at_every_write, kill_at_random
from tests import databases
from tests.postgres.cluster import binaries

PROGRAM = "tests.kill_programs"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(binaries() is None, reason="PostgreSQL is not installed"),
    pytest.mark.timeout(120),
]


@pytest.mark.slow
@pytest.mark.parametrize(("func", "result"), [("steps", 3), ("gathers", 6)])
def test_a_worker_killed_at_any_of_its_writes_is_continued_by_the_next(func: str, result: int) -> None:
    report = kill_at_every_write(PROGRAM, func, url=databases.url())

    assert report.results == [result] * (2 * report.writes + 1)
    assert report.kills >= 6


@pytest.mark.slow
def test_a_transaction_has_happened_once_wherever_its_worker_is_killed() -> None:
    report = kill_at_every_write(PROGRAM, "notes", url=databases.url())

    assert report.results == [[1, 2]] * (2 * report.writes + 1)
    assert report.kills >= 6


@pytest.mark.slow
def test_workers_killed_at_random_lose_nothing_repeat_no_finished_step_and_leave_no_schema() -> None:
    report = kill_at_random(PROGRAM, "mixed", runs=12, workers=3, kills=6, seed=7, url=databases.url())

    assert report.results == [[[1, 2, 3], 3 + run, 4 * run + 6] for run in range(12)]
    assert report.kills >= 1
    with psycopg.connect(databases.url()) as session:
        left = session.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'resonate_test_%'").fetchall()
    assert left == []


@pytest.mark.parametrize(
    ("url", "says"), [("sqlite:///app.db", "left out"), ("postgresql://h/db?schema=mine", "names a schema")]
)
def test_a_url_that_is_no_database_to_make_schemas_in_is_refused(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        kill_at_every_write(PROGRAM, "steps", url=url)
