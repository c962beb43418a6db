"""Digests of arguments: equal ones agree, different ones do not, in every process."""

from __future__ import annotations

import enum
import functools
import subprocess
import sys
import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resonate.values import digest


@dataclass
class Order:
    id: int
    extra: Any = None


class Point(msgspec.Struct):
    x: Any


class Model(pydantic.BaseModel):
    a: int
    when: date = date(2024, 1, 1)


class Colour(enum.Enum):
    RED = (1, 2)


class Word(str):
    pass


class Connection:
    def query(self) -> None: ...


def helper() -> None: ...


def cycle(size: int) -> list[Any]:
    items: list[Any] = []
    items.extend([items] * size)
    return items


def table() -> dict[Any, Any]:
    """A dict that needs the slow form and contains itself."""
    items: dict[Any, Any] = {1: "a", "b": None}
    items["self"] = items
    return items


SAMPLES: dict[str, Any] = {
    "int": 1,
    "float": 1.5,
    "text": "a",
    "none": None,
    "bool": True,
    "list": [1],
    "dict": {"a": 1, "b": 2},
    "set": {"b", "a", "c"},
    "mixed set": {1, "a", None},
    "mixed keys": {1: "a", "b": frozenset({(1, "x")}), (1, 2): 2.5},
    "big": 2**80,
    "surrogate": "\ud800",
    "word": {1: Word("\ud800")},
    "date": date(2024, 1, 1),
    "slow date": {1: date(2024, 1, 1)},
    "decimal": Decimal("1.10"),
    "complex": 1 + 2j,
    "enum": Colour.RED,
    "order": Order(1, {2}),
    "slow order": {1: Order(1, {2: 3})},
    "point": Point({1: [Connection()]}),
    "slow point": {1: Point(2), "b": 1},
    "model": Model(a=1),
    "slow model": {1: Model(a=1)},
    "exception": ValueError("a", 1),
    "ordered": OrderedDict(a=1),
    "function": helper,
    "method": Connection().query,
    "builtin": len,
    "class": Order,
    "partial": functools.partial(helper),
    "connection": Connection(),
    "lock": threading.Lock(),
    "nested connection": {1: [Connection()]},
    "cycle": cycle(1),
    "wide cycle": cycle(3),
    "table": table(),
}


def every() -> dict[str, str]:
    return {name: digest((value,), {}) for name, value in SAMPLES.items()}


def test_no_arguments_have_no_digest() -> None:
    assert digest((), {}) == ""


@pytest.mark.parametrize("name", SAMPLES)
def test_a_digest_is_sixteen_hex_digits(name: str) -> None:
    text = digest((SAMPLES[name],), {})

    assert len(text) == 16
    assert int(text, 16) >= 0


def test_different_arguments_have_different_digests() -> None:
    assert len(set(every().values())) == len(SAMPLES)


def test_a_digest_is_the_same_in_a_process_with_another_hash_seed() -> None:
    program = f"import json; from {__name__} import every; print(json.dumps(every()))"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    }

    assert len(outputs) == 1
    assert msgspec.json.decode(outputs.pop()) == every()


def test_positional_and_keyword_arguments_differ() -> None:
    assert digest((1,), {}) != digest((), {"a": 1})
    assert digest((1, 2), {}) != digest(([1, 2],), {})
    assert digest((1 + 2j,), {}) != digest((2 + 1j,), {})


@pytest.mark.parametrize("extra", [{}, {1: 2}], ids=["fast form", "slow form"])
def test_the_order_of_dicts_and_sets_does_not_count_and_that_of_lists_does(extra: dict[Any, Any]) -> None:
    assert digest(({"a": 1, "b": 2}, extra), {}) == digest(({"b": 2, "a": 1}, extra), {})
    assert digest((extra,), {"a": 1, "b": 2}) == digest((extra,), {"b": 2, "a": 1})
    assert digest(([1, 2], extra), {}) != digest(([2, 1], extra), {})


def test_two_objects_of_a_class_without_form_are_the_same() -> None:
    assert digest((Connection(),), {}) == digest((Connection(),), {})
    assert digest((Connection(),), {}) != digest((threading.Lock(),), {})
    assert digest((Connection().query,), {}) == digest((Connection().query,), {})


def test_a_dataclass_whose_field_is_gone_counts_by_its_type() -> None:
    broken = Order(1)
    del broken.id

    assert digest(({1: broken},), {}) == digest(({1: broken},), {})
    assert digest(({1: broken},), {}) != digest(({1: Order(1)},), {})


def test_an_object_whose_reading_fails_counts_by_its_type() -> None:
    class Moody(msgspec.Struct):
        x: Any

        @property
        def y(self) -> None: ...

    assert digest(({1: Moody(cycle(1))},), {}) == digest(({1: Moody(cycle(2))},), {})


def deep(levels: int) -> Any:
    value: Any = Connection()
    for _ in range(levels):
        value = {1: value}
    return value


def test_below_a_depth_only_types_count() -> None:
    assert digest((deep(10),), {}) != digest((deep(11),), {})
    assert digest((deep(100),), {}) == digest((deep(101),), {})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner),
    max_leaves=8,
)


@given(VALUES)
def test_equal_arguments_have_equal_digests_whatever_the_order_of_their_dicts(value: Any) -> None:
    assert digest((value,), {}) == digest((reordered(value),), {})


def reordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    if isinstance(value, list | tuple):
        return type(value)(reordered(item) for item in value)
    return value
