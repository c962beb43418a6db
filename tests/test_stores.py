"""The low-level clients and the shared local store: keys, strictness, records, tasks, schedules."""

from __future__ import annotations

import asyncio
import json
import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from resonate import Context, Resonate
from resonate.clock import SettableClock
from resonate.errors import ClientStopped, InvalidId, NotSupported, ResonateStoreError
from resonate.message_sources import LocalMessageSource, Poller
from resonate.network.embedded import EmbeddedNetwork
from resonate.network.marks import MARK
from resonate.protocol.records import Unblock, Value
from resonate.protocol.requests import (
    PromiseCreate,
    PromiseSearch,
    PromiseSettle,
    Request,
    Response,
    ScheduleCreate,
    TaskAcquire,
    TaskCreate,
    TaskFulfill,
    TaskGet,
    TaskSuspend,
)
from resonate.stores import (
    Callback,
    DurablePromise,
    DurablePromiseValue,
    LocalStore,
    PromiseClient,
    RemoteStore,
    Schedule,
    ScheduleClient,
    TaskClient,
    network_for,
)
from resonate.stores.tasks import CLAIMS

START = 1_700_000_000_000
LATER = START + 60_000
HERE = {"resonate:target": "poll://any@here"}


class Awaited:
    """The awaitable form of a client, each call awaited in a loop of its own."""

    def __init__(self, client: Any) -> None:
        self._aio = client.aio

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            return asyncio.run(getattr(self._aio, method)(*args, **kwargs))

        return call


class World:
    """A store whose time stands still, and its clients, called in one of two ways."""

    def __init__(self, form: Callable[[Any], Any]) -> None:
        self.clock = SettableClock(START)
        self.store = LocalStore(clock=self.clock)
        self.promises: PromiseClient = form(self.store.promises)
        self.tasks: TaskClient = form(self.store.tasks)
        self.schedules: ScheduleClient = form(self.store.schedules)

    def send(self, request: Request) -> Response:
        """What anybody else on the store does, who knows nothing of keys."""
        return self.store.service.handle([request])[0]


@pytest.fixture(params=[lambda client: client, Awaited], ids=["blocking", "awaited"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(request.param)
    yield made
    made.store.stop()


def code_of(refused: pytest.ExceptionInfo[ResonateStoreError]) -> float:
    return refused.value.code


# ---- promises: creating ------------------------------------------------------------------------


def test_a_created_promise_has_everything_that_was_given(world: World) -> None:
    promise = world.promises.create("p", LATER, ikey="k", headers={"h": "1"}, data='{"ä": 1}', tags={"mine": "yes"})

    assert promise.id == "p"
    assert promise.state == "PENDING"
    assert promise.timeout == LATER
    assert promise.ikey_for_create == "k"
    assert promise.ikey_for_complete is None
    assert promise.param == DurablePromiseValue({"h": "1"}, '{"ä": 1}')
    assert promise.value == DurablePromiseValue(None, None)
    assert promise.tags == {"mine": "yes"}
    assert promise.created_on == START
    assert promise.completed_on is None
    assert (promise.abs_timeout, promise.rel_timeout) == (LATER / 1000, 60.0)


def test_a_promise_reads_as_it_was_created(world: World) -> None:
    created = world.promises.create("p", LATER, data="1")

    assert world.promises.get("p") == created


def test_reading_what_is_not_there_is_refused(world: World) -> None:
    with pytest.raises(ResonateStoreError, match="The specified promise was not found: p") as refused:
        world.promises.get("p")

    assert code_of(refused) == 100.404


@pytest.mark.parametrize(
    ("recorded", "asked", "strict", "settled", "joins"),
    [
        (None, None, False, False, False),
        (None, "k", False, False, False),
        ("k", None, False, False, False),
        ("k", "other", False, False, False),
        ("k", "k", False, False, True),
        ("k", "k", True, False, True),
        ("k", "k", False, True, True),
        ("k", "k", True, True, False),
        ("", "", False, False, True),
    ],
)
def test_creating_again_joins_by_key_and_strictly_only_while_pending(
    world: World, recorded: str | None, asked: str | None, strict: bool, settled: bool, joins: bool
) -> None:
    world.promises.create("p", LATER, ikey=recorded, data="first")
    if settled:
        world.promises.resolve("p")

    if joins:
        assert world.promises.create("p", 1, ikey=asked, strict=strict, data="second").param.data == "first"
    else:
        with pytest.raises(ResonateStoreError, match="'p'") as refused:
            world.promises.create("p", 1, ikey=asked, strict=strict, data="second")
        assert code_of(refused) == 100.40399
    assert world.promises.get("p").param.data == "first"


def test_of_many_creators_without_key_exactly_one_succeeds() -> None:
    store = LocalStore()
    outcomes: list[str] = []

    def create() -> None:
        try:
            store.promises.create("p", 2**53, data="same")
            outcomes.append("created")
        except ResonateStoreError:
            outcomes.append("refused")

    threads = [threading.Thread(target=create) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["created"] + ["refused"] * 15
    store.stop()


def test_a_deadline_in_the_past_is_over_at_once(world: World) -> None:
    promise = world.promises.create("p", START - 1, ikey="k")

    assert promise.timedout
    assert promise.completed
    assert promise.completed_on == START - 1
    assert world.promises.create("p", START - 1, ikey="k").timedout


def test_a_promise_of_other_writers_has_no_key_to_join_by(world: World) -> None:
    world.send(PromiseCreate("p", LATER))

    assert world.promises.get("p").ikey_for_create is None
    with pytest.raises(ResonateStoreError) as refused:
        world.promises.create("p", LATER, ikey="p")
    assert code_of(refused) == 100.40399


def test_the_promise_of_an_execution_has_its_id_as_key(world: World) -> None:
    world.send(
        TaskCreate("w", 1000, PromiseCreate("p", LATER, Value(), {**HERE, "resonate:parent": "p"})),
    )
    world.send(TaskFulfill("p", 1, PromiseSettle("p", "resolved", Value(None, "MQ=="))))

    promise = world.promises.get("p")

    assert (promise.ikey_for_create, promise.ikey_for_complete) == ("p", "p")
    assert world.promises.create("p", LATER, ikey="p").value.data == "1"
    assert world.promises.resolve("p", ikey="p").value.data == "1"


def test_an_execution_with_a_key_of_its_own_shows_it(world: World) -> None:
    tags = {**HERE, "resonate:parent": "p", "resonate:py:ikey": "order-7"}
    world.send(PromiseCreate("p", LATER, Value(), tags))

    assert world.promises.get("p").ikey_for_create == "order-7"
    assert world.promises.create("p", LATER, ikey="order-7").id == "p"


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"resonate:scope": "local"},
        {"resonate:external": "true", "resonate:scope": "global"},
        {"resonate:target": "poll://any@here"},
        {"resonate:invoke": "here", "mine": ""},
        {"resonate:timeout": "true"},
        {"resonate:timer": "true"},
    ],
)
def test_tags_are_shown_as_they_were_given(world: World, tags: dict[str, str]) -> None:
    world.promises.create("p", LATER, tags=tags)

    assert world.promises.get("p").tags == tags


def test_an_untargeted_promise_can_be_awaited_from_outside(world: World) -> None:
    world.promises.create("p", LATER)

    _, callback = world.promises.subscribe("s", "p", "poll://uni@here/w", LATER)

    assert callback is not None


@pytest.mark.parametrize("name", ["resonate:timer", "resonate:timeout"])
def test_the_deadline_of_a_timer_resolves_it(world: World, name: str) -> None:
    world.promises.create("p", LATER, tags={name: "true"})
    world.clock.set(LATER)

    promise = world.promises.get("p")

    assert promise.resolved
    assert promise.ikey_for_complete is None


@pytest.mark.parametrize("target", ["here", "poll://here", "local://any@here", "poll://any@here"])
def test_a_target_of_the_old_name_gives_the_promise_a_task(world: World, target: str) -> None:
    world.promises.create("p", LATER, tags={"resonate:invoke": target})

    stored = world.send(PromiseSearch()).promises
    assert stored is not None
    assert stored[0].tags["resonate:target"] == "poll://any@here"
    assert world.send(TaskGet("p")).task is not None


def test_a_web_address_as_old_target_stays(world: World) -> None:
    world.promises.create("p", LATER, tags={"resonate:invoke": "https://example.org/hook"})

    stored = world.send(PromiseSearch()).promises
    assert stored is not None
    assert stored[0].tags["resonate:target"] == "https://example.org/hook"


# ---- promises: with a task -----------------------------------------------------------------------


def test_creating_with_task_takes_the_task_of_a_new_promise_only(world: World) -> None:
    promise, task = world.promises.create_with_task("p", LATER, "w", 1000, ikey="k", tags=HERE)
    again, none = world.promises.create_with_task("p", LATER, "w", 1000, ikey="k", tags=HERE)

    assert promise.pending
    assert task is not None
    assert (task.id, task.counter) == ("p", 1)
    assert world.send(TaskGet("p")).task.pid == "w"  # type: ignore[union-attr]
    assert again == promise
    assert none is None


def test_creating_with_task_leaves_the_waiting_task_of_an_existing_promise_alone(world: World) -> None:
    world.promises.create("p", LATER, ikey="k", tags=HERE)

    _, task = world.promises.create_with_task("p", LATER, "w", 1000, ikey="k", tags=HERE)

    assert task is None
    assert world.send(TaskGet("p")).task.state == "pending"  # type: ignore[union-attr]


def test_creating_with_task_without_target_just_creates(world: World) -> None:
    promise, task = world.promises.create_with_task("p", LATER, "w", 1000)

    assert promise.pending
    assert task is None


def test_creating_with_task_past_the_deadline_gives_no_task(world: World) -> None:
    promise, task = world.promises.create_with_task("p", START, "w", 1000, tags=HERE)

    assert promise.timedout
    assert task is None


class Interleaved(EmbeddedNetwork):
    """A network on which somebody else gets in just before a request of one kind."""

    def __init__(self, store: LocalStore, before: type, other: Callable[[], object]) -> None:
        super().__init__(store.service, "g", "p")
        self._before = before
        self._other = other

    def send(self, requests: Sequence[Request], *, chain: bool = False) -> list[Response]:
        if any(type(request) is self._before for request in requests):
            self._other()
        return super().send(requests, chain=chain)


def test_whoever_loses_the_race_to_create_with_task_gives_the_others_task_back() -> None:
    store = LocalStore(clock=SettableClock(START))
    network = Interleaved(store, TaskCreate, lambda: store.promises.create("p", LATER, ikey="k", tags=HERE))

    promise, task = PromiseClient(network).create_with_task("p", LATER, "w", 1000, ikey="k", tags=HERE)

    assert promise.id == "p"
    assert task is None
    assert store.service.handle([TaskGet("p")])[0].task.state == "pending"  # type: ignore[union-attr]
    store.stop()


def test_whoever_loses_the_race_against_a_holder_gets_the_promise_alone() -> None:
    store = LocalStore(clock=SettableClock(START))
    network = Interleaved(
        store, TaskCreate, lambda: store.promises.create_with_task("p", LATER, "other", 1000, ikey="k", tags=HERE)
    )

    promise, task = PromiseClient(network).create_with_task("p", LATER, "w", 1000, ikey="k", tags=HERE)

    assert promise.pending
    assert task is None
    assert store.service.handle([TaskGet("p")])[0].task.pid == "other"  # type: ignore[union-attr]
    store.stop()


# ---- promises: settling --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "state"), [("resolve", "RESOLVED"), ("reject", "REJECTED"), ("cancel", "REJECTED_CANCELED")]
)
def test_settling_stores_state_value_and_key(world: World, method: str, state: str) -> None:
    world.promises.create("p", LATER)
    world.clock.set(START + 5)

    promise = getattr(world.promises, method)("p", ikey="done", headers={"h": "1"}, data='"v"')

    assert promise == world.promises.get("p")
    assert promise.state == state
    assert promise.value == DurablePromiseValue({"h": "1"}, '"v"')
    assert promise.ikey_for_complete == "done"
    assert promise.completed_on == START + 5


@pytest.mark.parametrize(
    ("recorded", "asked", "method", "strict", "joins"),
    [
        (None, None, "resolve", False, False),
        (None, "k", "resolve", False, False),
        ("k", None, "resolve", False, False),
        ("k", "other", "resolve", False, False),
        ("k", "k", "resolve", False, True),
        ("k", "k", "reject", False, True),
        ("k", "k", "resolve", True, True),
        ("k", "k", "cancel", True, False),
    ],
)
def test_settling_again_joins_by_key_and_strictly_only_to_the_same_state(
    world: World, recorded: str | None, asked: str | None, method: str, strict: bool, joins: bool
) -> None:
    world.promises.create("p", LATER)
    world.promises.resolve("p", ikey=recorded, data="first")

    if joins:
        assert getattr(world.promises, method)("p", ikey=asked, strict=strict, data="second").value.data == "first"
    else:
        with pytest.raises(ResonateStoreError, match="'p' is resolved already") as refused:
            getattr(world.promises, method)("p", ikey=asked, strict=strict, data="second")
        assert code_of(refused) == 100.40399
    assert world.promises.get("p").value.data == "first"


def test_settling_after_the_deadline_shows_the_timeout_and_strictly_is_refused(world: World) -> None:
    world.promises.create("p", LATER)
    world.clock.set(LATER)

    assert world.promises.resolve("p", data="1").timedout
    with pytest.raises(ResonateStoreError, match="timed out") as refused:
        world.promises.resolve("p", strict=True, data="1")
    assert code_of(refused) == 100.40303


def test_settling_what_is_not_there_is_refused(world: World) -> None:
    with pytest.raises(ResonateStoreError, match="not found: p") as refused:
        world.promises.resolve("p")

    assert code_of(refused) == 100.404


def test_a_settlement_of_other_writers_has_no_key(world: World) -> None:
    world.promises.create("p", LATER)
    world.send(PromiseSettle("p", "resolved"))

    assert world.promises.get("p").ikey_for_complete is None
    with pytest.raises(ResonateStoreError):
        world.promises.resolve("p", ikey="k")


@pytest.mark.parametrize("data", [None, "", "null", '"ü€"', "no json"])
def test_data_comes_back_as_the_text_it_was(world: World, data: str | None) -> None:
    world.promises.create("p", LATER, data=data)

    assert world.promises.resolve("p", data=data).value.data == data
    assert world.promises.get("p").param.data == data


@pytest.mark.parametrize("stored", ["plain text", "/w==", "=not base64="])
def test_data_that_others_stored_in_another_form_is_shown_as_it_is(world: World, stored: str) -> None:
    world.send(PromiseCreate("p", LATER, Value(None, stored)))

    assert world.promises.get("p").param.data == stored


# ---- promises: records ----------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "flag"), [("resolve", "resolved"), ("reject", "rejected"), ("cancel", "canceled")])
def test_a_record_settles_itself_and_shows_it(world: World, method: str, flag: str) -> None:
    promise = world.promises.create("p", LATER)

    assert getattr(promise, method)("1", ikey="k", headers={"h": "2"}) is None

    assert getattr(promise, flag)
    assert promise.completed
    assert promise == world.promises.get("p")


def test_exactly_one_of_a_records_states_holds(world: World) -> None:
    flags = ("pending", "resolved", "rejected", "canceled", "timedout")
    promises = [world.promises.create(name, LATER) for name in ("a", "b", "c", "d")]
    promises[1].resolve()
    promises[2].reject()
    promises[3].cancel()
    promises.append(world.promises.create("e", START))

    assert [[flag for flag in flags if getattr(promise, flag)] for promise in promises] == [[flag] for flag in flags]


def test_records_compare_by_what_they_show_and_cannot_be_keys(world: World) -> None:
    promise = world.promises.create("p", LATER)
    world.promises.create("q", LATER)

    assert promise == world.promises.get("p")
    assert promise != world.promises.get("q")
    assert promise != "p"
    assert repr(promise) == f"DurablePromise(id='p', state=PENDING, timeout={LATER}, tags={{}})"
    with pytest.raises(TypeError):
        hash(promise)


# ---- promises: waiting -------------------------------------------------------------------------------


def test_a_subscriber_is_told_once_the_promise_is_settled(world: World) -> None:
    network = EmbeddedNetwork(world.store.service, "here", "w")
    network.listen(lambda: None)
    network.start()
    world.promises.create("p", LATER)

    promise, callback = world.promises.subscribe("s", "p", "local://uni@here/w", 7)
    world.promises.resolve("p", data="1")

    assert promise.pending
    assert callback == Callback("__notify:p:s", "p", 7, START)
    [message] = network.take(10)
    assert isinstance(message, Unblock)
    assert message.promise.id == "p"


def test_nothing_is_registered_on_a_settled_promise(world: World) -> None:
    world.promises.create("root", LATER, tags=HERE)
    world.promises.create("p", LATER)
    world.promises.resolve("p")

    assert world.promises.subscribe("s", "p", "poll://uni@here/w", LATER)[1] is None
    promise, callback = world.promises.callback("p", "root", "poll://any@here", LATER)
    assert promise.resolved
    assert callback is None


def test_waiting_for_what_is_not_there_is_refused(world: World) -> None:
    world.promises.create("root", LATER, tags=HERE)

    waits: list[Callable[[], object]] = [
        lambda: world.promises.subscribe("s", "p", "poll://uni@here/w", LATER),
        lambda: world.promises.callback("p", "root", "poll://any@here", LATER),
    ]
    for wait in waits:
        with pytest.raises(ResonateStoreError) as refused:
            wait()
        assert code_of(refused) == 100.404


def test_a_promise_without_task_cannot_be_woken(world: World) -> None:
    world.promises.create("p", LATER)
    world.promises.create("root", LATER)

    with pytest.raises(ResonateStoreError, match="no resonate:target") as refused:
        world.promises.callback("p", "root", "poll://any@here", LATER)

    assert code_of(refused) == 100.422


# ---- promises: search ----------------------------------------------------------------------------------


def test_search_pages_through_all_promises_in_the_order_of_their_ids(world: World) -> None:
    for id in ("c", "a", "b"):
        world.promises.create(id, LATER)

    first, cursor = world.promises.search(limit=2)
    second, end = world.promises.search(limit=2, cursor=cursor)

    assert [promise.id for promise in first] == ["a", "b"]
    assert [promise.id for promise in second] == ["c"]
    assert end is None


@pytest.mark.parametrize("state", ["RESOLVED", "resolved"])
def test_search_finds_by_state_and_tags(world: World, state: str) -> None:
    for id in ("a", "b", "c"):
        world.promises.create(id, LATER, tags={"team": "x" if id != "b" else "y"})
    world.promises.resolve("a")
    world.promises.resolve("b")

    assert [promise.id for promise in world.promises.search(state=state, tags={"team": "x"})[0]] == ["a"]


class Silent(EmbeddedNetwork):
    """A network whose service answers everything with one status."""

    def __init__(self, store: LocalStore, status: int, error: str | None = None) -> None:
        super().__init__(store.service, "g", "p")
        self._answer = Response(status, error=error)

    def send(self, requests: Sequence[Request], *, chain: bool = False) -> list[Response]:
        return [self._answer] * len(requests)


def test_a_service_without_search_says_so() -> None:
    network = Silent(LocalStore(), 501, "not offered")

    with pytest.raises(NotSupported, match="searching promises: not offered"):
        PromiseClient(network).search()
    with pytest.raises(NotSupported, match="searching schedules: not offered"):
        ScheduleClient(network).search()


def test_a_refusal_without_reason_names_what_was_asked_and_the_status() -> None:
    network = Silent(LocalStore(), 413)

    for ask, what in (
        (lambda: PromiseClient(network).create("p", 1), "promise 'p'"),
        (lambda: ScheduleClient(network).create("s", "* * * * *", "x", 1), "creating schedule 's'"),
        (lambda: ScheduleClient(network).get("s"), "reading schedule 's'"),
        (lambda: ScheduleClient(network).define("s", "* * * * *", None, None, 1, HERE), "creating schedule 's'"),
    ):
        with pytest.raises(ResonateStoreError, match=f"{what} was refused with status 413") as refused:
            ask()
        assert code_of(refused) == 100.413


# ---- bad arguments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "args", "kwargs", "says"),
    [
        ("get", (1,), {}, "id must be `str`, got int"),
        ("create", (None, LATER), {}, "id must be `str`, got NoneType"),
        ("create", ("p", 1.5), {}, "timeout must be `int`"),
        ("create", ("p", True), {}, "timeout must be `int`"),
        ("create", ("p", LATER), {"ikey": 1}, "ikey must be `str | None`, got int"),
        ("create", ("p", LATER), {"data": {"a": 1}}, r"data must be `str | None`, got dict; .*json.dumps"),
        ("create", ("p", LATER), {"tags": ["a"]}, "tags must be `dict"),
        ("create", ("p", LATER), {"tags": {"a": 1}}, "tags\\['a'\\]: .*got int"),
        ("create", ("p", LATER), {"headers": {1: "a"}}, "headers\\[1\\]"),
        ("create_with_task", ("p", LATER, 1, 1), {}, "pid must be `str`"),
        ("create_with_task", ("p", LATER, "w", "1"), {}, "ttl must be `int`"),
        ("resolve", (1,), {}, "id must be `str`"),
        ("reject", ("p",), {"data": 1}, "data must be `str | None`"),
        ("cancel", ("p",), {"headers": "h"}, "headers must be `dict"),
        ("resolve", ("p",), {"ikey": b"k"}, "ikey must be `str | None`"),
        ("callback", ("p", 1, "r", 1), {}, "root_promise_id must be `str`"),
        ("callback", ("p", "r", "r", None), {}, "timeout must be `int`"),
        ("subscribe", ("s", "p", 1, 1), {}, "recv must be `str`"),
        ("search", (), {"state": 1}, "state must be `str | None`"),
        ("search", (), {"limit": "1"}, "limit must be `int`"),
        ("search", (), {"tags": {"a": None}}, "tags\\['a'\\]"),
    ],
)
def test_an_argument_of_a_wrong_type_is_named(
    world: World, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], says: str
) -> None:
    with pytest.raises(TypeError, match=says):
        getattr(world.promises, method)(*args, **kwargs)

    assert world.send(PromiseSearch()).promises == []


@pytest.mark.parametrize(
    ("method", "args", "kwargs", "says"),
    [
        ("get", ("",), {}, "id must not be empty"),
        ("create", ("a\0b", LATER), {}, "NUL"),
        ("create", ("p" * 3000, LATER), {}, "at most 2048 bytes"),
        ("create", ("p", -1), {}, "timeoutAt must be from 0"),
        ("create", ("p", 2**63), {}, "timeoutAt must be from 0"),
        ("create", ("p", LATER), {"tags": {"resonate:target": "nowhere"}}, "must be an address"),
        ("create_with_task", ("p", LATER, "", 1), {"tags": HERE}, "pid must not be empty"),
        ("create_with_task", ("p", LATER, "w", 0), {"tags": HERE}, "ttl must be from 1"),
        ("callback", ("p", "p", "poll://any@here", LATER), {}, "must differ"),
        ("subscribe", ("s", "p", "ftp://x", LATER), {}, "must be an address"),
        ("search", (), {"state": "DONE"}, "state must be one of"),
        ("search", (), {"limit": 0}, "limit must be from 1 to 1000"),
    ],
)
def test_a_value_out_of_range_is_refused_before_anything_is_sent(
    world: World, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        getattr(world.promises, method)(*args, **kwargs)

    assert world.send(PromiseSearch()).promises == []


def test_an_impossible_id_is_an_invalid_id(world: World) -> None:
    with pytest.raises(InvalidId) as refused:
        world.promises.create("", LATER)

    assert refused.value.id == ""


# ---- tasks ---------------------------------------------------------------------------------------------------


def test_an_offer_is_claimed_once_with_its_counter(world: World) -> None:
    world.promises.create("root", LATER, data="call", tags=HERE)

    root, leaf = world.tasks.claim("root", 1, "w", 1000)

    assert root.param.data == "call"
    assert leaf is None
    with pytest.raises(ResonateStoreError) as refused:
        world.tasks.claim("root", 1, "w", 1000)
    assert code_of(refused) == 100.40305


def test_a_task_that_is_not_there_is_refused(world: World) -> None:
    for ask in (lambda: world.tasks.claim("root", 1, "w", 1000), lambda: world.tasks.complete("root", 1)):
        with pytest.raises(ResonateStoreError) as refused:
            ask()
        assert code_of(refused) == 100.40403


def test_completing_a_task_that_waits_suspends_it_until_the_callback_wakes_it(world: World) -> None:
    _, task = world.promises.create_with_task("root", LATER, "w", 1000, tags=HERE)
    assert task is not None
    world.promises.create("leaf", LATER)
    world.promises.callback("leaf", "root", "poll://any@here", LATER)

    task.complete()
    suspended = world.send(TaskGet("root")).task
    world.promises.resolve("leaf", data="1")
    root, leaf = world.tasks.claim("root", 2, "w", 1000)

    assert suspended is not None
    assert suspended.state == "suspended"
    assert root.id == "root"
    assert leaf is not None
    assert (leaf.id, leaf.value.data) == ("leaf", "1")


def test_completing_a_task_whose_wait_is_over_has_it_offered_again(world: World) -> None:
    world.promises.create("root", LATER, tags=HERE)
    world.tasks.claim("root", 1, "w", 1000)
    world.promises.create("leaf", LATER)
    world.promises.callback("leaf", "root", "poll://any@here", LATER)
    world.promises.resolve("leaf")

    assert world.tasks.complete("root", 1) is True

    assert world.tasks.claim("root", 2, "w", 1000)[0].id == "root"


def test_a_completed_task_that_waits_for_nothing_is_woken_by_a_later_callback(world: World) -> None:
    world.promises.create("root", LATER, tags=HERE)
    world.tasks.claim("root", 1, "w", 1000)

    assert world.tasks.complete("root", 1) is True
    asleep = world.send(TaskGet("root")).task
    world.promises.create("leaf", LATER)
    world.promises.callback("leaf", "root", "poll://any@here", LATER)
    world.promises.resolve("leaf")

    assert asleep is not None
    assert asleep.state == "suspended"
    assert world.tasks.claim("root", 2, "w", 1000)[0].id == "root"


def test_completing_the_task_of_a_settled_promise_changes_nothing(world: World) -> None:
    _, task = world.promises.create_with_task("root", LATER, "w", 1000, tags=HERE)
    assert task is not None
    world.promises.resolve("root")

    assert world.tasks.complete(task.id, task.counter) is False


def test_completing_a_task_that_is_lost_meanwhile_is_refused() -> None:
    store = LocalStore(clock=SettableClock(START))
    network = Interleaved(store, TaskSuspend, lambda: store.promises.resolve("root"))
    client = PromiseClient(network)
    _, task = client.create_with_task("root", LATER, "w", 1000, tags=HERE)
    assert task is not None
    client.create("leaf", LATER)
    client.callback("leaf", "root", "poll://any@here", LATER)

    with pytest.raises(ResonateStoreError) as refused:
        task.complete()

    assert code_of(refused) == 100.40305
    store.stop()


def test_a_task_claimed_elsewhere_can_be_completed_and_its_callbacks_wake_it(world: World) -> None:
    world.send(TaskCreate("other", 1000, PromiseCreate("root", LATER, Value(), HERE)))
    world.promises.create("leaf", LATER)

    _, callback = world.promises.callback("leaf", "root", "poll://any@here", LATER)

    assert callback == Callback("__resume:root:leaf", "leaf", LATER, START)
    assert world.tasks.complete("root", 1) is True
    assert world.send(TaskGet("root")).task.state == "suspended"  # type: ignore[union-attr]
    world.promises.resolve("leaf")
    assert world.send(TaskGet("root")).task.state == "pending"  # type: ignore[union-attr]


def test_completing_with_another_counter_is_refused(world: World) -> None:
    world.promises.create("root", LATER, tags=HERE)
    world.tasks.claim("root", 1, "w", 1000)

    with pytest.raises(ResonateStoreError, match="not claimed with counter 2") as refused:
        world.tasks.complete("root", 2)

    assert code_of(refused) == 100.40305


def test_a_task_claims_itself(world: World) -> None:
    world.promises.create("root", LATER, tags=HERE)
    promise, task = world.store.promises.create_with_task("other", LATER, "w", 1000, tags=HERE)
    assert task is not None
    world.clock.advance(2)
    world.store.service.tick()
    task.counter += 1

    root, _ = task.claim("v", 1000)

    assert root == promise
    assert repr(task) == "Task(id='other', counter=2)"


def test_a_heartbeat_extends_what_its_process_holds_and_counts_it(world: World) -> None:
    for id, pid in (("a", "w"), ("b", "w"), ("c", "v")):
        world.promises.create_with_task(id, LATER, pid, 1000, tags=HERE)
    world.promises.resolve("b")
    world.clock.set(START + 900)

    assert world.tasks.heartbeat("w") == 1
    assert world.tasks.heartbeat("nobody") == 0
    world.clock.set(START + 1500)
    world.store.service.tick()

    assert world.send(TaskGet("a")).task.state == "acquired"  # type: ignore[union-attr]
    assert world.send(TaskGet("c")).task.state == "pending"  # type: ignore[union-attr]
    assert world.tasks.heartbeat("v") == 0


def test_remembered_claims_are_bounded() -> None:
    client = LocalStore().tasks

    for number in range(CLAIMS + 10):
        client.claimed(str(number), 1, "w")

    assert len(client._claims) == CLAIMS
    assert "9" not in client._claims


@pytest.mark.parametrize(
    ("method", "args", "says"),
    [
        ("claim", (1, 1, "w", 1), "id must be `str`"),
        ("claim", ("t", "1", "w", 1), "counter must be `int`"),
        ("complete", ("t", None), "counter must be `int`"),
        ("heartbeat", (1,), "pid must be `str`"),
    ],
)
def test_a_wrong_argument_about_tasks_is_named(world: World, method: str, args: tuple[Any, ...], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        getattr(world.tasks, method)(*args)


# ---- schedules ---------------------------------------------------------------------------------------------------


def test_a_schedule_has_everything_that_was_given(world: World) -> None:
    schedule = world.schedules.create(
        "s",
        "*/5 * * * *",
        "s.{{.timestamp}}",
        1000,
        ikey="k",
        description="every five minutes",
        tags={"team": "x"},
        promise_headers={"h": "1"},
        promise_data='{"func": "f"}',
        promise_tags={"resonate:invoke": "here", "mine": "yes"},
    )

    assert schedule == world.schedules.get("s")
    assert (schedule.id, schedule.cron) == ("s", "*/5 * * * *")
    assert schedule.description == "every five minutes"
    assert schedule.tags == {"team": "x"}
    assert schedule.promise_id == "s.{{.timestamp}}"
    assert schedule.promise_timeout == 1000
    assert schedule.promise_param == DurablePromiseValue({"h": "1"}, '{"func": "f"}')
    assert schedule.promise_tags == {"resonate:invoke": "here", "mine": "yes"}
    assert schedule.last_runtime is None
    assert schedule.next_runtime == 1_700_000_100_000
    assert schedule.ikey == "k"
    assert schedule.created_on == START
    assert repr(schedule) == "Schedule(id='s', cron='*/5 * * * *', promise_id='s.{{.timestamp}}')"


def test_a_schedule_creates_a_promise_at_each_occurrence(world: World) -> None:
    world.schedules.create("s", "* * * * *", "s.{{.timestamp}}", 90_000, promise_data="1", promise_tags={"mine": "yes"})

    world.clock.set(START + 120_000)
    world.store.service.tick()

    found, _ = world.promises.search(state="pending")
    assert [promise.id for promise in found] == ["s.1700000040000", "s.1700000100000"]
    assert found[0].param == DurablePromiseValue(None, "1")
    assert found[0].tags["mine"] == "yes"
    assert found[0].ikey_for_create is None
    assert world.schedules.get("s").last_runtime == 1_700_000_100_000


@pytest.mark.parametrize(("recorded", "asked", "joins"), [(None, None, False), ("k", "other", False), ("k", "k", True)])
def test_creating_a_schedule_again_joins_by_key(
    world: World, recorded: str | None, asked: str | None, joins: bool
) -> None:
    world.schedules.create("s", "* * * * *", "x", 1, ikey=recorded)

    if joins:
        assert world.schedules.create("s", "0 * * * *", "y", 2, ikey=asked).cron == "* * * * *"
    else:
        with pytest.raises(ResonateStoreError, match="Schedule already exists: s") as refused:
            world.schedules.create("s", "0 * * * *", "y", 2, ikey=asked)
        assert code_of(refused) == 100.404
    assert world.schedules.get("s").cron == "* * * * *"


def test_a_deleted_schedule_is_gone(world: World) -> None:
    schedule = world.schedules.create("s", "* * * * *", "x", 1)

    schedule.delete()

    for ask in (world.schedules.get, world.schedules.delete):
        with pytest.raises(ResonateStoreError, match="schedule was not found: s") as refused:
            ask("s")
        assert code_of(refused) == 100.40403


def test_a_schedule_of_other_writers_reads_well(world: World) -> None:
    param = Value({"resonate:py:schedule": "[no object"}, None)
    world.send(ScheduleCreate("s", "* * * * *", "x", 1, param, HERE))

    schedule = world.schedules.get("s")

    assert (schedule.ikey, schedule.description, schedule.tags) == (None, None, {})
    assert schedule.promise_tags == HERE
    with pytest.raises(ResonateStoreError):
        world.schedules.create("s", "* * * * *", "x", 1, ikey="s")


def test_schedules_are_found_by_the_tags_of_their_promises(world: World) -> None:
    for id in ("a", "b", "c"):
        world.schedules.create(id, "* * * * *", "x", 1, promise_tags={"team": "x" if id != "b" else "y"})

    first, cursor = world.schedules.search(tags={"team": "x"}, limit=1)
    second, end = world.schedules.search(tags={"team": "x"}, limit=1, cursor=cursor)

    assert [schedule.id for schedule in (*first, *second)] == ["a", "c"]
    assert end is None


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "says"),
    [
        ((1, "* * * * *", "x", 1), {}, TypeError, "id must be `str`"),
        (("s", None, "x", 1), {}, TypeError, "cron must be `str`"),
        (("s", "* * * * *", 1, 1), {}, TypeError, "promise_id must be `str`"),
        (("s", "* * * * *", "x", 1.0), {}, TypeError, "promise_timeout must be `int`"),
        (("s", "* * * * *", "x", 1), {"description": 1}, TypeError, "description must be `str | None`"),
        (("s", "* * * * *", "x", 1), {"promise_data": {}}, TypeError, "promise_data must be .*json.dumps"),
        (("s", "* * * * *", "x", 1), {"promise_tags": {"a": 1}}, TypeError, "promise_tags\\['a'\\]"),
        (("s", "every day", "x", 1), {}, ValueError, "cron must be a cron expression: .*'every day'"),
        (("s", "0 0 30 2 *", "x", 1), {}, ValueError, "cron"),
        (("", "* * * * *", "x", 1), {}, ValueError, "id must not be empty"),
        (("s", "* * * * *", "", 1), {}, ValueError, "promiseId must not be empty"),
        (("s", "* * * * *", "x", -1), {}, ValueError, "promiseTimeout must be from 0"),
        (("s", "* * * * *", "x", 1), {"promise_tags": {"resonate:target": "x"}}, ValueError, "must be an address"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_and_nothing_is_kept(
    world: World, args: tuple[Any, ...], kwargs: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        world.schedules.create(*args, **kwargs)

    assert world.schedules.search() == ([], None)


def test_defining_the_same_again_joins_and_another_definition_replaces_it(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.schedules.define("s", "* * * * *", "MQ==", None, 1000, HERE)
    world.clock.advance(1)

    same = world.schedules.define("s", "* * * * *", "MQ==", None, 1000, HERE)
    joined = caplog.records[:]
    with caplog.at_level(logging.WARNING, "resonate"):
        other = world.schedules.define("s", "0 * * * *", "MQ==", None, 1000, HERE)

    assert same.created_on == START
    assert joined == []
    assert (other.cron, other.created_on) == ("0 * * * *", START + 1000)
    assert "schedule 's' is replaced: '* * * * *' 1 for poll://any@here becomes '0 * * * *' 1" in caplog.text


# ---- the shared store ------------------------------------------------------------------------------------------------


def sleepers() -> int:
    return len([thread for thread in threading.enumerate() if thread.name == "resonate-timers"])


def test_a_local_store_runs_nothing_before_its_first_use_and_nothing_after_stop() -> None:
    before = sleepers()
    store = LocalStore()
    assert store.encoder.encode("a") == "YQ=="
    assert [store.promises, store.tasks, store.schedules, store.message_source("g", "p")]
    unused = sleepers()

    store.promises.create("p", LATER)
    used = sleepers()
    store.stop()
    store.stop()

    assert (unused, used, sleepers()) == (before, before + 1, before)


def test_a_stopped_store_refuses_every_use() -> None:
    store = LocalStore()
    source = store.message_source("g", "p")
    store.stop()

    for use in (lambda: store.promises.get("p"), source.start, store.start):
        with pytest.raises(ClientStopped, match="LocalStore was stopped"):
            use()


def test_two_groups_in_one_process_call_each_other() -> None:
    store = LocalStore()
    shop = Resonate(group="shop", store=store, message_source=store.message_source("shop", "s1"))
    bank = Resonate(group="bank", store=store, message_source=store.message_source("bank", "b1"))

    def charge(ctx: Context, amount: int) -> str:
        return f"charged {amount}"

    def order(ctx: Context, amount: int) -> Any:
        receipt = yield ctx.rpc("charge", amount).options(target="bank")
        return receipt.upper()

    bank.register(charge)
    shop.register(order)
    bank.start()

    assert shop.begin_run("order-1", order, 42).result(timeout=10) == "CHARGED 42"
    assert bank.promises.get("order-1:1").tags["resonate:target"] == "poll://any@bank"

    shop.stop()
    bank.stop()
    store.stop()


def test_a_function_goes_on_when_its_promise_is_resolved_by_hand() -> None:
    created = threading.Event()
    with Resonate() as r:

        def approval(ctx: Context) -> Any:
            promise = yield ctx.promise(id="approve-1")
            created.set()
            answer = yield promise
            return answer

        r.register(approval)
        handle = r.begin_run("a", approval)
        assert created.wait(10)

        r.promises.resolve("approve-1", data=json.dumps({"by": "ann"}))

        assert handle.result(timeout=10) == {"by": "ann"}
        finished = r.promises.get("a")
        assert finished.resolved
        assert (finished.ikey_for_create, finished.ikey_for_complete) == ("a", "a")


def test_a_promise_made_by_hand_runs_a_function() -> None:
    with Resonate() as r:

        def double(ctx: Context, n: int) -> int:
            return 2 * n

        r.register(double)
        call = json.dumps({"func": "double", "args": [21], "kwargs": {}, "version": 1})

        r.promises.create("d", 2**53, data=call, tags={"resonate:invoke": "poll://any@default"})

        assert r.get("d").result(timeout=10) == 42
        assert r.promises.get("d").value.data == "42"


def test_a_source_says_invoke_resume_and_notify_as_they_come(world: World) -> None:
    source = world.store.message_source("here", "w")
    source.start()
    world.promises.create("root", LATER, tags=HERE)
    world.promises.create("leaf", LATER, ikey="k")

    first = source.next()
    world.tasks.claim("root", 1, "w", 1000)
    world.promises.callback("leaf", "root", source.anycast, LATER)
    world.promises.subscribe("s", "leaf", source.unicast, LATER)
    world.tasks.complete("root", 1)
    world.promises.resolve("leaf", ikey="r", data='"v"')
    told = {mesg["type"]: mesg for mesg in (source.next(), source.next()) if mesg is not None}

    assert first == {"type": "invoke", "task": {"id": "root", "counter": 1}}
    assert told["resume"] == {"type": "resume", "task": {"id": "root", "counter": 2}}
    promise: Any = told["notify"]["promise"]  # type: ignore[typeddict-item]
    assert (promise["id"], promise["state"], promise["timeout"]) == ("leaf", "RESOLVED", LATER)
    assert (promise["idempotencyKeyForCreate"], promise["idempotencyKeyForComplete"]) == ("k", "r")
    assert world.store.encoder.decode(promise["value"]["data"]) == '"v"'
    assert (promise["createdOn"], promise["completedOn"]) == (START, START)


def test_a_source_gives_what_is_put_in_by_hand_first_and_none_once_stopped() -> None:
    store = LocalStore()
    source = store.message_source("g", "w")
    source.start()
    source.start()
    source.enqueue({"type": "invoke", "task": {"id": "x", "counter": 1}})
    heard: queue.Queue[Any] = queue.Queue()

    def listen() -> None:
        while (mesg := source.next()) is not None:
            heard.put(mesg["task"]["id"])  # type: ignore[typeddict-item]
        heard.put(None)

    listener = threading.Thread(target=listen)
    listener.start()
    first = heard.get(timeout=10)
    source.enqueue({"type": "invoke", "task": {"id": "y", "counter": 1}})
    second = heard.get(timeout=10)
    source.stop()
    source.stop()
    listener.join(10)

    assert [first, second, heard.get(timeout=10)] == ["x", "y", None]
    assert (source.group, source.id) == ("g", "w")
    assert (source.unicast, source.anycast) == ("poll://uni@g/w", "poll://any@g/w")
    store.stop()


def test_a_stopped_source_may_be_started_again(world: World) -> None:
    source = world.store.message_source("here", "w")
    source.start()
    source.stop()
    world.promises.create("root", LATER, tags=HERE)

    assert source.next() is None
    source.start()
    assert source.next() == {"type": "invoke", "task": {"id": "root", "counter": 1}}


def test_a_source_of_another_store_is_refused() -> None:
    with pytest.raises(ValueError, match="another LocalStore"):
        network_for(LocalStore(), LocalStore().message_source("g", "p"), "g", "p")


def test_the_network_of_a_local_store_hears_under_the_names_of_its_source() -> None:
    store = LocalStore()

    network = network_for(store, store.message_source("there", "x"), "here", "y")

    assert (network.group, network.pid, network.inline) == ("there", "x", True)
    assert network.unicast() == "poll://uni@there/x"


@pytest.mark.parametrize("kind", [RemoteStore, Poller])
def test_what_needs_a_server_can_be_imported_and_says_what_to_use_instead(kind: Any) -> None:
    with pytest.raises(NotSupported, match=r"Resonate\(url="):
        kind(host="localhost", port="8001")


def test_a_message_source_checks_its_names() -> None:
    with pytest.raises(TypeError, match="group must be `str`"):
        LocalMessageSource(LocalStore(), 1, "p")  # type: ignore[arg-type]


def test_our_marks_are_never_shown(world: World) -> None:
    world.promises.create("p", LATER, ikey="k", headers={"h": "1"}, tags={"resonate:invoke": "here"})
    world.promises.resolve("p", ikey="r")

    promise = world.promises.get("p")
    stored = world.send(PromiseSearch()).promises

    assert stored is not None
    assert MARK in stored[0].tags
    assert MARK in (stored[0].value.headers or {})
    assert "resonate:py" not in f"{promise} {promise.param} {promise.value} {promise.tags}"


def test_the_tags_of_executions_are_shown_as_they_are_stored(world: World) -> None:
    world.send(PromiseCreate("p", LATER, Value(), {"resonate:py:call": "root|1||f|-", "resonate:py:ikey": "k"}))

    assert world.promises.get("p").tags == {"resonate:py:call": "root|1||f|-"}


def test_what_the_clients_give_are_the_named_classes(world: World) -> None:
    assert isinstance(world.promises.create("p", LATER), DurablePromise)
    assert isinstance(world.schedules.create("s", "* * * * *", "x", 1), Schedule)
    assert world.send(TaskAcquire("p", 0, "w", 1)).status == 404
