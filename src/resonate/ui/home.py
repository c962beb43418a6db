"""The dashboard of a file, a database or a server, by its URL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from resonate.resonate import Resonate
from resonate.ui.access import Poller, Refused, Send
from resonate.ui.application import Dashboard
from resonate.ui.decoding import TextEncoder
from resonate.urls import shown

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
        self.where = shown(url)

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

    def may_act(self, authorization: str | None) -> bool:
        """Whoever may see everything may change everything."""
        return True

    def pollers(self, authorization: str | None) -> Mapping[str, Sequence[Poller]] | None:
        """Not known: only a server sees who listens."""
        return None


def app(
    url: str,
    *,
    token: str | None = None,
    read_only: bool = False,
    encoder: TextEncoder | None = None,
    decoder: str | None = None,
    authorise: Callable[[str | None], bool] | None = None,
    hosts: Sequence[str] | None = None,
) -> Dashboard:
    """The dashboard as an ASGI application.

    Args:
        url: where state lives: sqlite:///app.db, postgresql://USER@HOST/DATABASE or http://HOST:8001.
        token: for a server.
        read_only: nothing can be changed from it.
        encoder: what programs give to `options(encoder=...)`: this process reads their values by it, and writes by it
            what is put into the form that settles a promise.
        decoder: URL of a service of yours that decodes values for the page, which asks it by itself: this process then
            needs no key and sees nothing decoded. docs/dashboard.md says what it is asked and answers.
        authorise: whether whoever sent this Authorization header (None without one) may see and change everything.
            None lets everybody who reaches the application: mount it where only they do.
        hosts: names, besides addresses and localhost, under which browsers may ask for it; None: any. Give it where
            reaching the application is all that is asked for: pages of other sites then cannot reach it by a name of
            theirs.

    Raises:
        UsageError: the URL or the decoder's cannot be used.
    """
    client = Resonate(url=url, token=token, group=GROUP)
    client._core.settings = replace(client._core.settings, make=False)
    home = Home(client, url, authorise)
    return Dashboard(home, read_only=read_only, encoder=encoder, decoder=decoder, hosts=hosts, close=client.stop)
