"""Processes killed with SIGKILL on a real file, by the harness that users have too."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from resonate.testing import kill_at_every_write, kill_at_random

pytestmark = pytest.mark.slow

PROGRAM = "tests.kill_programs"


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("func", "result"), [("steps", 3), ("gathers", 6)])
def test_a_worker_killed_at_any_of_its_writes_is_continued_by_the_next(func: str, result: int) -> None:
    report = kill_at_every_write(PROGRAM, func)

    assert report.results == [result] * (2 * report.writes + 1)
    assert report.kills >= 6


@pytest.mark.timeout(120)
def test_workers_killed_at_random_lose_nothing_and_repeat_no_finished_step() -> None:
    report = kill_at_random(PROGRAM, "mixed", runs=12, workers=3, kills=6, seed=7)

    assert report.results == [[[1, 2, 3], 3 + run, 4 * run + 6] for run in range(12)]
    assert report.kills >= 1


BROKEN = """
from resonate.storage.sqlite.connection import Connection

def forgets(connection):
    if connection.database.in_transaction:
        connection.database.execute("ROLLBACK")

def step(ctx):
    return 1

def order(ctx):
    first = yield ctx.run(step)
    return first + (yield ctx.run(step))

def register(client):
    client.register(order)
    Connection.commit = forgets
"""


@pytest.mark.timeout(120)
def test_a_store_that_forgets_what_it_has_acknowledged_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "forgetful.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    kills = sys.modules[kill_at_every_write.__module__]
    assert isinstance(kills, types.ModuleType)
    monkeypatch.setattr(kills, "PATIENCE", 3.0)

    with pytest.raises(AssertionError, match="has not ended"):
        kill_at_every_write("forgetful", "order")
