"""What every test starts from: a fixed hypothesis profile and an environment without RESONATE_ variables."""

from __future__ import annotations

import importlib
import logging
import os
import pkgutil
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

import resonate
from resonate.testing import World
from tests import places

pytest_plugins = ["resonate.testing.fixtures"]  # for a run from the source tree, where no plugin is installed

# All of it now: pytest compiles what is imported, our threads import some of it when it is first needed, and two such
# threads upset the compiler of Python 3.11 ("AST constructor recursion depth mismatch").
for module in pkgutil.walk_packages(resonate.__path__, "resonate."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)

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


@pytest.fixture
def r() -> Iterator[resonate.Resonate]:
    """A client with two threads, for files that do not have another of that name."""
    with resonate.Resonate(workers=2) as client:
        yield client


@pytest.fixture(params=places.KINDS)
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Runs a test once for each kind of state: every `Resonate()` and every world of it keeps state there.

    For a whole file: `pytestmark = pytest.mark.usefixtures("place")`.
    """
    with places.taken(request.param) as url:
        if url is not None:
            monkeypatch.setenv("RESONATE_URL", url)
        yield request.param


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """As users have it, in the place of the test if it has one."""
    if "place" in request.fixturenames:
        request.getfixturevalue("place")
    with places.world() as world:
        yield world


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write the transcripts of tests/terminal anew")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Commands that are run within the process set up logging; what comes after is to find none."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    for handler in [handler for handler in root.handlers if handler not in handlers]:
        root.removeHandler(handler)
