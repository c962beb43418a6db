"""Programs that are wrong: each has a clear outcome, and none hangs or harms another."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from resonate import Resonate
from resonate.errors import CapacityError, EncodeError, ForgottenCommand, IdTooLong, NotACommand, UsageError
from resonate.retry_policies import Constant, Never
from resonate.worker import loop as loop_module
from resonate.worker import pool as pool_module
from resonate.worker import report
from tests.homes import named, until

Program = Callable[..., Any]


def step(ctx: Any, n: int = 1) -> int:
    return n


def run(client: Resonate, func: Program, *args: Any, id: str = "p") -> Any:
    client.register(func)
    return client.run(id, func, *args)


def line_of(func: Program, offset: int) -> str:
    return f"test_bad_input.py:{func.__code__.co_firstlineno + offset}"


# ---- what is yielded, awaited and returned -------------------------------------------------------


@pytest.mark.parametrize("what", [5, None, "text", [1], step, object, {"a": 1}], ids=named)
def test_yielding_what_is_no_call_names_value_and_line(r: Resonate, what: Any) -> None:
    def program(ctx: Any) -> Any:
        yield what

    with pytest.raises(NotACommand, match=r"yields .* which is no durable call. Yield ctx.run") as caught:
        run(r, program)
    assert caught.value.where == line_of(program, 1)
    assert isinstance(caught.value, TypeError)


def test_yielding_what_is_no_call_can_be_caught(r: Resonate) -> None:
    def program(ctx: Any) -> Any:
        try:
            yield 5
        except NotACommand:
            return (yield ctx.run(step, 7))

    assert run(r, program) == 7


def test_yielding_a_helper_generator_without_from_is_named(r: Resonate) -> None:
    def helper(ctx: Any) -> Any:
        yield ctx.run(step)

    def program(ctx: Any) -> Any:
        yield helper(ctx)

    with pytest.raises(NotACommand, match=r"use `yield from` for a helper generator"):
        run(r, program)


def test_a_forgotten_yield_starts_nothing_and_is_told_with_its_line(
    r: Resonate, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[str] = []

    def program(ctx: Any) -> Any:
        ctx.run(lambda _: ran.append("forgotten"))
        yield ctx.run(step)
        return "done"

    assert run(r, program) == "done"
    assert ran == []
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert f"a durable call (p:1) at {line_of(program, 1)} was made but never yielded" in told[0]


@pytest.mark.parametrize(
    "use",
    [
        lambda ctx: ctx.run(step).options(target="x"),
        lambda ctx: [ctx.run(step), ctx.run(step)],
        lambda ctx: (ctx.run(step),),
    ],
    ids=["option", "list", "tuple"],
)
def test_a_call_that_an_error_was_raised_for_is_not_told_to_be_forgotten(
    r: Resonate, caplog: pytest.LogCaptureFixture, use: Any
) -> None:
    def program(ctx: Any) -> Any:
        yield use(ctx)

    with pytest.raises(UsageError, match=r"target|which is no durable call"):
        run(r, program)
    assert "never yielded" not in caplog.text


def test_a_call_that_is_returned_is_told_to_be_forgotten_once(r: Resonate, caplog: pytest.LogCaptureFixture) -> None:
    def program(ctx: Any) -> Any:
        yield ctx.run(step)
        return ctx.run(step)

    with pytest.raises(ForgottenCommand):
        run(r, program)
    assert "never yielded" not in caplog.text


def test_a_call_that_is_made_before_the_function_fails_is_told_to_be_forgotten(
    r: Resonate, caplog: pytest.LogCaptureFixture
) -> None:
    def program(ctx: Any) -> Any:
        ctx.run(step)
        yield ctx.run(step)
        raise KeyError("mine")

    with pytest.raises(KeyError):
        run(r, program)
    assert "a durable call (p:1)" in caplog.text


def test_a_call_that_is_yielded_late_is_not_forgotten(r: Resonate, caplog: pytest.LogCaptureFixture) -> None:
    def program(ctx: Any) -> Any:
        calls = [ctx.run(step, n) for n in range(5)]
        values = []
        for call in reversed(calls):
            values.append((yield call))
        return values + (yield ctx.all([ctx.run(step, 5)]))

    assert run(r, program) == [4, 3, 2, 1, 0, 5]
    assert caplog.records == []


@pytest.mark.parametrize("kind", ["generator", "async"])
def test_a_call_that_is_returned_is_an_error_that_names_it(r: Resonate, kind: str) -> None:
    def generator(ctx: Any) -> Any:
        yield ctx.run(step)
        return ctx.run(step, 2)

    async def function(ctx: Any) -> Any:
        return ctx.run(step, 2)

    with pytest.raises(
        ForgottenCommand, match=r"(ctx.run\(step\)|Promise\('p:1'\)) at the end of (generator|function)"
    ):
        run(r, generator if kind == "generator" else function)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (threading.Lock(), "result"),
        ({"items": [1, 2, 3, threading.Lock()]}, r'result\["items"\]\[3\]'),
        ((1, object()), r"result\[1\]"),
        ([lambda: None], r"result\[0\]"),
        ({"f": open}, r'result\["f"\]'),
    ],
    ids=["lock", "in a list", "in a tuple", "lambda", "function"],
)
@pytest.mark.parametrize("where", ["root", "step", "async"])
def test_a_result_that_cannot_be_stored_is_refused_with_its_path(
    r: Resonate, where: str, value: Any, path: str
) -> None:
    tries: list[int] = []

    def produces(ctx: Any) -> Any:
        tries.append(1)
        return value

    async def aproduces(ctx: Any) -> Any:
        return await ctx.run(produces)

    def program(ctx: Any) -> Any:
        return (yield ctx.run(produces))

    with pytest.raises(EncodeError, match=path + ": ") as caught:
        run(r, {"root": produces, "step": program, "async": aproduces}[where])
    assert "result of produces" in str(caught.value)
    assert len(tries) == 1


def test_an_argument_of_a_remote_call_that_cannot_be_stored_is_refused_at_the_call(r: Resonate) -> None:
    def program(ctx: Any) -> Any:
        with pytest.raises(EncodeError, match=r"args\[0\]: _thread.lock cannot be stored"):
            ctx.rpc("step", threading.Lock())
        return (yield ctx.run(lambda _, lock: "passed", threading.Lock()))

    r.register(step)

    assert run(r, program) == "passed"


def test_data_from_outside_that_cannot_be_read_is_an_error_of_the_reader(r: Resonate) -> None:
    def program(ctx: Any) -> Any:
        promise = yield ctx.promise()
        yield ctx.run(settles, promise.id)
        try:
            return (yield promise)
        except ValueError as error:
            return type(error).__name__

    def settles(ctx: Any, id: str) -> None:
        r.promises.resolve(id, data="{not json")

    assert run(r, program) == "DecodeError"
    assert run(r, step, id="q") == 1


# ---- bounds --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["generator", "async"])
def test_recursion_ends_at_the_limit_of_an_id(r: Resonate, kind: str) -> None:
    def generator(ctx: Any, depth: int) -> Any:
        return (yield ctx.run(generator, depth + 1))

    async def function(ctx: Any, depth: int) -> Any:
        return await ctx.run(function, depth + 1)

    with pytest.raises(IdTooLong, match=r"of a call has 2,0\d\d bytes at depth \d+.*Recurse less deep"):
        run(r, generator if kind == "generator" else function, 0)
    assert run(r, step, id="q") == 1


def test_recursion_by_rpc_ends_at_the_limit_of_an_id_too() -> None:
    with Resonate() as client:

        @client.register
        def program(ctx: Any, depth: int) -> Any:
            return (yield ctx.rpc("program", depth + 1).options(id=ctx.id + "." + "x" * 200))

        with pytest.raises(IdTooLong):
            client.run("p", program, 0)


@pytest.mark.slow
def test_a_hundred_thousand_children(r: Resonate) -> None:
    def program(ctx: Any, count: int) -> Any:
        promises = []
        for n in range(count):
            promises.append((yield ctx.begin_run(step, n)))
        total = 0
        for promise in promises:
            total += yield promise
        return total

    began = time.monotonic()

    assert run(r, program, 100_000) == 4_999_950_000
    assert time.monotonic() - began < 30


def test_a_thousand_deep_chain_of_plain_recursion_in_a_step_is_the_steps_own_error(r: Resonate) -> None:
    def recurses(ctx: Any) -> Any:
        return recurses(ctx)

    with pytest.raises(RecursionError):
        run(r.options(retry_policy=Never()), recurses)
    assert run(r, step, id="q") == 1


# ---- blocking ------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 20])
def test_steps_that_run_others_finish_with_one_worker(depth: int) -> None:
    with Resonate(workers=1) as client:

        @client.register
        def outer(ctx: Any, depth: int) -> int:
            return 0 if depth == 0 else client.run(f"nested-{depth - 1}", outer, depth - 1) + 1

        assert client.begin_run("p", outer, depth).result(20) == depth


def test_steps_that_wait_for_handles_finish_with_one_worker() -> None:
    with Resonate(workers=1) as client:

        @client.register
        def leaf(ctx: Any, n: int) -> int:
            return n

        @client.register
        def outer(ctx: Any) -> int:
            handles = [client.begin_run(f"leaf-{n}", leaf, n) for n in range(5)]
            return sum(handle.result() for handle in handles) + client.rpc("remote", leaf, 10)

        handles = [client.begin_run(f"p{n}", outer) for n in range(3)]

        assert [handle.result(20) for handle in handles] == [20, 20, 20]


def test_an_async_function_may_not_block_on_its_own_client(r: Resonate) -> None:
    async def program(ctx: Any) -> str:
        try:
            r.run("q", step)
        except RuntimeError as error:
            return str(error)
        return "blocked"

    r.register(step)

    assert "r.aio.run" in run(r, program)


def test_more_waiting_threads_than_there_are_spares_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "SPARE_THREADS", 3)
    with Resonate(workers=1) as client:

        @client.register
        def outer(ctx: Any, depth: int) -> int:
            return 0 if depth == 4 else int(client.begin_run(f"nested-{depth + 1}", outer, depth + 1).result())

        with pytest.raises(CapacityError, match=r"3 threads of this client wait inside run"):
            client.begin_run("p", outer, 0).result(20)


@pytest.mark.parametrize("where", ["private", "own"])
def test_a_blocking_call_in_an_async_function_is_reported_with_its_place(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    def reported() -> list[str]:
        texts = [record.getMessage() for record in caplog.records]
        return [text for text in texts if "has not turned for 200 ms" in text]

    async def blocks(ctx: Any) -> str:
        await ctx.run(step)
        until(lambda: bool(reported()))
        return "done"

    async def main() -> Any:
        async with Resonate() as client:
            client.register(blocks)
            return await client.aio.run("p", blocks)

    with caplog.at_level(logging.WARNING):
        if where == "own":
            assert asyncio.run(main()) == "done"
        else:
            with Resonate() as client:
                client.register(blocks)
                assert client.run("p", blocks) == "done"

    assert len(reported()) == 1
    assert re.search(r'test_bad_input.py", line \d+, in blocks', reported()[0])
    assert loop_module.BLOCKED_AFTER == 0.2


def test_a_blocking_generator_blocks_only_itself(r: Resonate) -> None:
    go, blocked = threading.Event(), threading.Event()

    def blocks(ctx: Any) -> Any:
        yield ctx.run(step)
        blocked.set()
        assert go.wait(10)
        return "late"

    handle = r.begin_run("p", r.register(blocks))
    assert blocked.wait(10)

    assert run(r, step, id="q") == 1
    assert not handle.done()
    go.set()
    assert handle.result(10) == "late"


# ---- nobody else is harmed -----------------------------------------------------------------------


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class NeedsTwo(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")
        self.a, self.b = a, b


@pytest.mark.parametrize("error", [Unprintable(), NeedsTwo(1, 2), ExceptionGroup("g", [ValueError("v")])], ids=type)
def test_odd_exceptions_reach_the_caller(r: Resonate, error: Exception) -> None:
    def fails(ctx: Any) -> Any:
        yield ctx.sleep(0)
        raise error

    with pytest.raises(type(error)) as caught:
        run(r, fails)
    assert caught.value.__dict__.items() >= error.__dict__.items()
    assert run(r, step, id="q") == 1


def test_an_exception_without_text_is_retried_like_any_other(r: Resonate, caplog: pytest.LogCaptureFixture) -> None:
    def fails(ctx: Any) -> int:
        if ctx.info.attempt == 1:
            raise Unprintable
        return 1

    r.register(fails)
    assert r.options(retry_policy=Constant(delay=0)).run("p", fails) == 1
    assert "Unprintable: <Unprintable whose text cannot be made>" in caplog.text


def test_a_remote_call_of_a_function_that_nobody_has_times_out_and_harms_nobody(
    r: Resonate, caplog: pytest.LogCaptureFixture
) -> None:
    def program(ctx: Any) -> Any:
        yield ctx.rpc("nobody").options(timeout=0.1)

    with pytest.raises(Exception, match=r"'p:1' timed out"):
        run(r, program)
    assert run(r, step, id="q") == 1
    told = [record.getMessage() for record in caplog.records]
    line = "p:1 asks for nobody version 1, which this worker lacks (it has no nobody, only program)"
    assert sum(line in t for t in told) == 1


def test_a_function_registered_late_is_found_by_those_who_wait(r: Resonate) -> None:
    def program(ctx: Any) -> Any:
        return (yield ctx.rpc("late", 4))

    def late(ctx: Any, n: int) -> int:
        return n

    handle = r.begin_run("p", r.register(program))
    until(lambda: "p:1" in r._core.started().intake._ignored)
    r.register(late)

    assert handle.result(10) == 4


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ("{broken", "DecodeError"),
        ('{"func": 5}', "DecodeError"),
        ('{"func": "step", "args": [1, 2, 3]}', "TypeError"),
        ('{"func": "step", "kwargs": {"m": 1}}', "TypeError"),
    ],
)
def test_an_invocation_that_cannot_be_read_is_rejected_with_the_reason(r: Resonate, data: str, error: str) -> None:
    r.register(step)
    until_deadline = int(time.time() * 1000) + 60_000
    r.promises.create("odd", until_deadline, data=data, tags={"resonate:invoke": "poll://any@default"})

    with pytest.raises(Exception) as caught:
        r.get("odd").result(5)
    assert error in (cls.__name__ for cls in type(caught.value).__mro__)
    assert r.run("q", step) == 1


# ---- arguments that do not fit ---------------------------------------------------------------------


def test_an_argument_that_does_not_fit_its_annotation_is_refused_and_leaves_the_id_free(r: Resonate) -> None:
    @r.register
    def counts(ctx: Any, data: bytes) -> int:
        return len(data)

    for call in (r.run, r.begin_run, r.rpc):
        with pytest.raises(TypeError, match="argument data of counts does not fit bytes"):
            call("p", counts, "abc")

    assert r.run("p", counts, b"abc") == 3


def test_annotations_of_types_that_json_has_are_hints_and_refuse_nothing(r: Resonate) -> None:
    @r.register
    def shown(ctx: Any, one: int, many: list[int], named: dict[str, float]) -> Any:
        return [one, many, named]

    assert r.run("p", shown, "abc", ["abc"], {"a": "abc"}) == ["abc", ["abc"], {"a": "abc"}]


# ---- arguments that change -----------------------------------------------------------------------


def test_a_step_that_changes_its_callers_argument_is_named_once(
    r: Resonate, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "_CHANGING", set())

    def appends(ctx: Any, items: list[int], more: int = 0) -> int:
        items.append(more)
        return len(items)

    def looks(ctx: Any, items: list[int]) -> int:
        return len(items)

    def program(ctx: Any) -> Any:
        items: list[int] = []
        for _ in range(3):
            yield ctx.run(appends, items, more=1)
        yield ctx.run(looks, items)
        return items

    assert run(r, program) == [1, 1, 1]

    (told,) = [record.getMessage() for record in caplog.records]
    assert re.fullmatch(r"p:1: an argument of appends \(called at test_bad_input.py:\d+\) has changed .* a copy", told)
