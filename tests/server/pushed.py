"""A service, a pusher beside it, and names that stand for what a test wants."""

from __future__ import annotations

import queue
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from resonate.clock import Clock, SystemClock
from resonate.protocol.requests import (
    PromiseCreate,
    PromiseRegisterListener,
    PromiseSettle,
)
from resonate.server.push import Pusher, PushSettings
from resonate.service.service import Service
from resonate.storage.base import Storage
from resonate.storage.memory import MemoryStorage

from .receiver import PATIENCE, Push, Reply

LATER = 2**52
LOCAL = ("127.0.0.0/8",)
QUICK = {"allow": LOCAL, "first_retry": 10, "longest_retry": 20}


class Pushed:
    """A service, a pusher and what became of its attempts."""

    def __init__(
        self, storage: Storage | None = None, clock: Clock | None = None, resolve: Any = None, **settings: Any
    ) -> None:
        self.service = Service(storage or MemoryStorage(), clock or SystemClock())
        self.outcomes: queue.Queue[tuple[str, str]] = queue.Queue()
        self.pusher = Pusher(
            self.service,
            PushSettings(**{**QUICK, **settings}),
            resolve=resolve,
            observe=lambda kind, outcome: self.outcomes.put((kind, outcome)),
        )

    def offer(self, address: str, id: str = "task") -> None:
        """Create a task for `address`."""
        self.service.handle([PromiseCreate(id, LATER, tags={"resonate:target": address})])

    def news(self, address: str, id: str = "promise") -> None:
        """Settle a promise that `address` listens to."""
        created = PromiseCreate(id, LATER, tags={"resonate:external": "true"})
        answers = self.service.handle([created, PromiseRegisterListener(id, address), PromiseSettle(id, "resolved")])
        assert [answer.status for answer in answers] == [200, 200, 200]

    def outcome(self) -> tuple[str, str]:
        return self.outcomes.get(timeout=PATIENCE)

    def until(self, *wanted: tuple[str, str]) -> list[tuple[str, str]]:
        """The outcomes up to the first of each that is `wanted`."""
        seen: list[tuple[str, str]] = []
        while not set(wanted) <= set(seen):
            seen.append(self.outcome())
        return seen

    def waiting(self) -> list[tuple[str, ...]]:
        return [send.key for send in self.service.storage.outbox()]


@contextmanager
def pushing(
    storage: Storage | None = None, clock: Clock | None = None, resolve: Any = None, **settings: Any
) -> Iterator[Pushed]:
    pushed = Pushed(storage, clock, resolve, **settings)
    pushed.pusher.start()
    try:
        yield pushed
    finally:
        pushed.pusher.stop(0)
        pushed.service.stop()


def answering(*statuses: int) -> Callable[[Push, Reply], None]:
    """Answer with these, one after another; then with the last."""
    left = list(statuses)

    def answer(push: Push, reply: Reply) -> None:
        reply.send(left.pop(0) if len(left) > 1 else left[0])

    return answer


def emptied(pushed: Pushed) -> bool:
    """Whether everything has left the outbox, once the pusher has ended what it was doing."""
    pushed.pusher.stop()
    return pushed.waiting() == []


class Names:
    """A name server of our own; a name may stand for something else each time."""

    def __init__(self, **names: Sequence[Sequence[str]]) -> None:
        self.names = {name.replace("_", "."): list(answers) for name, answers in names.items()}
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        answers = self.names.get(host)
        if answers is None:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return answers.pop(0) if len(answers) > 1 else answers[0]
