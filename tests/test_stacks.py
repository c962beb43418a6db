"""The traceback that travels with an exception."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

from resonate.values.exceptions import stack_of


def test_a_traceback_that_python_cannot_underline_still_names_file_line_and_function(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python 3.11.2 parses source to underline it, which fails when several threads do so."""

    def fails(*_: Any) -> Any:
        raise SystemError("AST constructor recursion depth mismatch (before=168, after=55)")

    monkeypatch.setattr(traceback, "format_tb", fails)
    text = ""
    try:
        int("no number")
    except ValueError as error:
        text = stack_of(error)

    assert "test_stacks.py" in text
    assert "in test_a_traceback" in text
    assert text.endswith("ValueError: invalid literal for int() with base 10: 'no number'\n")
