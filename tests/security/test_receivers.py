"""Receivers of pushes that an attacker has chosen: what they can hold up, and what they are shown."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from resonate.clock import SystemClock
from resonate.errors import UsageError
from resonate.protocol.rows import Send
from resonate.server import receivers
from resonate.server.push import Pusher, PushSettings
from resonate.server.receivers import Receivers, host_of
from resonate.service.service import Service
from resonate.storage.memory import MemoryStorage
from tests.server.pushed import LOCAL, Names, pushing
from tests.server.receiver import PATIENCE, Push, Receiver, Reply, receiving

NAMES = {f"{name}_test": [["127.0.0.1"]] for name in ("slow", "fast", *(f"h{number}" for number in range(40)))}


class Held:
    """Answers `/slow` only when it is released."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.lock = threading.Condition()
        self.open = 0
        self.most = 0

    def __call__(self, push: Push, reply: Reply) -> None:
        if push.path == "/slow":
            with self.lock:
                self.open += 1
                self.most = max(self.most, self.open)
                self.lock.notify_all()
            self.release.wait(PATIENCE)
            with self.lock:
                self.open -= 1
        reply.send(200)

    def wait(self, count: int) -> None:
        with self.lock:
            assert self.lock.wait_for(lambda: self.open >= count, PATIENCE)


@pytest.fixture
def held() -> Iterator[tuple[Held, Receiver]]:
    slow = Held()
    with receiving(slow) as receiver:
        try:
            yield slow, receiver
        finally:
            slow.release.set()


def paths(receiver: Receiver, path: str) -> int:
    return sum(push.path == path for push in list(receiver.pushes))


def test_a_host_that_does_not_answer_leaves_room_for_others(held: tuple[Held, Receiver]) -> None:
    slow, receiver = held
    with pushing(resolve=Names(**NAMES), concurrency=6) as pushed:
        for n in range(50):
            pushed.offer(receiver.url("/slow", "slow.test"), f"slow{n}")
            pushed.news(receiver.url("/slow", "slow.test"), f"slow-news{n}")
        slow.wait(6)

        for n in range(20):
            pushed.offer(receiver.url("/fast", "fast.test"), f"fast{n}")
            pushed.news(receiver.url("/fast", "fast.test"), f"fast-news{n}")
        for _ in range(40):
            assert pushed.outcome()[1] == "success"  # of the fast ones, since no slow one has ended

        assert slow.most == 6
        assert paths(receiver, "/fast") == 40

        slow.release.set()
        for _ in range(100):
            assert pushed.outcome()[1] == "success"  # what had to wait is delivered after all
        assert paths(receiver, "/slow") == 100


def test_many_hosts_that_do_not_answer_leave_room_for_one_more(held: tuple[Held, Receiver]) -> None:
    slow, receiver = held
    with pushing(resolve=Names(**NAMES), concurrency=16) as pushed:
        for host in range(6):
            for n in range(16):
                pushed.offer(receiver.url("/slow", f"h{host}.test"), f"slow{host}-{n}")
        slow.wait(62)

        pushed.offer(receiver.url("/fast", "fast.test"), "fast")

        assert pushed.outcome() == ("execute", "success")
        assert paths(receiver, "/fast") == 1


def test_offers_beyond_those_that_may_wait_are_left_to_their_timers(
    held: tuple[Held, Receiver], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receivers, "PARKED", 5)
    slow, receiver = held
    with pushing(resolve=Names(**NAMES), concurrency=3) as pushed:
        for n in range(20):
            pushed.offer(receiver.url("/slow", "slow.test"), f"slow{n}")
        slow.wait(3)

        assert [pushed.outcome() for _ in range(12)] == [("execute", "dropped")] * 12

        slow.release.set()
        assert [pushed.outcome() for _ in range(8)] == [("execute", "success")] * 8


def test_offers_that_still_wait_for_their_host_at_the_end_are_put_back(held: tuple[Held, Receiver]) -> None:
    slow, receiver = held
    with pushing(resolve=Names(**NAMES), concurrency=2) as pushed:
        for n in range(10):
            pushed.offer(receiver.url("/slow", "slow.test"), f"slow{n}")
        slow.wait(2)

        pushed.pusher.stop(0)

        assert len(pushed.waiting()) == 8


@pytest.mark.parametrize("hosts", range(1, 9))
def test_whoever_comes_last_finds_a_place(hosts: int) -> None:
    counted = Receivers(256)
    for host in range(hosts):
        while counted.may_have(f"h{host}", Counter()):
            counted.begin(f"h{host}")

    assert counted.may_have("one more", Counter())
    assert counted.room >= 1024 - 256 * hosts


def test_a_host_is_the_same_in_every_spelling() -> None:
    names = ["http://a.test/x", "https://A.test:99/y", "http://a.test.:1/", "http://u:p@a.TEST"]

    assert {host_of(name) for name in names} == {"a.test"}
    assert host_of("http://[::1]:8/x") == "::1"
    assert host_of("http://[") == ""


def test_offers_wait_in_order() -> None:
    waiting = Receivers(1)
    sends = [Send(("execute", f"t{n}"), "http://h", None) for n in range(3)]  # type: ignore[arg-type]
    for send in sends:
        assert waiting.park("h", send)

    assert waiting.left() == sends
    assert [next(iter(waiting.ready(Counter()))) for _ in sends] == [("h", send) for send in sends]
    assert waiting.left() == []


def test_the_token_of_pushes_is_shown_to_listed_receivers_only() -> None:
    names = Names(evil_test=[["93.184.215.14"]])
    with receiving() as receiver:
        with pushing(resolve=names, auth="bearer", token="s3cret", allow=LOCAL) as pushed:
            pushed.offer("http://evil.test/steal", "a")
            pushed.offer("http://93.184.215.14/steal", "b")
            assert [pushed.outcome(), pushed.outcome()] == [("execute", "dropped")] * 2

            pushed.offer(receiver.url(), "c")
            assert pushed.outcome() == ("execute", "success")
        assert receiver.pushes[0].headers["Authorization"] == "Bearer s3cret"


def test_a_token_without_a_list_of_receivers_is_an_error() -> None:
    settings = PushSettings(auth="bearer", token="s3cret")

    with pytest.raises(UsageError, match=r"transports\.http_push\.allow"):
        Pusher(Service(MemoryStorage(), SystemClock()), settings)
