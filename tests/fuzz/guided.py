"""`python -m tests.fuzz.guided --target NAME [options of libFuzzer]`: cases led by which code they reach.

Needs `atheris`, in an environment of its own: `python -m pip install atheris -e '.[test]'`.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from tests.fuzz.making import FromBytes


def main() -> None:
    """Run until a case fails, or for as long as `-max_total_time=SECONDS` says."""
    atheris: Any = importlib.import_module("atheris")
    name = sys.argv.pop(sys.argv.index("--target") + 1)
    sys.argv.remove("--target")
    with atheris.instrument_imports(include=["resonate"]):
        targets = importlib.import_module("tests.fuzz.targets")
    atheris.Setup(sys.argv, lambda data: targets.run(name, FromBytes(data)))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
