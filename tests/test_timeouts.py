"""Deadlines: whoever waits is told when they pass, also while a step is still busy."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from resonate import Resonate
from resonate.errors import ResonateTimedoutError, StorageUnavailable
from resonate.protocol.requests import PromiseGet, Request, Response
from resonate.retry_policies import Constant
from resonate.testing import World, WorldClient
from resonate.worker import tenure
from tests.homes import until

pytestmark = pytest.mark.usefixtures("place")

Program = Callable[..., Any]


def sleeps(ctx: Any, seconds: float) -> Any:
    yield ctx.sleep(seconds)
    return "slept"


async def asleeps(ctx: Any, seconds: float) -> str:
    await ctx.sleep(seconds)
    return "slept"


def waits(ctx: Any, seconds: float) -> Any:
    return (yield (yield ctx.promise()))


def calls(ctx: Any, seconds: float) -> Any:
    return (yield ctx.rpc("sleeps", seconds))


def nested(ctx: Any, seconds: float) -> Any:
    return (yield ctx.run(sleeps, seconds))


def seconds_in(world: World, act: Callable[[], object]) -> float:
    before = world.clock.now()
    act()
    return (world.clock.now() - before) / 1000


# ---- of a root -----------------------------------------------------------------------------------


@pytest.mark.parametrize("func", [sleeps, asleeps, waits, calls, nested])
@pytest.mark.parametrize("timeout", [5, 5.0, timedelta(seconds=5)], ids=["int", "float", "timedelta"])
@pytest.mark.parametrize("how", ["run", "rpc"])
def test_the_deadline_of_a_root_reaches_its_caller(
    resonate: WorldClient, world: World, how: str, func: Program, timeout: Any
) -> None:
    resonate.register(sleeps)
    if func is not sleeps:
        resonate.register(func)
    options = resonate.options(timeout=timeout)

    with pytest.raises(ResonateTimedoutError) as caught:
        took = seconds_in(world, lambda: getattr(options, how)("p", func, 60))
        assert took == pytest.approx(5, abs=0.1)
    assert caught.value.promise_id == "p"
    assert caught.value.timeout == pytest.approx(world.clock.now() / 1000, abs=0.2)
    assert resonate.promises.get("p").timedout


@pytest.mark.parametrize("kind", ["generator", "async"])
def test_a_function_is_told_of_a_deadline_of_its_step_while_that_is_still_busy(kind: str) -> None:
    told = threading.Event()
    was_told: list[bool] = []

    def busy(ctx: Any) -> None:
        was_told.append(told.wait(20))

    def generator(ctx: Any) -> Any:
        try:
            yield ctx.run(busy).options(timeout=0.3)
        except ResonateTimedoutError:
            told.set()

    async def function(ctx: Any) -> None:
        try:
            await ctx.run(busy).options(timeout=0.3)  # after the first beat
        except ResonateTimedoutError:
            told.set()

    chosen: Any = generator if kind == "generator" else function
    with Resonate() as client:
        client.register(chosen)
        client.run("p", chosen)
        until(lambda: bool(was_told))

    assert was_told == [True]


@pytest.mark.parametrize("timeout", [0, 0.0])
def test_a_timeout_of_zero_is_a_timeout(resonate: WorldClient, timeout: float) -> None:
    resonate.register(sleeps)

    with pytest.raises(ResonateTimedoutError):
        resonate.options(timeout=timeout).run("p", sleeps, 1)


@pytest.mark.parametrize("func", ["plain", "async", "nested"])
def test_the_caller_is_told_while_a_step_is_still_busy(func: str) -> None:
    over, seen = threading.Event(), threading.Event()

    def plain(ctx: Any) -> str:
        until(lambda: ctx.cancelled)
        seen.set()
        assert over.wait(10)
        return "late"

    async def function(ctx: Any) -> Any:
        return await ctx.run(plain)

    def outer(ctx: Any) -> Any:
        return (yield ctx.run(plain))

    chosen = {"plain": plain, "async": function, "nested": outer}[func]
    with Resonate() as client:
        client.register(chosen)
        began = time.monotonic()
        with pytest.raises(ResonateTimedoutError):
            client.options(timeout=0.1).run("p", chosen)

        assert 0.05 < time.monotonic() - began < 5
        assert seen.wait(10)
        over.set()
        assert client.promises.get("p").timedout


def test_a_deadline_that_cannot_be_seen_to_have_passed_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tenure, "AGAIN", 0.0)
    asked: list[int] = []
    over = threading.Event()

    def plain(ctx: Any) -> None:
        assert over.wait(20)

    with Resonate() as client:
        client.register(plain)
        handle = client.begin_run("p", plain)
        worker = client._core.started()
        network = worker.network
        send = network.send

        def cut_off(requests: Sequence[Request], **how: Any) -> list[Response]:
            if list(requests) == [PromiseGet("p")]:
                asked.append(1)
                if len(asked) <= 2:
                    raise StorageUnavailable("the database is away")
            return send(requests, **how)

        monkeypatch.setattr(network, "send", cut_off)
        worker.tenure._passed(worker.held["p"])  # by the clock of this process
        until(lambda: len(asked) >= 3)
        over.set()
        handle.result(20)

    said = [record for record in caplog.records if "cannot be seen yet, trying again" in record.getMessage()]
    assert len(said) == 2
    assert not any(record.exc_info for record in caplog.records)


def test_what_comes_after_the_deadline_has_no_effect() -> None:
    over, ran = threading.Event(), []

    def busy(ctx: Any) -> None:
        assert over.wait(10)

    def program(ctx: Any) -> Any:
        try:
            yield ctx.run(busy)
        finally:
            ran.append("finally")
        yield ctx.run(lambda _: ran.append("after"))

    with Resonate() as client:
        client.register(program)
        with pytest.raises(ResonateTimedoutError):
            client.options(timeout=0.05).run("p", program)
        over.set()
        until(lambda: ran == ["finally"])

    assert ran == ["finally"]


def test_a_deadline_that_is_far_away_is_kept_by_the_sweep(resonate: WorldClient, world: World) -> None:
    """Near deadlines have a timer; ones further than a minute are looked for now and then."""

    def polls(ctx: Any) -> Any:
        while True:
            yield ctx.run(lambda ctx: None).options(durable=False)
            yield ctx.sleep(7)

    resonate.register(polls)

    took = seconds_in(world, lambda: expect_timeout(lambda: resonate.options(timeout=600).run("p", polls)))
    assert took == pytest.approx(600, abs=1)


def expect_timeout(act: Callable[[], object]) -> None:
    with pytest.raises(ResonateTimedoutError):
        act()


# ---- of a child ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["run", "rpc", "begin_run", "begin_rpc"])
@pytest.mark.parametrize("func", [sleeps, asleeps, waits])
def test_the_deadline_of_a_child_is_an_error_of_who_waits(
    resonate: WorldClient, world: World, how: str, func: Program
) -> None:
    def program(ctx: Any) -> Any:
        began = world.clock.now()
        with pytest.raises(ResonateTimedoutError) as caught:
            promise = yield getattr(ctx, how)(func, 60).options(timeout=5)
            yield promise
        assert world.clock.now() - began == pytest.approx(5000, abs=100)
        return [caught.value.promise_id, (yield ctx.run(sleeps, 1))]

    resonate.register(func)
    resonate.register(program)

    assert resonate.run("p", program) == ["p:1", "slept"]
    assert resonate.promises.get("p:1").timedout


def test_a_plain_child_that_is_busy_is_left_behind_and_its_result_is_not_recorded() -> None:
    over, ended = threading.Event(), threading.Event()

    def busy(ctx: Any) -> str:
        until(lambda: ctx.cancelled)
        assert over.wait(10)
        ended.set()
        return "late"

    def program(ctx: Any) -> Any:
        try:
            return (yield ctx.run(busy).options(timeout=0.05))
        except ResonateTimedoutError as error:
            over.set()
            assert ended.wait(10)
            return error.promise_id

    with Resonate() as client:
        client.register(program)

        assert client.run("p", program) == "p:1"
        assert client.promises.get("p:1").timedout


def test_code_below_a_child_that_timed_out_is_closed(resonate: WorldClient) -> None:
    log: list[str] = []

    def inner(ctx: Any) -> Any:
        try:
            yield ctx.sleep(60)
        finally:
            log.append("inner closed")
        log.append("never")

    def outer(ctx: Any) -> Any:
        try:
            yield ctx.run(inner)
        except Exception:
            log.append("never")
            raise
        finally:
            log.append("outer closed")

    def program(ctx: Any) -> Any:
        with pytest.raises(ResonateTimedoutError):
            yield ctx.run(outer).options(timeout=5)
        yield ctx.sleep(100)
        return "went on"

    resonate.register(program)

    assert resonate.run("p", program) == "went on"
    assert sorted(log) == ["inner closed", "outer closed"]


def test_a_bare_promise_that_nobody_settles_times_out(resonate: WorldClient) -> None:
    def program(ctx: Any) -> Any:
        promise = yield ctx.promise(timeout=5)
        try:
            yield promise
        except ResonateTimedoutError as error:
            return error.promise_id

    resonate.register(program)

    assert resonate.run("p", program) == "p:1"


def test_one_deadline_does_not_touch_the_calls_beside_it(resonate: WorldClient) -> None:
    def program(ctx: Any) -> Any:
        slow = yield ctx.begin_run(sleeps, 30)
        hopeless = yield ctx.begin_run(sleeps, 60).options(timeout=5)
        with pytest.raises(ResonateTimedoutError):
            yield hopeless
        return (yield slow)

    resonate.register(program)

    assert resonate.run("p", program) == "slept"


# ---- with retries --------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["root", "child"])
def test_no_attempt_is_waited_for_beyond_the_deadline(resonate: WorldClient, world: World, where: str) -> None:
    tries: list[int] = []

    def fails(ctx: Any) -> None:
        tries.append(ctx.info.attempt)
        raise ConnectionError(f"attempt {ctx.info.attempt}")

    def program(ctx: Any) -> Any:
        yield ctx.run(fails).options(retry_policy=Constant(delay=4), timeout=10)

    resonate.register(fails)
    resonate.register(program)

    def act() -> None:
        with pytest.raises(ConnectionError, match=r"attempt 3"):
            if where == "root":
                resonate.options(retry_policy=Constant(delay=4), timeout=10).run("p", fails)
            else:
                resonate.run("p", program)

    assert seconds_in(world, act) == pytest.approx(8, abs=0.1)
    assert tries == [1, 2, 3]


# ---- waiting -------------------------------------------------------------------------------------


def test_waiting_shorter_than_it_takes_is_pythons_timeout_and_the_execution_goes_on(resonate: WorldClient) -> None:
    resonate.register(sleeps)
    handle = resonate.begin_run("p", sleeps, 10)

    with pytest.raises(TimeoutError) as caught:
        handle.result(timeout=1)
    assert not isinstance(caught.value, ResonateTimedoutError)
    assert handle.result() == "slept"
