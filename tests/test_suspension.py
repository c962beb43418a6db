"""Suspension: frames stay warm and go on in place, or are closed and replayed; both give the same result."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from resonate import Resonate
from resonate.errors import ExecutionStopped, ResonateShutdownError, ResonateTimedoutError, StorageUnavailable
from resonate.retry_policies import Constant, Never
from resonate.testing import WorldClient
from resonate.worker import worker as worker_module
from tests import places
from tests.homes import Home, every_home, until

pytestmark = pytest.mark.usefixtures("place")

Program = Callable[..., Any]

RAN: list[str] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    RAN.clear()


def step(ctx: Any, name: str) -> str:
    RAN.append(name)
    return name


def waits(ctx: Any) -> Any:
    RAN.append("code")
    before = yield ctx.run(step, "before")
    promise = yield ctx.promise(id="answer")
    answer = yield promise
    after = yield ctx.run(step, "after")
    return [before, answer, after]


async def awaits(ctx: Any) -> Any:
    RAN.append("code")
    before = await ctx.run(step, "before")
    answer = await ctx.promise(id="answer")
    after = await ctx.run(step, "after")
    return [before, answer, after]


# ---- warm and evicted ----------------------------------------------------------------------------


@every_home
@pytest.mark.parametrize("func", [waits, awaits])
def test_a_function_goes_on_where_it_waited_and_no_step_runs_twice(kind: str, evict: bool, func: Program) -> None:
    with Home(kind, evict) as home:
        handle = home.start("p", func)
        home.suspended("p")
        home.resolve("answer", '"yes"')

        assert handle.result() == ["before", "yes", "after"]
        assert (["code", "before", "code", "after"] if evict else ["code", "before", "after"]) == RAN


def remote(ctx: Any, name: str) -> Any:
    yield (yield ctx.promise(id=f"go-{name}"))
    return (yield ctx.run(step, name))


def rpc(ctx: Any) -> Any:
    return (yield ctx.rpc("remote", "x"))


def begin_rpc(ctx: Any) -> Any:
    promise = yield ctx.begin_rpc("remote", "x")
    first = yield ctx.run(step, "own")
    return [first, (yield promise)][1]


def at_the_end(ctx: Any) -> Any:
    yield ctx.begin_rpc("remote", "x")
    return "x"


def in_a_child(ctx: Any) -> Any:
    return (yield ctx.run(rpc))


def in_an_async_child(ctx: Any) -> Any:
    return (yield ctx.run(arpc))


async def arpc(ctx: Any) -> Any:
    return await ctx.rpc("remote", "x")


async def in_a_generator_child(ctx: Any) -> Any:
    return await ctx.run(rpc)


def raced(ctx: Any) -> Any:
    return (yield ctx.race([ctx.rpc("remote", "x"), ctx.promise(id="never", timeout=0.3)]))


def all_of(ctx: Any) -> Any:
    return (yield ctx.all([ctx.run(step, "a"), ctx.rpc("remote", "x")]))[1]


def mapped(ctx: Any) -> Any:
    return (yield ctx.map(remote, ["x"], limit=1))[0]


@every_home
@pytest.mark.parametrize(
    "func",
    [
        rpc,
        begin_rpc,
        at_the_end,
        in_a_child,
        in_an_async_child,
        arpc,
        in_a_generator_child,
        raced,
        all_of,
        mapped,
    ],
)
def test_whatever_waits_for_a_remote_call_is_suspended_and_goes_on(kind: str, evict: bool, func: Program) -> None:
    with Home(kind, evict) as home:
        home.client.register(remote)
        handle = home.start("p", func)
        home.suspended("p", awaiting="go-x")
        home.resolve("go-x")

        assert handle.result() == "x"
        assert sorted(RAN) in (["x"], ["own", "x"], ["a", "x"])


@every_home
def test_the_outcome_of_what_was_awaited_may_be_a_failure(kind: str, evict: bool) -> None:
    def program(ctx: Any) -> Any:
        try:
            yield (yield ctx.promise(id="answer"))
        except Exception as error:
            RAN.append("caught")
            return (yield ctx.run(step, str(error.args[0])))

    with Home(kind, evict) as home:
        handle = home.start("p", program)
        home.suspended("p")
        home.client.promises.reject("answer", data='"refused"')

        assert handle.result() == "refused"


@every_home
def test_many_waits_one_after_the_other(kind: str, evict: bool) -> None:
    def program(ctx: Any) -> Any:
        for n in range(5):
            yield (yield ctx.promise(id=f"answer{n}"))
            yield ctx.run(step, str(n))
        return "done"

    with Home(kind, evict) as home:
        handle = home.start("p", program)
        for n in range(5):
            home.suspended("p", awaiting=f"answer{n}")
            home.resolve(f"answer{n}")

        assert handle.result() == "done"
        assert RAN == ["0", "1", "2", "3", "4"]


@every_home
def test_several_promises_may_be_settled_in_any_order(kind: str, evict: bool) -> None:
    def program(ctx: Any) -> Any:
        promises = []
        for n in range(4):
            promises.append((yield ctx.promise(id=f"answer{n}")))
        values = []
        for promise in promises:
            values.append((yield promise))
        return values

    with Home(kind, evict) as home:
        handle = home.start("p", program)
        home.suspended("p", awaiting="answer3")
        for n in (2, 0, 3):
            home.resolve(f"answer{n}", str(n))
        home.resolve("answer1", "1")

        assert handle.result() == [0, 1, 2, 3]


def test_a_promise_that_is_settled_in_time_is_not_waited_for(resonate: WorldClient) -> None:
    def program(ctx: Any) -> Any:
        promise = yield ctx.promise(id="answer")
        yield ctx.run(settle)
        return (yield promise)

    def settle(ctx: Any) -> None:
        resonate.promises.resolve("answer", data="5")

    resonate.register(program)

    assert resonate.run("p", program) == 5
    assert "TaskAcquire" not in resonate.world.trace.text()


def test_another_worker_goes_on_where_a_stopped_one_left_off() -> None:
    with places.world() as world:
        first, second = world.client(), world.client()
        first.register(waits)
        second.register(waits)
        handle = first.begin_run("p", waits)
        world.settle()
        theirs = second.begin_run("p", waits)
        first.stop()
        with pytest.raises(ResonateShutdownError):
            handle.result()
        world.promises.resolve("answer", data='"yes"')

        assert theirs.result() == ["before", "yes", "after"]
        assert RAN == ["code", "before", "code", "after"]


def test_a_warm_frame_is_replayed_when_another_worker_ran_in_between() -> None:
    def program(ctx: Any) -> Any:
        RAN.append("code")
        for name in ("one", "two"):
            yield (yield ctx.promise(id=name))
        return "done"

    with places.world() as world:
        first, second = world.client(ttl=5), world.client(ttl=5)
        for client in (first, second):
            client.register(program)
        handle = first.begin_run("p", program)
        second.start()
        world.settle()
        warm = first._core.started().warm["p"]
        first._core.started().intake._ignored.add("p")
        world.promises.resolve("one")
        world.advance(1)
        assert warm.execution.stop is None
        first._core.started().intake._ignored.clear()
        second._core.started().intake._ignored.add("p")
        world.promises.resolve("two")

        assert handle.result() == "done"
        assert RAN == ["code"] * 3
        world.check()


# ---- closing a frame -----------------------------------------------------------------------------


def test_closing_runs_finally_in_which_durable_calls_record_nothing() -> None:
    def program(ctx: Any) -> Any:
        try:
            yield (yield ctx.promise(id="answer"))
        except Exception:
            RAN.append("except")
            raise
        finally:
            RAN.append("finally")
            try:
                yield ctx.run(step, "cleanup")
            except ExecutionStopped as stopped:
                RAN.append("stopped: makes room" if "makes room for others" in str(stopped) else str(stopped))
                raise
        return "done"

    with Home("threads") as home:
        handle = home.start("p", program)
        home.suspended("p")
        home.close("p")
        until(lambda: RAN == ["finally", "stopped: makes room"])
        home.resolve("answer")

        assert handle.result() == "done"
        assert RAN == ["finally", "stopped: makes room", "finally", "cleanup"]


def test_closing_an_async_function_runs_finally_too() -> None:
    async def program(ctx: Any) -> Any:
        try:
            await ctx.promise(id="answer")
        except Exception:
            RAN.append("except")
            raise
        finally:
            RAN.append("finally")
            call = ctx.run(step, "cleanup")
            await asyncio.sleep(0)
            await call
        return "done"

    with Home("threads") as home:
        handle = home.start("p", program)
        home.suspended("p")
        home.close("p")
        until(lambda: RAN == ["finally"])
        home.resolve("answer")

        assert handle.result() == "done"
        assert RAN == ["finally", "finally", "cleanup"]


@pytest.mark.parametrize("kind", ["generator", "async"])
def test_a_function_that_swallows_its_stop_is_replayed_all_the_same(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    over = threading.Event()
    caught: list[str] = []  # its own: letting go of the abandoned code tells it once more, whenever that is

    def generator(ctx: Any) -> Any:
        while True:
            try:
                yield (yield ctx.promise(id="answer"))
                return "done"
            except BaseException:
                caught.append("swallowed")
                if over.is_set():
                    raise

    async def function(ctx: Any) -> Any:
        while True:
            try:
                await ctx.promise(id="answer")
                return "done"
            except BaseException:
                caught.append("swallowed")
                if over.is_set() or len(caught) > 1000:
                    raise

    with Home("threads") as home:
        handle = home.start("p", generator if kind == "generator" else function)
        home.suspended("p")
        home.close("p")
        home.resolve("answer")

        assert handle.result(10) == "done"
        until(lambda: "p was stopped and has caught that 100 times" in caplog.text)
        over.set()
        assert 99 <= len(caught) <= 100


def test_one_that_swallows_its_stop_once_and_returns_has_no_result_by_that() -> None:
    def program(ctx: Any) -> Any:
        try:
            return (yield (yield ctx.promise(id="answer")))
        except BaseException:
            RAN.append("swallowed")
            return "wrong"

    with Home("threads") as home:
        handle = home.start("p", program)
        home.suspended("p")
        home.close("p")
        until(lambda: "swallowed" in RAN)
        assert not handle.done()
        home.resolve("answer", '"right"')

        assert handle.result() == "right"


def test_stopping_the_client_closes_frames_and_tells_who_waits() -> None:
    cleaned = threading.Event()

    def program(ctx: Any) -> Any:
        try:
            yield (yield ctx.promise())
        finally:
            cleaned.set()

    home = Home("threads")
    handle = home.start("p", program)
    home.suspended("p")
    home.client.stop()

    assert cleaned.is_set()
    with pytest.raises(ResonateShutdownError):
        handle.result()


# ---- the bound on warm frames --------------------------------------------------------------------


@contextmanager
def at_most(warm: int, spare: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(worker_module, "WARM_LIMIT", warm)
    monkeypatch.setattr(worker_module, "WARM_SPARE", spare)
    yield


def test_beyond_the_bound_those_that_wake_last_are_closed(
    resonate: WorldClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleeper(ctx: Any, n: int) -> Any:
        RAN.append(f"code{n}")
        yield ctx.sleep(n)
        return n

    resonate.register(sleeper)
    with at_most(4, 2, monkeypatch):
        handles = [resonate.begin_run(f"p{n}", sleeper, n) for n in (50, 10, 40, 20, 30)]
        resonate.world.settle()
        warm = set(resonate._core.started().warm)

    assert warm == {"p10", "p20", "p30"}
    assert sorted(handle.result() for handle in handles) == [10, 20, 30, 40, 50]
    assert sorted(RAN) == sorted(["code10", "code20", "code30", *["code40"] * 2, *["code50"] * 2])


def test_sleepers_hold_no_threads() -> None:
    def sleeper(ctx: Any, n: int) -> Any:
        yield ctx.sleep(0.05)
        return n

    with Resonate(workers=2) as client:
        client.register(sleeper)
        handles = [client.begin_run(f"p{n}", sleeper, n) for n in range(200)]
        threads = [thread for thread in threading.enumerate() if thread.name.startswith("resonate-worker")]

        assert [handle.result(10) for handle in handles] == list(range(200))
        assert len(threads) <= 2


# ---- what must not change by it ------------------------------------------------------------------


def test_chance_and_time_are_the_same_after_a_replay() -> None:
    def program(ctx: Any) -> Any:
        drawn = [(yield ctx.random.random()), (yield ctx.time.time()), (yield ctx.random.choice(range(10**6)))]
        seen.append(drawn)
        yield (yield ctx.promise(id="answer"))
        return drawn

    seen: list[Any] = []
    with Home("threads", evict=True) as home:
        handle = home.start("p", program)
        home.suspended("p")
        home.resolve("answer")

        assert handle.result() == seen[0] == seen[1]


def test_tags_and_facts_are_the_same_after_a_replay() -> None:
    def program(ctx: Any) -> Any:
        info = ctx.info
        seen.append([info.tags, info.idempotency_key, info.timeout, info.version, info.attempt, ctx.id, info.parent_id])
        yield (yield ctx.promise(id="answer"))

    seen: list[Any] = []
    with Home("threads", evict=True) as home:
        home.client.register(program, version=2)
        options = home.client.options(tags={"a": "b"}, idempotency_key="k", timeout=1000)
        handle = options.begin_run("p", program)
        home.suspended("p")
        home.resolve("answer")
        handle.result()

        assert seen[0] == seen[1]
        assert seen[0][:2] == [{"a": "b"}, "k"]


def test_a_step_that_is_not_durable_runs_again_on_replay() -> None:
    def program(ctx: Any) -> Any:
        yield ctx.run(step, "lost").options(durable=False)
        yield ctx.run(step, "kept")
        return (yield (yield ctx.promise(id="answer")))

    with Home("threads", evict=True) as home:
        handle = home.start("p", program)
        home.suspended("p")
        home.resolve("answer", "1")

        assert handle.result() == 1
        assert RAN == ["lost", "kept", "lost"]


def test_the_retry_policy_of_a_root_is_the_same_after_a_replay(caplog: pytest.LogCaptureFixture) -> None:
    def program(ctx: Any) -> Any:
        yield (yield ctx.promise(id="answer"))
        RAN.append(str(ctx.info.attempt))
        if ctx.info.attempt < 3:
            raise ConnectionError
        return "done"

    with Home("threads", evict=True) as home:
        home.client.register(program)
        policy = Constant(delay=0, max_retries=5)
        handle = home.client.options(retry_policy=policy).begin_run("p", program)
        home.suspended("p")
        with caplog.at_level(logging.ERROR):
            home.resolve("answer")

        assert handle.result() == "done"
        assert RAN == ["1", "2", "3"]


def test_non_retryable_exceptions_and_policies_of_steps_hold_after_a_replay() -> None:
    def fails(ctx: Any) -> None:
        RAN.append("fails")
        raise KeyError("final")

    def program(ctx: Any) -> Any:
        yield (yield ctx.promise(id="answer"))
        with pytest.raises(KeyError):
            yield ctx.run(fails).options(non_retryable_exceptions=(LookupError,))
        with pytest.raises(KeyError):
            yield ctx.run(fails).options(retry_policy=Never())
        return "done"

    with Home("threads", evict=True) as home:
        handle = home.start("p", program)
        home.suspended("p")
        home.resolve("answer")

        assert handle.result(10) == "done"
        assert RAN == ["fails", "fails"]


@every_home
def test_a_deadline_that_passes_while_suspended_reaches_the_caller(kind: str, evict: bool) -> None:
    def program(ctx: Any) -> Any:
        yield (yield ctx.promise())

    with Home(kind, evict) as home:
        home.client.register(program)
        handle = home.client.options(timeout=0.1).begin_run("p", program)
        home.suspended("p")

        with pytest.raises(ResonateTimedoutError) as caught:
            handle.result(10)
        assert caught.value.promise_id == "p"


def test_a_write_that_fails_just_before_a_function_waits_is_not_its_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor can the task be given back: the storage is away until the lease has run out."""
    with Resonate(ttl=1) as client:
        worker = client._core.started()
        monkeypatch.setattr(worker.endings, "release", lambda *held: None)
        about_to_wait = threading.Event()

        def program(ctx: Any) -> Any:
            RAN.append("code")
            if len(RAN) == 1:
                worker.held["p"].writing.acquire()  # as if another thread were at a write
                about_to_wait.set()
            yield ctx.sleep(0.01)
            return "done"

        client.register(program)
        handle = client.begin_run("p", program)
        about_to_wait.wait(20)
        held = worker.held["p"]
        until(lambda: held.closing)
        worker.endings.abandon(held, StorageUnavailable("the disk is full"))
        held.writing.release()

        assert handle.result(20) == "done"
        assert RAN == ["code", "code"]
        until(lambda: not worker.held and not worker.warm)
