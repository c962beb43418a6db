"""A network that can be cut: from then on its client is dead, whatever code it still runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Struct

from resonate.network.base import Work
from resonate.network.embedded import EmbeddedNetwork
from resonate.protocol.requests import (
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

READS: Final = frozenset((PromiseGet, PromiseSearch, TaskGet, TaskSearch, TaskHeartbeat, ScheduleGet, ScheduleSearch))
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


class BreakableNetwork(EmbeddedNetwork):
    """The embedded network of one client of a world.

    Args:
        service: of the world.
        group, pid: whose messages to receive.
        wrote: called with each batch of writes before it is applied.
    """

    def __init__(self, service: Service, group: str, pid: str, wrote: Callable[[Sequence[Request]], None]) -> None:
        super().__init__(service, group, pid)
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
        if self.dead:
            raise Crashed(f"{self.pid} has crashed")
        if all(type(request) in READS for request in requests):
            return super().send(requests, chain=chain)
        self.batches += 1
        self._die_at(applied=False)
        self._wrote(requests)
        answers = super().send(requests, chain=chain)
        self._die_at(applied=True)
        return answers

    def transact(self, work: Work, seconds: float) -> list[Response]:
        """Call `work` in a transaction, unless the client is dead or dies of it.

        Raises:
            Crashed: the client is dead.
        """
        if self.dead:
            raise Crashed(f"{self.pid} has crashed")

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

    def cut(self) -> None:
        """The client is dead from now on: it writes nothing and gets no messages."""
        self.dead = True
        self.stop()

    def _die_at(self, *, applied: bool) -> None:
        point = self.crash_point
        if point is not None and point.batch == self.batches and point.applied is applied:
            self.dead = True
            self.how = str(point)
            raise Crashed(f"{self.pid} crashes {point}")
