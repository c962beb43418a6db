"""What the parts of the server agree on: settings, and the seam for whoever checks tokens."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeVar

from resonate.protocol.requests import Request

MAX_BODY: Final = 2 * 1024 * 1024
"""Bytes of a request body that are read; one more is refused (protocol 2.4)."""

MAX_WAITING: Final = 1_024
"""Requests under way at once; further ones are told to come back (503). Each holds a body and an answer."""

MAX_BUFFERED: Final = 64 * 1024 * 1024
"""Bytes of bodies under way at once, so that many large requests cannot exhaust the memory."""

POLL_CONNECTIONS: Final = 1_000
"""Poll streams that are served at once (protocol 2.6)."""

POLL_COMMENT: Final = 15_000
"""Milliseconds without a message after which a comment tells both ends that the stream lives."""

SHUTDOWN_TIMEOUT: Final = 10_000
"""Milliseconds in which requests under way may end when the server stops (protocol 8.1)."""

HEADER_TIMEOUT: Final = 10_000
"""Milliseconds for the head of a request, from the connection or its first byte."""

REQUEST_TIMEOUT: Final = 30_000
"""Milliseconds for a whole request to arrive, and for a peer to read what it was sent."""

KEEP_ALIVE: Final = 75_000
"""Milliseconds for which a connection without a request stays open; clients keep several."""


class Unauthorized(Exception):
    """Whoever asks has not shown who they are (401).

    `args[0]` says which rule failed, for the server's log: it holds no secret. The answer to
    the client says `Unauthorized` and nothing else.
    """


class Identity(Protocol):
    """Who asks."""

    def may_poll(self, group: str) -> bool:
        """Whether they may receive messages of `group`."""

    @property
    def reach(self) -> str | None:
        """What every id begins with that they may touch; "" is any id, None none. They get messages of these only."""


Who = TypeVar("Who", bound=Identity)


class Authenticator(Protocol[Who]):
    """Checks who asks and what they may ask."""

    def authenticate(self, token: str | None, *, authorization: str | None = None) -> Who:
        """Who asks.

        Args:
            token: the `head.auth` of an envelope, None without one.
            authorization: the whole Authorization header, None without one; it counts only without `token`.

        Raises:
            Unauthorized: nothing was sent, or it does not hold.
        """

    def names_only_permitted(self, identity: Who, kind: str, data: Mapping[str, Any]) -> bool:
        """Whether `identity` may send a request that names these ids, before it is decoded; a no comes early."""

    def narrow(self, identity: Who, request: Request) -> Request:
        """`request` as `identity` may ask it: a search keeps to what they may see."""

    def permit(self, identity: Who, request: Request) -> bool:
        """Whether `identity` may have `request` answered: the last word."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the application answers; what the protocol leaves to whoever runs a server.

    Attributes:
        auth: who checks tokens; None lets everybody pass.
        max_body: bytes of a request body.
        max_waiting: requests under way at once.
        cors_origins: origins whose pages may ask; `("*",)` is any, `()` none.
        hosts: names, besides addresses and localhost, under which requests may ask for this server; None is any. A
            `Server` that asks nobody who they are and listens on this machine only takes None for `()`.
        server_url: where pushed workers talk back to; part of offers.
        poll_connections: poll streams at once.
        poll_comment: milliseconds of silence before a comment.
        ui: how the dashboard is served: "full", "read-only", or None for not at all.
        ui_decoder: URL that its page has values decoded by.
    """

    auth: Authenticator[Any] | None = None
    max_body: int = MAX_BODY
    max_waiting: int = MAX_WAITING
    cors_origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] | None = None
    server_url: str | None = None
    poll_connections: int = POLL_CONNECTIONS
    poll_comment: int = POLL_COMMENT
    ui: Literal["full", "read-only"] | None = None
    ui_decoder: str | None = None


@dataclass(frozen=True, slots=True)
class Listening:
    """Where and how the application is reached.

    Attributes:
        bind: the address to listen on.
        port: the port; 0 takes a free one.
        metrics_port: a second port for `/metrics` on the same address, 0 takes a free one, None has none.
        certificate: a file with the PEM certificate chain; with `key`, the server speaks TLS.
        key: a file with the PEM private key.
        key_password: what the key is encrypted with.
        header_timeout, request_timeout, keep_alive, shutdown_timeout: milliseconds, see the constants.
    """

    bind: str = "127.0.0.1"
    port: int = 8001
    metrics_port: int | None = None
    certificate: str | None = None
    key: str | None = None
    key_password: str | None = None
    header_timeout: int = HEADER_TIMEOUT
    request_timeout: int = REQUEST_TIMEOUT
    keep_alive: int = KEEP_ALIVE
    shutdown_timeout: int = SHUTDOWN_TIMEOUT

    def __repr__(self) -> str:
        return f"Listening(bind={self.bind!r}, port={self.port}, metrics_port={self.metrics_port}, tls={self.tls})"

    @property
    def tls(self) -> bool:
        """Whether the server speaks TLS."""
        return self.certificate is not None

    @property
    def local(self) -> bool:
        """Whether only this machine reaches the server."""
        return is_loopback(self.bind)


def is_loopback(bind: str) -> bool:
    """Whether only this machine reaches what listens on `bind`."""
    try:
        return ipaddress.ip_address(bind).is_loopback
    except ValueError:
        return bind == "localhost"
