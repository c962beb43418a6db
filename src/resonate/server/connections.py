"""One HTTP/1.1 connection under uvicorn, with an end to everybody's patience.

uvicorn bounds only the pause between two requests. Here a peer also has a bounded time for
the head of a request, for the whole of it, and for reading what it was sent; whoever is slower
loses the connection. In the common case (a request in one packet, an answer that fits the
socket) no timer is ever made.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from resonate.server.admission import ANSWER, Admission

MAX_HEAD: Final = 64 * 1024
"""Bytes of a request's head, and of what may follow its body: the longest token and then some."""

_ADMITTED: Final = "resonate.admitted"
_HEAD: Final = b"HTTP/1.1 "
_JOINED: Final = 64 * 1024  # bytes of a body that are worth copying to spare a system call
_TOO_LONG: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_TOO_SLOW: Final = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def patient(header_timeout: float, request_timeout: float, admission: Admission) -> type[asyncio.Protocol]:
    """The class of connections that wait `header_timeout` and `request_timeout` seconds.

    Args:
        admission: lets the requests in that are POSTed.
    """
    bounds = {"header_timeout": header_timeout, "request_timeout": request_timeout, "admission": admission}
    return type("PatientProtocol", (_Connection,), bounds)


class _OneWrite:
    """A transport that sends the head of an answer together with what follows it.

    uvicorn writes head and body one after the other, and each write is a system call and a packet:
    a third of the answers reached their readers in two pieces.
    """

    __slots__ = ("_held", "_loop", "_transport", "_write", "is_closing", "pause_reading", "resume_reading")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: bytes | None = None
        self._write = transport.write
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading

    def write(self, data: bytes) -> None:
        if self.is_closing():  # the peer is gone: nobody reads what is left of its answer
            self._held = None
            return
        held = self._held
        if held is not None:
            self._held = None
            self._write(held + data if len(data) < _JOINED else held)
            if len(data) >= _JOINED:
                self._write(data)
        elif data.startswith(_HEAD):
            self._held = data
            self._loop.call_soon(self._flush)  # an answer without a body
        else:
            self._write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        held, self._held = self._held, None
        if held is not None and not self.is_closing():
            self._write(held)


class _Connection(HttpToolsProtocol):
    header_timeout: float
    request_timeout: float
    admission: Admission

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._app = self.app
        self.app = self._admitted
        self._dropping = False  # whether the request that arrives is refused
        self._refusals = 0  # that have not been told yet
        self._incomplete = True
        self._in_head = True
        self._unread = 0  # bytes of this request since anything came of them
        self._arriving: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None

    # ---- requests: from the first byte, or the connection, to the last byte -----------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", _OneWrite(transport, self.loop)))
        self._arriving = self.loop.call_later(self.header_timeout, self._too_slow)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._incomplete:
            self._unread += len(data)
            if self._unread > MAX_HEAD + len(data):  # the piece that ends a head may be long for its body's sake
                self._too_long()
        if self._incomplete and self._arriving is None and not self.transport.is_closing():
            timeout = self.header_timeout if self._in_head else self.request_timeout
            self._arriving = self.loop.call_later(timeout, self._too_slow)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._incomplete = self._in_head = True
        self._unread = 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._unread = 0
        self._arrived()
        admits = self.parser.get_method() == b"POST" and not self._answering()
        if self._refusals or (admits and self.admission.full):  # whatever follows a refusal must not overtake it
            self._dropping = True
            if self.expect_100_continue:  # the body is not sent before we ask for it
                self._refuse_later()
            return
        self._dropping = False
        super().on_headers_complete()
        if admits:
            self.admission.inside += 1
            self.scope["state"][_ADMITTED] = True

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        if not self._dropping:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._incomplete = False
        self._arrived()
        if not self._dropping:
            super().on_message_complete()
        elif not self.expect_100_continue:
            self._refuse_later()

    async def _admitted(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self._app(scope, receive, send)
        finally:
            if scope.get("state", {}).pop(_ADMITTED, False):
                self.admission.inside -= 1

    def _refuse_later(self) -> None:
        self._refusals += 1
        self.transport.pause_reading()
        self.loop.call_later(self.admission.refuse(), self._refuse)

    def _refuse(self) -> None:
        self._refusals -= 1
        if self.transport.is_closing():
            return
        self.transport.write(ANSWER)
        if self.expect_100_continue:  # whether the body comes all the same is the client's choice
            self.transport.close()
            return
        if self._refusals:
            return
        self.transport.resume_reading()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _arrived(self) -> None:
        if self._arriving is not None:
            self._arriving.cancel()
            self._arriving = None

    def _too_slow(self) -> None:
        self._arriving = None
        if self.transport.is_closing():
            return
        if self._in_head and not self._answering():
            self.transport.write(_TOO_SLOW)
        self.transport.close()

    def _too_long(self) -> None:
        if self.transport.is_closing():
            return
        if self._in_head and not self._answering():
            self.transport.write(_TOO_LONG)
        self.transport.close()

    def _answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        return cycle is not None and not cycle.response_complete

    # ---- answers: until the peer has read them -----------------------------------------------------

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._reading is None:
            self._reading = self.loop.call_later(self.request_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        self._stop_reading()
        super().connection_lost(exc)

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
