"""Commands and promises as values: what they are, and what is refused."""

from __future__ import annotations

import pytest

from resonate.context import Context
from resonate.errors import UsageError
from resonate.execution.commands import RFC, Promise
from resonate.execution.coroutine import Raised, Returned, advance
from tests.execution.driver import Coro, Gen, Machine, creation


def double(ctx: Context, n: int) -> int:
    return 2 * n


def test_a_promise_equals_any_promise_of_its_id() -> None:
    assert Promise("a") == Promise("a")
    assert Promise("a") != Promise("b")
    assert Promise("a") != "a"
    assert len({Promise("a"), Promise("a"), Promise("b")}) == 2


def test_a_promise_is_frozen_and_shows_its_id() -> None:
    promise = Promise[int]("a")

    with pytest.raises(AttributeError, match="id of 'a' cannot be set"):
        promise.id = "b"
    assert (promise.id, promise.cid, repr(promise)) == ("a", "a", "Promise('a')")


def test_awaiting_outside_of_a_durable_function_says_what_to_write_instead() -> None:
    async def outside() -> Coro:
        return await Promise("a")

    with pytest.raises(UsageError, match="write `yield` instead of `await`"):
        outside().send(None)


def test_a_generator_that_awaits_is_told_to_yield() -> None:
    async def helper(ctx: Context) -> Coro:
        return await ctx.run(double, 1)

    def root(ctx: Context) -> Gen:
        with pytest.raises(UsageError, match="write `yield`"):
            helper(ctx).send(None)
        yield from ()
        return "told"

    assert Machine().run(root) == "told"


def test_the_version_of_a_remote_call_may_be_chosen_behind_it() -> None:
    def root(ctx: Context) -> Gen:
        yield ctx.begin_rpc("f", 1).options(version=3)
        yield ctx.begin_rpc("f", 1).options(version=0)
        yield ctx.begin_rpc("f", 1).options(target="blue")

    run = Machine().start(root)
    run.advance()
    run.suspend()

    first, second, third = (creation(run.sent, f"root:{n}") for n in (1, 2, 3))
    assert "|3|" in first.tags["resonate:py:call"].replace("rpc|3", "rpc||3")
    assert first.param != second.param
    assert second.param == third.param
    assert third.tags["resonate:target"] == "poll://any@blue"


def test_a_full_address_is_kept_as_it_is() -> None:
    def root(ctx: Context) -> Gen:
        command = ctx.rpc("f").options(target="http://host/path")
        assert isinstance(command, RFC)
        yield from ()
        return command.target

    assert Machine().run(root) == "http://host/path"


@pytest.mark.parametrize("option", ["target", "version"])
def test_an_option_that_a_kind_of_call_does_not_have_is_refused(option: str) -> None:
    def root(ctx: Context) -> Gen:
        yield ctx.run(double, 1).options(**{option: 1})

    with pytest.raises(TypeError, match=option):
        Machine().run(root)


def test_an_error_that_is_thrown_again_does_not_grow_its_traceback() -> None:
    def catching() -> Gen:
        for _ in range(2):
            try:
                yield
            except ValueError as error:
                yield error.__traceback__

    error = ValueError("again")
    generator = catching()
    advance(generator, Returned(None))
    depths = []
    for _ in range(2):
        trace, _end = advance(generator, Raised(error))
        depth = 0
        while trace is not None:
            trace, depth = trace.tb_next, depth + 1
        depths.append(depth)
        advance(generator, Returned(None))

    assert depths[0] == depths[1]
