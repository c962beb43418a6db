"""What every test starts from: a fixed hypothesis profile and an environment without RESONATE_ variables."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["resonate.testing.fixtures"]  # for a run from the source tree, where no plugin is installed

# Speed differs between machines, so no deadline per example; the same examples every run
# on CI, fresh ones elsewhere. A failing example prints the blob that repeats it.
settings.register_profile("base", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("base"), derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "base")


@pytest.fixture(autouse=True)
def no_resonate_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of the developer's shell would turn local tests into remote ones."""
    for name in [name for name in os.environ if name.startswith("RESONATE_")]:
        monkeypatch.delenv(name)
