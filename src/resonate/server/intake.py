"""Requests to the service: at once where that does no I/O, else by one committer thread.

The committer takes everything that has arrived while the last commit was under way and has
it answered in one transaction (group commit), so that the event loop never waits for a
disk and a slow disk is compensated by larger transactions. How much may wait is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Sequence
from typing import Final, Protocol

from resonate.errors import ResonateStoreError, StorageUnavailable, StorageUnusable
from resonate.protocol.requests import Request, Response
from resonate.service.lane import BATCH, Call
from resonate.service.service import Service

_LOG: Final = logging.getLogger("resonate.server")


class Intake(Protocol):
    """Where decoded requests are answered."""

    async def ask(self, requests: Sequence[Request], chain: bool, now: int | None) -> list[Response]:
        """The answers, one to each request or up to the one that broke the chain; never raises for a storage."""

    async def close(self) -> None:
        """Answer what is under way and free the thread. Idempotent."""


class Direct:
    """Answers on the event loop: for storages that do no I/O."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def ask(self, requests: Sequence[Request], chain: bool, now: int | None) -> list[Response]:
        call = Call(requests, chain, True, now)
        try:
            return self._service.handle(requests, chain=chain, trusted=True, now=now)
        except Exception as error:
            call.error = error
        return answers_of(call)

    async def close(self) -> None:
        """There is nothing to free."""


Asked = tuple[Call, "asyncio.Future[Call]"]


class Committer:
    """Answers on threads of its own, one for each of the service's lanes: for storages that do I/O.

    Made on the event loop that its callers run on.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._arrived: list[Asked] = []
        self._waiting: list[queue.SimpleQueue[list[Asked] | None]] = []
        self._closed = False
        self._threads: list[threading.Thread] = []
        for _ in range(service.parallel):
            waiting: queue.SimpleQueue[list[Asked] | None] = queue.SimpleQueue()
            self._waiting.append(waiting)
            self._threads.append(
                threading.Thread(target=self._run, args=(waiting,), name="resonate-committer", daemon=True)
            )
            self._threads[-1].start()

    async def ask(self, requests: Sequence[Request], chain: bool, now: int | None) -> list[Response]:
        call = Call(requests, chain, True, now)
        if self._closed:
            call.error = StorageUnavailable("the server is stopping: nothing was written, ask again")
            return answers_of(call)
        answered: asyncio.Future[Call] = self._loop.create_future()
        if not self._arrived:
            # what else arrives in this turn of the loop shares the wake-up of the thread
            self._loop.call_soon(self._hand_over)
        self._arrived.append((call, answered))
        return answers_of(await answered)

    async def close(self) -> None:
        """Answer what is under way and free the thread. Idempotent."""
        if not self._closed:
            self._closed = True
            self._hand_over()
            for waiting in self._waiting:
                waiting.put(None)
            for thread in self._threads:
                await asyncio.to_thread(thread.join)  # a storage that hangs keeps nobody from being told

    def _hand_over(self) -> None:
        arrived, self._arrived = self._arrived, []
        if len(self._waiting) == 1:
            if arrived:
                self._waiting[0].put(arrived)
            return
        lanes: dict[int, list[Asked]] = {}
        for asked in arrived:
            lanes.setdefault(self._service.lane_for(asked[0].requests), []).append(asked)
        for number, own in lanes.items():
            self._waiting[number].put(own)

    def _run(self, waiting: queue.SimpleQueue[list[Asked] | None]) -> None:
        while (batch := waiting.get()) is not None:
            closing = False
            while len(batch) < BATCH:
                try:
                    more = waiting.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    closing = True
                    break
                batch = batch + more
            self._service.handle_all([call for call, _ in batch])
            self._loop.call_soon_threadsafe(_resolve, batch)
            if closing:
                return


def _resolve(batch: list[Asked]) -> None:
    for call, answered in batch:
        if not answered.done():  # whoever asked may be gone
            answered.set_result(call)


def answers_of(call: Call) -> list[Response]:
    """The answers to a call; what an error kept from being answered gets a status that says what is known.

    503: nothing was written for certain, asking again is safe. 500: unsure, or our own mistake.
    """
    error = call.error
    if error is None:
        return call.answers
    if isinstance(error, StorageUnavailable | StorageUnusable):
        status, text = 503, f"The storage did not take the request, nothing was written: {error}"
    else:
        status, text = 500, f"Internal error: {error}"
        if not isinstance(error, ResonateStoreError):
            _LOG.error("a request failed", exc_info=error)
    answers = list(call.answers)
    left = 1 if call.chain else len(call.requests) - len(answers)
    return answers + [Response(status, error=text)] * left
