"""Cancellation: the execution and everything attached below it ends; its code and its callers are told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from resonate import Resonate
from resonate.errors import ResonateCanceledError, ResonateStoreError
from resonate.inspection.steering import cancel_below
from resonate.protocol.requests import PromiseCreate, PromiseSettle, Request, Response
from resonate.retry_policies import Constant, Never
from resonate.testing import World, WorldClient
from tests.homes import Home, until

pytestmark = pytest.mark.usefixtures("place")

Program = Callable[..., Any]
LOG: list[str] = []


@pytest.fixture(autouse=True)
def empty_log() -> None:
    LOG.clear()


def note(ctx: Any, text: str) -> str:
    LOG.append(text)
    return text


def waits(ctx: Any) -> Any:
    try:
        yield (yield ctx.promise(id="answer"))
    except ResonateCanceledError as error:
        LOG.append(f"cancelled {error.promise_id}")
        raise


async def awaits(ctx: Any) -> Any:
    try:
        await ctx.promise(id="answer")
    except ResonateCanceledError as error:
        LOG.append(f"cancelled {error.promise_id}")
        raise


async def gathers(ctx: Any) -> Any:
    await asyncio.gather(ctx.run(awaits), ctx.sleep(3600))


def calls(ctx: Any) -> Any:
    yield ctx.run(waits)


async def sleeps_in_asyncio(ctx: Any) -> Any:
    try:
        LOG.append("asleep")
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        LOG.append("cancelled p")
        raise


@pytest.mark.parametrize("kind", ["threads", "world"])
@pytest.mark.parametrize("evict", [False, True])
@pytest.mark.parametrize("func", [waits, awaits, calls, gathers])
def test_code_that_waits_sees_the_cancellation_and_the_caller_is_told(kind: str, evict: bool, func: Program) -> None:
    with Home(kind, evict) as home:
        handle = home.start("p", func)
        home.suspended("p")
        handle.cancel()

        with pytest.raises(ResonateCanceledError) as caught:
            handle.result(10)
        assert caught.value.promise_id == "p"
        if not evict:
            until(lambda: LOG == ["cancelled p"])
        assert home.client.promises.get("answer").canceled
        assert home.client.promises.get("p").canceled
        with pytest.raises(ResonateCanceledError):
            home.client.run("p", func)


def test_an_async_function_that_waits_in_asyncio_is_cancelled_at_once() -> None:
    with Home("threads") as home:
        handle = home.start("p", sleeps_in_asyncio)
        until(lambda: LOG == ["asleep"])
        handle.cancel()

        with pytest.raises(ResonateCanceledError):
            handle.result(10)
        until(lambda: LOG == ["asleep", "cancelled p"])


def test_a_busy_plain_step_can_look_and_its_caller_does_not_wait_for_it() -> None:
    busy = threading.Event()

    def step(ctx: Any) -> str:
        busy.set()
        until(lambda: ctx.cancelled)
        LOG.append("looked")
        return "late"

    def program(ctx: Any) -> Any:
        return (yield ctx.run(step))

    with Home("threads") as home:
        handle = home.start("p", program)
        assert busy.wait(10)
        handle.cancel()
        with pytest.raises(ResonateCanceledError):
            handle.result(10)
        until(lambda: LOG == ["looked"])

        assert home.client.promises.get("p").canceled


def test_nothing_is_cancelled_while_all_is_well(resonate: WorldClient) -> None:
    def program(ctx: Any) -> Any:
        return [ctx.cancelled, (yield ctx.run(lambda ctx: ctx.cancelled))]

    resonate.register(program)

    assert resonate.run("p", program) == [False, False]


def test_attached_calls_below_are_cancelled_and_detached_ones_are_not(world: World) -> None:
    client = world.client()

    def program(ctx: Any) -> Any:
        yield ctx.begin_rpc("leaf", "attached").options(id="p:attached")
        yield ctx.detached("leaf", "detached").options(id="detached")
        yield ctx.begin_run(local)
        yield (yield ctx.promise(id="p:answer"))

    def local(ctx: Any) -> Any:
        yield ctx.rpc("leaf", "below").options(id="p:below")

    def leaf(ctx: Any, name: str) -> Any:
        yield ctx.sleep(60)
        LOG.append(name)

    for func in (program, leaf):
        client.register(func)
    handle = client.begin_run("p", program)
    world.settle()
    handle.cancel()
    world.advance(120)

    states = {row.promise.id: row.promise.state for row in world.storage.promises(None)}
    assert LOG == ["detached"]
    assert states["detached"] == "resolved"
    for id in ("p", "p:attached", "p:below", "p:answer"):
        assert states[id] == "rejected_canceled", id
    assert not world.storage.task("p:attached") or world.storage.task("p:attached").state == "fulfilled"  # type: ignore[union-attr]


def test_what_is_begun_while_a_tree_is_being_cancelled_is_cancelled_too(world: World) -> None:
    def create(id: str, parent: str) -> Response:
        tags = {"resonate:origin": "p", "resonate:parent": parent, "resonate:branch": id}
        return world.service.handle([PromiseCreate(id, 2**50, tags=tags)])[0]

    def send(requests: Sequence[Request]) -> list[Response]:
        if type(requests[0]) is PromiseSettle and not world.storage.promise("p:1.1"):
            create("p:1.1", "p:1")  # its parent was pending when the tree was read
        return world.service.handle(requests)

    root = create("p", "p").promise
    create("p:1", "p")
    assert root is not None
    cancel_below(send, root)

    states = {row.promise.id: row.promise.state for row in world.storage.promises(None)}
    assert states == {"p": "pending", "p:1": "rejected_canceled", "p:1.1": "rejected_canceled"}


@pytest.mark.parametrize("kind", ["generator", "async"])
def test_compensation_is_a_detached_call_and_others_raise_again(kind: str) -> None:
    def generator(ctx: Any) -> Any:
        try:
            yield (yield ctx.promise(id="answer"))
        finally:
            for command in (ctx.run(note, "run"), ctx.rpc("note", "rpc"), ctx.sleep(0), ctx.promise()):
                try:
                    yield command
                except ResonateCanceledError:
                    LOG.append("again")
            yield ctx.detached("note", "compensated")

    async def function(ctx: Any) -> Any:
        try:
            await ctx.promise(id="answer")
        finally:
            for name, args in (("run", (note, "run")), ("rpc", ("note", "rpc")), ("sleep", (0,)), ("promise", ())):
                try:
                    await getattr(ctx, name)(*args)
                except ResonateCanceledError:
                    LOG.append("again")
            await ctx.detached("note", "compensated")

    with Home("threads") as home:
        home.client.register(note)
        handle = home.start("p", generator if kind == "generator" else function)
        home.suspended("p")
        handle.cancel()
        with pytest.raises(ResonateCanceledError):
            handle.result(10)

        until(lambda: "compensated" in LOG)
        assert LOG == ["again"] * 4 + ["compensated"]


def test_what_a_cancelled_function_returns_does_not_count() -> None:
    def program(ctx: Any) -> Any:
        try:
            yield (yield ctx.promise(id="answer"))
        except ResonateCanceledError:
            LOG.append("caught")
            return "fine"

    with Home("threads") as home:
        handle = home.start("p", program)
        home.suspended("p")
        handle.cancel()
        with pytest.raises(ResonateCanceledError):
            handle.result(10)
        until(lambda: LOG == ["caught"])

        assert home.client.promises.get("p").canceled


def test_a_step_that_waits_for_its_next_attempt_has_none(resonate: WorldClient, world: World) -> None:
    def fails(ctx: Any) -> None:
        LOG.append(f"attempt {ctx.info.attempt}")
        raise ConnectionError

    def program(ctx: Any) -> Any:
        yield ctx.run(fails).options(retry_policy=Constant(delay=10))

    resonate.register(program)
    handle = resonate.begin_run("p", program)
    world.settle()
    handle.cancel()
    world.advance(100)

    assert LOG == ["attempt 1"]
    with pytest.raises(ResonateCanceledError):
        handle.result()


def test_cancelling_what_is_done_changes_nothing(resonate: WorldClient) -> None:
    resonate.register(note)
    handle = resonate.begin_run("p", note, "done")
    assert handle.result() == "done"
    handle.cancel()

    assert handle.result() == "done"
    assert resonate.get("p").result() == "done"


def test_cancelling_what_does_not_exist_is_an_error(resonate: WorldClient) -> None:
    handle = resonate.begin_run("p", resonate.register(note), "x")
    handle._id = "nothing"

    with pytest.raises(ResonateStoreError, match=r"not found: nothing"):
        handle.cancel()


def test_a_child_cancelled_by_its_id_is_an_error_of_who_waits(resonate: WorldClient, world: World) -> None:
    def program(ctx: Any) -> Any:
        promise = yield ctx.begin_rpc("waits")
        with pytest.raises(ResonateCanceledError) as caught:
            yield promise
        return caught.value.promise_id

    resonate.register(waits)
    resonate.register(program)
    handle = resonate.begin_run("p", program)
    world.settle()
    resonate.get("p:1").cancel()

    assert handle.result() == "p:1"
    assert LOG == ["cancelled p:1"]


def test_a_root_settled_by_somebody_else_stops_its_code_and_gives_their_value() -> None:
    closed = threading.Event()

    def program(ctx: Any) -> Any:
        try:
            yield (yield ctx.promise(id="answer"))
        finally:
            closed.set()

    with Home("threads") as home:
        handle = home.start("p", program)
        home.suspended("p")
        home.client.promises.resolve("p", data='"theirs"')

        assert handle.result(10) == "theirs"
        assert closed.wait(10)


def test_a_root_settled_by_somebody_else_while_it_is_busy_gives_their_value_at_once() -> None:
    busy, go = threading.Event(), threading.Event()

    def program(ctx: Any) -> str:
        busy.set()
        assert go.wait(10)
        return "ours"

    with Home("threads") as home:
        handle = home.start("p", program)
        assert busy.wait(10)
        home.client.promises.reject("p", data='"theirs"')

        with pytest.raises(Exception, match=r"theirs"):
            handle.result(10)
        go.set()
        assert home.start("q", note, "q").result(10) == "q"
        assert home.client.promises.get("p").rejected


def test_a_cancelled_execution_leaves_room_and_the_client_goes_on() -> None:
    with Resonate(max_concurrent=1) as client:
        client.register(awaits)
        client.register(sleeps_in_asyncio)
        client.register(note)
        handle = client.begin_run("p", sleeps_in_asyncio)
        until(lambda: LOG == ["asleep"])
        handle.cancel()

        assert client.begin_run("q", note, "q").result(10) == "q"


def test_a_failure_during_cleanup_is_nobodys() -> None:
    def program(ctx: Any) -> Any:
        try:
            yield (yield ctx.promise(id="answer"))
        finally:
            LOG.append("cleanup")
            raise KeyError("of the cleanup")

    with Home("threads") as home:
        home.client.register(program)
        handle = home.client.options(retry_policy=Never()).begin_run("p", program)
        home.suspended("p")
        handle.cancel()

        with pytest.raises(ResonateCanceledError):
            handle.result(10)
        until(lambda: LOG == ["cleanup"])
        assert home.client.promises.get("p").canceled
