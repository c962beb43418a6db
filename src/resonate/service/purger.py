"""Deletes finished trees when their time is over: a little at a time, between requests.

Runs on the timers' thread. A batch is a transaction of a few milliseconds, and pauses that
are several times as long leave the storage to requests, however much there is to delete.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final

from resonate.errors import ResonateStoreError, UsageError
from resonate.protocol.records import PENDING, TARGET, Promise
from resonate.protocol.rows import project
from resonate.protocol.trees import is_root

if TYPE_CHECKING:
    from resonate.service.service import Service

BATCH: Final = 250
"""Promises deleted in one transaction: some milliseconds, which is what a request may have to wait for."""

EVERY: Final = 60_000
"""Milliseconds between two looks for trees whose time is over; a quarter more or less, so that processes spread out."""

SHARE: Final = 4
"""A batch is followed by a pause of so many times its own length."""

PAUSE_MAX: Final = 1000
"""Milliseconds that such a pause has at most: a batch that waited long for its turn is no reason to wait for ever."""

NEVER: Final = float("inf")


class Purger:
    """What one service deletes of its storage.

    Args:
        service: whose storage, clock and lead to use.
        retention: milliseconds for which what is finished is kept; None is for ever.
    """

    def __init__(self, service: Service, retention: int | None) -> None:
        self._service = service
        self._retention = retention
        self.next_at = NEVER if retention is None else float("-inf")

    def beat(self, now: int) -> bool:
        """Delete a batch, if it is time to; whether that is to be asked again at once."""
        if now < self.next_at or self._retention is None:
            return False
        service = self._service
        began = time.monotonic()
        self.next_at = now + EVERY * random.uniform(0.75, 1.25)  # also if this fails
        with service.leading():
            done = service.storage.purge(now - self._retention, now, BATCH)
        if done:
            took = (time.monotonic() - began) * 1000
            self.next_at = now + min(PAUSE_MAX, took * (1 + SHARE)) if service.clock.runs else now
        return bool(done)

    def purge(self, id: str) -> None:
        """Delete the finished tree of `id` now.

        Raises:
            ResonateStoreError: 100.404, there is no such promise.
            UsageError: it is not finished, or no root; nothing was deleted.
        """
        service = self._service
        with service.leading():
            row = service.storage.promise(id)
        if row is None:
            raise ResonateStoreError(f"The specified promise was not found: {id}", 40400)
        promise = row.promise
        now = service.now()
        if promise.state == PENDING and project(promise, now).state != PENDING:
            service.tick()  # its deadline is only just over: whoever waits for it is told first
        if not is_root(promise):
            raise UsageError(f"{id} is part of a larger execution and is deleted with it: purge the id of its root")
        if project(promise, now).state == PENDING:
            raise UsageError(_still_pending(promise, id))
        gone: Promise | bool = False
        while not gone:
            with service.leading():
                gone = service.storage.drop(id, now, BATCH)
            if isinstance(gone, Promise):
                raise UsageError(_still_pending(gone, id))


def _still_pending(promise: Promise, id: str) -> str:
    what = id if promise.id == id else f"{promise.id}, which belongs to {id},"
    how = f"r.get({promise.id!r}).cancel()" if TARGET in promise.tags else f"r.promises.cancel({promise.id!r})"
    return f"{what} is still pending, so nothing was deleted. Wait for it, or cancel it first: {how}"
