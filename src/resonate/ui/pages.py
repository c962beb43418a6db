"""The dashboard as an ASGI application: static files, and below `/api` what they show, as JSON.

What is asked goes to a service in requests of the protocol, with the headers of whoever asks:
a server that checks tokens checks them here too, each request by itself. Actions need a
header that other sites cannot send, and the same origin.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final, Protocol

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from resonate.errors import ResonateError, ResonateStoreError, StorageUnavailable, UsageError
from resonate.inspection import Inspector, Refusal, Steering
from resonate.protocol.records import Value
from resonate.protocol.requests import Request, ScheduleSearch
from resonate.protocol.requests import Response as Answer
from resonate.resonate import Resonate
from resonate.values.payload import pack

MARK: Final = "x-resonate-ui"
"""The header that an action has to have: a form or link of another site cannot send it."""

BODY: Final = 1_000_000
"""Bytes that an action may have."""

LIMIT: Final = 500
"""Executions on one page at most."""

_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SAFE: Final = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}

Send = Callable[[Sequence[Request]], list[Answer]]
View = Callable[[Inspector, Mapping[str, str], Send], Any]


class Asks(Protocol):
    """Whoever carries requests to a service, on behalf of somebody."""

    def send(self, requests: Sequence[Request], headers: Headers, loop: asyncio.AbstractEventLoop) -> list[Answer]:
        """Carry out requests; blocks, on a thread that may.

        Args:
            requests: of the protocol.
            headers: of whoever asks.
            loop: that the application runs on.

        Raises:
            Unpermitted: whoever sent these headers may not.
        """

    def now(self) -> int:
        """Milliseconds since the epoch, as the service has it."""


class Unpermitted(Exception):
    """Whoever asks has not said who they are (401), or may not do that (403)."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Dashboard(Starlette):
    """The application.

    Args:
        asks: carries requests to the service.
        read_only: refuses all actions.
    """

    def __init__(self, asks: Asks, *, read_only: bool = False) -> None:
        self._asks = asks
        self._read_only = read_only
        api = [Route(f"/api/{name}", self._view(view), methods=["GET"]) for name, view in _VIEWS.items()]
        super().__init__(
            routes=[
                *api,
                Route("/api/act", self._act, methods=["POST"]),
                Route("/", _page, methods=["GET"]),
                Route("/{name}", _file, methods=["GET"]),
            ]
        )

    def _view(self, view: View) -> Callable[[HttpRequest], Awaitable[Response]]:
        async def answer(request: HttpRequest) -> Response:
            send = self._sends(request)

            def look() -> Any:
                found = view(Inspector(send, self._asks.now), request.query_params, send)
                return {"now": self._asks.now(), "readOnly": self._read_only, "found": found}

            return await _answered(look, request)

        return answer

    async def _act(self, request: HttpRequest) -> Response:
        if request.headers.get(MARK) is None or request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return _json({"error": "actions come from the dashboard itself"}, 403)
        if self._read_only:
            return _json({"error": "this dashboard only shows, it changes nothing (read-only)"}, 403)
        if int(request.headers.get("content-length") or BODY + 1) > BODY:
            return _json({"error": f"an action has at most {BODY} bytes"}, 413)
        body = await request.body()

        send = self._sends(request)
        return await _answered(lambda: {"said": _carry_out(Steering(send, self._asks.now), body)}, request)

    def _sends(self, request: HttpRequest) -> Send:
        """Carries requests on behalf of whoever has sent `request`."""
        loop = asyncio.get_running_loop()
        return lambda requests: self._asks.send(requests, request.headers, loop)


# ---- what is shown -------------------------------------------------------------------------------


def _executions(inspector: Inspector, asked: Mapping[str, str], send: Send) -> Any:
    tag, equals, value = asked.get("tag", "").partition("=")
    return inspector.executions(
        state=asked.get("state") or None,
        function=asked.get("function") or None,
        group=asked.get("group") or None,
        tags={tag: value} if equals else None,
        prefix=asked.get("prefix", ""),
        since=_whole(asked, "since"),
        until=_whole(asked, "until"),
        limit=min(_whole(asked, "limit") or 50, LIMIT),
        cursor=asked.get("cursor") or None,
    )


def _execution(inspector: Inspector, asked: Mapping[str, str], send: Send) -> Any:
    id = asked.get("id", "")
    return {"tree": inspector.tree(id), "waits": inspector.why(id)}


def _groups(inspector: Inspector, asked: Mapping[str, str], send: Send) -> Any:
    return inspector.groups()


def _failures(inspector: Inspector, asked: Mapping[str, str], send: Send) -> Any:
    return inspector.failures()


def _schedules(inspector: Inspector, asked: Mapping[str, str], send: Send) -> Any:
    (answer,) = send([ScheduleSearch(None, 1000, None)])
    return answer.schedules or ()


_VIEWS: Final[dict[str, View]] = {
    "executions": _executions,
    "execution": _execution,
    "groups": _groups,
    "failures": _failures,
    "schedules": _schedules,
}


def _whole(asked: Mapping[str, str], name: str) -> int | None:
    text = asked.get(name)
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise ValueError(f"{name} must be a whole number, got {text!r}")
    return int(text)


# ---- what is done --------------------------------------------------------------------------------


def _carry_out(steering: Steering, body: bytes) -> str:
    """Do what an action asks for; a sentence that says what was done.

    Raises:
        ValueError: it asks for nothing that there is.
        ResonateError: it was refused.
    """
    action = _action(body)
    id = action.id
    if action.do == "cancel":
        steering.cancel(id)
        return f"{id} is cancelled"
    if action.do == "resume":
        steering.resume(id)
        return f"{id} goes on"
    if action.do == "retry":
        count = steering.retry(id)
        return f"{count} attempt{'s begin' if count > 1 else ' begins'} now"
    json.loads(action.value)
    steering.settle(id, "resolved" if action.do == "resolve" else "rejected", Value(None, pack(action.value.encode())))
    return f"{id} is {action.do}{'d' if action.do == 'resolve' else 'ed'}"


class _Action(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    do: str
    id: str
    value: str = "null"


def _action(body: bytes) -> _Action:
    try:
        action = msgspec.json.decode(body, type=_Action)
    except msgspec.DecodeError as error:
        raise ValueError(f"that is no action: {error}") from None
    if action.do not in ("cancel", "resume", "retry", "resolve", "reject"):
        raise ValueError(f"there is no action {action.do!r}")
    return action


# ---- answers -------------------------------------------------------------------------------------


async def _answered(work: Callable[[], Any], request: HttpRequest) -> Response:
    try:
        found = await asyncio.to_thread(work)
    except Unpermitted as refused:
        text = "say who you are: a token" if refused.status == 401 else "you may not do or see that"
        return _json({"error": text}, refused.status)
    except Refusal as error:
        return _json({"error": str(error)}, 409)
    except StorageUnavailable as error:
        return _json({"error": error.mesg}, 503)
    except ResonateStoreError as error:
        return _json({"error": error.mesg}, 404 if round(error.code, 3) == 100.404 else 500)
    except (UsageError, ValueError) as error:
        return _json({"error": str(error)}, 400)
    except ResonateError as error:
        return _json({"error": error.mesg}, 500)
    return _json(found, 200, request.headers.get("if-none-match"))


def _json(found: Any, status: int, known: str | None = None) -> Response:
    """A JSON answer; 304 if whoever asks has it already, but for the time."""
    body = msgspec.json.encode(found)
    if status != 200 or not isinstance(found, dict) or "found" not in found:
        return Response(body, status, _SAFE, "application/json")
    tag = f'"{hashlib.blake2b(msgspec.json.encode(found["found"]), digest_size=12).hexdigest()}"'
    if known == tag:
        return Response(status_code=304, headers={**_SAFE, "etag": tag})
    return Response(body, 200, {**_SAFE, "etag": tag}, "application/json")


async def _page(request: HttpRequest) -> Response:
    return _static("index.html")


async def _file(request: HttpRequest) -> Response:
    return _static(request.path_params["name"])


def _static(name: str) -> Response:
    found = _contents().get(name)
    if found is None:
        return Response(status_code=404, headers=_SAFE)
    kind = _TYPES[name.rpartition(".")[2]]
    return Response(found, 200, _SAFE, f"{kind}; charset=utf-8")


@cache
def _contents() -> dict[str, bytes]:
    """The files of the page, by name."""
    place = files("resonate.ui") / "static"
    return {file.name: file.read_bytes() for file in place.iterdir() if file.name.rpartition(".")[2] in _TYPES}


# ---- by itself -----------------------------------------------------------------------------------


class _OfClient:
    """Carries requests through a client of ours, made when the first one comes."""

    def __init__(self, url: str, token: str | None) -> None:
        self._client = Resonate(url=url, token=token, group="resonate-ui")

    def send(self, requests: Sequence[Request], headers: Headers, loop: asyncio.AbstractEventLoop) -> list[Answer]:
        return self._client._core.started().network.send(requests)

    def now(self) -> int:
        return self._client._core.started().network.now()


def app(url: str, *, token: str | None = None, read_only: bool = False) -> Dashboard:
    """The dashboard of whatever `url` names, to be mounted in an ASGI application or served by itself.

    Whoever can reach it can see, and unless it is read-only do, everything: put your own
    authorisation in front of it.

    Args:
        url: of a file, a database or a server.
        token: for a server.
        read_only: refuse all actions.

    Raises:
        ValueError: `url` names nothing that state can live in.
    """
    return Dashboard(_OfClient(url, token), read_only=read_only)
