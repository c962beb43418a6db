"""A user's own store and message source behind the client: what is called, what fails, what recovers."""

from __future__ import annotations

import asyncio
import logging
import queue
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resonate import Context, Resonate
from resonate.clock import SettableClock
from resonate.errors import NotSupported, ResonateStoreError
from resonate.handle import Handle
from resonate.models.message_source import MessageSource
from resonate.models.store import Store
from resonate.network import legacy, legacy_tasks
from resonate.network.legacy import LegacyNetwork
from resonate.protocol.records import Execute, Promise, Unblock, Value
from resonate.protocol.requests import (
    PromiseCreate,
    PromiseGet,
    PromiseRegisterCallback,
    PromiseRegisterListener,
    PromiseSearch,
    PromiseSettle,
    PromiseWrite,
    Request,
    Response,
    ScheduleCreate,
    ScheduleDelete,
    ScheduleGet,
    ScheduleSearch,
    TaskAcquire,
    TaskContinue,
    TaskCreate,
    TaskFence,
    TaskFulfill,
    TaskGet,
    TaskHalt,
    TaskHeartbeat,
    TaskRef,
    TaskRelease,
    TaskSearch,
    TaskSuspend,
)
from resonate.stores import LocalStore
from tests.own_store import OwnSource, OwnStore

START = 1_700_000_000_000
LATER = START + 3_600_000
TTL = 10_000
HERE = {"resonate:target": "poll://any@here", "resonate:branch": "root", "resonate:parent": "root"}
LOCAL = {"resonate:branch": "root", "resonate:parent": "root", "resonate:scope": "local"}
ONE = Value(None, "MQ==")


# ---- whole programs ------------------------------------------------------------------------------


def double(ctx: Context, n: int) -> int:
    return 2 * n


def program(ctx: Context, n: int) -> Any:
    """A step, a sleep, a call of another worker, two of them at once."""
    a = yield ctx.run(double, n)
    yield ctx.sleep(0.001)
    b = yield ctx.rpc(double, a)
    first = yield ctx.begin_rpc(double, 1)
    second = yield ctx.begin_rpc(double, 2)
    return [a, b, (yield second), (yield first)]


async def gathering(ctx: Context, n: int) -> list[int]:
    return list(await asyncio.gather(*(ctx.run(double, i) for i in range(n))))


def failing(ctx: Context) -> None:
    raise LookupError("nothing here")


class Program:
    """A client over a user's store; time passes as fast as somebody waits."""

    def __init__(self, world: LocalStore, clock: SettableClock, pid: str = "p1") -> None:
        self.clock = clock
        self.store = OwnStore(world)
        self.source = self.store.source("here", pid)
        self.client = Resonate(group="here", store=self.store, message_source=self.source)
        for function in (double, program, gathering, failing):
            self.client.register(function)

    def outcome(self, handle: Handle[Any]) -> Any:
        """The result of `handle`, with as much time passing as it takes."""
        for _ in range(5_000):
            try:
                return handle.result(timeout=0.002)
            except TimeoutError:
                self.clock.advance(0.1)
        raise AssertionError(f"{handle.id} does not end: {self.store.log[-20:]}")


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock(time.time_ns() // 1_000_000)


@pytest.fixture
def world(clock: SettableClock) -> Iterator[LocalStore]:
    made = LocalStore(clock=clock)
    yield made
    made.stop()


@pytest.fixture
def mine(world: LocalStore, clock: SettableClock) -> Iterator[Program]:
    made = Program(world, clock)
    yield made
    made.client.stop()


def test_a_program_runs_over_a_users_own_store(mine: Program) -> None:
    handle = mine.client.begin_run("i", program, 3)

    assert mine.outcome(handle) == [6, 12, 4, 2]
    assert mine.client.run("i", program, 3) == [6, 12, 4, 2]
    assert mine.client.run("g", gathering, 3) == [0, 2, 4]
    assert mine.outcome(mine.client.begin_rpc("d", double, 4)) == 8


def test_an_error_comes_back_as_itself_over_a_users_own_store(mine: Program) -> None:
    with pytest.raises(LookupError, match="nothing here"):
        mine.outcome(mine.client.options(timeout=0.5).begin_run("f", failing))


def test_a_one_step_run_makes_the_calls_an_old_client_makes_and_one_for_the_journal(mine: Program) -> None:
    def one_step(ctx: Context) -> Any:
        return (yield ctx.run(double, 1))

    mine.client.register(one_step)
    mine.client.run("i", one_step)

    assert [(name, given["id"]) for name, given in mine.store.log] == [
        ("promises.create_with_task", "i"),
        ("promises.create", "i:journal1"),
        ("promises.create", "i:1"),
        ("promises.resolve", "i:1"),
        ("promises.resolve", "i"),
        ("tasks.complete", "i"),
    ]


def test_the_stores_own_records_have_the_names_and_keys_that_old_readers_know(mine: Program) -> None:
    mine.outcome(mine.client.begin_run("i", program, 3))

    created = {call["id"]: call for method, call in mine.store.log if method.startswith("promises.create")}
    assert created["i"]["tags"]["resonate:invoke"] == created["i"]["tags"]["resonate:target"] == "poll://any@here"
    assert created["i"]["tags"]["resonate:root"] == "i"
    assert created["i:2"]["tags"]["resonate:timeout"] == created["i:2"]["tags"]["resonate:timer"] == "true"
    assert created["i:3"]["tags"]["resonate:invoke"] == "poll://any@here"
    assert all(call["ikey"] == call["id"] for _, call in mine.store.log if "ikey" in call)


def calls_of_a_run() -> int:
    """How many calls the program makes of a store when nothing fails."""
    clock = SettableClock(time.time_ns() // 1_000_000)
    world = LocalStore(clock=clock)
    mine = Program(world, clock)
    mine.outcome(mine.client.begin_run("i", program, 3))
    mine.client.stop()
    world.stop()
    return len(mine.store.log)


@pytest.mark.slow
@pytest.mark.parametrize("lost", [False, True], ids=["refused", "answer lost"])
def test_whichever_call_fails_the_program_ends_with_its_result(lost: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "resonate")
    for failing_call in range(calls_of_a_run()):
        clock = SettableClock(time.time_ns() // 1_000_000)
        world = LocalStore(clock=clock)
        mine = Program(world, clock)
        mine.store.fail_at(failing_call, lost)

        try:
            handle = mine.client.begin_run("i", program, 3)
        except ResonateStoreError:
            handle = mine.client.begin_run("i", program, 3)

        assert mine.outcome(handle) == [6, 12, 4, 2], f"call {failing_call}: {mine.store.log[failing_call]}"
        mine.client.stop()
        world.stop()


def test_another_process_goes_on_where_a_dead_one_stopped(
    mine: Program, world: LocalStore, clock: SettableClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "resonate")
    ran: list[str] = []
    reached: queue.Queue[str] = queue.Queue()
    go: queue.Queue[str] = queue.Queue()

    def step(ctx: Context, name: str) -> str:
        ran.append(name)
        return name

    def last(ctx: Context, name: str) -> str:
        reached.put(name)
        go.get(timeout=10)
        return name

    def long(ctx: Context) -> Any:
        a = yield ctx.run(step, "a")
        b = yield ctx.run(step, "b").options(id="an id of its own")
        c = yield ctx.run(last, "c")
        return a + b + c

    other = Program(world, clock, "p2")
    mine.client.register(long)
    other.client.register(long)
    mine.client.begin_run("i", long)
    reached.get(timeout=10)
    mine.store.die()
    other.client.start()

    handle = other.client.get("i")
    go.put("for the dead one")
    go.put("for the other one")

    assert other.outcome(handle) == "abc"
    assert ran == ["a", "b"]
    other.client.stop()


def test_promises_by_hand_keep_their_keys_in_the_users_own_store(mine: Program, world: LocalStore) -> None:
    promises = mine.client.promises

    promises.create("p", LATER + 2**42, ikey="k", data="1", tags={"mine": "yes"})
    promise = promises.create("p", LATER + 2**42, ikey="k")
    promise.resolve("2", ikey="r")

    assert (promise.param.data, promise.value.data, promise.tags) == ("1", "2", {"mine": "yes"})
    assert (promise.ikey_for_create, promise.ikey_for_complete) == ("k", "r")
    assert mine.store.log[0][1]["ikey"] == "k"
    assert promises.resolve("p", ikey="r", data="3").value.data == "2"
    refusals: list[Callable[[], object]] = [
        lambda: promises.create("p", LATER, ikey="other"),
        lambda: promises.create("p", LATER),
        lambda: promises.resolve("p"),
        lambda: promises.reject("p", ikey="r", strict=True),
    ]
    for refused in refusals:
        with pytest.raises(ResonateStoreError) as error:
            refused()
        assert error.value.code == 100.40399
    with pytest.raises(ResonateStoreError, match="not found") as missing:
        promises.get("q")
    assert missing.value.code == 100.404


def test_search_is_not_offered_by_a_users_own_store(mine: Program) -> None:
    with pytest.raises(NotSupported, match="OwnStore offers no search"):
        mine.client.promises.search()
    with pytest.raises(NotSupported, match="OwnStore offers no search"):
        mine.client.schedules.search()


def test_schedules_are_kept_by_the_users_own_store(mine: Program, world: LocalStore) -> None:
    schedules = mine.client.schedules

    created = schedules.create("s", "* * * * *", "{{.id}}.{{.timestamp}}", 1000, ikey="k", promise_data="1")

    assert schedules.get("s") == created
    assert world.schedules.get("s").promise_id == "s.{{.timestamp}}"
    assert world.schedules.get("s").promise_param.data == "1"
    with pytest.raises(ResonateStoreError, match="Schedule already exists"):
        schedules.create("s", "* * * * *", "x", 1000)
    schedules.delete("s")
    with pytest.raises(ResonateStoreError, match="not found"):
        schedules.delete("s")


@pytest.mark.parametrize("part", ["encoder", "promises", "tasks", "schedules"])
def test_a_store_that_lacks_a_part_is_refused_at_once(part: str) -> None:
    store = OwnStore()
    delattr(store, part)

    with pytest.raises(TypeError, match="store must be `Store"):
        Resonate(store=store, message_source=store.source())


def test_a_message_source_that_lacks_a_method_is_refused_at_once() -> None:
    class Deaf:
        unicast = anycast = "poll://any@g"

    with pytest.raises(TypeError, match="message_source must be `MessageSource"):
        Resonate(store=OwnStore(), message_source=Deaf())


def test_our_own_local_store_is_a_store_and_has_a_message_source() -> None:
    store = LocalStore()

    assert isinstance(store, Store)
    assert isinstance(store.message_source("g", "p"), MessageSource)
    assert not store.running


# ---- request by request ----------------------------------------------------------------------------


class Bench:
    """One network over a user's store, and time that stands still."""

    def __init__(self, world: LocalStore, clock: SettableClock, pid: str = "w") -> None:
        self.store = OwnStore(world)
        self.source = self.store.source("here", pid)
        self.network = LegacyNetwork(self.store, self.source, "here", pid, clock)
        self.pid = pid
        self.woken: queue.Queue[None] = queue.Queue()
        self.network.listen(lambda: self.woken.put(None))

    def send(self, request: Request) -> Response:
        return self.network.send([request])[0]

    def root(self) -> Response:
        """A held root."""
        return self.send(TaskCreate(self.pid, TTL, PromiseCreate("root", LATER, ONE, HERE)))

    def heard(self) -> Any:
        """The next message."""
        while not (messages := self.network.take(1)):
            self.woken.get(timeout=10)
        return messages[0]

    def fence(self, action: Any, version: int = 1) -> Response:
        return self.send(TaskFence("root", version, action, False))


class Still(SettableClock):
    """A clock that stands at START, for leases too."""

    def __init__(self) -> None:
        super().__init__(START)


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> Still:
    made = Still()
    monkeypatch.setattr("resonate.network.legacy_tasks.time.monotonic", lambda: made.now() / 1000)
    return made


@pytest.fixture
def earth(still: Still) -> Iterator[LocalStore]:
    made = LocalStore(clock=still)
    yield made
    made.stop()


@pytest.fixture
def bench(earth: LocalStore, still: Still) -> Iterator[Bench]:
    made = Bench(earth, still)
    made.network.start()
    yield made
    made.network.stop()


def test_a_root_is_created_with_its_task_and_read_back(bench: Bench) -> None:
    answer = bench.root()

    assert answer.status == 200
    assert answer.task is not None
    assert (answer.task.state, answer.task.version, answer.task.pid, answer.task.ttl) == ("acquired", 1, "w", TTL)
    assert answer.promise == Promise("root", "pending", ONE, Value(), HERE, LATER, START)
    assert bench.send(PromiseGet("root")).promise == answer.promise
    assert bench.send(TaskGet("root")).task == answer.task


def test_creating_a_root_that_exists_says_whose_it_is(bench: Bench, earth: LocalStore) -> None:
    bench.root()
    earth.promises.create("bare", LATER)
    done = bench.send(TaskCreate("w", TTL, PromiseCreate("done", START, ONE, HERE)))

    assert bench.root().status == 409
    assert bench.send(TaskCreate("w", TTL, PromiseCreate("bare", LATER, ONE, HERE))).status == 422
    assert done.promise is not None
    assert done.promise.state == "rejected_timedout"
    assert done.task is not None
    assert done.task.state == "fulfilled"


def test_promises_are_created_read_and_settled_by_id_alone(bench: Bench) -> None:
    first = bench.send(PromiseCreate("p", LATER, ONE))
    again = bench.send(PromiseCreate("p", LATER + 1))
    settled = bench.send(PromiseSettle("p", "rejected", ONE))

    assert first.promise == again.promise
    assert settled.promise is not None
    assert (settled.promise.state, settled.promise.value, settled.promise.settled_at) == ("rejected", ONE, START)
    assert bench.send(PromiseSettle("p", "resolved")).promise == settled.promise
    assert bench.send(PromiseCreate("p", LATER)).promise == settled.promise


def test_what_others_settled_or_created_under_another_key_is_joined(bench: Bench, earth: LocalStore) -> None:
    earth.promises.create("p", LATER, ikey="theirs")
    earth.promises.cancel("p", ikey="theirs", data='"v"')

    created, settled = bench.send(PromiseCreate("p", LATER)), bench.send(PromiseSettle("p", "resolved"))

    assert created.promise is not None
    assert created.promise.state == "rejected_canceled"
    assert settled.promise == created.promise


def test_the_key_of_a_store_is_shown_as_tag_where_it_is_not_the_id(bench: Bench) -> None:
    given: Any = bench.store.promises

    def create(**arguments: Any) -> Any:
        return given._store.world.promises.create(**{**arguments, "ikey": "theirs"})

    record = create(id="p", timeout=LATER, tags={"resonate:invoke": "there"})
    foreign = Relabelled(record, "theirs", {"resonate:invoke": "there"})
    bench.store.promises = Fixed(foreign)

    promise = bench.send(PromiseGet("p")).promise

    assert promise is not None
    assert promise.tags["resonate:py:ikey"] == "theirs"
    assert promise.tags["resonate:target"] == "poll://any@there"


class Relabelled:
    """A record as another implementation may have it: nothing of ours on it."""

    def __init__(self, record: Any, key: str, tags: dict[str, str] | None) -> None:
        self._record = record
        self.ikey_for_create = key
        self.tags = tags

    def __getattr__(self, name: str) -> Any:
        return getattr(self._record, name)


class Fixed:
    """Promises of which every one is the same."""

    def __init__(self, record: Any) -> None:
        self._record = record

    def get(self, id: str) -> Any:
        return self._record


def test_a_deadline_that_the_store_has_not_noticed_counts(bench: Bench, still: Still) -> None:
    late = Late(bench.send(PromiseCreate("p", START + 5)))
    bench.store.promises = Fixed(late)
    still.set(START + 5)

    promise = bench.send(PromiseGet("p")).promise

    assert promise is not None
    assert promise.state == "rejected_timedout"
    assert promise.settled_at == START + 5


class Late:
    """A promise that its store still shows as pending."""

    id = "p"
    state = "PENDING"
    timeout = START + 5
    ikey_for_create = ikey_for_complete = "p"
    tags = None
    created_on = START
    completed_on = None

    def __init__(self, answer: Response) -> None:
        self.param = self.value = type("Value", (), {"headers": {}, "data": None})


def test_what_is_not_there_answers_404(bench: Bench) -> None:
    for request in (
        PromiseGet("p"),
        PromiseSettle("p", "resolved"),
        PromiseRegisterListener("p", bench.network.unicast()),
        PromiseRegisterCallback("p", "root"),
        TaskGet("p"),
        ScheduleGet("s"),
        ScheduleDelete("s"),
    ):
        answer = bench.send(request)
        assert answer.status == 404
        assert answer.error


def test_searches_answer_501(bench: Bench) -> None:
    for request in (PromiseSearch(), TaskSearch(), ScheduleSearch()):
        assert bench.send(request).status == 501


def test_a_schedule_is_created_once_and_read_back(bench: Bench) -> None:
    request = ScheduleCreate("s", "* * * * *", "{{.id}}-{{.timestamp}}", 1000, ONE, HERE)

    first = bench.send(request).schedule
    again = bench.send(ScheduleCreate("s", "0 * * * *", "x", 1, ONE, HERE)).schedule

    assert first is not None
    assert first == again == bench.send(ScheduleGet("s")).schedule
    assert (first.cron, first.promise_id, first.promise_timeout) == ("* * * * *", "s-{{.timestamp}}", 1000)
    assert (first.promise_param.data, first.promise_tags) == ("MQ==", HERE)
    assert (first.created_at, first.next_run_at, first.last_run_at) == (START, 1_700_000_040_000, None)
    assert bench.send(ScheduleDelete("s")).status == 200


# ---- tasks, request by request -----------------------------------------------------------------------


def test_a_fence_creates_settles_and_does_both(bench: Bench) -> None:
    bench.root()

    created = bench.fence(PromiseCreate("root:1", LATER, ONE, LOCAL)).action
    settled = bench.fence(PromiseSettle("root:1", "resolved", ONE)).action
    written = bench.fence(
        PromiseWrite(PromiseCreate("root:2", LATER, ONE, LOCAL), PromiseSettle("root:2", "rejected", ONE))
    ).action
    found = bench.fence(
        PromiseWrite(PromiseCreate("root:2", LATER, ONE, LOCAL), PromiseSettle("root:2", "resolved", ONE))
    ).action
    missing = bench.fence(PromiseSettle("root:3", "resolved")).action

    assert [answer.promise.state for answer in (created, settled, written, found)] == [  # type: ignore[union-attr]
        "pending",
        "resolved",
        "rejected",
        "rejected",
    ]
    assert missing is not None
    assert missing.status == 404


@pytest.mark.parametrize("version", [0, 2])
def test_a_request_of_another_version_is_refused(bench: Bench, version: int) -> None:
    bench.root()

    for request in (
        TaskFence("root", version, PromiseCreate("root:1", LATER), False),
        TaskFulfill("root", version, PromiseSettle("root", "resolved")),
        TaskSuspend("root", version, (PromiseRegisterCallback("p", "root"),)),
        TaskRelease("root", version),
    ):
        assert bench.send(request).status == 409
    assert bench.send(PromiseGet("root:1")).status == 404


def test_a_chain_ends_at_the_first_answer_that_does_not_hold(bench: Bench) -> None:
    bench.root()
    bench.fence(PromiseCreate("root:1", LATER, ONE, LOCAL))
    bench.send(PromiseSettle("root:1", "rejected"))

    answers = bench.network.send(
        [
            TaskFence("root", 1, PromiseSettle("root:1", "resolved", ONE), False),
            TaskFulfill("root", 1, PromiseSettle("root", "resolved")),
        ],
        chain=True,
    )

    assert len(answers) == 1
    assert bench.send(PromiseGet("root")).promise.state == "pending"  # type: ignore[union-attr]


def test_fulfilling_settles_the_root_and_completes_its_task(bench: Bench) -> None:
    bench.root()

    answer = bench.send(TaskFulfill("root", 1, PromiseSettle("root", "resolved", ONE)))

    assert answer.promise is not None
    assert (answer.promise.state, answer.promise.value) == ("resolved", ONE)
    assert bench.store.calls["tasks.complete"] == 1
    assert bench.send(TaskFulfill("root", 1, PromiseSettle("root", "resolved", ONE))).status == 409
    assert bench.send(TaskGet("root")).status == 404


def test_fulfilling_what_somebody_else_settled_is_refused(bench: Bench, earth: LocalStore) -> None:
    bench.root()
    earth.promises.cancel("root")

    assert bench.send(TaskFulfill("root", 1, PromiseSettle("root", "resolved", ONE))).status == 409
    assert bench.fence(PromiseCreate("root:1", LATER)).status == 409


def suspended(bench: Bench, *awaited: str) -> Response:
    actions = tuple(PromiseRegisterCallback(id, "root") for id in awaited)
    return bench.send(TaskSuspend("root", 1, actions))


def test_a_suspended_root_is_resumed_as_its_next_version_when_what_it_awaits_is_settled(bench: Bench) -> None:
    bench.root()
    bench.send(PromiseCreate("leaf", LATER, tags={"resonate:scope": "global"}))

    assert suspended(bench, "leaf").status == 200
    assert bench.send(TaskGet("root")).task.state == "suspended"  # type: ignore[union-attr]
    bench.send(PromiseSettle("leaf", "resolved"))
    offer = bench.heard()
    answer = bench.send(TaskAcquire(offer.id, offer.version, "w", TTL, preload=False))

    assert offer == Execute("root", 1)
    assert answer.task is not None
    assert (answer.task.version, answer.task.state) == (2, "acquired")
    assert answer.resumed == ("leaf",)


def test_suspending_on_what_is_settled_goes_on(bench: Bench) -> None:
    bench.root()
    bench.send(PromiseCreate("leaf", LATER, tags={"resonate:scope": "global"}))
    bench.send(PromiseSettle("leaf", "resolved"))

    assert suspended(bench, "leaf").status == 300
    assert bench.fence(PromiseCreate("root:1", LATER)).status == 200


def test_suspending_on_what_is_not_there_is_refused(bench: Bench) -> None:
    bench.root()

    assert suspended(bench, "leaf").status == 422


def test_suspending_a_task_that_the_store_took_away_is_refused(bench: Bench) -> None:
    bench.root()
    bench.send(PromiseCreate("leaf", LATER, tags={"resonate:scope": "global"}))
    bench.store.failing["tasks.complete"] = [ResonateStoreError("already claimed", 40305)]

    assert suspended(bench, "leaf").status == 409
    assert bench.fence(PromiseCreate("root:1", LATER)).status == 409


def test_a_second_callback_that_fires_while_the_root_is_held_changes_nothing(bench: Bench) -> None:
    bench.root()
    for leaf in ("leaf1", "leaf2"):
        bench.send(PromiseCreate(leaf, LATER, tags={"resonate:scope": "global"}))
    suspended(bench, "leaf1", "leaf2")
    bench.send(PromiseSettle("leaf1", "resolved"))
    first = bench.heard()
    bench.send(TaskAcquire(first.id, first.version, "w", TTL))
    bench.source.enqueue({"type": "resume", "task": {"id": "__resume:root:leaf2", "counter": 1}})
    bench.store.tasks = Second(bench.store.tasks, bench.store.world)

    second = bench.heard()
    answer = bench.send(TaskAcquire(second.id, second.version, "w", TTL))

    assert second == Execute("root", 2)
    assert answer.status == 409
    assert bench.store.tasks.completed == [("__resume:root:leaf2", 1)]
    assert bench.fence(PromiseCreate("root:1", LATER, ONE, LOCAL), version=2).status == 200


class Second:
    """Tasks of a store in which each callback is a task of its own."""

    def __init__(self, inner: Any, world: LocalStore) -> None:
        self._inner = inner
        self._world = world
        self.completed: list[tuple[str, int]] = []

    def claim(self, *, id: str, counter: int, pid: str, ttl: int) -> Any:
        return self._world.promises.get("root"), self._world.promises.get("leaf2")

    def complete(self, *, id: str, counter: int) -> bool:
        self.completed.append((id, counter))
        return True

    def heartbeat(self, *, pid: str) -> int:
        return 1


def test_a_task_whose_id_tells_nothing_is_acquired_under_its_own(bench: Bench) -> None:
    bench.send(PromiseCreate("root", LATER, ONE, HERE))
    bench.heard()
    bench.source.enqueue({"type": "resume", "task": {"id": "__t17", "counter": 1}})
    bench.store.tasks = Second(bench.store.tasks, Only(bench.store.world))  # type: ignore[arg-type]

    offer = bench.heard()
    answer = bench.send(TaskAcquire(offer.id, offer.version, "w", TTL))

    assert offer == Execute("__t17", 0)
    assert answer.promise is not None
    assert answer.promise.id == "root"
    assert answer.task is not None
    assert (answer.task.id, answer.task.version) == ("root", 1)


class Only:
    """A world in which every promise is the root."""

    def __init__(self, world: LocalStore) -> None:
        self.promises = Fixed(world.promises.get("root"))


def test_an_offer_is_acquired_once(bench: Bench) -> None:
    bench.send(PromiseCreate("root", LATER, ONE, HERE))
    offer = bench.heard()

    assert bench.send(TaskAcquire(offer.id, offer.version, "w", TTL)).status == 200
    assert bench.send(TaskAcquire(offer.id, offer.version, "w", TTL)).status == 409


def test_an_offer_that_somebody_else_took_is_refused(bench: Bench, earth: LocalStore) -> None:
    bench.send(PromiseCreate("root", LATER, ONE, HERE))
    offer = bench.heard()
    earth.tasks.claim("root", 1, "other", TTL)

    assert bench.send(TaskAcquire(offer.id, offer.version, "w", TTL)).status == 409


def test_the_offer_of_a_root_that_is_over_is_completed(bench: Bench, still: Still) -> None:
    bench.send(PromiseCreate("root", START + 5, ONE, HERE))
    offer = bench.heard()
    bench.store.tasks = Second(bench.store.tasks, bench.store.world)
    bench.send(PromiseCreate("leaf2", LATER))
    bench.send(PromiseSettle("root", "resolved"))

    assert bench.send(TaskAcquire(offer.id, offer.version, "w", TTL)).status == 409
    assert bench.store.tasks.completed == [("__invoke:root", 1)]


def test_a_released_root_is_offered_again_after_a_moment(bench: Bench, still: Still) -> None:
    bench.root()

    assert bench.send(TaskRelease("root", 1)).status == 200
    assert bench.fence(PromiseCreate("root:1", LATER)).status == 409
    still.set(START + legacy_tasks.AGAIN)
    offer = bench.heard()

    assert offer == Execute("root", 1)
    assert bench.send(TaskAcquire("root", 1, "w", TTL)).task.version == 2  # type: ignore[union-attr]


def test_a_release_outlives_timers_that_are_over_too_soon(bench: Bench, still: Still) -> None:
    bench.root()
    hurry = Hurry(bench.store.promises, still)
    bench.store.promises = hurry

    assert bench.send(TaskRelease("root", 1)).status == 200
    assert hurry.timers == 3


def test_a_release_that_cannot_be_arranged_is_an_error_and_is_made_up_for_later(bench: Bench, still: Still) -> None:
    bench.root()
    real = bench.store.promises
    bench.store.promises = Hurry(real, still, late=99)

    with pytest.raises(ResonateStoreError, match="'root' could not be released"):
        bench.send(TaskRelease("root", 1))
    bench.store.promises = real
    bench.send(TaskHeartbeat("w", ()))
    still.set(still.now() + legacy_tasks.AGAIN)

    assert bench.heard() == Execute("root", 1)


class Hurry:
    """Promises whose timers are over before a callback is registered on them, the first `late` of them."""

    def __init__(self, inner: Any, clock: SettableClock, late: int = 2) -> None:
        self._inner = inner
        self._clock = clock
        self._late = late
        self.timers = 0

    def create(self, **given: Any) -> Any:
        created = self._inner.create(**given)
        self.timers += 1
        if self.timers <= self._late:
            self._clock.set(given["timeout"])
        return created

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_a_halted_root_waits_until_it_is_continued(bench: Bench, still: Still) -> None:
    bench.root()

    assert bench.send(TaskContinue("root")).status == 409
    assert bench.send(TaskHalt("root")).status == 200
    assert bench.send(TaskGet("root")).task.state == "halted"  # type: ignore[union-attr]
    assert bench.send(TaskHalt("root")).status == 409
    assert bench.send(TaskContinue("root")).status == 200
    still.set(START + legacy_tasks.AGAIN)

    assert bench.heard() == Execute("root", 1)


def test_a_lease_that_was_not_renewed_in_time_is_not_trusted_and_given_back(bench: Bench, still: Still) -> None:
    bench.root()
    still.set(START + TTL - 1)
    assert bench.fence(PromiseCreate("root:1", LATER)).status == 200

    bench.send(TaskHeartbeat("w", (TaskRef("root", 1),)))
    still.set(START + TTL)
    assert bench.fence(PromiseCreate("root:2", LATER)).status == 200

    still.set(START + 2 * TTL)
    assert bench.fence(PromiseCreate("root:3", LATER)).status == 409
    assert bench.send(TaskGet("root")).task.state == "suspended"  # type: ignore[union-attr]


def test_a_heartbeat_gives_back_what_was_claimed_although_the_answer_was_lost(bench: Bench, still: Still) -> None:
    bench.send(PromiseCreate("root", LATER, ONE, HERE))
    offer = bench.heard()
    bench.store.lost.append("tasks.claim")
    with pytest.raises(ResonateStoreError):
        bench.send(TaskAcquire(offer.id, offer.version, "w", TTL))

    bench.send(TaskHeartbeat("w", ()))
    still.set(START + legacy_tasks.AGAIN)

    assert bench.heard() == Execute("root", 0)
    assert bench.send(TaskAcquire("root", 0, "w", TTL)).status == 200


def test_a_heartbeat_goes_out_although_nothing_can_be_given_back(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.store.failing["promises.create_with_task"] = [ResonateStoreError("no connection", 0)]
    with pytest.raises(ResonateStoreError):
        bench.root()
    bench.store.failing["promises.get"] = [ResonateStoreError("no connection", 0)]

    bench.send(TaskHeartbeat("w", ()))
    bench.send(TaskHeartbeat("w", ()))

    assert bench.store.calls["tasks.heartbeat"] == 2
    assert bench.store.calls["promises.get"] == 2
    assert "root is still claimed and cannot be given back yet" in caplog.text


# ---- the journal -----------------------------------------------------------------------------------------


def test_who_takes_over_gets_every_recorded_child(earth: LocalStore, still: Still, bench: Bench) -> None:
    bench.root()
    bench.network.send(
        [
            TaskFence("root", 1, PromiseCreate("root:2", LATER, ONE, LOCAL), False),
            TaskFence(
                "root",
                1,
                PromiseWrite(PromiseCreate("root:1", LATER, ONE, LOCAL), PromiseSettle("root:1", "resolved", ONE)),
                False,
            ),
            TaskFence("root", 1, PromiseCreate("root:3", LATER, ONE, {**LOCAL, "resonate:branch": "root:3"}), False),
        ]
    )
    bench.fence(PromiseCreate("any name", LATER, ONE, LOCAL))
    bench.store.failing["promises.create"] = [None, ResonateStoreError("no connection", 0)]
    with pytest.raises(ResonateStoreError):
        bench.fence(PromiseCreate("root:9", LATER, ONE, LOCAL))
    bench.network.stop()
    other = Bench(earth, still, "other")
    other.network.start()
    still.set(START + TTL)

    offer = other.heard()
    answer = other.send(TaskAcquire(offer.id, offer.version, "other", TTL))

    assert [promise.id for promise in answer.preload] == ["any name", "root:1", "root:2"]
    assert [promise.state for promise in answer.preload] == ["pending", "resolved", "pending"]
    other.network.stop()


def test_a_page_that_could_not_be_written_leaves_no_gap(bench: Bench) -> None:
    bench.root()
    bench.store.failing["promises.create"] = [ResonateStoreError("no connection", 0)]
    with pytest.raises(ResonateStoreError):
        bench.fence(PromiseCreate("root:1", LATER, ONE, LOCAL))

    bench.fence(PromiseCreate("root:1", LATER, ONE, LOCAL))

    assert bench.send(PromiseGet("root:journal1")).promise is not None


def test_a_page_of_a_holder_before_us_is_kept(bench: Bench) -> None:
    bench.root()
    bench.send(PromiseCreate("root:journal1", LATER, ONE))

    bench.fence(PromiseCreate("root:1", LATER, ONE, LOCAL))

    assert bench.send(PromiseGet("root:journal1")).promise.param == ONE  # type: ignore[union-attr]
    assert bench.send(PromiseGet("root:journal2")).promise is not None


def test_nothing_is_written_down_for_a_root_that_is_not_held(bench: Bench) -> None:
    assert bench.fence(PromiseCreate("root:1", LATER, ONE, LOCAL)).status == 409
    assert bench.store.log == []


# ---- messages and life -----------------------------------------------------------------------------------


def test_a_listener_hears_of_the_settlement(bench: Bench) -> None:
    bench.send(PromiseCreate("p", LATER, tags={"resonate:scope": "global"}))

    answer = bench.send(PromiseRegisterListener("p", bench.network.unicast()))
    settled = bench.send(PromiseSettle("p", "resolved", Value({"h": "1"}, "MQ=="))).promise

    assert answer.promise is not None
    assert answer.promise.state == "pending"
    assert bench.heard() == Unblock(settled)  # type: ignore[arg-type]
    assert bench.store.log[1][1]["id"] == "w"


def test_somebody_elses_address_listens_under_its_own_name(bench: Bench) -> None:
    bench.send(PromiseCreate("p", LATER, tags={"resonate:scope": "global"}))

    bench.send(PromiseRegisterListener("p", "poll://uni@there/x"))

    assert bench.store.log[1][1]["id"] == bench.store.log[1][1]["recv"] == "poll://uni@there/x"


def test_addresses_of_the_own_group_are_the_message_sources(bench: Bench) -> None:
    assert bench.network.unicast() == "poll://uni@here/w"
    assert bench.network.anycast("here") == "poll://any@here/w"
    assert bench.network.anycast("there") == "poll://any@there"


def test_messages_are_taken_up_to_a_limit(bench: Bench) -> None:
    for id in ("a", "b", "c"):
        bench.send(PromiseCreate(id, LATER, ONE, {**HERE, "resonate:parent": id, "resonate:branch": id}))
    for _ in range(3):
        bench.woken.get(timeout=10)

    assert [message.id for message in bench.network.take(2)] == ["a", "b"]  # type: ignore[union-attr]
    assert [message.id for message in bench.network.take(2)] == ["c"]  # type: ignore[union-attr]
    assert bench.network.take(2) == []


def test_an_unknown_message_is_left_alone(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.source.enqueue({"type": "gossip"})
    bench.source.enqueue({"type": "invoke", "task": {"id": "x", "counter": 1}})

    assert bench.heard() == Execute("x", 0)
    assert "unknown type 'gossip'" in caplog.text


def test_a_message_source_that_fails_is_asked_again(
    earth: LocalStore, still: Still, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(legacy, "PAUSE", 0)
    bench = Bench(earth, still)
    bench.source.failing.append(OSError("connection reset"))
    bench.network.start()
    bench.network.start()

    bench.send(PromiseCreate("root", LATER, ONE, HERE))

    assert bench.heard() == Execute("root", 0)
    assert "connection reset" in caplog.text
    bench.network.stop()
    bench.network.stop()
    assert (bench.source.started, bench.source.stopped) == (1, 1)


def test_stopping_what_was_never_started_does_nothing(earth: LocalStore, still: Still) -> None:
    bench = Bench(earth, still)

    bench.network.stop()

    assert bench.source.stopped == 0


def test_stopping_does_not_wait_for_a_source_that_never_returns(
    earth: LocalStore, still: Still, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stuck(OwnSource):
        def stop(self) -> None:
            """Forgets to have `next` return."""

    monkeypatch.setattr(legacy, "JOIN", 0.01)
    source = Stuck(OwnStore(earth), "here", "w")
    network = LegacyNetwork(OwnStore(earth), source, "here", "w", still)
    network.start()

    network.stop()

    source._inner.stop()


def test_a_bug_of_the_store_is_an_error_that_names_it(bench: Bench) -> None:
    bench.store.failing["promises.get"] = [KeyError("oops")]

    with pytest.raises(ResonateStoreError, match="OwnStore raised KeyError for PromiseGet: 'oops'") as raised:
        bench.send(PromiseGet("p"))

    assert isinstance(raised.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("promises.get", PromiseGet("p")),
        ("promises.create", PromiseCreate("p", LATER)),
        ("promises.create_with_task", TaskCreate("w", TTL, PromiseCreate("p", LATER, ONE, HERE))),
        ("promises.resolve", PromiseSettle("p", "resolved")),
        ("promises.callback", PromiseRegisterCallback("p", "root")),
        ("promises.subscribe", PromiseRegisterListener("p", "poll://uni@here/w")),
        ("tasks.heartbeat", TaskHeartbeat("w", ())),
        ("schedules.get", ScheduleGet("s")),
        ("schedules.delete", ScheduleDelete("s")),
    ],
)
def test_an_unexpected_refusal_is_raised_as_it_is(bench: Bench, method: str, request_: Request) -> None:
    error = ResonateStoreError("no connection", 0)
    bench.store.failing[method] = [error]

    with pytest.raises(ResonateStoreError) as raised:
        bench.send(request_)

    assert raised.value is error


def test_an_event_loop_is_not_blocked_by_a_store(bench: Bench) -> None:
    bench.root()

    async def ask() -> list[Response]:
        return await bench.network.asend([PromiseGet("root")])

    assert asyncio.run(ask())[0].status == 200
    assert not bench.network.inline


def test_now_never_goes_backwards(bench: Bench, still: Still) -> None:
    still.set(START + 10)
    assert bench.network.now() == START + 10

    still.set(START)

    assert bench.network.now() == START + 10
