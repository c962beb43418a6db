"""What `import resonate` costs: time, and the modules that come along."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# `import resonate` costs less than 150 ms where what it stands on (asyncio, logging, inspect, msgspec)
# costs 60: a slow machine, or one with other work to do, is slow with both.
LIMIT = 150 / 60
TRIES = 10  # the best counts: other work makes an import slower, never faster

# Too heavy for everybody who imports us, or a sign that something optional is not optional.
# (`typing_extensions` is not here: msgspec imports it wherever it is installed.)
UNWANTED = {
    "concurrent.futures.process",
    "http.client",
    "http.server",
    "hypothesis",
    "jsonpickle",
    "multiprocessing",
    "psycopg",
    "pydantic",
    "pydoc",
    "pytest",
    "sqlite3",
    "starlette",
    "tomllib",
    "unittest",
    "urllib.request",
    "uvicorn",
    "xml",
    "resonate.testing",
}

PROGRAM = """
import json, sys, threading, time
times = [time.process_time()]  # of the processor: what others run meanwhile does not count
import asyncio, inspect, logging, msgspec
times.append(time.process_time())
import resonate
times.append(time.process_time())
below, whole = times[1] - times[0], times[2] - times[0]
print(json.dumps({"times": whole / below, "modules": sorted(sys.modules), "threads": threading.active_count()}))
"""


def imported(environment: dict[str, str] | None = None) -> dict[str, Any]:
    """What a fresh interpreter says after `import resonate`."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_importing_takes_less_than_150_milliseconds(tmp_path: Path) -> None:
    compiled = os.environ | {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    imported(compiled)  # the first time Python also compiles it

    best = min(imported(compiled)["times"] for _ in range(TRIES))

    assert best < LIMIT


def test_importing_loads_nothing_heavy_and_starts_nothing() -> None:
    answer = imported()

    assert UNWANTED & set(answer["modules"]) == set()
    assert answer["threads"] == 1


def test_an_unwanted_module_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "PROGRAM", PROGRAM.replace("import resonate", "import sqlite3, resonate"))

    assert UNWANTED & set(imported()["modules"]) == {"sqlite3"}
