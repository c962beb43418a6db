"""The Python of docs/deploys.md runs, top to bottom as one program, and prints what its comments say."""

from __future__ import annotations

import logging
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pages import blocks

PAGE = Path(__file__).parents[1] / "docs" / "deploys.md"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """A module for the page's code, which keeps its file in a directory of the test's."""
    monkeypatch.chdir(tmp_path)
    made = types.ModuleType("deploys")
    sys.modules["deploys"] = made
    handlers = list(logging.getLogger("resonate").handlers)
    yield made
    logging.getLogger("resonate").handlers = handlers
    for name in ("r", "green"):
        if name in made.__dict__:
            made.__dict__[name].stop()
    del sys.modules["deploys"]


@pytest.mark.slow
def test_the_page_on_deploys_runs_as_one_program_and_prints_what_it_says(
    module: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    for block in blocks(PAGE):
        block.run(module.__dict__)

        printed = capsys.readouterr().out.splitlines()
        assert printed == block.prints, f"{PAGE.name}, line {block.line}"
