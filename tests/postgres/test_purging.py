"""What is finished is deleted from a database that others use too. What goes, and when, is in `test_retention`."""

from __future__ import annotations

import threading

import psycopg
import pytest

from resonate.protocol.requests import TaskAcquire
from resonate.storage.postgres.location import parse
from resonate.storage.postgres.schema import TABLES
from resonate.storage.postgres.storage import PostgresStorage
from tests import databases
from tests.postgres.cluster import binaries
from tests.test_retention import WEEK, Shop

pytestmark = pytest.mark.skipif(binaries() is None, reason="PostgreSQL is not installed")


def test_purged_trees_leave_no_row_in_a_database() -> None:
    storage = databases.emptied()
    shop = Shop(storage, retention=1000)
    for number in range(40):
        id = f"order-{number}"
        shop.create(id, tags={"resonate:target": "poll://any@g"})
        assert shop.ask(TaskAcquire(id, 0, "p", 1000)).status == 200
        shop.create(f"{id}:1", parent=id)
        shop.create(f"own-{number}", parent=id)
        shop.create(f"own-{number}:1", parent=f"own-{number}")
        shop.settle(f"own-{number}:1", f"own-{number}", f"{id}:1", id)
    shop.pass_time(1001)
    shop.purge()

    counts = {
        table: storage._aside(f"SELECT count(*) FROM {storage._location.schema}.{table}")[0][0] for table in TABLES
    }
    assert counts == dict.fromkeys(TABLES, 0)


def test_processes_that_purge_one_database_at_the_same_time_delete_everything_once() -> None:
    """One of them at a time purges; a tree that somebody else has locked just now waits for the next time."""
    url = databases.fresh_url()
    shops = [Shop(PostgresStorage(parse(url))) for _ in range(3)]
    roots = [f"order-{number}" for number in range(60)]
    for root in roots:
        shops[0].create(root)
        shops[0].create(f"{root}:1", parent=root)
        shops[0].settle(f"{root}:1", root)
    for shop in shops:
        shop.pass_time(WEEK + 1)
    threads = [threading.Thread(target=shop.purge) for shop in shops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not any(map(shops[0].exists, roots))
    assert shops[1].purge() == 0
    for shop in shops:
        shop.storage.close()


def test_a_tree_that_is_changed_while_it_is_purged_is_left_alone_until_then() -> None:
    url = databases.fresh_url()
    shop = Shop(PostgresStorage(parse(url)))
    for root in ("busy", "free"):
        shop.create(root)
        shop.settle(root)
    shop.pass_time(WEEK + 1)
    schema = url.partition("schema=")[2].partition("&")[0]
    with psycopg.connect(databases.bare(url)) as other:
        other.execute(f"SELECT 1 FROM {schema}.origins WHERE origin = 'busy' FOR UPDATE".encode())
        shop.purge()
        assert (shop.exists("busy"), shop.exists("free")) == (True, False)
        other.rollback()
        shop.purge()

    assert not shop.exists("busy")
    shop.storage.close()
