"""The application: static files, the screens as JSON, live changes, and actions with their guard."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope
from starlette.types import Send as AsgiSend

from resonate.errors import ResonateError, ResonateStoreError, UsageError
from resonate.inspection import Inspector, Refusal
from resonate.ui import screens
from resonate.ui.access import Access, Refused, Send
from resonate.ui.actions import Done, act
from resonate.ui.browsers import Guard
from resonate.ui.decoding import Payloads, TextEncoder

MAX_ACTION: Final = 1024 * 1024
"""Bytes of an action's body."""

MAX_LIVE: Final = 64
"""Pages that are told of changes at once; further ones are told to come back (503)."""

THREADS: Final = 4
"""Screens that are read at once; further ones wait their turn."""

PULSE: Final = 1.0
"""Seconds between two looks at whether a screen has changed; more where a look takes long."""

LONGEST: Final = 900.0
"""Seconds after which a stream of changes ends; the page opens another one."""

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'{}; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Nothing from other hosts (but the decoder, if there is one), nothing inline, nothing evaluated, in nobody's frame."""

_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}
_GUARDS: Final = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}


class Dashboard(Starlette):
    """The dashboard around one `Access`.

    Args:
        access: where state lives.
        read_only: nothing can be changed from it.
        encoder: what programs store their values with, so that they can be shown and promises settled by the form.
        decoder: URL that the page itself has stored values decoded by, instead; the only other host it talks to.
        close: called when the application ends.
        hosts: names, besides addresses and localhost, under which pages ask for it; None: any. To be given where
            whoever reaches it may see everything.

    Raises:
        UsageError: the decoder is no URL of http or https.
    """

    def __init__(
        self,
        access: Access,
        *,
        read_only: bool = False,
        encoder: TextEncoder | None = None,
        decoder: str | None = None,
        close: Callable[[], None] | None = None,
        hosts: Sequence[str] | None = None,
    ) -> None:
        self.access = access
        self.read_only = read_only
        self.decoder = decoder
        self._guard = Guard(hosts)
        self._payloads = Payloads(encoder)
        self._guards = _GUARDS | {"content-security-policy": POLICY.format(_origin(decoder))}
        self._close = close
        self._live = 0
        self._ending = False
        self._threads: ThreadPoolExecutor | None = None
        self._files = {name: _File(name) for name in _names()}
        super().__init__(
            routes=[
                Route("/api/live/{screen}", self._stream, methods=["GET"]),
                Route("/api/act/{action}", self._act, methods=["POST"]),
                Route("/api/{screen}", self._screen, methods=["GET"]),
                Route("/{name:path}", self._file, methods=["GET"]),
            ],
            lifespan=_lifespan,
        )
        self.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: AsgiSend) -> None:
        if scope["type"] == "http":
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            if not path:  # what the page asks for by itself would be looked for beside it
                there = f"{scope['path'].rpartition('/')[2]}/"
                await RedirectResponse(there, 307, self._guards)(scope, receive, send)
                return
            problem = self._guard.problem(scope["headers"], open=not path.startswith("/api/"))
            if problem is not None:
                await Response(problem, 403, self._guards, "text/plain")(scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    def close(self) -> None:
        """End the live streams and free what is held. Idempotent."""
        self._ending = True
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)
        close, self._close = self._close, None
        if close is not None:
            close()

    # ---- files ---------------------------------------------------------------------------------

    async def _file(self, request: Request) -> Response:
        path = request.path_params["name"]
        file = self._files.get(path or "index.html")
        if file is None:
            return Response("There is no such page", 404, media_type="text/plain", headers=self._guards)
        headers = {**self._guards, "etag": file.tag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == file.tag:
            return Response(status_code=304, headers=headers)
        return Response(file.content, headers=headers | {"content-type": file.type})

    # ---- screens -------------------------------------------------------------------------------

    async def _screen(self, request: Request) -> Response:
        try:
            answer = _encode(await self._read(request))
        except Exception as error:
            return self._refusal(error)
        headers = {**self._guards, "cache-control": "no-store"}
        if request.path_params["screen"] == "export":
            headers["content-disposition"] = 'attachment; filename="execution.json"'
        return Response(answer, headers=headers, media_type="application/json")

    async def _read(self, request: Request) -> Any:
        stored = self.access.enter(request.headers.get("authorization"))
        send = self._payloads.reading(stored)
        pollers = self.access.pollers(request.headers.get("authorization"))
        may_act = not self.read_only and self.access.may_act(request.headers.get("authorization"))
        screen, query = request.path_params["screen"], dict(request.query_params)

        def read() -> Any:
            ask = Inspector(send, self.access.now)
            match screen:
                case "about":
                    return {"where": self.access.where, "readOnly": not may_act, "decoder": self.decoder}
                case "executions":
                    found = screens.executions(ask, query, self.access.now())
                case "tree":
                    found = screens.tree(ask, query)
                case "call":
                    found = screens.call(ask, query) | self._encoded(stored, query)
                case "why":
                    found = screens.why(ask, query)
                case "groups":
                    found = screens.groups(ask, pollers)
                case "schedules":
                    found = screens.schedules(send, ask)
                case "failures":
                    found = screens.failures(send, ask)
                case "export":
                    return screens.export(stored, query, self.access.now)
                case _:
                    raise Refused(404, f"there is no screen {screen}")
            return found

        found = await self._on_thread(read)
        return found if screen in ("about", "export") else {**found, "now": await self._on_thread(self.access.now)}

    def _encoded(self, stored: Send, query: Mapping[str, str]) -> dict[str, Any]:
        """What the page hands to the decoder."""
        return {} if self.decoder is None else {"encoded": screens.stored(stored, query)}

    async def _on_thread(self, work: Callable[[], Any]) -> Any:
        if self._ending:
            raise Refused(503, "the server is stopping")
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, "resonate-ui")
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    # ---- live ----------------------------------------------------------------------------------

    async def _stream(self, request: Request) -> Response:
        """Says `change` whenever what the screen shows has become something else."""
        try:
            if self._live >= MAX_LIVE:
                raise Refused(503, f"{MAX_LIVE} pages are open already")
            first = await self._read(request)
        except Exception as error:
            return self._refusal(error)
        headers = {**self._guards, "cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(self._changes(request, first), headers=headers, media_type="text/event-stream")

    async def _changes(self, request: Request, found: Any) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        until = loop.time() + LONGEST
        self._live += 1
        try:
            yield b"retry: 2000\n\n"
            pause, before = PULSE, _mark(found)
            while not self._ending and not _told_to_end() and loop.time() < until:
                if screens.over(found):
                    yield b"event: over\ndata: {}\n\n"
                    return
                await asyncio.sleep(pause)
                begun = loop.time()
                try:
                    found = await self._read(request)
                except Exception:
                    yield b"event: lost\ndata: {}\n\n"
                    return
                pause = max(PULSE, 5 * (loop.time() - begun))
                mark = _mark(found)
                yield b": still here\n\n" if mark == before else b"event: change\ndata: {}\n\n"
                before = mark
        finally:
            self._live -= 1

    # ---- actions -------------------------------------------------------------------------------

    async def _act(self, request: Request) -> Response:
        try:
            self._check(request)
            send = self.access.enter(request.headers.get("authorization"))
            body = await _body(request)
            done = await self._on_thread(lambda: self._carry_out(request.path_params["action"], send, body))
        except Exception as error:
            return self._refusal(error)
        said = {"text": done.text} | ({"begun": done.begun} if done.begun else {})
        return Response(_encode(said), headers=self._guards, media_type="application/json")

    def _carry_out(self, action: str, send: Send, body: dict[str, Any]) -> Done:
        return act(action, send, Inspector(send, self.access.now), self.access.now(), body, self._payloads)

    def _check(self, request: Request) -> None:
        """Only our own page may act: browsers that tell no origin send this header for no other."""
        if self.read_only:
            raise Refused(403, "this page is read-only: nothing was changed")
        if not self.access.may_act(request.headers.get("authorization")):
            raise Refused(403, "Forbidden: the token may only read; nothing was changed")
        if request.headers.get("resonate-action") != "1":
            raise Refused(403, "actions are taken from the dashboard's own page only: nothing was changed")

    def _refusal(self, error: Exception) -> Response:
        """An error as the page shows it."""
        if isinstance(error, Refused):
            status, text = error.status, error.text
        elif isinstance(error, Refusal):
            status, text = 409, str(error)
        elif isinstance(error, ResonateStoreError):
            status, text = (404 if round(error.code, 3) == 100.404 else 503), error.mesg
        elif isinstance(error, ValueError):
            status, text = 400, str(error)
        elif isinstance(error, ResonateError):
            status, text = 503, error.mesg
        else:
            raise error
        return Response(_encode({"error": text}), status, headers=self._guards, media_type="application/json")


class _File:
    """A static file, read once."""

    def __init__(self, name: str) -> None:
        self.content = (files("resonate.ui") / "static" / name).read_bytes()
        self.type = _TYPES[name.rpartition(".")[2]]
        self.tag = f'"{hashlib.sha256(self.content).hexdigest()[:20]}"'


def _names() -> list[str]:
    found = (files("resonate.ui") / "static").iterdir()
    return [entry.name for entry in found if entry.name.rpartition(".")[2] in _TYPES]


def _encode(found: Any) -> bytes:
    return msgspec.json.encode(found)


def _mark(found: Any) -> bytes:
    """What tells two states of a screen apart; that time goes by is no change."""
    return hashlib.sha256(_encode({name: value for name, value in found.items() if name != "now"})).digest()


def _origin(decoder: str | None) -> str:
    """What the policy adds for the decoder.

    Raises:
        UsageError: it is no URL of http or https.
    """
    if decoder is None:
        return ""
    parts = urlsplit(decoder)
    if parts.scheme not in ("http", "https") or not re.fullmatch(r"[\w.:\[\]-]+", parts.netloc, re.ASCII):
        raise UsageError(f"decoder has to be a URL like https://codec.example.com/decode, got {decoder!r}")
    return f" {parts.scheme}://{parts.netloc}"


def _told_to_end() -> bool:
    """Whether this process serves by uvicorn and has been told to end; it waits for streams without a word."""
    handler = signal.getsignal(signal.SIGINT)
    return getattr(getattr(handler, "__self__", None), "should_exit", False) is True


async def _body(request: Request) -> dict[str, Any]:
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > MAX_ACTION:
                raise Refused(413, f"the body is larger than {MAX_ACTION} bytes: nothing was changed")
            parts.append(part)
    except ClientDisconnect:
        raise Refused(400, "the body is not complete: nothing was changed") from None  # nobody hears it
    try:
        return msgspec.json.decode(b"".join(parts), type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Refused(400, f"the body is no JSON object: {error}") from None


@contextlib.asynccontextmanager
async def _lifespan(app: Dashboard) -> AsyncIterator[None]:
    yield
    app.close()
