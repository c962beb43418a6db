"""Many processes on one database: turns, wake-ups, timers, and what happens when one is killed."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

import resonate
from resonate import Context, Resonate
from resonate.clock import SettableClock
from resonate.errors import UsageError
from resonate.protocol.addresses import PUSHED
from resonate.protocol.footprint import Footprint
from resonate.protocol.records import EMPTY, Execute, Promise, Unblock
from resonate.protocol.requests import PromiseCreate, PromiseGet, ScheduleCreate, TaskCreate
from resonate.protocol.rows import Effect, Send
from resonate.service.delivery import PREFERENCE
from resonate.service.service import Service, Subscription
from resonate.storage.postgres import listener
from resonate.storage.postgres import storage as module
from resonate.storage.postgres.location import parse
from resonate.storage.postgres.storage import HIDDEN, HIDDEN_PUSHED, PostgresStorage
from tests import databases
from tests.homes import until
from tests.postgres.cluster import binaries

REPOSITORY = Path(__file__).parents[2]
SOURCE = Path(resonate.__file__).parents[1]
FAR = 10**13
OFFER = Send(("execute", "t"), "poll://any@g", Execute("t", 1))
SETTLED = Promise("p", "resolved", EMPTY, EMPTY, {}, FAR, 0, 1)
NEWS = Send(("unblock", "p", "poll://uni@g/1"), "poll://uni@g/1", Unblock(SETTLED))
PROMPT = 0.1
"""Seconds in which another process hears of a message."""

Start = Callable[..., "subprocess.Popen[str]"]
Two = tuple[PostgresStorage, PostgresStorage]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(binaries() is None, reason="PostgreSQL is not installed")]


@pytest.fixture
def url() -> str:
    return f"{databases.fresh_url()}&options=-csynchronous_commit%3Doff"


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
def two(url: str) -> Iterator[Two]:
    """Two storages on one database: to it they are what two processes are."""
    storages = PostgresStorage(parse(url)), PostgresStorage(parse(url))
    yield storages
    for storage in storages:
        storage.close()


def read(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def stop(process: subprocess.Popen[str]) -> None:
    process.communicate()
    assert process.returncode == 0


def put(storage: PostgresStorage, *effects: Effect) -> None:
    transaction = storage.begin(lambda: Footprint({"t", "p"}, set(), set()))
    transaction.apply(effects)
    transaction.commit()


class Still(SettableClock):
    """A clock that the database's time does not move."""

    sure = True

    def told(self, now: int, asked: float, answered: float) -> None:
        """What the database says is ignored."""


def still(*storages: PostgresStorage) -> Still:
    """A clock that these storages share, at the start of time."""
    clock = Still(0)
    for storage in storages:
        storage.clock = clock  # type: ignore[assignment]
    return clock


# Turns.


def test_processes_that_hammer_one_database_all_get_through_and_agree(url: str, start: Start) -> None:
    processes = [start("hammer", url, f"p{number}", 100) for number in range(3)]
    assert [read(process) for process in processes] == ["ready"] * 3

    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    winners = [read(process).split() for process in processes]

    assert len(winners[0]) == 100
    assert winners == [winners[0]] * 3
    storage = PostgresStorage(parse(url))
    assert len(storage.promises(None)) == 4 * 100
    storage.close()


def test_processes_that_come_at_the_same_time_make_one_schema(url: str, start: Start) -> None:
    processes = [start("serve", url, "g", f"p{number}", 10, "/dev/null") for number in range(4)]

    assert [read(process) for process in processes] == ["ready"] * 4


# Pids.


def test_one_pid_is_one_live_process(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PID_PAUSE", 0.01)
    first, second = two
    first.claim("worker-1")

    with pytest.raises(UsageError, match=r"another live process uses .* under the pid 'worker-1'"):
        second.claim("worker-1")

    first.close()
    assert second.claim("worker-1") == []


@pytest.mark.parametrize("schema", ["user", "order", "all"])
def test_a_schema_may_be_called_like_a_word_of_sql(schema: str) -> None:
    url = f"{databases.url()}?schema={schema}"
    try:
        with Resonate(url=url) as client:
            client.register(lambda ctx: 1, name="one")
            assert client.run("p", "one") == 1
            client.purge("p")
    finally:
        with psycopg.connect(databases.url(), autocommit=True) as session:
            session.execute(f'DROP SCHEMA "{schema}" CASCADE'.encode())


def test_the_same_pid_in_another_schema_is_another_process(two: Two) -> None:
    elsewhere = PostgresStorage(parse(databases.fresh_url()))
    two[0].claim("worker-1")

    assert elsewhere.claim("worker-1") == []

    elsewhere.close()


def test_a_process_that_is_back_learns_what_its_last_life_held(two: Two) -> None:
    first, second = two
    create = PromiseCreate("t", FAR, tags={"resonate:target": "poll://any@g"})
    Service(first, SettableClock(0)).handle([TaskCreate("worker-1", 60_000, create)])

    assert second.claim("worker-2") == []
    second.close()
    assert first.claim("worker-1") == [("t", 1)]


# Messages.


def test_a_message_wakes_the_other_process_within_100_ms(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "POLL", 3600.0)  # by being told alone
    sender, receiver = two
    heard = threading.Event()
    receiver.watch("g", "p", heard.set)
    receiver._listener.wake()
    assert heard.wait(20)  # it listens, and has looked once
    took = []

    for number in range(15):
        heard.clear()
        again = Send(("execute", "t"), "poll://any@g", Execute("t", number))
        began = time.monotonic()
        put(sender, again)
        assert heard.wait(20)
        took.append(time.monotonic() - began)
        assert receiver.fresh() == [again]

    assert statistics.median(took) < PROMPT, took


def test_without_notifications_a_process_looks_by_itself(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "POLL", 0.02)
    sender, receiver = two
    monkeypatch.setattr(sender._teller, "_notify", lambda groups: None)
    receiver.watch("g", "p", lambda: None)

    put(sender, OFFER)

    until(lambda: receiver.fresh() == [OFFER])


def test_news_is_taken_once_and_an_offer_is_hidden_from_others_for_its_time(two: Two) -> None:
    clock = still(*two)
    sender, receiver = two
    put(sender, OFFER, NEWS)

    assert receiver.take([OFFER.key, NEWS.key]) == [OFFER, NEWS]
    assert sender.take([OFFER.key, NEWS.key]) == []
    clock.set(HIDDEN - 1)
    assert sender.take([OFFER.key]) == []
    clock.set(HIDDEN)
    assert sender.take([OFFER.key]) == [OFFER]


def test_an_offer_whose_taker_has_died_goes_to_another_process_after_its_time(two: Two) -> None:
    """The taker ends between taking the offer and acquiring the task; nobody tells anybody."""
    clock = still(*two)
    taker, other = two
    service = Service(other, clock)
    subscription = Subscription("g", "b", lambda: None)
    create = PromiseCreate("t", FAR, tags={"resonate:target": "poll://any@g"})
    Service(taker, clock).handle([create])
    (offer,) = taker.take([("execute", "t")])
    taker.close()

    service.subscribe(subscription)
    assert subscription.take(1) == []
    clock.set(HIDDEN + 1)
    until(lambda: subscription.take(1) == [offer.message])


def test_what_is_pushed_is_hidden_for_longer_and_nothing_else_that_its_taker_takes(two: Two) -> None:
    """A server takes both; whoever polls must not wait for what a receiver that is pushed may need."""
    clock = still(*two)
    server, other = two
    pushed = Send(("execute", "p"), "http://127.0.0.1:1/push", Execute("p", 1))
    server.watch(PUSHED, "", lambda: None)
    put(server, OFFER, pushed)

    assert server.take([OFFER.key, pushed.key]) == [OFFER, pushed]
    clock.set(HIDDEN)
    assert other.take([OFFER.key, pushed.key]) == [OFFER]
    clock.set(HIDDEN_PUSHED)
    assert other.take([pushed.key]) == [pushed]


def test_an_offer_is_left_to_its_last_suspender_in_another_process_for_a_moment(two: Two) -> None:
    clock = still(*two)
    services = [Service(storage, clock) for storage in two]
    subscriptions = [Subscription("g", pid, lambda: None) for pid in ("a", "b")]
    for service, subscription in zip(services, subscriptions, strict=True):
        service.subscribe(subscription)

    put(two[0], Send(OFFER.key, OFFER.address, OFFER.message, prefer="a"))
    two[1]._look(True)
    services[1]._after()

    assert subscriptions[1].take(1) == []
    clock.advance(PREFERENCE / 1000)
    services[1].delivery.move_on()
    until(lambda: subscriptions[1].take(1) == [OFFER.message])


# Timers.


def test_two_services_that_fire_the_same_timers_settle_each_once(two: Two) -> None:
    """Both see all of them due and fire at the same time; whoever comes second to one finds it settled."""
    clock = still(*two)
    services = [Service(storage, clock) for storage in two]
    timers = [f"timer-{number}" for number in range(40)]
    for id in timers:
        services[0].handle([PromiseCreate(id, 500, tags={"resonate:timer": "true"})])
    two[1]._look(False)
    written = updates(two[0], "promises")
    clock.set(600)

    at_once(*(partial(drain, service) for service in services))

    found = [services[1].handle([PromiseGet(id)])[0].promise for id in timers]
    assert {(promise.state, promise.settled_at) for promise in found if promise is not None} == {("resolved", 500)}
    assert sorted(written()) == sorted(timers)


def test_a_schedule_fires_once_for_each_occurrence_with_two_services(two: Two) -> None:
    clock = still(*two)
    services = [Service(storage, clock) for storage in two]
    tags = {"resonate:target": "poll://any@g"}
    services[0].handle([ScheduleCreate("ticks", "* * * * *", "tick-{{.timestamp}}", FAR, promise_tags=tags)])

    written = updates(two[0], "schedules")
    for minute in range(1, 21):
        clock.set(60_000 * minute)
        two[1]._look(False)
        at_once(*(partial(drain, service) for service in services))

    ids = [row.promise.id for row in two[0].promises(None)]
    assert sorted(ids) == sorted(f"tick-{60_000 * minute}" for minute in range(1, 21))
    assert written() == ["ticks"] * 20


def updates(storage: PostgresStorage, table: str) -> Callable[[], list[str]]:
    """From now on, the ids of the rows of `table` that are changed, as often as they are."""
    schema = storage._location.schema
    for statement in (
        f"CREATE TABLE {schema}.updates (id text)",
        f"CREATE FUNCTION {schema}.noted() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN INSERT INTO {schema}.updates VALUES (NEW.id); RETURN NULL; END $$",
        f"CREATE TRIGGER noted AFTER UPDATE ON {schema}.{table} FOR EACH ROW EXECUTE FUNCTION {schema}.noted()",
    ):
        storage._aside(statement)
    return lambda: [id for (id,) in storage._aside(f"SELECT id FROM {schema}.updates")]


def drain(service: Service) -> None:
    """Fire until nothing is due, as a service does that is told so again and again."""

    def nothing_due() -> bool:
        service.tick()
        return service.storage.due(service.now(), 1) == []

    until(nothing_due)


def at_once(*jobs: Callable[[], Any]) -> None:
    """Do all of these on a thread of its own each."""
    failed: list[BaseException] = []

    def guarded(job: Callable[[], Any]) -> None:
        try:
            job()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


@pytest.mark.slow
def test_a_function_on_a_schedule_runs_once_each_second_with_two_clients_that_could(url: str) -> None:
    ran: list[str] = []

    def tick(ctx: Context) -> str:
        ran.append(ctx.id)
        return ctx.id

    clients = [Resonate(url=url, group="g") for _ in range(2)]
    for client in clients:
        client.register(tick)
        client.start()
    clients[0].schedule("each-second", tick, "* * * * * *")

    until(lambda: len(ran) >= 4)
    for client in clients:
        client.stop()

    assert len(set(ran)) == len(ran)


# Lives.


def test_a_killed_function_goes_on_in_the_next_life_of_its_process(url: str, tmp_path: Path, start: Start) -> None:
    """The lease would last an hour: it is the proof of death that lets it go on at once."""
    notes = tmp_path / "notes"
    client = Resonate(url=url, group="callers")
    first = start("serve", url, "workers", "worker-1", 3600, notes)
    assert read(first) == "ready"
    handle = client.options(target="workers").begin_rpc("count", "count")
    assert read(first) == "in the middle"

    with pytest.raises(UsageError, match="another live process uses"):
        Resonate(url=url, group="workers", pid="worker-1").start()
    first.send_signal(signal.SIGKILL)
    first.wait()
    Path(f"{notes}.go").touch()
    second = start("serve", url, "workers", "worker-1", 3600, notes)
    assert read(second) == "ready"

    assert handle.result() == [0, 1, 2, 3, 4, 5, second.pid]
    assert notes.read_text().split() == ["0", "1", "2", "3", "3", "4", "5"]
    client.stop()
    stop(second)


@pytest.mark.slow
def test_a_killed_function_goes_on_elsewhere_when_its_lease_ends(url: str, tmp_path: Path, start: Start) -> None:
    notes = tmp_path / "notes"
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


def test_processes_call_each_other_by_group(url: str, tmp_path: Path, start: Start) -> None:
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
