"""Schedules as a person steers them, wherever state lives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from resonate import Context, Resonate
from resonate.clock import SystemClock
from resonate.errors import ResonateStoreError
from resonate.inspection import Refusal, Scheduling
from resonate.protocol.pauses import is_paused
from resonate.protocol.records import Promise, Schedule
from resonate.protocol.requests import PromiseGet, ScheduleCreate, ScheduleGet
from resonate.service.service import Service
from resonate.storage.memory import MemoryStorage
from tests import databases
from tests.homes import until
from tests.wire_server import WireServer

TARGET = {"resonate:target": "poll://any@default"}


@pytest.fixture(params=["memory", "file", "postgres", "http"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Resonate]:
    server, url = None, None
    if request.param == "file":
        url = f"sqlite:///{tmp_path}/app.db?synchronous=off"
    elif request.param == "postgres":
        url = databases.fresh_url()
    elif request.param == "http":
        server = WireServer().start()
        url = server.url
    client = Resonate(url=url)
    client.register(tick)
    yield client
    client.stop()
    if server is not None:
        server.stop()


def tick(ctx: Context, what: str = "tick") -> str:
    return what


def steering(client: Resonate) -> Scheduling:
    network = client._core.started().network
    return Scheduling(network.send, network.now)


def schedule(client: Resonate, id: str) -> Schedule:
    found = client._core.started().network.send([ScheduleGet(id)])[0].schedule
    assert found is not None
    return found


def promise(client: Resonate, id: str) -> Promise:
    found = client._core.started().network.send([PromiseGet(id)])[0].promise
    assert found is not None
    return found


@pytest.mark.slow
def test_a_schedule_is_paused_and_goes_on(client: Resonate) -> None:
    client.schedule("s", tick, "* * * * * *")
    steer = steering(client)

    paused = steer.pause("s")
    until(lambda: schedule(client, "s").next_run_at > paused.next_run_at)
    during = schedule(client, "s")
    resumed = steer.resume("s")

    assert is_paused(paused)
    assert is_paused(during)
    assert during.last_run_at == paused.last_run_at
    assert not is_paused(resumed)
    assert resumed.created_at == paused.created_at
    until(lambda: schedule(client, "s").last_run_at is not None)


def test_a_program_that_starts_again_leaves_a_schedule_paused_also_with_another_definition(client: Resonate) -> None:
    client.schedule("s", tick, "0 0 1 1 *")
    steering(client).pause("s")

    client.schedule("s", tick, "0 0 1 1 *")
    same = schedule(client, "s")
    client.schedule("s", tick, "0 0 2 1 *", "other")

    assert is_paused(same)
    assert is_paused(schedule(client, "s"))
    assert schedule(client, "s").cron == "0 0 2 1 *"


def test_a_paused_schedule_can_be_run_now_beside_its_calendar(client: Resonate) -> None:
    client.schedule("s", tick, "0 0 1 1 *", "now")
    before = steering(client).pause("s")

    begun = steering(client).run_now("s")

    assert client.get(begun.id).result(timeout=20) == "now"
    assert "resonate:paused" not in promise(client, begun.id).tags
    assert schedule(client, "s") == before


def test_what_makes_no_sense_is_refused_and_changes_nothing(client: Resonate) -> None:
    client.schedule("s", tick, "0 0 1 1 *")
    steer = steering(client)

    with pytest.raises(ResonateStoreError, match="not found: nix"):
        steer.pause("nix")
    with pytest.raises(Refusal, match="is not paused"):
        steer.resume("s")
    steer.pause("s")
    with pytest.raises(Refusal, match="paused already; it goes on with: resonate schedules resume s"):
        steer.pause("s")


def test_a_schedule_that_begins_one_promise_only_is_not_run_twice(client: Resonate) -> None:
    network = client._core.started().network
    network.send([ScheduleCreate("s", "0 0 1 1 *", "only-one", 60_000, promise_tags=TARGET)])

    steering(client).run_now("s")

    with pytest.raises(Refusal, match="begins only-one, which exists"):
        steering(client).run_now("s")


def test_a_server_that_cannot_pause_is_told_apart() -> None:
    service = Service(MemoryStorage(), SystemClock(), strict=True)
    service.handle([ScheduleCreate("s", "0 0 1 1 *", "x", 60_000, promise_tags=TARGET)])

    with pytest.raises(Refusal, match="does not know how to pause schedules; nothing was changed"):
        Scheduling(service.handle, service.now).pause("s")
