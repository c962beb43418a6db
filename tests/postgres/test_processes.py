"""Many processes on one database: who is alive, who is woken, and who has a message or a timer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import resonate
from resonate import Resonate
from resonate.clock import SettableClock
from resonate.errors import UsageError
from resonate.protocol.footprint import Footprint
from resonate.protocol.records import EMPTY, Execute, Promise, Unblock
from resonate.protocol.requests import PromiseCreate, PromiseGet, TaskCreate
from resonate.protocol.rows import Effect, Send
from resonate.service.service import Service
from resonate.storage.postgres import listener
from resonate.storage.postgres.location import parse
from resonate.storage.postgres.storage import HIDDEN, PostgresStorage
from tests import databases
from tests.homes import until

SOURCE = Path(resonate.__file__).parents[1]
FAR = 10**13
OFFER = Send(("execute", "t"), "poll://any@g", Execute("t", 1))
SETTLED = Promise("p", "resolved", EMPTY, EMPTY, {}, FAR, 0, 1)
NEWS = Send(("unblock", "p", "poll://uni@g/1"), "poll://uni@g/1", Unblock(SETTLED))


@pytest.fixture
def two() -> Iterator[tuple[PostgresStorage, PostgresStorage]]:
    """Two storages in one schema: to the database they are what two processes are."""
    location = parse(databases.fresh_url())
    storages = PostgresStorage(location), PostgresStorage(location)
    yield storages
    for storage in storages:
        storage.close()


def put(storage: PostgresStorage, *effects: Effect) -> None:
    transaction = storage.begin(lambda: Footprint(set(), set(), set()))
    transaction.apply(effects)
    transaction.commit()


# Pids.


def test_one_pid_is_one_live_process(two: tuple[PostgresStorage, PostgresStorage]) -> None:
    first, second = two
    first.claim("worker-1")

    with pytest.raises(UsageError, match=r"another live process uses .* under the pid 'worker-1'"):
        second.claim("worker-1")

    first.close()
    assert second.claim("worker-1") == []


def test_a_process_that_is_back_learns_what_its_last_life_held(two: tuple[PostgresStorage, PostgresStorage]) -> None:
    first, second = two
    create = PromiseCreate("t", FAR, tags={"resonate:target": "poll://any@g"})
    Service(first, SettableClock(0)).handle([TaskCreate("worker-1", 60_000, create)])

    assert second.claim("worker-2") == []
    second.close()
    assert first.claim("worker-1") == [("t", 1)]


# Messages.


def test_a_message_wakes_the_other_process_without_its_looking(
    two: tuple[PostgresStorage, PostgresStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "POLL", 3600.0)
    sender, receiver = two
    heard = threading.Event()
    receiver.watch("g", "p", heard.set)
    until(lambda: receiver._listener.listening)
    heard.clear()

    put(sender, OFFER)

    until(lambda: heard.is_set() and receiver.fresh() == [OFFER])


def test_a_notification_that_is_lost_is_made_up_for_by_a_look(
    two: tuple[PostgresStorage, PostgresStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, receiver = two
    monkeypatch.setattr(sender._teller, "tell", lambda sent, mine: None)
    heard: list[Send] = []
    receiver.watch("g", "p", lambda: heard.extend(receiver.fresh()))

    put(sender, OFFER)

    until(lambda: heard == [OFFER])


def test_news_is_taken_once_and_an_offer_belongs_to_one_process_for_a_while(
    two: tuple[PostgresStorage, PostgresStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    one.watch("g", "1", lambda: None)
    other.watch("g", "1", lambda: None)
    put(one, OFFER, NEWS)

    assert sorted(map(repr, other.take([OFFER.key, NEWS.key]))) == sorted(map(repr, [OFFER, NEWS]))
    assert one.take([OFFER.key, NEWS.key]) == []
    assert one.outbox() == []

    monkeypatch.setattr(one, "clock", SettableClock(one.clock.now() + HIDDEN + 1))
    assert one.take([OFFER.key]) == [OFFER]


def test_two_services_that_fire_the_same_timer_settle_it_once(two: tuple[PostgresStorage, PostgresStorage]) -> None:
    clock = SettableClock(0)
    services = [Service(storage, clock) for storage in two]
    services[0].handle([PromiseCreate("timer", 500, tags={"resonate:timer": "true"})])
    two[1]._look(False)
    clock.set(600)

    for service in services:
        service.tick()

    found = services[1].handle([PromiseGet("timer")])[0].promise
    assert found is not None
    assert (found.state, found.settled_at) == ("resolved", 500)
    assert [storage.next_due() for storage in two] == [None, None]


# Whole processes.

WORKER = """
import os, sys, threading
from resonate import Resonate

url, pid, ttl = sys.argv[1:]
client = Resonate(url=url, group="w", pid=pid, ttl=int(ttl))

def step(ctx, number):
    print(f"{pid} {number}", flush=True)
    if number == 2 and os.environ["GATE"]:
        open(os.environ["GATE"]).read()
    return number

@client.register
def count(ctx):
    done = []
    for number in range(4):
        done.append((yield ctx.run(step, number)))
    return done

def tell(worker):
    while not worker.stopped:
        threading.Event().wait(0.002)
    print("ending", flush=True)

client.start()
threading.Thread(target=tell, args=(client._core.started(),), daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
client.stop()
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a worker and returns once it is ready; what is left at the end is killed."""
    processes: list[subprocess.Popen[str]] = []

    def start(url: str, pid: str, ttl: int, gate: Path | str = "") -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, url, pid, str(ttl)],
            env={**os.environ, "PYTHONPATH": str(SOURCE), "GATE": str(gate)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert read(process) == "ready"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def read(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_worker_that_is_killed_and_back_under_its_pid_goes_on_at_once(start: Start, tmp_path: Path) -> None:
    url, gate = databases.fresh_url(), tmp_path / "gate"
    os.mkfifo(gate)
    first = start(url, "w-1", 600, gate)
    with Resonate(url=url) as client:
        handle = client.options(target="w").begin_rpc("c", "count")
        assert [read(first) for _ in range(3)] == ["w-1 0", "w-1 1", "w-1 2"]
        first.send_signal(signal.SIGKILL)
        first.wait()

        second = start(url, "w-1", 600)

        assert handle.result(timeout=20) == [0, 1, 2, 3]
        assert [read(second) for _ in range(2)] == ["w-1 2", "w-1 3"]


def test_a_worker_that_is_killed_is_followed_by_another_when_its_lease_is_over(start: Start, tmp_path: Path) -> None:
    url, gate = databases.fresh_url(), tmp_path / "gate"
    os.mkfifo(gate)
    first = start(url, "w-1", 1, gate)
    with Resonate(url=url) as client:
        handle = client.options(target="w").begin_rpc("c", "count")
        assert [read(first) for _ in range(3)] == ["w-1 0", "w-1 1", "w-1 2"]
        second = start(url, "w-2", 1)
        first.send_signal(signal.SIGKILL)

        assert handle.result(timeout=20) == [0, 1, 2, 3]
        assert [read(second) for _ in range(2)] == ["w-2 2", "w-2 3"]


def test_a_worker_that_is_told_to_end_keeps_the_step_in_hand_and_gives_back_the_rest(
    start: Start, tmp_path: Path
) -> None:
    url, gate = databases.fresh_url(), tmp_path / "gate"
    os.mkfifo(gate)
    first = start(url, "w-1", 600, gate)
    with Resonate(url=url) as client:
        handle = client.options(target="w").begin_rpc("c", "count")
        assert [read(first) for _ in range(3)] == ["w-1 0", "w-1 1", "w-1 2"]
        second = start(url, "w-2", 600)
        first.send_signal(signal.SIGTERM)
        assert read(first) == "ending"
        gate.write_text("go on")

        assert handle.result(timeout=20) == [0, 1, 2, 3]
        assert read(second) == "w-2 3"
        assert first.wait() == -signal.SIGTERM


def test_a_schedule_fires_once_however_many_processes_there_are() -> None:
    url = databases.fresh_url()
    fired: list[Any] = []
    clients = [Resonate(url=url, group="g", pid=f"p-{number}") for number in range(3)]
    for client in clients:
        client.register(lambda ctx, *args: fired.append(time.time()), name="tick")
        client.start()
    schedule = clients[0].schedule("each-second", "tick", "* * * * * *")

    until(lambda: len(fired) >= 3)
    schedule.delete()
    for client in clients:
        client.stop()

    seconds = [int(at) for at in fired]
    assert len(set(seconds)) == len(seconds), fired
