"""What a payload can have a reader of it do: nothing but make values, in a time that its size allows."""

from __future__ import annotations

import ast
import json
import math
import os
import pickle
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import resonate
from resonate.encoders import JsonPickleEncoder
from resonate.errors import DecodeError
from resonate.values import decode, decode_call, decode_error, encode
from resonate.values.payload import HEADER, pack
from tests.fuzz.samples import Recorder

SOURCE = Path(resonate.__file__).parent


def read(plain: Any, node: Any) -> Any:
    return decode(pack(json.dumps(plain).encode()), {HEADER: json.dumps(node)})


class Harm:
    def __reduce__(self) -> Any:
        return os.mkdir, ("/tmp/resonate-owned",)


@pytest.mark.parametrize("header", ["resonate:format-py", "__py_pickle", "py/object", HEADER])
def test_a_pickle_is_never_loaded(header: str) -> None:
    bad = pack(pickle.dumps(Harm()))
    named = {"__py_pickle": bad, "py/reduce": [{"py/type": "os.mkdir"}, ["/tmp/resonate-owned"]]}
    for data in (bad, pack(json.dumps(named).encode())):
        for reading in (decode, decode_call, decode_error):
            try:
                reading(data, {header: bad})
            except DecodeError:
                continue
    assert not os.path.exists("/tmp/resonate-owned")


def test_nothing_of_ours_imports_what_loads_code_but_the_encoder_that_says_so() -> None:
    found = set()
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if {name.partition(".")[0] for name in names} & {"pickle", "shelve", "marshal", "jsonpickle", "dill"}:
                found.add(file.name)
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Name) and called.id in ("eval", "exec", "compile"):
                found.add(file.name)
    assert found == {"encoders.py"}
    said = " ".join((JsonPickleEncoder.__doc__ or "").split())
    assert "use it only where whoever can write to the store is trusted" in said


@pytest.mark.parametrize("name", ["os:system", "subprocess:Popen", "builtins:eval", "tests.fuzz.samples:Recorder"])
@pytest.mark.parametrize("kind", ["dataclass", "struct", "enum", "subclass", "pydantic"])
def test_what_is_no_class_of_values_is_neither_made_nor_called(kind: str, name: str) -> None:
    Recorder.touched.clear()

    for plain in ({"args": ["x"]}, ["x"], "x"):
        with pytest.raises(DecodeError):
            read(plain, f"{kind} {name}")

    error = decode_error(
        pack(b'{"__type":"error","name":"E","message":"m"}'),
        {HEADER: json.dumps(["error", {"class": name, "args": [["x", None]]}])},
    )
    assert type(error).__name__ == "RemoteError"
    assert Recorder.touched == []


def test_a_module_that_is_not_imported_is_not_imported() -> None:
    assert "antigravity" not in sys.modules

    with pytest.raises(DecodeError):
        read({}, "dataclass antigravity:Anything")

    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("zone", ["../../../etc/passwd", "/etc/passwd", "Europe", "\0", "posix/../../../../etc/passwd"])
def test_a_zone_is_no_path(zone: str) -> None:
    when = read("2026-11-23T14:00:00+00:00", f"datetime {zone}")

    assert when.isoformat() == "2026-11-23T14:00:00+00:00"


def nested(tag: str, levels: int) -> Any:
    node: Any = "dict"
    for _ in range(levels):
        node = [tag, [node]]
    return node


DATES = ["list", ["date"]]
HEAVY: dict[str, tuple[Any, Any]] = {
    "wrappers of wrappers": ([{}] * 50_000, ["list", [nested("ordered", 200)]]),
    "the same large error for each": (
        [{"name": "E", "message": ""}] * 20_000,
        ["list", [["error", {"class": "builtins:ValueError", "args": [[["2026-11-23"] * 20_000, DATES]]}]]],
    ),
    "the same long text for each": (
        [{"name": "E", "message": ""}] * 20_000,
        ["list", [["error", {"class": "builtins:ValueError", "args": [["A" * 400_000, "bytes"]]}]]],
    ),
}


@pytest.mark.parametrize("name", HEAVY)
def test_a_small_type_tree_cannot_ask_for_hours_of_work(name: str) -> None:
    begun = time.process_time()

    with pytest.raises(DecodeError, match="more work"):
        read(*HEAVY[name])

    assert time.process_time() - begun < 20  # seconds, of what would be minutes to hours


class Sorted(list[int]):
    pass


HONEST: dict[str, Any] = {
    "decimals": [Decimal(0)] * 50_000,
    "tuples": [()] * 50_000,
    "subclasses": [Sorted()] * 50_000,
    "infinities": [math.inf] * 50_000,
    "sets of sets": [[frozenset([frozenset()])] * 100] * 100,
}


@pytest.mark.parametrize("name", HONEST)
def test_the_densest_honest_values_are_read(name: str) -> None:
    data, headers = encode(HONEST[name], "value")

    assert decode(data, headers) == HONEST[name]


def test_errors_nested_beyond_any_sense_are_an_error_all_the_same() -> None:
    text = '{"__type":"aggregate_error","errors":[' * 400 + "1" + "]}" * 400

    assert isinstance(decode_error(pack(text.encode()), None), Exception)
