"""Values of any shape and depth: a replay sees what the live run saw, and that is what was sent."""

from __future__ import annotations

import enum
import math
from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resonate.errors import DecodeError
from resonate.signatures import describe
from resonate.values import carry, decode, decode_call, decode_error, encode, encode_call, encode_error, retype
from resonate.values.typetree import is_plain


@dataclass(frozen=True)
class Box:
    item: Any
    label: str = ""


class Cell(msgspec.Struct, frozen=True):
    item: Any
    number: int = 0


class Colour(enum.Enum):
    RED = "red"
    PAIR = (1, 2)


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | TEXT
    | st.binary(max_size=20)
    | st.complex_numbers(allow_nan=False)
    | st.datetimes()
    | st.datetimes(timezones=st.just(UTC))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.sampled_from(Colour)
)
HASHABLE = st.recursive(LEAVES, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=4)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(TEXT, inner, max_size=3)
        | st.dictionaries(st.integers(), inner, max_size=3)
        | st.dictionaries(HASHABLE, inner, max_size=3)
        | st.sets(HASHABLE, max_size=3)
        | st.frozensets(HASHABLE, max_size=3)
        | st.builds(Box, inner, TEXT)
        | st.builds(Cell, inner, st.integers())
        | st.lists(inner, max_size=3).map(deque)
        | st.dictionaries(TEXT, inner, max_size=3).map(OrderedDict)
    ),
    max_leaves=8,
)


def same(left: Any, right: Any) -> bool:
    """Equal, and of the same types all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        keys = {key: key for key in right}
        return len(left) == len(right) and all(
            key in keys and same(key, keys[key]) and same(left[key], right[key]) for key in left
        )
    if isinstance(left, list | tuple | deque):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, Box | Cell):
        return same(left.item, right.item) and left == right
    return bool(left == right)


@given(VALUES)
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_a_value_comes_back_equal_and_of_the_same_types(value: Any) -> None:
    data, headers, seen = carry(value, Any, "r")
    replayed = decode(data, headers)

    assert same(seen, value)
    assert same(replayed, value)


ANNOTATIONS: list[Any] = [
    Any,
    int,
    float,
    str,
    bytes,
    datetime,
    timedelta,
    Colour,
    Box,
    Cell,
    list,
    dict,
    list[int],
    set[int],
    tuple[Any, ...],
    dict[str, Any],
    dict[int, Any],
    Box | None,
    int | str,
    Box | Cell,
]


@given(VALUES, st.sampled_from(ANNOTATIONS))
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_whatever_the_annotation_a_replay_sees_what_the_live_run_saw(value: Any, annotation: Any) -> None:
    data, headers, seen = carry(value, annotation, "r")

    assert same(decode(data, headers, annotation), seen)


@given(st.lists(VALUES, max_size=3), st.dictionaries(st.sampled_from("abc"), VALUES, max_size=2))
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_arguments_come_back_equal_and_of_the_same_types(args: list[Any], kwargs: dict[str, Any]) -> None:
    def f(ctx, *args, **kwargs):  # type: ignore[no-untyped-def]
        pass

    back, named = retype(decode_call(*encode_call("f", tuple(args), kwargs, 1)), describe(f))

    assert same(back, tuple(args))
    assert same(named, kwargs)


@given(st.lists(VALUES, max_size=3), st.dictionaries(st.sampled_from("abc"), VALUES, max_size=2))
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_an_exception_comes_back_with_args_and_attributes(args: list[Any], state: dict[str, Any]) -> None:
    error = LookupError(*args)
    error.__dict__.update(state)
    data, headers, seen = encode_error(error)

    for back in (seen, decode_error(data, headers)):
        assert type(back) is LookupError
        assert same(back.args, tuple(args))
        assert same({key: back.__dict__[key] for key in state}, state)


@given(VALUES)
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_a_value_has_a_header_exactly_if_it_is_not_plain(value: Any) -> None:
    assert (encode(value, "r")[1] is None) == is_plain(value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@given(JSON, JSON, st.sampled_from(ANNOTATIONS))
def test_a_header_of_any_shape_is_understood_or_refused_and_nothing_else(plain: Any, tree: Any, wanted: Any) -> None:
    data = encode(plain, "r")[0]
    headers = {"resonate:py": msgspec.json.encode(tree).decode()}

    try:
        decode(data, headers, wanted)
    except DecodeError:
        pass
    assert isinstance(decode_error(data, headers), Exception)


@given(st.text())
def test_data_of_any_text_is_understood_or_refused_and_nothing_else(data: str) -> None:
    try:
        decode(data, None)
    except DecodeError:
        pass
    assert isinstance(decode_error(data, None), Exception)
    with pytest.raises(DecodeError):
        decode_call(data, None)


def test_the_generator_reaches_what_it_is_there_for() -> None:
    seen: set[type] = set()

    def visit(value: Any) -> None:
        seen.add(type(value))
        if isinstance(value, dict):
            for pair in value.items():
                visit(pair)
        elif isinstance(value, list | tuple | set | frozenset | deque):
            for part in value:
                visit(part)
        elif isinstance(value, Box | Cell):
            visit(value.item)

    @given(VALUES)
    @settings(database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def collect(value: Any) -> None:
        visit(value)

    collect()

    assert {tuple, set, dict, bytes, Box, Cell, OrderedDict, deque, datetime, timedelta, Colour} <= seen


def test_the_comparison_tells_types_apart() -> None:
    assert not same((1,), [1])
    assert not same([True], [1])
    assert not same({1: "a"}, {True: "a"})
    assert not same(Box((1,)), Box([1]))
    assert not same(0, math.nan)
    assert same([{"a": (1,)}], [{"a": (1,)}])
