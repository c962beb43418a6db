"""Each program in `examples/` runs by itself, prints what it should and ends without a warning."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"

OUTPUT = {
    "async_gather": """
        home: 9 characters
        about: 11 characters
        contact: 15 characters
        """,
    "cancel": """
        seat 12A is held
        cancelled: seat-12A
        seat 12A is free again
        """,
    "countdown": """
        3 ...
        2 ...
        1 ...
        lift-off!
        counted down from 3
        """,
    "crash_and_continue": """
        the first process:
        charging visa
        killed by signal 9
        the second process:
        shipping a kettle
        42 EUR charged to visa
        """,
    "dependency_injection": """
        one kettle ordered, 2 left
        one kettle ordered, 1 left
        """,
    "fan_out_fan_in": """
        3 x durable
        3 x functions
        2 x crashes
        2 x promises
        2 x survive
        """,
    "fibonacci": """
        fibonacci(10) = 55
        its first branch, fibonacci(9) = 34
        """,
    "hello": """
        greeting world ...
        Hello, world!
        Hello, world!
        """,
    "human_approval": """
        please approve 80 EUR for train ticket (promise expense-1:1)
        paid 80 EUR for train ticket, approved by Ada
        please approve 80000 EUR for yacht (promise expense-2:1)
        yacht: refused by Ada
        """,
    "race_and_map": """
        prices: [12, 7, 9]
        days: [6, 6, None]
        stock: [True, False]
        outcome: ordered at the market
        """,
    "recovery": """
        worker-1: visa charged
        worker-1 is gone
        worker-2: customer told that a bicycle is on its way
        delivered by a bicycle
        """,
    "retries": """
          attempt 1 to charge visa
          attempt 2 to charge visa
          attempt 3 to charge visa
        charged visa at attempt 3
          attempt 1 to charge expired
        not charged: card 'expired' was declined
        """,
    "saga": """
          flight to Lisbon booked
          hotel in Lisbon booked
          car in Lisbon booked
        trip to Lisbon booked
          flight to Venice booked
          hotel in Venice booked
          hotel-Venice cancelled
          flight-Venice cancelled
        trip to Venice not possible: no cars in Venice
        """,
    "schedule": """
        scheduled: * * * * * *
        fired: report about sales
        deleted
        """,
    "two_groups": """
        2 x teapot shipped by the warehouse, sold by the shop
        6 x saucer shipped by the warehouse
        """,
    "two_processes": """
        2 x teapot, sold here and shipped by another process
        6 x saucer, sold here and shipped by another process
        """,
}


def run(name: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines()]


@pytest.mark.parametrize("name", sorted(OUTPUT))
def test_an_example_prints_its_outcome_and_ends_cleanly(name: str) -> None:
    finished = run(name)

    assert finished.stderr == ""
    assert lines(finished.stdout) == lines(OUTPUT[name])
    assert finished.returncode == 0


def test_every_example_is_run_by_this_suite() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(OUTPUT)


def test_every_example_says_what_it_shows_and_imports_nothing_but_resonate_and_the_standard_library() -> None:
    for path in EXAMPLES.glob("*.py"):
        tree = ast.parse(path.read_text())

        assert (ast.get_docstring(tree) or "").count("\n") >= 2, f"{path.name} needs a docstring that explains it"
        assert imported(tree) <= {*sys.stdlib_module_names, "resonate"}, path.name


def imported(tree: ast.Module) -> set[str]:
    """The top-level packages that a module imports."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names
