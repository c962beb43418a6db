"""Who is let in: one request's checks (protocol 2.3), with whoever checks tokens in his place among them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Final

from msgspec import Raw
from msgspec.structs import replace

from resonate.protocol import wire
from resonate.server.base import Authenticator, Unauthorized
from resonate.service.service import Service

_LOG: Final = logging.getLogger("resonate.server")

Headers = Iterable[tuple[bytes, bytes]]


class Door:
    """Reads request bodies for one service and asks `auth`, if there is one, who may pass."""

    def __init__(self, service: Service, auth: Authenticator[Any] | None) -> None:
        self.auth = auth
        self._debug = service.debug
        self._strict = service.rules.strict

    def read(self, body: bytes | Raw, headers: Headers) -> wire.Call | wire.Refusal:
        """Every check of a request body; `head.auth` counts before the Authorization header."""
        auth = self.auth
        if auth is None:
            return wire.decode(body, debug=self._debug, strict=self._strict)
        return self._read_with(auth, body, headers)

    def enter(self, headers: Headers, group: str) -> str | None:
        """What the ids begin with whose messages whoever sent these headers may poll for; None if none of `group`.

        Raises:
            Unauthorized: the Authorization header does not hold.
        """
        if self.auth is None:
            return ""
        identity = self.auth.authenticate(None, authorization=authorization(headers))
        return identity.reach if identity.may_poll(group) else None

    def _read_with(self, auth: Authenticator[Any], body: bytes | Raw, headers: Headers) -> wire.Call | wire.Refusal:
        identity: Any = None

        def authorise(kind: str, token: str | None, data: dict[str, Any]) -> int | None:
            nonlocal identity
            try:
                identity = auth.authenticate(token, authorization=authorization(headers))
            except Unauthorized as refused:
                _LOG.info("a request was refused: %s", refused)
                return 401
            return None if auth.names_only_permitted(identity, kind, data) else 403

        found = wire.decode(body, debug=self._debug, strict=self._strict, authorise=authorise)
        if isinstance(found, wire.Refusal):
            return found
        request = auth.narrow(identity, found.request)
        return replace(found, request=request) if auth.permit(identity, request) else wire.forbid(found)


def authorization(headers: Headers) -> str | None:
    """The Authorization header, None without one."""
    for name, value in headers:
        if name == b"authorization":
            return value.decode("latin-1")
    return None
