"""Registry: names, versions, and what is refused."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from resonate.errors import FunctionNotFound
from resonate.registry import Registry


def charge(ctx: Any) -> None: ...


def charge_again(ctx: Any) -> None: ...


def stranger(ctx: Any) -> None: ...


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.add(charge)
    registry.add(charge_again, name="charge", version=3)
    return registry


def test_a_name_finds_its_newest_version_and_any_version_asked_for(registry: Registry) -> None:
    assert registry.get("charge") == ("charge", charge_again, 3)
    assert registry.get("charge", 1) == ("charge", charge, 1)


def test_the_newest_version_is_the_highest_not_the_last_added() -> None:
    registry = Registry()
    registry.add(charge_again, name="charge", version=3)
    registry.add(charge)

    assert registry.get("charge") == ("charge", charge_again, 3)


def test_a_function_finds_its_own_version(registry: Registry) -> None:
    assert registry.get(charge) == ("charge", charge, 1)
    assert registry.get(charge_again, 3) == ("charge", charge_again, 3)


def test_a_function_asked_for_under_another_version_is_not_found(registry: Registry) -> None:
    with pytest.raises(ValueError, match="function charge version 3 not found in registry"):
        registry.get(charge, 3)


@pytest.mark.parametrize(("func", "version"), [("refund", 0), ("charge", 2), (stranger, 0)])
def test_what_is_not_registered_is_named_with_what_is(registry: Registry, func: Any, version: int) -> None:
    with pytest.raises(FunctionNotFound) as caught:
        registry.get(func, version)

    assert "charge version 1, charge version 3" in str(caught.value)


def test_latest_is_the_newest_version_of_a_name_and_the_own_one_of_a_function(registry: Registry) -> None:
    assert registry.latest("charge") == 3
    assert registry.latest(charge) == 1
    assert registry.latest("refund") == 1
    assert registry.latest(stranger, default=7) == 7


def test_known_tells_name_and_version_of_a_function(registry: Registry) -> None:
    assert registry.known(charge_again) == ("charge", 3)
    assert registry.known(stranger) is None


def test_a_remote_call_may_name_what_is_not_here(registry: Registry) -> None:
    assert registry.resolve("charge") == ("charge", charge_again, 3)
    assert registry.resolve("charge", 1) == ("charge", charge, 1)
    assert registry.resolve("charge", 9) == ("charge", None, 9)
    assert registry.resolve("refund") == ("refund", None, 1)
    assert registry.resolve(charge) == ("charge", charge, 1)
    with pytest.raises(FunctionNotFound):
        registry.resolve(stranger)


@pytest.mark.parametrize(
    ("func", "name", "version"), [(stranger, "charge", 1), (charge, "other", 1), (charge, None, 2), (charge, None, 1)]
)
def test_a_second_registration_is_refused_and_changes_nothing(
    registry: Registry, func: Any, name: str | None, version: int
) -> None:
    with pytest.raises(ValueError, match="already registered"):
        registry.add(func, name, version)

    assert registry.names() == ("charge version 1", "charge version 3")
    assert registry.known(charge) == ("charge", 1)


@pytest.mark.parametrize(
    ("func", "name", "version", "error", "text"),
    [
        (stranger, 1, 1, TypeError, "name must be `str`"),
        (stranger, None, "1", TypeError, "version must be `int`"),
        (stranger, None, True, TypeError, "version must be `int`"),
        (stranger, None, 0, ValueError, "version must be greater than zero"),
        (lambda ctx: 0, None, 1, ValueError, "name required when registering a lambda function"),
        (functools.partial(stranger), None, 1, ValueError, "provided callable must be a function"),
        (None, None, 1, TypeError, "provided callable must be a function"),
    ],
)
def test_a_bad_registration_is_refused_and_leaves_no_trace(
    func: Any, name: Any, version: Any, error: type[Exception], text: str
) -> None:
    registry = Registry()

    with pytest.raises(error, match=text):
        registry.add(func, name, version)

    assert registry.names() == ()


def test_a_lambda_with_a_name_is_a_function() -> None:
    registry = Registry()
    registry.add(lambda ctx: 0, name="zero")

    assert registry.get("zero")[0] == "zero"


def test_of_many_threads_that_register_one_name_exactly_one_wins() -> None:
    registry = Registry()

    def register(at: int) -> bool:
        def f(ctx: Any) -> int:
            return at

        try:
            registry.add(f, name="f")
        except ValueError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(register, range(100))) == 1
