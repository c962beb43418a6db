"""Back-pressure: no more executions than `max_concurrent`, and nobody waits for a place that is free."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from resonate import Context, Resonate
from resonate.errors import CapacityError, ClientStopped, IdConflict, StorageUnavailable, StorageUnusable
from tests import places

pytestmark = pytest.mark.usefixtures("place")


class Gauge:
    """How many run at the same time, at most."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def run(self, ctx: Context, n: int) -> int:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        self.now -= 1
        return n


def test_hundreds_of_aio_runs_share_a_few_places() -> None:
    gauge = Gauge()

    async def work(ctx: Context, n: int) -> int:
        return await gauge.run(ctx, n)

    async def main() -> list[Any]:
        async with Resonate(max_concurrent=3) as client:
            client.register(work)
            return list(await asyncio.gather(*(client.aio.run(f"r{n}", work, n) for n in range(300))))

    assert asyncio.run(asyncio.wait_for(main(), 20)) == list(range(300))
    assert gauge.most <= 3


def test_an_async_function_may_begin_others_though_all_places_are_taken() -> None:
    async def inner(ctx: Context) -> int:
        return 1

    async def main() -> int:
        async with Resonate(max_concurrent=1) as client:

            async def outer(ctx: Context) -> Any:
                return await client.aio.run("inner", inner)

            client.register(inner)
            client.register(outer)
            value: int = await client.aio.run("outer", outer)
            return value

    assert asyncio.run(asyncio.wait_for(main(), 20)) == 1


@places.in_memory  # where it would wait for I/O too, begin_run returns at once
def test_to_wait_on_the_loop_that_has_to_make_room_is_refused() -> None:
    release = asyncio.Event()

    async def waits(ctx: Context) -> None:
        await release.wait()

    async def main() -> None:
        async with Resonate(max_concurrent=1) as client:
            client.register(waits)
            first = await client.aio.begin_run("first", waits)
            with pytest.raises(CapacityError, match=r"await r\.aio\.begin_run"):
                client.begin_run("second", waits)
            release.set()
            await first
            await client.begin_run("second", waits)

    asyncio.run(asyncio.wait_for(main(), 20))


def test_one_that_waits_and_then_cannot_begin_lets_the_next_in() -> None:
    reached, go = threading.Event(), threading.Event()

    def step(ctx: Context, n: int) -> int:
        reached.set()
        go.wait(10)
        return n

    def at_once(ctx: Context, n: int) -> int:
        return n

    client = Resonate(max_concurrent=1)
    client.register(step)
    client.register(at_once)
    outcomes: dict[str, Any] = {}

    def begin(id: str, n: int) -> None:
        try:
            outcomes[f"{id} {n}"] = client.run(id, at_once, n)
        except IdConflict:
            outcomes[f"{id} {n}"] = "refused"

    first = client.begin_run("taken", step, 0)
    reached.wait(10)
    threads = [threading.Thread(target=begin, args=given) for given in (("taken", 1), ("taken", 2), ("free", 3))]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(10)
    client.stop()

    assert first.result() == 0
    assert outcomes == {"taken 1": "refused", "taken 2": "refused", "free 3": 3}


def test_whoever_waits_for_room_is_told_when_the_client_stops() -> None:
    reached = threading.Event()

    async def waits(ctx: Context) -> None:
        reached.set()
        await asyncio.Event().wait()

    client = Resonate(max_concurrent=1)
    client.register(waits)
    client.begin_run("first", waits)
    reached.wait(10)
    told: list[str] = []

    def begin(n: int) -> None:
        with pytest.raises(ClientStopped):
            client.begin_run(f"more-{n}", waits)
        told.append(f"more-{n}")

    threads = [threading.Thread(target=begin, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    client.stop()
    for thread in threads:
        thread.join(10)

    assert sorted(told) == ["more-0", "more-1", "more-2"]


def test_a_waiter_that_is_cancelled_passes_its_turn_on() -> None:
    release = asyncio.Event()

    async def waits(ctx: Context, n: int) -> int:
        await release.wait()
        return n

    async def main() -> int:
        async with Resonate(max_concurrent=1) as client:
            client.register(waits)
            await client.aio.begin_run("first", waits, 1)
            second = asyncio.create_task(client.aio.run("second", waits, 2))
            third = asyncio.create_task(client.aio.run("third", waits, 3))
            await asyncio.sleep(0)
            release.set()
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            value: int = await third
            return value

    assert asyncio.run(asyncio.wait_for(main(), 20)) == 3


def test_a_step_that_waits_for_a_call_to_its_own_group_gives_its_place_to_it() -> None:
    client = Resonate(max_concurrent=1, workers=1)

    def one(ctx: Context) -> int:
        return 1

    def asks(ctx: Context) -> Any:
        return client.rpc("asked", one)

    client.register(one)
    client.register(asks)

    assert client.begin_run("asks", asks).result(timeout=20) == 1
    client.stop()


def test_news_is_heard_though_there_is_no_room_for_offers() -> None:
    answered, go, reached = threading.Event(), threading.Event(), threading.Event()

    def busy(ctx: Context) -> int:
        reached.set()
        go.wait(10)
        return 1

    client = Resonate(max_concurrent=1, workers=2)
    client.register(busy)
    running = client.begin_run("busy", busy)
    reached.wait(10)
    client.promises.create("question", 2**52, tags={"resonate:external": "true"})
    question = client.get("question")

    def wait() -> None:
        question.result(timeout=10)
        answered.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    client.promises.resolve("question")

    assert answered.wait(4)  # sooner than we would look by ourselves
    go.set()
    assert running.result() == 1
    waiter.join(10)
    client.stop()


@pytest.mark.parametrize(("error", "last"), [(StorageUnavailable, 5.0), (StorageUnusable, 60.0)])
def test_a_store_that_refuses_is_asked_again_after_growing_pauses_only(
    error: type[StorageUnavailable], last: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Resonate()
    worker = client._core.started()
    pauses: list[float] = []
    jobs: list[Any] = []

    def refuse(*args: Any) -> Any:
        raise error("no")

    monkeypatch.setattr(worker.network, "take", refuse)
    monkeypatch.setattr(worker, "later", lambda seconds, job: pauses.append(seconds))
    monkeypatch.setattr(worker.pool, "submit", jobs.append)
    for _ in range(12):
        worker.intake._take()
        worker.intake._trying = False

    assert jobs == []  # places that are given back are no reason to ask at once
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert pauses[-1] == last
    monkeypatch.undo()
    worker.intake.wake()
    client.stop()
