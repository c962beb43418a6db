"""The Python of the README runs, top to bottom as one program, and prints what its comments say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import resonate

README = Path(__file__).parent.parent / "README.md"

FILE = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```$\n+```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```python\n(?!# \w+\.py\n)(.*?)^```$", re.MULTILINE | re.DOTALL)
PRINTED = re.compile(r"^\s*print\(.*\)  # (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One block of code and the line of the README that it starts at."""

    line: int
    code: str

    @property
    def prints(self) -> list[str]:
        """What its comments say it prints, in the order of the code."""
        return PRINTED.findall(self.code)

    def run(self, namespace: dict[str, Any]) -> None:
        """Run it, with the README's own lines in tracebacks."""
        exec(compile("\n" * (self.line - 1) + self.code, str(README), "exec"), namespace)


def blocks() -> list[Block]:
    text = README.read_text()
    return [Block(text.count("\n", 0, found.start(1)) + 1, found.group(1)) for found in BLOCK.finditer(text)]


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
    for block in blocks():
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
    assert len(blocks()) > 10
    assert sum(len(block.prints) for block in blocks()) > 15


def test_the_readme_names_every_file_it_points_to() -> None:
    text = README.read_text()
    for name in re.findall(r"`((?:examples|docs|benchmarks)/[\w./]*|[A-Z]+\.md)`", text):
        assert (README.parent / name).exists(), f"README.md names {name}"
