"""The Python of the README runs, top to bottom as one program, and prints what its comments say."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

import resonate
from resonate.cli.app import app
from tests.homes import until
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
    name, code, session = FILE.findall(README.read_text())[0]
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


WALK = re.compile(r"^```python\n# (expenses\.py)\n(.*?)^```$.*?^In a third one.*?^```console\n(.*?)^```$", re.M | re.S)


@pytest.mark.parametrize("home", ["server", "file"])
def test_an_expense_is_approved_in_the_terminal_as_it_says(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [(name, code, session)] = WALK.findall(README.read_text())
    (tmp_path / name).write_text(f"# {name}\n{code}")
    package = str(Path(resonate.__file__).parent.parent)
    with ExitStack() as stack:
        url = f"sqlite:///{tmp_path}/expenses.db?synchronous=off"
        if home == "server":
            said = stack.enter_context(running(tmp_path, package, "dev", "--server-port", "0"))
            url = said.partition("ready at ")[2].partition(",")[0]
        monkeypatch.setenv("RESONATE_URL", url)
        stack.enter_context(running(tmp_path, package, "worker", "expenses"))

        for line, *expected in (part.splitlines() for part in session.split("$ ") if part):
            program, *arguments = shlex.split(line.partition(" > ")[0])
            if program == "resonate":
                until(partial(prints, arguments, [plain(text) for text in expected]))


def prints(arguments: list[str], expected: list[str]) -> bool:
    """Whether a command prints that, but for what differs from run to run; what goes into a file does not count."""
    done = CliRunner().invoke(app, arguments)
    said = [] if arguments[0] == "promises" else [plain(text) for text in done.output.splitlines()]
    return done.exit_code == 0 and said == expected


def plain(line: str) -> str:
    line = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", line)
    return re.sub(r"  +", "  ", re.sub(r"\b[\d.]+ (ms|s)\b", "SPAN", line))


@contextmanager
def running(directory: Path, package: str, *arguments: str) -> Iterator[str]:
    """A command as a process of its own; the line with which it said that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "resonate.cli", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": package},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        yield next(line for line in process.stderr if " ready" in line)
    finally:
        process.kill()
        process.communicate()


def test_the_readme_is_checked_at_all() -> None:
    assert len(blocks(README)) > 10
    assert sum(len(block.prints) for block in blocks(README)) > 15


def test_the_readme_names_every_file_it_points_to() -> None:
    text = README.read_text()
    for name in re.findall(r"`((?:examples|docs|benchmarks)/[\w./]*|[A-Z]+\.md)`", text):
        assert (README.parent / name).exists(), f"README.md names {name}"
