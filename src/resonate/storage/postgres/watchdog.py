"""Notices sessions whose answer never comes although their connection seems to be alive.

A host that is gone is noticed by the system (`connection.DEFAULTS`). It does not notice a
proxy, a load balancer or a database that takes what it is sent and says nothing more. So
when a statement takes long, the database is asked, on another connection, whether it is at
work on it. If not, or if that brings no answer either, the connection is ended; whoever
waits for it goes on as after any other lost connection.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

import psycopg

from resonate.daemons import Daemon
from resonate.storage.postgres.connection import Connection, connect
from resonate.storage.postgres.location import Location

SILENCE: Final = 20.0
"""Seconds without an answer after which the database is asked; none of our statements takes so long by itself."""

CHECK: Final = 5.0
"""Seconds between two looks at what is waited for."""

ANSWERS_IN: Final = 5.0
"""Seconds in which the database has to say whether it is at work."""

_LOG: Final = logging.getLogger("resonate.storage")


class Watchdog:
    """Looks after some connections, on a thread of its own.

    Args:
        location: the database.
        connections: gives those there are now.
    """

    def __init__(self, location: Location, connections: Callable[[], Iterable[Connection]]) -> None:
        self._location = location
        self._connections = connections
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin. Idempotent."""
        if self._thread is None:
            self._thread = Daemon(target=self._run, name="resonate-watchdog")
            self._thread.start()

    def close(self) -> None:
        """Stop; does not wait for a look that is under way. Idempotent."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(CHECK):
            for connection in self._connections():
                since = connection.waiting_since
                if since is None or time.monotonic() - since < SILENCE or connection.pooled:
                    continue
                try:
                    if not self._works_for(connection) and connection.cut(since):
                        _LOG.warning("%s has not answered for %g s: connecting anew", connection.where, SILENCE)
                except Exception:
                    _LOG.exception("cannot find out whether %s is still there", connection.where)

    def _works_for(self, connection: Connection) -> bool:
        """Whether the database says that it is at work on what `connection` has asked it."""
        pid = connection.backend
        if pid is None:
            return False
        try:
            with contextlib.closing(connect(self._location)) as session:
                return _ask(session, f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid} AND state <> 'idle'")
        except psycopg.Error:
            return False


def _ask(session: psycopg.Connection[tuple[object, ...]], query: str) -> bool:
    """Whether `query` gives a row in good time."""
    raw = session.pgconn
    raw.send_query(query.encode())
    until = time.monotonic() + ANSWERS_IN
    while raw.is_busy():
        left = until - time.monotonic()
        if left <= 0 or not _readable(raw.socket, left):
            return False
        raw.consume_input()
    answer = raw.get_result()
    return answer is not None and answer.ntuples > 0


def _readable(socket: int, seconds: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(socket, selectors.EVENT_READ)
        return bool(selector.select(seconds))


__all__ = ["Watchdog"]
