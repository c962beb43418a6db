"""A worker process that is to be killed: `python -m resonate.testing.killed URL PROGRAM PID JOURNAL WRITE WHEN`.

Notes each of its commits and each start of a step in the journal, and dies of SIGKILL right
before or after its n-th commit (0: never). It ends when its standard input does.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

from resonate.execution.call import STEPS, Call
from resonate.execution.execution import Execution
from resonate.protocol.records import PENDING
from resonate.resonate import Resonate
from resonate.settings import Settings
from resonate.testing.kills import GROUP

TTL: Final = 1
"""Seconds of its leases: who takes over under another pid waits for no longer."""


def _serve(url: str, program: str, pid: str, journal: str, die_at: str, when: str) -> None:
    note = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    client = Resonate(url=url, group=GROUP, pid=pid, ttl=TTL)
    importlib.import_module(program).register(client)
    watch = _Watch(note, int(die_at), when == "after")
    for owner, name in _commits(client._core.settings):
        setattr(owner, name, watch.over(getattr(owner, name)))
    client.start()
    _watch_steps(client, note)
    sys.stdin.read()
    client.stop()


def _commits(settings: Settings) -> list[tuple[type, str]]:
    """The methods whose return means that something is stored."""
    if settings.file is not None:
        from resonate.storage.sqlite.connection import Connection

        return [(Connection, "commit")]
    from resonate.storage.postgres.joint import JointTransaction
    from resonate.storage.postgres.lane import Lane

    return [(Lane, "_write"), (JointTransaction, "commit")]


class _Watch:
    """Notes each commit of this process, and dies at one of them."""

    def __init__(self, note: int, die_at: int, after: bool) -> None:
        self._note = note
        self._die_at = die_at
        self._after = after
        self._count = 0
        self._counting = threading.Lock()

    def over(self, commit: Callable[..., Any]) -> Callable[..., Any]:
        """`commit`, watched."""

        def watched(*args: Any) -> Any:
            with self._counting:
                self._count += 1
                mine = self._count == self._die_at
            if mine and not self._after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = commit(*args)
            os.write(self._note, b"write\n")
            if mine:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return watched


def _watch_steps(client: Resonate, note: int) -> None:
    """Note each start of a step, and what is recorded of it then."""
    worker = client._core.started()
    state_of = _reader(client._core.settings)
    reading = threading.Lock()
    make_context = worker.threads._make_context

    def noted(execution: Execution, call: Call) -> Any:
        if call.kind in STEPS and call.owner is not None:
            with reading:
                state = state_of(call.id)
            os.write(note, f"start {call.id} {state} {call.attempt}\n".encode())
        return make_context(execution, call)

    worker.threads._make_context = worker.loop._make_context = noted


def _reader(settings: Settings) -> Callable[[str], str]:
    """Tells the stored state of a promise, on a connection of its own.

    The client's is waited for by whoever waits for us to end a transaction.
    """
    if settings.file is not None:
        import sqlite3

        file = sqlite3.connect(settings.file.path, check_same_thread=False)

        def in_file(id: str) -> str:
            row = file.execute("SELECT state FROM resonate_promises WHERE id = ?", (id,)).fetchone()
            return PENDING if row is None else str(row[0])

        return in_file
    import psycopg

    assert settings.database is not None
    session = psycopg.connect(settings.database.conninfo, autocommit=True)
    query = f"SELECT state FROM {settings.database.schema}.promises WHERE id = %s".encode()

    def in_database(id: str) -> str:
        row = session.execute(query, (id,)).fetchone()
        return PENDING if row is None else str(row[0])

    return in_database


if __name__ == "__main__":
    _serve(*sys.argv[1:])
