"""The poll stream: messages of a server, received on a thread of its own for as long as we run.

A stream that breaks is opened again, with growing pauses while that fails. Whatever was
sent in between may be lost, so whoever waits is told each time the stream is open. A peer
that is gone without a word is noticed by its silence.
"""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from resonate.daemons import Daemon
from resonate.network.http.connection import Connection, Lost, Server
from resonate.network.http.events import Events

SILENCE: Final = 40.0
"""Seconds without a byte after which a server that sends a comment every 15 s is gone."""

SILENCE_QUIET: Final = 600.0
"""The same for a server that sends none: TCP's own keep-alive should have told long before."""

PAUSE_FIRST: Final = 0.1
PAUSE_MAX: Final = 5.0
"""Seconds before the stream is opened again, doubled with every failure: nobody works for longer once it could."""

STEADY: Final = 5.0
"""Seconds after which a stream that brought nothing counts as a success, too."""

JOIN: Final = 2.0
"""Seconds that `stop` waits for the thread; it is a daemon and holds nothing."""

_KEEPALIVE: Final = (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))

_LOG: Final = logging.getLogger("resonate.network")


class Stream:
    """Messages for one (group, pid).

    Args:
        server: where.
        path: of the stream, below the server's own.
        heard: called with the data of each event.
        opened: called each time the stream is open.
        beats: whether the server is known to send comments while it has nothing to say.
        silence: seconds after which a server that sends those counts as gone.
        clock: seconds that only move forward.
    """

    def __init__(
        self,
        server: Server,
        path: str,
        heard: Callable[[bytes], None],
        opened: Callable[[], None],
        beats: Callable[[], bool],
        *,
        silence: float = SILENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = server
        self._clock = clock
        self._request = server.head("GET", path, "accept: text/event-stream", "cache-control: no-cache") + b"\r\n"
        self._heard = heard
        self._opened = opened
        self._beats = beats
        self._silence = silence
        self._stopping = threading.Event()
        self._now = threading.Event()
        self._thread: threading.Thread | None = None
        self._connection: Connection | None = None
        self._failures = 0

    def start(self) -> None:
        """Begin to receive. Idempotent."""
        if self._thread is None:
            self._thread = Daemon(target=self._run, name="resonate-messages")
            self._thread.start()

    def stop(self) -> None:
        """Receive nothing more; does not wait for the server. Idempotent."""
        self._stopping.set()
        self._now.set()
        self._interrupt()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(JOIN)

    def hurry(self) -> None:
        """The server is back, as somebody else has found out: open the stream now, if it is not open."""
        self._now.set()

    def _interrupt(self) -> None:
        connection = self._connection
        if connection is not None:
            try:
                connection.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads; closing would not
            except (OSError, ValueError):
                pass  # it is gone already

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._receive()
                reason = "the server ended it"
            except _Refused as refused:
                _LOG.error("%s", refused)
                return
            except (Lost, OSError, ValueError) as error:
                reason = str(error) or type(error).__name__
            if self._stopping.is_set():
                return
            pause = min(PAUSE_MAX, PAUSE_FIRST * 2 ** min(self._failures, 16))
            self._failures += 1
            _LOG.log(
                logging.INFO if self._failures == 1 else logging.WARNING,
                "no messages from %s, trying again in up to %.1f s: %s",
                self._server.shown,
                pause,
                reason,
            )
            self._pause(pause)

    def _pause(self, seconds: float) -> None:
        """Wait for that long, shortened by chance; not once we are told to hurry or to stop."""
        self._now.wait(seconds * random.uniform(0.5, 1.0))

    def _connect(self) -> Connection:
        return Connection(self._server)

    def _receive(self) -> None:
        """Open the stream and read it to its end."""
        if not self._stopping.is_set():
            self._now.clear()
        connection = self._connection = self._connect()
        try:
            if self._stopping.is_set():
                return
            _keep_alive(connection.socket)
            connection.socket.sendall(self._request)
            status, headers, _ = connection.read_head()
            if status != 200:
                self._refuse(status)
            connection.socket.settimeout(self._silence if self._beats() else SILENCE_QUIET)
            self._opened()
            self._read(connection, headers)
        finally:
            self._connection = None
            connection.close()

    def _read(self, connection: Connection, headers: dict[bytes, bytes]) -> None:
        events = Events()
        since = self._clock()
        for piece in connection.pieces(headers):
            for data in events.feed(piece):
                self._heard(data)
            self._failures = 0
            if events.beats == 1:
                connection.socket.settimeout(self._silence)
        if self._clock() - since > STEADY:
            self._failures = 0

    def _refuse(self, status: int) -> None:
        what = f"{self._server.shown} refused the stream of messages with HTTP {status}"
        if status == 401:
            raise _Refused(f"{what}. This client receives nothing any more: {self._server.remedy}, and make a new one")
        if status == 403:
            raise _Refused(
                f"{what}: the role or groups of this token or user do not allow it. This client receives nothing any "
                "more, so it runs nothing for others and hears of results only by asking: use one that may"
            )
        raise ValueError(what)


class _Refused(Exception):
    """The server will not have us; to ask again is of no use."""


def _keep_alive(sock: socket.socket) -> None:
    """Have TCP find out about a peer that is gone without a word."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
