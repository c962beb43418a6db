"""Retries as programs see them: how often, how long between, what is recorded and what is not tried again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from resonate.errors import EncodeError
from resonate.retry_policies import Constant, Exponential, Linear, Never
from resonate.testing import World, WorldClient
from tests.homes import Home

pytestmark = pytest.mark.usefixtures("place")

Program = Callable[..., Any]


class Flaky:
    """Functions that fail a number of times, and when they were tried."""

    def __init__(self, world: World, failures: int, error: type[Exception] = ConnectionError) -> None:
        self.world, self.failures, self.error = world, failures, error
        self.at: list[int] = []

    def attempt(self, ctx: Any) -> str:
        self.at.append(self.world.clock.now())
        assert ctx.info.attempt == len(self.at)
        if len(self.at) <= self.failures:
            raise self.error(f"attempt {ctx.info.attempt}")
        return f"attempt {ctx.info.attempt}"

    def function(self, kind: str) -> Program:
        def plain(ctx: Any) -> str:
            return self.attempt(ctx)

        def generator(ctx: Any) -> Any:
            yield ctx.sleep(0)
            return self.attempt(ctx)

        async def function(ctx: Any) -> str:
            return self.attempt(ctx)

        return {"plain": plain, "generator": generator, "async": function}[kind]

    @property
    def waits(self) -> list[float]:
        return [(b - a) / 1000 for a, b in pairwise(self.at)]


def run_as(client: WorldClient, where: str, func: Program, **options: Any) -> Any:
    """Run `func` as a root or as a child, with options."""

    def program(ctx: Any) -> Any:
        return (yield ctx.run(func).options(**options))

    async def aprogram(ctx: Any) -> Any:
        return await ctx.run(func).options(**options)

    if where == "root":
        client.register(func)
        return client.options(**options).run("p", func)
    chosen = program if where == "child" else aprogram
    client.register(chosen)
    return client.run("p", chosen)


everywhere = pytest.mark.parametrize("where", ["root", "child", "async"])


@everywhere
@pytest.mark.parametrize("kind", ["plain", "generator", "async"])
@pytest.mark.parametrize(
    ("policy", "waits"),
    [
        (Constant(delay=3), [3, 3, 3, 3]),
        (Linear(delay=3), [3, 6, 9, 12]),
        (Exponential(delay=1, factor=2, max_delay=9), [2, 4, 8, 9]),
        (Constant(delay=90), [90, 90, 90, 90]),
        (Constant(delay=0), [0, 0, 0, 0]),
    ],
    ids=["constant", "linear", "exponential", "durable", "at once"],
)
def test_the_policy_says_how_long_to_wait(
    resonate: WorldClient, world: World, where: str, kind: str, policy: Any, waits: list[float]
) -> None:
    flaky = Flaky(world, 4)

    assert run_as(resonate, where, flaky.function(kind), retry_policy=policy) == "attempt 5"
    assert flaky.waits == pytest.approx(waits, abs=0.01)


@everywhere
@pytest.mark.parametrize("retries", [0, 1, 3])
def test_the_last_error_is_the_callers(resonate: WorldClient, world: World, where: str, retries: int) -> None:
    flaky = Flaky(world, 99)

    with pytest.raises(ConnectionError, match=f"attempt {retries + 1}"):
        run_as(resonate, where, flaky.function("plain"), retry_policy=Constant(delay=1, max_retries=retries))
    assert len(flaky.at) == retries + 1


@everywhere
@pytest.mark.parametrize(("kind", "tries"), [("plain", 4), ("async", 4), ("generator", 1)])
def test_by_default_plain_functions_and_async_leaves_are_retried_and_generators_are_not(
    resonate: WorldClient, world: World, where: str, kind: str, tries: int
) -> None:
    flaky = Flaky(world, 3)

    if tries == 1:
        with pytest.raises(ConnectionError):
            run_as(resonate, where, flaky.function(kind))
    else:
        assert run_as(resonate, where, flaky.function(kind)) == "attempt 4"
        assert flaky.waits == pytest.approx([2, 4, 8], abs=0.01)
    assert len(flaky.at) == tries


@pytest.mark.parametrize("where", ["child", "async"])
@pytest.mark.parametrize(
    ("final", "tries"),
    [((ConnectionError,), 1), (OSError, 1), ([OSError, KeyError], 1), ((KeyError,), 3), ((ConnectionResetError,), 3)],
    ids=str,
)
def test_errors_named_as_final_and_their_subclasses_are_not_retried(
    resonate: WorldClient, world: World, where: str, final: Any, tries: int
) -> None:
    flaky = Flaky(world, 99)
    options = {"retry_policy": Constant(delay=1, max_retries=2), "non_retryable_exceptions": final}

    with pytest.raises(ConnectionError):
        run_as(resonate, where, flaky.function("plain"), **options)
    assert len(flaky.at) == tries


class Twice:
    """A policy of one's own: anything with `next`."""

    def next(self, attempt: int) -> float | None:
        return 7.0 if attempt <= 2 else None


@everywhere
@pytest.mark.parametrize("policy", [Twice(), lambda func: Twice()], ids=["object", "function"])
def test_a_policy_may_be_ones_own(resonate: WorldClient, world: World, where: str, policy: Any) -> None:
    flaky = Flaky(world, 2)

    assert run_as(resonate, where, flaky.function("plain"), retry_policy=policy) == "attempt 3"
    assert flaky.waits == pytest.approx([7, 7], abs=0.01)


@pytest.mark.parametrize("policy", [5, "never", Never, Constant], ids=str)
def test_something_else_is_no_policy(resonate: WorldClient, policy: Any) -> None:
    with pytest.raises(TypeError, match=r"retry_policy must be"):
        resonate.options(retry_policy=policy)


def test_a_function_that_gives_no_policy_fails_the_call(resonate: WorldClient, world: World) -> None:
    flaky = Flaky(world, 1)

    with pytest.raises(TypeError, match=r"retry_policy: the function gave str"):
        run_as(resonate, "child", flaky.function("plain"), retry_policy=lambda func: "never")


def test_each_retry_is_told_in_the_log(resonate: WorldClient, world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        run_as(resonate, "child", Flaky(world, 2).function("plain"), retry_policy=Constant(delay=3))

    told = [record.getMessage() for record in caplog.records if record.name == "resonate.function"]
    assert told == [
        "[p:1] attempt 1 of plain failed, trying again in 3 s: ConnectionError: attempt 1",
        "[p:1] attempt 2 of plain failed, trying again in 3 s: ConnectionError: attempt 2",
    ]


def test_a_retried_generator_keeps_its_finished_steps(resonate: WorldClient) -> None:
    ran: list[str] = []

    def step(ctx: Any) -> str:
        ran.append(ctx.id)
        return str(ctx.id)

    def program(ctx: Any) -> Any:
        first = yield ctx.run(step)
        second = yield ctx.rpc("step")
        yield ctx.sleep(5)
        if ctx.info.attempt < 3:
            raise ConnectionError
        return [first, second, (yield ctx.run(step))]

    resonate.register(step)
    resonate.register(program)

    assert resonate.options(retry_policy=Constant(delay=1)).run("p", program) == ["p:1", "p:2", "p:4"]
    assert ran == ["p:1", "p:2", "p:4"]


def test_a_step_that_failed_for_good_fails_again_in_the_next_attempt_without_running(resonate: WorldClient) -> None:
    ran: list[str] = []

    def fails(ctx: Any) -> None:
        ran.append("fails")
        raise KeyError("k")

    def program(ctx: Any) -> Any:
        yield ctx.run(fails).options(retry_policy=Never())

    resonate.register(program)
    with pytest.raises(KeyError):
        resonate.options(retry_policy=Constant(delay=1, max_retries=3)).run("p", program)

    assert ran == ["fails"]


def test_errors_of_usage_are_not_retried(resonate: WorldClient) -> None:
    ran: list[str] = []

    def unstorable(ctx: Any) -> object:
        ran.append("unstorable")
        return object()

    def wrong(ctx: Any) -> None:
        ran.append("wrong")
        ctx.run(unstorable)

    def program(ctx: Any) -> Any:
        for func in (unstorable, wrong):
            with pytest.raises((EncodeError, Exception)):
                yield ctx.run(func)
        return "went on"

    resonate.register(program)

    assert resonate.run("p", program) == "went on"
    assert ran == ["unstorable", "wrong"]


def test_a_type_error_inside_a_step_is_retried_like_any_other(resonate: WorldClient, world: World) -> None:
    flaky = Flaky(world, 2, TypeError)

    assert run_as(resonate, "child", flaky.function("plain")) == "attempt 3"


def test_other_steps_go_on_while_one_waits(resonate: WorldClient, world: World) -> None:
    flaky = Flaky(world, 1)

    def program(ctx: Any) -> Any:
        waiting = yield ctx.begin_run(flaky.function("plain")).options(retry_policy=Constant(delay=10))
        before = world.clock.now()
        yield ctx.sleep(1)
        between = world.clock.now() - before
        return [between, (yield waiting), world.clock.now() - before]

    resonate.register(program)
    between, value, after = resonate.run("p", program)

    assert (between, value) == (1000, "attempt 2")
    assert after == pytest.approx(10_000, abs=10)


def test_a_policy_that_raises_fails_the_call(resonate: WorldClient, world: World) -> None:
    class Broken:
        def next(self, attempt: int) -> float | None:
            raise ZeroDivisionError("of the policy")

    def program(ctx: Any) -> Any:
        try:
            yield ctx.run(Flaky(world, 1).function("plain")).options(retry_policy=Broken())
        except Exception as error:
            return type(error).__name__

    resonate.register(program)

    assert resonate.options(timeout=60).run("p", program) == "ZeroDivisionError"


@pytest.mark.parametrize(
    ("delay", "error"),
    [(-1.0, "UnfitValue"), (float("nan"), "UnfitValue"), ("soon", "UnfitArguments"), (True, "UnfitArguments")],
)
def test_a_policy_that_gives_no_number_of_seconds_fails_the_call(
    resonate: WorldClient, world: World, delay: Any, error: str
) -> None:
    class Odd:
        def next(self, attempt: int) -> Any:
            return delay if attempt < 3 else None

    def program(ctx: Any) -> Any:
        try:
            return (yield ctx.run(Flaky(world, 9).function("plain")).options(retry_policy=Odd()))
        except Exception as error:
            return type(error).__name__

    resonate.register(program)

    assert resonate.options(timeout=60).run("p", program) == error


class OnlyHere:
    """A policy of the user's own, which no record can hold."""

    def next(self, attempt: int) -> float | None:
        return 0.0 if attempt <= 2 else None


@pytest.mark.parametrize("evict", [False, True], ids=["warm", "evicted"])
def test_a_policy_that_no_record_can_hold_counts_as_long_as_its_process_waits(evict: bool) -> None:
    attempts: list[int] = []

    def program(ctx: Any) -> Any:
        yield (yield ctx.promise(id="answer"))
        attempts.append(ctx.info.attempt)
        if len(attempts) < 3:
            raise ConnectionError
        return "done"

    with Home("threads", evict=evict) as home:
        home.client.register(program)
        handle = home.client.options(retry_policy=OnlyHere()).begin_run("p", program)
        home.suspended("p")
        home.resolve("answer")

        assert handle.result(timeout=20) == "done"
        assert attempts == [1, 2, 3]
