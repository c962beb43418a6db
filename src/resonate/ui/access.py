"""The seam between the dashboard and where state lives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from resonate.protocol.requests import Request, Response

Send = Callable[[Sequence[Request]], list[Response]]
"""Carries requests and returns their answers; called on threads, never on the event loop."""


class Refused(Exception):
    """Whoever asks may not, or what they ask for is not possible.

    Args:
        status: of HTTP.
        text: for people: what happened and what to do.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Poller(NamedTuple):
    """A process that listens for the messages of a group, or did.

    Attributes:
        pid: what it calls itself.
        since: when it began to, milliseconds since the epoch.
        gone: when it ended; None if it is there.
    """

    pid: str
    since: int
    gone: int | None = None


class Access(Protocol):
    """Where state lives, and who may see it."""

    @property
    def where(self) -> str:
        """What people call it; holds no secret."""

    def now(self) -> int:
        """Milliseconds since the epoch, as they have it there."""

    def enter(self, authorization: str | None) -> Send:
        """What carries the requests of whoever sent this Authorization header; called on the event loop.

        Raises:
            Refused: they have not shown who they are (401), or may not (403).
        """

    def may_act(self, authorization: str | None) -> bool:
        """Whether whoever sent this header may change anything; what they may is judged again for each request."""

    def pollers(self, authorization: str | None) -> Mapping[str, Sequence[Poller]] | None:
        """The processes that listen for the messages of each group, or did lately; None if that is not known."""
