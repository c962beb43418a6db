"""What a database, a role or the environment does by default is not what our sessions go by."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest

from resonate import Context, Resonate
from resonate.errors import StorageUnusable
from resonate.storage.postgres import schema
from resonate.storage.postgres.location import parse
from resonate.storage.postgres.storage import migrate
from tests import databases
from tests.homes import until
from tests.postgres.cluster import binaries

pytestmark = pytest.mark.skipif(binaries() is None, reason="PostgreSQL is not installed")


def greet(ctx: Context, name: str) -> str:
    return f"grüß dich, {name}"


def call(ctx: Context, name: str) -> object:
    return (yield ctx.rpc(greet, name).options(id=f"below-{name}"))


@pytest.fixture(scope="module", params=["SQL_ASCII", "LATIN1"])
def encoded(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """An encoding, and the url of a database that has it."""
    encoding = request.param
    if databases.given():
        pytest.skip("makes databases")
    name = f"encoded_{encoding.lower()}"
    with psycopg.connect(databases.url(), autocommit=True) as session:
        session.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'".encode())
    yield encoding, databases.url().rsplit("/", 1)[0] + f"/{name}"
    with psycopg.connect(databases.url(), autocommit=True) as session:
        session.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def test_a_database_holds_any_text_or_is_refused(encoded: tuple[str, str]) -> None:
    encoding, url = encoded
    if encoding != "SQL_ASCII":
        with pytest.raises(StorageUnusable, match=r"encoding LATIN1.*ENCODING 'UTF8'"):
            Resonate(url=url).start()
        return

    with Resonate(url=url) as client:
        client.register(greet)
        client.register(call)

        assert client.options(tags={"stadt": "東京"}).run("über-日本", call, "日本") == "grüß dich, 日本"
        assert [each.id for each in client.list(tags={"stadt": "東京"}).items] == ["über-日本"]
        assert client.get("below-日本").result() == "grüß dich, 日本"


def test_what_the_environment_says_of_the_encoding_is_not_for_our_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")

    with Resonate(url=databases.fresh_url()) as client:
        client.register(greet)

        assert client.run("日本", greet, "日本") == "grüß dich, 日本"


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_connection_of_the_users_keeps_its_encoding_and_takes_any_id(encoding: str) -> None:
    url = databases.fresh_url()
    with (
        Resonate(url=url) as client,
        psycopg.connect(databases.bare(url), client_encoding=encoding) as session,
    ):
        client.register(greet)

        handle = client.begin_run_in(session, "日本", greet, "日本")

        assert session.info.parameter_status("client_encoding") == encoding
        session.commit()
        assert session.info.parameter_status("client_encoding") == encoding
        assert handle.result(timeout=20) == "grüß dich, 日本"


@pytest.mark.parametrize(
    "default",
    [
        "default_transaction_isolation=repeatable\\ read",
        "default_transaction_isolation=serializable",
        "lock_timeout=1ms",
    ],
)
def test_programs_that_start_together_make_the_tables_once(default: str) -> None:
    url = databases.fresh_url()
    location = parse(f"{url}&options=-c%20{default.replace(' ', '%20').replace('=', '%3D')}")
    made: list[object] = []

    def start() -> None:
        try:
            made.append(migrate(location))
        except Exception as error:
            made.append(error)

    starting = [threading.Thread(target=start) for _ in range(3)]
    with psycopg.connect(databases.bare(url)) as session:
        session.execute("SELECT pg_advisory_xact_lock(%s)", (schema.LOCK,))
        for thread in starting:
            thread.start()
        until(lambda: bool(made) or _waiting(url) == len(starting))
    for thread in starting:
        thread.join()

    newest = len(schema.MIGRATIONS)
    assert sorted(made, key=str) == [(0, newest), (newest, newest), (newest, newest)]


def _waiting(url: str) -> int:
    with psycopg.connect(databases.bare(url)) as session:
        found = session.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").fetchone()
    assert found is not None
    return int(found[0])
