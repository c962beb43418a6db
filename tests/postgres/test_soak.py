"""A short form of `python -m tests.soak_postgres`."""

from __future__ import annotations

import pytest

from tests.postgres.cluster import binaries
from tests.soak_postgres import soak

pytestmark = pytest.mark.skipif(binaries() is None, reason="PostgreSQL is not installed")


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_two_servers_and_four_workers_that_die_all_the_time_lose_nothing() -> None:
    report = soak(20, seed=1)

    assert report.runs > 20
    assert sum(report.events.values()) > 5
