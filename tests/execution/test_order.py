"""In which order a replay hands outcomes over, and what it holds back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from resonate.execution.call import PLAIN, Call
from resonate.execution.order import Notes, Order
from resonate.options import Options


def order(*entries: Any) -> Order:
    return Order("p:", entries)


def test_outcomes_come_in_the_order_noted_and_then_as_they_arrive() -> None:
    noted = order("2", "=own", "1")

    assert noted.first(["p:1", "own", "p:2"]) == 2
    assert noted.first(["p:1", "own"]) == 1
    assert noted.first(["p:9", "p:8", "p:1"]) == 2
    assert noted.first(["p:9", "p:8"]) == 0


@pytest.mark.parametrize(
    ("arrived", "first"),
    [
        (["p:1"], None),  # not seen when 2 was begun
        (["p:1", "p:7"], 1),  # seen before, when nothing had to be noted
        (["p:1", "p:5"], 1),  # noted before
        (["p:6"], None),  # noted after
    ],
)
def test_what_had_not_been_seen_when_a_call_was_begun_waits_for_that(arrived: list[str], first: int | None) -> None:
    noted = order("5", ["2", "1"], "6", "1")

    assert noted.first(arrived) == first
    assert noted.begins("p:2", 1)
    assert noted.first(["p:1", "p:6"]) == 1


def test_after_the_first_such_call_all_is_noted_so_that_what_is_not_waits_for_the_last() -> None:
    noted = order(["2", "1"], "1", ["4"])

    assert noted.begins("p:2", 0)
    assert noted.first(["p:3"]) is None
    assert noted.first(["p:3", "p:1"]) == 1
    assert noted.begins("p:4", 2)
    assert noted.first(["p:3"]) == 0


def test_a_call_is_noted_again_where_it_was_and_nowhere_else() -> None:
    noted = order("1", ["2", "3"])

    assert noted.begins("p:4", 0) is False
    assert noted.begins("p:4", 1) is False
    assert noted.begins("p:2", 1) is True
    assert noted.begins("p:5", 2) is None


def test_of_code_that_goes_another_way_nothing_is_held_back() -> None:
    noted = order(["2", "1"])

    noted.let_go()

    assert noted.first(["p:1"]) == 0


def test_notes_count_on_and_name_calls_shortly() -> None:
    notes = Notes()
    call = Call("p", None, PLAIN, 1, Options())
    call.prefix = "p:"

    notes.saw(call, Call("p:3", call, PLAIN, 1, Options()))
    notes.went_on(call, "p:4", ["own", "p:1"])
    assert json.loads(notes.take()) == {"p": [0, ["3", ["4", "=own", "1"]]]}
    notes.went_on(call, "p:5", ())
    assert json.loads(notes.take()) == {"p": [2, [["5"]]]}
