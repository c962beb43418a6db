"""What is told of an offer and read with it: nobody looks for it, and acquiring its task reads nothing more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from resonate.protocol.records import EMPTY, Execute, Promise, Unblock
from resonate.protocol.requests import (
    PromiseCreate,
    PromiseGet,
    PromiseSettle,
    PromiseWrite,
    Response,
    TaskAcquire,
    TaskFence,
    TaskRelease,
)
from resonate.protocol.rows import Send
from resonate.service.service import Service
from resonate.storage.postgres.connection import Connection
from resonate.storage.postgres.lane import Lane
from resonate.storage.postgres.listener import GATHER, GATHER_FEW, TOLD, Teller, telling, told_offers
from resonate.storage.postgres.location import parse
from resonate.storage.postgres.statements import FORESEEN
from resonate.storage.postgres.storage import PostgresStorage
from tests import databases
from tests.homes import until

FAR = 10**13
TTL = 60_000
TARGET = {"resonate:target": "poll://any@g"}
SETTLED = Promise("p", "resolved", EMPTY, EMPTY, {}, FAR, 0, 1)
NEWS = Send(("unblock", "p", "poll://uni@g/1"), "poll://uni@g/1", Unblock(SETTLED))

Two = tuple[Service, Service]


@pytest.fixture
def two() -> Iterator[Two]:
    """Two services on one database: to it they are what two processes are."""
    location = parse(f"{databases.fresh_url()}&options=-csynchronous_commit%3Doff")
    services = [Service(storage, storage.clock) for storage in (PostgresStorage(location), PostgresStorage(location))]
    for service in services:
        service.handle([PromiseGet("warm")])
        service.handle([PromiseGet("warm-a")])
    yield services[0], services[1]
    for service in services:
        service.storage.close()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What lanes have sent, one entry for each round trip."""
    sent: list[str] = []
    execute, together = Connection.execute, Connection.together

    def counted(self: Connection, statement: str, parameters: Any = ()) -> Any:
        if "origins" in statement and "outbox" not in statement.partition(" ")[2][:60]:
            sent.append(" ".join(statement.split())[:40])
        return execute(self, statement, parameters)

    def counted_together(self: Connection, statements: Any) -> Any:
        sent.append("together")
        return together(self, statements)

    monkeypatch.setattr(Connection, "execute", counted)
    monkeypatch.setattr(Connection, "together", counted_together)
    return sent


def created(service: Service, id: str, below: int = 0) -> None:
    """A promise that a worker of `g` is to settle, and what an earlier run of it has recorded below it."""
    service.handle([PromiseCreate(id, FAR, tags={**TARGET, "resonate:branch": id, "resonate:parent": id})])
    if below:
        service.handle([TaskAcquire(id, 0, "w", TTL)])
        for n in range(below):
            step = PromiseCreate(f"{id}:{n}", FAR, tags={"resonate:branch": id, "resonate:parent": id})
            service.handle([TaskFence(id, 1, PromiseWrite(step, PromiseSettle(step.id, "resolved")), False)])
        service.handle([TaskRelease(id, 1)])


def acquired(service: Service, id: str) -> Response:
    (offer,) = service.storage.take([("execute", id)])
    assert isinstance(offer.message, Execute)
    return service.handle([TaskAcquire(id, offer.message.version, "other", TTL)])[0]


@pytest.mark.parametrize("below", [0, 3, FORESEEN])
def test_acquiring_a_task_whose_offer_was_taken_is_one_round_trip(two: Two, asked: list[str], below: int) -> None:
    created(two[0], "t", below)
    offers = two[1].storage.take([("execute", "t")])
    asked.clear()

    answer = two[1].handle([TaskAcquire("t", offers[0].message.version, "other", TTL)])[0]  # type: ignore[union-attr]

    assert answer.status == 200
    assert sorted(promise.id for promise in answer.preload) == sorted(f"t:{n}" for n in range(below))
    assert len(asked) == 1


def test_a_step_of_a_task_that_was_read_with_its_offer_is_not_looked_for(two: Two, asked: list[str]) -> None:
    created(two[0], "t", 2)
    acquired(two[1], "t")
    asked.clear()
    step = PromiseCreate("t:9", FAR, tags={"resonate:branch": "t", "resonate:parent": "t"})

    two[1].handle([TaskFence("t", 2, PromiseWrite(step, PromiseSettle("t:9", "resolved")), False)])

    assert len(asked) == 1


def test_a_task_with_more_below_it_than_is_read_with_its_offer_is_acquired_with_all_of_it(two: Two) -> None:
    created(two[0], "t", FORESEEN + 1)

    answer = acquired(two[1], "t")

    assert len(answer.preload) == FORESEEN + 1


def test_children_of_another_root_are_read_with_their_offers(two: Two, asked: list[str]) -> None:
    two[0].handle([PromiseCreate("t", FAR, tags={**TARGET, "resonate:branch": "t", "resonate:parent": "t"})])
    child = {**TARGET, "resonate:branch": "t:1", "resonate:parent": "t"}
    two[0].handle([PromiseCreate("t:1", FAR, tags=child)])
    below = {"resonate:branch": "t:1", "resonate:parent": "t:1"}
    two[0].handle([PromiseCreate("t:1.1", FAR, tags=below)])
    two[1].storage.take([("execute", "t:1")])
    asked.clear()

    answer = two[1].handle([TaskAcquire("t:1", 0, "other", TTL)])[0]

    assert [promise.id for promise in answer.preload] == ["t:1.1"]
    assert len(asked) == 1


def test_what_was_read_with_an_offer_and_has_changed_since_is_read_again(two: Two) -> None:
    created(two[0], "t", 1)
    two[1].storage.take([("execute", "t")])
    assert two[0].handle([TaskAcquire("t", 1, "faster", TTL)])[0].status == 200

    late = two[1].handle([TaskAcquire("t", 1, "other", TTL)])[0]

    assert late.status == 409
    assert two[1].handle([PromiseGet("t:0")])[0].promise is not None


def test_an_offer_of_a_task_that_was_purged_is_taken_without_what_is_gone(two: Two) -> None:
    created(two[0], "t")
    storage = two[0].storage
    assert isinstance(storage, PostgresStorage)
    schema = storage._location.schema
    for table in ("origins", "promises", "tasks"):
        storage._aside(f"DELETE FROM {schema}.{table}")

    assert [offer.key for offer in two[1].storage.take([("execute", "t")])] == [("execute", "t")]
    assert two[1].handle([TaskAcquire("t", 0, "other", TTL)])[0].status == 404


def test_what_others_acquire_in_the_end_is_not_remembered_for_ever(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resonate.storage.postgres.storage.FORESEEN_TREES", 3)
    for n in range(10):
        created(two[0], f"t-{n}")
        two[1].storage.take([("execute", f"t-{n}")])

    storage = two[1].storage
    assert isinstance(storage, PostgresStorage)
    lane = storage._lane(0)
    assert isinstance(lane, Lane)
    assert len(lane._foreseen) <= 4


# What goes along with a notification.


def offer(id: str) -> Send:
    return Send(("execute", id), "poll://any@g", Execute(id, 3), "last")


def test_a_few_offers_go_along_with_a_notification() -> None:
    offers = [offer("a"), offer("ü:1.2")]

    assert told_offers(telling(offers)) == offers


def test_other_news_and_many_offers_are_looked_for() -> None:
    assert telling([offer("a"), NEWS]) == ""
    assert telling([offer("a" * TOLD)]) == ""
    assert told_offers("") == []


@pytest.mark.parametrize("text", ["?", "bm9wZQ==", "kw=="])
def test_a_notification_of_somebody_else_asks_for_a_look(text: str) -> None:
    assert told_offers(text) == []


@pytest.mark.parametrize(
    ("sends", "pause"),
    [([offer("a")], GATHER_FEW), ([offer("a"), offer("b")], GATHER), ([NEWS], GATHER)],
)
def test_notifications_gather_for_longer_unless_a_single_offer_was_told(
    sends: list[Send], pause: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    told: list[Any] = []
    clock = SimpleNamespace(sleep=pauses.append, monotonic=time.monotonic)
    monkeypatch.setattr("resonate.storage.postgres.listener.time", clock)
    teller = Teller(lambda statement, parameters: told.append(parameters), "s")

    teller.tell(sends, mine=())
    until(lambda: bool(pauses))
    teller.close()

    assert pauses == [pause]
    assert len(told) == 1


def test_offers_that_are_told_are_handed_out_without_a_look(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = two[0].storage
    assert isinstance(storage, PostgresStorage)
    storage._look(False)  # the next whole look is a second away
    monkeypatch.setattr(storage, "_arrived", lambda whole: pytest.fail("looked"))
    monkeypatch.setattr(storage._arrivals, "is_time", lambda: False)

    storage._look(True, [offer("a")])

    assert storage.fresh() == [offer("a")]


def test_offers_that_are_told_come_after_those_that_wait_already(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = two[0].storage
    assert isinstance(storage, PostgresStorage)
    monkeypatch.setattr(storage._arrivals, "is_time", lambda: False)
    storage._arrivals._unended.add("g")

    storage._look(True, [offer("a")])

    assert storage.fresh() == []
