"""The short form of `python -m tests.chaos`: each home for some seconds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.plan import FAULTS, plan
from tests.postgres.cluster import binaries

ROOT = Path(__file__).parents[2]
SEED = 7
SECONDS = 10
PAUSES = (0.2, 0.9)


@pytest.mark.slow
@pytest.mark.timeout(420)
@pytest.mark.parametrize("home", sorted(FAULTS))
def test_whatever_fails_nothing_is_lost_repeated_or_answered_wrongly(home: str) -> None:
    if home == "postgres" and binaries() is None:
        pytest.skip("PostgreSQL is not installed")
    given = [
        "--home",
        home,
        "--seconds",
        str(SECONDS),
        "--seed",
        str(SEED),
        "--pauses",
        *map(str, PAUSES),
        "--ttl",
        "1",
    ]

    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *given], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr[-8_000:]
    print(done.stdout)
    for name in {fault.name for fault in plan(home, SEED, SECONDS, PAUSES)} - {"disk full"}:
        assert f"x {name}" in done.stdout
    (checked,) = re.findall(r"(\d+) requests checked", done.stdout)
    (runs,) = re.findall(r"(\d+) runs ", done.stdout)
    assert int(checked) > 100
    assert int(runs) > 10
