"""Pushes while the storage fails, and from a file that several processes use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from resonate.errors import StorageUnavailable
from resonate.protocol.rows import Send
from resonate.server import push
from resonate.storage.memory import MemoryStorage
from resonate.storage.sqlite.location import Location
from resonate.storage.sqlite.storage import SqliteStorage

from .pushed import Pushed, emptied, pushing
from .receiver import Push, Reply, receiving


class Failing(MemoryStorage):
    """Fails as often as it is told to, when messages are read or removed."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = 0

    def peek(self, keys: Sequence[tuple[str, ...]]) -> list[Send]:
        self._fail()
        return super().peek(keys)

    def take(self, keys: Sequence[tuple[str, ...]], limit: int | None = None) -> list[Send]:
        self._fail()
        return super().take(keys)

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise StorageUnavailable("no room")


@pytest.mark.parametrize("failures", [1, 2, 3, 5])
def test_messages_survive_a_storage_that_fails(failures: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "AFTER_FAILURE", 0.01)
    storage = Failing()
    with receiving() as receiver:
        pushed = Pushed(storage)
        pushed.news(receiver.url("/news"))
        pushed.offer(receiver.url("/offer"))
        storage.failures = failures
        pushed.pusher.start()

        pushed.until(("unblock", "success"), ("execute", "success"))

        assert {got.path for got in receiver.wait(2)} == {"/news", "/offer"}
        pushed.pusher.stop()


def test_news_waits_on_when_it_cannot_be_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "AFTER_FAILURE", 0.01)
    storage = Failing()

    def answer(push: Push, reply: Reply) -> None:
        storage.failures = 3 if len(receiver.pushes) == 1 else 0
        reply.send(500 if len(receiver.pushes) == 1 else 200)

    with receiving(answer) as receiver, pushing(storage) as pushed:
        pushed.news(receiver.url())

        assert pushed.until(("unblock", "success"))
        assert emptied(pushed)


def test_news_that_cannot_be_removed_is_delivered_again(caplog: pytest.LogCaptureFixture) -> None:
    storage = Failing()

    def answer(push: Push, reply: Reply) -> None:
        storage.failures = 1 if len(receiver.pushes) == 1 else 0
        reply.send(200)

    with receiving(answer) as receiver, pushing(storage) as pushed:
        pushed.news(receiver.url())

        receiver.wait(2)

        assert emptied(pushed)
        assert "is delivered and will be again" in caplog.text


def test_a_message_that_another_process_has_put_into_the_file_is_pushed(tmp_path: Path) -> None:
    location = Location(f"{tmp_path}/a.db", synchronous="off")
    ours, theirs = SqliteStorage(location), SqliteStorage(location)
    try:
        with receiving() as receiver, pushing(ours):
            other = Pushed(theirs)
            other.news(receiver.url("/news"))
            other.offer(receiver.url("/offer"))

            assert {got.path for got in receiver.wait(2)} == {"/news", "/offer"}
    finally:
        ours.close()
        theirs.close()


def test_two_servers_of_one_file_leave_nothing_undelivered(tmp_path: Path) -> None:
    location = Location(f"{tmp_path}/a.db", synchronous="off")
    stores = [SqliteStorage(location), SqliteStorage(location)]
    try:
        with receiving() as receiver, pushing(stores[0]) as one, pushing(stores[1]) as two:
            for n in range(20):
                one.news(receiver.url(f"/{n}"), f"promise{n}")
            while len({got.path for got in receiver.wait(len(receiver.pushes))}) < 20:
                receiver.wait(len(receiver.pushes) + 1)

            assert emptied(one) or emptied(two)
    finally:
        for store in stores:
            store.close()
