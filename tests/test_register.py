"""`register`: call and decorator forms, names and versions, and the `Function` it returns."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from resonate import Context, Handle, Resonate
from resonate.errors import FunctionNotFound
from resonate.resonate import Function
from tests.homes import named


@pytest.fixture
def client() -> Iterator[Resonate]:
    with Resonate() as client:
        yield client


def double(ctx: Context, x: int) -> int:
    """Twice as much."""
    return 2 * x


def other(ctx: Context, x: int) -> int:
    return 3 * x


def in_steps(ctx: Context, x: int) -> Generator[Any, Any, int]:
    result: int = yield ctx.run(double, x)
    return result


async def at_once(ctx: Context, x: int) -> int:
    result: int = await ctx.run(double, x)
    return result


class Doubler:
    def __call__(self, ctx: Context, x: int) -> int:
        return 2 * x

    def method(self, ctx: Context, x: int) -> int:
        return 2 * x


# ---- forms -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("func", [double, in_steps, at_once], ids=["plain", "generator", "async"])
def test_each_kind_of_function_can_be_registered_and_run(client: Resonate, func: Any) -> None:
    registered = client.register(func)

    assert registered.run("by-wrapper", 21) == 42
    assert client.run("by-function", func, 21) == 42
    assert client.run("by-registered", registered, 21) == 42
    assert client.run("by-name", func.__name__, 21) == 42


def test_register_is_a_decorator_without_parentheses(client: Resonate) -> None:
    @client.register
    def triple(ctx: Context, x: int) -> int:
        return 3 * x

    assert (type(triple), triple.name) == (Function, "triple")
    assert client.run("x", "triple", 2) == 6


def test_register_is_a_decorator_with_empty_parentheses(client: Resonate) -> None:
    @client.register()
    def triple(ctx: Context, x: int) -> int:
        return 3 * x

    assert (type(triple), triple.name) == (Function, "triple")
    assert client.run("x", "triple", 2) == 6


def test_register_is_a_decorator_with_name_and_version(client: Resonate) -> None:
    @client.register(name="times-three", version=7)
    def triple(ctx: Context, x: int) -> tuple[int, int]:
        return 3 * x, ctx.info.version

    assert triple.name == "times-three"
    assert client.run("x", "times-three", 2) == (6, 7)
    with pytest.raises(FunctionNotFound, match="function triple not found in registry"):
        client.run("y", "triple", 2)


def test_register_of_none_gives_a_decorator(client: Resonate) -> None:
    assert client.register(None, name="f")(double).name == "f"


def test_a_lambda_with_a_name_can_be_registered(client: Resonate) -> None:
    client.register(lambda ctx, x: x + 1, name="next")

    assert client.run("x", "next", 1) == 2


def test_an_empty_name_is_no_name(client: Resonate) -> None:
    assert client.register(double, name="").name == "double"


@pytest.mark.parametrize("name", ["a.b", "with space", "ü|ö,-", "x" * 300, "line\nbreak"])
def test_a_name_may_be_any_text(client: Resonate, name: str) -> None:
    client.register(in_steps, name=name)

    assert client.run("x", name, 21) == 42
    assert client.rpc("y", name, 21) == 42


def test_func_is_positional_only_so_that_a_keyword_is_refused(client: Resonate) -> None:
    with pytest.raises(TypeError, match="positional-only"):
        client.register(func=double)  # type: ignore[call-overload]


# ---- names and versions ---------------------------------------------------------------------------------


def test_the_newest_version_of_a_name_runs_unless_one_is_asked_for(client: Resonate) -> None:
    client.register(other, name="f", version=10)
    client.register(double, name="f", version=9)

    assert client.run("newest", "f", 1) == 3
    assert client.options(version=9).run("older", "f", 1) == 2
    assert client.options(version=0).run("zero", "f", 1) == 3


@pytest.mark.parametrize("method", ["run", "rpc"])
def test_a_version_asked_for_by_name_is_honoured_here_and_remotely(client: Resonate, method: str) -> None:
    client.register(double, name="f", version=1)
    client.register(other, name="f", version=2)

    assert getattr(client.options(version=1), method)("one", "f", 1) == 2
    assert getattr(client.options(version=2), method)("two", "f", 1) == 3


def test_a_function_object_runs_in_its_own_version(client: Resonate) -> None:
    first = client.register(double, name="f", version=1)
    client.register(other, name="f", version=2)

    assert client.run("object", double, 1) == 2
    assert first.run("wrapper", 1) == 2


@pytest.mark.parametrize("method", ["run", "begin_run", "rpc", "begin_rpc"])
def test_a_function_object_asked_for_in_another_version_is_refused(client: Resonate, method: str) -> None:
    client.register(double, version=1)

    with pytest.raises(ValueError, match="function double version 2 not found in registry"):
        getattr(client.options(version=2), method)("x", double, 1)


@pytest.mark.parametrize(
    ("name", "version"), [("double", 1), ("double", 2), ("twice", 1)], ids=["same", "version", "name"]
)
def test_one_function_cannot_be_registered_twice_under_whatever_name_and_version(
    client: Resonate, name: str, version: int
) -> None:
    registered = client.register(double)

    for again in (double, registered):
        with pytest.raises(ValueError, match=f"function {name} already registered"):
            client.register(again, name=name, version=version)


def test_one_name_and_version_cannot_stand_for_two_functions(client: Resonate) -> None:
    client.register(double, name="f")

    with pytest.raises(ValueError, match="function f already registered"):
        client.register(other, name="f")
    assert client.run("x", "f", 1) == 2
    assert client.register(other, name="g").run("y", 1) == 3


# ---- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "func",
    [Doubler, Doubler(), Doubler().method, functools.partial(double, x=1), len],
    ids=["class", "instance", "method", "partial", "builtin"],
)
def test_a_callable_that_is_no_function_is_a_value_error(client: Resonate, func: Any) -> None:
    with pytest.raises(ValueError, match="provided callable must be a function"):
        client.register(func)
    with pytest.raises(ValueError, match="provided callable must be a function"):
        client.register(name="f")(func)


@pytest.mark.parametrize("func", [1, "double", [double]], ids=named)
def test_what_cannot_be_called_is_a_type_error(client: Resonate, func: Any) -> None:
    with pytest.raises(TypeError, match="provided callable must be a function, got"):
        client.register(func)


def test_a_lambda_without_a_name_is_refused(client: Resonate) -> None:
    with pytest.raises(ValueError, match="name required when registering a lambda function"):
        client.register(lambda ctx: 1)


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"name": 1}, TypeError, "name must be `str"),
        ({"name": b"f"}, TypeError, "name must be `str"),
        ({"name": "a\0b"}, ValueError, "name .* holds a NUL or a lone surrogate"),
        ({"name": "\ud800"}, ValueError, "name .* holds a NUL or a lone surrogate"),
        ({"version": "1"}, TypeError, "version must be `int`, got str"),
        ({"version": 1.0}, TypeError, "version must be `int`, got float"),
        ({"version": True}, TypeError, "version must be `int`, got bool"),
        ({"version": None}, TypeError, "version must be `int`, got NoneType"),
        ({"version": 0}, ValueError, "must be greater than zero"),
        ({"version": -1}, ValueError, "must be greater than zero"),
    ],
    ids=ascii,
)
def test_a_wrong_name_or_version_is_refused_and_nothing_is_registered(
    client: Resonate, given: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        client.register(double, **given)
    with pytest.raises(error, match=text):
        client.register(**given)(double)

    assert client.register(double).name == "double"


def nothing() -> int:
    return 1


def keyword_only(*, ctx: Any) -> int:
    return 1


async def async_generator(ctx: Any) -> Any:
    yield 1


@pytest.mark.parametrize(
    ("func", "text"),
    [
        (nothing, r"nothing\(\).* takes no context, .*: write `def nothing\(ctx, ...\)`"),
        (keyword_only, r"keyword_only\(\*, ctx.* takes no context, .*: write `def keyword_only\(ctx, ...\)`"),
        (async_generator, "async_generator is an async generator function, .* write `async def` with `await`"),
    ],
)
def test_a_function_that_could_never_run_is_refused(client: Resonate, func: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        client.register(func)

    with pytest.raises(ValueError, match=r"function .* not found in registry"):
        client.begin_run("x", func)


# ---- when ----------------------------------------------------------------------------------------------------


def test_a_call_by_name_waits_for_a_function_that_is_registered_later(client: Resonate) -> None:
    handle = client.begin_rpc("x", "double", 21)

    client.register(double)

    assert handle.result(timeout=10) == 42


def test_functions_can_be_registered_before_the_start_and_while_running() -> None:
    client = Resonate()
    client.register(double)
    client.start()
    client.register(other)

    assert (client.run("x", double, 1), client.run("y", other, 1)) == (2, 3)
    client.stop()


def test_registering_on_a_stopped_client_harms_nobody() -> None:
    client = Resonate()
    client.start()
    client.stop()

    assert client.register(double)(None, 2) == 4


# ---- Function ---------------------------------------------------------------------------------------------------


def test_a_registered_function_is_still_the_function(client: Resonate) -> None:
    registered = client.register(double, name="twice")

    assert (registered.name, registered.func) == ("twice", double)
    assert (registered.__doc__, registered.__module__) == ("Twice as much.", __name__)
    assert getattr(registered, "__name__", None) == "double"
    assert inspect.signature(registered) == inspect.signature(double)
    assert registered(None, 4) == 8


def test_a_registered_function_compares_and_hashes_like_the_function(client: Resonate) -> None:
    registered = client.register(double)
    elsewhere = Resonate().register(double)

    assert registered == double
    assert registered == elsewhere
    assert registered != other
    assert {registered: 1}[double] == 1  # type: ignore[index]


@pytest.mark.parametrize("method", ["begin_run", "begin_rpc"])
def test_begin_of_a_registered_function_gives_a_handle(client: Resonate, method: str) -> None:
    registered = client.register(in_steps)

    handle = getattr(registered, method)("x", 21)

    assert (type(handle), handle.id, handle.result(timeout=10)) == (Handle, "x", 42)


@pytest.mark.parametrize("method", ["run", "rpc", "begin_run", "begin_rpc"])
def test_a_registered_function_takes_id_and_arguments_by_keyword(client: Resonate, method: str) -> None:
    registered = client.register(double)

    result = getattr(registered, method)(id="x", x=21)

    assert (result.result(timeout=10) if method.startswith("begin") else result) == 42


def test_a_registered_function_can_be_a_step_and_a_remote_call(client: Resonate) -> None:
    registered = client.register(double)

    @client.register
    def both(ctx: Context, x: int) -> Generator[Any, Any, tuple[int, int]]:
        here = yield ctx.run(registered, x)
        there = yield ctx.rpc(registered, x)
        return here, there

    assert both.run("x", 1) == (2, 2)
