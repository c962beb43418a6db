"""The poll stream: opened again whenever it breaks, and quiet when it is told to stop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from resonate.network.http import network as networks
from resonate.network.http import stream as streams
from resonate.network.http.network import HttpNetwork
from resonate.protocol.records import EMPTY, TARGET, Execute, Message, Promise, Unblock
from resonate.protocol.requests import PromiseCreate, PromiseGet, PromiseRegisterListener, PromiseSettle
from resonate.protocol.wire import encode_message
from tests.wire_server import WireServer, serving

FAR = 2**53 - 1


class Receiver:
    """A network whose messages are collected as they come."""

    def __init__(self, server: WireServer, **given: Any) -> None:
        self.changed = threading.Condition()
        self.messages: list[Message] = []
        self.openings = 0
        self.network = HttpNetwork(server.url, "default", "me", **given)
        self.network.listen(self._wake, self._opened)

    def wait(self, ready: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(ready, 20)

    def _wake(self) -> None:
        with self.changed:
            self.messages += self.network.take(100)
            self.changed.notify_all()

    def _opened(self) -> None:
        with self.changed:
            self.openings += 1
            self.changed.notify_all()


@contextmanager
def receiving(server: WireServer, **given: Any) -> Iterator[Receiver]:
    receiver = Receiver(server, **given)
    receiver.network.send([PromiseGet("x")])  # now it knows what kind of server this is
    receiver.network.start()
    receiver.wait(lambda: receiver.openings == 1)
    try:
        yield receiver
    finally:
        receiver.network.stop()


def task(id: str) -> PromiseCreate:
    return PromiseCreate(id, FAR, tags={TARGET: "poll://any@default"})


def test_offers_and_news_come_in() -> None:
    with serving() as server, receiving(server) as receiver:
        net = receiver.network
        net.send([task("a"), PromiseCreate("b", FAR, tags={"resonate:external": "true"})])
        net.send([PromiseRegisterListener("b", net.unicast()), PromiseSettle("b", "resolved")])
        receiver.wait(lambda: len(receiver.messages) == 2)

    offer, news = sorted(receiver.messages, key=lambda message: type(message).__name__)
    assert offer == Execute("a", 0)
    assert isinstance(news, Unblock)
    assert (news.promise.id, news.promise.state) == ("b", "resolved")


def test_a_broken_stream_is_opened_again_and_says_so() -> None:
    with serving() as server, receiving(server) as receiver:
        for opening in (2, 3, 4):
            server.cut()
            receiver.wait(lambda opening=opening: receiver.openings == opening)  # type: ignore[misc]
        receiver.network.send([task("a")])
        receiver.wait(lambda: receiver.messages == [Execute("a", 0)])


def test_the_stream_is_opened_as_soon_as_a_request_finds_the_server_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PAUSE_FIRST", 600.0)
    monkeypatch.setattr(streams, "PAUSE_MAX", 600.0)
    with serving() as server, receiving(server) as receiver:
        server.stop()
        asking = threading.Thread(target=receiver.network.send, args=([PromiseGet("x")],))
        asking.start()
        while receiver.network._exchange._gone_since is None or not receiver.network._stream._failures:
            time.sleep(0.001)

        server.start()
        asking.join()

        receiver.wait(lambda: receiver.openings == 2)


def test_a_peer_that_falls_silent_is_left() -> None:
    with serving(beat=0.02) as server, receiving(server, silence=0.2) as receiver:
        server.frozen = True
        receiver.wait(lambda: receiver.openings == 2)


def test_a_server_that_never_says_anything_is_not_left_for_its_silence() -> None:
    with serving(foreign=".") as server, receiving(server, silence=0.05) as receiver:
        receiver.network.send([task("a")])
        receiver.wait(lambda: receiver.messages == [Execute("a", 0)])

        assert receiver.openings == 1


def test_stopping_does_not_wait_for_the_server() -> None:
    with serving() as server, receiving(server) as receiver:
        begun = time.monotonic()

        receiver.network.stop()

        assert time.monotonic() - begun < 4
        assert not [t for t in threading.enumerate() if t.name == "resonate-messages" and t.is_alive()]


def test_a_refused_token_ends_the_stream_and_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    with serving(token="right") as server, caplog.at_level(logging.ERROR, "resonate.network"):
        receiver = Receiver(server, token="wrong")
        receiver.network.start()
        thread = receiver.network._stream._thread
        assert thread is not None
        thread.join(20)
        receiver.network.stop()

    assert not thread.is_alive()
    assert "refused the stream of messages with HTTP 401" in caplog.text
    assert "RESONATE_TOKEN" in caplog.text


def test_only_as_much_is_taken_as_there_is_room_for() -> None:
    net = HttpNetwork("http://127.0.0.1:1", "default", "me")
    for n in range(5):
        net._heard(encode_message(Execute(f"t{n}", 0)))
    net._heard(encode_message(Unblock(Promise("p", "resolved", EMPTY, EMPTY, {}, 1, 1, 1))))

    first = net.take(10, offers=2)
    second = net.take(10, leave={"t2"}, offers=10)
    third = net.take(10)

    assert [type(message) for message in first] == [Unblock, Execute, Execute]
    assert second == [Execute("t3", 0), Execute("t4", 0)]
    assert third == [Execute("t2", 0)]
    assert net.take(10) == []


def test_a_later_offer_of_a_task_replaces_the_earlier_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "OFFERS", 1)
    net = HttpNetwork("http://127.0.0.1:1", "default", "me")
    for id, version in (("a", 1), ("a", 3), ("a", 2), ("beyond", 0)):
        net._heard(encode_message(Execute(id, version)))

    assert net.take(10) == [Execute("a", 3)]


def test_what_is_no_message_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    net = HttpNetwork("http://127.0.0.1:1", "default", "me")

    for data in (b"hello", b'{"kind":"later","head":{},"data":{}}'):
        net._heard(data)

    assert net.take(10) == []
    assert "a message is left alone" in caplog.text


def test_offers_that_nobody_took_go_to_others_when_the_client_leaves() -> None:
    with serving(retry_timeout=600_000) as server:
        leaving = HttpNetwork(server.url, "default", "leaving")
        leaving.send([task("a"), task("b")])
        for id in ("a", "b"):
            leaving._heard(encode_message(Execute(id, 0)))

        leaving.leave()

        with receiving(server) as receiver:
            receiver.wait(lambda: len(receiver.messages) == 2)
        leaving.stop()

    assert sorted(receiver.messages, key=str) == [Execute("a", 1), Execute("b", 1)]
