"""Invocations: their form, what is refused, and arguments brought into the shape of annotations."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest

from resonate.encoders import JsonEncoder
from resonate.errors import DecodeError, EncodeError
from resonate.signatures import describe
from resonate.values import Invocation, decode_call, encode_call, retype


@dataclass
class Order:
    id: int
    tags: Any = None


def wire(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def text_of(data: str | None) -> str:
    assert data is not None
    return base64.b64decode(data).decode()


def sent(func: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments as `func` gets them after a trip over the wire."""
    return retype(decode_call(*encode_call("f", args, kwargs, 1)), describe(func))


def foreign(func: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments as `func` gets them from a worker in another language."""
    return retype(decode_call(wire({"func": "f", "args": args, "kwargs": kwargs}), None), describe(func))


def test_an_invocation_has_the_form_that_other_workers_read() -> None:
    data, headers = encode_call("charge", (1, "a"), {"k": None}, 2)

    assert text_of(data) == '{"args":[1,"a"],"kwargs":{"k":null},"func":"charge","version":2}'
    assert headers is None


def test_retry_is_written_only_if_there_is_one() -> None:
    retry = {"type": "never", "data": {}}
    data, headers = encode_call("f", (), {}, 1, retry)

    assert json.loads(text_of(data))["retry"] == retry
    assert decode_call(data, headers).retry == retry
    assert decode_call(wire({"func": "f", "retry": None}), None).retry is None


def test_types_of_arguments_come_back() -> None:
    args, kwargs = (1, (2,), Order(1, {2})), {"when": date(2024, 1, 1), "n": 1}
    data, headers = encode_call("f", args, kwargs, 3)
    call = decode_call(data, headers)

    assert call == Invocation("f", args, kwargs, 3, None, True)
    assert headers is not None
    assert list(headers) == ["resonate:py"]


@pytest.mark.parametrize(("args", "kwargs"), [(((1,),), {}), ((), {"k": {1}})])
def test_one_typed_argument_is_enough(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    call = decode_call(*encode_call("f", args, kwargs, 1))

    assert (call.args, call.kwargs) == (args, kwargs)


@pytest.mark.parametrize(
    ("args", "kwargs", "path", "what"),
    [
        ((1, {"conn": threading.Lock()}), {}, 'args[1]["conn"]', "args of charge"),
        ((), {"conn": [threading.Lock()]}, 'kwargs["conn"][0]', "kwargs of charge"),
    ],
)
def test_an_argument_that_cannot_be_stored_is_named_with_its_function(
    args: tuple[Any, ...], kwargs: dict[str, Any], path: str, what: str
) -> None:
    with pytest.raises(EncodeError) as caught:
        encode_call("charge", args, kwargs, 1)

    assert caught.value.path == path
    assert caught.value.type_name == "_thread.lock"
    assert what in str(caught.value)


def test_what_is_absent_takes_the_default() -> None:
    assert decode_call(wire({"func": "f"}), None) == Invocation("f", (), {})
    assert decode_call(wire({"func": "f", "args": None, "kwargs": None, "version": 2.0}), {}) == Invocation(
        "f", (), {}, 2
    )


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (None, "must be an object"),
        ("???", "not base64"),
        (wire([1]), "must be an object"),
        (wire({}), 'with a text "func"'),
        (wire({"func": 1}), 'with a text "func"'),
        (wire({"func": "f", "args": {"a": 1}}), '"args" must be an array, got dict'),
        (wire({"func": "f", "kwargs": [1]}), '"kwargs" must be an object, got list'),
        (wire({"func": "f", "version": "1"}), '"version" must be a number from 1'),
        (wire({"func": "f", "version": 0}), '"version" must be a number from 1'),
        (wire({"func": "f", "version": 1.5}), '"version" must be a number from 1'),
        (wire({"func": "f", "version": True}), '"version" must be a number from 1'),
    ],
)
def test_a_param_that_is_no_invocation_is_a_decode_error(data: str | None, text: str) -> None:
    with pytest.raises(DecodeError, match=text):
        decode_call(data, None)


def test_keyword_names_must_be_text() -> None:
    header = {"resonate:py": '["dict",{"kwargs":"dict int"}]'}

    with pytest.raises(DecodeError, match='"kwargs" must be an object'):
        decode_call(wire({"func": "f", "kwargs": {"1": 2}}), header)


def test_an_encoder_writes_the_whole_invocation() -> None:
    data, headers = encode_call("f", ((1,),), {"k": 2}, 3, encoder=JsonEncoder())
    call = decode_call(data, headers, JsonEncoder())

    assert json.loads(text_of(data)) == {"args": [[1]], "kwargs": {"k": 2}, "func": "f", "version": 3}
    assert headers is None
    assert call == Invocation("f", ([1],), {"k": 2}, 3, None, True)


# ---- annotations -------------------------------------------------------------------------------------------


def untyped(ctx, *args, **kwargs):  # type: ignore[no-untyped-def]
    pass


def typed(
    ctx: Any, order: Order, when: date, n: float, *more: date, key: Order | None = None, **rest: date
) -> None: ...


def native(ctx: Any, n: int, names: list[str], table: dict[int, str], any: Any = None) -> None: ...


def test_a_function_without_annotations_gets_what_was_recorded() -> None:
    call = decode_call(*encode_call("f", (1, (2,)), {"k": 3}, 1))

    args, kwargs = retype(call, describe(untyped))

    assert args is call.args
    assert kwargs is call.kwargs


def test_arguments_of_another_language_take_the_shape_of_the_annotations() -> None:
    args, kwargs = foreign(typed, {"id": 1}, "2024-01-01", 2, "2024-01-02", key={"id": 2}, other="2024-01-03")

    assert args == (Order(1), date(2024, 1, 1), 2.0, date(2024, 1, 2))
    assert type(args[2]) is float
    assert kwargs == {"key": Order(2), "other": date(2024, 1, 3)}


def test_keys_of_objects_take_the_shape_of_the_annotation() -> None:
    assert foreign(native, 1, ["a"], {"1": "b"})[0] == (1, ["a"], {1: "b"})


def test_own_arguments_come_back_as_they_were() -> None:
    order = Order(1, (1, {2}))

    assert sent(typed, order, date(2024, 1, 1), 1.5) == ((order, date(2024, 1, 1), 1.5), {})
    assert sent(native, 1, ["a"], {1: "b"}, {"x": (1,)}) == ((1, ["a"], {1: "b"}, {"x": (1,)}), {})


def test_a_keyword_argument_without_annotation_is_passed_as_it_is() -> None:
    assert foreign(native, 1, [], {}, any={"a": [1]}) == ((1, [], {}), {"any": {"a": [1]}})


def test_own_arguments_that_do_not_fit_a_hint_are_passed_as_python_would() -> None:
    assert sent(native, "x", ("a",), {"k": 1}) == (("x", ["a"], {"k": 1}), {})
    assert sent(typed, (1,), date(2024, 1, 1), 1.5) == (((1,), date(2024, 1, 1), 1.5), {})


def test_a_wrong_hint_for_a_json_type_lets_arguments_of_others_pass() -> None:
    assert foreign(native, "x", 5, {"a": "b"}) == (("x", 5, {"a": "b"}), {})


@pytest.mark.parametrize(
    ("args", "kwargs", "name"),
    [
        (({"no": 1}, "2024-01-01", 1), {}, "order"),
        (({"id": 1}, "soon", 1), {}, "when"),
        (({"id": 1}, "2024-01-01", 1, "soon"), {}, "more"),
        (({"id": 1}, "2024-01-01", 1), {"key": 5}, "key"),
    ],
)
def test_an_argument_of_another_language_that_does_not_fit_a_class_is_named(
    args: tuple[Any, ...], kwargs: dict[str, Any], name: str
) -> None:
    with pytest.raises(DecodeError, match=f"argument {name} of f does not fit"):
        foreign(typed, *args, **kwargs)


def test_more_arguments_than_parameters_are_left_to_binding() -> None:
    def one(ctx: Any, a: int) -> None: ...

    assert sent(one, 1, 2, 3) == ((1, 2, 3), {})
