"""Events of the process are not results: nothing is settled, the task is released, and the event goes to the caller."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import resonate
from resonate import Resonate
from resonate.errors import ResonateShutdownError
from resonate.retry_policies import Constant
from tests.homes import until
from tests.state_worker import opened

pytestmark = pytest.mark.usefixtures("place")

Program = Callable[..., Any]
SOURCE = Path(resonate.__file__).parent.parent


class Once:
    """A step that raises an event the first time and succeeds the second."""

    def __init__(self, event: type[BaseException]) -> None:
        self.event = event
        self.ran = 0

    def step(self) -> Program:
        def step(ctx: Any) -> str:
            self.ran += 1
            if self.ran == 1:
                raise self.event("now")
            return "done"

        return step


def in_a_step(once: Once) -> Program:
    step = once.step()

    def program(ctx: Any) -> Any:
        return (yield ctx.run(step))

    return program


def in_a_generator(once: Once) -> Program:
    step = once.step()

    def program(ctx: Any) -> Any:
        yield ctx.sleep(0)
        return step(ctx)

    return program


def in_a_plain_root(once: Once) -> Program:
    return once.step()


def below(once: Once) -> Program:
    inner = in_a_step(once)

    def program(ctx: Any) -> Any:
        try:
            return (yield ctx.run(inner))
        except Exception:
            return "caught"

    return program


@pytest.mark.parametrize("event", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("make", [in_a_step, in_a_generator, in_a_plain_root, below])
def test_the_event_reaches_the_caller_and_nothing_is_settled(
    r: Resonate, event: type[BaseException], make: Callable[[Once], Program]
) -> None:
    once = Once(event)
    program = make(once)
    r.register(program)

    with pytest.raises(event, match=r"now"):
        r.run("p", program)
    storage = r._core.started().network.service.storage  # type: ignore[attr-defined]
    assert storage.promise("p").promise.state == "pending"
    assert storage.task("p").state == "pending"
    assert "p" not in r._core.started().held

    r._core.started().intake.registered()  # this process leaves it to others for a second otherwise
    assert r.run("p", program) == "done"
    assert once.ran == 2


@pytest.mark.parametrize("event", [KeyboardInterrupt, SystemExit])
def test_an_event_on_a_thread_of_the_pool_reaches_the_handle_and_the_pool_goes_on(
    r: Resonate, event: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    program = in_a_step(Once(event))
    r.register(program)
    handle = r.begin_run("p", program)

    with pytest.raises(event):
        handle.result(10)
    until(lambda: bool(caplog.records))
    [told] = caplog.records
    assert f"p raised {event.__name__}: now. That is no result: nothing is settled, the execution" in told.getMessage()
    assert told.exc_info is None
    assert r._core.started().network.service.storage.promise("p").promise.state == "pending"  # type: ignore[attr-defined]
    for n in range(4):
        assert r.begin_run(f"q{n}", r._core.shared.registry.get("other")[0] if n else r.register(other)).result(10) == 1


def other(ctx: Any) -> int:
    return 1


@pytest.mark.parametrize("event", [GeneratorExit, asyncio.CancelledError])
def test_other_base_exceptions_are_not_retried(r: Resonate, event: type[BaseException]) -> None:
    attempts: list[int] = []

    async def fails(ctx: Any) -> None:
        attempts.append(ctx.info.attempt)
        raise event("odd")

    r.register(fails)

    with pytest.raises(Exception, match=r"odd"):
        r.options(retry_policy=Constant(delay=0, max_retries=3)).run("p", fails)
    assert attempts == [1]


@pytest.mark.parametrize("event", [GeneratorExit, asyncio.CancelledError])
def test_other_base_exceptions_of_a_step_are_failures(r: Resonate, event: type[BaseException]) -> None:
    def fails(ctx: Any) -> Any:
        yield ctx.sleep(0)
        raise event("odd")

    r.register(fails)

    with pytest.raises(Exception, match=r"odd") as caught:
        r.run("p", fails)
    assert type(caught.value).__name__ == "RemoteError"
    assert r.promises.get("p").rejected


def test_a_cancellation_from_outside_settles_nothing() -> None:
    """Somebody cancels the asyncio task in which a durable function runs: that is no result either."""
    started = threading.Event()
    tasks: list[asyncio.Task[Any]] = []

    async def program(ctx: Any) -> str:
        if not tasks:
            task = asyncio.current_task()
            assert task is not None
            tasks.append(task)
            started.set()
            await asyncio.sleep(3600)
        return "done"

    async def main() -> Any:
        async with Resonate() as client:
            client.register(program)
            handle = await client.aio.begin_run("p", program)
            while not started.is_set():
                await asyncio.sleep(0)
            tasks[0].cancel()
            while "p" in client._core.started().held:
                await asyncio.sleep(0)
            pending = client.promises.get("p").pending
            client._core.started().intake.registered()
            return pending, await asyncio.wait_for(handle, 10)

    assert asyncio.run(main()) == (True, "done")


def test_cancelling_who_waits_cancels_only_the_wait() -> None:
    release = asyncio.Event()

    async def program(ctx: Any) -> str:
        await release.wait()
        return "done"

    async def main() -> Any:
        async with Resonate() as client:
            client.register(program)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.aio.run("p", program), 0.01)
            release.set()
            return await client.aio.run("p", program)

    assert asyncio.run(main()) == "done"


SCRIPT = """
import sys, threading
from resonate import Resonate
from resonate.errors import ResonateShutdownError

r = Resonate()
entered, forever = threading.Event(), threading.Event()
ran = []

def step(ctx):
    ran.append(1)
    if len(ran) == 1:
        print("in the step", flush=True)
        forever.wait(20)
    return len(ran)

@r.register
def generator(ctx):
    return (yield ctx.run(step))

@r.register
async def function(ctx):
    return await ctx.run(step)

func = {"generator": generator, "async": function}[sys.argv[1]]
try:
    if sys.argv[2] == "run":
        r.run("p", func)
    else:
        r.begin_run("p", func).result()
except KeyboardInterrupt:
    storage = r._core.started().network.service.storage
    child = storage.promise("p:1")
    print(storage.promise("p").promise.state, child and child.promise.state, flush=True)
    forever.set()
    print(r.run("p", func), flush=True)
"""


@pytest.mark.parametrize(("kind", "how", "ran"), [("generator", "run", "2"), ("generator", "begin_run", "1")])
def test_ctrl_c_in_the_middle_of_a_step(kind: str, how: str, ran: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, kind, how],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in the step\n"
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read().splitlines()

    assert rest[0] in ("pending None", "pending pending")
    assert rest[1:] == [ran]
    assert process.returncode == 0


class Running:
    """A client in the middle of a step, and a thread that stops it."""

    def __init__(self) -> None:
        self.go = threading.Event()
        entered = threading.Event()

        def step(ctx: Any) -> str:
            entered.set()
            assert self.go.wait(10)
            return "done"

        def program(ctx: Any) -> Any:
            yield ctx.run(step)
            yield ctx.run(step)

        self.client = Resonate(workers=1)
        self.client.register(program)
        self.client.begin_run("p", program)
        assert entered.wait(10)
        url = os.environ.get("RESONATE_URL")
        service = self.client._core.started().network.service  # type: ignore[attr-defined]
        self.storage: Any = service.storage if url is None else opened(url)  # that of the client is closed with it

    def stop(self, timeout: float | None) -> threading.Thread:
        stopper = threading.Thread(target=self.client.stop, args=(timeout,))
        stopper.start()
        until(lambda: self.client._core._stopped)
        return stopper


@pytest.fixture
def running() -> Iterator[Running]:
    running = Running()
    yield running
    running.go.set()
    running.storage.close()


def test_stopping_lets_the_step_that_runs_end_and_keeps_its_result(running: Running) -> None:
    stopper = running.stop(None)

    assert stopper.is_alive()
    assert running.storage.task("p").state == "acquired"
    running.go.set()
    stopper.join(10)

    assert not stopper.is_alive()
    assert running.storage.promise("p:1").promise.state == "resolved"
    assert running.storage.promise("p:2") is None or running.storage.promise("p:2").promise.state == "pending"
    assert running.storage.task("p").state == "pending"


def test_a_step_that_does_not_end_in_time_is_given_up_with_its_task(running: Running) -> None:
    stopper = running.stop(0.05)

    until(lambda: running.storage.task("p").state == "pending")
    running.go.set()
    stopper.join(10)

    assert not stopper.is_alive()
    assert running.storage.promise("p").promise.state == "pending"


@pytest.mark.parametrize("how", ["run", "handle"])
def test_stopping_frees_a_step_that_waits_for_another_execution(how: str) -> None:
    client = Resonate(workers=1)
    seen: list[str] = []

    @client.register
    def inner(ctx: Any) -> Any:
        yield (yield ctx.promise(id="answer"))

    @client.register
    def outer(ctx: Any) -> Any:
        try:
            return client.run("inner", inner) if how == "run" else client.begin_run("inner", inner).result()
        except ResonateShutdownError:
            seen.append("shut down")
            raise

    handle = client.begin_run("p", outer)
    worker = client._core.started()
    until(lambda: "inner" in worker.warm)
    client.stop()

    assert seen == ["shut down"]
    with pytest.raises(ResonateShutdownError):
        handle.result(10)
