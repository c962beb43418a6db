"""Every write of a program fails once: before it has happened, or after, with its answer lost. Never between."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from resonate import Resonate
from resonate.errors import OutcomeUnknown, ResonateStoreError, StorageUnavailable
from resonate.execution.call import Call
from resonate.execution.execution import Execution
from resonate.protocol.records import PENDING
from resonate.storage.sqlite.connection import Connection
from tests import kill_programs

PATIENCE = 20.0


class Disk:
    """Commits of this process, one of which fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.fails_at = 0
        self.happens = False
        self._lock = threading.Lock()
        self._commit = Connection.commit
        disk = self

        def commit(connection: Connection) -> None:
            with disk._lock:
                disk.count += 1
                fails = disk.count == disk.fails_at
            if fails and not disk.happens:
                raise StorageUnavailable("the disk is full, for once")
            disk._commit(connection)
            if fails:
                raise OutcomeUnknown("the answer was lost, for once")

        monkeypatch.setattr(Connection, "commit", commit)


def run(file: Path, func: str, disk: Disk, fails_at: int, happens: bool) -> tuple[Any, list[str], int]:
    """The result of `func`, the steps that ran though they were recorded, and how many commits were made."""
    disk.count, disk.fails_at, disk.happens = 0, 0, happens
    client = Resonate(url=f"sqlite:///{file}?synchronous=off", ttl=1)
    kill_programs.register(client)
    client.start()
    repeated: list[str] = []
    worker = client._core.started()
    make_context = worker.threads._make_context
    reader = sqlite3.connect(file, check_same_thread=False)
    reading = threading.Lock()

    def noted(execution: Execution, call: Call) -> Any:
        with reading:
            row = reader.execute("SELECT state FROM resonate_promises WHERE id = ?", (call.id,)).fetchone()
        if call.kind in ("plain", "transaction") and row is not None and row[0] != PENDING:
            repeated.append(call.id)
        return make_context(execution, call)

    worker.threads._make_context = worker.loop._make_context = noted
    disk.count, disk.fails_at = 0, fails_at
    try:
        try:
            result = client.begin_run("root", func).result(PATIENCE)
        except ResonateStoreError:  # told to the caller: trying again with the same id is safe
            assert fails_at
            result = client.begin_run("root", func).result(PATIENCE)
        return result, repeated, disk.count
    finally:
        disk.fails_at = 0
        client.stop()
        reader.close()


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("happens", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("func", ["steps", "gathers", "mixed"])
def test_a_program_comes_to_its_result_whichever_of_its_writes_fails(
    func: str, happens: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    expected, _, writes = run(tmp_path / "peace.db", func, disk, 0, happens)

    for number in range(1, writes + 1):
        result, repeated, _ = run(tmp_path / f"{number}.db", func, disk, number, happens)

        assert result == expected, f"write {number} failed"
        assert repeated == [], f"write {number} failed"
