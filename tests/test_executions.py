"""Executions are found by an index: the right ones on every storage, and none of the others is looked at."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from resonate.clock import SettableClock
from resonate.errors import StorageUnusable
from resonate.execution.records import CALL_TAG, identity
from resonate.protocol.listing import PHASES, Phase, Wanted, clip
from resonate.protocol.records import ORIGIN, PARENT, TARGET, Promise, Value
from resonate.protocol.requests import (
    ExecutionCount,
    ExecutionFailures,
    ExecutionSearch,
    ExecutionTree,
    GroupSearch,
    PromiseCreate,
    PromiseRegisterCallback,
    PromiseSettle,
    Request,
    Response,
    TaskAcquire,
    TaskCreate,
    TaskFulfill,
    TaskGet,
    TaskHalt,
    TaskHeartbeat,
    TaskRef,
    TaskRelease,
    TaskSuspend,
)
from resonate.protocol.rows import PromiseRow, TaskRow
from resonate.service.service import Service
from resonate.storage import codec, executions
from resonate.storage.base import Storage
from resonate.storage.executions import FUNCTION, GROUP, LABEL, PHASE, PREFIX, Source
from resonate.storage.memory import MemoryStorage
from resonate.storage.postgres import executions as postgres_executions
from resonate.storage.postgres import schema as postgres_schema
from resonate.storage.postgres.location import parse as postgres_location
from resonate.storage.postgres.storage import PostgresStorage
from resonate.storage.sqlite import executions as sqlite_executions
from resonate.storage.sqlite import schema as sqlite_schema
from resonate.storage.sqlite.location import parse as sqlite_location
from resonate.storage.sqlite.storage import SqliteStorage
from resonate.values.payload import pack
from tests import databases

FAR = 10**14
FUNCTIONS = ["charge", "ship", "a function with | in its name"]
GROUPS = ["shop", "depot"]
HOMES = ["memory", "file", "postgres"]


def made(home: str, directory: Path) -> Storage:
    if home == "memory":
        return MemoryStorage()
    if home == "file":
        return SqliteStorage(sqlite_location(f"sqlite:///{directory}/app.db?synchronous=off"))
    return PostgresStorage(postgres_location(databases.fresh_url()))


@pytest.fixture(params=HOMES)
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    storage = made(request.param, tmp_path)
    yield Service(storage, SettableClock())
    storage.close()


@dataclass
class One:
    """An execution as the test knows it."""

    id: str
    begun: int
    function: str
    group: str
    phase: str = "pending"
    tags: dict[str, str] = field(default_factory=dict)


def ask(service: Service, *requests: Request) -> list[Response]:
    answers = service.handle(requests)
    assert all(answer.error is None for answer in answers), answers
    return answers


def begin(service: Service, one: One) -> None:
    tags = {
        TARGET: f"poll://any@{one.group}",
        CALL_TAG: identity("root", 1, "", one.function, "-"),
        **one.tags,
    }
    ask(service, PromiseCreate(one.id, FAR, tags=tags))


def advance(service: Service, one: One, phase: str) -> None:
    """Have `one`, which is pending, come into `phase`."""
    one.phase = phase
    if phase == "pending":
        return
    if phase == "halted":
        ask(service, TaskHalt(one.id))
    elif phase in ("rejected", "rejected_canceled"):
        error = {"name": "KeyError", "message": "x", "stack": ""} if one.function == "charge" else {"message": "y"}
        value = Value(data=pack(msgspec.json.encode(error))) if phase == "rejected" else Value()
        ask(service, PromiseSettle(one.id, phase, value))  # type: ignore[arg-type]
    else:
        version = ask(service, TaskGet(one.id))[0].task.version  # type: ignore[union-attr]
        ask(service, TaskAcquire(one.id, version, "pid", 10**9, False))
        if phase == "suspended":
            wait = PromiseCreate(f"{one.id}:1", FAR, tags={"resonate:external": "true", ORIGIN: one.id, PARENT: one.id})
            ask(service, wait, TaskSuspend(one.id, version + 1, (PromiseRegisterCallback(wait.id, one.id),), False))
        elif phase == "resolved":
            ask(service, TaskFulfill(one.id, version + 1, PromiseSettle(one.id, "resolved")))


def some(service: Service, seed: int, count: int) -> list[One]:
    """Executions of all kinds, as they come."""
    pick = random.Random(seed)
    clock = service.clock
    assert isinstance(clock, SettableClock)
    found = []
    for number in range(count):
        clock.advance(pick.choice([0, 0, 0.001, 1]))
        tags = {"shop": pick.choice("ab")} if pick.random() < 0.7 else {}
        if pick.random() < 0.2:
            tags["long"] = "x" * 500 + pick.choice("ab")
        one = One(
            f"{pick.choice(['o', 'p-', 'o-x'])}{number}",
            service.now(),
            pick.choice(FUNCTIONS),
            pick.choice(GROUPS),
            tags=tags,
        )
        begin(service, one)
        found.append(one)
        if pick.random() < 0.3:
            ask(service, PromiseCreate(f"{one.id}:7", FAR, tags={ORIGIN: one.id, PARENT: one.id}))  # a step: not listed
    for one in found:
        phases = [phase for phase in PHASES if phase not in ("rejected_timedout", "pending")]
        advance(service, one, pick.choice([*phases, "pending", "resolved"]))
    return found


def fits(one: One, wanted: Wanted) -> bool:
    return (
        (wanted.phases is None or one.phase in wanted.phases)
        and wanted.function in (None, one.function)
        and wanted.group in (None, one.group)
        and one.id.startswith(wanted.prefix or "")
        and (wanted.since is None or one.begun >= wanted.since)
        and (wanted.until is None or one.begun < wanted.until)
        and all(one.tags.get(name) == value for name, value in (wanted.tags or {}).items())
    )


def filters(known: list[One], seed: int) -> list[Wanted]:
    """All combinations of filters, each with values that some execution has."""
    pick = random.Random(seed)
    names = ["phases", "function", "group", "tags", "prefix", "since", "until"]
    found = []
    for size in range(len(names) + 1):
        for chosen in combinations(names, size):
            one = pick.choice(known)
            values: dict[str, Any] = {
                "phases": (one.phase, pick.choice(PHASES)) if pick.random() < 0.5 else (one.phase,),
                "function": one.function,
                "group": one.group,
                "tags": one.tags or {"shop": "none"},
                "prefix": one.id[:2],
                "since": pick.choice(known).begun,
                "until": pick.choice(known).begun + 1,
            }
            found.append(Wanted(**{name: values[name] for name in chosen}))
    return found


def found_by(service: Service, wanted: Wanted, limit: int) -> list[str]:
    """The ids of all pages."""
    ids: list[str] = []
    cursor = None
    while True:
        (page,) = ask(service, ExecutionSearch(wanted, limit, cursor))
        assert page.promises is not None
        assert len(page.promises) <= limit
        ids += [promise.id for promise in page.promises]
        cursor = page.cursor
        if cursor is None:
            return ids


def test_every_combination_of_filters_finds_what_it_should_in_order_page_by_page(service: Service) -> None:
    known = some(service, 1, 60)
    newest = sorted(known, key=lambda one: (one.begun, one.id), reverse=True)

    for number, wanted in enumerate(filters(known, 2)):
        expected = [one for one in newest if fits(one, wanted)]
        assert found_by(service, wanted, 1 + number % 9) == [one.id for one in expected], wanted
        (counted,) = ask(service, ExecutionCount(wanted))
        counts: dict[str, int] = {}
        for one in expected:
            counts[one.phase] = counts.get(one.phase, 0) + 1
        assert counted.counts == {"": counts}, wanted
        assert not counted.partial


def test_functions_and_groups_are_counted_apart(service: Service) -> None:
    known = some(service, 3, 40)

    for by in ("function", "group"):
        expected: dict[str, dict[str, int]] = {}
        for one in known:
            phases = expected.setdefault(getattr(one, by), {})
            phases[one.phase] = phases.get(one.phase, 0) + 1
        assert ask(service, ExecutionCount(by=by))[0].counts == expected


def test_counts_say_when_they_have_not_been_counted_to_the_end(service: Service) -> None:
    for number in range(5):
        begin(service, One(f"o-{number}", 0, "charge", "shop", tags={"shop": "a"}))

    assert ask(service, ExecutionCount(most=3))[0].counts == {"": {"pending": 4}}
    assert ask(service, ExecutionCount(Wanted(tags={"shop": "a"}), most=10))[0].partial is False


def test_a_search_that_finds_next_to_nothing_is_bounded_and_goes_on(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executions, "EXAMINED", 6)
    monkeypatch.setattr(executions, "WEIGHED", (2,))
    for number in range(20):
        begin(service, One(f"o-{number:02}", 0, "charge", "shop" if number else "depot", tags={"shop": "a"}))

    wanted = Wanted(group="depot", tags={"shop": "a"}, function="charge")
    (first,) = ask(service, ExecutionSearch(wanted, 1))
    assert found_by(service, wanted, 1) == ["o-00"]
    assert first.promises is not None


def test_what_failed_alike_is_found_together(service: Service) -> None:
    known = some(service, 4, 60)
    failed = [one for one in known if one.phase == "rejected"]

    found = ask(service, ExecutionFailures(shown=3))[0].failures
    assert found is not None
    assert {(one.function, one.fault): one.count for one in found} == {
        (function, "KeyError|" if function == "charge" else "Error|"): sum(one.function == function for one in failed)
        for function in {one.function for one in failed}
    }
    for fault in found:
        newest = sorted(
            (o for o in failed if o.function == fault.function), key=lambda o: (o.begun, o.id), reverse=True
        )
        assert fault.ids == [one.id for one in newest[:3]]


def test_groups_tell_what_waits_since_when_and_who_holds_what(service: Service) -> None:
    clock = service.clock
    assert isinstance(clock, SettableClock)
    begin(service, One("first", 0, "charge", "shop"))
    since = service.now()
    clock.advance(5)
    for id, phase in (("second", "pending"), ("third", "acquired"), ("fourth", "halted"), ("fifth", "resolved")):
        one = One(id, 0, "charge", "shop")
        begin(service, one)
        advance(service, one, phase)
    begin(service, One("other", 0, "charge", "depot"))

    answer = ask(service, GroupSearch())[0]
    assert answer.groups is not None
    assert answer.holders is not None
    assert {load.group: load.counts for load in answer.groups} == {
        "shop": {"pending": 2, "acquired": 1, "halted": 1},
        "depot": {"pending": 1},
    }
    assert next(load.oldest for load in answer.groups if load.group == "shop") == since
    (holder,) = answer.holders
    assert (holder.pid, holder.group, holder.leases, holder.ttl) == ("pid", "shop", 1, 10**9)
    assert holder.seen_at == service.now()


def waiting_since(service: Service) -> int | None:
    loads = ask(service, GroupSearch())[0].groups
    assert loads is not None
    return loads[0].oldest


def test_what_is_taken_and_given_back_unrun_has_waited_all_the_while(service: Service) -> None:
    clock = service.clock
    assert isinstance(clock, SettableClock)
    one = One("lost", 0, "lost", "shop")
    begin(service, one)
    begun = service.now()

    for version in (1, 2):
        clock.advance(20)
        advance(service, one, "acquired")
        ask(service, TaskRelease("lost", version))
        assert waiting_since(service) == begun
    clock.advance(20)
    advance(service, one, "acquired")
    clock.advance(20)
    ask(service, TaskHeartbeat("pid", (TaskRef("lost", 3),)))
    held = service.now()
    clock.advance(1)
    ask(service, TaskRelease("lost", 3))
    assert waiting_since(service) == held  # somebody ran it until then


def test_what_comes_back_waits_from_when_it_came_back(service: Service) -> None:
    clock = service.clock
    assert isinstance(clock, SettableClock)
    one = One("asks", 0, "asks", "shop")
    begin(service, one)
    advance(service, one, "suspended")
    clock.advance(20)

    ask(service, PromiseSettle("asks:1", "resolved"))

    assert waiting_since(service) == service.now()


def test_a_tree_is_read_page_by_page_with_what_only_names_it_as_parent(service: Service) -> None:
    begin(service, One("o", 0, "charge", "shop"))
    begin(service, One("o-x", 0, "charge", "shop"))
    for number in range(1, 6):
        ask(service, PromiseCreate(f"o:{number}", FAR, tags={ORIGIN: "o", PARENT: "o"}))
    chosen = [PromiseCreate("chosen", FAR, tags={PARENT: "o:3"}), PromiseCreate("strange", FAR, tags={PARENT: "o-x"})]
    service.handle(chosen, trusted=True)  # as a program in this process does that chooses the ids of its calls

    ids: list[str] = []
    cursor, pages = None, 0
    while pages == 0 or cursor is not None:
        (page,) = ask(service, ExecutionTree("o", 2, cursor))
        ids += [promise.id for promise in page.promises or ()]
        cursor, pages = page.cursor, pages + 1

    assert sorted(ids) == ["chosen", "o", "o:1", "o:2", "o:3", "o:4", "o:5"]
    assert pages == 3
    assert [promise.id for promise in ask(service, ExecutionTree("o-x"))[0].promises or ()] == ["o-x", "strange"]


def test_what_is_purged_is_listed_no_more(service: Service) -> None:
    one = One("o", 0, "charge", "shop", tags={"shop": "a"})
    begin(service, one)
    ask(service, ExecutionSearch())
    advance(service, one, "resolved")
    assert found_by(service, Wanted(), 5) == ["o"]

    service.purger.purge("o")

    assert found_by(service, Wanted(), 5) == []
    assert found_by(service, Wanted(tags={"shop": "a"}), 5) == []
    assert ask(service, ExecutionCount())[0].counts == {"": {}}


def test_an_execution_of_any_client_has_its_function(service: Service) -> None:
    param = Value(data=pack(b'{"func":"theirs","args":[1]}'))
    ask(service, PromiseCreate("o", FAR, param, {TARGET: "poll://any@shop"}))

    assert found_by(service, Wanted(function="theirs"), 5) == ["o"]


def test_texts_of_any_length_are_told_apart(service: Service) -> None:
    names = ["ü" * 700 + end for end in "ab"] + ["nul\0byte"]
    for number, name in enumerate(names):
        begin(
            service,
            One(f"o-{number}", 0, name.replace("\0", "-"), "shop", tags={name[:900]: name} if number < 2 else {}),
        )

    assert found_by(service, Wanted(function=names[1]), 5) == ["o-1"]
    assert found_by(service, Wanted(tags={names[0]: names[0]}), 5) == ["o-0"]
    assert len(clip(names[0]).encode()) <= 120


# Plans.


def sources() -> list[Source]:
    return [
        Source(PHASE),
        Source(FUNCTION, "charge"),
        Source(GROUP, "shop"),
        Source(LABEL, "shop", "a"),
        Source(PREFIX, "o-1234"),
        Source(PREFIX, "o:1"),
    ]


def test_a_file_is_searched_by_index_alone(tmp_path: Path) -> None:
    storage = made("file", tmp_path)
    assert isinstance(storage, SqliteStorage)
    index = sqlite_executions.SqliteExecutions(storage._connection.execute)
    asked: list[tuple[str, Any]] = []
    execute = storage._connection.execute

    def noted(statement: str, parameters: Any = ()) -> Any:
        asked.append((statement, parameters))
        return execute(statement, parameters)

    index._execute = noted
    for source in sources():
        for phases in (("resolved",), PHASES):
            for since, before in ((None, None), (5, None), (None, (9, "o")), (5, (9, "o"))):
                index.newest(source, phases, since, before, 10)
        index.count(source, "resolved", None, None, 10)
    index.labelled(["o-1"], "shop", "a")
    index.names(FUNCTION, 10)
    index.names(GROUP, 10)
    index.faults(10, 10, 10)
    index.loads(10)
    index.holders(10)
    storage.below("o:", "o;")
    storage.strays("o", "o")

    for statement, parameters in asked:
        steps = [row[3] for row in execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
        looks = [step for step in steps if step.startswith(("SCAN", "SEARCH"))]
        read = [step for step in looks if "resonate_" in step or step.split()[1] in ("l", "e")]
        assert read, statement
        for step in read:
            covered = step.startswith("SEARCH") or "resonate_tasks USING INDEX resonate_tasks_pid" in step
            if "json_each" in statement:  # each by its key: an index by value would read all that have it
                covered = "USING PRIMARY KEY (id=?" in step
            assert covered, (statement, step)
        if "ORDER BY" in statement and "WHERE id >=" not in statement and "UNION ALL" not in statement:
            assert not any("TEMP B-TREE" in step for step in steps), (statement, steps)
    storage.close()


def filled(url: str) -> str:
    """A schema with 30,000 executions; the name of it."""
    location = postgres_location(url)
    PostgresStorage(location).close()
    with psycopg.connect(databases.bare(url), autocommit=True) as session:
        session.execute(
            f"""
            INSERT INTO {location.schema}.executions
            SELECT 'o-' || n, 'o-' || n, n, (%s::text[])[1 + n %% 8], 'f' || n %% 50, 'g' || n %% 20,
                CASE WHEN n %% 8 = 5 THEN 'E|' || n %% 9 END
            FROM generate_series(1, 30000) n""",
            (list(PHASES),),
        )
        session.execute(
            f"INSERT INTO {location.schema}.labels "
            f"SELECT origin, id, 'shop', 's' || begun % 40, begun FROM {location.schema}.executions"
        )
        session.execute(f"ANALYZE {location.schema}.executions, {location.schema}.labels")
    return location.schema


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
def test_a_database_is_searched_by_index_alone(mode: str) -> None:
    url = databases.fresh_url()
    name = filled(url)
    with psycopg.connect(databases.bare(url), autocommit=True) as session:
        session.execute(f"SET plan_cache_mode = {mode}")

        def plan(statement: str, parameters: Any) -> str:
            rows = session.execute(f"EXPLAIN {statement}".encode(), parameters).fetchall()
            return "\n".join(row[0] for row in rows)

        asked: list[tuple[str, Any]] = []

        def noted(statement: str, parameters: Any = ()) -> Any:
            asked.append((statement, parameters))
            return session.execute(statement.encode(), parameters, prepare=True).fetchall()

        index = postgres_executions.PostgresExecutions(noted, name)
        phases: list[tuple[Phase, ...]] = [("resolved",), PHASES]
        for source in sources():
            for some_phases in phases:
                for before in (None, (9000, "o")):
                    index.newest(source, some_phases, None, before, 10)
            index.count(source, "resolved", None, None, 10)
        index.labelled([f"o-{number}" for number in range(50)], "shop", "s1")
        index.names(FUNCTION, 10)
        index.names(GROUP, 10)
        index.faults(3, 10, 10)

        for statement, parameters in asked:
            shown = plan(statement, parameters)
            assert "Seq Scan on executions" not in shown, (statement, shown)
            assert "Seq Scan on labels" not in shown, (statement, shown)


# Migrations.


def old_rows() -> list[tuple[PromiseRow, TaskRow | None]]:
    """What a storage of an older version holds: an execution of each phase, and a step."""
    rows: list[tuple[PromiseRow, TaskRow | None]] = []
    for number, phase in enumerate(PHASES):
        id = f"o-{number}"
        settled = phase not in ("pending", "acquired", "suspended", "halted")
        tags = {
            TARGET: "poll://any@shop",
            CALL_TAG: identity("root", 1, "", f"f{number % 2}", "-"),
            "shop": "a",
            "n": str(number),
        }
        value = Value(data=pack(b'{"name":"KeyError","message":"x"}')) if phase == "rejected" else Value()
        state: Any = phase if settled else "pending"
        promise = Promise(id, state, Value(), value, tags, FAR, number, number if settled else None)
        task_state: Any = "fulfilled" if settled else phase
        pid = "pid" if phase == "acquired" else None
        rows.append((PromiseRow(promise), TaskRow(id, task_state, 1, "poll://any@shop", pid, 5, FAR if pid else None)))
    step = Promise("o-0:1", "pending", Value(), Value(), {ORIGIN: "o-0", PARENT: "o-0"}, FAR, 0)
    return [*rows, (PromiseRow(step), None)]


def old_task(task: TaskRow) -> bytes:
    """A task's blob without what was added later."""
    return msgspec.msgpack.encode(msgspec.msgpack.decode(codec.encode_task(task))[:8])


def check_migrated(storage: Storage) -> None:
    service = Service(storage, SettableClock())
    assert found_by(service, Wanted(), 3) == [f"o-{number}" for number in reversed(range(len(PHASES)))]
    for number, phase in enumerate(PHASES):
        assert found_by(service, Wanted(phases=(phase,)), 3) == [f"o-{number}"]
        assert found_by(service, Wanted(tags={"n": str(number), "shop": "a"}), 3) == [f"o-{number}"]
    assert found_by(service, Wanted(function="f1", group="shop"), 10) == ["o-7", "o-5", "o-3", "o-1"]
    faults = ask(service, ExecutionFailures())[0].failures
    assert faults is not None
    assert [(fault.function, fault.fault, fault.ids) for fault in faults] == [("f1", "KeyError|", ["o-5"])]
    groups = ask(service, GroupSearch())[0].groups
    assert groups is not None
    assert [group.counts for group in groups] == [{"pending": 1, "acquired": 1, "suspended": 1, "halted": 1}]
    begin(service, One("new", 0, "f1", "shop"))
    assert found_by(service, Wanted(phases=("pending",)), 5)[-1] == "o-0"


def test_a_file_of_an_older_version_lists_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE resonate_schema (version INTEGER NOT NULL)")
        database.execute("INSERT INTO resonate_schema VALUES (3)")
        for name in ("resonate_over", "resonate_stray_of", "resonate_begun"):
            database.create_function(name, 3, lambda *row: None)
        for statement in (statement for part in sqlite_schema.MIGRATIONS[:3] for statement in part):
            database.execute(statement)
        for row, task in old_rows():
            promise = row.promise
            begun = promise.created_at if task is not None else None
            database.execute(
                "INSERT INTO resonate_promises (id, state, begun, body) VALUES (?, ?, ?, ?)",
                (promise.id, promise.state, begun, codec.encode_promise(row)),
            )
            if task is not None:
                database.execute(
                    "INSERT INTO resonate_tasks (id, state, due, pid, body) VALUES (?, ?, ?, ?, ?)",
                    (task.id, task.state, task.expires_at, task.pid, old_task(task)),
                )
    storage = SqliteStorage(sqlite_location(f"sqlite:///{path}?synchronous=off"))
    check_migrated(storage)
    storage.close()


def test_a_schema_of_an_older_version_lists_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    url = databases.fresh_url()
    location = postgres_location(url)
    with monkeypatch.context() as patched:
        patched.setattr(postgres_schema, "MIGRATIONS", postgres_schema.MIGRATIONS[:1])
        PostgresStorage(location).close()
    with psycopg.connect(databases.bare(url), autocommit=True) as session:
        for row, task in old_rows():
            promise = row.promise
            origin = promise.id.partition(":")[0]
            begun = promise.created_at if task is not None else None
            session.execute(f"INSERT INTO {location.schema}.origins VALUES (%s, 1) ON CONFLICT DO NOTHING", (origin,))
            session.execute(
                f"INSERT INTO {location.schema}.promises (origin, id, state, begun, body) VALUES (%s, %s, %s, %s, %s)",
                (origin, promise.id, promise.state, begun, codec.encode_promise(row)),
            )
            if task is not None:
                session.execute(
                    f"INSERT INTO {location.schema}.tasks VALUES (%s, %s, %s, %s, %s, %s)",
                    (origin, task.id, task.state, task.expires_at, task.pid, old_task(task)),
                )
    storage = PostgresStorage(location)
    check_migrated(storage)
    storage.close()

    with monkeypatch.context() as patched:
        patched.setattr(postgres_schema, "MIGRATIONS", postgres_schema.MIGRATIONS[:1])
        with pytest.raises(StorageUnusable, match="newer version of resonate"):
            PostgresStorage(location)


def test_a_task_that_is_created_with_its_promise_is_listed_as_running(service: Service) -> None:
    create = PromiseCreate("o", FAR, tags={TARGET: "poll://any@shop"})
    ask(service, TaskCreate("pid", 1000, create, False))

    assert found_by(service, Wanted(phases=("acquired",)), 5) == ["o"]
