"""Every rule is asked of the machine, in memory and on a file, and of the slow model it is compared with elsewhere."""

from __future__ import annotations

import pytest

from . import bench
from .bench import Bench

SUBJECTS = {"machine": bench.machine, "sqlite": bench.sqlite, "postgres": bench.postgres, "model": bench.model}


@pytest.fixture(params=list(SUBJECTS))
def server(request: pytest.FixtureRequest) -> Bench:
    return SUBJECTS[request.param]()


@pytest.fixture(params=list(SUBJECTS))
def strict(request: pytest.FixtureRequest) -> Bench:
    """A server that plays the formal specification to the letter."""
    return SUBJECTS[request.param](strict=True)
