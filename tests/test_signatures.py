"""Signatures: kinds, binding behind the context, annotations, and that nothing is kept alive."""

from __future__ import annotations

import functools
import gc
import typing
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resonate import signatures
from resonate.signatures import check_function, describe


class Money:
    pass


def plain(ctx: Any, a: int, b: str = "x") -> Money:
    return Money()


def generator(ctx: Any, a: int) -> Generator[Any, Any, dict[str, Money]]:
    yield
    return {}


async def coroutine(ctx: Any, a: int) -> Money:
    return Money()


def nothing(ctx):  # type: ignore[no-untyped-def]
    pass


def test_the_kind_is_read_from_the_code() -> None:
    assert describe(plain).kind == "plain"
    assert describe(generator).kind == "generator"
    assert describe(coroutine).kind == "async"
    assert describe(lambda ctx: (yield)).kind == "generator"


def test_an_async_generator_is_called_like_a_plain_function() -> None:
    async def stream(ctx: Any) -> AsyncIterator[int]:
        yield 1

    assert describe(stream).kind == "plain"


def test_the_result_of_a_generator_is_the_third_part_of_its_annotation() -> None:
    assert describe(plain).returns is Money
    assert describe(generator).returns == dict[str, Money]
    assert describe(coroutine).returns is Money
    assert describe(nothing).returns is Any


def test_a_generator_with_another_annotation_says_nothing_about_its_result() -> None:
    def wrong(ctx: Any) -> int:  # type: ignore[misc]
        yield

    def bare(ctx: Any) -> Generator:  # type: ignore[type-arg]
        yield

    assert describe(wrong).returns is Any
    assert describe(bare).returns is Any


def test_the_annotation_none_is_the_type_of_none() -> None:
    def f(ctx: Any) -> None: ...

    assert describe(f).returns is type(None)


def test_annotations_that_are_objects_are_taken_as_they_are() -> None:
    def f(ctx, a, b):  # type: ignore[no-untyped-def]
        pass

    f.__annotations__ = {"a": int, "b": None, "return": list["Money"]}
    f.__module__ = __name__

    assert describe(f).annotation("a") is int
    assert describe(f).annotation("b") is type(None)
    assert describe(f).returns == list[Money]


def test_an_annotation_that_cannot_be_resolved_is_any_and_spoils_no_other() -> None:
    def f(ctx: Any, a: int, b: int) -> int:
        return a

    f.__annotations__ = {"a": "Missing", "b": "int", "return": "1 + ''"}

    assert describe(f).annotation("a") is Any
    assert describe(f).annotation("b") is int
    assert describe(f).returns is Any


def test_a_class_of_the_enclosing_function_is_found_if_the_function_uses_it() -> None:
    class Local:
        pass

    def f(ctx: Any, a: Local) -> Local:
        return Local()

    assert describe(f).annotation("a") is Local
    assert describe(f).returns is Local


def test_a_name_of_the_enclosing_function_that_is_not_bound_yet_does_no_harm() -> None:
    def f(ctx: Any, a: int) -> int:
        return a if later else 0

    assert describe(f).annotation("a") is int
    later = True
    assert f(None, 1) == later


def test_annotations_are_found_by_position_and_by_name() -> None:
    def f(ctx: Any, a: int, *rest: str, key: bytes, **more: float) -> None: ...

    signature = describe(f)

    assert [signature.annotation(at) for at in (0, 1, 2)] == [int, str, str]
    assert (signature.annotation("key"), signature.annotation("other")) == (bytes, float)
    assert (signature.parameter(0), signature.parameter(5), signature.parameter("other")) == ("a", "rest", "more")
    assert signature.positional(3) == (int, str, str)
    assert signature.positional(0) == (int,)


def test_a_position_or_name_that_no_parameter_takes_says_nothing() -> None:
    assert describe(plain).annotation(7) is Any
    assert describe(plain).annotation("zzz") is Any


def test_only_parameters_behind_the_context_count_as_annotated() -> None:
    def context_only(ctx: Any) -> int:
        return 1

    def keyword(*args: Any, key: int) -> None: ...

    assert describe(plain).annotated
    assert not describe(context_only).annotated
    assert not describe(nothing).annotated
    assert describe(keyword).annotated


@pytest.mark.parametrize(
    ("args", "kwargs"), [((1,), {}), ((1, "b"), {}), ((), {"a": 1}), ((1,), {"b": "y"}), ((), {"b": "y", "a": 1})]
)
def test_arguments_that_fit_pass(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    describe(plain).bind(args, kwargs)


@pytest.mark.parametrize(
    ("args", "kwargs", "problem"),
    [
        ((), {}, "missing 'a'"),
        ((1, 2, 3), {}, "takes at most 2 positional arguments behind the context, got 3"),
        ((1,), {"a": 2}, "got multiple values for argument 'a'"),
        ((1,), {"c": 2}, "got an unexpected keyword argument 'c'"),
        ((1,), {"ctx": 2}, "got multiple values for argument 'ctx'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_with_the_signature(
    args: tuple[Any, ...], kwargs: dict[str, Any], problem: str
) -> None:
    with pytest.raises(TypeError) as caught:
        describe(plain).bind(args, kwargs)

    assert str(caught.value).startswith("plain(ctx: ")
    assert str(caught.value).endswith(problem)


def test_keyword_only_and_positional_only_parameters_are_minded() -> None:
    def f(ctx: Any, a: int, /, *, key: int, other: int = 0) -> None: ...

    def g(ctx: Any, a: int, /, **more: int) -> None: ...

    describe(f).bind((1,), {"key": 2})
    describe(g).bind((1,), {"a": 2})
    with pytest.raises(TypeError, match="missing 'key'"):
        describe(f).bind((1,), {})
    with pytest.raises(TypeError, match="unexpected keyword argument 'a'"):
        describe(f).bind((), {"a": 1, "key": 2})
    with pytest.raises(TypeError, match="missing 'a'"):
        describe(g).bind((), {"a": 2})


def test_a_function_that_takes_anything_takes_anything() -> None:
    def f(*args: Any, **kwargs: Any) -> None: ...

    describe(f).bind((), {})
    describe(f).bind((1, 2, 3), {"x": 1})


def test_a_function_without_room_for_the_context_is_refused_at_the_call() -> None:
    def f() -> None: ...

    with pytest.raises(TypeError, match="takes its context as the first positional argument"):
        describe(f).bind((), {})


SHAPES: list[Callable[..., Any]] = [
    lambda c: 0,
    lambda c, a: 0,
    lambda c, a, b=1: 0,
    lambda c, a, /, b: 0,
    lambda c, *a: 0,
    lambda c, a, *r, k: 0,
    lambda c, *, k, o=1: 0,
    lambda c, a=1, /, **m: 0,
    lambda *a, **m: 0,
]


@given(
    st.sampled_from(SHAPES),
    st.integers(0, 4),
    st.dictionaries(st.sampled_from(["a", "b", "c", "k", "o", "z"]), st.integers(), max_size=3),
)
def test_binding_agrees_with_python_itself(func: Callable[..., Any], count: int, kwargs: dict[str, Any]) -> None:
    try:
        func(None, *range(count), **kwargs)
        expected = True
    except TypeError:
        expected = False

    try:
        describe(func).bind(tuple(range(count)), kwargs)
        bound = True
    except TypeError:
        bound = False

    assert bound == expected


def test_a_function_is_read_once_and_forgotten_with_it() -> None:
    gc.collect()
    before = len(signatures._KNOWN)

    def f(ctx: Any) -> None: ...

    assert describe(f) is describe(f)
    assert len(signatures._KNOWN) == before + 1

    del f
    gc.collect()

    assert len(signatures._KNOWN) <= before


def test_what_was_known_of_another_function_at_the_same_address_is_not_believed() -> None:
    def f(ctx: Any) -> None: ...

    signatures._KNOWN[id(f)] = describe(plain)

    assert describe(f).name == "f"


def test_the_signature_of_a_function_that_is_gone_still_explains_itself() -> None:
    def f(ctx: Any, a: int) -> int:
        return a

    signature = describe(f)
    del f
    gc.collect()

    assert signature.returns is Any
    with pytest.raises(TypeError, match=r"f\(\.\.\.\): missing 'a'"):
        signature.bind((), {})


def test_an_attribute_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        describe(plain).nothing


class Callable_:  # noqa: N801 - a callable object
    def __call__(self) -> None: ...

    def method(self) -> None: ...


@pytest.mark.parametrize("func", [Money, Callable_(), Callable_().method, functools.partial(plain), len])
def test_only_python_functions_are_functions(func: Any) -> None:
    with pytest.raises(ValueError, match="provided callable must be a function"):
        check_function(func)


@pytest.mark.parametrize("func", [None, 1, "plain"])
def test_what_cannot_be_called_is_a_type_error(func: Any) -> None:
    with pytest.raises(TypeError, match="provided callable must be a function"):
        check_function(func)


def test_a_function_and_our_wrapper_of_one_are_functions() -> None:
    class Wrapper:
        func = staticmethod(plain)

        def begin_rpc(self) -> None: ...

    assert check_function(plain) is plain
    assert check_function(Wrapper()) is plain


def test_a_signature_that_inspect_cannot_print_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def f(ctx: Any, a: int) -> None: ...

    f.__signature__ = "none"  # type: ignore[attr-defined]

    with pytest.raises(TypeError, match=r"f\(\.\.\.\): missing 'a'"):
        describe(f).bind((), {})


def test_generic_annotations_are_resolved_with_their_metadata() -> None:
    def f(ctx: Any, a: typing.Annotated[int, "positive"]) -> None: ...

    assert describe(f).annotation(0) == typing.Annotated[int, "positive"]
