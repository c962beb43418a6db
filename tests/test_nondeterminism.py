"""Code that no longer does what is recorded is stopped, with both sides, file and line; nothing else is believed."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest

from resonate import Handle, Resonate
from resonate.errors import ExecutionHalted, NonDeterminismError, ResonateStoreError, UsageError
from resonate.testing import World
from tests import places
from tests.homes import Home

pytestmark = pytest.mark.usefixtures("place")

Program = Callable[..., Any]

FILE = r"test_nondeterminism\.py:\d+"


def one(ctx: Any, x: int = 1) -> int:
    return x


def other(ctx: Any, x: int = 1) -> int:
    return -x


def takes(ctx: Any, x: object) -> None: ...


def child(ctx: Any, x: int = 1) -> Any:
    yield ctx.sleep(0)
    return x


async def achild(ctx: Any, x: int = 1) -> int:
    return x


def run_then_change(before: Program, after: Program, kind: str = "generator") -> Any:
    """The result of a function that makes the call `before`, and on replay the call `after`."""
    runs: list[int] = []

    def generator(ctx: Any) -> Any:
        runs.append(1)
        command = (before if len(runs) == 1 else after)(ctx)
        if command is not None:
            yield command
        yield (yield ctx.promise(id="answer"))
        return "went on"

    async def function(ctx: Any) -> Any:
        runs.append(1)
        command = (before if len(runs) == 1 else after)(ctx)
        if command is not None:
            await command
        await ctx.promise(id="answer")
        return "went on"

    with Home("threads", evict=True) as home:
        for func in (one, other, child):
            home.client.register(func)
        handle = home.start("p", generator if kind == "generator" else function)
        home.suspended("p", awaiting="answer")
        home.resolve("answer")
        return handle.result(20)


@pytest.mark.parametrize("kind", ["generator", "async"])
@pytest.mark.parametrize(
    ("before", "after", "recorded", "asked"),
    [
        (lambda ctx: ctx.run(one), lambda ctx: ctx.run(other), "plain one", "plain other"),
        (lambda ctx: ctx.run(one), lambda ctx: ctx.run(child), "plain one", "generator child"),
        (lambda ctx: ctx.run(child), lambda ctx: ctx.run(achild), "generator child", "async achild"),
        (lambda ctx: ctx.run(one, 1), lambda ctx: ctx.run(one, 2), "plain one with arguments", "plain one with arg"),
        (lambda ctx: ctx.run(one), lambda ctx: ctx.rpc(one), "plain one", "rpc one"),
        (lambda ctx: ctx.run(one), lambda ctx: ctx.sleep(1), "plain one", "sleep 1s"),
        (lambda ctx: ctx.sleep(0.001), lambda ctx: ctx.sleep(2), "sleep 0.001s", "sleep 2s"),
        (lambda ctx: ctx.rpc("one", 1), lambda ctx: ctx.rpc("other", 1), "rpc one", "rpc other"),
        (lambda ctx: ctx.rpc("one", 1), lambda ctx: ctx.rpc("one", 2), "rpc one with", "rpc one with"),
        (lambda ctx: ctx.detached("one"), lambda ctx: ctx.rpc("one"), "detached one", "rpc one"),
        (lambda ctx: ctx.all([ctx.run(one)]), lambda ctx: ctx.race([ctx.run(one)]), "all all", "race race"),
        (lambda ctx: ctx.map(one, [1]), lambda ctx: ctx.map(one, [2]), "map one", "map one"),
        (lambda ctx: ctx.random.random(), lambda ctx: ctx.time.time(), "random.random", "time.time"),
        (lambda ctx: ctx.random.randint(1, 2), lambda ctx: ctx.random.randint(1, 3), "randint", "randint"),
    ],
)
def test_a_call_that_changed_is_found_with_both_sides(
    kind: str, before: Program, after: Program, recorded: str, asked: str
) -> None:
    with pytest.raises(NonDeterminismError) as caught:
        run_then_change(before, after, kind)

    assert caught.value.id.startswith("p:") or caught.value.id == "answer"
    assert recorded in caught.value.recorded
    assert asked in caught.value.asked
    for side in (caught.value.recorded, caught.value.asked):
        assert re.search(FILE, side), side


@pytest.mark.parametrize("kind", ["generator", "async"])
@pytest.mark.parametrize("before", [lambda ctx: ctx.sleep(0.001), lambda ctx: ctx.rpc("one", 1)], ids=["sleep", "rpc"])
def test_a_step_in_the_place_of_a_call_that_left_the_process_is_found(kind: str, before: Program) -> None:
    with pytest.raises(NonDeterminismError, match=r"(?s)recorded: (sleep 0.001s|rpc one).*asked: .*plain one"):
        run_then_change(before, lambda ctx: ctx.run(one), kind)


@pytest.mark.parametrize("kind", ["generator", "async"])
def test_a_step_that_is_left_out_is_found_at_the_end_at_the_latest(kind: str) -> None:
    with pytest.raises(NonDeterminismError, match=r"calls recorded under it"):
        run_then_change(lambda ctx: ctx.run(one), lambda ctx: None, kind)


@pytest.mark.parametrize("kind", ["generator", "async"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (lambda ctx: ctx.run(one, 1).options(check_args=False), lambda ctx: ctx.run(one, 2).options(check_args=False)),
        (lambda ctx: ctx.run(takes, object()), lambda ctx: ctx.run(takes, object())),
        (lambda ctx: ctx.run(one, {"a": 1, "b": 2}), lambda ctx: ctx.run(one, {"b": 2, "a": 1})),
        (lambda ctx: ctx.run(one, {1, 2, 30}), lambda ctx: ctx.run(one, {30, 2, 1})),
        (
            lambda ctx: ctx.run(one, 1),
            lambda ctx: ctx.run(one, 1),
        ),
        (lambda ctx: ctx.run(one).options(durable=False), lambda ctx: ctx.run(one, 5).options(durable=False)),
    ],
    ids=["unchecked", "unstorable", "dict", "set", "line", "not durable"],
)
def test_what_says_the_same_agrees(kind: str, before: Program, after: Program) -> None:
    assert run_then_change(before, after, kind) == "went on"


def test_the_lines_shown_are_those_of_the_calls() -> None:
    def before(ctx: Any) -> Any:
        return ctx.run(one)

    def after(ctx: Any) -> Any:
        return ctx.run(other)

    with pytest.raises(NonDeterminismError) as caught:
        run_then_change(before, after)

    assert caught.value.recorded.endswith(f"test_nondeterminism.py:{before.__code__.co_firstlineno + 1}")
    assert caught.value.asked.endswith(f"test_nondeterminism.py:{after.__code__.co_firstlineno + 1}")


@pytest.mark.parametrize("kind", ["generator", "async"])
def test_a_function_that_ends_before_its_recorded_calls_is_stopped(kind: str) -> None:
    runs: list[int] = []

    def generator(ctx: Any) -> Any:
        runs.append(1)
        if len(runs) == 1:
            yield ctx.run(one)
            yield (yield ctx.promise(id="answer"))
        if len(runs) > 9:
            yield  # makes it a generator function, and is never reached

    async def function(ctx: Any) -> Any:
        runs.append(1)
        if len(runs) == 1:
            await ctx.run(one)
            await ctx.promise(id="answer")

    with Home("threads", evict=True) as home:
        handle = home.start("p", generator if kind == "generator" else function)
        home.suspended("p")
        home.resolve("answer")

        with pytest.raises(NonDeterminismError, match=r"(?s)calls recorded under it.*ended after 0 of them"):
            handle.result(10)


def test_a_function_that_asks_for_more_than_is_recorded_goes_on() -> None:
    runs: list[int] = []

    def program(ctx: Any) -> Any:
        runs.append(1)
        yield ctx.run(one)
        yield (yield ctx.promise(id="answer"))
        if len(runs) > 1:
            return (yield ctx.run(one, 5))

    with Home("threads", evict=True) as home:
        handle = home.start("p", program)
        home.suspended("p")
        home.resolve("answer")

        assert handle.result(10) == 5


# ---- what becomes of it --------------------------------------------------------------------------


def flipping(log: list[str]) -> Program:
    """A function that differs at its second run and at no other."""

    def program(ctx: Any) -> Any:
        log.append("code")
        try:
            yield ctx.run(other if log.count("code") == 2 else one)
            yield (yield ctx.promise(id="answer"))
        except Exception:
            log.append("except")
            raise
        finally:
            log.append("finally")
        return "done"

    return program


def test_the_function_is_closed_and_never_thrown_into(caplog: pytest.LogCaptureFixture) -> None:
    log: list[str] = []
    with Home("threads", evict=True) as home, caplog.at_level(logging.ERROR):
        handle = home.start("p", flipping(log))
        home.suspended("p")
        home.resolve("answer")
        with pytest.raises(NonDeterminismError):
            handle.result(10)
        home.client.stop()

        assert sorted(log) == ["code", "code", "finally", "finally"]  # the first is closed by whoever has the time
    assert "no longer does what is recorded under 'p:1'" in caplog.text


def test_the_promise_stays_pending_and_the_task_is_halted_with_the_reason() -> None:
    with places.world() as world:
        client, other_client = world.client(), world.client(group="elsewhere")
        program = client.register(flipping([]))
        handle = client.begin_run("p", program)
        world.settle()
        worker = client._core.started()
        worker.evict(worker.warm["p"])
        theirs = other_client.get("p")
        assert not theirs.done()
        world.promises.resolve("answer")

        with pytest.raises(NonDeterminismError):
            handle.result()
        assert world.promises.get("p").pending
        task = world.storage.task("p")
        assert task is not None
        assert task.state == "halted"
        with pytest.raises(ExecutionHalted, match=r"(?s)'p' is halted.*recorded: plain one.*asked: .* plain other"):
            theirs.result()


def test_it_goes_on_when_it_is_resumed_with_code_that_agrees() -> None:
    with places.world() as world:
        client = world.client()
        program = client.register(flipping([]))
        handle = client.begin_run("p", program)
        world.settle()
        worker = client._core.started()
        worker.evict(worker.warm["p"])
        world.promises.resolve("answer")
        with pytest.raises(NonDeterminismError):
            handle.result()

        client.get("p").resume()

        assert client.get("p").result() == "done"
        with pytest.raises(UsageError, match=r"p cannot be resumed, only what is halted can"):
            handle.resume()


def test_a_handle_that_said_so_has_the_result_once_it_is_resumed() -> None:
    with places.world() as world:
        client, elsewhere = world.client(), world.client(group="elsewhere")
        program = client.register(flipping([]))
        handle, theirs = client.begin_run("p", program), elsewhere.get("p")
        assert not theirs.done()
        worker = client._core.started()
        worker.evict(worker.warm["p"])
        world.promises.resolve("answer")
        for _ in range(2):
            with pytest.raises(NonDeterminismError):
                handle.result()
            with pytest.raises(ExecutionHalted):
                theirs.result()

        handle.resume()

        assert handle.result() == "done"
        assert theirs.result() == "done"


def test_an_awaited_handle_that_said_so_has_the_result_once_it_is_resumed() -> None:
    async def awaited(handle: Handle[Any]) -> Any:
        return await handle

    with Home("threads", evict=True) as home:
        handle = home.start("p", flipping([]))
        home.suspended("p")
        home.resolve("answer")
        for _ in range(2):
            with pytest.raises(NonDeterminismError):
                asyncio.run(awaited(handle))

        handle.resume()

        assert asyncio.run(awaited(handle)) == "done"


def test_what_has_no_task_cannot_be_resumed() -> None:
    with Resonate() as client:
        client.promises.create("bare", 10**14)

        with pytest.raises(ResonateStoreError, match=r"not found: bare"):
            client.get("bare").resume()


def test_a_child_that_differs_halts_the_whole_execution() -> None:
    runs: list[int] = []

    def inner(ctx: Any) -> Any:
        runs.append(1)
        yield ctx.run(one if len(runs) == 1 else other)
        yield (yield ctx.promise(id="answer"))

    def program(ctx: Any) -> Any:
        try:
            yield ctx.run(inner)
        except Exception:
            return "caught"

    with Home("threads", evict=True) as home:
        handle = home.start("p", program)
        home.suspended("p")
        home.resolve("answer")

        with pytest.raises(NonDeterminismError, match=r"'p:1.1'"):
            handle.result(10)


def test_other_executions_go_on() -> None:
    with Home("threads", evict=True) as home:
        handle = home.start("p", flipping([]))
        home.suspended("p")
        home.resolve("answer")
        with pytest.raises(NonDeterminismError):
            handle.result(10)

        assert home.start("q", child, 7).result(10) == 7


def test_a_task_of_an_async_function_that_differs_halts_it_too() -> None:
    runs: list[int] = []

    async def chain(ctx: Any) -> None:
        await ctx.run(one if len(runs) == 1 else other)
        await ctx.run(one)

    async def program(ctx: Any) -> Any:
        runs.append(1)
        await asyncio.gather(chain(ctx), chain(ctx), return_exceptions=True)
        await ctx.promise(id="answer")
        return "went on"

    with Home("threads", evict=True) as home:
        handle = home.start("p", program)
        home.suspended("p")
        home.resolve("answer")

        with pytest.raises(NonDeterminismError, match=r"(?s)recorded: plain one.*asked: .*plain other"):
            handle.result(10)


# ---- calls at the end that are made no more ----------------------------------------------------------------


def ends_early(ctx: Any) -> Any:
    yield ctx.run(one)
    return "early"


async def ends_early_async(ctx: Any) -> str:
    await ctx.run(one)
    return "early"


def waits_last(ctx: Any) -> Any:
    yield ctx.run(one)
    yield ctx.sleep(3600)


def only_waits(ctx: Any) -> Any:
    yield ctx.sleep(3600)


def plain_instead(ctx: Any) -> str:
    return "early"


@pytest.mark.parametrize(
    ("before", "after", "id", "asked"),
    [
        (waits_last, ends_early, "p:2", "ended without it"),
        (waits_last, ends_early_async, "p:2", "ended without it"),
        (waits_last, plain_instead, "p:1", "ended after 0 of them"),
        (only_waits, plain_instead, "p:1", "ended without it"),
    ],
)
def test_a_call_at_the_end_that_is_made_no_more_is_noticed_wherever_it_runs(
    before: Program, after: Program, id: str, asked: str
) -> None:
    with World() as world:
        first = world.client()
        first.register(before, name="f")
        first.begin_run("p", "f")
        world.advance(1)
        first.crash()
        second = world.client()
        second.register(after, name="f")
        handle = second.get("p")
        world.advance(3600)
        with pytest.raises((NonDeterminismError, ExecutionHalted), match=f"recorded under '{id}'(.|\n)*f {asked}"):
            handle.result()


def test_code_that_disagrees_while_a_thread_is_about_to_suspend_it_is_halted() -> None:
    def program(ctx: Any) -> Any:
        yield (yield ctx.promise(id="answer"))

    with Home("threads") as home:
        home.start("p", program)
        home.suspended("p", awaiting="answer")
        worker = home.client._core.started()
        held = worker.warm["p"]
        held.closing = True
        held.execution.awaited.clear()
        held.execution.halt = NonDeterminismError("p:1", "one", "another")

        assert worker._suspend(held)  # there is more to do: its driver looks again, and halts it
        assert "p" in worker.warm
