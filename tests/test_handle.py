"""`Handle`: result, await, done, cancel and future."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Generator, Iterator
from datetime import timedelta
from typing import Any

import pytest

from resonate import Context, Handle, Resonate
from resonate.errors import ResonateCanceledError, ResonateShutdownError, ResonateTimedoutError
from resonate.testing import World

pytestmark = pytest.mark.usefixtures("place")


class Gated:
    """A function that runs until it is let go."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Event()

    def register(self, client: Resonate) -> None:
        def gated(ctx: Context, value: Any = 42) -> Any:
            self.entered.set()
            assert self.gate.wait(30)
            return value

        client.register(gated)


@pytest.fixture
def client() -> Iterator[Resonate]:
    with Resonate() as client:
        client.register(add_one)
        client.register(fail)
        client.register(sleeps)
        yield client


@pytest.fixture
def gated(client: Resonate) -> Iterator[Gated]:
    gated = Gated()
    gated.register(client)
    yield gated
    gated.gate.set()


def add_one(ctx: Context, x: int) -> int:
    return x + 1


def fail(ctx: Context) -> Generator[Any, Any, None]:
    yield from ()
    raise KeyError("missing")


def sleeps(ctx: Context, seconds: float) -> Generator[Any, Any, str]:
    yield ctx.sleep(seconds)
    return "awake"


# ---- result ------------------------------------------------------------------------------------------------


def test_a_result_may_be_asked_for_again_and_again_by_any_handle(client: Resonate) -> None:
    handle = client.begin_run("x", add_one, 1)

    assert [handle.result(timeout=10), handle.result(), client.get("x").result(), handle.result(timeout=0)] == [2] * 4


def test_an_error_may_be_asked_for_again_and_again(client: Resonate) -> None:
    handle = client.begin_run("x", fail)

    for _ in range(3):
        with pytest.raises(KeyError, match="missing"):
            handle.result(timeout=10)


def test_the_traceback_of_an_error_does_not_grow_with_each_reader(client: Resonate) -> None:
    handle = client.begin_run("x", fail)
    lengths = []

    for _ in range(3):
        with pytest.raises(KeyError) as raised:
            handle.result(timeout=10)
        lengths.append(len(raised.traceback))

    assert len(set(lengths)) == 1


def test_a_result_that_is_too_late_is_a_timeout_and_the_execution_goes_on(client: Resonate, gated: Gated) -> None:
    handle = client.begin_run("x", "gated")

    with pytest.raises(TimeoutError, match=r"x is not done after 0.001 s; it goes on, call result\(\) again"):
        handle.result(timeout=0.001)
    gated.gate.set()

    assert handle.result(timeout=10) == 42


def test_a_wait_given_as_a_timedelta_is_told_in_seconds(client: Resonate, gated: Gated) -> None:
    with pytest.raises(TimeoutError, match=r"x is not done after 0.005 s;"):
        client.begin_run("x", "gated").result(timedelta(milliseconds=5))
    gated.gate.set()


@pytest.mark.parametrize("timeout", [0, 0.0, -1, timedelta(microseconds=1)], ids=repr)
def test_a_wait_may_be_of_any_length_also_none(client: Resonate, gated: Gated, timeout: Any) -> None:
    with pytest.raises(TimeoutError):
        client.begin_run("x", "gated").result(timeout=timeout)


@pytest.mark.parametrize("timeout", [10**12, float("inf"), timedelta.max, None], ids=repr)
def test_a_wait_may_be_as_long_as_one_likes(client: Resonate, gated: Gated, timeout: Any) -> None:
    handle = client.begin_run("x", "gated")
    threading.Timer(0.01, gated.gate.set).start()

    assert handle.result(timeout=timeout) == 42


@pytest.mark.parametrize(
    ("timeout", "error", "text"),
    [
        ("1", TypeError, r"timeout must be `int \| float \| timedelta \| None` \(seconds\), got str"),
        (True, TypeError, "timeout must be .*, got bool"),
        (float("nan"), ValueError, "timeout must be a number of seconds, got nan"),
    ],
    ids=repr,
)
def test_a_wait_that_is_no_duration_is_refused_also_when_nothing_has_to_be_waited_for(
    client: Resonate, timeout: Any, error: type[Exception], text: str
) -> None:
    handle = client.begin_run("x", add_one, 1)
    assert handle.result(timeout=10) == 2

    with pytest.raises(error, match=text):
        handle.result(timeout=timeout)


def test_any_number_of_threads_may_wait_for_one_execution(client: Resonate, gated: Gated) -> None:
    handles = [client.begin_run("x", "gated"), client.begin_rpc("x", "gated"), client.get("x")]

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        waiting = [pool.submit(handle.result, 10) for handle in handles * 4]
        assert gated.entered.wait(10)
        gated.gate.set()

        assert [each.result() for each in waiting] == [42] * 12


def test_a_function_may_wait_for_a_handle_of_another_execution(client: Resonate) -> None:
    @client.register
    def waits(ctx: Context) -> int:
        return client.begin_run("other", add_one, 1).result(timeout=10)

    assert client.run("x", waits) == 2


# ---- done ----------------------------------------------------------------------------------------------------


def test_done_tells_whether_the_outcome_is_there(client: Resonate, gated: Gated) -> None:
    handle = client.begin_run("x", "gated")
    before = handle.done()

    gated.gate.set()
    handle.result(timeout=10)

    assert (before, handle.done(), client.get("x").done()) == (False, True, True)


def test_done_is_true_of_a_failure(client: Resonate) -> None:
    handle = client.begin_run("x", fail)
    with pytest.raises(KeyError):
        handle.result(timeout=10)

    assert handle.done()
    assert client.get("x").done()


def test_done_of_what_somebody_else_settles_becomes_true_by_itself(client: Resonate) -> None:
    client.promises.create("p", 10**15)
    handle = client.get("p")
    assert not handle.done()

    client.promises.resolve("p", data="1")

    assert handle.result(timeout=10) == 1
    assert handle.done()


# ---- await ---------------------------------------------------------------------------------------------------


def test_a_handle_can_be_awaited_in_any_loop_again_and_again(client: Resonate, gated: Gated) -> None:
    handle = client.begin_run("x", "gated")

    async def waits() -> list[Any]:
        waiting = asyncio.gather(*(wrap(handle) for _ in range(3)))
        await asyncio.sleep(0)
        gated.gate.set()
        return [*await waiting, await handle]

    assert asyncio.run(waits()) == [42] * 4
    assert asyncio.run(wrap(handle)) == 42


def test_awaiting_raises_what_the_function_raised(client: Resonate) -> None:
    handle = client.begin_run("x", fail)

    with pytest.raises(KeyError, match="missing"):
        asyncio.run(wrap(handle))


def test_who_gives_up_awaiting_leaves_the_execution_and_other_waiters_alone(client: Resonate, gated: Gated) -> None:
    handle = client.begin_run("x", "gated")

    async def waits() -> Any:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wrap(handle), 0.001)
        other = asyncio.ensure_future(wrap(handle))
        await asyncio.sleep(0)
        gated.gate.set()
        return await other

    assert asyncio.run(waits()) == 42


def test_an_outcome_that_comes_after_the_waiting_loop_is_closed_harms_nobody(client: Resonate, gated: Gated) -> None:
    handle = client.begin_run("x", "gated")

    async def gives_up() -> None:
        waiting.append(asyncio.ensure_future(wrap(handle)))
        await asyncio.sleep(0)

    waiting: list[Any] = []
    asyncio.run(gives_up())
    gated.gate.set()

    assert handle.result(timeout=10) == 42


def test_created_gives_the_handle_itself_once_the_promise_is_there(client: Resonate) -> None:
    handle = client.begin_run("x", add_one, 1)

    assert asyncio.run(handle.created()) is handle
    assert client.promises.get("x").id == "x"


async def wrap(handle: Handle[Any]) -> Any:
    return await handle


# ---- future --------------------------------------------------------------------------------------------------


def test_the_future_is_one_of_concurrent_futures_and_always_the_same(client: Resonate) -> None:
    handle = client.begin_run("x", add_one, 1)

    future = handle.future

    assert type(future) is concurrent.futures.Future
    assert handle.future is future
    assert (future.result(timeout=10), future.exception(), future.done()) == (2, None, True)


def test_the_future_of_a_failure_has_its_error(client: Resonate) -> None:
    handle = client.begin_run("x", fail)

    assert type(handle.future.exception(timeout=10)) is KeyError


def test_futures_of_handles_work_with_the_functions_of_concurrent_futures(client: Resonate) -> None:
    futures = [client.begin_run(f"x-{n}", add_one, n).future for n in range(5)]

    done, waiting = concurrent.futures.wait(futures, timeout=10)

    assert (sorted(future.result() for future in done), waiting) == ([1, 2, 3, 4, 5], set())


def test_cancelling_the_future_changes_nothing(client: Resonate, gated: Gated) -> None:
    handle = client.begin_run("x", "gated")

    cancelled = handle.future.cancel()
    gated.gate.set()

    assert (cancelled, handle.future.result(timeout=10), handle.result(timeout=10)) == (False, 42, 42)


# ---- cancel ----------------------------------------------------------------------------------------------------


def test_a_cancelled_execution_is_over_for_every_waiter(client: Resonate) -> None:
    handle = client.begin_run("x", sleeps, 3600)
    other = client.get("x")

    handle.cancel()

    for waiter in (handle, other, client.get("x")):
        with pytest.raises(ResonateCanceledError) as raised:
            waiter.result(timeout=10)
        assert raised.value.promise_id == "x"
    assert client.promises.get("x").state == "REJECTED_CANCELED"


def test_cancelling_settles_what_the_execution_waits_for(client: Resonate) -> None:
    @client.register
    def waits(ctx: Context) -> Generator[Any, Any, None]:
        promise = yield ctx.promise()
        ready.set()
        yield promise

    ready = threading.Event()
    handle = client.begin_run("x", waits)
    assert ready.wait(10)

    handle.cancel()

    with pytest.raises(ResonateCanceledError):
        handle.result(timeout=10)
    assert client.promises.get("x:1").state == "REJECTED_CANCELED"


def test_a_busy_step_does_not_keep_the_caller_from_hearing_of_the_cancellation(client: Resonate, gated: Gated) -> None:
    handle = client.begin_run("x", "gated")
    assert gated.entered.wait(10)

    handle.cancel()

    with pytest.raises(ResonateCanceledError):
        handle.result(timeout=10)


def test_cancelling_what_is_settled_changes_nothing(client: Resonate) -> None:
    handle = client.begin_run("x", add_one, 1)
    assert handle.result(timeout=10) == 2

    handle.cancel()

    assert (handle.result(), client.get("x").result()) == (2, 2)
    assert client.promises.get("x").state == "RESOLVED"


def test_cancelling_twice_is_cancelling_once(client: Resonate) -> None:
    handle = client.begin_run("x", sleeps, 3600)

    handle.cancel()
    client.get("x").cancel()

    with pytest.raises(ResonateCanceledError):
        handle.result(timeout=10)


def test_a_call_of_a_cancelled_id_joins_the_cancellation(client: Resonate) -> None:
    client.begin_run("x", sleeps, 3600).cancel()

    with pytest.raises(ResonateCanceledError):
        client.run("x", sleeps, 3600)


# ---- time and end ------------------------------------------------------------------------------------------------


def test_a_handle_waits_until_a_sleeping_function_wakes(world: World) -> None:
    client = world.client()
    client.register(sleeps)
    began = world.clock.now()

    assert client.begin_run("x", sleeps, 86400).result() == "awake"
    assert world.clock.now() - began == 86_400_000


def test_the_deadline_reaches_a_handle_of_a_sleeping_function(world: World) -> None:
    client = world.client()
    client.register(sleeps)
    handle = client.options(timeout=60).begin_run("x", sleeps, 86400)

    with pytest.raises(ResonateTimedoutError) as raised:
        handle.result()

    assert raised.value.timeout * 1000 == world.clock.now()


def test_an_open_handle_of_a_stopped_client_says_so(client: Resonate) -> None:
    handle, done = client.begin_run("x", sleeps, 3600), client.begin_run("y", add_one, 1)
    assert done.result(timeout=10) == 2

    client.stop()

    with pytest.raises(ResonateShutdownError, match="the client was stopped"):
        handle.result(timeout=10)
    with pytest.raises(ResonateShutdownError):
        asyncio.run(wrap(handle))
    assert type(handle.future.exception(timeout=10)) is ResonateShutdownError
    assert done.result() == 2


def test_a_handle_shows_its_id(client: Resonate) -> None:
    assert repr(client.begin_run("x", add_one, 1)) == "Handle('x')"
