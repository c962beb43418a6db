"""Pushes to real receivers: what arrives, what is tried again, what is bounded."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from resonate.clock import SettableClock
from resonate.protocol.requests import (
    DebugStart,
    DebugStop,
    PromiseCreate,
    PromiseRegisterListener,
    PromiseSettle,
    TaskAcquire,
)
from resonate.server import push
from resonate.service.delivery import Subscription
from resonate.signing import SIGNATURE
from resonate.storage.base import Storage
from resonate.storage.memory import MemoryStorage
from resonate.storage.sqlite.location import Location
from resonate.storage.sqlite.storage import SqliteStorage

from .pushed import LATER, Pushed, answering, emptied, pushing
from .receiver import PATIENCE, Push, Reply, receiving

HOUR = 3_600_000


@pytest.fixture(params=["memory", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    storage: Storage = (
        MemoryStorage() if request.param == "memory" else SqliteStorage(Location(f"{tmp_path}/a.db", synchronous="off"))
    )
    yield storage
    storage.close()


def holding(release: threading.Event) -> Callable[[Push, Reply], None]:
    def answer(push: Push, reply: Reply) -> None:
        release.wait(PATIENCE)
        reply.send(200)

    return answer


# What arrives.


def test_an_offer_is_posted_as_the_protocol_says(storage: Storage) -> None:
    with receiving() as receiver, pushing(storage, server_url="http://us:8001") as pushed:
        pushed.offer(receiver.url("/run?x=1"))

        [got] = receiver.wait(1)

        assert got.path == "/run?x=1"
        assert got.headers["Content-Type"] == "application/json"
        assert got.headers["Authorization"] is None
        assert got.headers[SIGNATURE] is None
        assert got.headers["Host"] == f"127.0.0.1:{receiver.port}"
        assert got.json == {
            "kind": "execute",
            "head": {"serverUrl": "http://us:8001"},
            "data": {"task": {"id": "task", "version": 0}},
        }
        assert pushed.outcome() == ("execute", "success")
        assert emptied(pushed)


def test_the_news_of_a_settled_promise_is_posted_and_then_leaves_the_outbox(storage: Storage) -> None:
    with receiving() as receiver, pushing(storage) as pushed:
        pushed.news(receiver.url())

        [got] = receiver.wait(1)

        assert got.json["kind"] == "unblock"
        assert got.json["head"] == {}
        assert got.json["data"]["promise"]["state"] == "resolved"
        assert pushed.outcome() == ("unblock", "success")
        assert emptied(pushed)


def test_what_has_waited_is_delivered_when_the_pusher_starts(storage: Storage) -> None:
    pushed = Pushed(storage)
    with receiving() as receiver:
        pushed.offer(receiver.url("/offer"))
        pushed.news(receiver.url("/news"))
        pushed.pusher.start()

        assert {got.path for got in receiver.wait(2)} == {"/offer", "/news"}
        pushed.until(("execute", "success"), ("unblock", "success"))
        assert emptied(pushed)


def test_nothing_is_pushed_while_debugging_has_stopped_the_loops(storage: Storage) -> None:
    with receiving() as receiver, pushing(storage) as pushed:
        pushed.service.debug = True
        pushed.service.handle([DebugStart()])
        pushed.offer(receiver.url("/offer"))
        pushed.news(receiver.url("/news"))
        held = {send.address for send in storage.outbox()}

        pushed.service.handle([DebugStop()])

        assert {receiver.url("/offer"), receiver.url("/news")} == held
        assert {got.path for got in receiver.wait(2)} == {"/offer", "/news"}


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_2xx_is_success(status: int) -> None:
    with receiving(answering(status)) as receiver, pushing() as pushed:
        pushed.news(receiver.url())

        assert pushed.outcome() == ("unblock", "success")


def test_one_promise_is_told_to_each_of_its_listeners(storage: Storage) -> None:
    with receiving() as receiver, pushing(storage) as pushed:
        pushed.service.handle([PromiseCreate("p", LATER, tags={"resonate:external": "true"})])
        addresses = [receiver.url(f"/{n}") for n in range(20)]
        pushed.service.handle([PromiseRegisterListener("p", address) for address in addresses])

        pushed.service.handle([PromiseSettle("p", "rejected")])

        assert {got.path for got in receiver.wait(20)} == {f"/{n}" for n in range(20)}


def test_polled_receivers_get_nothing_that_is_for_http_and_the_other_way_round() -> None:
    with receiving() as receiver, pushing() as pushed:
        everything = Subscription("g", "p", lambda: None, catch_all=True)
        pushed.service.subscribe(everything)

        pushed.offer(receiver.url(), "pushed")
        pushed.offer("poll://any@g", "polled")

        assert [got.json["data"]["task"]["id"] for got in receiver.wait(1)] == ["pushed"]
        assert pushed.outcome() == ("execute", "success")
        assert [message.id for message in everything.take(9)] == ["polled"]  # type: ignore[union-attr]


# What is tried again.


@pytest.mark.parametrize("status", [301, 400, 401, 404, 410, 429, 500, 503])
def test_news_is_tried_again_until_a_receiver_takes_it(status: int) -> None:
    with receiving(answering(status, status, 200)) as receiver, pushing() as pushed:
        pushed.news(receiver.url())

        assert [pushed.outcome() for _ in range(3)] == [("unblock", "error")] * 2 + [("unblock", "success")]
        assert len({got.body for got in receiver.wait(3)}) == 1
        assert emptied(pushed)


def test_news_stays_in_the_outbox_while_it_is_refused(storage: Storage) -> None:
    with receiving(answering(500)) as receiver, pushing(storage) as pushed:
        pushed.news(receiver.url())

        receiver.wait(3)

        assert pushed.waiting() == [("unblock", "promise", receiver.url())]


def test_another_pusher_goes_on_with_news_that_one_has_left(storage: Storage) -> None:
    with receiving(answering(500)) as receiver:
        with pushing(storage) as pushed:
            pushed.news(receiver.url())
            receiver.wait(1)
        receiver.answer = answering(200)

        with pushing(storage) as pushed:
            assert pushed.until(("unblock", "success"))
            assert emptied(pushed)


def test_an_offer_is_tried_once_and_offered_again_by_its_timer() -> None:
    clock = SettableClock()
    with receiving(answering(500, 200)) as receiver, pushing(clock=clock) as pushed:
        pushed.offer(receiver.url())
        assert pushed.outcome() == ("execute", "error")
        assert pushed.waiting() == []

        clock.advance(3600)
        pushed.service.tick()

        assert pushed.outcome() == ("execute", "success")
        assert len(receiver.wait(2)) == 2


def test_a_newer_offer_does_not_wait_for_the_request_with_the_older_one() -> None:
    clock, release = SettableClock(), threading.Event()

    def answer(push: Push, reply: Reply) -> None:
        if push.json["data"]["task"]["version"] == 0:
            release.wait(PATIENCE)
        reply.send(200)

    with receiving(answer) as receiver, pushing(clock=clock) as pushed:
        pushed.offer(receiver.url())
        receiver.wait(1)
        assert pushed.service.handle([TaskAcquire("task", 0, "pushed", 1000)])[0].status == 200

        clock.advance(3600)  # the lease has ended: the task is offered with its next version
        pushed.service.tick()

        assert [got.json["data"]["task"]["version"] for got in receiver.wait(2)] == [0, 1]
        release.set()


def test_news_that_nobody_takes_is_given_up_after_its_age_and_some_attempts(
    storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    clock = SettableClock()
    with receiving(answering(500)) as receiver, pushing(storage, clock, unblock_age=HOUR) as pushed:
        pushed.news(receiver.url())
        receiver.wait(push.MIN_ATTEMPTS + 1)  # not given up for its attempts alone
        assert pushed.waiting() != []

        clock.advance(3601)

        assert pushed.until(("unblock", "dropped"))
        assert emptied(pushed)
        assert "the news of promise 'promise' is given up" in caplog.text


def test_old_news_gets_its_attempts_all_the_same() -> None:
    clock = SettableClock()
    pushed = Pushed(clock=clock, unblock_age=HOUR)
    with receiving(answering(500)) as receiver:
        pushed.news(receiver.url())
        clock.advance(90_000)
        pushed.pusher.start()

        outcomes = pushed.until(("unblock", "dropped"))

        assert outcomes == [("unblock", "error")] * (push.MIN_ATTEMPTS - 1) + [("unblock", "dropped")]
        pushed.pusher.stop()


def test_news_that_finds_no_room_to_wait_stays_for_the_next_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(push, "WAITING", 0)
    with receiving(answering(500)) as receiver:
        with pushing() as pushed:
            pushed.news(receiver.url())
            assert pushed.outcome() == ("unblock", "error")
            pushed.pusher.stop()
            assert pushed.waiting() != []
        assert "stays in the outbox" in caplog.text


def test_a_receiver_that_is_not_there_is_tried_again() -> None:
    with socket.socket() as taken, pushing() as pushed:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        pushed.news(f"http://127.0.0.1:{taken.getsockname()[1]}/")

        assert [pushed.outcome() for _ in range(3)] == [("unblock", "error")] * 3


@pytest.mark.parametrize("raw", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200", b"HTTP/1.1 999999 x\r\n\r\n", b"\0" * 100])
def test_a_receiver_that_speaks_no_http_is_a_failure(raw: bytes) -> None:
    def answer(push: Push, reply: Reply) -> None:
        reply.write(raw)
        raise ConnectionAbortedError  # hang up

    with receiving(answer) as receiver, pushing() as pushed:
        pushed.offer(receiver.url())

        assert pushed.outcome() == ("execute", "error")


def test_a_failure_is_reported_once_and_again_after_a_success(caplog: pytest.LogCaptureFixture) -> None:
    with receiving(answering(500, 500, 500, 200, 500)) as receiver, pushing() as pushed:
        pushed.news(receiver.url("/a?token=s3cret"))
        pushed.until(("unblock", "success"))
        pushed.offer(receiver.url("/a?token=s3cret"))
        pushed.until(("execute", "error"))

    reports = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    place = f"http://127.0.0.1:{receiver.port}/a"
    assert reports == [
        f"pushing the news of promise 'promise' to {place} failed: it answered 500",
        f"pushing the offer of task 'task' to {place} failed: it answered 500",
    ]


def test_news_under_way_is_not_sent_again_when_the_outbox_is_gone_through() -> None:
    release = threading.Event()
    with receiving(holding(release)) as receiver, pushing() as pushed:
        pushed.news(receiver.url("/first"))
        receiver.wait(1)

        pushed.service.subscribe(Subscription("g", "p", lambda: None))  # another receiver: all that waits is routed
        pushed.offer(receiver.url("/second"))

        receiver.wait(2)
        release.set()
        assert emptied(pushed)
        assert [got.path for got in receiver.pushes] == ["/first", "/second"]


# Bounds.


def test_no_more_requests_are_under_way_than_allowed(storage: Storage) -> None:
    release, most, now, lock = threading.Event(), [0], [0], threading.Lock()

    def answer(push: Push, reply: Reply) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        release.wait(PATIENCE)
        with lock:
            now[0] -= 1
        reply.send(200)

    with receiving(answer) as receiver, pushing(storage, concurrency=4) as pushed:
        for n in range(20):
            pushed.offer(receiver.url(), f"task{n}")
        receiver.wait(4)

        release.set()

        receiver.wait(20)
        assert most == [4]


def test_256_requests_are_under_way_at_once() -> None:
    release = threading.Event()
    with receiving(holding(release)) as receiver, pushing() as pushed:
        for n in range(260):
            pushed.offer(receiver.url(), f"task{n}")

        receiver.wait(256)
        assert len(receiver.pushes) == 256

        release.set()
        receiver.wait(260)


def test_what_fails_for_ever_leaves_room_for_what_is_new() -> None:
    release, tried, held, lock = threading.Event(), set(), threading.Semaphore(0), threading.Lock()

    def answer(push: Push, reply: Reply) -> None:
        if push.path == "/alive":
            reply.send(200)
            return
        id = push.json["data"]["promise"]["id"]
        with lock:
            again = id in tried
            tried.add(id)
        if again:
            held.release()
            release.wait(PATIENCE)
        reply.send(500)

    with receiving(answer) as receiver, pushing(concurrency=4, first_retry=1, longest_retry=1) as pushed:
        for n in range(8):
            pushed.news(receiver.url("/dead"), f"dead{n}")
        for _ in range(2):
            assert held.acquire(timeout=PATIENCE)
        receiver.wait(10)  # each has failed once; two are tried again and hold their connection

        pushed.offer(receiver.url("/alive"))

        assert pushed.until(("execute", "success"))
        assert not held.acquire(blocking=False)  # the other half is not for them
        release.set()


def test_a_slow_receiver_is_left_after_the_request_timeout() -> None:
    release = threading.Event()
    with receiving(holding(release)) as receiver, pushing(request_timeout=100) as pushed:
        pushed.offer(receiver.url())

        assert pushed.outcome() == ("execute", "error")
        release.set()


def test_a_receiver_that_drips_its_answer_is_left_after_the_request_timeout() -> None:
    gone = threading.Event()

    def answer(push: Push, reply: Reply) -> None:
        reply.write(b"HTTP/1.1 200 OK\r\n")
        try:
            while not gone.wait(0.01):
                reply.write(b"X: y\r\n")
        except OSError:
            gone.set()

    with receiving(answer) as receiver, pushing(request_timeout=200) as pushed:
        pushed.offer(receiver.url())

        assert pushed.outcome() == ("execute", "error")
        assert gone.wait(PATIENCE)


def test_the_body_of_an_answer_is_not_read() -> None:
    cut = threading.Event()

    def answer(push: Push, reply: Reply) -> None:
        reply.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
        try:
            while True:
                reply.write(b"x" * 65536)
        except OSError:
            cut.set()

    with receiving(answer) as receiver, pushing() as pushed:
        pushed.news(receiver.url())

        assert pushed.outcome() == ("unblock", "success")
        assert cut.wait(PATIENCE)


def test_stopping_cuts_off_what_does_not_end_and_loses_no_news(storage: Storage) -> None:
    release = threading.Event()
    with receiving(holding(release)) as receiver, pushing(storage) as pushed:
        pushed.news(receiver.url())
        receiver.wait(1)

        pushed.pusher.stop(1)

        assert pushed.waiting() == [("unblock", "promise", receiver.url())]
        assert not any(thread.name == "resonate-push" for thread in threading.enumerate())
        release.set()


def test_stopping_lets_requests_under_way_end(storage: Storage) -> None:
    with receiving() as receiver, pushing(storage) as pushed:

        def answer(push: Push, reply: Reply) -> None:
            threading.Thread(target=pushed.pusher.stop).start()
            reply.send(200)

        receiver.answer = answer
        pushed.news(receiver.url())

        assert pushed.outcome() == ("unblock", "success")
        assert emptied(pushed)


def test_starting_and_stopping_twice_does_nothing_more() -> None:
    with pushing() as pushed:
        pushed.pusher.start()
        pushed.pusher.stop()
        pushed.pusher.stop()
        pushed.pusher.start()

        assert not any(thread.name == "resonate-push" for thread in threading.enumerate())
