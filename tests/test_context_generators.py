"""What a generator function may yield, and what it gets back: every command of `Context`."""

from __future__ import annotations

import functools
import logging
import random
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from resonate import Context, Promise, Resonate
from resonate.errors import (
    FunctionNotFound,
    RemoteError,
    ResonateCanceledError,
    ResonateTimedoutError,
    UsageError,
)
from resonate.retry_policies import Constant, Never
from resonate.testing import World, WorldClient
from tests import places
from tests.homes import until

pytestmark = pytest.mark.usefixtures("place")

Program = Callable[..., Any]


@pytest.fixture
def r() -> Iterator[Resonate]:
    with Resonate() as client:
        yield client


def double(ctx: Any, x: int = 1) -> int:
    return 2 * x


def fails(ctx: Any, text: str = "no") -> None:
    raise ValueError(text)


def doubles(ctx: Any, x: int) -> Any:
    return (yield ctx.run(double, x))


async def adoubles(ctx: Any, x: int) -> int:
    return int(await ctx.run(double, x))


def run(client: Resonate, func: Program, *args: Any, id: str = "p") -> Any:
    client.register(func)
    return client.run(id, func, *args)


def ids_of(client: Resonate, *ids: str) -> dict[str, str]:
    """The states of those promises of `ids` that exist."""
    found = client._core.started().network
    rows = found.service.storage.promises(None)  # type: ignore[attr-defined]
    return {row.promise.id: row.promise.state for row in rows if row.promise.id in ids or not ids}


# ---- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "value"),
    [
        (lambda ctx: ctx.run(double, 4), 8),
        (lambda ctx: ctx.run(double, x=4), 8),
        (lambda ctx: ctx.run(doubles, 4), 8),
        (lambda ctx: ctx.run(adoubles, 4), 8),
        (lambda ctx: ctx.run("double", 4), 8),
        (lambda ctx: ctx.run(lambda _, x: x + 1, 4), 5),
        (lambda ctx: ctx.lfc(double, 4), 8),
        (lambda ctx: ctx.rpc(double, 4), 8),
        (lambda ctx: ctx.rpc("double", 4), 8),
        (lambda ctx: ctx.rpc("double", x=4), 8),
        (lambda ctx: ctx.rfc("doubles", 4), 8),
        (lambda ctx: ctx.rpc("adoubles", 4).options(target="default"), 8),
        (lambda ctx: ctx.rpc("double", 4).options(target="poll://any@default"), 8),
        (lambda ctx: ctx.sleep(0.001), None),
        (lambda ctx: ctx.sleep(timedelta(milliseconds=1)), None),
        (lambda ctx: ctx.sleep(0), None),
        (lambda ctx: ctx.sleep(-1), None),
        (lambda ctx: ctx.all([]), []),
        (lambda ctx: ctx.all([ctx.run(double, 1), ctx.rpc("double", 2), ctx.sleep(0)]), [2, 4, None]),
        (lambda ctx: ctx.race([ctx.run(double, 3)]), 6),
        (lambda ctx: ctx.map(double, [1, 2, 3]), [2, 4, 6]),
        (lambda ctx: ctx.map(doubles, iter([1, 2, 3]), limit=1), [2, 4, 6]),
        (lambda ctx: ctx.map(double, []), []),
        (lambda ctx: ctx.random.randint(6, 6), 6),
        (lambda ctx: ctx.random.choice([7]), 7),
        (lambda ctx: ctx.random.randrange(3, 4), 3),
        (lambda ctx: ctx.random.getrandbits(0), 0),
        (lambda ctx: ctx.random.triangular(2, 2, 2), 2.0),
        (lambda ctx: ctx.options(timeout=5).run(double, 4), 8),
        (lambda ctx: ctx.run(double, 4).options(durable=False), 8),
    ],
)
def test_a_call_yields_its_value(r: Resonate, command: Program, value: Any) -> None:
    def program(ctx: Any) -> Any:
        return (yield command(ctx))

    for func in (double, doubles, adoubles):
        r.register(func)

    assert run(r, program) == value


@pytest.mark.parametrize(
    "command",
    [
        lambda ctx: ctx.begin_run(double, 4),
        lambda ctx: ctx.lfi(doubles, 4),
        lambda ctx: ctx.lfi(adoubles, 4),
        lambda ctx: ctx.begin_rpc(double, 4),
        lambda ctx: ctx.rfi("double", 4),
        lambda ctx: ctx.detached("double", 4),
    ],
)
def test_a_begun_call_yields_a_promise_which_yields_the_value_as_often_as_it_is_yielded(
    r: Resonate, command: Program
) -> None:
    def program(ctx: Any) -> Any:
        promise = yield command(ctx)
        assert isinstance(promise, Promise)
        return [promise.id, promise.cid, (yield promise), (yield promise)]

    r.register(double)

    assert run(r, program) == ["p:1", "p:1", 8, 8]


def test_a_promise_is_frozen_and_compares_by_its_id() -> None:
    promise = Promise[int]("a")

    with pytest.raises(AttributeError, match=r"frozen"):
        promise.id = "b"
    assert promise == Promise("a")
    assert promise != Promise("b")
    assert len({promise, Promise("a")}) == 1
    assert repr(promise) == "Promise('a')"


def test_a_promise_may_be_yielded_in_a_child_it_was_passed_to(r: Resonate) -> None:
    def child(ctx: Any, promise: Any) -> Any:
        return (yield promise) + 1

    def program(ctx: Any) -> Any:
        promise = yield ctx.begin_run(double, 4)
        return (yield ctx.run(child, promise))

    assert run(r, program) == 9


def test_a_bare_promise_is_settled_from_outside(r: Resonate) -> None:
    def settle(ctx: Any, id: str, how: str) -> None:
        getattr(r.promises, how)(id, data='{"by": "me"}')

    def program(ctx: Any, how: str) -> Any:
        promise = yield ctx.promise()
        yield ctx.run(settle, promise.id, how)
        return (yield promise)

    r.register(program)

    assert r.run("a", program, "resolve") == {"by": "me"}
    with pytest.raises(Exception, match=r"^\{'by': 'me'\}"):
        r.run("b", program, "reject")
    with pytest.raises(ResonateCanceledError):
        r.run("c", program, "cancel")


def test_typesafe_yields_the_same_value(r: Resonate) -> None:
    def program(ctx: Any) -> Any:
        value = yield from ctx.typesafe(ctx.run(double, 4))
        promise = yield from ctx.typesafe(ctx.begin_run(double, 5))
        return [value, (yield from ctx.typesafe(promise))]

    assert run(r, program) == [8, 10]


@pytest.mark.parametrize("command", ["run", "rpc", "begin_run", "begin_rpc"])
def test_the_error_of_a_call_is_raised_where_its_value_is_asked_for(r: Resonate, command: str) -> None:
    def program(ctx: Any) -> Any:
        try:
            promise = yield getattr(ctx, command)(broken, "boom")
            assert command.startswith("begin")
            yield promise
        except KeyError as error:
            return [str(error), (yield ctx.run(double, 4))]

    def broken(ctx: Any, text: str) -> Any:
        yield ctx.sleep(0)
        raise KeyError(text)

    r.register(broken)

    assert run(r, program) == ["'boom'", 8]


def test_an_error_that_nobody_catches_is_the_callers(r: Resonate) -> None:
    def program(ctx: Any) -> Any:
        yield ctx.run(fails).options(retry_policy=Never())

    with pytest.raises(ValueError, match=r"no"):
        run(r, program)


def test_stop_iteration_of_a_step_can_be_caught_like_any_error(r: Resonate) -> None:
    def exhausted(ctx: Any) -> Any:
        return next(iter(()))

    def program(ctx: Any) -> Any:
        try:
            yield ctx.run(exhausted).options(retry_policy=Never())
        except StopIteration:
            return "caught"

    assert run(r, program) == "caught"


def test_an_error_of_a_class_that_is_known_nowhere_keeps_name_and_text(r: Resonate) -> None:
    def raises(ctx: Any) -> None:
        class Odd(Exception):
            pass

        raise Odd("strange")

    def program(ctx: Any) -> Any:
        yield ctx.run(raises).options(retry_policy=Never())

    with pytest.raises(RemoteError, match=r"strange") as caught:
        run(r, program)

    assert caught.value.type_name == "Odd"


# ---- ids -----------------------------------------------------------------------------------------


def test_children_are_counted_where_they_are_created_and_helpers_go_on_counting(r: Resonate) -> None:
    def helper(ctx: Any) -> Any:
        return (yield ctx.run(name_of))

    def name_of(ctx: Any) -> Any:
        return ctx.id

    def nested(ctx: Any) -> Any:
        return [ctx.id, (yield ctx.run(name_of)), (yield ctx.run(name_of))]

    def program(ctx: Any) -> Any:
        first, second = ctx.run(name_of), ctx.run(name_of)
        late, early = (yield second), (yield first)
        mine = yield ctx.run(name_of).options(id="mine")
        helped = yield from helper(ctx)
        yield ctx.sleep(0)
        return [early, late, mine, helped, (yield ctx.run(nested))]

    assert run(r, program) == ["p:1", "p:2", "mine", "p:4", ["p:6", "p:6.1", "p:6.2"]]


def test_options_returns_the_same_command(r: Resonate) -> None:
    def program(ctx: Any) -> Any:
        command = ctx.run(double, 4)
        same = command.options(timeout=5) is command
        yield command
        return same

    assert run(r, program) is True


def test_two_calls_with_one_id_are_one_child(r: Resonate) -> None:
    runs: list[int] = []

    def counts(ctx: Any) -> int:
        runs.append(1)
        return len(runs)

    def program(ctx: Any) -> Any:
        return [(yield ctx.run(counts).options(id="one")), (yield ctx.run(counts).options(id="one"))]

    assert run(r, program) == [1, 1]


def test_two_different_calls_with_one_id_are_refused_naming_both(r: Resonate) -> None:
    def program(ctx: Any) -> Any:
        yield ctx.run(double, 4).options(id="one")
        yield ctx.run(doubles, 4).options(id="one")

    with pytest.raises(UsageError, match=r"(?s)'one' is used twice.*double.*doubles"):
        run(r, program)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (
            lambda ctx: ctx.run(double),
            ["durable", "encoder", "id", "idempotency_key", "non_retryable_exceptions", "retry_policy", "tags"],
        ),
        (lambda ctx: ctx.rpc("double"), ["encoder", "id", "idempotency_key", "tags", "target", "version"]),
        (lambda ctx: ctx.sleep(0), ["id"]),
        (lambda ctx: ctx.promise(), ["id", "tags", "timeout", "idempotency_key"]),
    ],
)
def test_a_command_takes_its_own_options_and_no_others(r: Resonate, make: Program, names: list[str]) -> None:
    every = ["durable", "encoder", "id", "idempotency_key", "non_retryable_exceptions", "retry_policy", "tags"]

    def program(ctx: Any) -> Any:
        taken: list[str] = []
        refused: list[bool] = []
        for name in dict.fromkeys([*every, "target", "version", "timeout", "no_such"]):
            try:
                make(ctx).options(**{name: None})
                taken.append(name)
            except TypeError as error:
                refused.append(name in str(error))
        yield ctx.sleep(0)
        return taken if all(refused) else []

    assert set(names) <= set(run(r, program))
    assert "no_such" not in r.get("p").result()
    if names == ["id"]:
        assert r.get("p").result() == ["id"]


# ---- what can be called --------------------------------------------------------------------------


class Callables:
    def method(self, ctx: Any) -> None: ...

    def __call__(self, ctx: Any) -> None: ...


@pytest.mark.parametrize(
    "func",
    [Callables().method, Callables(), Callables, functools.partial(double, x=1), 5, None],
    ids=["method", "instance", "class", "partial", "int", "None"],
)
def test_a_local_call_takes_python_functions_only(r: Resonate, func: Any) -> None:
    def program(ctx: Any) -> Any:
        with pytest.raises((ValueError, TypeError), match=r"function"):
            ctx.run(func)
        return (yield ctx.run(double, 4))

    assert run(r, program) == 8


def test_a_local_call_by_a_name_that_is_not_registered_is_refused(r: Resonate) -> None:
    def program(ctx: Any) -> Any:
        yield ctx.run("nobody")

    with pytest.raises(FunctionNotFound, match=r"nobody"):
        run(r, program)


def test_a_remote_call_of_a_function_that_is_not_registered_is_refused(r: Resonate) -> None:
    def program(ctx: Any) -> Any:
        yield ctx.rpc(double, 4)

    with pytest.raises(ValueError, match=r"double not found in registry"):
        run(r, program)


@pytest.mark.parametrize("how", ["run", "begin_run", "rpc", "begin_rpc", "detached"])
@pytest.mark.parametrize(
    ("args", "kwargs"), [((1, 2), {}), ((), {"y": 1}), ((1,), {"x": 1})], ids=["many", "unknown", "twice"]
)
def test_wrong_arguments_are_refused_at_the_call_with_the_signature(
    r: Resonate, how: str, args: Any, kwargs: Any
) -> None:
    def program(ctx: Any) -> Any:
        with pytest.raises(TypeError, match=r"^double\(ctx.*x: .*: .*argument"):
            getattr(ctx, how)(double, *args, **kwargs)
        yield ctx.sleep(0)
        return "refused"

    r.register(double)

    assert run(r, program) == "refused"


def test_a_remote_call_takes_the_version_it_is_told(r: Resonate) -> None:
    def program(ctx: Any) -> Any:
        newest = yield ctx.rpc("which")
        first = yield ctx.rpc("which").options(version=1)
        return [newest, first, (yield ctx.options(version=1).rpc("which"))]

    r.register(lambda ctx: ctx.info.version, name="which", version=1)
    r.register(lambda ctx: ctx.info.version * 10, name="which", version=2)

    assert run(r, program) == [20, 1, 1]


def test_a_plain_function_cannot_make_durable_calls(r: Resonate) -> None:
    def program(ctx: Any) -> None:
        ctx.run(double, 1)

    with pytest.raises(UsageError, match=r"program makes a durable call at test_context_generators.py"):
        run(r, program)


# ---- structure -----------------------------------------------------------------------------------


def test_a_function_ends_after_the_calls_it_began(r: Resonate) -> None:
    gate, ended = threading.Event(), []

    def slow(ctx: Any) -> None:
        assert gate.wait(10)
        ended.append("slow")

    def program(ctx: Any) -> Any:
        yield ctx.begin_run(slow)
        yield ctx.begin_rpc(slow)
        return "done"

    r.register(slow)
    r.register(program)
    handle = r.begin_run("p", program)
    with pytest.raises(TimeoutError):
        handle.result(timeout=0.02)
    gate.set()

    assert handle.result(10) == "done"
    assert ended == ["slow", "slow"]


def test_a_function_that_raises_ends_after_the_calls_it_began_too(r: Resonate) -> None:
    ended: list[str] = []

    def slow(ctx: Any) -> Any:
        yield ctx.sleep(0.01)
        ended.append("slow")

    def program(ctx: Any) -> Any:
        yield ctx.begin_run(slow)
        raise KeyError("mine")

    with pytest.raises(KeyError, match=r"mine"):
        run(r, program)

    assert ended == ["slow"]


def test_a_failure_that_nobody_awaits_is_dropped(r: Resonate) -> None:
    def program(ctx: Any) -> Any:
        yield ctx.begin_run(fails).options(retry_policy=Never())
        yield ctx.begin_rpc("gone").options(timeout=0.01)
        return "fine"

    assert run(r, program) == "fine"
    until(lambda: ids_of(r, "p:1", "p:2") == {"p:1": "rejected", "p:2": "rejected_timedout"})  # when its timer fires


def test_a_detached_call_is_not_waited_for_and_outlives_the_deadline_of_its_caller() -> None:
    with places.world() as world:
        client = world.client()
        times: dict[str, float] = {}

        def alone(ctx: Any) -> Any:
            yield ctx.sleep(100)
            times["alone"] = ctx.info.timeout
            return "late"

        def program(ctx: Any) -> Any:
            times["program"] = ctx.info.timeout
            return (yield ctx.detached("alone")).id

        client.register(alone)
        client.register(program)
        id = client.options(timeout=10).run("p", program)

        assert not client.get(id).done()
        assert client.get(id).result() == "late"
        assert times["alone"] > times["program"]


def test_a_call_that_is_not_durable_leaves_no_record_and_is_retried_all_the_same(r: Resonate) -> None:
    attempts: list[int] = []

    def flaky(ctx: Any) -> str:
        attempts.append(ctx.info.attempt)
        if len(attempts) < 3:
            raise ConnectionError
        return "done"

    def program(ctx: Any) -> Any:
        policy = Constant(delay=0, max_retries=5)
        return (yield ctx.run(flaky).options(durable=False, retry_policy=policy))

    assert run(r, program) == "done"
    assert attempts == [1, 2, 3]
    assert ids_of(r) == {"p": "resolved"}


# ---- deadlines -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "expected"), [(None, 100), (50, 50), (1000, 100), (timedelta(seconds=5), 5)])
@pytest.mark.parametrize("how", ["run", "rpc"])
def test_a_child_has_its_own_deadline_but_at_most_its_parents(
    resonate: WorldClient, world: World, how: str, given: Any, expected: int
) -> None:
    def left(ctx: Any) -> float:
        return float(ctx.info.timeout - world.clock.now() / 1000)

    def program(ctx: Any) -> Any:
        return (yield getattr(ctx, how)(left).options(timeout=given))

    resonate.register(left)

    assert run(resonate.options(timeout=100), program) == pytest.approx(expected, abs=0.01)


def test_a_sleep_beyond_the_deadline_ends_there(resonate: WorldClient, world: World) -> None:
    def program(ctx: Any) -> Any:
        yield ctx.sleep(1000)

    began = world.clock.now()
    with pytest.raises(ResonateTimedoutError):
        run(resonate.options(timeout=10), program)

    assert world.clock.now() - began == pytest.approx(10_000, abs=200)
    assert resonate.promises.get("p:1").timeout == began + 10_000


@pytest.mark.parametrize("bad", ["1", None, True, [1], 1j])
def test_a_sleep_of_no_number_is_refused(r: Resonate, bad: Any) -> None:
    def program(ctx: Any) -> Any:
        yield ctx.sleep(bad)

    with pytest.raises(TypeError, match=f"sleep takes seconds .* got {type(bad).__name__}"):
        run(r, program)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e300])
def test_a_sleep_without_an_end_is_refused(r: Resonate, bad: float) -> None:
    def program(ctx: Any) -> Any:
        yield ctx.sleep(bad)

    with pytest.raises(ValueError, match=r"sleep"):
        run(r.options(timeout=5), program)


def test_a_bare_promise_keeps_what_it_is_given(resonate: WorldClient, world: World) -> None:
    def program(ctx: Any) -> Any:
        yield ctx.promise(id="mine", timeout=5, data={"ask": 1}, tags={"who": "me"}, idempotency_key="k")
        yield ctx.promise(timeout=timedelta(seconds=7))
        yield ctx.promise().options(timeout=9, id="other")
        yield ctx.promise(timeout=1000)

    resonate.options(timeout=100)
    resonate.register(program)
    now = world.clock.now()
    resonate.options(timeout=100).begin_run("p", program)
    world.settle()
    records = {id: resonate.promises.get(id) for id in ("mine", "p:2", "other", "p:4")}

    assert {id: (record.timeout - now) / 1000 for id, record in records.items()} == {
        "mine": 5,
        "p:2": 7,
        "other": 9,
        "p:4": 100,
    }
    assert records["mine"].param.data == '{"ask":1}'
    assert records["mine"].tags["who"] == "me"


# ---- all, race, map ------------------------------------------------------------------------------


def test_all_raises_the_first_failure_at_once_and_the_others_run_to_their_end(
    resonate: WorldClient, world: World
) -> None:
    seen: list[float] = []

    def late(ctx: Any) -> Any:
        yield ctx.sleep(60)
        seen.append(world.clock.now())

    def soon(ctx: Any) -> Any:
        yield ctx.sleep(1)
        raise ValueError("first")

    def program(ctx: Any) -> Any:
        began = world.clock.now()
        with pytest.raises(ValueError, match=r"first"):
            yield ctx.all([ctx.run(late), ctx.run(soon)])
        return world.clock.now() - began

    assert run(resonate, program) == pytest.approx(1000, abs=50)
    assert len(seen) == 1
    assert ids_of(resonate, "p:1") == {"p:1": "resolved"}


@pytest.mark.parametrize("winner", ["value", "error"])
def test_race_gives_the_first_outcome_and_the_losers_run_to_their_end(
    resonate: WorldClient, world: World, winner: str
) -> None:
    def late(ctx: Any) -> Any:
        yield ctx.sleep(60)
        return "late"

    def soon(ctx: Any) -> Any:
        yield ctx.sleep(1)
        if winner == "error":
            raise ValueError("soon")
        return "soon"

    def program(ctx: Any) -> Any:
        try:
            return (yield ctx.race([ctx.run(late), ctx.run(soon)]))
        except ValueError as error:
            return str(error)

    assert run(resonate, program) == "soon"
    assert resonate.get("p:1").result() == "late"


def test_race_and_all_take_promises_begun_earlier(r: Resonate) -> None:
    def program(ctx: Any) -> Any:
        a, b = (yield ctx.begin_run(double, 1)), (yield ctx.begin_rpc("double", 2))
        bare = yield ctx.promise(timeout=0.05)
        return [(yield ctx.all([a, b, a])), (yield ctx.race([bare, a]))]

    r.register(double)

    assert run(r, program) == [[2, 4, 2], 2]


@pytest.mark.parametrize("how", ["all", "race"])
def test_all_and_race_of_something_else_are_refused(r: Resonate, how: str) -> None:
    def program(ctx: Any) -> Any:
        yield getattr(ctx, how)([5])

    with pytest.raises(UsageError, match=r"all, race and map take durable calls, got 5"):
        run(r, program)


def test_a_race_of_nothing_is_refused(r: Resonate) -> None:
    def program(ctx: Any) -> Any:
        yield ctx.race([])

    with pytest.raises(UsageError, match=r"race of no calls"):
        run(r, program)


def test_map_keeps_its_limit(resonate: WorldClient) -> None:
    running, most = 0, 0

    def item(ctx: Any, n: int) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        yield ctx.sleep(10 - n)
        running -= 1
        return n * n

    def program(ctx: Any) -> Any:
        return (yield ctx.map(item, range(8), limit=3))

    assert run(resonate, program) == [n * n for n in range(8)]
    assert most == 3


def odd_fails(ctx: Any, n: int) -> Any:
    yield ctx.sleep(n)
    if n % 2:
        raise ValueError(f"item {n}")
    return n


def test_map_raises_the_first_failure_and_begins_no_further_items(resonate: WorldClient) -> None:
    def program(ctx: Any) -> Any:
        yield ctx.map(odd_fails, range(6), limit=2)

    with pytest.raises(ValueError, match=r"item 1"):
        run(resonate, program)
    assert not [id for id in ids_of(resonate) if id.startswith("p:1.8")]


@pytest.mark.parametrize(("enough", "result"), [(1, [0, None, None, None, None]), (2, [0, None, 2, None, None])])
def test_map_is_content_with_enough_successes(resonate: WorldClient, enough: int, result: list[Any]) -> None:
    def program(ctx: Any) -> Any:
        return (yield ctx.map(odd_fails, range(5), min_successful=enough))

    assert run(resonate, program) == result


def test_map_raises_once_enough_successes_cannot_be_reached(resonate: WorldClient, world: World) -> None:
    def program(ctx: Any) -> Any:
        began = world.clock.now()
        with pytest.raises(ValueError, match=r"item 3"):
            yield ctx.map(odd_fails, range(5), min_successful=4)
        return world.clock.now() - began

    assert run(resonate, program) == pytest.approx(3000, abs=50)


@pytest.mark.parametrize(
    ("options", "text"),
    [({"limit": 0}, "limit=0"), ({"min_successful": 0}, "min_successful=0"), ({"min_successful": 4}, "of 3 items")],
)
def test_bounds_of_map_that_cannot_be_are_refused(r: Resonate, options: Any, text: str) -> None:
    def program(ctx: Any) -> Any:
        yield ctx.map(double, [1, 2, 3], **options)

    with pytest.raises(UsageError, match=text):
        run(r, program)


@pytest.mark.parametrize("options", [{"limit": "2"}, {"limit": 1.5}, {"min_successful": "1"}], ids=str)
def test_bounds_of_map_that_are_no_numbers_are_refused(r: Resonate, options: Any) -> None:
    def program(ctx: Any) -> Any:
        yield ctx.map(double, [1, 2, 3], **options)

    with pytest.raises(TypeError, match=next(iter(options))):
        run(r, program)


# ---- facts ---------------------------------------------------------------------------------------


def test_info_tells_of_the_call(resonate: WorldClient, world: World) -> None:
    def facts(ctx: Any) -> list[Any]:
        info = ctx.info
        return [info.attempt, info.idempotency_key, info.tags, info.version, info.func_name, info.id, info.parent_id]

    def program(ctx: Any) -> Any:
        mine = [ctx.id, ctx.info.parent_id, ctx.info.origin_id, ctx.info.branch_id, ctx.info.timeout_at]
        plain = yield ctx.run(facts)
        told = yield ctx.run(facts).options(tags={"a": "b"}, idempotency_key="k", id="p:mine")
        return [mine, plain, told]

    began = world.clock.now()

    assert run(resonate.options(timeout=9), program) == [
        ["p", "p", "p", "p", began + 9000],
        [1, "p:1", {}, 1, "facts", "p:1", "p"],
        [1, "k", {"a": "b"}, 1, "facts", "p:mine", "p"],
    ]


def test_the_root_knows_its_own_options(r: Resonate) -> None:
    def program(ctx: Context) -> list[Any]:
        return [ctx.info.tags, ctx.info.idempotency_key, ctx.info.version]

    r.register(program, version=3)

    assert r.options(tags={"a": "b"}, idempotency_key="k").run("p", program) == [{"a": "b"}, "k", 3]


def test_a_remote_function_knows_the_options_of_its_call(r: Resonate) -> None:
    def child(ctx: Any) -> list[Any]:
        return [ctx.info.tags, ctx.info.id, ctx.info.parent_id, ctx.info.origin_id, ctx.info.branch_id]

    def program(ctx: Any) -> Any:
        return (yield ctx.rpc(child).options(tags={"a": "b"}))

    r.register(child)

    assert run(r, program) == [{"a": "b"}, "p:1", "p", "p", "p:1"]


@pytest.mark.parametrize("how", ["run", "rpc"])
@pytest.mark.parametrize(("key", "known"), [("k", "k"), (lambda id: f"key of {id}", "key of p:1"), (None, "p:1")])
def test_a_child_knows_its_idempotency_key(r: Resonate, how: str, key: Any, known: str) -> None:
    def child(ctx: Any) -> Any:
        return ctx.info.idempotency_key

    def program(ctx: Any) -> Any:
        return (yield getattr(ctx, how)(child).options(idempotency_key=key))

    r.register(child)

    assert run(r, program) == known


def test_the_logger_names_the_call_and_obeys_the_log_level(caplog: pytest.LogCaptureFixture) -> None:
    def program(ctx: Any) -> Any:
        ctx.logger.debug("too quiet")
        for name in ("info", "warning", "error", "critical"):
            getattr(ctx.logger, name)("said %s", name)
        ctx.logger.log(logging.ERROR, "logged")
        yield ctx.sleep(0)

    with Resonate(log_level="WARNING") as client, caplog.at_level(logging.DEBUG):
        run(client, program)

    lines = [record.getMessage() for record in caplog.records if record.name == "resonate.function"]
    assert lines == ["[p] said warning", "[p] said error", "[p] said critical", "[p] logged"]


class Database:
    pass


def test_dependencies_are_found_by_name_and_by_type(r: Resonate) -> None:
    database = Database()
    r.set_dependency("answer", 42)
    r.with_dependency(database)

    def program(ctx: Any) -> Any:
        yield ctx.sleep(0)
        assert ctx.get_dependency(Database) is database
        with pytest.raises(TypeError):
            ctx.dependencies["answer"] = 5
        with pytest.raises(TypeError):
            ctx.get_dependency(5)
        with pytest.raises(KeyError):
            ctx.dependencies["nothing"]
        return [
            ctx.dependencies["answer"],
            ctx.get_dependency("answer"),
            ctx.get_dependency("nothing"),
            ctx.get_dependency("nothing", "default"),
            (yield ctx.run(lambda ctx: ctx.dependencies["answer"])),
        ]

    assert run(r, program) == [42, 42, None, "default", 42]


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("betavariate", (1, 2)),
        ("choice", ([1, 2, 3],)),
        ("expovariate", (1.5,)),
        ("getrandbits", (8,)),
        ("randint", (1, 1000)),
        ("random", ()),
        ("randrange", (1000,)),
        ("triangular", (0, 10)),
    ],
)
def test_chance_is_drawn_from_the_dependency_once(r: Resonate, name: str, args: Any) -> None:
    r.set_dependency("resonate:random", random.Random(5))

    def program(ctx: Any) -> Any:
        return (yield getattr(ctx.random, name)(*args))

    expected = getattr(random.Random(5), name)(*args)

    assert run(r, program) == expected
    assert r.get("p:1").result() == expected


def test_a_draw_does_not_say_that_an_argument_of_it_has_changed(r: Resonate, caplog: pytest.LogCaptureFixture) -> None:
    def program(ctx: Any) -> Any:
        yield ctx.time.time()
        yield ctx.time.strftime("%Y")
        return (yield ctx.random.choice([7]))

    assert run(r, program) == 7
    assert "has changed" not in caplog.text


def test_time_is_read_from_the_dependency(r: Resonate) -> None:
    r.set_dependency("resonate:time", SimpleNamespace(time=lambda: 12.5, strftime=lambda form: form + "!"))

    def program(ctx: Any) -> Any:
        return [(yield ctx.time.time()), (yield ctx.time.strftime("%Y"))]

    assert run(r, program) == [12.5, "%Y!"]


def test_other_draws_are_not_offered(r: Resonate) -> None:
    def program(ctx: Any) -> Any:
        with pytest.raises(AttributeError, match=r"ctx\.random has no 'shuffle'; it offers betavariate, choice"):
            ctx.random.shuffle
        with pytest.raises(AttributeError, match=r"ctx\.time has no 'sleep'; it offers strftime, time"):
            ctx.time.sleep
        return (yield ctx.random.random()) < 1

    assert run(r, program) is True


def test_a_draw_that_fails_is_an_error_at_once(r: Resonate) -> None:
    def program(ctx: Any) -> Any:
        yield ctx.random.choice([])

    with pytest.raises(IndexError):
        run(r, program)
