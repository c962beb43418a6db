"""What `ctx.logger` writes, where, and from which level on."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from resonate import Context, Resonate

PROGRAM = """
import logging
from resonate import Resonate
{setup}
r = Resonate(log_level={level!r})

@r.register
def step(ctx):
    ctx.logger.debug("quiet %d", 1)
    ctx.logger.info("said %d", 2)
    ctx.logger.error("cried %d", 3)

r.run("x", step)
r.stop()
"""


def stderr_of(level: Any, setup: str = "") -> list[str]:
    """The standard error of a program that logs, without the time."""
    program = PROGRAM.format(level=level, setup=setup)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    return [line.partition("] ")[2] if line.startswith("[2") else line for line in done.stderr.splitlines()]


@pytest.mark.parametrize(
    ("level", "said"),
    [("DEBUG", ["quiet 1", "said 2", "cried 3"]), ("INFO", ["said 2", "cried 3"]), ("ERROR", ["cried 3"])],
)
def test_without_logging_set_up_lines_from_the_clients_level_on_go_to_stderr(level: str, said: list[str]) -> None:
    names = {"quiet 1": "DEBUG", "said 2": "INFO", "cried 3": "ERROR"}

    assert stderr_of(level) == [f"[{names[line]}] [x] [x] {line}" for line in said]


def test_the_programs_own_handlers_get_the_lines_instead() -> None:
    setup = "logging.basicConfig(format='%(name)s %(resonate_id)s: %(message)s')"

    assert stderr_of("INFO", setup) == ["resonate.function x: [x] said 2", "resonate.function x: [x] cried 3"]


def test_a_level_that_the_program_has_set_counts_too() -> None:
    setup = "logging.getLogger('resonate.function').setLevel(logging.ERROR)"

    assert stderr_of("DEBUG", setup) == ["[ERROR] [x] [x] cried 3"]


def test_the_callers_extra_reaches_the_record(caplog: pytest.LogCaptureFixture) -> None:
    def step(ctx: Context) -> None:
        ctx.logger.warning("watch", extra={"order": 7})

    with Resonate() as client:
        client.register(step)
        client.run("x", step)

    [record] = caplog.records
    assert (record.order, record.resonate_root) == (7, "x")  # type: ignore[attr-defined]
