"""Fixtures for pytest: `resonate`, a client whose time is skipped, and `world`, where it lives.

Installed as a plugin of pytest, so that no conftest needs to name it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from resonate.testing import World, WorldClient


@pytest.fixture
def world() -> Iterator[World]:
    """A `World` of its own for this test: `world.advance(60)`, `world.client(group="billing")`."""
    with World() as world:
        yield world


@pytest.fixture
def resonate(world: World) -> WorldClient:
    """A client in `world`: `resonate.run(...)` skips the time that functions sleep."""
    return world.client()
