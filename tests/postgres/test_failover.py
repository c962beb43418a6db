"""The database, or the way to it, is gone for good: a replica takes over, and nobody waits for an answer for ever."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from resonate.errors import OutcomeUnknown, StorageUnavailable
from resonate.storage.postgres import connection
from tests.homes import until
from tests.postgres.cluster import USER, Cluster, binaries
from tests.postgres.test_failures import RESULT, Journal, insist, load

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(binaries() is None, reason="PostgreSQL is not installed"),
    pytest.mark.timeout(120),
]


def can_unshare() -> bool:
    """Whether a process may be started in a network of its own."""
    programs = shutil.which("unshare"), shutil.which("ip")
    if os.geteuid() != 0 or None in programs:
        return False
    return subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode == 0


class Pair:
    """A primary and its replica, without which it acknowledges no commit."""

    def __init__(self) -> None:
        self.primary = Cluster()
        self.primary.start()
        self.replica = Cluster(replica_of=self.primary)
        self.replica.start()
        with psycopg.connect(self.primary.url, autocommit=True) as session:
            session.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            session.execute("SELECT pg_reload_conf()")
            until(lambda: self._states(session) == ["sync"])
        hosts = ",".join(f"127.0.0.1:{cluster.port}" for cluster in (self.primary, self.replica))
        self.url = f"postgresql://{USER}@{hosts}/postgres?target_session_attrs=read-write"

    def _states(self, session: psycopg.Connection[Any]) -> list[str]:
        return [state for (state,) in session.execute("SELECT sync_state FROM pg_stat_replication").fetchall()]

    def switch(self) -> None:
        """The primary crashes and does not come back; the replica takes its place, and waits for no other."""
        self.primary.stop("immediate")
        self.replica.promote()

    def remove(self) -> None:
        self.primary.stop("immediate")  # first: it would wait for the replica
        for cluster in (self.replica, self.primary):
            cluster.remove()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.remove()


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.mark.slow
def test_when_the_first_server_crashes_under_load_everything_goes_on_on_the_second(
    pair: Pair, journal: Journal
) -> None:
    clients = [journal.client(pair.url), journal.client(pair.url)]
    wrong: list[str] = []
    loading = threading.Thread(target=lambda: wrong.extend(load(clients, 40, 6)))
    loading.start()
    until(lambda: len(journal.steps) > 40)

    pair.switch()
    assert len(journal.steps) < 240, "all was done before the switch"
    loading.join(100)

    assert not loading.is_alive()
    assert wrong == []
    journal.check()
    with psycopg.connect(pair.replica.url) as session:
        for query in (
            "SELECT id, state FROM resonate.tasks WHERE state <> 'fulfilled'",
            "SELECT id FROM resonate.promises WHERE state = 'pending'",
        ):
            until(lambda query=query: session.execute(query).fetchall() == [])  # type: ignore[misc]
        assert len(journal.steps) == 240
        for client in clients:
            client.stop()
        stored = {row[0] for row in session.execute("SELECT origin FROM resonate.promises").fetchall()}
        assert set(journal.steps) == stored, "what the first acknowledged is on the second"


@pytest.mark.slow
def test_what_the_first_server_acknowledged_is_known_to_a_client_that_only_finds_the_second(
    pair: Pair, journal: Journal
) -> None:
    client = journal.client(pair.url)
    assert insist(client, "before") == RESULT
    client.stop()
    pair.switch()
    began = time.monotonic()

    again = journal.client(pair.url)

    assert again.get("before").result() == RESULT
    assert insist(again, "after") == RESULT
    assert time.monotonic() - began < 10
    again.stop()
    journal.check()


@pytest.mark.slow
def test_until_the_second_server_is_promoted_callers_wait_and_are_told_in_good_time(
    pair: Pair, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = journal.client(pair.url)
    assert insist(client, "before") == RESULT
    monkeypatch.setattr(connection, "PATIENCE", 0.5)
    pair.primary.stop("immediate")
    began = time.monotonic()

    with pytest.raises((StorageUnavailable, OutcomeUnknown), match=r"cannot be (reached|asked)"):
        client.run("during", "program", "during")

    assert time.monotonic() - began < 10
    pair.replica.promote()
    assert insist(client, "during") == RESULT
    client.stop()
    journal.check()


@pytest.mark.slow
@pytest.mark.skipif(not can_unshare(), reason="only root may have a network of its own")
def test_a_network_that_drops_everything_without_a_word_is_noticed_in_good_time() -> None:
    """Packets are neither delivered nor refused; what we ask of the system's TCP has to find out."""
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-m", "tests.postgres.cut_off"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    assert 0.5 < float(done.stdout) < 30
