"""What an async function may await, and what it gets back; the shapes of the async generation too."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from resonate import Promise, Resonate
from resonate.errors import FunctionNotFound, ResonateCanceledError, ResonateTimedoutError, UsageError
from resonate.retry_policies import Constant, Never
from resonate.testing import WorldClient

pytestmark = pytest.mark.usefixtures("place")

Program = Callable[..., Any]


@pytest.fixture
def r() -> Iterator[Resonate]:
    with Resonate() as client:
        yield client


def double(ctx: Any, x: int = 1) -> int:
    return 2 * x


def doubles(ctx: Any, x: int) -> Any:
    return (yield ctx.run(double, x))


async def adoubles(ctx: Any, x: int) -> int:
    await asyncio.sleep(0)
    return int(await ctx.run(double, x))


def fails(ctx: Any, text: str = "no") -> None:
    raise ValueError(text)


def run(client: Resonate, func: Program, *args: Any, id: str = "p") -> Any:
    client.register(func)
    return client.run(id, func, *args)


def states(client: Resonate) -> dict[str, str]:
    rows = client._core.started().network.service.storage.promises(None)  # type: ignore[attr-defined]
    return {row.promise.id: row.promise.state for row in rows}


# ---- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "value"),
    [
        (lambda ctx: ctx.run(double, 4), 8),
        (lambda ctx: ctx.run(double, x=4), 8),
        (lambda ctx: ctx.run(doubles, 4), 8),
        (lambda ctx: ctx.run(adoubles, 4), 8),
        (lambda ctx: ctx.run("double", 4), 8),
        (lambda ctx: ctx.run(lambda _, x: x + 1, 4), 5),
        (lambda ctx: ctx.lfc(double, 4), 8),
        (lambda ctx: ctx.rpc(double, 4), 8),
        (lambda ctx: ctx.rpc("doubles", 4), 8),
        (lambda ctx: ctx.rfc("adoubles", 4).options(target="default"), 8),
        (lambda ctx: ctx.sleep(0.001), None),
        (lambda ctx: ctx.sleep(timedelta(milliseconds=1)), None),
        (lambda ctx: ctx.sleep(0), None),
        (lambda ctx: ctx.sleep(-1), None),
        (lambda ctx: ctx.all([]), []),
        (lambda ctx: ctx.all([ctx.run(double, 1), ctx.rpc("double", 2), ctx.sleep(0)]), [2, 4, None]),
        (lambda ctx: ctx.race([ctx.run(adoubles, 3)]), 6),
        (lambda ctx: ctx.map(adoubles, [1, 2, 3], limit=2), [2, 4, 6]),
        (lambda ctx: ctx.random.randint(6, 6), 6),
        (lambda ctx: ctx.time.strftime("%%"), "%"),
        (lambda ctx: ctx.run(double, 4).options(durable=False), 8),
        (lambda ctx: ctx.options(timeout=5).run(double, 4), 8),
        (lambda ctx: ctx.options(timeout=timedelta(seconds=5), retry_policy=Never()).run(adoubles, 4), 8),
        (lambda ctx: ctx.options(target="default", version=1).rpc("double", 4), 8),
        (lambda ctx: asyncio.wait_for(ctx.run(adoubles, 4), 10), 8),
        (lambda ctx: asyncio.gather(ctx.run(double, 1), ctx.rpc("double", 2)), [2, 4]),
        (lambda ctx: asyncio.shield(ctx.run(double, 4)), 8),
    ],
)
def test_a_call_is_awaited_for_its_value(r: Resonate, command: Program, value: Any) -> None:
    async def program(ctx: Any) -> Any:
        return await command(ctx)

    for func in (double, doubles, adoubles):
        r.register(func)

    assert run(r, program) == value


@pytest.mark.parametrize(
    "command",
    [
        lambda ctx: ctx.begin_run(double, 4),
        lambda ctx: ctx.lfi(adoubles, 4),
        lambda ctx: ctx.begin_rpc(double, 4),
        lambda ctx: ctx.rfi("doubles", 4),
    ],
)
def test_a_begun_call_gives_a_promise_which_may_be_awaited_again_and_again(r: Resonate, command: Program) -> None:
    async def program(ctx: Any) -> Any:
        promise = await command(ctx)
        assert isinstance(promise, Promise)
        return [promise.id, await promise, await promise]

    r.register(double)
    r.register(doubles)

    assert run(r, program) == ["p:1", 8, 8]


def test_a_call_may_be_awaited_twice(r: Resonate) -> None:
    async def program(ctx: Any) -> Any:
        call = ctx.run(double, 4)
        return [await call, await call]

    assert run(r, program) == [8, 8]


def test_whoever_is_given_the_id_of_a_detached_call_finds_it(r: Resonate) -> None:
    async def program(ctx: Any) -> list[Any]:
        ids = await asyncio.gather(*(ctx.detached("double", n) for n in range(3)))
        handles = [await r.aio.get(id) for id in ids]
        return [await handle for handle in handles]

    r.register(double)

    assert run(r, program) == [0, 2, 4]


def test_awaiting_a_detached_call_gives_its_id(r: Resonate) -> None:
    async def program(ctx: Any) -> Any:
        id = await ctx.detached("double", 4)
        return [id, await id.id()] if callable(id.id) else [id, id.id]

    r.register(double)

    assert run(r, program) == ["p:1", "p:1"]
    assert r.get("p:1").result() == 8


def test_the_id_of_a_call_is_text_that_can_be_called_and_awaited_too(r: Resonate) -> None:
    async def program(ctx: Any) -> Any:
        call = ctx.run(double, 4)
        ids = [call.id, await call.id(), await call.id]
        assert all(isinstance(id, str) for id in ids)
        await call
        return ids

    assert run(r, program) == ["p:1", "p:1", "p:1"]


def test_a_call_that_is_not_awaited_starts_at_once_and_is_joined_at_the_end(r: Resonate) -> None:
    started, gate, ended = threading.Event(), threading.Event(), []

    def slow(ctx: Any) -> None:
        started.set()
        assert gate.wait(10)
        ended.append("slow")

    async def program(ctx: Any) -> str:
        ctx.run(slow)
        await asyncio.to_thread(started.wait, 10)
        return "done"

    r.register(program)
    handle = r.begin_run("p", program)
    assert started.wait(10)
    with pytest.raises(TimeoutError):
        handle.result(timeout=0.02)
    gate.set()

    assert handle.result(10) == "done"
    assert ended == ["slow"]


def test_a_failure_that_nobody_awaits_is_dropped(r: Resonate, caplog: pytest.LogCaptureFixture) -> None:
    async def program(ctx: Any) -> str:
        ctx.run(fails).options(retry_policy=Never())
        return "fine"

    with caplog.at_level(logging.WARNING):
        assert run(r, program) == "fine"
    assert states(r)["p:1"] == "rejected"
    assert "never retrieved" not in caplog.text


def test_a_bare_promise_can_be_awaited_and_its_id_is_durable_when_it_is_read(r: Resonate) -> None:
    async def program(ctx: Any, how: str) -> Any:
        promise = ctx.promise()
        assert r.promises.get(promise.id).pending
        getattr(r.promises, how)(promise.id, data='{"by": "me"}')
        return await promise

    r.register(program)

    assert r.run("a", program, "resolve") == {"by": "me"}
    with pytest.raises(Exception, match=r"^\{'by': 'me'\}"):
        r.run("b", program, "reject")
    with pytest.raises(ResonateCanceledError):
        r.run("c", program, "cancel")


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (ValueError("v"), "ValueError"),
        (TimeoutError("t"), "TimeoutError"),
        (asyncio.CancelledError("c"), "RemoteError"),
        (GeneratorExit("g"), "RemoteError"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("how", ["run", "rpc"])
def test_the_error_of_a_call_is_raised_at_its_await(r: Resonate, how: str, error: BaseException, seen: str) -> None:
    def raises(ctx: Any) -> Any:
        yield ctx.sleep(0)
        raise error

    async def program(ctx: Any) -> Any:
        try:
            await getattr(ctx, how)("raises")
        except Exception as caught:
            return [type(caught).__name__, await ctx.run(double, 4)]

    r.register(raises)

    assert run(r, program) == [seen, 8]


def test_stop_iteration_of_a_step_is_a_runtime_error_as_in_any_coroutine(r: Resonate) -> None:
    def exhausted(ctx: Any) -> Any:
        return next(iter(()))

    async def program(ctx: Any) -> Any:
        with pytest.raises(RuntimeError, match=r"p:1 raised StopIteration") as caught:
            await ctx.run(exhausted).options(retry_policy=Never())
        return type(caught.value.__cause__).__name__

    assert run(r.options(timeout=5), program) == "StopIteration"


def test_an_error_that_nobody_catches_is_the_callers(r: Resonate) -> None:
    async def program(ctx: Any) -> Any:
        await ctx.run(fails).options(retry_policy=Never())

    with pytest.raises(ValueError, match=r"no"):
        run(r, program)


def test_typesafe_is_for_generators_and_says_so(r: Resonate) -> None:
    async def program(ctx: Any) -> Any:
        return await ctx.typesafe(ctx.run(double, 4))

    with pytest.raises(TypeError):
        run(r, program)


def test_calls_are_numbered_where_they_are_made(r: Resonate) -> None:
    def name_of(ctx: Any) -> Any:
        return ctx.id

    async def helper(ctx: Any) -> Any:
        return await ctx.run(name_of)

    async def nested(ctx: Any) -> Any:
        return [ctx.id, await ctx.run(name_of), await helper(ctx)]

    async def program(ctx: Any) -> Any:
        first, second = ctx.run(name_of), ctx.run(name_of)
        late, early = await second, await first
        mine = await ctx.run(name_of).options(id="mine")
        return [early, late, mine, await helper(ctx), await ctx.run(nested)]

    assert run(r, program) == ["p:1", "p:2", "mine", "p:4", ["p:5", "p:5.1", "p:5.2"]]


def test_options_come_before_a_call_has_started(r: Resonate) -> None:
    async def program(ctx: Any) -> Any:
        call = ctx.run(double, 4)
        assert call.options(timeout=5) is call
        await call
        with pytest.raises(UsageError, match=r"p:1 has started"):
            call.options(timeout=5)
        return "refused"

    assert run(r, program) == "refused"


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda ctx: ctx.run("nobody"), FunctionNotFound),
        (lambda ctx: ctx.rpc(double), ValueError),
        (lambda ctx: ctx.run(double, 1, 2), TypeError),
        (lambda ctx: ctx.sleep("1"), TypeError),
        (lambda ctx: ctx.race([]), UsageError),
        (lambda ctx: ctx.all([5]), UsageError),
        (lambda ctx: ctx.promise(timeout=-1), ValueError),
        (lambda ctx: ctx.run(double).options(no_such=1), TypeError),
        (lambda ctx: ctx.run(double).options(id=""), ValueError),
        (lambda ctx: ctx.run(double).options(id="a\0b"), ValueError),
        (lambda ctx: ctx.rpc("double", threading.Lock()), TypeError),
    ],
)
@pytest.mark.parametrize("kind", ["generator", "async"])
def test_a_bad_call_raises_and_the_function_may_go_on(r: Resonate, kind: str, make: Program, error: type) -> None:
    def generator(ctx: Any) -> Any:
        with pytest.raises(error):
            yield make(ctx)
        return (yield ctx.run(double, 4))

    async def function(ctx: Any) -> Any:
        with pytest.raises(error):
            await make(ctx)
        return await ctx.run(double, 4)

    assert run(r, generator if kind == "generator" else function) == 8


def test_a_call_from_a_callback_is_refused(r: Resonate) -> None:
    async def program(ctx: Any) -> Any:
        caught: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def callback() -> None:
            try:
                ctx.run(double, 1)
            except UsageError as error:
                caught.set_result(str(error))

        asyncio.get_running_loop().call_soon(callback)
        return await caught

    assert "outside of its own code" in run(r, program)


def test_a_call_from_another_thread_is_refused(r: Resonate) -> None:
    async def program(ctx: Any) -> Any:
        with pytest.raises(UsageError, match=r"outside of its own code"):
            await asyncio.to_thread(ctx.run, double, 1)
        return "refused"

    assert run(r, program) == "refused"


def test_a_call_with_the_context_of_another_function_is_refused(r: Resonate) -> None:
    async def child(ctx: Any, theirs: Any) -> Any:
        with pytest.raises(UsageError, match=r"made outside of its own code"):
            theirs.run(double, 1)
        return "refused"

    async def program(ctx: Any) -> Any:
        return await ctx.run(child, ctx)

    assert run(r, program) == "refused"


def test_a_command_awaited_outside_of_any_durable_function_is_refused(r: Resonate) -> None:
    async def outside() -> None:
        await Promise("p")

    with pytest.raises(UsageError, match=r"can only be awaited inside a durable async function"):
        asyncio.run(outside())


def test_a_call_that_is_returned_instead_of_awaited_is_an_error(r: Resonate) -> None:
    async def program(ctx: Any) -> Any:
        return ctx.run(double, 4)

    with pytest.raises(UsageError, match=r"ctx.run\(double\) .* never yielded or awaited"):
        run(r, program)


# ---- around it -----------------------------------------------------------------------------------


def test_an_async_leaf_is_retried_and_one_with_durable_calls_is_not(resonate: WorldClient) -> None:
    tries: list[str] = []

    async def leaf(ctx: Any) -> str:
        tries.append("leaf")
        if tries.count("leaf") < 3:
            raise ConnectionError
        return "leaf"

    async def branch(ctx: Any) -> None:
        tries.append("branch")
        await ctx.run(double, 1)
        raise ConnectionError("branch")

    async def program(ctx: Any) -> Any:
        value = await ctx.run(leaf)
        with pytest.raises(ConnectionError, match=r"branch"):
            await ctx.run(branch)
        return value

    assert run(resonate, program) == "leaf"
    assert tries == ["leaf", "leaf", "leaf", "branch"]


def test_an_async_function_that_is_retried_finds_its_finished_steps(r: Resonate) -> None:
    runs: list[str] = []

    def step(ctx: Any) -> str:
        runs.append(ctx.id)
        return str(ctx.id)

    async def flaky(ctx: Any) -> Any:
        ids = list(await asyncio.gather(ctx.run(step), ctx.run(step)))
        if ctx.info.attempt < 3:
            raise ConnectionError
        return ids

    async def program(ctx: Any) -> Any:
        return await ctx.run(flaky).options(retry_policy=Constant(delay=0, max_retries=5))

    assert run(r, program) == ["p:1.1", "p:1.2"]
    assert sorted(runs) == ["p:1.1", "p:1.2"]


def test_a_timeout_of_asyncio_cancels_the_wait_and_not_the_call(resonate: WorldClient) -> None:
    def late(ctx: Any) -> Any:
        yield ctx.sleep(60)
        return "late"

    async def program(ctx: Any) -> Any:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await ctx.run(late)
        return "went on"

    assert run(resonate, program) == "went on"
    assert resonate.get("p:1").result() == "late"


def test_what_wakes_a_suspended_function_without_being_durable_is_forgotten(resonate: WorldClient) -> None:
    runs: list[str] = []

    async def program(ctx: Any) -> Any:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_later(1, task.cancel)
        try:
            await ctx.sleep(60)
        except asyncio.CancelledError:
            runs.append("cancelled")
            await ctx.run(step)
        return "slept"

    def step(ctx: Any) -> None:
        runs.append("step")

    assert run(resonate, program) == "slept"
    assert runs == ["cancelled"]


def test_a_deadline_of_a_call_is_a_timeout_of_it(resonate: WorldClient) -> None:
    async def late(ctx: Any) -> Any:
        await ctx.sleep(60)

    async def program(ctx: Any) -> Any:
        with pytest.raises(ResonateTimedoutError) as caught:
            await ctx.run(late).options(timeout=1)
        return caught.value.promise_id

    assert run(resonate, program) == "p:1"


def test_async_functions_run_on_the_loop_the_client_was_started_in() -> None:
    async def where(ctx: Any) -> int:
        return threading.get_ident()

    async def main() -> Any:
        async with Resonate() as client:
            client.register(where)
            return await client.aio.run("p", where), await client.aio.rpc("q", where), threading.get_ident()

    here, there, mine = asyncio.run(main())

    assert here == there == mine


def test_a_client_started_elsewhere_has_one_loop_of_its_own(r: Resonate) -> None:
    async def where(ctx: Any) -> int:
        return threading.get_ident()

    r.register(where)

    assert len({r.run("a", where), r.run("b", where), r.rpc("c", where)} - {threading.get_ident()}) == 1


def test_a_library_may_create_tasks_that_make_no_durable_calls(r: Resonate) -> None:
    async def tick(ticks: list[int]) -> None:
        while True:
            ticks.append(1)
            await asyncio.sleep(0)

    async def program(ctx: Any) -> Any:
        ticks: list[int] = []
        task = asyncio.ensure_future(tick(ticks))
        values = [await ctx.run(adoubles, n) for n in range(3)]
        task.cancel()
        return [values, len(ticks) > 0]

    assert run(r, program) == [[0, 2, 4], True]
