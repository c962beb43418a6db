"""What a user is told who cannot get at the database, and what the log says of one that goes away."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from resonate import Context, Resonate
from resonate.errors import StorageUnavailable, StorageUnusable
from resonate.storage.postgres import connection
from resonate.storage.postgres.location import parse
from resonate.storage.postgres.storage import migrate
from tests import databases
from tests.homes import until
from tests.postgres.cluster import Cluster, binaries, free_port
from tests.postgres.proxy import Proxy

CONNECTIONS = 12

pytestmark = [pytest.mark.slow, pytest.mark.skipif(binaries() is None, reason="PostgreSQL is not installed")]


@pytest.fixture(scope="module")
def guarded() -> Iterator[Cluster]:
    """A server that asks everybody but its superuser for a password, and has room for few."""
    cluster = Cluster(max_connections=CONNECTIONS)
    cluster.start()
    with psycopg.connect(cluster.url, autocommit=True) as session:
        session.execute("CREATE ROLE app LOGIN PASSWORD 'secret'")
        Path(cluster.data, "pg_hba.conf").write_text(
            "host all resonate 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        )
        session.execute("SELECT pg_reload_conf()")
    yield cluster
    cluster.remove()


def as_app(cluster: Cluster, password: str) -> str:
    return cluster.url.replace("://resonate@", f"://app:{password}@")


def close(sessions: list[psycopg.Connection[Any]]) -> None:
    for session in sessions:
        session.close()


def one(ctx: Context) -> int:
    return 1


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("?", "?sslmode=maybe&", "sslmode"),
        ("?", "?sslmode=require&", "SSL"),
        ("?", "?options=-cnonsense%3D1&", "nonsense"),
        ("?", "?nonsense=1&", "nonsense"),
        (":{port}/", ":99999/", "99999"),
    ],
)
def test_a_url_that_can_never_work_is_refused_at_once(old: str, new: str, says: str) -> None:
    url = databases.fresh_url().replace(old.format(port=databases.port()), new, 1)
    began = time.monotonic()

    with pytest.raises(StorageUnusable, match=says) as refused:
        Resonate(url=url).start()

    assert time.monotonic() - began < 5
    assert "in the url" in str(refused.value)


def test_an_at_sign_in_a_password_is_named_and_the_password_is_not_shown() -> None:
    with pytest.raises(ValueError, match="%40") as refused:
        Resonate(url="postgresql://app:se@cret@127.0.0.1/shop")

    assert "cret" not in str(refused.value)


@pytest.mark.parametrize("password", ["wrong-one", ""])
def test_a_wrong_password_is_an_error_at_once_that_does_not_show_it(password: str, guarded: Cluster) -> None:
    with pytest.raises(StorageUnusable, match="password") as refused:
        Resonate(url=as_app(guarded, password)).start()

    assert "wrong-one" not in str(refused.value)


@pytest.mark.parametrize("hosts", ["127.0.0.1:{port},127.0.0.1:{free}", "127.0.0.1:{free},127.0.0.1:{port}"])
def test_of_several_hosts_the_one_that_refuses_is_named_first(hosts: str, guarded: Cluster) -> None:
    at = hosts.format(port=guarded.port, free=free_port())

    with pytest.raises(StorageUnusable) as refused:
        Resonate(url=f"postgresql://app:wrong@{at}/postgres").start()

    said = str(refused.value).partition(" cannot be used: ")[2]
    assert said.startswith(f'connection to server at "127.0.0.1", port {guarded.port} failed: FATAL: password')
    assert "Connection refused. Check" in said
    assert "Multiple" not in said
    assert "Is the server" not in said


def test_a_role_that_may_not_make_tables_is_told_who_has_to_make_them(guarded: Cluster) -> None:
    with psycopg.connect(guarded.url, autocommit=True) as session:
        session.execute("CREATE SCHEMA made")
        session.execute("GRANT USAGE ON SCHEMA made TO app")

    with pytest.raises(StorageUnusable, match=r"schema made.*somebody who may .*run `resonate migrate --url"):
        Resonate(url=f"{as_app(guarded, 'secret')}?schema=made").start()


def test_a_role_that_may_only_read_and_write_rows_runs_functions_once_somebody_has_migrated(guarded: Cluster) -> None:
    migrate(parse(guarded.url))
    with psycopg.connect(guarded.url, autocommit=True) as session:
        session.execute("GRANT USAGE ON SCHEMA resonate TO app")
        session.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA resonate TO app")

    with Resonate(url=as_app(guarded, "secret")) as client:
        client.register(one)

        assert client.run("r", one) == 1
        client.purge("r")


def test_a_server_without_a_free_connection_is_waited_for_and_then_named(
    guarded: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.3)
    taken: list[psycopg.Connection[Any]] = []
    with pytest.raises(psycopg.OperationalError):
        while True:
            taken.append(psycopg.connect(guarded.url))

    with pytest.raises(StorageUnavailable, match="max_connections"):
        Resonate(url=guarded.url).start()

    assert "too many" in caplog.text
    monkeypatch.setattr(connection, "PATIENCE", 20.0)
    threading.Timer(0.3, close, (taken,)).start()
    with Resonate(url=guarded.url) as client:
        client.register(one)
        assert client.run("s", one) == 1


def test_the_log_says_once_that_the_database_is_away_and_once_that_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "resonate.storage")
    proxy = Proxy(databases.port())
    with Resonate(url=proxy.url(databases.fresh_url())) as client:
        client.register(one)
        assert client.run("before", one) == 1
        proxy.refusing = True
        proxy.cut()
        threading.Timer(0.5, setattr, (proxy, "refusing", False)).start()

        assert client.run("during", one) == 1  # its lane, the reader and the listener have all lost their sessions
        until(lambda: " is back after " in caplog.text)

    said = [record.getMessage() for record in caplog.records if record.name == "resonate.storage"]
    proxy.close()
    assert [("cannot be reached" in text, " is back after " in text) for text in said] == [(True, False), (False, True)]
