"""A network that can be cut: from then on its client is dead, whatever code it still runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from msgspec import Struct

from resonate.network.base import Network, Work
from resonate.network.embedded import EmbeddedNetwork
from resonate.protocol.requests import (
    OURS,
    PromiseGet,
    PromiseSearch,
    Request,
    Response,
    ScheduleGet,
    ScheduleSearch,
    TaskGet,
    TaskHeartbeat,
    TaskSearch,
)
from resonate.service.service import Service

READS: Final = frozenset(
    (PromiseGet, PromiseSearch, TaskGet, TaskSearch, TaskHeartbeat, ScheduleGet, ScheduleSearch, *OURS)
)
"""Requests that change nothing worth crashing at."""


class Crashed(BaseException):
    """Unwinds the code of a client that has crashed; no `except Exception` stops it."""


class CrashPoint(Struct, frozen=True):
    """When a client is to crash.

    Args:
        batch: at its n-th batch of writes, from 1.
        applied: right after the batch was applied; False: right before.
    """

    batch: int
    applied: bool

    def __str__(self) -> str:
        return f"{'after' if self.applied else 'before'} batch {self.batch}"


class Breakable:
    """What makes a network breakable; comes before the network in the list of bases."""

    pid: str
    stop: Callable[[], None]

    def breakable(self, wrote: Callable[[Sequence[Request]], None]) -> None:
        """Nothing is broken yet.

        Args:
            wrote: called with each batch of writes before it is applied.
        """
        self.dead = False
        self.how = "killed"
        self.batches = 0
        self.crash_point: CrashPoint | None = None
        self._wrote = wrote

    def send(self, requests: Sequence[Request], *, chain: bool = False) -> list[Response]:
        """Answer `requests`, unless the client is dead or dies of them.

        Raises:
            Crashed: the client is dead.
        """
        self._refuse_dead()
        if all(type(request) in READS for request in requests):
            return super().send(requests, chain=chain)  # type: ignore[no-any-return,misc]
        self.batches += 1
        self._die_at(applied=False)
        self._wrote(requests)
        answers: list[Response] = super().send(requests, chain=chain)  # type: ignore[misc]
        self._refuse_dead()
        self._die_at(applied=True)
        return answers

    def cut(self) -> None:
        """The client is dead from now on: it writes nothing and gets no messages."""
        self.dead = True
        self.stop()

    def _refuse_dead(self) -> None:
        if self.dead:
            raise Crashed(f"{self.pid} has crashed")

    def _die_at(self, *, applied: bool) -> None:
        point = self.crash_point
        if point is not None and point.batch == self.batches and point.applied is applied:
            self.dead = True
            self.how = str(point)
            raise Crashed(f"{self.pid} crashes {point}")


class Broken(Network, Protocol):
    """A network that is breakable, of whatever kind."""

    dead: bool
    how: str
    batches: int
    crash_point: CrashPoint | None

    def cut(self) -> None: ...


class BreakableNetwork(Breakable, EmbeddedNetwork):
    """The embedded network of one client of a world.

    Args:
        service: of the world.
        group, pid: whose messages to receive.
        wrote: called with each batch of writes before it is applied.
    """

    def __init__(self, service: Service, group: str, pid: str, wrote: Callable[[Sequence[Request]], None]) -> None:
        super().__init__(service, group, pid)
        self.breakable(wrote)

    def transact(self, work: Work, seconds: float) -> list[Response]:
        """Call `work` in a transaction, unless the client is dead or dies of it.

        Raises:
            Crashed: the client is dead.
        """
        self._refuse_dead()

        def dying(connection: Any) -> Callable[[], Sequence[Request]]:
            wanted = work(connection)

            def requests() -> Sequence[Request]:
                batch = wanted()
                self.batches += 1
                self._die_at(applied=False)
                self._wrote(batch)
                return batch

            return requests

        answers = super().transact(dying, seconds)
        self._die_at(applied=True)
        return answers
