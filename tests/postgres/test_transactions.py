"""`ctx.transaction` and `begin_run_in` on PostgreSQL: the program's own tables and its durable state in one commit."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy
from sqlalchemy.orm import Session

from resonate import Context, Handle, Resonate
from resonate.errors import IdConflict, ResonateStoreError, UsageError
from resonate.retry_policies import Constant, Never
from resonate.storage.postgres import joint, listener
from tests import databases
from tests.homes import until
from tests.postgres.cluster import binaries

pytestmark = pytest.mark.skipif(binaries() is None, reason="PostgreSQL is not installed")


class Shop:
    """A client, and a table of the program's own in the same database."""

    def __init__(self) -> None:
        self.url = databases.fresh_url()
        self.table = f"orders_{self.url.partition('schema=')[2]}"
        with self.connect() as session:
            session.execute(f"CREATE TABLE {self.table} (n serial, id text, amount integer)".encode())
        self.client = Resonate(url=self.url, ttl=2)

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(databases.bare(self.url))

    def engine(self) -> sqlalchemy.Engine:
        bare = databases.bare(self.url).replace("postgresql://", "postgresql+psycopg://")
        return sqlalchemy.create_engine(bare, poolclass=sqlalchemy.NullPool)

    def insert(self) -> Callable[..., int]:
        """A step that writes a row."""
        statement = f"INSERT INTO {self.table} (id, amount) VALUES (%s, %s)".encode()

        def insert(connection: psycopg.Connection[Any], id: str, amount: int) -> int:
            connection.execute(statement, (id, amount))
            return amount * 2

        return insert

    def rows(self) -> list[tuple[Any, ...]]:
        with self.connect() as session:
            return session.execute(f"SELECT id, amount FROM {self.table} ORDER BY n".encode()).fetchall()


@pytest.fixture
def shop() -> Iterator[Shop]:
    made = Shop()
    yield made
    made.client.stop()
    with made.connect() as session:
        session.execute(f"DROP TABLE {made.table}".encode())


def test_a_step_writes_its_rows_and_its_result_once(shop: Shop) -> None:
    insert = shop.insert()

    def order(ctx: Context, id: str) -> Any:
        first = yield ctx.transaction(insert, id, 1)
        second = yield ctx.transaction(insert, id, amount=2)
        return first + second

    shop.client.register(order)

    assert shop.client.run("o", order, "a") == 6
    assert shop.client.run("o", order, "a") == 6
    assert shop.rows() == [("a", 1), ("a", 2)]


def test_many_steps_at_once_share_the_connections_that_there_are(shop: Shop) -> None:
    insert = shop.insert()

    def order(ctx: Context, n: int) -> Any:
        return (yield ctx.transaction(insert, f"o{n}", n))

    client = Resonate(url=f"{shop.url}&pool=2")
    client.register(order)
    handles = [client.begin_run(f"o{n}", order, n) for n in range(20)]

    assert [handle.result(timeout=20) for handle in handles] == [2 * n for n in range(20)]
    assert sorted(amount for _, amount in shop.rows()) == list(range(20))
    client.stop()


def test_what_a_step_did_before_it_raised_is_undone_and_a_retry_starts_from_there(shop: Shop) -> None:
    insert = shop.insert()
    attempts: list[int] = []

    def flaky(connection: psycopg.Connection[Any]) -> str:
        insert(connection, "x", len(attempts))
        attempts.append(1)
        if len(attempts) < 3:
            raise ConnectionError("not yet")
        return "done"

    def order(ctx: Context) -> Any:
        return (yield ctx.transaction(flaky).options(retry_policy=Constant(delay=0, max_retries=5)))

    shop.client.register(order)

    assert shop.client.run("o", order) == "done"
    assert shop.rows() == [("x", 2)]


@pytest.mark.parametrize(
    "end",
    [
        lambda connection: connection.commit(),
        lambda connection: connection.rollback(),
        lambda connection: connection.close(),
        lambda connection: connection.execute("COMMIT"),
        lambda connection: connection.execute("  /* so */ rollback"),
        lambda connection: connection.cursor().execute("end"),
    ],
)
def test_a_step_that_ends_the_transaction_itself_is_refused(end: Callable[[Any], None], shop: Shop) -> None:
    insert = shop.insert()

    def step(connection: psycopg.Connection[Any]) -> None:
        insert(connection, "x", 1)
        end(connection)

    def order(ctx: Context) -> Any:
        yield ctx.transaction(step).options(retry_policy=Never())

    shop.client.register(order)

    with pytest.raises(UsageError, match="its transaction is begun before it and committed after it"):
        shop.client.run("o", order)
    assert shop.rows() == []


def test_a_deferred_constraint_that_is_violated_is_the_outcome_of_the_step(shop: Shop) -> None:
    attempts: list[int] = []
    with shop.connect() as session:
        session.execute(f"ALTER TABLE {shop.table} ADD UNIQUE (n)".encode())
        session.execute(
            f"ALTER TABLE {shop.table} ADD FOREIGN KEY (amount) REFERENCES {shop.table} (n) DEFERRABLE "
            "INITIALLY DEFERRED".encode()
        )
    insert = shop.insert()

    def step(connection: psycopg.Connection[Any], amount: int) -> int:
        attempts.append(amount)
        return insert(connection, "x", amount)

    def order(ctx: Context, amount: int) -> Any:
        return (yield ctx.transaction(step, amount).options(retry_policy=Never()))

    shop.client.register(order)

    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        shop.client.run("o1", order, 77)
    assert shop.client.run("o2", order, 2) == 4
    assert attempts == [77, 2]
    assert shop.rows() == [("x", 2)]


def test_a_step_that_a_deferred_constraint_refuses_is_tried_again_as_its_policy_says(shop: Shop) -> None:
    with shop.connect() as session:
        session.execute(f"ALTER TABLE {shop.table} ADD UNIQUE (amount) DEFERRABLE INITIALLY DEFERRED".encode())
    insert = shop.insert()
    attempts: list[int] = []

    def step(connection: psycopg.Connection[Any]) -> int:
        attempts.append(1)
        insert(connection, "a", 1)
        return insert(connection, "b", len(attempts))

    def order(ctx: Context) -> Any:
        return (yield ctx.transaction(step).options(retry_policy=Constant(delay=0, max_retries=3)))

    shop.client.register(order)

    assert shop.client.run("o", order) == 4
    assert shop.rows() == [("a", 1), ("b", 2)]


def test_an_engine_without_deferred_constraints_is_asked_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joint, "CHECK_DEFERRED", "SET CONSTRAINTS OF NO KIND")
    insert = shop.insert()
    attempts: list[str] = []

    def step(connection: psycopg.Connection[Any], id: str) -> int:
        attempts.append(id)
        return insert(connection, id, 1)

    def order(ctx: Context) -> Any:
        yield ctx.transaction(step, "a")
        return (yield ctx.transaction(step, "b"))

    shop.client.register(order)

    assert shop.client.run("o", order) == 2
    assert attempts == ["a", "a", "b"]
    assert shop.rows() == [("a", 1), ("b", 1)]


def test_a_step_that_swallows_an_error_of_a_statement_is_told_so(shop: Shop) -> None:
    insert = shop.insert()

    def step(connection: psycopg.Connection[Any]) -> int:
        with contextlib.suppress(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1 / 0")
        return 7

    def saved(connection: psycopg.Connection[Any]) -> int:
        insert(connection, "x", 1)
        with contextlib.suppress(psycopg.errors.DivisionByZero), connection.transaction():
            connection.execute("SELECT 1 / 0")
        return 7

    def order(ctx: Context, well: bool) -> Any:
        return (yield ctx.transaction(saved if well else step))

    shop.client.register(order)

    with pytest.raises(UsageError, match="swallowed an error of a statement"):
        shop.client.run("o1", order, False)
    assert shop.client.run("o2", order, True) == 7
    assert shop.rows() == [("x", 1)]


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("SET TRANSACTION READ ONLY", "made its transaction read-only"),
        ("SET ROLE pg_monitor", "role 'pg_monitor', which has no rights"),
    ],
)
def test_a_step_that_takes_away_the_right_to_store_its_result_is_told_so(statement: str, says: str, shop: Shop) -> None:
    def step(connection: psycopg.Connection[Any]) -> None:
        connection.execute(statement.encode())

    def order(ctx: Context) -> Any:
        yield ctx.transaction(step)

    shop.client.register(order)

    with pytest.raises(UsageError, match=says):
        shop.client.run("o", order)


def test_what_a_step_sets_is_not_there_for_the_next_one(shop: Shop) -> None:
    def spoil(connection: psycopg.Connection[Any]) -> int:
        connection.execute("SET search_path = nowhere")
        connection.execute("SET app.tenant = 'one'")
        connection.execute("SET client_encoding = 'LATIN1'")
        connection.execute("SELECT set_config('role', 'pg_monitor', false), set_config('role', 'none', true)")
        return connection.info.backend_pid

    def look(connection: psycopg.Connection[Any]) -> list[Any]:
        names = ("search_path", "client_encoding", "role", "application_name")
        found = [connection.execute(f"SHOW {name}".encode()).fetchone()[0] for name in names]  # type: ignore[index]
        tenant = connection.execute("SELECT current_setting('app.tenant', true)").fetchone()
        return [connection.info.backend_pid, *found, *(tenant or ())]

    def order(ctx: Context) -> Any:
        fresh = yield ctx.transaction(look)
        spoilt = yield ctx.transaction(spoil)
        return fresh, spoilt, (yield ctx.transaction(look))

    client = Resonate(url=f"{shop.url}&pool=1")
    client.register(order)

    fresh, spoilt, after = client.run("o", order)

    assert fresh[0] == spoilt == after[0], "it is one session"
    assert after[1:5] == fresh[1:5]
    assert after[5] in (None, "")
    client.stop()


def test_savepoints_are_the_steps_own(shop: Shop) -> None:
    insert = shop.insert()

    def step(connection: psycopg.Connection[Any]) -> int:
        insert(connection, "kept", 1)
        with pytest.raises(ZeroDivisionError), connection.transaction():
            insert(connection, "undone", 2)
            raise ZeroDivisionError
        connection.execute("SAVEPOINT mine")
        insert(connection, "undone too", 3)
        connection.execute("ROLLBACK TO SAVEPOINT mine")
        return 7

    def order(ctx: Context) -> Any:
        return (yield ctx.transaction(step))

    shop.client.register(order)

    assert shop.client.run("o", order) == 7
    assert shop.rows() == [("kept", 1)]


PROGRAM = """
import os, signal, sys
import psycopg
from resonate import Resonate
from resonate.storage.postgres.joint import JointTransaction
url, table, point = sys.argv[1:]
r = Resonate(url=url, pid="p", ttl=2)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def insert(connection, n):
    if point == "before": die()
    connection.execute(f"INSERT INTO {table} (id, amount) VALUES ('k', %s)", (n,))
    if point == "in": die()
    return n

commit = JointTransaction.commit
def dying(self):
    if point == "at the commit": die()
    commit(self)
    if point == "after": die()
JointTransaction.commit = dying

def order(ctx):
    a = yield ctx.transaction(insert, 1)
    b = yield ctx.transaction(insert, 2)
    return a + b

r.register(order)
print(r.run("o", order))
r.stop()
"""


@pytest.mark.parametrize("point", ["before", "in", "at the commit", "after"])
def test_a_process_killed_at_any_point_has_written_each_row_exactly_once(point: str, shop: Shop) -> None:
    command = [sys.executable, "-c", PROGRAM, shop.url, shop.table]
    for _ in range(3 if point == "after" else 1):  # after: it gets one step further each time
        killed = subprocess.run([*command, point], capture_output=True, timeout=30, check=False)
        if killed.returncode == 0:
            break
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()

    done = subprocess.run([*command, "never"], capture_output=True, timeout=30, check=False, env=dict(os.environ))

    assert done.stdout.decode().strip() == "3", done.stderr.decode()
    assert shop.rows() == [("k", 1), ("k", 2)]


# begin_run_in


def ship(ctx: Context, id: str) -> str:
    return f"shipped {id}"


def test_a_run_begun_in_a_transaction_starts_when_that_commits(shop: Shop) -> None:
    insert = shop.insert()
    shop.client.register(ship)
    shop.client.start()

    with shop.connect() as session:
        insert(session, "a", 1)
        handle = shop.client.begin_run_in(session, "s", ship, "a")
        with pytest.raises(ResonateStoreError, match="not found"):
            shop.client.get("s")

        with pytest.raises(TimeoutError):  # that there is nothing yet is no news
            handle.result(timeout=2)

    assert handle.result(timeout=20) == "shipped a"
    assert shop.rows() == [("a", 1)]


def test_whoever_listens_is_told_by_the_commit_of_a_run_begun_in_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "POLL", 3600.0)
    shop.client.register(ship)
    shop.client.start()

    with shop.connect() as session:
        handle = shop.client.begin_run_in(session, "s", ship, "a")

    assert handle.result(timeout=20) == "shipped a"


def test_where_nobody_can_be_told_the_transaction_goes_on(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joint, "NOTIFY", "SELECT no_such_function(%s, %s)")
    shop.client.register(ship)
    shop.client.start()

    with shop.connect() as session:
        shop.insert()(session, "a", 1)
        handle = shop.client.begin_run_in(session, "s", ship, "a")

    assert handle.result(timeout=20) == "shipped a"
    assert shop.rows() == [("a", 1)]


def test_a_run_begun_in_a_transaction_that_is_rolled_back_never_was(shop: Shop) -> None:
    insert = shop.insert()
    shop.client.register(ship)
    shop.client.start()

    session = shop.connect()
    insert(session, "a", 1)
    handle = shop.client.begin_run_in(session, "s", ship, "a")
    session.rollback()
    session.close()

    with pytest.raises(ResonateStoreError, match="rolled back"):
        handle.result(timeout=20)
    assert shop.rows() == []


def test_a_transaction_ends_when_its_connection_is_dropped(shop: Shop) -> None:
    insert = shop.insert()
    shop.client.register(ship)
    shop.client.start()

    def forget() -> Handle[Any]:
        session = shop.connect()
        insert(session, "a", 1)
        return shop.client.begin_run_in(session, "s", ship, "a")

    with pytest.warns(ResourceWarning, match="deleted while still open"):
        handle = forget()

    with pytest.raises(ResonateStoreError, match="rolled back"):
        handle.result(timeout=20)

    assert shop.rows() == []
    assert shop.client.run("s", ship, "b") == "shipped b"


def test_whoever_begins_the_same_run_meanwhile_waits_for_the_commit_and_joins(shop: Shop) -> None:
    shop.client.register(ship)
    shop.client.start()
    session = shop.connect()
    shop.client.begin_run_in(session, "s", ship, "a")
    results: list[Any] = []
    other = threading.Thread(target=lambda: results.append(shop.client.run("s", ship, "a")))
    other.start()

    session.commit()
    session.close()

    other.join(20)
    assert results == ["shipped a"]


def test_a_step_of_a_transaction_may_begin_runs_with_its_connection(shop: Shop) -> None:
    insert, client = shop.insert(), shop.client

    def step(connection: psycopg.Connection[Any]) -> int:
        client.begin_run_in(connection, "s", ship, "b")
        return insert(connection, "b", 1)

    def order(ctx: Context) -> Any:
        return (yield ctx.transaction(step))

    client.register(ship)
    client.register(order)

    assert client.run("o", order) == 2
    assert client.get("s").result(timeout=20) == "shipped b"


def test_another_call_under_the_same_id_and_another_database_are_refused(shop: Shop) -> None:
    shop.client.register(ship)
    assert shop.client.run("s", ship, "a") == "shipped a"

    with shop.connect() as session, pytest.raises(IdConflict):
        shop.client.begin_run_in(session, "s", ship, "other")
    with (
        psycopg.connect(databases.bare(shop.url).replace("/postgres", "/template1")) as session,
        pytest.raises(UsageError, match=rf"to postgresql://127\.0\.0\.1:{databases.port()}/template1, but"),
    ):
        shop.client.begin_run_in(session, "t", ship, "a")
    with (
        psycopg.connect(databases.bare(shop.url), autocommit=True) as session,
        pytest.raises(UsageError, match="autocommit"),
    ):
        shop.client.begin_run_in(session, "t", ship, "a")
    with pytest.raises(TypeError, match=r"psycopg\.Connection"):
        shop.client.begin_run_in(object(), "t", ship, "a")


# SQLAlchemy


def test_a_run_is_begun_with_a_session_and_with_a_connection_of_sqlalchemy(shop: Shop) -> None:
    shop.client.register(ship)
    shop.client.start()
    engine = shop.engine()

    with Session(engine) as session, session.begin():
        one = shop.client.begin_run_in(session, "s1", ship, "a")
    with engine.begin() as connection:
        two = shop.client.begin_run_in(connection, "s2", ship, "b")
    with Session(engine) as session:
        lost = shop.client.begin_run_in(session, "s3", ship, "c")
        session.rollback()

    assert (one.result(timeout=20), two.result(timeout=20)) == ("shipped a", "shipped b")
    with pytest.raises(ResonateStoreError, match="rolled back"):
        lost.result(timeout=20)


def test_a_step_that_asks_for_a_session_gets_one_in_its_transaction(shop: Shop) -> None:
    table = shop.table

    class Base(sqlalchemy.orm.DeclarativeBase):
        pass

    class Order(Base):
        __tablename__ = table
        n: sqlalchemy.orm.Mapped[int] = sqlalchemy.orm.mapped_column(primary_key=True)
        id: sqlalchemy.orm.Mapped[str]
        amount: sqlalchemy.orm.Mapped[int]

    def step(session: Session, fails: bool) -> int:
        session.add(Order(id="a", amount=1))
        session.flush()
        with session.begin_nested() as nested:
            session.add(Order(id="undone", amount=2))
            nested.rollback()
        session.add(Order(id="b", amount=3))  # written by nobody but the end of the step
        if fails:
            raise LookupError("nothing of it")
        return len(session.scalars(sqlalchemy.select(Order)).all())

    def order(ctx: Context, fails: bool) -> Any:
        return (yield ctx.transaction(step, fails).options(retry_policy=Never()))

    shop.client.register(order)

    with pytest.raises(LookupError):
        shop.client.run("o1", order, True)
    assert shop.rows() == []
    assert shop.client.run("o2", order, False) == 2
    assert shop.rows() == [("a", 1), ("b", 3)]
    until(lambda: shop.client.run("o2", order, False) == 2)
