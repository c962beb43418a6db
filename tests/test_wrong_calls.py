"""Calls that cannot be made as they are written, and ends that are no result: told at once, never retried."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

import pytest

from resonate import Resonate
from resonate.errors import ForgottenCommand, UsageError
from resonate.retry_policies import Constant

Program = Callable[..., Any]


def step(ctx: Any, n: int = 1) -> int:
    return n


def run(client: Resonate, func: Program, id: str = "p") -> Any:
    client.register(func)
    return client.run(id, func)


class Tool:
    def method(self, ctx: Any) -> None:
        """A bound method is no function."""


WRONG_CALLS: dict[str, tuple[Callable[[Any], Any], type[Exception]]] = {
    "too many arguments": (lambda ctx: ctx.run(step, 1, 2, 3), TypeError),
    "too many for a remote call": (lambda ctx: ctx.rpc("step", 1, 2, 3), TypeError),
    "a wrong limit": (lambda ctx: ctx.map(step, [1], limit="a"), TypeError),
    "a sleep of text": (lambda ctx: ctx.sleep("a"), TypeError),
    "an endless sleep": (lambda ctx: ctx.sleep(10**400), ValueError),
    "a method": (lambda ctx: ctx.run(Tool().method), ValueError),
    "a class": (lambda ctx: ctx.run(Tool), ValueError),
    "a builtin": (lambda ctx: ctx.run(print), ValueError),
    "a number": (lambda ctx: ctx.run(1), TypeError),
    "a wrong option": (lambda ctx: ctx.run(step).options(timeout="a"), TypeError),
    "an unknown option": (lambda ctx: ctx.run(step).options(colour="red"), TypeError),
    "a tag that cannot be stored": (lambda ctx: ctx.rpc("step").options(tags={"a": "\ud800"}), ValueError),
    "a key that cannot be stored": (lambda ctx: ctx.rpc("step").options(idempotency_key="\ud800"), ValueError),
    "a key made that cannot": (lambda ctx: ctx.rpc("step").options(idempotency_key=lambda id: "\ud800"), ValueError),
    "a dependency": (lambda ctx: ctx.get_dependency(1), TypeError),
}


@pytest.mark.parametrize("name", WRONG_CALLS)
def test_a_call_that_cannot_be_made_fails_its_function_at_once(r: Resonate, name: str) -> None:
    call, error = WRONG_CALLS[name]
    attempts: list[int] = []

    async def program(ctx: Any) -> Any:
        attempts.append(ctx.info.attempt)
        return await call(ctx)

    r.register(step)
    r.register(program)
    with pytest.raises(error):
        r.options(retry_policy=Constant(delay=0, max_retries=3)).run("p", program)
    assert attempts == [1]


@pytest.mark.parametrize("kind", ["generator", "async"])
def test_a_promise_that_is_returned_did_run_and_its_value_is_what_to_return(r: Resonate, kind: str) -> None:
    ran: list[int] = []

    def noting(ctx: Any) -> None:
        ran.append(1)

    def generator(ctx: Any) -> Any:
        promise = yield ctx.begin_run(noting)
        return promise

    async def function(ctx: Any) -> Any:
        return ctx.run(noting)

    with pytest.raises(ForgottenCommand, match=r"was begun, but never .* Write `return \(yield p\)`"):
        run(r, generator if kind == "generator" else function)
    assert ran == [1]


def test_a_client_in_the_place_of_a_function_is_told_so(r: Resonate) -> None:
    with pytest.raises(TypeError, match=r"func must be `Callable \| str`, got Resonate"):
        r.run("p", cast(Any, r))
    with pytest.raises(TypeError, match="provided callable must be a function, got Resonate"):
        r.register(cast(Any, r))


def test_a_wrapper_that_runs_nothing_is_told_what_to_be(r: Resonate) -> None:
    def wrapped(func: Program) -> Program:
        @functools.wraps(func)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return func(*args, **kwargs)

        return wrapper

    def generator(ctx: Any) -> Any:
        yield ctx.run(step)

    async def function(ctx: Any) -> Any:
        await ctx.run(step)

    with pytest.raises(UsageError, match=r"generator returned a generator .*return \(yield from f\(...\)\)"):
        run(r, wrapped(generator), id="p")
    with pytest.raises(UsageError, match=r"function returned a coroutine .*return await f\(...\)"):
        run(r, wrapped(function), id="q")  # and Python does not warn of it, which would be an error here
