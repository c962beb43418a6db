"""The Python of the README runs, top to bottom as one program, and prints what its comments say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

import resonate
from tests.pages import blocks

README = Path(__file__).parent.parent / "README.md"

FILE = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```$\n+```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def module() -> Iterator[types.ModuleType]:
    """A module for the README's code: classes that are stored must be importable."""
    made = types.ModuleType("readme")
    sys.modules["readme"] = made
    yield made
    if "r" in made.__dict__:
        made.r.stop()
    del sys.modules["readme"]


def test_the_readme_runs_as_one_program_and_prints_what_it_says(
    module: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    for block in blocks(README):
        block.run(module.__dict__)

        printed = capsys.readouterr().out.splitlines()
        assert printed == block.prints, f"README.md, line {block.line}"


def test_the_quick_start_does_in_a_shell_what_it_says(tmp_path: Path) -> None:
    [(name, code, session)] = FILE.findall(README.read_text())
    (tmp_path / name).write_text(code)
    assert len(code.splitlines()) < 30

    package = str(Path(resonate.__file__).parent.parent)  # wherever it runs from, another directory has it too
    for command, *expected in (part.splitlines() for part in session.split("$ ") if part):
        program, *arguments = command.split()
        assert program == "python"
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": package},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.splitlines() == expected
        assert done.stderr == ""


def test_the_readme_is_checked_at_all() -> None:
    assert len(blocks(README)) > 10
    assert sum(len(block.prints) for block in blocks(README)) > 15


def test_the_readme_names_every_file_it_points_to() -> None:
    text = README.read_text()
    for name in re.findall(r"`((?:examples|docs|benchmarks)/[\w./]*|[A-Z]+\.md)`", text):
        assert (README.parent / name).exists(), f"README.md names {name}"
