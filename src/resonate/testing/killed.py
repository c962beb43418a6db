"""A worker process that is to be killed: `python -m resonate.testing.killed URL PROGRAM PID JOURNAL WRITE WHEN`.

Notes each of its commits and each start of a step in the journal, and dies of SIGKILL right
before or after its n-th commit (0: never). It ends when its standard input does.
"""

from __future__ import annotations

import importlib
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

from resonate.execution.call import STEPS, Call
from resonate.execution.execution import Execution
from resonate.protocol.ids import origin_of
from resonate.protocol.records import PENDING
from resonate.resonate import Resonate
from resonate.storage.postgres.location import Location
from resonate.storage.sqlite.connection import Connection
from resonate.testing.kills import GROUP

TTL: Final = 1
"""Seconds of its leases: who takes over under another pid waits for no longer."""


def _serve(url: str, program: str, pid: str, journal: str, die_at: str, when: str) -> None:
    note = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    client = Resonate(url=url, group=GROUP, pid=pid, ttl=TTL)
    importlib.import_module(program).register(client)
    settings = client._core.settings
    dying = _Dying(note, int(die_at), after=when == "after")
    if settings.file is not None:
        Connection.commit = dying.at(Connection.commit)  # type: ignore[method-assign]
        state_of = _reader_of_file(settings.file.path)
    else:
        assert settings.database is not None
        state_of = _watch_database(settings.database, dying)
    client.start()
    _watch_steps(client, note, state_of)
    sys.stdin.read()
    client.stop()


class _Dying:
    """Notes each write of this process, and dies at one of them."""

    def __init__(self, note: int, die_at: int, *, after: bool) -> None:
        self._note = note
        self._die_at = die_at
        self._after = after
        self._count = 0
        self._lock = threading.Lock()

    def at(self, write: Callable[..., Any]) -> Callable[..., Any]:
        """`write`, a method, as one of those writes."""

        def noted(store: Any, *args: Any) -> Any:
            with self._lock:
                self._count += 1
                last = self._count == self._die_at
            if last and not self._after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = write(store, *args)
            os.write(self._note, b"write\n")
            if last:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return noted


def _reader_of_file(path: str) -> Callable[[str], str | None]:
    """Reads the state of a promise on a connection of its own: the client's is waited for by whoever waits for us."""
    reader = sqlite3.connect(path, check_same_thread=False)
    reading = threading.Lock()

    def state_of(id: str) -> str | None:
        with reading:
            row = reader.execute("SELECT state FROM resonate_promises WHERE id = ?", (id,)).fetchone()
        return None if row is None else row[0]

    return state_of


def _watch_database(location: Location, dying: _Dying) -> Callable[[str], str | None]:
    """The same for a database, whose writes are those of lanes and of `ctx.transaction`."""
    from resonate.storage.postgres.connection import Connection as Session  # not before: needs psycopg
    from resonate.storage.postgres.joint import JointTransaction
    from resonate.storage.postgres.lane import Lane

    Lane._write = dying.at(Lane._write)  # type: ignore[method-assign]
    JointTransaction.commit = dying.at(JointTransaction.commit)  # type: ignore[method-assign]
    reader = Session(location)

    def state_of(id: str) -> str | None:
        query = f"SELECT state FROM {location.schema}.promises WHERE origin = %s AND id = %s"
        with reader.lock:
            rows = reader.ask(query, (origin_of(id), id))
        return rows[0][0] if rows else None

    return state_of


def _watch_steps(client: Resonate, note: int, state_of: Callable[[str], str | None]) -> None:
    """Note each start of a step, and what is recorded of it then."""
    worker = client._core.started()
    make_context = worker.threads._make_context

    def noted(execution: Execution, call: Call) -> Any:
        if call.kind in STEPS and call.owner is not None:
            state = state_of(call.id) or PENDING
            os.write(note, f"start {call.id} {state} {call.attempt}\n".encode())
        return make_context(execution, call)

    worker.threads._make_context = worker.loop._make_context = noted


if __name__ == "__main__":
    _serve(*sys.argv[1:])
