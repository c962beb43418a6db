"""The short form of `python -m tests.soak_postgres`."""

from __future__ import annotations

import pytest

from tests.postgres.cluster import binaries
from tests.soak_postgres import Soak, soak

pytestmark = pytest.mark.skipif(binaries() is None, reason="PostgreSQL is not installed")


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_whatever_fails_around_a_database_costs_no_run_and_no_finished_step() -> None:
    figures = soak(24, seed=7, pauses=(0.5, 1.5))

    print(figures)
    assert set(figures.nuisances) == set(Soak.NUISANCES)
    assert figures.runs > 30
    assert figures.steps > 10 * figures.runs
