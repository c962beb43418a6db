"""docs/security.md names tests; each of them exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

TESTS = Path(__file__).parent.parent
PAGE = TESTS.parent / "docs" / "security.md"

NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE.read_text())))


def test_the_page_names_tests() -> None:
    assert len(NAMED) > 50


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_the_page_names_exists(file: str, name: str) -> None:
    found = {node.name for node in ast.walk(ast.parse((TESTS / file).read_text())) if isinstance(node, ast.FunctionDef)}

    assert name in found


def test_what_the_page_says_is_fuzzed_is_a_target() -> None:
    text = PAGE.read_text().partition("## How it is tried")[0]
    named = {name for words in re.findall(r"fuzzed as ([^|\n]*)", text) for name in re.findall(r"`(\w+)`", words)}

    assert named <= set(TARGETS)
    assert len(named) > 8
