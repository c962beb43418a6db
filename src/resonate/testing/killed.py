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
from typing import Any, Final

from resonate.execution.call import STEPS, Call
from resonate.execution.execution import Execution
from resonate.protocol.records import PENDING
from resonate.resonate import Resonate
from resonate.storage.sqlite.connection import Connection
from resonate.testing.kills import GROUP

TTL: Final = 1
"""Seconds of its leases: who takes over under another pid waits for no longer."""


def _serve(url: str, program: str, pid: str, journal: str, die_at: str, when: str) -> None:
    note = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    client = Resonate(url=url, group=GROUP, pid=pid, ttl=TTL)
    importlib.import_module(program).register(client)
    _watch_commits(note, int(die_at), when == "after")
    client.start()
    _watch_steps(client, note)
    sys.stdin.read()
    client.stop()


def _watch_commits(note: int, die_at: int, after: bool) -> None:
    """Note each commit of this process, and die at one of them."""
    commit, count = Connection.commit, 0

    def noted(self: Connection) -> None:
        nonlocal count
        count += 1
        if count == die_at and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        commit(self)
        os.write(note, b"write\n")
        if count == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    Connection.commit = noted  # type: ignore[method-assign]


def _watch_steps(client: Resonate, note: int) -> None:
    """Note each start of a step, and what is recorded of it then."""
    worker = client._core.started()
    assert client._core.settings.file is not None
    # a connection of its own: the client's is waited for by whoever waits for us to end a transaction
    reader = sqlite3.connect(client._core.settings.file.path, check_same_thread=False)
    reading = threading.Lock()
    make_context = worker.threads._make_context

    def noted(execution: Execution, call: Call) -> Any:
        if call.kind in STEPS and call.owner is not None:
            with reading:
                row = reader.execute("SELECT state FROM resonate_promises WHERE id = ?", (call.id,)).fetchone()
            state = PENDING if row is None else row[0]
            os.write(note, f"start {call.id} {state} {call.attempt}\n".encode())
        return make_context(execution, call)

    worker.threads._make_context = worker.loop._make_context = noted


if __name__ == "__main__":
    _serve(*sys.argv[1:])
