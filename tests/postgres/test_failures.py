"""Whole programs while the database, or the way to it, fails: nothing is lost, no finished step repeats."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import psycopg
import pytest

from resonate import Context, Resonate
from resonate.errors import OutcomeUnknown, ResonateStoreError, StorageUnavailable, StorageUnusable
from resonate.storage.postgres import connection, watchdog
from tests import databases
from tests.homes import until
from tests.postgres.cluster import Cluster, binaries
from tests.postgres.proxy import Proxy

STEPS = 8
RESULT = sum(range(STEPS)) + 10

pytestmark = [pytest.mark.slow, pytest.mark.skipif(binaries() is None, reason="PostgreSQL is not installed")]


class Journal:
    """What ran, in its order, by run."""

    def __init__(self) -> None:
        self.steps: dict[str, list[int]] = defaultdict(list)

    def client(self, url: str, **options: Any) -> Resonate:
        """A started client of `url` that has the functions `program`, `step` and `remote`."""
        steps = self.steps

        def step(ctx: Context, run: str, number: int) -> int:
            steps[run].append(number)
            return number

        def remote(ctx: Context, number: int) -> int:
            return 10 * number

        def program(ctx: Context, run: str) -> Any:
            total = 0
            for number in range(STEPS):
                total += yield ctx.run(step, run, number)
                if number == 3:
                    total += yield ctx.rpc("remote", 1)
                if number == 5:
                    yield ctx.sleep(0.005)
            return total

        client = Resonate(url=url, ttl=2, **options)
        for function in (step, remote, program):
            client.register(function)
        client.start()
        return client

    def check(self) -> None:
        """A step that has begun says that those before it are stored; so none of them may come again."""
        for run, numbers in self.steps.items():
            assert numbers == sorted(numbers), f"{run}: a finished step ran again: {numbers}"
            assert set(numbers) == set(range(STEPS)), f"{run}: {numbers}"


def insist(client: Resonate, run: str) -> Any:
    """The result of a run, asked for until there is one, as users do."""
    for _ in range(200):
        try:
            return client.run(run, "program", run)
        except (StorageUnavailable, OutcomeUnknown):
            time.sleep(0.01)
    raise AssertionError(f"{run} has no result")


def load(clients: list[Resonate], runs: int, callers: int) -> list[str]:
    """Run many programs from several threads; what went wrong."""
    wrong: list[str] = []

    def call(number: int) -> None:
        for index in range(runs):
            run = f"r{number}-{index}"
            try:
                result = insist(clients[number % len(clients)], run)
            except BaseException as error:
                wrong.append(f"{run}: {error!r}")
                return
            if result != RESULT:
                wrong.append(f"{run}: {result}")

    threads = [threading.Thread(target=call, args=(number,), daemon=True) for number in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
        if thread.is_alive():
            wrong.append("a caller waits for ever")
    return wrong


class Nuisance:
    """Does something again and again, on a thread, until told to stop."""

    def __init__(self, act: Callable[[Random], None], seed: int) -> None:
        self._act, self._random = act, Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stop.wait(self._random.uniform(0.005, 0.05)):
            self._act(self._random)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A server that may be restarted."""
    made = Cluster()
    made.start()
    yield made
    made.remove()


def terminating(url: str) -> Callable[[Random], None]:
    def act(random: Random) -> None:
        with psycopg.connect(databases.bare(url), autocommit=True) as session:
            found = session.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'mine'").fetchall()
            if found:
                session.execute("SELECT pg_terminate_backend(%s)", random.choice(found))

    return act


@pytest.mark.parametrize("seed", [1, 2])
def test_connections_that_are_terminated_at_random_cost_no_run_and_no_finished_step(
    seed: int, journal: Journal
) -> None:
    url = f"{databases.fresh_url()}&application_name=mine"
    clients = [journal.client(url), journal.client(url)]

    with Nuisance(terminating(url), seed):
        wrong = load(clients, 8, 6)

    for client in clients:
        client.stop()
    assert wrong == []
    journal.check()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_database_that_is_restarted_again_and_again_costs_no_run(
    mode: str, journal: Journal, cluster: Cluster
) -> None:
    clients = [journal.client(cluster.url), journal.client(cluster.url)]
    restarts: list[float] = []

    def restart(random: Random) -> None:
        if not restarts or time.monotonic() > restarts[-1] + 0.5:
            cluster.restart(mode)
            restarts.append(time.monotonic())

    with Nuisance(restart, 1):
        wrong = load(clients, 25, 6)

    for client in clients:
        client.stop()
    assert wrong == []
    assert len(restarts) > 1
    journal.check()


def messages_of_a_run(journal: Journal) -> int:
    """How many messages a client sends for one program, its start included."""
    url = databases.fresh_url()
    proxy = Proxy(databases.port())
    client = journal.client(proxy.url(url))
    insist(client, "counted")
    client.stop()
    proxy.close()
    return proxy.sent


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["message", "answer"])
def test_whichever_message_is_lost_the_program_ends_and_no_finished_step_repeats(lost: str, journal: Journal) -> None:
    total = messages_of_a_run(journal)
    first = 30  # the schema is made by then
    assert total > first + 20

    url = databases.fresh_url()
    journal.client(url).stop()  # makes the schema
    for number in range(5, total, 3):
        proxy = Proxy(databases.port())
        if lost == "message":
            proxy.cut_before = number
        else:
            proxy.cut_after = number
        client = journal.client(proxy.url(url))

        assert insist(client, f"cut-{number}") == RESULT
        client.stop()
        proxy.close()

    journal.check()


def test_a_network_that_is_away_for_a_moment_is_waited_for(journal: Journal) -> None:
    proxy = Proxy(databases.port())
    client = journal.client(proxy.url(databases.fresh_url()))
    assert insist(client, "before") == RESULT
    proxy.refusing = True
    proxy.cut()
    back = threading.Timer(0.5, setattr, (proxy, "refusing", False))
    back.start()

    assert client.run("during", "program", "during") == RESULT  # not a single error is seen

    client.stop()
    proxy.close()
    journal.check()


def test_a_connection_on_which_no_answer_comes_any_more_is_ended_and_the_run_goes_on(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever stands between us takes what it is sent, and stays connected: no system notices that."""
    monkeypatch.setattr(watchdog, "SILENCE", 0.3)
    monkeypatch.setattr(watchdog, "CHECK", 0.05)
    proxy = Proxy(databases.port())
    client = journal.client(f"{proxy.url(databases.fresh_url())}&connect_timeout=2")
    assert insist(client, "before") == RESULT
    proxy.silent.set()
    back = threading.Timer(1.0, proxy.silent.clear)  # for what is connected after that
    back.start()

    assert insist(client, "during") == RESULT

    client.stop()
    proxy.close()
    journal.check()


def test_a_statement_that_waits_for_a_lock_is_not_taken_for_one_without_an_answer(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "SILENCE", 0.3)
    monkeypatch.setattr(watchdog, "CHECK", 0.05)
    looks: list[bool] = []
    works_for = watchdog.Watchdog._works_for

    def noted(self: watchdog.Watchdog, waiting: connection.Connection) -> bool:
        looks.append(works_for(self, waiting))
        return looks[-1]

    monkeypatch.setattr(watchdog.Watchdog, "_works_for", noted)
    url = databases.fresh_url()
    client = journal.client(url)
    insist(client, "first")
    with psycopg.connect(databases.bare(url)) as other:
        other.execute(f"LOCK TABLE {url.partition('schema=')[2]}.promises IN EXCLUSIVE MODE".encode())
        waiting = threading.Thread(target=insist, args=(client, "second"))
        waiting.start()
        until(lambda: len(looks) >= 3)
        assert all(looks)
    waiting.join()

    assert client.run("second", "program", "second") == RESULT
    client.stop()
    journal.check()


def test_a_database_that_stays_away_is_an_error_in_good_time(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.3)
    proxy = Proxy(databases.port())
    client = journal.client(proxy.url(databases.fresh_url()))
    proxy.refusing = True
    proxy.cut()
    began = time.monotonic()

    with pytest.raises(StorageUnavailable, match="cannot be reached") as away:
        client.run("away", "program", "away")

    assert time.monotonic() - began < 10
    assert "goes on by itself" in str(away.value)
    proxy.refusing = False
    assert insist(client, "away") == RESULT
    client.stop()
    proxy.close()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda url: url.replace("://resonate@", "://nobody@"), "nobody"),
        (lambda url: url.replace("/postgres?", "/nowhere?"), "nowhere"),
        (lambda url: url.replace("127.0.0.1", "no-such-host.invalid"), "no-such-host.invalid"),
    ],
)
def test_a_wrong_url_is_an_error_at_once(change: Callable[[str], str], says: str, journal: Journal) -> None:
    url = change(databases.fresh_url())
    if databases.given():
        pytest.skip("needs a server whose users are known")
    began = time.monotonic()

    with pytest.raises(ResonateStoreError, match=says):
        Resonate(url=url).start()

    assert time.monotonic() - began < 5


def test_a_statement_that_is_ended_by_its_timeout_is_an_error_and_the_next_one_goes_through(journal: Journal) -> None:
    url = databases.fresh_url()
    client = journal.client(f"{url}&options=-cstatement_timeout%3D300")
    insist(client, "first")
    schema = url.partition("schema=")[2]
    with psycopg.connect(databases.bare(url)) as other:
        other.execute(f"LOCK TABLE {schema}.promises IN ACCESS EXCLUSIVE MODE".encode())
        with pytest.raises(StorageUnavailable, match="statement_timeout"):
            client.run("second", "program", "second")

    assert insist(client, "second") == RESULT
    client.stop()
    journal.check()


def test_locks_that_somebody_holds_for_a_while_delay_and_nothing_else(journal: Journal) -> None:
    url = databases.fresh_url()
    client = journal.client(url)
    insist(client, "first")
    schema = url.partition("schema=")[2]
    other = psycopg.connect(databases.bare(url))
    other.execute(f"LOCK TABLE {schema}.promises IN EXCLUSIVE MODE".encode())
    threading.Timer(0.3, other.rollback).start()

    assert client.run("second", "program", "second") == RESULT

    other.close()
    client.stop()
    journal.check()


def test_a_deadlock_with_somebody_else_is_a_rerun(journal: Journal) -> None:
    url = f"{databases.fresh_url()}&options=-cdeadlock_timeout%3D50"
    client = journal.client(url)
    schema = url.partition("schema=")[2].partition("&")[0]
    stop = threading.Event()

    def lock_backwards() -> None:
        """Lock what the storage locks, in the opposite order."""
        with psycopg.connect(databases.bare(url), autocommit=True) as session:
            session.execute("SET deadlock_timeout = '20ms'")
            while not stop.is_set():
                try:
                    with session.transaction():
                        session.execute(f"SELECT 1 FROM {schema}.promises ORDER BY id DESC FOR UPDATE".encode())
                        session.execute(f"SELECT 1 FROM {schema}.origins ORDER BY origin DESC FOR UPDATE".encode())
                except psycopg.errors.DeadlockDetected:
                    pass

    thread = threading.Thread(target=lock_backwards)
    thread.start()
    try:
        wrong = load([client], 3, 4)
    finally:
        stop.set()
        thread.join()

    client.stop()
    assert wrong == []
    journal.check()


def test_a_database_that_may_only_be_read_says_so(journal: Journal) -> None:
    url = databases.fresh_url()
    journal.client(url).stop()  # makes the schema
    client = journal.client(f"{url}&options=-cdefault_transaction_read_only%3Don")

    with pytest.raises(StorageUnavailable, match="replica"):
        client.run("r", "program", "r")

    client.stop()


def test_a_role_without_rights_is_told_who_has_to_do_what(journal: Journal) -> None:
    if databases.given():
        pytest.skip("needs a server where roles may be made")
    url = databases.fresh_url()
    with psycopg.connect(databases.bare(url), autocommit=True) as session:
        session.execute("DROP ROLE IF EXISTS guest")
        session.execute("CREATE ROLE guest LOGIN")

    with pytest.raises(StorageUnusable, match="resonate migrate"):
        Resonate(url=url.replace("://resonate@", "://guest@")).start()
