"""`run`, `begin_run`, `rpc`, `begin_rpc` and `get`: what they take, give and refuse."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from resonate import Context, Handle, Resonate
from resonate.errors import (
    EncodeError,
    FunctionNotFound,
    InvalidId,
    ResonateCanceledError,
    ResonateStoreError,
    ResonateTimedoutError,
)
from resonate.testing import World

pytestmark = pytest.mark.usefixtures("place")

METHODS = ["run", "begin_run", "rpc", "begin_rpc"]


@dataclass
class Point:
    x: int
    y: int


class Misfortune(Exception):
    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


def add(ctx: Context, x: int, y: int = 1, *, z: int = 0) -> int:
    return x + y + z


def add_in_steps(ctx: Context, x: int, y: int = 1, *, z: int = 0) -> Generator[Any, Any, int]:
    result: int = yield ctx.run(add, x, y, z=z)
    return result


async def add_async(ctx: Context, x: int, y: int = 1, *, z: int = 0) -> int:
    result: int = await ctx.run(add, x, y, z=z)
    return result


def fail(ctx: Context) -> Generator[Any, Any, None]:
    yield from ()
    raise Misfortune("no luck")


def echo(ctx: Context, *args: Any, **kwargs: Any) -> Any:
    return [list(args), kwargs]


def mirror(ctx: Context, point: Point) -> Point:
    return Point(point.y, point.x)


def returns_a_lock(ctx: Context) -> Any:
    return {"items": [1, threading.Lock()]}


FUNCTIONS: list[Callable[..., Any]] = [add, add_in_steps, add_async]


@pytest.fixture
def client() -> Iterator[Resonate]:
    with Resonate() as client:
        others: list[Callable[..., Any]] = [fail, echo, mirror, returns_a_lock]
        for func in [*FUNCTIONS, *others]:
            client.register(func)
        yield client


def call(client: Resonate, method: str, id: Any, func: Any, *args: Any, **kwargs: Any) -> Any:
    result = getattr(client, method)(id, func, *args, **kwargs)
    return result.result(timeout=10) if method.startswith("begin") else result


# ---- what they give -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("func", FUNCTIONS, ids=lambda func: func.__name__)
def test_every_way_to_call_gives_the_result_of_every_kind_of_function(
    client: Resonate, method: str, func: Callable[..., Any]
) -> None:
    assert call(client, method, "object", func, 1, 2, z=3) == 6
    assert call(client, method, "name", func.__name__, 1) == 2


@pytest.mark.parametrize("method", METHODS)
def test_an_error_comes_back_with_class_text_and_attributes(client: Resonate, method: str) -> None:
    with pytest.raises(Misfortune, match="no luck") as raised:
        call(client, method, "x", fail)

    assert raised.value.what == "no luck"


@pytest.mark.parametrize("method", METHODS)
def test_arguments_and_results_keep_their_types(client: Resonate, method: str) -> None:
    assert call(client, method, "x", mirror, Point(1, 2)) == Point(2, 1)


@pytest.mark.parametrize("method", ["run", "rpc"])
def test_id_and_func_may_be_keywords(client: Resonate, method: str) -> None:
    assert getattr(client, method)(id="x", func=add, x=1, z=5) == 7


@pytest.mark.parametrize("method", ["begin_run", "begin_rpc"])
def test_begin_gives_a_handle_while_the_function_still_runs(client: Resonate, method: str) -> None:
    gate = threading.Event()
    client.register(lambda ctx: gate.wait(10), name="waits")

    handle = getattr(client, method)("x", "waits")

    assert (type(handle), handle.id, handle.done()) == (Handle, "x", False)
    gate.set()
    assert handle.result(timeout=10) is True


@pytest.mark.parametrize("method", METHODS)
def test_the_function_gets_a_context_with_the_id_of_the_call(client: Resonate, method: str) -> None:
    client.register(lambda ctx: [ctx.id, ctx.info.attempt, ctx.info.version], name="who", version=3)

    assert call(client, method, "order-7", "who") == ["order-7", 1, 3]


def test_the_first_call_starts_the_client() -> None:
    client = Resonate()
    client.register(add)

    assert client.run("x", add, 1) == 2
    client.stop()


def test_what_begin_run_promised_can_be_read_as_a_promise(client: Resonate) -> None:
    client.begin_run("x", add_in_steps, 1).result(timeout=10)

    promise = client.promises.get("x")

    assert (promise.state, promise.value.data) == ("RESOLVED", "2")
    assert client.promises.get("x:1").state == "RESOLVED"


def test_many_executions_run_side_by_side(client: Resonate) -> None:
    handles = [client.begin_run(f"x-{n}", FUNCTIONS[n % 3], n) for n in range(200)]

    assert [handle.result(timeout=10) for handle in handles] == [n + 1 for n in range(200)]


def test_a_plain_step_may_call_run_with_a_single_worker() -> None:
    with Resonate(workers=1) as client:
        client.register(add)

        @client.register
        def nests(ctx: Context, depth: int) -> int:
            return depth if depth == 5 else client.run(f"{ctx.id}-{depth}", nests, depth + 1)

        assert client.begin_run("x", nests, 0).result(timeout=10) == 5


# ---- deadlines ----------------------------------------------------------------------------------------------


def test_the_deadline_of_a_root_is_one_year_unless_told_otherwise(world: World) -> None:
    client = world.client()
    client.register(lambda ctx: None, name="f")
    now = world.clock.now()

    client.run("default", "f")
    client.options(timeout=5).run("five", "f")

    assert client.promises.get("default").timeout == now + 31_536_000_000
    assert client.promises.get("five").timeout == now + 5_000


@pytest.mark.parametrize("method", METHODS)
def test_a_deadline_that_has_passed_is_a_timeout_for_whoever_asks(client: Resonate, method: str) -> None:
    with pytest.raises(ResonateTimedoutError) as raised:
        call(client.options(timeout=0), method, "x", add, 1)

    assert raised.value.promise_id == "x"


def test_the_caller_of_run_hears_of_the_deadline_while_the_step_is_still_busy(client: Resonate) -> None:
    gate = threading.Event()
    client.register(lambda ctx: gate.wait(10), name="waits")

    with pytest.raises(ResonateTimedoutError):
        client.options(timeout=0.05).run("x", "waits")

    gate.set()


# ---- rpc and its target ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("registered", "target"),
    [(True, "poll://any@billing"), (False, "poll://any@default")],
    ids=["known here", "unknown here"],
)
def test_rpc_goes_to_the_own_group_if_it_has_the_function_and_else_to_default(
    world: World, registered: bool, target: str
) -> None:
    client, elsewhere = world.client(group="billing"), world.client(group="default")
    elsewhere.register(lambda ctx: "default", name="f")
    elsewhere.start()
    if registered:
        client.register(lambda ctx: "billing", name="f")

    result = client.rpc("x", "f")

    assert result == ("billing" if registered else "default")
    assert client.promises.get("x").tags["resonate:target"] == target


def test_run_targets_the_own_group_so_that_a_crash_is_picked_up_there(world: World) -> None:
    client = world.client(group="billing")
    client.register(lambda ctx: 1, name="f")

    client.run("own", "f")
    client.options(target="other").run("told", "f")
    client.options(target="https://h/path").run("address", "f")

    tags = {id: client.promises.get(id).tags["resonate:target"] for id in ("own", "told", "address")}
    assert tags == {"own": "poll://any@billing", "told": "poll://any@other", "address": "https://h/path"}


def test_rpc_to_a_group_that_nobody_serves_ends_at_its_deadline(world: World) -> None:
    client = world.client()

    with pytest.raises(ResonateTimedoutError):
        client.options(target="nobody", timeout=60).rpc("x", "whatever", 1, 2)


def test_rpc_by_an_unknown_name_records_the_version_asked_for_or_one(world: World) -> None:
    client = world.client()

    client.options(target="others").begin_rpc("none", "f")
    client.options(target="others", version=4).begin_rpc("four", "f")

    assert '"version":1' in (client.promises.get("none").param.data or "")
    assert '"version":4' in (client.promises.get("four").param.data or "")


# ---- get -------------------------------------------------------------------------------------------------------


def test_get_finds_executions_children_and_bare_promises(client: Resonate) -> None:
    client.run("x", add_in_steps, 1)
    client.promises.create("bare", 10**15)
    client.promises.resolve("bare", data='"by hand"')

    results = [client.get(id).result(timeout=10) for id in ("x", "x:1", "bare")]

    assert results == [2, 2, "by hand"]


def test_get_finds_what_another_thread_still_runs(client: Resonate) -> None:
    gate = threading.Event()
    client.register(lambda ctx: gate.wait(10), name="waits")
    client.begin_run("x", "waits")

    handle = client.get("x")

    assert not handle.done()
    gate.set()
    assert handle.result(timeout=10) is True


def test_get_of_what_is_not_there_is_refused_at_once(client: Resonate) -> None:
    with pytest.raises(ResonateStoreError, match="The specified promise was not found") as raised:
        client.get("nobody")

    assert raised.value.code == 100.404


@pytest.mark.parametrize(
    ("settle", "error"),
    [
        (lambda promises: promises.reject("p", data='"bad"'), Exception("bad")),
        (lambda promises: promises.reject("p", data='{"__error__": "m"}'), Exception("m")),
        (lambda promises: promises.reject("p"), Exception(None)),
        (lambda promises: promises.cancel("p"), ResonateCanceledError("p")),
    ],
    ids=["value", "error", "null", "cancelled"],
)
def test_a_promise_settled_by_hand_gives_what_the_contract_says(
    client: Resonate, settle: Callable[[Any], Any], error: Exception
) -> None:
    client.promises.create("p", 10**15)
    handle = client.get("p")
    assert not handle.done()

    settle(client.promises)

    with pytest.raises(type(error)) as raised:
        handle.result(timeout=10)
    assert (type(raised.value), raised.value.args) == (type(error), error.args)


def test_a_promise_with_text_that_is_no_json_is_an_error_of_whoever_reads_it(client: Resonate) -> None:
    client.promises.create("p", 10**15)
    client.promises.resolve("p", data="{no json")

    with pytest.raises(ValueError, match="p"):
        client.get("p").result(timeout=10)
    assert client.run("x", add, 1) == 2


# ---- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("id", [None, 1, b"x", ["x"]], ids=repr)
def test_an_id_that_is_no_text_is_a_type_error(client: Resonate, method: str, id: Any) -> None:
    with pytest.raises(TypeError, match="id must be `str`, got "):
        call(client, method, id, add, 1)


@pytest.mark.parametrize("method", [*METHODS, "get"])
@pytest.mark.parametrize(
    ("id", "reason"),
    [
        ("", "an id is not empty and holds no NUL"),
        ("a\0b", "an id is not empty and holds no NUL"),
        ("x" * 2049, "an id has at most 2048 bytes"),
        ("ü" * 1025, "an id has at most 2048 bytes"),
        ("\ud800", "an id is text that UTF-8 can write"),
    ],
    ids=["empty", "NUL", "long", "long in bytes", "surrogate"],
)
def test_an_id_that_no_promise_can_have_is_refused_with_the_reason(
    client: Resonate, method: str, id: str, reason: str
) -> None:
    with pytest.raises(InvalidId, match=reason) as raised:
        getattr(client, method)(id) if method == "get" else call(client, method, id, add, 1)

    assert len(str(raised.value)) < 250


def test_the_longest_id_works(client: Resonate) -> None:
    assert client.run("x" * 2048, add, 1) == 2


@pytest.mark.parametrize("id", ["a b", "a/b", "ü", "a\nb", "{}", "x.1"])
def test_an_id_may_be_any_other_text(client: Resonate, id: str) -> None:
    assert client.run(id, add_in_steps, 1) == 2
    assert client.get(id).result(timeout=10) == 2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("func", [None, 1, ["add"], b"add"], ids=repr)
def test_a_func_that_is_neither_function_nor_name_is_a_type_error(client: Resonate, method: str, func: Any) -> None:
    with pytest.raises(TypeError, match=r"func must be `Callable \| str`, got "):
        call(client, method, "x", func)

    assert not_there(client, "x")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("func", [dict, len, Point(1, 2).__eq__], ids=["class", "builtin", "method"])
def test_a_callable_that_is_no_function_is_a_value_error(client: Resonate, method: str, func: Any) -> None:
    with pytest.raises(ValueError, match="provided callable must be a function"):
        call(client, method, "x", func)

    assert not_there(client, "x")


@pytest.mark.parametrize("method", METHODS)
def test_a_function_that_is_not_registered_is_named_with_those_that_are(client: Resonate, method: str) -> None:
    def stranger(ctx: Context) -> None: ...

    with pytest.raises(FunctionNotFound, match="function stranger not found in registry") as raised:
        call(client, method, "x", stranger)

    assert "add_in_steps" in str(raised.value)
    assert raised.value.known == ("add", "add_async", "add_in_steps", "echo", "fail", "mirror", "returns_a_lock")
    assert not_there(client, "x")


@pytest.mark.parametrize("method", ["run", "begin_run"])
def test_a_name_that_is_not_registered_here_can_only_be_called_remotely(client: Resonate, method: str) -> None:
    with pytest.raises(ValueError, match="function stranger not found in registry"):
        call(client, method, "x", "stranger")

    assert not_there(client, "x")


@pytest.mark.parametrize("method", METHODS)
def test_an_empty_name_is_refused(client: Resonate, method: str) -> None:
    with pytest.raises(ValueError, match="got an empty string"):
        call(client, method, "x", "")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("func", ["add", add_in_steps, add_async], ids=["name", "generator", "async"])
@pytest.mark.parametrize(
    ("args", "kwargs", "problem"),
    [
        ((), {}, "missing 'x'"),
        ((1, 2, 3), {}, "takes at most 2 positional arguments behind the context, got 3"),
        ((1,), {"x": 2}, "got multiple values for argument 'x'"),
        ((1,), {"w": 2}, "got an unexpected keyword argument 'w'"),
    ],
    ids=["missing", "many", "twice", "unknown"],
)
def test_arguments_that_do_not_fit_are_refused_at_the_call_with_the_signature(
    client: Resonate, method: str, func: Any, args: Any, kwargs: Any, problem: str
) -> None:
    with pytest.raises(TypeError, match=problem) as raised:
        call(client, method, "x", func, *args, **kwargs)

    assert "(ctx: 'Context', x: 'int', y: 'int' = 1, *, z: 'int' = 0)" in str(raised.value)
    assert not_there(client, "x")


def named_like_ours(ctx: Context, self: int, func: int = 0) -> int:
    return self + func


def test_parameters_may_be_called_like_those_of_our_methods(client: Resonate) -> None:
    function = client.register(named_like_ours)

    @client.register
    def program(ctx: Context) -> Generator[Any, Any, Any]:
        here = yield ctx.run(named_like_ours, self=1, func=2)
        begun = yield ctx.begin_run(named_like_ours, self=1, func=2)
        there = yield ctx.rpc(named_like_ours, self=1, func=2)
        there_begun = yield ctx.begin_rpc(named_like_ours, self=1, func=2)
        return here + (yield begun) + there + (yield there_begun)

    assert client.run("a", program) == 12
    assert client.run("b", named_like_ours, self=1) == 1
    assert client.begin_rpc("c", named_like_ours, self=1).result() == 1
    assert function.run("d", self=1, func=2) == 3
    assert function.begin_rpc("e", self=1, func=2).result() == 3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("args", "kwargs", "path"),
    [
        ((threading.Lock(),), {}, "args[0]: _thread.lock"),
        ((1, {"a": [object()]}), {}, 'args[1]["a"][0]: object'),
        ((), {"k": {"a": [add]}}, 'kwargs["k"]["a"][0]: function'),
        ((), {"k": print}, 'kwargs["k"]: builtin_function_or_method'),
    ],
    ids=["argument", "inside an argument", "inside a keyword", "function"],
)
def test_an_argument_that_cannot_be_stored_is_refused_with_its_path(
    client: Resonate, method: str, args: Any, kwargs: Any, path: str
) -> None:
    with pytest.raises(EncodeError) as raised:
        call(client, method, "x", echo, *args, **kwargs)

    assert str(raised.value).startswith(path)
    assert "of echo" in str(raised.value)
    assert not_there(client, "x")


@pytest.mark.parametrize("method", METHODS)
def test_a_result_that_cannot_be_stored_is_the_failure_of_the_function(client: Resonate, method: str) -> None:
    with pytest.raises(EncodeError, match=r'^result\["items"\]\[1\]: _thread.lock cannot be stored .*returns_a_lock'):
        call(client, method, "x", returns_a_lock)

    assert client.promises.get("x").state == "REJECTED"


def not_there(client: Resonate, id: str) -> bool:
    try:
        client.promises.get(id)
    except ResonateStoreError as error:
        return error.code == 100.404
    return False
