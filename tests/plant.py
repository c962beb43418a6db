"""Plant the bugs that simulations have to find, each in a copy of the source, and look for them.

`python -m tests.plant` says for each which of the seeds 0 to 999 finds it first. A patch in
`tests/planted` begins with a line that says what is wrong with it in place.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src"
PLANTED = Path(__file__).parent / "planted"
SEEDS = 1000

LOOK = """
import sys
import resonate
from resonate.testing.simulation.cases import make_case, run_case
assert resonate.__file__.startswith(sys.argv[1]), resonate.__file__
for seed in range(int(sys.argv[2]), int(sys.argv[3])):
    problems = run_case(make_case(seed)).problems
    if problems:
        print(seed, problems[0].splitlines()[0])
        break
"""


def names() -> list[str]:
    """The planted bugs."""
    return sorted(patch.stem for patch in PLANTED.glob("*.patch"))


def plant(name: str, directory: Path) -> Path:
    """Copy the source into `directory` with this bug in it."""
    planted = directory / "src"
    shutil.copytree(SOURCE, planted, ignore=shutil.ignore_patterns("__pycache__", "static"))
    subprocess.run(["git", "apply", str(PLANTED / f"{name}.patch")], cwd=directory, check=True, env=_apart())
    return planted


def look(source: Path, first: int, last: int) -> tuple[int, str] | None:
    """The first seed of `first` to `last` that fails with this source, and how; None if none does."""
    found = subprocess.run(
        [sys.executable, "-c", LOOK, str(source), str(first), str(last)],
        env={**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    seed, _, problem = found.strip().partition(" ")
    return (int(seed), problem) if seed else None


def _apart() -> dict[str, str]:
    """An environment in which git takes no repository around a directory for its own."""
    return {**os.environ, "GIT_CEILING_DIRECTORIES": "/", "GIT_DIR": os.devnull}


def main() -> int:
    import tempfile

    missed = 0
    for name in sys.argv[1:] or names():
        with tempfile.TemporaryDirectory(prefix="resonate-planted-") as directory:
            found = look(plant(name, Path(directory)), 0, SEEDS)
        missed += found is None
        print(f"{name}: " + (f"none of {SEEDS} seeds" if found is None else f"seed {found[0]}: {found[1]}"), flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
