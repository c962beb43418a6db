"""Many callers, one transaction at a time (flat combining).

Callers of any thread hand requests in. Whoever finds the lane free applies its own and
everything that waits in one transaction, wakes the callers and passes the lead on: no
hand-off when it is idle, group commit when it is busy.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from resonate.protocol.requests import Request, Response

ROUNDS: Final = 8
"""Batches a leader serves for others before it passes the lead on and returns to its caller."""

BATCH: Final = 256
"""Callers served in one transaction at most."""


class Call:
    """The requests of one caller, and what became of them.

    Args:
        requests, chain, trusted, now: as for `Service.handle`.

    Attributes:
        answers: in order; fewer than `requests` if the chain broke or an error came in between.
        error: what `handle` would have raised.
    """

    __slots__ = ("answers", "chain", "done", "error", "now", "requests", "trusted", "woken")

    def __init__(
        self, requests: Sequence[Request], chain: bool = False, trusted: bool = False, now: int | None = None
    ) -> None:
        self.requests = requests
        self.chain = chain
        self.trusted = trusted
        self.now = now
        self.answers: list[Response] = []
        self.error: Exception | None = None
        self.done = False
        self.woken: threading.Lock | None = None

    def wake(self) -> None:
        """Let the caller go on."""
        woken = self.woken
        if woken is not None and woken.locked():
            woken.release()


class Lane:
    """Those who want to write, one after the other.

    Args:
        number: of the storage's lanes, this one.
        transact: serves several calls in one transaction; marks each that it has served as done.
        rounds: batches that one leader serves.
    """

    def __init__(self, number: int, transact: Callable[[Lane, Sequence[Call]], None], rounds: int) -> None:
        self.number = number
        self.lead = threading.Lock()
        self.queue: deque[Call] = deque()
        self._transact = transact
        self._rounds = rounds

    def wait(self, call: Call) -> None:
        """Wait until a leader has served `call`, or lead."""
        call.woken = threading.Lock()
        call.woken.acquire()
        self.queue.append(call)
        try:
            while not call.done:
                if self.lead.acquire(blocking=False):
                    try:
                        self._serve(call)
                    finally:
                        self.lead.release()
                else:
                    call.woken.acquire()
        except BaseException:  # interrupted while waiting: nobody may wait for us to lead
            if not call.done and call in self.queue:
                self.queue.remove(call)
            raise
        finally:
            self.pass_on()

    def pass_on(self) -> None:
        """The lead is free: let the one who has waited longest take it."""
        if self.queue:
            try:
                self.queue[0].wake()
            except IndexError:  # served in between
                return

    def _serve(self, own: Call) -> None:
        """Serve what waits, our own call first or not, for a bounded number of rounds."""
        for _ in range(self._rounds):
            batch = [self.queue.popleft() for _ in range(min(len(self.queue), BATCH))]
            if not batch:
                return
            try:
                self._transact(self, batch)
            finally:
                for call in batch:
                    if call.done:
                        call.wake()
                    elif call is not own:
                        self.queue.append(call)
            if own.done and len(self.queue) == 0:
                return
