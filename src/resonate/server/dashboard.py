"""The dashboard's way to the service: each of its requests passes the door like any other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from starlette.datastructures import Headers

from resonate.protocol import wire
from resonate.protocol.requests import Request, Response
from resonate.server.door import Door
from resonate.service.service import Service
from resonate.ui.pages import Unpermitted

PATIENCE: Final = 30.0
"""Seconds that a request of the dashboard may take."""

Answers = Callable[[Sequence[Request]], Coroutine[Any, Any, list[Response]]]


class OfServer:
    """Carries the dashboard's requests to the server that it is part of.

    Args:
        service: the server's.
        door: checks who asks.
        answer: answers requests on the server's loop.
    """

    def __init__(self, service: Service, door: Door, answer: Answers) -> None:
        self._service = service
        self._door = door
        self._answer = answer

    def send(self, requests: Sequence[Request], headers: Headers, loop: asyncio.AbstractEventLoop) -> list[Response]:
        """Carry out requests on behalf of whoever sent these headers.

        Raises:
            Unpermitted: they may not.
        """
        passed: list[Request] = []
        for request in requests:
            found = self._door.read(wire.encode_request(request, "ui"), headers.raw)
            if isinstance(found, wire.Refusal):
                if found.status in (401, 403):
                    raise Unpermitted(found.status)
                return [Response(found.status, error="the request was refused")] * len(requests)
            passed.append(found.request)
        return asyncio.run_coroutine_threadsafe(self._answer(passed), loop).result(PATIENCE)

    def now(self) -> int:
        """Milliseconds since the epoch, as the service has it."""
        return self._service.now()


__all__ = ["OfServer"]
