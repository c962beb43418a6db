"""Many callers, one transaction: what becomes of those who wait when the storage fails."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from resonate.clock import SettableClock
from resonate.errors import StorageUnavailable
from resonate.protocol.requests import (
    PromiseCreate,
    PromiseGet,
    PromiseRegisterCallback,
    PromiseSettle,
    Response,
    TaskCreate,
    TaskSuspend,
)
from resonate.service.lane import BATCH, Call
from resonate.service.service import Service
from resonate.storage.memory import MemoryStorage

LATER = 2**52


class Slow(MemoryStorage):
    """Commits when it is told to, and fails as often as it is told to."""

    immediate = False

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.go = threading.Event()
        self.failures = 0
        self.fails_at = 0
        self.commits = 0

    def commit(self) -> None:
        self.reached.set()
        assert self.go.wait(10)
        self.commits += 1
        if self.commits == self.fails_at:
            raise StorageUnavailable("no room")
        if self.failures:
            self.failures -= 1
            raise StorageUnavailable("no room")


class Callers:
    """Threads that each send one request, while the first holds the storage."""

    def __init__(self, storage: Slow, count: int) -> None:
        self.service = Service(storage, SettableClock())
        self.outcomes: dict[str, Response | Exception] = {}
        first = self._start("first")
        assert storage.reached.wait(10)
        self.threads = [first, *(self._start(f"p{n}") for n in range(count))]
        while len(self.service._lanes[0].queue) < count:
            pass
        storage.go.set()
        for thread in self.threads:
            thread.join(10)
            assert not thread.is_alive()

    def _start(self, id: str) -> threading.Thread:
        def call() -> None:
            try:
                self.outcomes[id] = self.service.handle([PromiseCreate(id, LATER)])[0]
            except StorageUnavailable as error:
                self.outcomes[id] = error

        thread = threading.Thread(target=call)
        thread.start()
        return thread

    def failed(self) -> list[str]:
        return sorted(id for id, outcome in self.outcomes.items() if isinstance(outcome, Exception))


def test_those_who_wait_are_served_in_one_transaction() -> None:
    storage = Slow()
    callers = Callers(storage, 20)

    assert callers.failed() == []
    assert len(callers.outcomes) == 21
    assert storage.commits == 2


def test_those_who_wait_behind_a_failure_are_served() -> None:
    storage = Slow()
    storage.failures = 1
    callers = Callers(storage, 5)

    assert callers.failed() == ["first"]
    assert len(callers.outcomes) == 6


def test_everybody_is_told_of_a_storage_that_goes_on_failing() -> None:
    storage = Slow()
    storage.failures = 1000
    callers = Callers(storage, 5)

    assert len(callers.failed()) == 6


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_leader_leaves_no_waiter_behind(interruption: Any) -> None:
    storage = MemoryStorage()
    service = Service(storage, SettableClock())
    woken: list[str] = []

    def interrupted(effects: Any) -> None:
        storage.apply = apply  # type: ignore[method-assign]
        waiter.start()
        while not service._lanes[0].queue:
            pass
        raise interruption

    def wait() -> None:
        service.handle([PromiseGet("p")])
        woken.append("waiter")

    waiter = threading.Thread(target=wait)
    apply = storage.apply
    storage.apply = interrupted  # type: ignore[method-assign]

    with pytest.raises(interruption):
        service.handle([PromiseCreate("p", LATER)])

    waiter.join(10)
    assert woken == ["waiter"]


def test_calls_handed_in_together_share_one_commit_and_keep_their_own_answers() -> None:
    storage = Slow()
    storage.go.set()
    service = Service(storage, SettableClock())
    calls = [Call([PromiseCreate("a", LATER)]), Call([PromiseGet("a"), PromiseGet("b")]), Call([PromiseGet("b")])]

    service.handle_all(calls)

    assert [[answer.status for answer in call.answers] for call in calls] == [[200], [200, 404], [404]]
    assert storage.commits == 1
    assert [call.error for call in calls] == [None, None, None]


def test_a_commit_that_fails_is_the_error_of_every_call_it_was_for() -> None:
    storage = Slow()
    storage.go.set()
    storage.failures = 1
    service = Service(storage, SettableClock())
    calls = [Call([PromiseCreate("a", LATER)]), Call([PromiseCreate("b", LATER)])]

    service.handle_all(calls)
    service.handle_all(later := [Call([PromiseCreate("c", LATER)])])

    assert [(call.answers, type(call.error)) for call in calls] == [([], StorageUnavailable)] * 2
    assert later[0].answers[0].status == 200


class Picky(Slow):
    """Cannot store what is about `bad`."""

    def begin(self, footprint: Any, lane: int = 0) -> Any:
        self.refuses = "bad" in footprint().promises
        return super().begin(footprint, lane)

    def commit(self) -> None:
        super().commit()
        if self.refuses:
            raise UnicodeError("bad is no text")


def test_what_cannot_be_stored_is_the_error_of_the_call_that_asks_for_it() -> None:
    storage = Picky()
    storage.go.set()
    service = Service(storage, SettableClock())
    calls = [Call([PromiseCreate(id, LATER)]) for id in ("a", "bad", "b")]

    service.handle_all(calls)

    assert [type(call.error) for call in calls] == [type(None), UnicodeError, type(None)]
    assert [[answer.status for answer in call.answers] for call in calls] == [[200], [], [200]]


def test_a_storage_that_fails_while_calls_are_served_one_by_one_is_the_error_of_those_that_are_left() -> None:
    storage = Picky()
    storage.go.set()
    service = Service(storage, SettableClock())
    calls = [Call([PromiseCreate(id, LATER)]) for id in ("bad", "a")]
    storage.fails_at = 3  # all together, the first, the second

    service.handle_all(calls)

    assert [type(call.error) for call in calls] == [UnicodeError, StorageUnavailable]


def test_more_calls_than_fit_one_transaction_are_all_answered() -> None:
    service = Service(MemoryStorage(), SettableClock())
    calls = [Call([PromiseCreate(f"p{n}", LATER)]) for n in range(BATCH + 1)]

    service.handle_all(calls)

    assert {answer.status for call in calls for answer in call.answers} == {200}


def test_an_offer_that_nobody_took_is_made_to_the_whole_group() -> None:
    """Whoever suspended the task last has had its chance: it may be gone without anybody knowing."""
    clock = SettableClock(0)
    service = Service(MemoryStorage(), clock)
    root = PromiseCreate("w", 10**12, tags={"resonate:target": "poll://any@g"})
    service.handle([TaskCreate("p", 1000, root), PromiseCreate("e", 10**12, tags={"resonate:external": "true"})])
    service.handle([TaskSuspend("w", 1, (PromiseRegisterCallback("e", "w"),)), PromiseSettle("e", "resolved")])

    assert [send.prefer for send in service.storage.outbox()] == ["p"]

    clock.set(30_000)
    service.tick()

    assert [send.prefer for send in service.storage.outbox()] == [None]
