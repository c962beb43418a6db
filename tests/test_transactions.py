"""`ctx.transaction` and `begin_run_in`: the program's own tables and its durable state in one commit."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy.orm import Session

from resonate import Context, Handle, Resonate
from resonate.errors import (
    IdConflict,
    InsideEventLoop,
    NotSupported,
    ResonateStoreError,
    TransactionTooLong,
    UsageError,
)
from resonate.protocol.requests import PromiseSettle
from resonate.retry_policies import Constant, Never
from tests.homes import until


@pytest.fixture
def path(tmp_path: Path) -> str:
    path = f"{tmp_path}/app.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE orders (id TEXT, amount INTEGER)")
    return path


@pytest.fixture
def client(path: str) -> Iterator[Resonate]:
    client = Resonate(url=f"sqlite:///{path}?synchronous=off")
    yield client
    client.stop()


def rows(path: str) -> list[tuple[Any, ...]]:
    database = sqlite3.connect(path)
    found = database.execute("SELECT id, amount FROM orders ORDER BY rowid").fetchall()
    database.close()
    return found


def insert(connection: sqlite3.Connection, id: str, amount: int) -> int:
    connection.execute("INSERT INTO orders VALUES (?, ?)", (id, amount))
    return amount * 2


# What is changed and what is recorded are one.


def test_a_step_writes_its_rows_and_its_result_once(client: Resonate, path: str) -> None:
    def order(ctx: Context, id: str) -> Generator[Any, Any, int]:
        first = yield ctx.transaction(insert, id, 1)
        second = yield ctx.transaction(insert, id, amount=2)
        return first + second  # type: ignore[no-any-return]

    client.register(order)

    assert client.run("o", order, "a") == 6
    assert client.run("o", order, "a") == 6
    assert rows(path) == [("a", 1), ("a", 2)]


def test_an_async_function_awaits_it_and_several_run_one_after_another(client: Resonate, path: str) -> None:
    async def order(ctx: Context) -> list[int]:
        calls = (ctx.transaction(insert, f"g{n}", n) for n in range(5))
        return list(await asyncio.gather(*calls))

    client.register(order)

    assert client.run("o", order) == [0, 2, 4, 6, 8]
    assert sorted(rows(path)) == [(f"g{n}", n) for n in range(5)]


def test_what_a_step_did_before_it_raised_is_undone_and_a_retry_starts_from_there(client: Resonate, path: str) -> None:
    seen: list[int] = []

    def third_time(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO orders VALUES ('t', ?)", (len(seen),))
        seen.append(connection.execute("SELECT count(*) FROM orders").fetchone()[0])
        if len(seen) < 3:
            raise RuntimeError("not yet")
        return len(seen)

    def order(ctx: Context) -> Generator[Any, Any, int]:
        return (yield ctx.transaction(third_time).options(retry_policy=Constant(0)))  # type: ignore[no-any-return]

    client.register(order)

    assert client.run("o", order) == 3
    assert seen == [1, 1, 1]
    assert rows(path) == [("t", 2)]


def test_the_error_of_the_last_attempt_is_recorded_and_nothing_of_it_stays(client: Resonate, path: str) -> None:
    ran: list[int] = []

    def fails(connection: sqlite3.Connection) -> None:
        ran.append(1)
        insert(connection, "x", 1)
        raise ValueError("no stock")

    def order(ctx: Context) -> Generator[Any, Any, str]:
        try:
            yield ctx.transaction(fails).options(retry_policy=Never())
        except ValueError as error:
            yield ctx.run(lambda _: None)
            return str(error)
        return "?"

    client.register(order)

    assert client.run("o", order) == "no stock"
    assert (rows(path), len(ran)) == ([], 1)


def test_a_result_that_cannot_be_stored_undoes_the_step(client: Resonate, path: str) -> None:
    def bad(connection: sqlite3.Connection) -> Any:
        insert(connection, "x", 1)
        return threading.Lock()

    def order(ctx: Context) -> Generator[Any, Any, Any]:
        return (yield ctx.transaction(bad))

    client.register(order)

    with pytest.raises(TypeError, match="lock"):
        client.run("o", order)
    assert rows(path) == []


def test_a_lost_lease_undoes_the_step(client: Resonate, path: str) -> None:
    inside, settled = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> None:
        inside.set()
        insert(connection, "x", 1)
        # Whoever takes the root away queues for the write lock; the fence at the end finds out.
        settled.wait(5)

    def order(ctx: Context) -> Generator[Any, Any, None]:
        yield ctx.transaction(slow)

    client.register(order)
    handle = client.begin_run("o", order)
    inside.wait(5)
    service = client._core.started().network.service  # type: ignore[attr-defined]
    held = client._core.started().held["o"]
    held.execution.version += 1  # as if somebody else had it
    settled.set()

    until(lambda: "o" not in client._core.started().held)
    assert rows(path) == []
    service.handle([PromiseSettle("o", "rejected_canceled")], trusted=True)
    with pytest.raises(Exception, match="cancel"):
        handle.result(10)


def test_a_step_that_expires_meanwhile_leaves_nothing(client: Resonate, path: str) -> None:
    def slow(connection: sqlite3.Connection) -> None:
        insert(connection, "x", 1)
        ends = time.monotonic() + 0.1
        until(lambda: time.monotonic() > ends)

    def order(ctx: Context) -> Generator[Any, Any, str]:
        try:
            yield ctx.transaction(slow).options(timeout=0.05)
        except Exception as error:
            return type(error).__name__
        return "?"

    client.register(order)

    assert client.begin_run("o", order).result(10) == "ResonateTimedoutError"
    assert rows(path) == []


# What the connection allows.


@pytest.mark.parametrize(
    "ends",
    [
        lambda connection: connection.commit(),
        lambda connection: connection.rollback(),
        lambda connection: connection.close(),
        lambda connection: connection.execute("COMMIT"),
        lambda connection: connection.execute("ROLLBACK"),
        lambda connection: connection.execute("BEGIN"),
        lambda connection: connection.executescript("INSERT INTO orders VALUES ('s', 1);"),
        lambda connection: setattr(connection, "isolation_level", None),
    ],
    ids=["commit", "rollback", "close", "COMMIT", "ROLLBACK", "BEGIN", "executescript", "isolation_level"],
)
@pytest.mark.parametrize("swallowed", [False, True])
def test_a_step_that_ends_the_transaction_itself_is_refused(
    client: Resonate, path: str, ends: Callable[[Any], None], swallowed: bool
) -> None:
    def bad(connection: sqlite3.Connection) -> None:
        insert(connection, "x", 1)
        try:
            ends(connection)
        except Exception:
            if not swallowed:
                raise

    def order(ctx: Context) -> Generator[Any, Any, None]:
        yield ctx.transaction(bad)
        yield ctx.transaction(insert, "never", 1)

    client.register(order)

    with pytest.raises(UsageError, match=r"a step of ctx\.transaction called"):
        client.run("o", order)
    assert rows(path) == []
    assert client.run("p", client.register(lambda ctx: 1, name="still_works")) == 1


def test_a_step_cannot_change_the_tables_of_the_state(client: Resonate) -> None:
    def bad(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM resonate_promises")

    def order(ctx: Context) -> Generator[Any, Any, None]:
        yield ctx.transaction(bad)

    client.register(order)

    with pytest.raises(UsageError, match="changed resonate_promises"):
        client.run("o", order)


def test_savepoints_and_settings_of_the_connection_are_the_steps_own(client: Resonate, path: str) -> None:
    def saves(connection: sqlite3.Connection) -> list[str]:
        connection.row_factory = sqlite3.Row
        connection.text_factory = bytes
        with connection:
            insert(connection, "kept", 1)
        with pytest.raises(ZeroDivisionError), connection:
            insert(connection, "undone", 1 // 0)
        return [row["id"].decode() for row in connection.execute("SELECT id FROM orders")]

    def plain(connection: sqlite3.Connection) -> Any:
        return list(connection.execute("SELECT id FROM orders").fetchone())

    def order(ctx: Context) -> Generator[Any, Any, Any]:
        first = yield ctx.transaction(saves)
        return [first, (yield ctx.transaction(plain))]

    client.register(order)

    assert client.run("o", order) == [["kept"], ["kept"]]


def test_asking_the_client_inside_of_a_transaction_is_refused_instead_of_waiting_for_ever(client: Resonate) -> None:
    def nested(connection: sqlite3.Connection) -> Any:
        return client.run("other", "order2")

    def order(ctx: Context) -> Generator[Any, Any, None]:
        yield ctx.transaction(nested)

    client.register(order)
    client.register(lambda ctx: 1, name="order2")

    with pytest.raises(UsageError, match="asked the client for something that its own transaction holds up"):
        client.run("o", order)


@pytest.mark.parametrize("in_sql", [False, True])
def test_a_transaction_that_holds_up_all_others_is_ended_after_half_a_lease(path: str, in_sql: bool) -> None:
    client = Resonate(url=f"sqlite:///{path}?synchronous=off", ttl=1)

    def endless(connection: sqlite3.Connection) -> None:
        insert(connection, "x", 1)
        if in_sql:
            connection.execute(
                "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT max(n) FROM c"
            ).fetchall()
        else:
            ends = time.monotonic() + 0.6
            until(lambda: time.monotonic() > ends)

    def order(ctx: Context) -> Generator[Any, Any, None]:
        yield ctx.transaction(endless)

    client.register(order)

    with pytest.raises(TransactionTooLong, match=r"for more than 0\.5 s, half of a lease"):
        client.run("o", order)
    assert rows(path) == []
    client.stop()


def test_it_is_refused_before_anything_runs_where_state_is_in_no_database() -> None:
    client = Resonate()
    ran: list[int] = []

    def order(ctx: Context) -> Generator[Any, Any, None]:
        yield ctx.transaction(lambda connection: ran.append(1))

    client.register(order)

    with pytest.raises(NotSupported, match=r"sqlite:///app\.db"):
        client.run("o", order)
    with pytest.raises(NotSupported), closing(sqlite3.connect(":memory:")) as database:
        client.begin_run_in(database, "p", order)
    assert ran == []
    client.stop()


def test_only_plain_functions_and_fitting_arguments_are_taken(client: Resonate) -> None:
    def gen(connection: sqlite3.Connection) -> Generator[Any, Any, None]:
        yield

    def order(ctx: Context, which: str) -> Generator[Any, Any, None]:
        if which == "generator":
            yield ctx.transaction(gen)
        else:
            yield ctx.transaction(insert, "only one")

    client.register(order)

    with pytest.raises(TypeError, match="gen must be a plain function, not a generator function"):
        client.run("o", order, "generator")
    with pytest.raises(TypeError, match="amount"):
        client.run("p", order, "arguments")


# Killed at any point.

KILLED = """
import os, signal, sqlite3, sys
from resonate import Resonate

path, point = sys.argv[1], sys.argv[2]
client = Resonate(url=f"sqlite:///{path}", pid="worker", ttl=1)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def insert(connection, n):
    if n == 1 and point == "before":
        die()
    connection.execute("INSERT INTO orders VALUES ('k', ?)", (n,))
    if n == 1 and point == "inside":
        die()
    return n

@client.register
def order(ctx):
    values = []
    for n in range(3):
        values.append((yield ctx.transaction(insert, n)))
        if n == 1 and point == "after":
            die()
    return values

if point == "uncommitted":
    from resonate.storage.sqlite.connection import Connection
    commit, commits = Connection.commit, []
    def dying(self):
        if type(self.database).__name__ == "Lent":
            commits.append(1)
            if len(commits) == 2:
                die()
        commit(self)
    Connection.commit = dying

print(client.run("o", order), flush=True)
client.stop()
"""


@pytest.mark.parametrize("point", ["before", "inside", "uncommitted", "after"])
def test_a_process_killed_at_any_point_has_written_each_row_exactly_once(path: str, point: str) -> None:
    def run(point: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", KILLED, path, point]
        return subprocess.run(command, env={**os.environ}, capture_output=True, text=True, timeout=60)

    assert run(point).returncode == -signal.SIGKILL
    database = sqlite3.connect(path)
    recorded = database.execute(
        "SELECT count(*) FROM resonate_promises WHERE id LIKE 'o:%' AND state = 'resolved'"
    ).fetchone()[0]
    database.close()
    assert len(rows(path)) == recorded == (2 if point == "after" else 1)

    assert run("never").stdout == "[0, 1, 2]\n"
    assert rows(path) == [("k", 0), ("k", 1), ("k", 2)]


# A run begun in the program's own transaction.


def ship(ctx: Context, id: str) -> str:
    return f"shipped {id}"


def test_a_run_begun_in_a_transaction_starts_when_that_commits(client: Resonate, path: str) -> None:
    client.register(ship)
    client.start()
    database = sqlite3.connect(path)
    database.row_factory = sqlite3.Row
    database.execute("INSERT INTO orders VALUES ('a', 1)")

    handle = client.begin_run_in(database, "ship-a", ship, "a")
    assert not handle.done()
    database.commit()

    assert handle.result(10) == "shipped a"
    assert rows(path) == [("a", 1)]
    database.close()


def test_a_run_begun_in_a_transaction_that_is_rolled_back_never_was(client: Resonate, path: str) -> None:
    client.register(ship)
    client.start()
    database = sqlite3.connect(path)
    database.execute("INSERT INTO orders VALUES ('a', 1)")

    handle = client.begin_run_in(database, "ship-a", ship, "a")
    database.rollback()

    with pytest.raises(ResonateStoreError, match=r"ship-a does not exist: the transaction .* was rolled back"):
        handle.result(10)
    assert rows(path) == []
    assert client.run("ship-a", ship, "b") == "shipped b"
    database.close()


def test_inside_an_event_loop_it_is_begun_on_a_thread(path: str) -> None:
    async def main() -> None:
        other = sqlite3.connect(path)
        database = sqlite3.connect(path, check_same_thread=False)
        async with Resonate(url=f"sqlite:///{path}") as client:
            client.register(ship)

            with pytest.raises(InsideEventLoop, match=r"r\.aio\.begin_run_in"):
                client.begin_run_in(database, "s", ship, "a")
            with pytest.raises(UsageError, match="check_same_thread=False"):
                await client.aio.begin_run_in(other, "s", ship, "a")
            handle = await client.aio.begin_run_in(database, "s", ship, "a")
            database.commit()

            assert await handle == "shipped a"
        database.close()
        other.close()

    asyncio.run(main())


def test_where_no_transaction_is_open_one_is_begun(client: Resonate, path: str) -> None:
    client.register(ship)
    database = sqlite3.connect(path)

    handle = client.begin_run_in(database, "s", ship, "a")
    assert database.in_transaction
    database.commit()

    assert handle.result(10) == "shipped a"
    database.close()


def test_where_the_program_ends_transactions_by_itself_it_has_to_begin_them_too(client: Resonate, path: str) -> None:
    client.register(ship)
    database = sqlite3.connect(path, isolation_level=None)

    with pytest.raises(UsageError, match=r"autocommit mode outside of a transaction.*Execute BEGIN IMMEDIATE"):
        client.begin_run_in(database, "s", ship, "a")
    database.execute("BEGIN IMMEDIATE")  # none is open
    handle = client.begin_run_in(database, "s", ship, "a")
    database.execute("COMMIT")

    assert handle.result(10) == "shipped a"
    database.close()


def test_nothing_is_left_open_where_nothing_was_begun(client: Resonate, path: str) -> None:
    client.register(ship)
    client.run("s", ship, "a")
    database = sqlite3.connect(path)

    with pytest.raises(IdConflict):
        client.begin_run_in(database, "s", ship, "other")
    assert not database.in_transaction
    client.begin_run_in(database, "s", ship, "a")
    assert not database.in_transaction

    database.close()


def test_a_transaction_that_the_program_has_begun_stays_open_though_nothing_comes_of_it(
    client: Resonate, path: str
) -> None:
    client.register(ship)
    client.run("s", ship, "a")
    database = sqlite3.connect(path)
    insert(database, "a", 1)

    with pytest.raises(IdConflict):
        client.begin_run_in(database, "s", ship, "other")
    client.begin_run_in(database, "s", ship, "a")
    database.commit()

    assert rows(path) == [("a", 1)]
    database.close()


def test_a_transaction_ends_when_its_connection_is_dropped(client: Resonate, path: str) -> None:
    client.register(ship)
    client.start()

    def forget() -> Handle[Any]:
        database = sqlite3.connect(path)
        insert(database, "a", 1)
        return client.begin_run_in(database, "s", ship, "a")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of newer Pythons: that it was not closed
        handle = forget()
        with pytest.raises(ResonateStoreError, match="rolled back"):
            handle.result(20)

    assert rows(path) == []
    assert client.run("s", ship, "b") == "shipped b"


def test_a_run_is_begun_with_a_session_and_with_a_connection_of_sqlalchemy(client: Resonate, path: str) -> None:
    client.register(ship)
    client.start()
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")

    with Session(engine) as session, session.begin():
        session.execute(sqlalchemy.text("INSERT INTO orders VALUES ('a', 1)"))
        one = client.begin_run_in(session, "s1", ship, "a")
    with engine.begin() as connection:
        two = client.begin_run_in(connection, "s2", ship, "b")
    with Session(engine) as session:
        lost = client.begin_run_in(session, "s3", ship, "c")
        session.rollback()

    assert (one.result(20), two.result(20)) == ("shipped a", "shipped b")
    with pytest.raises(ResonateStoreError, match="rolled back"):
        lost.result(20)
    assert rows(path) == [("a", 1)]
    engine.dispose()


def test_a_step_that_asks_for_a_session_of_sqlalchemy_gets_one_in_its_transaction(client: Resonate, path: str) -> None:
    def step(session: Session, fails: bool) -> int:
        add = sqlalchemy.text("INSERT INTO orders VALUES (:id, 1)")
        session.execute(add, {"id": "a"})
        with session.begin_nested() as nested:
            session.execute(add, {"id": "undone"})
            nested.rollback()
        client.begin_run_in(session, f"ship-{fails}", ship, "a")
        if fails:
            raise LookupError("nothing of it")
        return len(session.execute(sqlalchemy.text("SELECT * FROM orders")).all())

    def order(ctx: Context, fails: bool) -> Generator[Any, Any, int]:
        return (yield ctx.transaction(step, fails).options(retry_policy=Never()))  # type: ignore[no-any-return]

    client.register(ship)
    client.register(order)

    with pytest.raises(LookupError):
        client.run("o1", order, True)
    assert rows(path) == []
    assert client.run("o2", order, False) == 1
    assert rows(path) == [("a", 1)]
    assert client.get("ship-False").result(20) == "shipped a"


def test_a_step_of_a_transaction_may_begin_runs_with_its_connection(client: Resonate, path: str) -> None:
    def place(connection: sqlite3.Connection, id: str, fails: bool) -> None:
        insert(connection, id, 1)
        client.begin_run_in(connection, f"ship-{id}", ship, id)
        if fails:
            raise ValueError("no")

    def order(ctx: Context, id: str, fails: bool) -> Generator[Any, Any, None]:
        yield ctx.transaction(place, id, fails).options(retry_policy=Never())

    client.register(ship)
    client.register(order)
    client.run("good", order, "a", False)
    with pytest.raises(ValueError, match="no"):
        client.run("bad", order, "b", True)

    assert client.get("ship-a").result(10) == "shipped a"
    with pytest.raises(ResonateStoreError, match="not found"):
        client.get("ship-b")


def test_joining_a_run_from_a_transaction_and_conflicts(client: Resonate, path: str) -> None:
    client.register(ship)
    client.run("s", ship, "a")
    database = sqlite3.connect(path)

    assert client.begin_run_in(database, "s", ship, "a").result(10) == "shipped a"
    with pytest.raises(IdConflict):
        client.begin_run_in(database, "s", ship, "other")
    database.close()


def test_a_client_that_has_not_started_says_so_instead_of_waiting_for_the_transaction(
    client: Resonate, path: str
) -> None:
    client.register(ship)
    database = sqlite3.connect(path)
    database.execute("INSERT INTO orders VALUES ('a', 1)")

    with pytest.raises(UsageError, match=r"call start\(\) first"):
        client.begin_run_in(database, "s", ship, "a")
    database.rollback()
    database.close()


def test_a_connection_to_another_place_is_refused(client: Resonate, tmp_path: Path) -> None:
    client.register(ship)
    other = sqlite3.connect(f"{tmp_path}/other.db")
    other.execute("CREATE TABLE t (x)")

    with pytest.raises(UsageError, match=r"other\.db, but state lives in .*app\.db"):
        client.begin_run_in(other, "s", ship, "a")
    with pytest.raises(UsageError, match="a database in memory"), closing(sqlite3.connect(":memory:")) as memory:
        client.begin_run_in(memory, "s", ship, "a")
    with pytest.raises(TypeError, match="connection must be"):
        client.begin_run_in("app.db", "s", ship, "a")
    other.close()
