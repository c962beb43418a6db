"""What somebody stored cannot pass for a line of the log, nor command the terminal that shows it."""

from __future__ import annotations

import json
import logging

import pytest

from resonate.cli.logs import Lines
from resonate.telemetry import JsonLines
from tests.security.test_terminal import CODES

FORGED = "x\n2026-11-30 12:00:00,000 ERROR   resonate.server  everything is lost"


def record(text: str, *, raised: bool = False) -> logging.LogRecord:
    info = None
    if raised:
        try:
            raise ValueError(text)
        except ValueError as error:
            info = (ValueError, error, error.__traceback__)
    return logging.LogRecord("resonate.worker", logging.WARNING, __file__, 1, "%s: stopped here", (text,), info)


@pytest.mark.parametrize("text", [FORGED, *CODES.values(), "a\u2028b", "a\x85b", "a\x0bb", "\ud800"], ids=ascii)
@pytest.mark.parametrize("raised", [False, True])
def test_no_line_of_a_record_looks_like_another_record(text: str, raised: bool) -> None:
    lines = Lines("%(levelname)s %(message)s").format(record(text, raised=raised)).split("\n")

    assert lines[0].startswith("WARNING ")
    assert all(line.startswith("    ") for line in lines[1:])
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("text", [FORGED, *CODES.values(), "\ud800"], ids=ascii)
def test_a_record_as_json_is_one_line_and_holds_all_of_the_text(text: str) -> None:
    line = JsonLines().format(record(text, raised=True))

    assert "\n" not in line
    assert "\x1b" not in line
    assert json.loads(line)["message"] == f"{text}: stopped here"
