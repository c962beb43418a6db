"""The judge of the steps: what it counts and what it rejects; and the plan, which belongs to its seed."""

from __future__ import annotations

import pytest

from tests.chaos import judge
from tests.chaos.functions import Executed, labels_of_trip
from tests.chaos.plan import FAULTS, plan

RUN = "trip-7"


def executed(label: str, number: int = 0, version: int = 1) -> Executed:
    return Executed(f"id-of-{label}", label, f"{label}|{number}", RUN, version, 0.0)


EACH_ONCE = [executed(label) for label in labels_of_trip(RUN)]
RESULT = {RUN: [execution.token for execution in EACH_ONCE]}
LEG = f"{RUN}-leg-0"


def test_steps_that_ran_once_are_right() -> None:
    assert judge.steps(RESULT, EACH_ONCE) == judge.Steps(9, 0, 1)


def test_who_lost_the_task_may_have_run_a_step_before() -> None:
    lost = executed(LEG, 1, version=0)

    assert judge.steps(RESULT, [*EACH_ONCE, lost]) == judge.Steps(9, 1, 2)


@pytest.mark.parametrize("version", [1, 2])
def test_a_step_that_ran_again_after_its_result_was_recorded_is_found(version: int) -> None:
    with pytest.raises(AssertionError, match="was recorded, and yet there was"):
        judge.steps(RESULT, [*EACH_ONCE, executed(LEG, 1, version)])


def test_a_result_of_something_that_never_happened_is_found() -> None:
    without = [execution for execution in EACH_ONCE if execution.label != LEG]

    with pytest.raises(AssertionError, match="which no step has made"):
        judge.steps(RESULT, without)


def test_a_wrong_result_is_found() -> None:
    with pytest.raises(AssertionError, match="trip-7 gave"):
        judge.steps({RUN: RESULT[RUN][::-1]}, EACH_ONCE)


@pytest.mark.parametrize("home", sorted(FAULTS))
def test_a_seed_has_one_plan_in_which_everything_comes(home: str) -> None:
    made = plan(home, 7, 20, (0.5, 1.5))

    assert made == plan(home, 7, 20, (0.5, 1.5))
    assert made != plan(home, 8, 20, (0.5, 1.5))
    assert {fault.name for fault in plan(home, 7, 600)} == set(FAULTS[home])
    assert made == sorted(made, key=lambda fault: fault.at)
