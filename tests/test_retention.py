"""What is finished is deleted when its time is over, whole trees and a little at a time; and by hand at once."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resonate import Resonate
from resonate.clock import SettableClock
from resonate.errors import NotSupported, ResonateStoreError, UsageError
from resonate.protocol.records import Value
from resonate.protocol.requests import (
    PromiseCreate,
    PromiseGet,
    PromiseSettle,
    Request,
    Response,
    TaskAcquire,
    TaskGet,
)
from resonate.service.purger import BATCH
from resonate.service.service import Service
from resonate.storage.base import Storage
from resonate.storage.memory import MemoryStorage
from resonate.storage.sqlite.location import Location
from resonate.storage.sqlite.schema import MIGRATIONS, TABLES
from resonate.storage.sqlite.storage import SqliteStorage
from tests import databases
from tests.files import emptied
from tests.homes import until
from tests.own_store import OwnSource, OwnStore
from tests.state_worker import opened

WEEK = 7 * 86_400_000
DAY = 86_400_000
FAR = 10**13
BEGIN = 1_000_000
STORAGES: dict[str, Callable[[], Storage]] = {
    "memory": MemoryStorage,
    "sqlite": emptied,
    "postgres": databases.emptied,
}


class Shop:
    """A service with a retention, whose clock stands still, and words for what happens in it."""

    def __init__(self, storage: Storage, retention: int | None = WEEK) -> None:
        self.clock = SettableClock(BEGIN)
        self.storage = storage
        self.service = Service(storage, self.clock, retention=retention)

    def ask(self, request: Request) -> Response:
        return self.service.handle([request], trusted=True)[0]  # as a client in this process asks

    def create(
        self, id: str, *, parent: str | None = None, timeout: int = FAR, tags: dict[str, str] | None = None
    ) -> None:
        origin = id.partition(":")[0] if parent is None else parent.partition(":")[0]
        tree = {"resonate:origin": origin, "resonate:branch": origin, "resonate:parent": parent or id}
        assert self.ask(PromiseCreate(id, timeout, Value(), {**tree, **(tags or {})})).status == 200

    def settle(self, *ids: str) -> None:
        for id in ids:
            assert self.ask(PromiseSettle(id, "resolved")).status == 200

    def exists(self, id: str) -> bool:
        return self.ask(PromiseGet(id)).status == 200

    def pass_time(self, milliseconds: int) -> None:
        self.clock.set(self.clock.now() + milliseconds)
        self.service.tick()

    def purge(self) -> int:
        """Let the background purging do all it wants to do now; how many batches it took."""
        self.service.purger.next_at = 0.0
        return next(n for n in count() if not self.service.purger.beat(self.service.now()))


def url_of(kind: str, directory: Path) -> str:
    """A place that nobody has used yet, in a file or a database."""
    if kind == "postgres":
        return f"{databases.fresh_url()}&options=-csynchronous_commit%3Doff"
    return f"sqlite:///{directory}/app.db?synchronous=off"


@pytest.fixture(params=["file", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return url_of(request.param, tmp_path)


@pytest.fixture(params=STORAGES)
def shop(request: pytest.FixtureRequest) -> Shop:
    return Shop(STORAGES[request.param]())


# What goes, and when.


def test_a_finished_tree_goes_when_its_retention_is_over_and_not_a_millisecond_before(shop: Shop) -> None:
    shop.create("a")
    shop.create("a:1", parent="a")
    shop.settle("a:1", "a")

    shop.pass_time(WEEK)
    shop.purge()
    assert shop.exists("a")
    shop.pass_time(1)
    shop.purge()

    assert not shop.exists("a")
    assert not shop.exists("a:1")


def test_a_tree_with_anything_pending_stays_whole_until_that_is_over_for_as_long(shop: Shop) -> None:
    shop.create("a")
    shop.create("a:1", parent="a")
    shop.create("a:2", parent="a", tags={"resonate:external": "true"})
    shop.settle("a:1", "a")

    shop.pass_time(3 * WEEK)
    shop.purge()
    assert [shop.exists(id) for id in ("a", "a:1", "a:2")] == [True] * 3
    shop.settle("a:2")
    shop.pass_time(WEEK + 1)
    shop.purge()

    assert [shop.exists(id) for id in ("a", "a:1", "a:2")] == [False] * 3


def test_a_promise_whose_deadline_nobody_noticed_counts_as_settled(shop: Shop) -> None:
    shop.create("a", timeout=BEGIN + 10)

    shop.pass_time(WEEK + 10)
    shop.purge()
    assert shop.exists("a")
    shop.pass_time(1)
    shop.purge()

    assert not shop.exists("a")


def test_what_a_program_named_itself_goes_with_its_tree_and_a_neighbour_of_like_name_stays(shop: Shop) -> None:
    for root in ("a", "a.1", "ab"):
        shop.create(root)
    shop.create("own-name", parent="a:1")
    shop.create("a:1", parent="a")
    shop.create("own-name:1", parent="own-name")
    shop.settle("own-name:1", "own-name", "a:1", "a")

    shop.pass_time(WEEK + 1)
    shop.purge()

    assert not any(map(shop.exists, ("a", "a:1", "own-name", "own-name:1")))
    assert all(map(shop.exists, ("a.1", "ab")))


def test_tasks_go_with_their_promises(shop: Shop) -> None:
    shop.create("a", tags={"resonate:target": "poll://any@g"})
    assert shop.ask(TaskAcquire("a", 0, "p", 1000)).status == 200
    shop.settle("a")

    shop.pass_time(WEEK + 1)
    shop.purge()

    assert shop.ask(TaskGet("a")).status == 404
    shop.create("a", tags={"resonate:target": "poll://any@g"})
    assert shop.ask(TaskAcquire("a", 0, "p", 1000)).status == 200, "the id starts anew"


def test_without_a_retention_nothing_ever_goes() -> None:
    shop = Shop(MemoryStorage(), retention=None)
    shop.create("a")
    shop.settle("a")

    shop.pass_time(1000 * WEEK)
    shop.purge()

    assert shop.exists("a")


# A little at a time.


@pytest.mark.parametrize("kind", STORAGES)
def test_a_large_tree_goes_in_several_transactions_and_its_root_last(kind: str) -> None:
    shop = Shop(STORAGES[kind]())
    shop.create("a")
    children = [f"a:{n}" for n in range(3 * BATCH)]
    for id in children:
        shop.create(id, parent="a")
    shop.settle(*children, "a")
    shop.pass_time(WEEK + 1)
    shop.service.purger.next_at = 0.0

    left = []
    while shop.service.purger.beat(shop.service.now()):
        gone = sum(not shop.exists(id) for id in children)
        left.append((gone, shop.exists("a")))

    assert [gone for gone, _ in left] == [BATCH, 2 * BATCH, 3 * BATCH, 3 * BATCH]
    assert [root for _, root in left] == [True, True, True, False]


def test_a_purge_cut_in_the_middle_is_finished_by_the_next_start(url: str) -> None:
    storage = opened(url)
    shop = Shop(storage)
    shop.create("a")
    for n in range(2 * BATCH):
        shop.create(f"a:{n}", parent="a")
        shop.settle(f"a:{n}")
    shop.settle("a")
    shop.pass_time(WEEK + 1)
    shop.service.purger.next_at = 0.0
    assert shop.service.purger.beat(shop.service.now())
    storage.close()

    again = Shop(opened(url))
    assert again.exists("a")
    again.pass_time(WEEK + 1)
    again.purge()

    assert not again.exists("a")
    assert not again.exists(f"a:{2 * BATCH - 1}")
    again.storage.close()


TREES = st.lists(
    st.tuples(st.integers(0, 5), st.booleans(), st.booleans(), st.sampled_from([0, 3 * DAY, 6 * DAY])),
    min_size=1,
    max_size=12,
)
"""For each promise: its parent among those before it (or none), whether its name is its own, whether it is settled,
and how long that takes."""


@pytest.mark.parametrize("kind", ["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
@given(plan=TREES, wait=st.sampled_from([DAY, WEEK, 2 * WEEK]))
def test_exactly_the_finished_trees_go_whatever_their_shape(kind: str, plan: list[Any], wait: int) -> None:
    shop = Shop(STORAGES[kind]())
    ids: list[str] = []
    root_of: dict[str, str] = {}
    for number, (above, own_name, _, _) in enumerate(plan):
        parent = ids[above] if above < len(ids) else None
        id = f"n{number}" if parent is None or own_name else f"{parent}{'.' if ':' in parent else ':'}{number}"
        shop.create(id, parent=parent, tags={"resonate:external": "true"} if parent else {})
        root_of[id] = root_of[parent] if parent else id
        ids.append(id)
    settled: dict[str, int] = {}
    for id, (_, _, settles, delay) in sorted(zip(ids, plan, strict=True), key=lambda pair: pair[1][3]):
        if settles:
            shop.pass_time(BEGIN + delay - shop.clock.now())
            shop.settle(id)
            settled[id] = delay
    shop.pass_time(wait)
    now = shop.clock.now() - BEGIN

    shop.purge()

    trees = {root: [id for id in ids if root_of[id] == root] for root in set(root_of.values())}
    for root, tree in trees.items():
        over = all(id in settled for id in tree) and settled[root] < now - WEEK
        assert [shop.exists(id) for id in tree] == [not over] * len(tree), (root, tree)


# By hand.


@pytest.fixture(params=["memory", "file", "postgres"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Resonate]:
    client = Resonate(url=None if request.param == "memory" else url_of(request.param, tmp_path))
    yield client
    client.stop()


def counting(client: Resonate) -> list[int]:
    ran: list[int] = []

    def step(ctx: Any) -> int:
        ran.append(1)
        return len(ran)

    def order(ctx: Any) -> Generator[Any, Any, int]:
        return (yield ctx.run(step))  # type: ignore[no-any-return]

    client.register(order)
    return ran


def test_a_purged_id_starts_anew_and_old_handles_keep_their_result(client: Resonate) -> None:
    ran = counting(client)
    handle = client.begin_run("o", "order")
    assert handle.result() == 1
    assert client.run("o", "order") == 1

    client.purge("o")

    assert handle.result() == 1
    assert client.run("o", "order") == 2
    assert client.get("o").result() == 2
    assert len(ran) == 2


def test_a_pending_execution_is_not_purged_and_the_error_says_what_to_do(client: Resonate) -> None:
    def waits(ctx: Any) -> Generator[Any, Any, Any]:
        promise = yield ctx.promise(id="answer")
        return (yield promise)

    client.register(waits)
    handle = client.begin_run("w", waits)

    with pytest.raises(UsageError, match=r"w is still pending, so nothing was deleted.*r\.get\('w'\)\.cancel\(\)"):
        client.purge("w")
    until(lambda: _is_there(client, "answer"))
    client.promises.resolve("answer", data="1")
    assert handle.result() is not None
    client.purge("w")

    with pytest.raises(ResonateStoreError, match="not found"):
        client.get("w")
    assert not _is_there(client, "answer")


def _is_there(client: Resonate, id: str) -> bool:
    try:
        client.promises.get(id)
    except ResonateStoreError:
        return False
    return True


def test_a_step_is_not_purged_alone_and_what_is_unknown_is_said_to_be(client: Resonate) -> None:
    counting(client)
    client.run("o", "order")

    with pytest.raises(UsageError, match="o:1 is part of a larger execution"):
        client.purge("o:1")
    with pytest.raises(ResonateStoreError, match="not found: never"):
        client.purge("never")
    with pytest.raises(TypeError):
        client.purge(1)  # type: ignore[arg-type]


def test_a_bare_promise_is_purged_like_a_tree(client: Resonate) -> None:
    client.promises.create("p", timeout=10**15)
    with pytest.raises(UsageError, match=r"r\.promises\.cancel\('p'\)"):
        client.purge("p")
    client.promises.resolve("p")

    client.purge("p")

    assert not _is_there(client, "p")


def test_purging_from_an_event_loop_is_awaited() -> None:
    async def main() -> list[int]:
        client = Resonate()
        ran = counting(client)
        async with client:
            first = await client.aio.run("o", "order")
            await client.aio.purge("o")
            second = await client.aio.run("o", "order")
        assert len(ran) == 2
        return [first, second]

    assert asyncio.run(main()) == [1, 2]


def test_what_another_process_purged_starts_anew_here_too(url: str) -> None:
    here, there = Resonate(url=url), Resonate(url=url)
    ran = counting(here)
    assert here.run("o", "order") == 1

    there.purge("o")

    assert here.run("o", "order") == 2
    assert len(ran) == 2
    here.stop()
    there.stop()


def test_a_store_of_ones_own_cannot_purge_and_takes_no_retention() -> None:
    store = OwnStore()
    source = OwnSource(store, "default", "p")
    with pytest.raises(ValueError, match="retention must be left out"):
        Resonate(store=store, message_source=source, retention=1)
    client = Resonate(store=store, message_source=source)

    with pytest.raises(NotSupported, match="o cannot be purged"):
        client.purge("o")

    client.stop()


# In a running program.


def test_a_running_client_deletes_what_is_over_by_itself(url: str) -> None:
    client = Resonate(url=url, retention=timedelta(milliseconds=1))
    counting(client)
    client.run("o", "order")

    def again() -> bool:
        client._core.started().network.service.purger.next_at = 0.0  # type: ignore[attr-defined]
        client._core.started().network.service.timers.look_again()  # type: ignore[attr-defined]
        return not _is_there(client, "o")

    until(again)
    client.stop()


def test_a_file_under_steady_load_stops_growing(tmp_path: Path) -> None:
    path = f"{tmp_path}/app.db"
    shop = Shop(SqliteStorage(Location(path, synchronous="off")), retention=1000)
    pages = []
    number = count()
    for _ in range(30):
        for _ in range(50):
            id = f"order-{next(number)}"
            shop.create(id)
            shop.create(f"{id}:1", parent=id)
            shop.settle(f"{id}:1", id)
        shop.pass_time(1001)
        shop.purge()
        with closing(sqlite3.connect(path)) as reader:
            pages.append(reader.execute("PRAGMA page_count").fetchone()[0])
    shop.storage.close()

    assert pages[-1] == pages[5], pages
    with closing(sqlite3.connect(path)) as reader:
        assert sum(reader.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES) == 0


def test_trees_of_a_file_of_the_first_schema_are_found_after_the_upgrade(tmp_path: Path) -> None:
    location = Location(f"{tmp_path}/app.db", synchronous="off")
    storage = SqliteStorage(location)
    shop = Shop(storage)
    shop.create("a")
    shop.create("own-name", parent="a")
    shop.settle("own-name", "a")
    storage.close()
    with closing(sqlite3.connect(location.path, isolation_level=None)) as database:  # as the first schema was
        for table in ("executions", "labels"):
            database.execute(f"DROP TABLE resonate_{table}")
        for index in ("promises_over", "promises_stray", "tasks_group"):
            database.execute(f"DROP INDEX resonate_{index}")
        for table, column in (
            ("promises", "over"),
            ("promises", "stray_of"),
            ("promises", "begun"),
            ("tasks", "grp"),
            ("tasks", "since"),
        ):
            database.execute(f"ALTER TABLE resonate_{table} DROP COLUMN {column}")
        database.execute("UPDATE resonate_schema SET version = 1")
    assert len(MIGRATIONS) >= 2

    again = Shop(SqliteStorage(location))
    again.pass_time(WEEK + 1)
    again.purge()

    assert not again.exists("a")
    assert not again.exists("own-name")
    again.storage.close()
