"""Whole trees beside the protocol: `POST /trees/import` stores an exported one, `POST /trees/purge` deletes one.

For whoever may touch all ids of the tree. Each runs on a thread: it waits for its turn in the
service as the timers do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any, Final

import msgspec
from msgspec import Struct
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from resonate.errors import ResonateStoreError, StorageUnavailable, StorageUnusable, UsageError
from resonate.protocol import transfer, validation
from resonate.protocol.requests import PromiseCreate, PromiseGet, PromiseSettle
from resonate.server.base import Authenticator, Unauthorized
from resonate.service.importer import bring
from resonate.service.service import Service

MAX_TREE: Final = 64 * 1024 * 1024
"""Bytes of an exported execution that is taken in."""

MAX_NAME: Final = 16 * 1024
"""Bytes of a body that names an execution: the longest id, every character of it escaped."""

AT_ONCE: Final = 1
"""Trees that are taken in at once; further ones are told to come back (503)."""

_LOG: Final = logging.getLogger("resonate.server")


class _Refused(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, text)
        self.status, self.text = status, text


class _Named(Struct):
    id: str


class WholeTrees:
    """The two endpoints.

    Args:
        service: whose trees.
        auth: who checks tokens; None lets everybody pass.
    """

    def __init__(self, service: Service, auth: Authenticator[Any] | None) -> None:
        self._service = service
        self._auth = auth
        self._busy = 0

    async def bring(self, request: Request) -> Response:
        """Store the tree in the body."""
        return await _answered(self._bring(request))

    async def purge(self, request: Request) -> Response:
        """Delete the finished tree of the `id` in the body."""
        return await _answered(self._purge(request))

    async def _bring(self, request: Request) -> dict[str, Any]:
        identity = self._identity(request)
        if self._busy >= AT_ONCE:
            raise _Refused(503, "another execution is being imported: nothing was stored, try again later")
        self._busy += 1
        try:
            body = await _body(request, MAX_TREE)
            tree = await asyncio.to_thread(transfer.load, body)
            if not all(self._may_create(identity, promise.id, promise.tags) for promise in tree.promises):
                raise _Refused(403, "Forbidden")
            await asyncio.to_thread(bring, self._service, tree)
        finally:
            self._busy -= 1
        return {"root": tree.root, "promises": len(tree.promises)}

    async def _purge(self, request: Request) -> dict[str, Any]:
        identity = self._identity(request)
        try:
            id = msgspec.json.decode(await _body(request, MAX_NAME), type=_Named).id
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _Refused(400, f'the body is to be {{"id": ...}}: {error}') from None
        problem = validation.check(PromiseGet(id))
        if problem is not None:
            raise _Refused(400, problem)
        if self._auth is not None and not self._auth.permit(identity, PromiseSettle(id, "resolved")):
            raise _Refused(403, "Forbidden")
        await asyncio.to_thread(self._service.purger.purge, id)
        return {"root": id}

    def _identity(self, request: Request) -> Any:
        if self._auth is None:
            return None
        try:
            return self._auth.authenticate(None, authorization=request.headers.get("authorization"))
        except Unauthorized as refused:
            _LOG.info("a request was refused: %s", refused)
            raise _Refused(401, "Unauthorized") from None

    def _may_create(self, identity: Any, id: str, tags: dict[str, str]) -> bool:
        return self._auth is None or self._auth.permit(identity, PromiseCreate(id, 0, tags=tags))


async def _body(request: Request, most: int) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise _Refused(
                413,
                f"the execution has more than {most} bytes, which a server takes at once: import it into the "
                "database of the server itself, with --url",
            )
        parts.append(part)
    return b"".join(parts)


async def _answered(doing: Awaitable[dict[str, Any]]) -> Response:
    """What came of it, as JSON."""
    status = 200
    try:
        body = await doing
    except _Refused as refused:
        status, body = refused.status, {"error": refused.text}
    except ClientDisconnect:
        status, body = 400, {"error": "the body is not complete: nothing was done"}  # nobody hears it
    except UsageError as error:
        status, body = 409, {"error": error.mesg}
    except (StorageUnavailable, StorageUnusable) as error:
        status, body = 503, {"error": f"The storage did not take it, nothing was changed: {error.mesg}"}
    except ResonateStoreError as error:
        status, body = (404 if round(error.code, 3) == 100.404 else 500), {"error": error.mesg}
    return Response(msgspec.json.encode(body), status, media_type="application/json")
