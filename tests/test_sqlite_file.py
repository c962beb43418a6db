"""One file: it survives, it is upgraded, and what goes wrong with it says what happened and what to do."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

import resonate
from resonate import Resonate
from resonate.clock import SettableClock
from resonate.errors import OutcomeUnknown, ResonateStoreError, StorageUnavailable, StorageUnusable
from resonate.protocol.records import EMPTY, Promise, Value
from resonate.protocol.requests import PromiseCreate, PromiseGet, PromiseSettle, Request, TaskCreate, TaskFence
from resonate.service.service import Service
from resonate.storage.sqlite import connection, rows, schema
from resonate.storage.sqlite.failures import translate
from resonate.storage.sqlite.location import Location
from resonate.storage.sqlite.storage import SqliteStorage

TARGET = {"resonate:target": "poll://any@g"}
FAR = 10**13


@pytest.fixture
def file(tmp_path: Path) -> Location:
    return Location(str(tmp_path / "app.db"), synchronous="off", busy_timeout=50)


@pytest.fixture
def storage(file: Location) -> Iterator[SqliteStorage]:
    storage = SqliteStorage(file)
    yield storage
    storage.close()


def service_on(storage: SqliteStorage) -> Service:
    return Service(storage, SettableClock(1000))


def create(id: str, data: str = "") -> PromiseCreate:
    return PromiseCreate(id, FAR, Value(data=data))


# What was answered is there.


def test_a_program_goes_on_after_a_restart_with_what_was_finished(tmp_path: Path) -> None:
    ran: list[str] = []

    def step(ctx: Any, name: str) -> str:
        ran.append(name)
        return name

    def order(ctx: Any) -> Generator[Any, Any, str]:
        first = yield ctx.run(step, "a")
        second = yield ctx.run(step, "b")
        return f"{first}{second}"

    for _ in range(2):
        client = Resonate(url=f"sqlite:///{tmp_path}/app.db")
        client.register(order)
        assert client.run("order-1", order) == "ab"
        client.stop()

    assert ran == ["a", "b"]


def test_two_clients_of_one_process_share_a_file_and_nothing_else(tmp_path: Path) -> None:
    clients = [Resonate(url=f"sqlite:///{tmp_path}/app.db?synchronous=off", group=f"g{n}") for n in range(2)]
    for number, client in enumerate(clients):
        client.register(lambda ctx, n=number: n, name="which")
        client.run(f"start-{number}", "which")

    answers = [clients[1 - n].options(target=f"g{n}").rpc(f"call-{n}", "which") for n in range(2)]

    assert answers == [0, 1]
    for client in clients:
        client.stop()


def test_rows_come_back_as_they_were(storage: SqliteStorage, file: Location) -> None:
    value = Value({"h": "1", "": "ü"}, "data\n☃")
    service_on(storage).handle([PromiseCreate("é:1", 2**63 - 1, value, {"k": "v"}), create("empty")])
    storage.close()
    again = SqliteStorage(file)

    row = again.promise("é:1")
    empty = again.promise("empty")

    assert row is not None
    assert empty is not None
    assert row.promise == Promise("é:1", "pending", value, EMPTY, {"k": "v"}, 2**63 - 1, 1000)
    assert empty.promise.param == Value(data="")
    again.close()


def test_a_scan_is_in_the_order_of_bytes_and_crosses_pages(storage: SqliteStorage) -> None:
    ids = [f"{prefix}{n}" for prefix in ("a", "a:", "Z", "é", "\U0001f600", "\uffff") for n in range(200)]
    service_on(storage).handle([create(id) for id in ids])

    found = [row.promise.id for row in storage.promises(None)]

    assert found == sorted(ids, key=str.encode)
    assert storage.promises("a:5")[0].promise.id == "a:50"


# All or nothing.


def test_a_request_that_cannot_be_stored_leaves_those_beside_it_alone(storage: SqliteStorage) -> None:
    service = service_on(storage)

    with pytest.raises(ResonateStoreError):
        service.handle([create("good"), PromiseCreate("bad", FAR, Value(data="\ud800"))], trusted=True)

    assert [answer.status for answer in service.handle([PromiseGet("good"), PromiseGet("bad")])] == [200, 404]


@pytest.mark.parametrize("failing", range(1, 9))
def test_if_any_statement_fails_the_batch_is_there_as_a_whole_or_not_at_all(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    service = service_on(storage)
    service.handle([TaskCreate("p", 1000, PromiseCreate("w", FAR, tags=TARGET))])
    batch: list[Request] = [TaskFence("w", 1, create("w:1"), False), create("other"), PromiseSettle("w", "resolved")]
    execute, calls = storage._connection.execute, 0

    def fails_once(statement: str, parameters: Any = ()) -> Any:
        nonlocal calls
        calls += 1
        if calls == failing:
            return execute("INSERT INTO no_such_table VALUES (1)")
        return execute(statement, parameters)

    monkeypatch.setattr(storage._connection, "execute", fails_once)
    monkeypatch.setattr(storage._rows, "_execute", fails_once)
    try:
        service.handle(batch, trusted=True)
        acknowledged = True
    except ResonateStoreError:
        acknowledged = False
    monkeypatch.undo()
    storage._rows.forget()

    there = [answer.status for answer in service.handle([PromiseGet("w:1"), PromiseGet("other")])]
    root = service.handle([PromiseGet("w")])[0].promise

    assert root is not None
    assert (there, root.state) == (([200, 200], "resolved") if acknowledged else ([404, 404], "pending"))
    assert acknowledged == (calls < failing)


def test_a_full_disk_is_said_and_works_again_when_there_is_room(storage: SqliteStorage) -> None:
    service = service_on(storage)
    service.handle([create("before")])
    pages = storage._connection.execute("PRAGMA page_count")[0][0]
    storage._connection.execute(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(StorageUnavailable, match=r"no space is left for .*app.db; nothing was written"):
        service.handle([create("large", "x" * 100_000)])

    assert service.handle([PromiseGet("large")])[0].status == 404
    storage._connection.execute("PRAGMA max_page_count = 1000000")
    assert service.handle([create("large", "x" * 100_000)])[0].status == 200


def test_another_program_that_holds_the_file_is_waited_for_and_then_named(storage: SqliteStorage) -> None:
    other = sqlite3.connect(storage._connection.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    service = service_on(storage)

    with pytest.raises(StorageUnavailable, match=r"another program holds .*app.db"):
        service.handle([create("a")])

    other.execute("ROLLBACK")
    assert service.handle([create("a")])[0].status == 200
    other.close()


def test_what_another_program_writes_is_seen(storage: SqliteStorage) -> None:
    service = service_on(storage)
    service.handle([create("a")])
    other = sqlite3.connect(storage._connection.path)
    with other:
        other.execute("DELETE FROM resonate_promises")
    other.close()

    assert service.handle([PromiseGet("a")])[0].status == 404


# What cannot work says so.


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageUnusable, match=r"the directory .*/no does not exist. Create it first"):
        SqliteStorage(Location(f"{tmp_path}/no/app.db"))


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(StorageUnusable, match="is a directory"):
        SqliteStorage(Location(str(tmp_path)))


def test_a_file_of_something_else_is_refused_and_left_as_it_is(file: Location) -> None:
    Path(file.path).write_text("a shopping list, long enough to be taken for a header of a database\n" * 50)
    before = Path(file.path).read_bytes()

    with pytest.raises(StorageUnusable, match="is no SQLite database"):
        SqliteStorage(file)

    assert Path(file.path).read_bytes() == before


def test_a_damaged_file_is_said_to_be_damaged(storage: SqliteStorage, file: Location) -> None:
    service_on(storage).handle([create(f"p{n}", "x" * 500) for n in range(200)])
    storage.close()
    with open(file.path, "r+b") as raw:
        size = os.fstat(raw.fileno()).st_size
        for page in range(4096 * 2, size, 4096):
            raw.seek(page)
            raw.write(b"\xa5" * 100)

    with pytest.raises(StorageUnusable, match=r"is damaged .* bring back a backup"):
        again = SqliteStorage(file)
        try:
            service_on(again).handle([PromiseGet("p5")])
        finally:
            again.close()


def test_a_file_deleted_underneath_is_noticed_before_anything_is_acknowledged(
    storage: SqliteStorage, file: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LOOK", 0.0)
    service = service_on(storage)
    service.handle([create("a")])
    os.unlink(file.path)

    with pytest.raises(StorageUnusable, match="was deleted or replaced while it was in use"):
        service.handle([create("b")])


def test_whoever_waits_is_told_when_the_file_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LOOK", 0.0)
    client = Resonate(url=f"sqlite:///{tmp_path}/app.db?synchronous=off")

    def lose(ctx: Any) -> None:
        (tmp_path / "app.db").unlink()

    def order(ctx: Any) -> Generator[Any, Any, int]:
        yield ctx.run(lose)
        yield ctx.run(lambda ctx: 1)
        return 1

    client.register(order)

    with pytest.raises(StorageUnusable, match="was deleted"):
        client.run("a", order)

    client.stop()


@pytest.mark.parametrize(
    ("code", "committing", "kind"),
    [
        (sqlite3.SQLITE_BUSY, False, StorageUnavailable),
        (sqlite3.SQLITE_FULL, True, StorageUnavailable),
        (sqlite3.SQLITE_IOERR_WRITE, False, StorageUnavailable),
        (sqlite3.SQLITE_IOERR_FSYNC, True, OutcomeUnknown),
        (sqlite3.SQLITE_READONLY, False, StorageUnusable),
        (sqlite3.SQLITE_CANTOPEN, False, StorageUnusable),
        (sqlite3.SQLITE_CORRUPT_INDEX, False, StorageUnusable),
        (sqlite3.SQLITE_MISMATCH, False, ResonateStoreError),
    ],
)
def test_each_error_of_sqlite_becomes_one_that_says_what_to_do(code: int, committing: bool, kind: type) -> None:
    error = sqlite3.OperationalError("said so")
    error.sqlite_errorcode, error.sqlite_errorname = code, "SQLITE_X"

    translated = translate(error, "/data/app.db", committing=committing)

    assert type(translated) is kind
    assert "/data/app.db" in str(translated)


def test_after_the_end_of_its_client_a_storage_says_so(storage: SqliteStorage) -> None:
    storage.close()
    storage.close()

    with pytest.raises(StorageUnavailable, match="is closed"):
        service_on(storage).handle([create("a")])


# Versions.


def test_a_newer_file_is_refused_and_left_as_it_is(storage: SqliteStorage, file: Location) -> None:
    storage._connection.execute("UPDATE resonate_schema SET version = 99")
    storage.close()

    with pytest.raises(StorageUnusable, match=r"newer version of resonate \(schema 99, this version knows up to"):
        SqliteStorage(file)


def test_an_older_file_gets_the_migrations_it_lacks_once(
    storage: SqliteStorage, file: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    service_on(storage).handle([create("a")])
    storage.close()
    added = ("ALTER TABLE resonate_promises ADD COLUMN note TEXT",)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, added))

    for _ in range(2):
        again = SqliteStorage(file)
        assert again._connection.execute("SELECT id, note FROM resonate_promises") == [("a", None)]
        again.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(
    storage: SqliteStorage, file: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.close()
    broken = ("CREATE TABLE half (id)", "CREATE TABLE half (id)")
    with monkeypatch.context() as patched:
        patched.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, broken))
        with pytest.raises(ResonateStoreError, match="half already exists"):
            SqliteStorage(file)

    again = SqliteStorage(file)

    assert again._connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'half'") == []
    again.close()


def test_the_file_may_hold_the_tables_of_others(file: Location) -> None:
    mine = sqlite3.connect(file.path)
    with mine:
        mine.execute("CREATE TABLE promises (id)")
        mine.execute("PRAGMA user_version = 7")
    storage = SqliteStorage(file)
    service_on(storage).handle([create("a")])
    storage.close()

    assert mine.execute("PRAGMA user_version").fetchone() == (7,)
    assert mine.execute("SELECT count(*) FROM promises").fetchone() == (0,)
    mine.close()


# What is kept in memory.


def test_rows_let_go_of_are_read_again(storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "CACHE_ROWS", 3)
    service = service_on(storage)
    service.handle([TaskCreate("p", 1000, PromiseCreate("w", FAR, tags=TARGET))])

    for number in range(20):
        answer = service.handle([TaskFence("w", 1, create(f"w:{number}"), False)])[0]
        assert answer.action is not None
        assert answer.action.status == 200

    assert len(storage._rows._promises) + len(storage._rows._tasks) <= 3
    assert {a.status for a in service.handle([PromiseGet(f"w:{n}") for n in range(20)])} == {200}


def test_a_child_that_was_there_before_its_root_is_found(storage: SqliteStorage) -> None:
    """What is below a new root is taken for known only if there was nothing below it."""
    service = service_on(storage)
    service.handle([create("w:1", "early")])
    service.handle([TaskCreate("p", 1000, PromiseCreate("w", FAR, tags=TARGET))])

    found = service.handle([create("w:1", "late")])[0].promise

    assert found is not None
    assert found.param.data == "early"


def test_a_child_created_in_the_same_batch_as_its_root_is_found(storage: SqliteStorage) -> None:
    service = service_on(storage)

    answers = service.handle(
        [
            create("w:1", "early"),
            TaskCreate("p", 1000, PromiseCreate("w", FAR, tags=TARGET)),
            create("w:1", "late"),
            create("w:2"),
        ]
    )
    storage._rows.forget()

    assert answers[2].promise == answers[0].promise
    assert [a.status for a in service.handle([PromiseGet("w:1"), PromiseGet("w:2")])] == [200, 200]


def test_a_new_step_is_not_looked_for(storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    service = service_on(storage)
    service.handle([TaskCreate("p", 1000, PromiseCreate("w", FAR, tags=TARGET))])
    asked: list[str] = []
    execute = storage._connection.execute

    def noted(statement: str, parameters: Any = ()) -> Any:
        asked.append(statement.split(" (")[0])
        return execute(statement, parameters)

    monkeypatch.setattr(storage._connection, "execute", noted)
    monkeypatch.setattr(storage._rows, "_execute", noted)

    service.handle([TaskFence("w", 1, create("w:1"), False)])

    assert asked == ["BEGIN IMMEDIATE", "PRAGMA data_version", "INSERT INTO resonate_promises"]


READ_ONLY = """
import os, sys
import resonate.storage.sqlite.storage, resonate.stores
from resonate import Resonate
Resonate().start()  # all that is imported late is imported before nobody can read it
os.setgid(65534)
os.setuid(65534)
try:
    Resonate(url=sys.argv[1]).start()
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody who may not write")
@pytest.mark.parametrize("what", ["file", "directory"])
def test_what_may_not_be_written_is_said_and_left_as_it_is(what: str) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        path = f"{directory}/app.db"
        SqliteStorage(Location(path, synchronous="off")).close()
        for name in ("", "-lock", "-lock/queue", "-lock/write", "-lock/waits", "-lock/purge"):
            os.chmod(path + name, 0o777)
        os.chmod(directory, 0o755 if what == "directory" else 0o777)
        os.chmod(path, 0o444 if what == "file" else 0o666)
        before = Path(path).read_bytes()

        said = subprocess.run(
            [sys.executable, "-c", READ_ONLY, f"sqlite:///{path}"],
            env={**os.environ, "PYTHONPATH": str(Path(resonate.__file__).parents[1])},
            capture_output=True,
            text=True,
            timeout=60,
        )

        assert "StorageUnusable" in said.stdout, said.stdout + said.stderr
        assert "This user needs to be able to write the file and its directory" in said.stdout
        assert Path(path).read_bytes() == before
