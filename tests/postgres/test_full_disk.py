"""The disk of the database itself is full: callers are told, nothing that was acknowledged is lost, work goes on."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from resonate.errors import OutcomeUnknown, StorageUnavailable
from resonate.storage.postgres import connection
from tests.chaos.processes import Disk
from tests.homes import PATIENCE, until
from tests.postgres.cluster import Cluster, binaries
from tests.postgres.test_failures import RESULT, Journal, insist

pytestmark = [pytest.mark.slow, pytest.mark.skipif(binaries() is None, reason="PostgreSQL is not installed")]


@pytest.fixture
def disk() -> Iterator[Disk]:
    with tempfile.TemporaryDirectory(prefix="resonate-disk-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)  # the server runs as a user of its own
        disk = Disk(Path(name))
        try:
            if not disk.can_be_filled:
                pytest.skip("may not mount a file system of its own here")
            yield disk
        finally:
            disk.remove()


@pytest.fixture
def cluster(disk: Disk) -> Iterator[Cluster]:
    cluster = Cluster(durable=True, parent=disk.path, wal_recycle="off", max_wal_size="32MB")
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


def test_a_full_disk_of_the_database_is_said_and_work_goes_on_once_there_is_room(
    cluster: Cluster, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal()
    client = journal.client(cluster.url)
    assert insist(client, "before") == RESULT
    told: list[str] = []
    runs = [f"full-{number}" for number in range(40)]

    def work() -> None:
        for run in runs:
            while run not in results:
                try:
                    results[run] = client.run(run, "program", run)
                except (StorageUnavailable, OutcomeUnknown) as error:
                    told.append(str(error))

    results: dict[str, int] = {}
    disk.fill()
    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    until(lambda: "No space left on device" in caplog.text + "".join(told))
    assert cluster.runs
    disk.free()
    worker.join(PATIENCE)

    assert results == dict.fromkeys(runs, RESULT)
    assert insist(client, "before") == RESULT
    client.stop()
    journal.check()
    assert "has no resources left" in caplog.text + "".join(told)


def test_a_database_whose_log_has_no_room_goes_down_and_loses_nothing_that_was_acknowledged(
    cluster: Cluster, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.5)
    journal = Journal()
    client = journal.client(cluster.url)
    acknowledged = {
        f"before-{number}": client.run(f"before-{number}", "program", f"before-{number}") for number in range(5)
    }

    disk.fill()
    with psycopg.connect(cluster.url, autocommit=True) as session, contextlib.suppress(psycopg.OperationalError):
        session.execute("SELECT pg_switch_wal()")  # needs a new file
    with pytest.raises((StorageUnavailable, OutcomeUnknown)):
        client.run("during", "program", "during")
    disk.free()
    cluster.restart("immediate")

    for run, result in acknowledged.items():
        assert insist(client, run) == result
    assert insist(client, "during") == RESULT
    client.stop()
    journal.check()
