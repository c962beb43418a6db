"""The dashboard of a file, a database or a server, by its URL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from resonate.resonate import Resonate
from resonate.ui.access import Refused, Send
from resonate.ui.application import Dashboard

GROUP: Final = "resonate-ui"
"""Of our own process: nothing is ever sent to it."""


class Home:
    """An `Access` through a client of ours, which starts with the first request.

    Args:
        client: asks; stopped by whoever made it.
        url: of where its state lives.
        authorise: whether whoever sent this Authorization header may see and change everything; None: everybody may.
    """

    def __init__(self, client: Resonate, url: str, authorise: Callable[[str | None], bool] | None) -> None:
        self._client = client
        self._authorise = authorise
        parts = urlsplit(url)
        self.where = url.replace(parts.netloc, parts.netloc.rpartition("@")[2], 1) if parts.netloc else url

    def now(self) -> int:
        """Milliseconds since the epoch, as they have it there."""
        return self._client._core.started().network.now()

    def enter(self, authorization: str | None) -> Send:
        """What carries requests.

        Raises:
            Refused: 401, they may not.
        """
        if self._authorise is not None and not self._authorise(authorization):
            raise Refused(401, "Unauthorized: sign in with a token that may see this")
        return lambda requests: self._client._core.started().network.send(requests)

    def pollers(self, authorization: str | None) -> Mapping[str, Sequence[str]] | None:
        """Not known: only a server sees who listens."""
        return None


def app(
    url: str,
    *,
    token: str | None = None,
    read_only: bool = False,
    authorise: Callable[[str | None], bool] | None = None,
) -> Dashboard:
    """The dashboard as an ASGI application.

    Args:
        url: where state lives: sqlite:///app.db, postgresql://USER@HOST/DATABASE or http://HOST:8001.
        token: for a server.
        read_only: nothing can be changed from it.
        authorise: whether whoever sent this Authorization header (None without one) may see and change everything.
            None lets everybody who reaches the application: mount it where only they do.

    Raises:
        UsageError: the URL cannot be used.
    """
    client = Resonate(url=url, token=token, group=GROUP)
    return Dashboard(Home(client, url, authorise), read_only=read_only, close=client.stop)
