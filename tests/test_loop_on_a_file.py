"""An event loop with a client on a file: nothing that waits for the disk blocks it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from resonate import Context, Resonate
from resonate.errors import FunctionNotFound, IdConflict, InsideEventLoop, ResonateStoreError

pytestmark = pytest.mark.timeout(30)


def double(ctx: Context, n: int) -> int:
    return 2 * n


def program(ctx: Context, n: int) -> Generator[Any, Any, int]:
    result: int = yield ctx.run(double, n)
    return result


async def aprogram(ctx: Context, n: int) -> int:
    values = await asyncio.gather(*(ctx.run(double, i) for i in range(n)))
    return sum(values)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/app.db?synchronous=off"


def client(url: str) -> Resonate:
    made = Resonate(url=url)
    for func in (double, program, aprogram):
        made.register(func)
    return made


def on_loop_threads(made: Resonate) -> list[str]:
    """The names of the threads that answer the client's requests from now on."""
    network = made._core.started().network
    send, names = network.send, []

    def noted(*args: Any, **kwargs: Any) -> Any:
        names.append(threading.current_thread().name)
        return send(*args, **kwargs)

    network.send = noted  # type: ignore[method-assign]
    return names


def test_no_request_is_answered_on_the_loops_own_thread(url: str) -> None:
    async def main() -> list[str]:
        async with client(url) as r:
            names = on_loop_threads(r)
            assert await r.aio.run("a", program, 4) == 8
            assert await r.aio.run("b", aprogram, 4) == 12
            assert await r.aio.rpc("c", "program", 5) == 10
            assert await (await r.aio.get("a")) == 8
            handle = r.begin_run("d", program, 6)
            assert await handle == 12
            assert (await handle.aio.status()).state == "succeeded"
            assert len((await handle.aio.tree()).calls) == 1
            assert await handle.aio.why() == []
            await handle.aio.cancel()  # it has ended, and stays as it is
            await r.aio.purge("d")
            return names

    assert threading.current_thread().name not in asyncio.run(main())


def test_begin_run_on_the_loop_returns_before_the_promise_is_durable_and_created_waits_for_it(url: str) -> None:
    async def main() -> None:
        async with client(url) as r:
            handle = r.begin_run("a", program, 4)
            assert not handle.done()
            with pytest.raises(ResonateStoreError, match="not found"):
                r.get("a")
            assert await handle.created() is handle
            assert r.promises.get("a").id == "a"
            assert await handle == 8
            assert handle.done()
            assert handle.result() == 8

    asyncio.run(main())


def test_what_is_wrong_with_a_call_is_raised_at_once_or_by_the_handle(url: str) -> None:
    async def main() -> None:
        async with client(url) as r:
            with pytest.raises(FunctionNotFound):
                r.begin_run("x", "unknown")
            await r.aio.run("a", program, 4)
            handle = r.begin_run("a", program, 5)
            with pytest.raises(IdConflict):
                await handle
            with pytest.raises(IdConflict):
                await r.begin_run("a", program, 5).created()

    asyncio.run(main())


def test_a_handle_that_is_being_created_blocks_no_loop_and_may_be_waited_for_by_other_threads(url: str) -> None:
    async def main() -> int:
        async with client(url) as r:
            handle = r.begin_run("a", program, 4)
            with pytest.raises(InsideEventLoop):
                handle.result()
            value: int = await asyncio.to_thread(handle.result, 20)
            return value

    assert asyncio.run(main()) == 8


def test_hundreds_of_runs_begun_together_all_end(url: str) -> None:
    async def main() -> list[int]:
        async with client(url) as r:
            return list(await asyncio.gather(*(r.aio.run(f"r{n}", program, n) for n in range(300))))

    assert asyncio.run(main()) == [2 * n for n in range(300)]
