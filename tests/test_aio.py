"""The client inside an event loop: `async with`, `r.aio`, and which loop functions run on."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from resonate import Context, Handle, Resonate
from resonate.errors import (
    CapacityError,
    ClientStopped,
    FunctionNotFound,
    IdConflict,
    InsideEventLoop,
    InvalidId,
    RemoteError,
    ResonateShutdownError,
    ResonateStoreError,
    UsageError,
)
from resonate.handle import AioHandle
from resonate.resonate import Aio
from resonate.retry_policies import Never
from tests import places

pytestmark = [pytest.mark.usefixtures("place"), pytest.mark.timeout(20)]

METHODS = ["run", "begin_run", "rpc", "begin_rpc"]


def double(ctx: Context, x: int) -> int:
    return 2 * x


def in_steps(ctx: Context, x: int) -> Generator[Any, Any, int]:
    result: int = yield ctx.run(double, x)
    return result


async def at_once(ctx: Context, x: int) -> int:
    result: int = await ctx.run(double, x)
    return result


async def where(ctx: Context) -> int:
    await asyncio.sleep(0)
    return id(asyncio.get_running_loop())


def fail(ctx: Context) -> Generator[Any, Any, None]:
    yield from ()
    raise KeyError("missing")


FUNCTIONS: list[Callable[..., Any]] = [double, in_steps, at_once]


def with_functions(client: Resonate) -> Resonate:
    others: list[Callable[..., Any]] = [where, fail]
    for func in [*FUNCTIONS, *others]:
        client.register(func)
    return client


@pytest.fixture
def client() -> Iterator[Resonate]:
    with with_functions(Resonate()) as client:
        yield client


async def call(client: Resonate, method: str, *args: Any) -> Any:
    result = await getattr(client.aio, method)(*args)
    return await result if method.startswith("begin") else result


# ---- methods ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", [True, False], ids=["bound", "private loop"])
@pytest.mark.parametrize("method", METHODS)
def test_every_way_to_call_has_an_awaitable_form(method: str, bound: bool) -> None:
    async def main() -> list[Any]:
        client = with_functions(Resonate())
        if bound:
            await client.aio.start()
        results = [await call(client, method, f"{func.__name__}", func, 21) for func in FUNCTIONS]
        results += [await call(client, method, f"{func.__name__}-2", func.__name__, 21) for func in FUNCTIONS]
        await client.aio.stop()
        return results

    assert asyncio.run(main()) == [42] * 6


@pytest.mark.parametrize("method", METHODS)
def test_an_error_of_the_function_is_raised_by_the_await(method: str) -> None:
    async def main() -> None:
        async with with_functions(Resonate()) as client:
            await call(client, method, "x", fail)

    with pytest.raises(KeyError, match="missing"):
        asyncio.run(main())


def test_begin_gives_a_handle_whose_promise_is_durable() -> None:
    async def main() -> tuple[Any, ...]:
        async with with_functions(Resonate()) as client:
            handle = await client.aio.begin_run("x", in_steps, 1)
            state = client.promises.get("x").id
            return type(handle), handle.id, state, await handle, (await client.aio.get("x")).id

    assert asyncio.run(main()) == (Handle, "x", "x", 2, "x")


def test_every_blocking_method_has_an_awaitable_form_of_the_same_shape() -> None:
    def shape(func: Any) -> list[str]:
        return [name for name in inspect.signature(func).parameters if name not in ("timeout", "version")]

    names = [
        "run",
        "begin_run",
        "begin_run_in",
        "rpc",
        "begin_rpc",
        "get",
        "list",
        "purge",
        "schedule",
        "start",
        "stop",
    ]

    assert [name for name in vars(Aio) if not name.startswith("_")] == ["start", "stop", *names[:9]]
    for name in names:
        assert inspect.iscoroutinefunction(getattr(Aio, name)), name
        assert shape(getattr(Aio, name)) == shape(getattr(Resonate, name)), name


def test_what_a_handle_asks_and_does_has_an_awaitable_form() -> None:
    names = [name for name in vars(AioHandle) if not name.startswith("_")]
    assert names == ["cancel", "resume", "status", "tree", "why"]

    async def waits(ctx: Context) -> None:
        await ctx.promise()

    async def main() -> list[Any]:
        async with Resonate() as client:
            client.register(waits)
            handle = await client.aio.begin_run("x", waits)
            waited = await handle.aio.why()
            with pytest.raises(UsageError, match="only what is halted can"):
                await handle.aio.resume()
            await handle.aio.cancel()
            tree, status = await handle.aio.tree(), await handle.aio.status()
            await client.aio.purge("x")
            return [bool(waited), tree.id, status.state]

    assert asyncio.run(main()) == [True, "x", "cancelled"]


def test_options_count_for_the_awaitable_forms_too() -> None:
    async def main() -> str:
        async with with_functions(Resonate()) as client:
            await client.options(tags={"a": "b"}).aio.run("x", double, 1)
            return (client.promises.get("x").tags or {})["a"]

    assert asyncio.run(main()) == "b"


@pytest.mark.parametrize(
    ("use", "error"),
    [
        (lambda aio: aio.run(1, double, 1), TypeError),
        (lambda aio: aio.run("", double, 1), InvalidId),
        (lambda aio: aio.run("x", double), TypeError),
        (lambda aio: aio.begin_run("x", "stranger"), FunctionNotFound),
        (lambda aio: aio.rpc("x", 5), TypeError),
        (lambda aio: aio.run("known", double, 2), IdConflict),
        (lambda aio: aio.get("nobody"), ResonateStoreError),
        (lambda aio: aio.schedule("s", double, "never", 1), ValueError),
        (lambda aio: aio.stop("soon"), TypeError),
    ],
    ids=["id", "empty id", "arguments", "function", "func", "conflict", "get", "cron", "timeout"],
)
def test_what_is_refused_is_refused_with_the_same_error(use: Callable[[Aio], Any], error: type[Exception]) -> None:
    async def main() -> Any:
        async with with_functions(Resonate()) as client:
            await client.aio.run("known", double, 1)
            with pytest.raises(error):
                await use(client.aio)
            return await client.aio.run("fine", double, 1)

    assert asyncio.run(main()) == 2


def test_the_loop_turns_while_functions_run() -> None:
    async def main() -> Any:
        gate = threading.Event()
        async with Resonate() as client:
            client.register(lambda ctx: gate.wait(10), name="waits")
            running = asyncio.ensure_future(client.aio.run("x", "waits"))
            for _ in range(10):
                await asyncio.sleep(0)
            turned = not running.done()
            gate.set()
            return turned, await running

    assert asyncio.run(main()) == (True, True)


def test_many_calls_at_once_all_come_back() -> None:
    async def main() -> Any:
        async with with_functions(Resonate()) as client:
            return await asyncio.gather(*(client.aio.run(f"x-{n}", FUNCTIONS[n % 3], n) for n in range(150)))

    assert asyncio.run(main()) == [2 * n for n in range(150)]


def test_who_stops_waiting_leaves_the_execution_alone() -> None:
    async def main() -> Any:
        gate = threading.Event()
        async with Resonate() as client:
            client.register(lambda ctx: gate.wait(10), name="waits")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.aio.run("x", "waits"), 0.001)
            gate.set()
            return await client.aio.run("x", "waits")

    assert asyncio.run(main()) is True


# ---- whose loop ---------------------------------------------------------------------------------------------


def test_async_functions_run_on_the_loop_the_client_was_started_in() -> None:
    async def main() -> tuple[int, int]:
        async with with_functions(Resonate()) as client:
            return await client.aio.run("x", where), id(asyncio.get_running_loop())

    ran, started = asyncio.run(main())
    assert ran == started


def test_a_client_started_elsewhere_has_one_loop_of_its_own(client: Resonate) -> None:
    first = client.run("x", where)

    async def main() -> tuple[int, int]:
        async with client:
            return await client.aio.run("y", where), id(asyncio.get_running_loop())

    second, here = asyncio.run(main())
    assert first == second
    assert here != first


def test_the_binding_never_moves() -> None:
    async def main() -> tuple[int, int]:
        async with with_functions(Resonate()) as client:
            ran = await asyncio.to_thread(lambda: asyncio.run(client.aio.run("x", where)))
            return ran, id(asyncio.get_running_loop())

    ran, started = asyncio.run(main())
    assert ran == started


def test_a_bound_client_serves_other_threads() -> None:
    async def main() -> Any:
        async with with_functions(Resonate()) as client:
            return await asyncio.gather(
                *(asyncio.to_thread(client.run, f"x-{n}", FUNCTIONS[n], 21) for n in range(3)),
                *(asyncio.to_thread(client.options(timeout=60).run, f"y-{n}", FUNCTIONS[n], 21) for n in range(3)),
            )

    assert asyncio.run(main()) == [42] * 6


def test_async_functions_of_a_client_whose_loop_is_closed_say_so_and_others_go_on() -> None:
    client = with_functions(Resonate())

    async def main() -> Any:
        await client.aio.start()
        return await client.aio.run("x", at_once, 1)

    assert asyncio.run(main()) == 2
    with pytest.raises(ClientStopped, match=r"event loop .* is closed"):
        client.run("y", at_once, 1)
    with pytest.raises(ClientStopped, match=r"event loop .* is closed"):
        client.begin_run("z", at_once, 1).result(timeout=10)
    assert client.run("plain", in_steps, 1) == 2
    client.stop()


@pytest.mark.parametrize(
    ("use", "instead"),
    [
        (lambda client: client.run("y", double, 1), "await r.aio.run(...)"),
        (lambda client: client.rpc("y", double, 1), "await r.aio.rpc(...)"),
        (lambda client: client.begin_run("x", "waits").result(), "await handle"),
        (lambda client: client.get("x").result(1), "await handle"),
        (lambda client: client.list(), "await r.aio.list()"),
        (lambda client: client.purge("x"), "await r.aio.purge(...)"),
        *(
            (lambda client, name=name: getattr(client.get("x"), name)(), f"await handle.aio.{name}()")
            for name in ("cancel", "resume", "status", "tree", "why")
        ),
    ],
)
def test_blocking_the_loop_of_the_client_is_refused_with_what_to_write_instead(
    use: Callable[[Resonate], Any], instead: str
) -> None:
    async def main() -> str:
        gate = threading.Event()
        async with with_functions(Resonate()) as client:
            client.register(lambda ctx: gate.wait(10), name="waits")
            handle = await client.begin_run("x", "waits").created()
            try:
                with pytest.raises(InsideEventLoop) as refused:
                    use(client)
            finally:
                gate.set()
            assert await handle is True
            return refused.value.instead

    assert asyncio.run(main()) == instead


def test_what_programs_for_the_official_client_do_in_a_handler_is_done_on_the_loop_of_the_client() -> None:
    async def waits(ctx: Context) -> Any:
        return await ctx.promise(id="approval")

    async def main() -> Any:
        async with Resonate() as client:
            client.register(waits)
            handle = await client.aio.begin_run("x", waits)
            while (await handle.aio.why())[-1].id != "approval":
                await asyncio.sleep(0)
            client.promises.resolve("approval", data='"yes"')
            client.schedule("s", waits, "0 0 * * *").delete()
            return await client.get("x")

    assert asyncio.run(main()) == "yes"


def test_blocking_its_own_loop_from_an_async_function_is_refused(client: Resonate) -> None:
    async def blocks(ctx: Context) -> str:
        try:
            client.run("y", double, 1)
        except InsideEventLoop as refused:
            return refused.instead
        return "blocked"

    client.register(blocks)

    assert client.begin_run("x", blocks).result(timeout=10) == "await r.aio.run(...)"


def test_what_is_done_may_be_read_on_the_loop() -> None:
    async def main() -> list[Any]:
        async with with_functions(Resonate()) as client:
            handle = client.begin_run("x", double, 1)
            return [await handle, handle.result(), handle.done(), client.get("x").result()]

    assert asyncio.run(main()) == [2, 2, True, 2]


def test_in_a_notebook_run_blocks_and_warns_once(client: Resonate, caplog: pytest.LogCaptureFixture) -> None:
    async def cell(n: int) -> list[Any]:
        return [
            client.run(f"x-{n}", at_once, 1),
            client.rpc(f"y-{n}", in_steps, 1),
            client.begin_run(f"z-{n}", at_once, 1).result(timeout=10),
        ]

    loop = asyncio.new_event_loop()
    results = [loop.run_until_complete(cell(n)) for n in range(3)]
    loop.close()

    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert results == [[2, 2, 2]] * 3
    assert len(warnings) == 1
    assert warnings[0].startswith("run() blocks the running event loop until it is done")
    assert "`await r.aio.run(...)`" in warnings[0]


# ---- life ---------------------------------------------------------------------------------------------------


def test_async_with_stops_at_the_end_also_after_an_error() -> None:
    async def main() -> Resonate:
        client = with_functions(Resonate())
        with pytest.raises(KeyError):
            async with client as same:
                assert same is client
                raise KeyError("mine")
        return client

    with pytest.raises(ClientStopped):
        asyncio.run(main()).run("x", double, 1)


def test_leaving_the_block_ends_what_waits_there() -> None:
    async def main() -> Any:
        async with Resonate() as client:

            async def waits(ctx: Context) -> None:
                await ctx.promise()

            client.register(waits)
            handle = await client.aio.begin_run("x", waits)
            waiting = asyncio.gather(handle, client.aio.run("y", waits), return_exceptions=True)
            while len(client._core.started().watch.completions) < 2:
                await asyncio.sleep(0)
        return [type(error) for error in await waiting]

    assert asyncio.run(main()) == [ResonateShutdownError] * 2


def test_stopping_waits_for_a_busy_step_without_blocking_the_loop() -> None:
    async def main() -> bool:
        gate, entered = threading.Event(), threading.Event()
        client = Resonate()

        def busy(ctx: Context) -> None:
            entered.set()
            gate.wait(10)

        client.register(busy)
        await client.aio.start()
        client.begin_run("x", busy)
        await asyncio.to_thread(entered.wait, 10)
        stopping = asyncio.ensure_future(client.aio.stop())
        for _ in range(10):
            await asyncio.sleep(0)
        waits = not stopping.done()
        gate.set()
        await stopping
        return waits

    assert asyncio.run(main()) is True


def test_an_async_function_may_stop_its_own_client(client: Resonate) -> None:
    async def stops(ctx: Context) -> None:
        await client.aio.stop()

    client.register(stops)

    with pytest.raises(ResonateShutdownError):
        client.begin_run("x", stops).result(timeout=10)


# ---- max_concurrent -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["run", "begin_run"])
def test_beyond_max_concurrent_aio_run_waits_without_blocking_the_loop(method: str) -> None:
    running = most = 0

    async def counts(ctx: Context, n: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return n

    async def main() -> Any:
        async with Resonate(max_concurrent=2) as client:
            client.register(counts)
            return await asyncio.gather(*(call(client, method, f"x-{n}", counts, n) for n in range(20)))

    assert asyncio.run(main()) == list(range(20))
    assert 1 <= most <= 2


def test_an_async_function_may_call_aio_run_whatever_max_concurrent_is() -> None:
    async def main() -> int:
        async with with_functions(Resonate(max_concurrent=1)) as client:

            async def nests(ctx: Context) -> int:
                result: int = await client.aio.run("y", at_once, 1)
                return result

            client.register(nests)
            result: int = await client.aio.run("x", nests)
            return result

    assert asyncio.run(main()) == 2


@places.in_memory  # where it would wait for I/O too, it returns at once
def test_plain_begin_run_is_refused_on_the_clients_loop_when_it_would_have_to_wait() -> None:
    async def main() -> Any:
        gate = threading.Event()
        async with with_functions(Resonate(max_concurrent=1)) as client:
            client.register(lambda ctx: gate.wait(10), name="waits")
            handle = client.begin_run("x", "waits")
            try:
                with pytest.raises(CapacityError, match=r"await r.aio.begin_run"):
                    client.begin_run("y", double, 1)
            finally:
                gate.set()
            return await handle, await client.aio.run("y", double, 1)

    assert asyncio.run(main()) == (True, 2)


# ---- promises -------------------------------------------------------------------------------------------------


def test_promises_have_awaitable_forms_of_their_own() -> None:
    async def main() -> Any:
        async with Resonate() as client:
            promises = client.promises.aio
            await promises.create("p", 10**15)
            handle = await client.aio.get("p")
            await promises.resolve("p", data='"yes"')
            return await handle, (await promises.get("p")).state

    assert asyncio.run(main()) == ("yes", "RESOLVED")


def test_an_async_function_that_cancels_itself_has_failed_and_its_callers_are_told() -> None:
    async def gives_up(ctx: Context) -> None:
        raise asyncio.CancelledError("mine")

    async def main() -> None:
        async with Resonate() as client:
            client.register(gives_up)
            with pytest.raises(RemoteError, match="mine"):
                await client.options(retry_policy=Never()).aio.run("x", gives_up)

    asyncio.run(asyncio.wait_for(main(), 20))
