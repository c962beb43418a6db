"""Statements that go to libpq directly: the same values, rows and errors as through a cursor of psycopg."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from resonate.storage.base import Conflict
from resonate.storage.postgres.failures import is_lost, translate
from resonate.storage.postgres.prepared import USES, Prepared
from tests import databases

EACH = "SELECT %s::text, %s::bigint, %s::bytea, %s::text[], %s::bigint[], %s::bytea[]"

VALUES: tuple[tuple[Any, ...], ...] = (
    ("", 0, b"", [], [], []),
    ("é世\U0001f600'\\%", -(2**63), bytes(range(256)), ["a", None, ""], [2**63 - 1, None], [b"\0", None, b""]),
    (None, None, None, None, None, None),
    ("x" * 10_000, 1, bytes(100_000), ["ü"] * 1_000, list(range(1_000)), [b"1"] * 1_000),
    ("t", 2, b"2", [None], [None, None], [None]),
)


@pytest.fixture
def session() -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(databases.url(), autocommit=True) as made:
        yield made


@pytest.fixture
def prepared(session: psycopg.Connection[Any]) -> Prepared:
    return Prepared(session, 100)


def used(prepared: Prepared, statement: str, parameters: tuple[Any, ...]) -> None:
    """Run a statement as often as it takes for it to be prepared by the next time."""
    for _ in range(USES):
        assert prepared.run(statement, parameters) is None


@pytest.mark.parametrize("values", VALUES)
def test_values_come_back_as_through_a_cursor(
    session: psycopg.Connection[Any], prepared: Prepared, values: tuple[Any, ...]
) -> None:
    used(prepared, EACH, values)

    rows = prepared.run(EACH, values)

    assert rows == session.execute(EACH, values, binary=True).fetchall()
    assert rows == [values]


def test_a_statement_answers_with_the_rows_of_each_run(prepared: Prepared) -> None:
    statement = "SELECT n, n * %s::bigint FROM generate_series(1, %s::bigint) n"
    used(prepared, statement, (1, 1))

    assert prepared.run(statement, (10, 3)) == [(1, 10), (2, 20), (3, 30)]
    assert prepared.run(statement, (10, 0)) == []
    assert prepared.run(statement, (5, 1)) == [(1, 5)]


def test_a_parameter_larger_than_the_socket_arrives_whole(prepared: Prepared) -> None:
    statement = "SELECT length(%s::bytea), %s::bytea"
    used(prepared, statement, (b"", b""))
    large = bytes(range(256)) * 40_000

    assert prepared.run(statement, (large, large)) == [(len(large), large)]


def test_what_does_not_fit_is_left_to_psycopg(session: psycopg.Connection[Any], prepared: Prepared) -> None:
    used(prepared, EACH, VALUES[0])
    used(prepared, "SELECT %s::jsonb", ("1",))

    assert prepared.run(EACH, ("text", 2**63, b"", [], [], [])) is None
    assert prepared.run(EACH, (1, 1, b"", [], [], [])) is None
    assert prepared.run("SELECT %s::jsonb", ("1",)) is None, "a type that is not known here"
    assert session.execute("SELECT 1").fetchone() == (1,)


def test_no_more_statements_are_prepared_than_allowed(session: psycopg.Connection[Any]) -> None:
    prepared = Prepared(session, 1)
    for number in range(3):
        used(prepared, f"SELECT {number} + %s::bigint", (1,))
        rows = prepared.run(f"SELECT {number} + %s::bigint", (1,))
        assert rows == ([(1,)] if number == 0 else None)

    counted = session.execute("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'resonate_%'").fetchone()

    assert counted == (1,)


def test_an_error_is_that_of_psycopg_and_leaves_the_session_usable(prepared: Prepared) -> None:
    statement = "SELECT 1 / %s::bigint"
    used(prepared, statement, (1,))

    with pytest.raises(psycopg.errors.DivisionByZero) as failed:
        prepared.run(statement, (0,))

    assert failed.value.sqlstate == "22012"
    assert prepared.run(statement, (1,)) == [(1,)]


def test_statements_that_somebody_has_dropped_are_prepared_again(
    session: psycopg.Connection[Any], prepared: Prepared
) -> None:
    statement = "SELECT %s::bigint"
    used(prepared, statement, (1,))
    assert prepared.run(statement, (1,)) == [(1,)]
    session.execute("DEALLOCATE ALL")

    assert prepared.run(statement, (2,)) is None, "psycopg carries it out this time"
    used(prepared, statement, (1,))
    assert prepared.run(statement, (3,)) == [(3,)]


def test_a_dropped_statement_in_a_transaction_has_that_begun_anew(
    session: psycopg.Connection[Any], prepared: Prepared
) -> None:
    statement = "SELECT %s::bigint"
    used(prepared, statement, (1,))
    assert prepared.run(statement, (1,)) == [(1,)]
    session.execute("DEALLOCATE ALL")
    session.execute("BEGIN")

    with pytest.raises(psycopg.Error) as failed:
        prepared.run(statement, (2,))

    assert isinstance(translate(failed.value, "here"), Conflict)
    assert prepared.command("ROLLBACK")
    assert session.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_a_session_that_was_ended_is_lost(session: psycopg.Connection[Any], prepared: Prepared) -> None:
    statement = "SELECT %s::bigint"
    used(prepared, statement, (1,))
    assert prepared.run(statement, (1,)) == [(1,)]
    with psycopg.connect(databases.url(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (session.info.backend_pid,))

    with pytest.raises(psycopg.Error) as failed:
        prepared.run(statement, (2,))

    assert is_lost(failed.value)


def test_an_interrupt_reaches_the_caller_and_the_session_stays(
    session: psycopg.Connection[Any], prepared: Prepared
) -> None:
    statement = "SELECT CASE WHEN %s::bigint = 1 THEN pg_sleep(60)::text ELSE 'slept' END"
    used(prepared, statement, (0,))
    assert prepared.run(statement, (0,)) == [("slept",)]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            prepared.run(statement, (1,))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert not session.closed
    assert prepared.run(statement, (0,)) == [("slept",)]
