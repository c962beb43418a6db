"""Whole programs on a real server: our client over sockets, our service behind them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from resonate import Context, Resonate
from resonate.clock import SystemClock
from resonate.server.auth import Authenticator, BearerToken, Identity
from resonate.server.base import Listening, Settings
from resonate.server.running import Server, ServerThread
from resonate.service.service import Service
from resonate.storage.sqlite.location import Location
from resonate.storage.sqlite.storage import SqliteStorage
from tests.server.serving import HOMES, PATIENCE, serving


@pytest.fixture(scope="module", params=list(HOMES))
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serving(HOMES[request.param]()) as server:
        yield server


def add(ctx: Context, a: int, b: int) -> int:
    return a + b


def steps(ctx: Context, count: int) -> Generator[Any, Any, int]:
    total = 0
    for _ in range(count):
        total = yield ctx.run(add, total, 1)
    return total


def remote(ctx: Context, count: int) -> Generator[Any, Any, int]:
    total = 0
    for _ in range(count):
        total = yield ctx.rpc("add", total, 1).options(target="far")
    return total


def nap(ctx: Context) -> Generator[Any, Any, str]:
    yield ctx.sleep(0.02)
    return "rested"


async def fan(ctx: Context, count: int) -> int:
    return sum(await asyncio.gather(*(ctx.run(add, number, 1) for number in range(count))))


def test_steps_sleeps_and_fans_of_one_client(server: Server) -> None:
    client = Resonate(url=server.url)
    for function in (add, steps, nap, fan):
        client.register(function)

    assert client.run("steps", steps, 50) == 50
    assert client.run("nap", nap) == "rested"
    assert client.run("fan", fan, 10) == 55
    assert client.run("steps", steps, 50) == 50
    client.stop()


def test_two_clients_call_each_other(server: Server) -> None:
    near, far = Resonate(url=server.url, group="near"), Resonate(url=server.url, group="far")
    near.register(remote)
    far.register(add)
    near.start()
    far.start()

    assert near.run("remote", remote, 10) == 10
    near.stop()
    far.stop()


def test_a_worker_that_starts_later_gets_what_has_waited(server: Server) -> None:
    caller = Resonate(url=server.url, group="caller")
    handle = caller.options(target="late").begin_rpc("waits", "add", 1, 2)

    worker = Resonate(url=server.url, group="late")
    worker.register(add)
    worker.start()

    assert handle.result() == 3
    caller.stop()
    worker.stop()


def test_a_token_lets_a_client_use_its_own_ids() -> None:
    auth = Authenticator(tokens=[BearerToken("mine", Identity("me", prefix="mine"))])
    with serving(settings=Settings(auth=auth)) as server:
        client = Resonate(url=server.url, token="mine")
        client.register(steps)
        client.register(add)

        assert client.run("mine-1", steps, 3) == 3
        client.stop()


def test_an_execution_goes_on_when_its_server_comes_back_on_the_file(tmp_path: Path) -> None:
    location = Location(str(tmp_path / "resonate.db"))
    reached, go = threading.Event(), threading.Event()

    def hold(ctx: Context) -> int:
        reached.set()
        assert go.wait(PATIENCE)
        return 1

    def held(ctx: Context) -> Generator[Any, Any, int]:
        first = yield ctx.run(hold)
        second = yield ctx.run(add, first, 1)
        return int(second)

    storage = SqliteStorage(location)
    thread = ServerThread(Service(storage, SystemClock())).start()
    client = Resonate(url=thread.url)
    client.register(held)
    handle = client.begin_run("held", held)
    assert reached.wait(PATIENCE)

    thread.stop()
    storage.close()
    go.set()
    storage = SqliteStorage(location)
    with ServerThread(Service(storage, SystemClock()), None, Listening(port=thread.port)):
        assert handle.result() == 2
        client.stop()
    storage.close()
