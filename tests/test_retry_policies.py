"""Retry policies: delays, limits, checks, equality and the wire form."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resonate.retry_policies import (
    Constant,
    Exponential,
    Linear,
    Never,
    RetryPolicy,
    from_wire,
    seconds,
    to_wire,
)

WRONG: Any = "1"

POLICIES: list[RetryPolicy] = [Constant(), Exponential(), Linear(), Never()]


def test_the_default_exponential_doubles_from_two_to_thirty_seconds() -> None:
    assert [Exponential().next(n) for n in range(1, 7)] == [2, 4, 8, 16, 30, 30]


def test_linear_grows_by_its_delay_and_constant_stays() -> None:
    assert [Linear(delay=2).next(n) for n in (1, 2, 3)] == [2, 4, 6]
    assert [Constant(delay=2).next(n) for n in (1, 2, 3)] == [2, 2, 2]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_nothing_is_waited_for_before_the_first_failure(policy: RetryPolicy) -> None:
    assert policy.next(0) == 0


@pytest.mark.parametrize("policy", [Exponential(max_retries=3), Linear(max_retries=3), Constant(max_retries=3)])
def test_three_retries_are_four_tries(policy: RetryPolicy) -> None:
    assert policy.next(3) is not None
    assert policy.next(4) is None


def test_never_gives_up_at_the_first_failure() -> None:
    assert Never().next(1) is None


def test_the_millionth_failure_still_waits_the_longest_delay() -> None:
    assert Exponential(factor=1e300).next(1_000_000) == 30
    assert Exponential().next(1_000_000) == 30


def test_positional_parameters_keep_the_official_order() -> None:
    assert Exponential(1, 2, 3, 4) == Exponential(delay=1, max_retries=2, factor=3, max_delay=4)
    assert Linear(1, 2) == Linear(delay=1, max_retries=2)
    assert Constant(1, 2) == Constant(delay=1, max_retries=2)


def test_policies_are_equal_by_value_hashable_and_frozen() -> None:
    policy = Constant(1)

    assert policy == Constant(1.0)
    assert policy not in [Linear(1), Constant(2)]
    assert hash(policy) == hash(Constant(1))
    with pytest.raises(AttributeError):
        policy.delay = 2  # type: ignore[misc]


def test_a_timedelta_is_seconds() -> None:
    assert Constant(timedelta(minutes=1)) == Constant(60)
    assert Exponential(timedelta(seconds=1), max_delay=timedelta(seconds=3)).next(5) == 3


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: Constant(WRONG), TypeError, "Constant: delay"),
        (lambda: Constant(True), TypeError, "Constant: delay"),
        (lambda: Linear(-1), ValueError, "Linear: delay must be greater than or equal to zero"),
        (lambda: Exponential(max_delay=math.nan), ValueError, "Exponential: max_delay"),
        (lambda: Exponential(factor=WRONG), TypeError, "Exponential: factor"),
        (lambda: Exponential(factor=True), TypeError, "Exponential: factor"),
        (lambda: Exponential(factor=-1), ValueError, "Exponential: factor"),
        (lambda: Exponential(factor=math.inf), ValueError, "Exponential: factor"),
        (lambda: Linear(max_retries=WRONG), TypeError, "Linear: max_retries"),
        (lambda: Linear(max_retries=True), TypeError, "Linear: max_retries"),
        (lambda: Constant(max_retries=-1), ValueError, "Constant: max_retries"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(make: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make()


@pytest.mark.parametrize(
    "policy",
    [
        Exponential(),
        Exponential(0.5, 7, 1.5, 60),
        Linear(2),
        Linear(0.25, 3),
        Constant(1.0005),
        Constant(0, 0),
        Never(),
    ],
)
def test_a_policy_comes_back_from_the_wire(policy: RetryPolicy) -> None:
    assert from_wire(to_wire(policy)) == policy


def test_the_wire_form_is_in_milliseconds_and_leaves_out_what_is_endless() -> None:
    assert to_wire(Exponential(1, 5, 2, 30)) == {
        "type": "exponential",
        "data": {"delay": 1000, "factor": 2, "maxDelay": 30000, "maxRetries": 5},
    }
    assert to_wire(Linear()) == {"type": "linear", "data": {"delay": 1000}}
    assert to_wire(Never()) == {"type": "never", "data": {}}


class _Own:
    def next(self, attempt: int) -> float | None:
        return None


def test_a_policy_of_the_users_own_is_a_policy_but_has_no_wire_form() -> None:
    assert isinstance(_Own(), RetryPolicy)
    assert to_wire(_Own()) is None


@pytest.mark.parametrize(
    "retry",
    [
        None,
        {},
        "never",
        {"type": "fibonacci", "data": {}},
        {"type": "linear", "data": {"delay": "soon"}},
        {"type": "linear", "data": {"delay": -5}},
        {"type": "constant", "data": {"maxRetries": "many"}},
    ],
)
def test_a_retry_field_that_makes_no_sense_asks_for_nothing(retry: Any) -> None:
    assert from_wire(retry) is None


def test_a_retry_field_without_data_takes_the_defaults() -> None:
    assert from_wire({"type": "exponential"}) == Exponential()
    assert from_wire({"type": "exponential", "data": None}) == Exponential()


@pytest.mark.parametrize(("given", "expected"), [(1, 1.0), (0, 0.0), (0.5, 0.5), (timedelta(milliseconds=1), 0.001)])
def test_seconds_takes_numbers_and_timedeltas(given: Any, expected: float) -> None:
    assert seconds(given) == expected
    assert type(seconds(given)) is float


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("1", TypeError),
        (True, TypeError),
        (None, TypeError),
        (-1, ValueError),
        (timedelta(seconds=-1), ValueError),
        (math.nan, ValueError),
        (math.inf, ValueError),
        (10**20, ValueError),
    ],
)
def test_seconds_refuses_what_is_no_duration(given: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="timeout must be"):
        seconds(given)


@given(st.integers(1, 10_000), st.floats(0, 100), st.floats(0, 1000))
def test_a_delay_never_exceeds_its_limit(attempt: int, delay: float, limit: float) -> None:
    waited = Exponential(delay, max_delay=limit).next(attempt)

    assert waited is not None
    assert 0 <= waited <= limit
