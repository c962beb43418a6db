"""What is sent to the database goes by index, also while the tables are young and nobody has analysed them."""

from __future__ import annotations

import uuid
from collections.abc import Generator
from typing import Any

import psycopg

from resonate import Context, Resonate
from tests import databases

TABLES = ("origins", "promises", "tasks", "outbox")


def step(ctx: Context, n: int) -> int:
    return n + 1


def one(ctx: Context, n: int) -> Generator[Any, Any, int]:
    result: int = yield ctx.run(step, n)
    return result


def test_no_statement_of_a_busy_client_reads_a_table_from_end_to_end() -> None:
    schema = f"plans_{uuid.uuid4().hex[:8]}"
    url = f"{databases.url()}?schema={schema}"
    with psycopg.connect(databases.url(), autocommit=True) as session:
        with Resonate(url=url, group="worker") as client:
            client.register(one)
            for table in TABLES:
                session.execute(f"ALTER TABLE {schema}.{table} SET (autovacuum_enabled = off)")
            remote = client.options(target="worker")
            handles = [remote.begin_rpc(f"{schema}-{number}", "one", number) for number in range(200)]
            assert [handle.result() for handle in handles] == list(range(1, 201))

        session.execute("SELECT pg_stat_clear_snapshot()")
        read = session.execute(
            "SELECT relname, seq_tup_read FROM pg_stat_user_tables WHERE schemaname = %s AND relname = ANY(%s)",
            (schema, list(TABLES)),
        ).fetchall()
        session.execute(f"DROP SCHEMA {schema} CASCADE")

    assert sorted(read) == sorted((table, 0) for table in TABLES)
