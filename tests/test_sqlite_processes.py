"""Many processes on one file: turns, wake-ups, and what happens when one is killed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import resonate
from resonate import Resonate
from resonate.clock import SettableClock, SystemClock
from resonate.errors import UsageError
from resonate.protocol.footprint import Footprint
from resonate.protocol.records import EMPTY, Execute, Promise, Unblock
from resonate.protocol.requests import PromiseCreate, PromiseGet, TaskCreate
from resonate.protocol.rows import Effect, Send, Unsend
from resonate.service.delivery import PREFERENCE
from resonate.service.service import Service, Subscription
from resonate.storage.sqlite import peers
from resonate.storage.sqlite.location import Location
from resonate.storage.sqlite.locks import PidLock, WriteLock, forget_dead
from resonate.storage.sqlite.storage import SqliteStorage

REPOSITORY = Path(__file__).parents[1]
SOURCE = Path(resonate.__file__).parents[1]
FAR = 10**13
OFFER = Send(("execute", "t"), "poll://any@g", Execute("t", 1))
SETTLED = Promise("p", "resolved", EMPTY, EMPTY, {}, FAR, 0, 1)
NEWS = Send(("unblock", "p", "poll://uni@g/1"), "poll://uni@g/1", Unblock(SETTLED))

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts `python -m tests.state_worker ...`; what is left at the end is killed."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.state_worker", *map(str, arguments)],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[SqliteStorage, SqliteStorage]]:
    """Two storages on one file: to the file they are what two processes are."""
    location = Location(str(tmp_path / "app.db"), synchronous="off")
    storages = SqliteStorage(location), SqliteStorage(location)
    yield storages
    for storage in storages:
        storage.close()


def read(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def write(process: subprocess.Popen[str], line: str = "") -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def stop(process: subprocess.Popen[str]) -> None:
    process.communicate()
    assert process.returncode == 0


def put(storage: SqliteStorage, *effects: Effect) -> None:
    transaction = storage.begin(lambda: Footprint(set(), set(), set()))
    transaction.apply(effects)
    transaction.commit()


# Turns.


def test_processes_that_hammer_one_file_all_get_through_and_agree(tmp_path: Path, start: Start) -> None:
    url = f"sqlite:///{tmp_path}/app.db?synchronous=off"
    processes = [start("hammer", url, f"p{number}", 150) for number in range(4)]
    assert [read(process) for process in processes] == ["ready"] * 4

    for process in processes:
        write(process)
    winners = [read(process).split() for process in processes]

    assert len(winners[0]) == 150
    assert winners == [winners[0]] * 4
    storage = SqliteStorage(Location(f"{tmp_path}/app.db"))
    assert len(storage.promises(None)) == 5 * 150
    storage.close()


def test_whoever_has_written_queues_behind_those_who_waited(tmp_path: Path) -> None:
    ours, theirs = WriteLock(str(tmp_path)), WriteLock(str(tmp_path))
    order: list[str] = []

    def other() -> None:
        theirs.acquire()
        order.append("theirs")
        theirs.release()

    ours.acquire()
    waiting = threading.Thread(target=other)
    waiting.start()
    while not ours._shared[0]:
        os.sched_yield()
    ours.release()
    ours.acquire()
    order.append("ours")
    ours.release()
    waiting.join()

    assert order == ["theirs", "ours"]
    ours.close()
    theirs.close()


def test_a_hint_left_by_a_dead_waiter_stops_nobody(tmp_path: Path) -> None:
    lock = WriteLock(str(tmp_path))
    lock._shared[0] = 1

    lock.acquire()

    assert lock._shared[0] == 0
    lock.release()
    lock.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of fork() beside threads, which other tests may have left
def test_a_forked_child_does_not_keep_a_lock_whose_owner_is_gone(tmp_path: Path) -> None:
    mine, others = WriteLock(str(tmp_path)), WriteLock(str(tmp_path))
    mine.acquire()
    release, wait = os.pipe()[::-1]
    child = os.fork()
    if child == 0:
        os.close(release)
        os.read(wait, 1)
        os._exit(0)

    mine.close()  # as the kernel does it when a process is killed
    others.acquire()

    os.close(release)
    os.close(wait)
    os.waitpid(child, 0)
    others.close()


# Pids.


def test_one_pid_is_one_live_process(two: tuple[SqliteStorage, SqliteStorage]) -> None:
    first, second = two
    first.claim("worker-1")

    with pytest.raises(UsageError, match=rf"pid 'worker-1' is in use by another live .*process {os.getpid()}"):
        second.claim("worker-1")

    first.close()
    assert second.claim("worker-1") == []


def test_a_process_that_is_back_learns_what_its_last_life_held(two: tuple[SqliteStorage, SqliteStorage]) -> None:
    first, second = two
    create = PromiseCreate("t", FAR, tags={"resonate:target": "poll://any@g"})
    Service(first, SettableClock(0)).handle([TaskCreate("worker-1", 60_000, create)])

    assert second.claim("worker-2") == []
    second.close()
    assert first.claim("worker-1") == [("t", 1)]


def test_pids_of_the_dead_leave_no_files_behind(tmp_path: Path) -> None:
    (tmp_path / "pid-dead").write_text("process 1")
    alive = PidLock(str(tmp_path), "alive")

    forget_dead(str(tmp_path))

    assert [path.name for path in tmp_path.iterdir()] == ["pid-alive"]
    alive.close()
    assert list(tmp_path.iterdir()) == []


def test_a_pid_of_any_length_has_a_file(tmp_path: Path) -> None:
    lock = PidLock(str(tmp_path), "ü" * 500)

    with pytest.raises(UsageError):
        PidLock(str(tmp_path), "ü" * 500)

    lock.close()


# Messages.


def test_a_message_wakes_the_other_process_without_its_looking(
    two: tuple[SqliteStorage, SqliteStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "POLL", 3600.0)
    sender, receiver = two
    heard = threading.Event()
    receiver.watch("g", "p", heard.set)

    put(sender, OFFER)

    assert heard.wait(20)
    assert receiver.fresh() == [OFFER]


def test_a_message_for_another_group_wakes_nobody(
    two: tuple[SqliteStorage, SqliteStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, receiver = two
    told: list[str] = []
    receiver.watch("other", "p", lambda: None)
    monkeypatch.setattr(sender._peers, "_tell", told.append)

    put(sender, OFFER)
    assert told == []
    put(sender, Send(("execute", "u"), "poll://any@other", Execute("u", 1)))

    assert len(told) == 1


def test_without_sockets_a_process_looks_by_itself(
    two: tuple[SqliteStorage, SqliteStorage], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(peers, "POLL", 0.01)
    sender, receiver = two
    receiver._peers._directory = Path("/proc/no/sockets/here")
    heard = threading.Event()
    receiver.watch("g", "p", heard.set)

    put(sender, OFFER)

    assert heard.wait(20)
    assert "only looked for each" in caplog.text


def test_the_socket_of_a_dead_process_is_removed(two: tuple[SqliteStorage, SqliteStorage]) -> None:
    sender, receiver = two
    receiver.watch("g", "p", lambda: None)
    directory = receiver._peers._directory
    dead = directory / f"{receiver._peers._mine[0].name.partition('-')[0]}-dead"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as gone:
        gone.bind(str(dead))

    put(sender, OFFER)

    assert not dead.exists()
    receiver.close()
    sender.close()
    assert not directory.exists()


def test_news_is_taken_once_and_an_offer_stays_until_the_task_is_acquired(
    two: tuple[SqliteStorage, SqliteStorage],
) -> None:
    sender, receiver = two
    put(sender, OFFER, NEWS)

    taken = [storage.take([OFFER.key, NEWS.key]) for storage in (receiver, sender)]
    put(receiver, Unsend(OFFER.key))

    assert taken == [[OFFER, NEWS], [OFFER]]
    assert sender.take([OFFER.key]) == []


def test_a_message_that_replaced_another_is_news_again(two: tuple[SqliteStorage, SqliteStorage]) -> None:
    sender, receiver = two
    put(sender, OFFER)
    receiver.look()
    receiver.fresh()
    again = Send(OFFER.key, OFFER.address, Execute("t", 2))

    put(sender, again)

    assert receiver.look()
    assert receiver.fresh() == [again]
    assert not receiver.look()


def test_what_others_make_due_is_known_after_a_look(two: tuple[SqliteStorage, SqliteStorage]) -> None:
    one, other = two
    Service(one, SettableClock(0)).handle([PromiseCreate("timer", 500, tags={"resonate:timer": "true"})])

    assert other.look()

    assert other.next_due() == 500
    assert other.due(500, 10) == [("promise", "timer")]


def test_two_services_that_fire_the_same_timer_settle_it_once(two: tuple[SqliteStorage, SqliteStorage]) -> None:
    clock = SettableClock(0)
    services = [Service(storage, clock) for storage in two]
    services[0].handle([PromiseCreate("timer", 500, tags={"resonate:timer": "true"})])
    two[1].look()
    clock.set(600)

    for service in services:
        service.tick()

    found = services[1].handle([PromiseGet("timer")])[0].promise
    assert found is not None
    assert (found.state, found.settled_at) == ("resolved", 500)
    assert [storage.next_due() for storage in two] == [None, None]


def test_an_offer_is_left_to_its_last_suspender_in_another_process_for_a_moment(
    two: tuple[SqliteStorage, SqliteStorage],
) -> None:
    clock = SettableClock(0)
    services = [Service(storage, clock) for storage in two]
    subscriptions = [Subscription("g", pid, lambda: None) for pid in ("a", "b")]
    for service, subscription in zip(services, subscriptions, strict=True):
        service.delivery.subscribe(subscription)

    put(two[0], Send(OFFER.key, OFFER.address, OFFER.message, prefer="a"))
    two[1].look()
    services[1]._after()

    assert subscriptions[1].take(1) == []
    clock.advance(PREFERENCE / 1000)
    services[1].delivery.move_on()
    assert subscriptions[1].take(1) == [OFFER.message]


def test_an_offer_whose_last_suspender_has_left_goes_to_who_comes_next_after_that_moment(
    two: tuple[SqliteStorage, SqliteStorage],
) -> None:
    service, woken = Service(two[1], SystemClock()), threading.Event()
    comer = Subscription("g", "b", woken.set)
    put(two[1], Send(OFFER.key, OFFER.address, OFFER.message, prefer="a"))
    service.announce()
    service.start()
    while service.timers.wakes_at < 0:  # then it sleeps, and if nobody wakes it, for half a minute
        woken.wait(0.001)

    service.subscribe(comer)

    assert woken.wait(10)
    assert comer.take(1) == [OFFER.message]
    service.stop()


# Lives.


def test_a_killed_function_goes_on_in_the_next_life_of_its_process(tmp_path: Path, start: Start) -> None:
    """The lease would last an hour: it is the proof of death that lets it go on at once."""
    url, notes = f"sqlite:///{tmp_path}/app.db", tmp_path / "notes"
    client = Resonate(url=url, group="callers")
    first = start("serve", url, "workers", "worker-1", 3600, notes)
    assert read(first) == "ready"
    handle = client.options(target="workers").begin_rpc("count", "count")
    assert read(first) == "in the middle"

    first.kill()
    first.wait()
    Path(f"{notes}.go").touch()
    second = start("serve", url, "workers", "worker-1", 3600, notes)
    assert read(second) == "ready"

    assert handle.result() == [0, 1, 2, 3, 4, 5, second.pid]
    assert notes.read_text().split() == ["0", "1", "2", "3", "3", "4", "5"]
    client.stop()
    stop(second)


@pytest.mark.slow
def test_a_killed_function_goes_on_elsewhere_when_its_lease_ends(tmp_path: Path, start: Start) -> None:
    url, notes = f"sqlite:///{tmp_path}/app.db", tmp_path / "notes"
    client = Resonate(url=url, group="callers")
    first = start("serve", url, "workers", "worker-1", 1, notes)
    assert read(first) == "ready"
    handle = client.options(target="workers").begin_rpc("count", "count")
    assert read(first) == "in the middle"
    second = start("serve", url, "workers", "worker-2", 1, notes)
    assert read(second) == "ready"

    Path(f"{notes}.go").touch()
    first.kill()

    assert handle.result() == [0, 1, 2, 3, 4, 5, second.pid]
    assert notes.read_text().split() == ["0", "1", "2", "3", "3", "4", "5"]
    client.stop()
    stop(second)


def test_processes_call_each_other_by_group(tmp_path: Path, start: Start) -> None:
    url = f"sqlite:///{tmp_path}/app.db"
    worker = start("serve", url, "workers", "worker-1", 10, tmp_path / "notes")
    assert read(worker) == "ready"
    client = Resonate(url=url, group="callers")

    def total(ctx: Any, upto: int) -> Any:
        found = 0
        for number in range(upto):
            found = yield ctx.rpc("add", found, number).options(target="workers")
        return found

    client.register(total)

    assert client.run("total", total, 10) == 45
    client.stop()
    stop(worker)
