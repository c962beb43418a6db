"""start, stop, `with`, fork, the bound on executions, and clients beside each other."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from resonate import Context, Resonate
from resonate.errors import ClientStopped, ForkedClient, IdConflict, ResonateShutdownError
from resonate.registry import Registry
from resonate.testing import World
from tests import places

pytestmark = [pytest.mark.usefixtures("place"), pytest.mark.timeout(20)]

WAITS = "wait for an execution to end or suspend"


def one(ctx: Context) -> int:
    return 1


def sleeps(ctx: Context, seconds: float) -> Generator[Any, Any, str]:
    yield ctx.sleep(seconds)
    return "awake"


class Gated:
    """A registered plain function that runs until it is let go."""

    def __init__(self, client: Resonate) -> None:
        self.gate, self.entered = threading.Event(), threading.Semaphore(0)
        self.runs: list[str] = []

        def gated(ctx: Context) -> str:
            self.runs.append(ctx.id)
            self.entered.release()
            assert self.gate.wait(30)
            return ctx.id

        client.register(gated)


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def ours() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if "resonate" in thread.name}


# ---- start and stop -----------------------------------------------------------------------------------------


def test_stopping_is_idempotent_and_works_on_a_client_that_never_started() -> None:
    client = Resonate()

    client.stop()
    client.stop()

    with pytest.raises(ClientStopped):
        client.start()


def test_starting_is_idempotent_and_implied_by_the_first_call() -> None:
    client = Resonate()
    client.register(one)

    client.start()
    client.start()

    assert client.run("x", one) == 1
    client.stop()


def test_threads_that_start_one_client_at_once_start_it_once() -> None:
    client = Resonate()
    client.register(one)
    barrier = threading.Barrier(8)

    def begin(n: int) -> int:
        barrier.wait(10)
        return client.begin_run(f"x-{n}", one).result(timeout=10)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(begin, range(8))) == [1] * 8
    assert [client.get(f"x-{n}").result() for n in range(8)] == [1] * 8
    client.stop()


def test_stopping_ends_every_thread_of_the_client() -> None:
    before = ours()
    client = Resonate()
    client.register(one)

    async def turns(ctx: Context) -> int:
        result: int = await ctx.run(one)
        return result

    client.register(turns)
    client.begin_run("x", one).result(timeout=10)
    client.begin_run("y", turns).result(timeout=10)
    client.begin_run("z", "turns").result(timeout=10)

    client.stop()

    until(lambda: not ours() - before)


USES: dict[str, Callable[[Resonate, Any], object]] = {
    "run": lambda client, handle: client.run("y", one),
    "begin_run": lambda client, handle: client.begin_run("y", one),
    "rpc": lambda client, handle: client.rpc("y", one),
    "begin_rpc": lambda client, handle: client.begin_rpc("y", one),
    "get": lambda client, handle: client.get("x"),
    "schedule": lambda client, handle: client.schedule("s", one, "* * * * *"),
    "promises": lambda client, handle: client.promises.get("x"),
    "schedules": lambda client, handle: client.schedules.get("s"),
    "start": lambda client, handle: client.start(),
    "with": lambda client, handle: client.__enter__(),
    "copy": lambda client, handle: client.options(timeout=1).run("y", one),
    "cancel": lambda client, handle: handle.cancel(),
}


@pytest.mark.parametrize("use", USES)
def test_a_stopped_client_refuses_every_use_and_says_so(use: str) -> None:
    client = Resonate()
    client.register(one)
    handle = client.begin_run("x", one)
    client.stop()

    with pytest.raises(ClientStopped, match="has been stopped: make a new Resonate to go on"):
        USES[use](client, handle)


def test_with_starts_and_stops() -> None:
    with Resonate() as client:
        client.register(one)

        assert client.run("x", one) == 1

    with pytest.raises(ClientStopped):
        client.run("y", one)


def test_with_stops_after_an_error_too() -> None:
    with pytest.raises(KeyError), Resonate() as client:
        raise KeyError("mine")

    with pytest.raises(ClientStopped):
        client.start()


def test_stop_waits_for_the_step_that_runs_and_records_nothing_of_it() -> None:
    client = Resonate()
    gated = Gated(client)
    handle = client.begin_run("x", "gated")
    assert gated.entered.acquire(timeout=10)
    stopping = threading.Thread(target=client.stop)
    stopping.start()
    with pytest.raises(ClientStopped):
        while True:
            client.promises.get("x")

    waits = stopping.is_alive()
    gated.gate.set()
    stopping.join(10)

    assert (waits, stopping.is_alive()) == (True, False)
    with pytest.raises(ResonateShutdownError, match="the client was stopped"):
        handle.result(timeout=10)


@pytest.mark.parametrize("timeout", [0, 0.001, timedelta(microseconds=1)], ids=repr)
def test_stop_waits_no_longer_than_told(timeout: Any) -> None:
    client = Resonate()
    gated = Gated(client)
    handle = client.begin_run("x", "gated")
    assert gated.entered.acquire(timeout=10)

    client.stop(timeout)

    with pytest.raises(ResonateShutdownError):
        handle.result(timeout=10)
    gated.gate.set()


@pytest.mark.parametrize(
    ("timeout", "error", "text"),
    [
        ("1", TypeError, "timeout must be .*, got str"),
        (True, TypeError, "timeout must be .*, got bool"),
        (-1, ValueError, "timeout must be greater than or equal to zero"),
        (float("nan"), ValueError, "timeout must be a number of seconds"),
    ],
    ids=repr,
)
def test_a_wrong_timeout_of_stop_is_refused_and_the_client_goes_on(
    timeout: Any, error: type[Exception], text: str
) -> None:
    with Resonate() as client:
        client.register(one)

        with pytest.raises(error, match=text):
            client.stop(timeout)

        assert client.run("x", one) == 1


@pytest.mark.parametrize("begin", [True, False], ids=["begin_run", "run"])
def test_a_step_may_stop_its_own_client(begin: bool) -> None:
    client = Resonate()

    def stops(ctx: Context) -> None:
        client.stop()

    client.register(stops)

    with pytest.raises(ResonateShutdownError):
        client.begin_run("x", stops).result(timeout=10) if begin else client.run("x", stops)


@pytest.mark.parametrize("how", ["plain", "async"])
def test_a_step_may_stop_its_own_client_while_that_is_being_stopped(how: str) -> None:
    client = Resonate()
    entered = threading.Event()

    def stop() -> None:
        entered.set()
        with pytest.raises(ClientStopped):
            while True:
                client.start()
        client.stop()

    def plain(ctx: Context) -> None:
        stop()

    async def coroutine(ctx: Context) -> None:
        stop()

    client.begin_run("x", client.register(plain if how == "plain" else coroutine))
    assert entered.wait(10)

    stopping = threading.Thread(target=client.stop)
    stopping.start()
    stopping.join(10)

    assert not stopping.is_alive()  # it waits for the step, which therefore must not wait for it


def test_a_signal_handler_may_stop_the_client_on_the_thread_that_is_stopping_it() -> None:
    client = Resonate()
    entered, handled = threading.Event(), threading.Event()

    @client.register
    def step(ctx: Context) -> None:
        entered.set()
        with pytest.raises(ClientStopped):
            while True:
                client.start()
        signal.raise_signal(signal.SIGUSR1)  # handled by the main thread, which is in `stop`
        assert handled.wait(10)

    def handler(number: int, frame: object) -> None:
        client.stop()
        handled.set()

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        client.begin_run("x", step)
        assert entered.wait(10)

        client.stop()
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert handled.is_set()


def test_what_is_written_after_a_task_was_given_back_is_no_lost_lease(caplog: pytest.LogCaptureFixture) -> None:
    entered, go = threading.Event(), threading.Event()

    def step(ctx: Context) -> None:
        entered.set()
        assert go.wait(20)

    def order(ctx: Context) -> Generator[Any, Any, None]:
        yield ctx.run(step)
        yield ctx.run(step)

    with Resonate() as client:
        client.register(order)
        client.begin_run("a", order)
        assert entered.wait(20)
        worker = client._core.started()
        held = worker.held["a"]
        worker.intake.ignore("a", first=60)

        worker.endings.release(held)
        go.set()
        until(lambda: held.execution.stop is not None)

    assert "lease is lost" not in caplog.text


def test_whoever_waits_in_run_is_told_when_the_client_is_stopped() -> None:
    client = Resonate()
    client.register(sleeps)
    with ThreadPoolExecutor(3) as pool:
        waiting = [
            pool.submit(client.run, "x", sleeps, 3600),
            pool.submit(client.options(timeout=60).run, "y", sleeps, 3600),
            pool.submit(client.rpc, "z", "nobody has it"),
        ]
        until(lambda: all(there(client, id) for id in "xyz"))

        client.stop()

        assert [type(each.exception(timeout=10)) for each in waiting] == [ResonateShutdownError] * 3


def there(client: Resonate, id: str) -> bool:
    try:
        return client.get(id).done() is False
    except Exception:
        return False


def test_what_a_stopped_client_held_goes_on_elsewhere_at_once(world: World) -> None:
    registry = Registry()
    registry.add(sleeps)
    first, second = world.client(registry=registry), world.client(registry=registry)
    first.begin_run("x", sleeps, 60)
    began = world.clock.now()

    first.stop()

    assert second.get("x").result() == "awake"
    assert world.clock.now() - began == 60_000


@places.in_memory
def test_two_clients_in_one_process_are_two_worlds() -> None:
    with Resonate() as first, Resonate() as second:
        first.register(one)
        second.register(lambda ctx: 2, name="two")

        assert (first.run("x", one), second.run("x", "two")) == (1, 2)
        with pytest.raises(IdConflict):
            first.register(lambda ctx: 2, name="two")
            first.run("x", "two")


def test_stopping_one_client_leaves_the_other_alone() -> None:
    first, second = Resonate(), Resonate()
    for client in (first, second):
        client.register(one)
        client.start()

    first.stop()

    assert second.run("x", one) == 1
    second.stop()


def test_a_script_may_simply_end(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from resonate import Resonate\n"
        "def sleeps(ctx):\n    yield ctx.sleep(3600)\n"
        "async def waits(ctx):\n    await ctx.sleep(3600)\n"
        "r = Resonate()\n"
        "r.register(sleeps); r.register(waits)\n"
        "r.begin_run('x', sleeps); r.begin_run('y', waits)\n"
        "print(r.run('z', r.register(lambda ctx: 42, name='f')))\n"
    )

    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=30, check=False)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "42\n", "")


# ---- fork ------------------------------------------------------------------------------------------------------


FORKED: dict[str, Callable[[Resonate, Any], object]] = {
    "run": lambda client, handle: client.run("y", one),
    "begin_rpc": lambda client, handle: client.begin_rpc("y", one),
    "get": lambda client, handle: client.get("x"),
    "promises": lambda client, handle: client.promises,
    "start": lambda client, handle: client.start(),
    "result": lambda client, handle: handle.result(),
    "await": lambda client, handle: asyncio.run(awaited(handle)),
    "cancel": lambda client, handle: handle.cancel(),
    "future": lambda client, handle: handle.future,
}


async def awaited(handle: Any) -> object:
    return await handle


def in_child(use: Callable[[], object]) -> str:
    """What comes of `use` in a forked child; it is killed if it hangs."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover
        signal.alarm(10)
        text = "nothing was said"
        try:
            text = repr(use())
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writing, text.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    return text


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("use", FORKED)
def test_a_forked_child_is_refused_and_the_parent_goes_on(use: str) -> None:
    client = Resonate()
    client.register(sleeps)
    client.register(one)
    handle = client.begin_run("x", sleeps, 3600)

    said = in_child(lambda: FORKED[use](client, handle))

    assert said.startswith("ForkedClient: this client was made before the process was forked: make a new Resonate")
    assert client.run("parent", one) == 1
    client.stop()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_client_that_had_not_started_before_the_fork_is_refused_in_the_child_too() -> None:
    client = Resonate()
    client.register(one)

    assert in_child(lambda: client.run("x", one)).startswith("ForkedClient")
    assert client.run("x", one) == 1
    client.stop()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_may_read_what_was_known_stop_the_client_and_make_a_new_one() -> None:
    client = Resonate()
    client.register(one)
    handle = client.begin_run("x", one)
    handle.result(timeout=10)

    def use() -> list[object]:
        client.stop()
        with Resonate() as new:
            new.register(lambda ctx: 2, name="two")
            return [handle.done(), handle.result(), new.run("z", "two")]

    assert in_child(use) == "[True, 1, 2]"
    assert client.run("y", one) == 1
    client.stop()


def test_the_refusal_of_a_forked_child_is_a_runtime_error() -> None:
    assert issubclass(ForkedClient, RuntimeError)
    assert issubclass(ClientStopped, RuntimeError)


# ---- max_concurrent ------------------------------------------------------------------------------------------------


def test_begin_run_waits_until_there_is_room_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "resonate.worker")
    with Resonate(max_concurrent=2, workers=8) as client, ThreadPoolExecutor(1) as pool:
        gated = Gated(client)
        first = [client.begin_run(f"x-{n}", "gated") for n in range(2)]
        assert gated.entered.acquire(timeout=10)
        assert gated.entered.acquire(timeout=10)

        waiting = pool.submit(client.begin_run, "x-2", "gated")
        try:
            until(lambda: WAITS in caplog.text)
            assert not waiting.done()
            assert sorted(gated.runs) == ["x-0", "x-1"]
        finally:
            gated.gate.set()
        assert waiting.result(timeout=10).result(timeout=10) == "x-2"
        assert [handle.result(timeout=10) for handle in first] == ["x-0", "x-1"]


def test_never_more_than_max_concurrent_run_at_once() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def counts(ctx: Context) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        pause.wait(0.001)
        with lock:
            running -= 1
        return 1

    pause = threading.Event()
    with Resonate(max_concurrent=3, workers=16) as client, ThreadPoolExecutor(8) as pool:
        client.register(counts)

        handles = list(pool.map(lambda n: client.begin_run(f"x-{n}", counts), range(40)))

        assert sum(handle.result(timeout=10) for handle in handles) == 40
    assert 1 <= most <= 3


def test_never_more_than_max_concurrent_are_taken_from_the_queue_at_once() -> None:
    running, most, lock, pause = 0, 0, threading.Lock(), threading.Event()

    def counts(ctx: Context) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        pause.wait(0.001)
        with lock:
            running -= 1
        return 1

    with Resonate(max_concurrent=3, workers=16) as client, ThreadPoolExecutor(8) as pool:
        calls = list(pool.map(lambda n: client.begin_rpc(f"x-{n}", "counts"), range(60)))
        client.register(counts)  # they wait for it until now
        runs = list(pool.map(lambda n: client.begin_run(f"y-{n}", counts), range(20)))

        assert sum(handle.result(timeout=30) for handle in calls + runs) == 80
    assert 1 <= most <= 3


def test_executions_that_wait_for_something_outside_take_no_room() -> None:
    with Resonate(max_concurrent=1) as client:
        client.register(sleeps)
        client.register(one)

        handles = [client.begin_run(f"x-{n}", sleeps, 3600) for n in range(5)]

        assert client.begin_run("y", one).result(timeout=10) == 1
        assert not any(handle.done() for handle in handles)


def test_a_call_from_inside_a_function_never_waits_for_room() -> None:
    with Resonate(max_concurrent=1, workers=1) as client:
        client.register(one)

        @client.register
        def nests(ctx: Context) -> list[int]:
            return [client.run("a", one), client.begin_run("b", one).result(timeout=10)]

        assert client.begin_run("x", nests).result(timeout=10) == [1, 1]


def test_whoever_waits_for_room_is_told_when_the_client_is_stopped(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "resonate.worker")
    client = Resonate(max_concurrent=1)
    gated = Gated(client)
    client.begin_run("x", "gated")
    assert gated.entered.acquire(timeout=10)
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(client.begin_run, f"y-{n}", "gated") for n in range(4)]
        try:
            until(lambda: caplog.text.count(WAITS) == 4)

            client.stop(timeout=0)

            assert {type(each.exception(timeout=10)) for each in waiting} == {ClientStopped}
        finally:
            gated.gate.set()
    assert gated.runs == ["x"]
