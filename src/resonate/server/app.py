"""The protocol over HTTP: envelopes in, envelopes out, and the few paths beside them.

Section 2 of protocol 2026-04-01. `POST /` is dispatched before Starlette's routing, for it
is nearly all of the traffic; everything else is an ordinary route. The checks of a request
and their order are `protocol.wire`'s; here are only those of HTTP: size, load, headers.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, RedirectResponse
from starlette.responses import Response as HttpResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import Receive, Scope, Send

from resonate.protocol import wire
from resonate.protocol.requests import PromiseGet
from resonate.server.admission import BUSY, RETRY_AFTER
from resonate.server.base import MAX_BUFFERED, Settings
from resonate.server.batch import answer_batch
from resonate.server.dashboard import ServerAccess
from resonate.server.door import Door
from resonate.server.intake import Committer, Direct, Intake
from resonate.server.metrics import Metrics
from resonate.server.poll import Hub
from resonate.server.trees import WholeTrees
from resonate.service.service import Service
from resonate.ui import Dashboard
from resonate.ui.browsers import SAFE, Guard

READY_TIMEOUT: Final = 2.0
"""Seconds in which a storage must answer to count as ready."""

_PROBE: Final = "resonate.ready"  # a promise that may or may not exist
_JSON: Final = (b"content-type", b"application/json")
_TEXT: Final = (b"content-type", b"text/plain; charset=utf-8")
_BATCH: Final = (b"resonate-batch", b"1")
_RETIRED: Final = "the REST interface is gone; send envelopes of protocol 2026-04-01 to POST /"
_CORS_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_CORS_HEADERS: Final = ("origin", "content-length", "content-type", "authorization")


class _TooLarge(Exception):
    """The body is above the limit."""


class _Gone(Exception):
    """The peer has closed the connection before its request was complete."""


class _Busy(Exception):
    """As many requests as we serve at once are under way."""


def create_app(service: Service, settings: Settings | None = None, metrics: Metrics | None = None) -> Application:
    """The application around `service`, for any ASGI server.

    Args:
        service: answers; started and stopped by whoever made it. Its `debug` decides whether
            `debug.*` is served, its rules whether we are strict.
        settings: see there; None takes the defaults.
        metrics: counts what happens; None counts nothing.
    """
    return Application(service, settings or Settings(), metrics)


class Application(Starlette):
    """Answers HTTP for one service; `drain` before the end."""

    def __init__(self, service: Service, settings: Settings, metrics: Metrics | None) -> None:
        self.service = service
        self.settings = settings
        self.metrics = metrics
        self.door = Door(service, settings.auth)
        self.hub = Hub(service, settings, self.door, metrics)
        self.dashboard: Dashboard | None = None
        self.draining = False
        self._intake: Intake | None = None
        self.under_way = 0
        """Requests that have arrived and have no answer yet."""
        self._buffered = 0
        self._guard = Guard(settings.hosts, settings.cors_origins)
        cors = _cors(settings.cors_origins)
        # without CORS nothing in Starlette's stack concerns `POST /`
        self._direct = {} if cors else {"/": self._one, "/batch": self._batch}
        super().__init__(
            routes=self._routes(),
            middleware=cors,
            exception_handlers={404: _empty, 405: _empty},
            lifespan=_lifespan,
        )
        self.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            method, path = scope["method"], scope["path"]
            problem = self._guard.problem(scope["headers"], open=method in SAFE and not path.startswith("/poll/"))
            if problem is not None:
                await _send(send, 403, problem.encode(), _TEXT)
                return
            handler = self._direct.get(path) if method == "POST" else None
            if handler is not None:
                await handler(scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    def drain(self) -> None:
        """Take no new work: streams end, `/ready` says no. Requests under way are answered. Idempotent."""
        self.draining = True
        self.hub.close()
        if self.dashboard is not None:
            self.dashboard.close()

    def _routes(self) -> list[BaseRoute]:
        ui: list[BaseRoute] = []
        if self.settings.ui is not None:
            access = ServerAccess(self.service, self.settings.auth, self.hub, lambda: self.intake)
            read_only = self.settings.ui == "read-only"
            self.dashboard = Dashboard(access, read_only=read_only, decoder=self.settings.ui_decoder)
            ui = [Route("/ui", _to_page, methods=["GET"]), Mount("/ui", self.dashboard)]
        trees = WholeTrees(self.service, self.settings.auth)
        retired = [Route(path, _retired) for path in ("/promises", "/schedules", "/tasks")]
        retired += [Route(path + "/{rest:path}", _retired) for path in ("/promises", "/schedules", "/tasks")]
        for route in retired:
            route.methods = None  # whatever the method
        return [
            Route("/", _Endpoint(self._one), methods=["POST"]),
            Route("/batch", _Endpoint(self._batch), methods=["POST"]),
            Route("/health", _health, methods=["GET"]),
            Route("/ready", self._ready, methods=["GET"]),
            Route("/poll/{rest:path}", _Endpoint(self.hub.serve), methods=["GET"]),
            Route("/trees/import", trees.bring, methods=["POST"]),
            Route("/trees/purge", trees.purge, methods=["POST"]),
            *ui,
            *retired,
        ]

    # ---- requests ------------------------------------------------------------------------------

    async def _one(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = time.perf_counter()
        body = await self._enter(scope, receive, send)
        if body is None:
            return
        kind, status = "unknown", 500
        try:
            found = self.door.read(body, scope["headers"])
            kind = found.kind
            if isinstance(found, wire.Refusal):
                status, answer = found.status, found.body
            else:
                (response,) = await self.intake.ask((found.request,), False, found.now)
                status, answer = response.status, wire.encode(found, response)
            await self._reply(send, status, answer)
        finally:
            self._leave(len(body))
            if self.metrics is not None:
                self.metrics.answered(kind, status, time.perf_counter() - begun)

    async def _batch(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = time.perf_counter()
        body = await self._enter(scope, receive, send)
        if body is None:
            return
        try:
            status, answer, outcomes = await answer_batch(body, scope["headers"], self.door, self.intake)
            await self._reply(send, status, answer)
            if self.metrics is not None:
                self.metrics.batch_answered(outcomes, time.perf_counter() - begun)
        finally:
            self._leave(len(body))

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> bytes | None:
        """The body of a request that is let in; None if it is not, and then it has its answer."""
        try:
            if self.under_way >= self.settings.max_waiting:
                raise _Busy
            self.under_way += 1
            try:
                return await self._body(scope, receive)
            except BaseException:
                self.under_way -= 1
                raise
        except _TooLarge:
            self.turned_away("too_large")
            text = f"The body is larger than {self.settings.max_body} bytes. Send less at once"
            await _send(send, 413, text.encode(), _TEXT, *self._marks())
        except _Busy:
            self.turned_away("busy")
            retry = (b"retry-after", str(RETRY_AFTER).encode())
            await _send(send, 503, BUSY.encode(), _TEXT, retry, *self._marks())
        except _Gone:
            pass
        return None

    def turned_away(self, reason: str) -> None:
        """A request was refused for load or size."""
        if self.metrics is not None:
            self.metrics.refused(reason)

    def _leave(self, size: int) -> None:
        self.under_way -= 1
        self._buffered -= size

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body; it counts as buffered until `_leave`."""
        limit = self.settings.max_body
        for name, value in scope["headers"]:
            if name == b"content-length" and int(value) > limit:
                raise _TooLarge
        parts: list[bytes] = []
        size, more = 0, True
        try:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _Gone
                part = message.get("body", b"")
                size += len(part)
                self._buffered += len(part)
                if size > limit:
                    raise _TooLarge
                if self._buffered > MAX_BUFFERED:
                    raise _Busy
                parts.append(part)
                more = message.get("more_body", False)
        except BaseException:
            self._buffered -= size
            raise
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _reply(self, send: Send, status: int, answer: bytes) -> None:
        await _send(send, status, answer, _JSON, *self._marks())

    def _marks(self) -> tuple[tuple[bytes, bytes], ...]:
        """What our own clients look at: that batches are served, and the service's clock."""
        return _BATCH, (b"resonate-now", b"%d" % self.service.now())

    @property
    def intake(self) -> Intake:
        """Where requests are answered; made on first use, for it needs a running event loop."""
        if self._intake is None:
            self._intake = Direct(self.service) if self.service.storage.immediate else Committer(self.service)
        return self._intake

    async def finish(self) -> None:
        """After the last request: end the streams and free the threads. Idempotent."""
        self.drain()
        await self.hub.finish()
        intake, self._intake = self._intake, None
        if intake is not None:
            await intake.close()

    # ---- beside the protocol -------------------------------------------------------------------------

    async def _ready(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(status_code=200 if not self.draining and await self._storage_answers() else 503)

    async def _storage_answers(self) -> bool:
        """Whether a request that reads one row, like any other, is answered in time."""
        try:
            (answer,) = await asyncio.wait_for(self.intake.ask([PromiseGet(_PROBE)], False, None), READY_TIMEOUT)
        except TimeoutError:
            return False
        return answer.status < 500


class _Endpoint:
    """An ASGI application as Starlette's routes want it: an object, since functions get a request."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


async def _empty(request: HttpRequest, error: Exception) -> HttpResponse:
    return HttpResponse(status_code=error.status_code, headers=error.headers)  # type: ignore[attr-defined]


async def _health(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


async def _to_page(request: HttpRequest) -> HttpResponse:
    return RedirectResponse("ui/", 307)  # relative, so that it holds behind a proxy too


async def _retired(request: HttpRequest) -> HttpResponse:
    return JSONResponse({"error": _RETIRED}, status_code=410)


async def _send(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})


def _cors(origins: tuple[str, ...]) -> list[Middleware]:
    if not origins:
        return []
    if "*" in origins:
        return [Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])]
    return [Middleware(CORSMiddleware, allow_origins=origins, allow_methods=_CORS_METHODS, allow_headers=_CORS_HEADERS)]


@contextlib.asynccontextmanager
async def _lifespan(app: Application) -> AsyncIterator[None]:
    yield
    await app.finish()
