"""Processes that serve over HTTP and are killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resonate import Resonate
from tests.wire_server import WireServer, serving


@contextmanager
def worker(server: WireServer, notes: Path, ttl: int = 1) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.http_worker", server.url, str(notes), str(ttl)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_killed_process_is_replaced_and_its_finished_steps_stay(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    with serving() as server, Resonate(url=server.url) as caller, worker(server, notes) as first:
        handle = caller.options(target="workers").begin_rpc("count", "count")
        assert first.stdout is not None
        assert first.stdout.readline() == "in the middle\n"
        with worker(server, notes):
            first.kill()
            assert handle.result(30) == [0, 1, 2, 3]

    assert notes.read_text().split() == ["0", "1", "2", "2", "3"]


def test_a_process_that_ends_politely_gives_its_task_back_before_its_lease_ends(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    with serving() as server, Resonate(url=server.url) as caller, worker(server, notes, ttl=300) as first:
        handle = caller.options(target="workers").begin_rpc("count", "count")
        assert first.stdout is not None
        assert first.stdin is not None
        assert first.stdout.readline() == "in the middle\n"
        with worker(server, notes, ttl=300):
            first.terminate()
            server.wait(lambda: server.ended >= 1)  # it has begun to stop: it takes no messages any more
            first.stdin.write("\n")
            first.stdin.flush()
            assert handle.result(30) == [0, 1, 2, 3]

    assert notes.read_text().split() == ["0", "1", "2", "3"]
