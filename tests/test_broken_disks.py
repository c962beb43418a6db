"""Disks that are full or too small, files that may not be written, files that are damaged while in use."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import resonate
from resonate import Resonate
from resonate.errors import ResonateStoreError, StorageUnavailable, StorageUnusable
from resonate.storage.sqlite.storage import SqliteStorage
from resonate.testing import World

SOURCE = Path(resonate.__file__).parents[1]
LARGE = 200_000
NOBODY = 65534
STEPS = ("before", "large")

TOO_SMALL = """
import logging, os, resource, sys
from resonate import Resonate
from resonate.errors import ResonateStoreError

directory = sys.argv[1]
client = Resonate(url=f"sqlite:///{directory}/app.db", ttl=1)
log = open(f"{directory}/log", "a", buffering=1)
most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))

class MakeRoom(logging.Handler):
    def emit(self, record):
        print(record.getMessage(), file=log)
        if "timers do not fire" in record.getMessage():
            limit(most)

logging.getLogger("resonate").addHandler(MakeRoom())

def before(ctx):
    print("before", file=log)
    return 1

def large(ctx):
    print("large", file=log)
    if not tries:
        tries.append(1)
        limit(os.stat(f"{directory}/app.db-wal").st_size + 10_000)
        try:
            client.run("other", order, "y" * 100_000)
        except ResonateStoreError as error:
            print(f"other: {error}", file=log)
    return "x" * 200_000

tries = []

@client.register
def order(ctx, more=""):
    return (yield ctx.run(before)) + len((yield ctx.run(large))) + (yield ctx.run(before))

print(client.run("a", order))
client.stop()
"""

NOT_ALLOWED = """
import os, sys
from resonate import Resonate
from resonate.storage.sqlite.storage import SqliteStorage
if os.getuid() == 0:
    os.setuid(int(sys.argv[2]))
try:
    Resonate(url=f"sqlite:///{sys.argv[1]}/app.db").start()
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""


def run(program: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def storage_of(client: Resonate) -> SqliteStorage:
    service = client._core._service
    assert service is not None
    assert isinstance(service.storage, SqliteStorage)
    return service.storage


def fill(storage: SqliteStorage) -> None:
    """No page more for this connection."""
    (pages,) = storage._connection.execute("PRAGMA page_count")[0]
    storage._connection.execute(f"PRAGMA max_page_count = {pages}")


def make_room(storage: SqliteStorage) -> None:
    storage._connection.execute("PRAGMA max_page_count = 1000000")


# Full.


def test_a_program_that_meets_a_full_disk_goes_on_when_there_is_room(tmp_path: Path) -> None:
    runs: list[str] = []
    told: list[str] = []

    def before(ctx: Any) -> int:
        runs.append("before")
        return 1

    def large(ctx: Any) -> str:
        runs.append("large")
        if runs.count("large") == 1:
            fill(storage_of(client))
            with pytest.raises(StorageUnavailable) as raised:
                client.run("other", order, "y" * LARGE)
            told.append(str(raised.value))
        else:
            make_room(storage_of(client))
        return "x" * LARGE

    def order(ctx: Any, more: str = "") -> Any:
        return (yield ctx.run(before)) + len((yield ctx.run(large)))

    with Resonate(url=f"sqlite:///{tmp_path}/app.db") as client:
        client.register(order)
        handle = client.begin_run("a", order)

        assert handle.result() == LARGE + 1
        with pytest.raises(ResonateStoreError, match="not found: other"):
            client.get("other")

    assert runs == ["before", "large", "large"]
    assert len(told) == 1
    assert "no space is left" in told[0]
    assert "nothing was written. Free some and try again" in told[0]


def test_while_a_disk_is_full_a_step_is_tried_ever_more_rarely(tmp_path: Path) -> None:
    with World(file=tmp_path / "app.db") as world:
        client = world.client()
        at: list[float] = []

        def large(ctx: Any) -> str:
            at.append(world.clock.now() / 1000)
            storage = world.storage
            assert isinstance(storage, SqliteStorage)
            fill(storage) if len(at) < 6 else make_room(storage)
            return "x" * LARGE

        @client.register
        def order(ctx: Any) -> Any:
            return len((yield ctx.run(large)))

        assert client.run("a", order) == LARGE

    assert [round(after - before, 1) for before, after in pairwise(at)] == [0.1, 0.2, 0.4, 0.8, 1.6]


@pytest.mark.slow
def test_a_program_whose_file_may_not_grow_goes_on_when_it_may(tmp_path: Path) -> None:
    assert run(TOO_SMALL, tmp_path) == str(LARGE + 2)

    log = (tmp_path / "log").read_text().splitlines()
    assert [line for line in log if line in STEPS] == ["before", "large", "large", "before"]
    (told,) = [line for line in log if line.startswith("other: ")]
    assert "the disk failed while" in told
    assert "Read before deciding" in told
    with closing(sqlite3.connect(tmp_path / "app.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# Read-only, for a user who is not root.


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that other users can reach, with a file in use by nobody."""
    directory = Path(tempfile.mkdtemp(prefix="resonate-test-"))
    directory.chmod(0o777)
    with Resonate(url=f"sqlite:///{directory}/app.db") as client:
        client.promises.create("kept", 10**14)
    for made in directory.rglob("*"):
        made.chmod(0o777 if made.is_dir() else 0o666)
    yield directory
    directory.chmod(0o777)
    shutil.rmtree(directory)


def test_another_user_who_may_write_can_use_the_file(place: Path) -> None:
    assert run(NOT_ALLOWED, place, NOBODY) == ""


def test_a_file_that_may_not_be_written_is_refused_and_left_as_it_is(place: Path) -> None:
    (place / "app.db").chmod(0o444)
    before = (place / "app.db").read_bytes()

    said = run(NOT_ALLOWED, place, NOBODY)

    assert said.startswith("StorageUnusable")
    assert f"{place}/app.db cannot be written" in said
    assert "This user needs to be able to write the file and its directory" in said
    assert (place / "app.db").read_bytes() == before


def test_a_directory_that_may_not_be_written_is_refused(place: Path) -> None:
    shutil.rmtree(place / "app.db-lock")
    place.chmod(0o555)

    said = run(NOT_ALLOWED, place, NOBODY)

    assert said.startswith("StorageUnusable")
    assert f"its locks in {place}/app.db-lock cannot be made (Permission denied)" in said


def test_locks_that_may_not_be_written_are_what_is_named(place: Path) -> None:
    (place / "app.db-lock").chmod(0o700)

    said = run(NOT_ALLOWED, place, NOBODY)

    assert said.startswith("StorageUnusable")
    assert f"its lock {place}/app.db-lock/queue cannot be opened (Permission denied)" in said
    assert "give that directory and its files the owner and rights of the file" in said


def test_a_directory_that_may_not_take_the_journal_is_refused(place: Path) -> None:
    """The locks are there from before; SQLite cannot make its -wal."""
    place.chmod(0o555)

    said = run(NOT_ALLOWED, place, NOBODY)

    assert said.startswith("StorageUnusable")
    assert f"{place}/app.db cannot be" in said
    assert "directory" in said


# Damaged.


def damage(path: Path, storage: SqliteStorage) -> None:
    """Overwrite all pages but the first, where the connection that has the file open will look."""
    storage._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    storage._connection.execute("PRAGMA shrink_memory")
    with path.open("r+b") as raw:
        for page in range(4096, path.stat().st_size, 4096):
            raw.seek(page)
            raw.write(b"\xa5" * 4096)


def test_whoever_waits_is_told_when_the_file_is_damaged_while_it_is_in_use(tmp_path: Path) -> None:
    with Resonate(url=f"sqlite:///{tmp_path}/app.db") as client:
        ran: list[int] = []

        def harm(ctx: Any) -> int:
            damage(tmp_path / "app.db", storage_of(client))
            return 1

        @client.register
        def order(ctx: Any) -> Any:
            yield ctx.run(harm)
            yield ctx.run(lambda ctx: ran.append(1))

        with pytest.raises(StorageUnusable, match=r"app\.db is damaged .*Stop all processes .* bring back a backup"):
            client.run("a", order)
        with pytest.raises(StorageUnusable, match="is damaged"):
            client.run("b", order)

    assert ran == []
