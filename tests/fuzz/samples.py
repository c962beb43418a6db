"""What type trees are made of: right names, wrong ones, and ones that would do harm if they were followed."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import msgspec


@dataclass
class Box:
    item: Any
    label: str = ""


class Cell(msgspec.Struct):
    item: Any
    number: int = 0


class Colour(enum.Enum):
    RED = "red"


class Bits(enum.Flag):
    ONE = 1
    TWO = 2


class Sorted(list[Any]):
    pass


class Refused(Exception):
    def __init__(self, code: int, *, why: str) -> None:
        super().__init__(code, why)
        self.why = why


class Recorder:
    """Notices whether anything that a payload names is made or called."""

    touched: list[str] = []

    def __init__(self, *args: Any) -> None:
        self.touched.append("made")

    def __call__(self, *args: Any) -> None:
        self.touched.append("called")


_HERE: Final = __name__
_KINDS: Final = ("dataclass", "struct", "enum", "subclass", "pydantic", "error")
_CLASSES: Final = (
    *(f"{_HERE}:{name}" for name in ("Box", "Cell", "Colour", "Bits", "Sorted", "Refused", "Recorder", "Box.item")),
    "os:system",
    "builtins:eval",
    "builtins:int",
    "builtins:ValueError",
    "builtins:SystemExit",
    "subprocess:Popen",
    "pathlib:Path",
    "nowhere:Thing",
    "",
    ":",
    "a:b:c",
    f"{_HERE}:__class__",
    f"{_HERE}:Any",
)
TAGS: Final = (
    *(f"{kind} {name}" for kind in _KINDS for name in _CLASSES),
    *("float", "list", "dict", "dict int", "pairs", "tuple", "set", "frozenset", "bytes", "bytearray"),
    *("datetime", "datetime 1", "datetime Europe/Paris", "datetime Europe", "datetime ../../etc/passwd", "datetime \0"),
    *("datetime /etc/passwd", "datetime posixrules", "date", "time", "time 1", "timedelta", "uuid", "decimal"),
    *("complex", "deque", "deque 2", "deque -1", "deque 99999999999999999999", "ordered", "counter", "defaultdict int"),
    *("defaultdict eval", "defaultdict", "nonsense", "", " "),
)
PLAIN: Final[tuple[Any, ...]] = (
    None,
    1,
    "red",
    "1",
    "__INF__",
    "2026-11-23T14:00:00",
    "2026-11-23T14:00:00+00:00",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "2026-11-23",
    "14:00:00",
    "P1D",
    "P99999999999999D",
    "123e4567-e89b-12d3-a456-426614174000",
    "1e999999999",
    "NaN",
    "1+2j",
    "aGVsbG8=",
    "9" * 5000,
    [],
    [1, 2],
    [[1, 2], [3, 4]],
    [["a", 1], [["b"], 2]],
    {"item": 1},
    {"item": [1, "2026-11-23"], "label": "x"},
    {"1": 1, "-2": 2},
    {"__type": "error", "name": "ValueError", "message": "no", "stack": "Traceback"},
    {"func": "f", "args": [1], "kwargs": {"a": 2}, "version": 1},
    {"a": {"item": 1}, "b": [1]},
)
Annotated: Final[tuple[Any, ...]] = (
    int,
    str,
    Box,
    Cell,
    Colour,
    datetime,
    Decimal,
    list[Box],
    dict[str, Cell],
    tuple[int, ...],
    set[int],
    int | None,
)
