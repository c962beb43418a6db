"""The dashboard's way into a server: its requests are judged and answered like those of any client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from resonate.protocol.requests import Request, Response
from resonate.server.base import Authenticator, Unauthorized
from resonate.server.intake import Intake
from resonate.server.poll import Hub
from resonate.service.service import Service
from resonate.ui.access import Poller, Refused, Send

PATIENCE: Final = 30.0
"""Seconds that a request of the dashboard may take; a server that stops leaves some without an answer."""


class ServerAccess:
    """An `Access` to the service of this process.

    Args:
        service: whose state is shown.
        auth: who checks tokens; None lets everybody pass.
        hub: knows who polls.
        intake: where requests are answered; asked for on the event loop.
    """

    def __init__(
        self, service: Service, auth: Authenticator[Any] | None, hub: Hub, intake: Callable[[], Intake]
    ) -> None:
        self._service = service
        self._auth = auth
        self._hub = hub
        self._intake = intake
        self.where = "this server"

    def now(self) -> int:
        """Milliseconds since the epoch, as the service has it."""
        return self._service.now()

    def enter(self, authorization: str | None) -> Send:
        """What carries the requests of whoever sent this header.

        Raises:
            Refused: 401, the header does not hold.
        """
        loop, intake, auth = asyncio.get_running_loop(), self._intake(), self._auth
        identity = self._identity(authorization)

        def send(requests: Sequence[Request]) -> list[Response]:
            if auth is not None:
                requests = [auth.narrow(identity, request) for request in requests]
                if not all(auth.permit(identity, request) for request in requests):
                    raise Refused(403, "Forbidden: the token does not reach that far; nothing was changed")
            asked = asyncio.run_coroutine_threadsafe(intake.ask(requests, False, None), loop)
            try:
                return asked.result(PATIENCE)
            except TimeoutError:
                raise Refused(
                    503, "the storage has not answered in time: it may be done, look before you try again"
                ) from None

        return send

    def may_act(self, authorization: str | None) -> bool:
        """Whether whoever sent this header may change anything."""
        return self._auth is None or not self._identity(authorization).reader

    def pollers(self, authorization: str | None) -> Mapping[str, Sequence[Poller]]:
        """The processes that listen to this server or did, of the groups that whoever asks may listen to."""
        identity = self._identity(authorization)
        prefix = "" if self._auth is None else identity.reach
        found = {} if prefix is None else self._hub.seen(prefix)
        return {
            group: [Poller(pid, since, gone) for pid, (since, gone) in sorted(ids.items())]
            for group, ids in found.items()
            if self._auth is None or identity.may_see(group)
        }

    def _identity(self, authorization: str | None) -> Any:
        if self._auth is None:
            return None
        try:
            return self._auth.authenticate(None, authorization=authorization)
        except Unauthorized:
            raise Refused(401, "Unauthorized: sign in with a token of this server") from None
