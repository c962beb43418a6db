"""Options on the client, the registered function and the call: what each does and which one wins."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Generator
from datetime import timedelta
from typing import Any

import pytest

from resonate import Context, Resonate
from resonate.dependencies import Dependencies
from resonate.errors import DecodeError, EncodeError, InvalidId, ResonateStoreError, ResonateTimedoutError
from resonate.registry import Registry
from resonate.retry_policies import Constant, Never
from resonate.testing import World, WorldClient

METHODS = ["run", "begin_run", "rpc", "begin_rpc"]


@pytest.fixture
def client(world: World) -> WorldClient:
    client = world.client()
    for func in (seen, parent, flaky, echo):
        client.register(func)
    return client


def seen(ctx: Context) -> dict[str, Any]:
    """What a function sees of its options; the deadline in seconds from now."""
    own = {name: value for name, value in ctx.info.tags.items() if not name.startswith("resonate:")}
    now = ctx.get_dependency("resonate:time").time()
    return {"tags": own, "timeout": round(ctx.info.timeout - now), "version": ctx.info.version}


def parent(ctx: Context) -> Generator[Any, Any, Any]:
    here = yield ctx.run(seen)
    there = yield ctx.rpc(seen)
    return [here, there]


def flaky(ctx: Context) -> int:
    if ctx.info.attempt < 3:
        raise ConnectionError("try again")
    return ctx.info.attempt


def echo(ctx: Context, value: Any) -> Any:
    return value


def call(runner: Any, method: str, *args: Any) -> Any:
    result = getattr(runner, method)(*args)
    return result.result() if method.startswith("begin") else result


class Reversed:
    """JSON backwards."""

    def encode(self, obj: Any) -> str | None:
        return None if obj is None else json.dumps(obj, default=str)[::-1]

    def decode(self, obj: str | None) -> Any:
        return None if obj is None else json.loads(obj[::-1])


# ---- copies ----------------------------------------------------------------------------------------------


def test_options_give_a_copy_that_shares_everything_else(client: WorldClient) -> None:
    copy = client.options(tags={"a": "b"})

    copy.register(lambda ctx: ctx.dependencies["x"], name="late")
    client.set_dependency("x", 42)

    assert copy is not client
    assert type(copy) is type(client)
    assert (copy.pid, copy.group) == (client.pid, client.group)
    assert client.run("from-client", "late") == 42
    assert client.promises.get("from-client").tags.get("a") is None


def test_options_are_merged_field_by_field_over_those_of_the_receiver(client: WorldClient) -> None:
    first = client.options(timeout=60, tags={"a": "1", "b": "2"})

    second = first.options(tags={"c": "3"})
    third = second.options(timeout=None, tags=None)

    assert third.run("x", seen) == {"tags": {"c": "3"}, "timeout": 60, "version": 1}
    assert first.run("y", seen)["tags"] == {"a": "1", "b": "2"}


def test_a_dict_of_tags_may_be_changed_afterwards_without_effect(client: WorldClient) -> None:
    tags = {"a": "1"}
    copy = client.options(tags=tags)

    tags["a"] = "changed"

    assert copy.run("x", seen)["tags"] == {"a": "1"}


# ---- what each option does ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_tags_and_timeout_reach_the_promise_and_the_function(client: WorldClient, method: str) -> None:
    options = client.options(tags={"customer": "7"}, timeout=timedelta(minutes=1))

    assert call(options, method, "x", seen) == {"tags": {"customer": "7"}, "timeout": 60, "version": 1}
    assert client.promises.get("x").tags["customer"] == "7"


def test_tags_of_the_caller_cannot_replace_those_of_ours(client: WorldClient) -> None:
    client.options(tags={"resonate:target": "elsewhere", "resonate:origin": "other"}).run("x", seen)

    tags = client.promises.get("x").tags
    assert (tags["resonate:target"], tags["resonate:origin"]) == ("poll://any@default", "x")


@pytest.mark.parametrize("timeout", [0.5, 1, timedelta(milliseconds=1500)], ids=repr)
def test_a_timeout_is_in_seconds_whatever_its_type(world: World, client: WorldClient, timeout: Any) -> None:
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    now = world.clock.now()

    client.options(timeout=timeout).run("x", seen)

    assert client.promises.get("x").timeout - now == seconds * 1000


@pytest.mark.parametrize("method", METHODS)
def test_a_retry_policy_of_the_client_is_that_of_the_root(client: WorldClient, method: str) -> None:
    patient = client.options(retry_policy=Constant(delay=1, max_retries=2))
    hasty = client.options(retry_policy=Constant(delay=1, max_retries=1))

    assert call(patient, method, "patient", flaky) == 3
    with pytest.raises(ConnectionError):
        call(hasty, method, "hasty", flaky)


def test_a_retry_policy_may_be_a_function_of_the_function(client: WorldClient) -> None:
    asked: list[Any] = []

    def policy(func: Any) -> Never:
        asked.append(func)
        return Never()

    with pytest.raises(ConnectionError):
        client.options(retry_policy=policy).run("x", flaky)

    assert set(asked) == {flaky}


@pytest.mark.parametrize("method", METHODS)
def test_an_encoder_writes_arguments_and_result_and_no_types_beside_them(client: WorldClient, method: str) -> None:
    options = client.options(encoder=Reversed())

    assert call(options, method, "x", echo, {"a": [1]}) == {"a": [1]}

    promise = client.promises.get("x")
    assert promise.value.data == '}]1[ :"a"{'
    assert set(promise.value.headers or {}) == {"resonate:py:ran"}
    assert json.loads((promise.param.data or "")[::-1])["args"] == [{"a": [1]}]


def test_another_worker_reads_calls_with_the_encoder_that_its_function_was_registered_with(world: World) -> None:
    caller, worker = world.client(group="caller"), world.client(group="worker")
    worker.options(encoder=Reversed()).register(echo)
    worker.start()

    assert caller.options(encoder=Reversed(), target="worker").rpc("x", "echo", [1]) == [1]
    assert caller.promises.get("x").value.data == "]1["
    assert caller.options(target="worker").rpc("plain", "echo", [1]) == [1]
    assert caller.promises.get("plain").value.data == "[1]"


def test_what_an_encoder_has_written_is_read_with_it_and_said_to_need_it_without(client: WorldClient) -> None:
    options = client.options(encoder=Reversed())
    options.run("x", echo, [1])

    with pytest.raises(DecodeError, match=r"x is not JSON: .* an encoder .* was not given: r\.options\(encoder="):
        client.get("x").result()
    assert options.get("x").result() == [1]
    with pytest.raises(ResonateStoreError, match="not found"):
        options.get("nobody")


def test_a_worker_without_the_encoder_of_a_call_says_that_it_may_lack_one(world: World) -> None:
    caller, worker = world.client(group="caller"), world.client(group="worker")
    worker.register(echo)
    worker.start()

    with pytest.raises(Exception, match=r"the invocation is not JSON: .* an encoder .* was not given"):
        caller.options(encoder=Reversed(), target="worker").rpc("x", "echo", [1])


def test_an_encoder_of_the_official_kind_works_as_it_is(client: WorldClient) -> None:
    from resonate.encoders import Base64Encoder, CombinedEncoder, JsonEncoder

    options = client.options(encoder=CombinedEncoder(JsonEncoder(), Base64Encoder()))

    assert options.run("x", echo, [1, 2]) == [1, 2]
    assert json.loads(base64.b64decode(client.promises.get("x").value.data or "")) == [1, 2]


def test_the_idempotency_key_is_the_id_unless_given_as_text_or_function(client: WorldClient) -> None:
    client.run("default", seen)
    client.options(idempotency_key=None).run("none", seen)
    client.options(idempotency_key="k").run("text", seen)
    client.options(idempotency_key=lambda id: id.upper()).run("function", seen)

    keys = [client.promises.get(id).ikey_for_create for id in ("default", "none", "text", "function")]
    assert keys == ["default", "none", "k", "FUNCTION"]


def test_one_idempotency_key_does_not_join_two_ids(client: WorldClient) -> None:
    options = client.options(idempotency_key="k")

    assert [options.run("x", echo, 1), options.run("y", echo, 2)] == [1, 2]


def test_an_idempotency_key_function_that_gives_no_text_is_refused_before_anything_starts(client: WorldClient) -> None:
    with pytest.raises(TypeError, match="idempotency_key: the function gave int for 'x', not `str`"):
        client.options(idempotency_key=lambda id: 1).run("x", seen)

    with pytest.raises(ResonateStoreError):
        client.promises.get("x")


# ---- precedence -----------------------------------------------------------------------------------------------


def test_options_of_the_client_do_not_reach_its_children(client: WorldClient) -> None:
    children = client.options(tags={"a": "1"}, version=0, timeout=60).run("x", parent)

    assert [child["tags"] for child in children] == [{}, {}]


def test_a_childs_deadline_is_bounded_by_its_callers(client: WorldClient) -> None:
    @client.register
    def asks(ctx: Context) -> Generator[Any, Any, Any]:
        shorter = yield ctx.run(seen).options(timeout=5)
        longer = yield ctx.run(seen).options(timeout=500)
        return [shorter["timeout"], longer["timeout"]]

    assert client.options(timeout=60).run("x", asks) == [5, 60]


def test_options_of_a_call_are_those_of_that_call_alone(client: WorldClient) -> None:
    registered = client.options(tags={"from": "client"}).register(lambda ctx: seen(ctx), name="f")
    registered.options(tags={"from": "function"}, timeout=30)

    @client.register
    def asks(ctx: Context) -> Generator[Any, Any, Any]:
        plain = yield ctx.run(registered)
        told = yield ctx.run(registered).options(tags={"from": "call"})
        remote = yield ctx.rpc(registered).options(tags={"from": "remote call"}, timeout=20)
        return [plain["tags"], told["tags"], remote["tags"], remote["timeout"]]

    result = client.options(timeout=60).run("x", asks)

    assert result == [{}, {"from": "call"}, {"from": "remote call"}, 20]


@pytest.mark.parametrize("method", METHODS)
def test_options_of_a_registered_function_are_used_by_its_own_calls_only(client: WorldClient, method: str) -> None:
    registered = client.register(lambda ctx: seen(ctx), name="f").options(tags={"from": "function"}, timeout=30)

    own = call(registered, method, "own")
    by_client = call(client.options(tags={"from": "client"}), method, "by-client", registered)

    assert own == {"tags": {"from": "function"}, "timeout": 30, "version": 1}
    assert by_client["tags"] == {"from": "client"}
    assert by_client["timeout"] == 31_536_000


def test_options_of_a_registered_function_change_it_in_place(client: WorldClient) -> None:
    registered = client.register(lambda ctx: seen(ctx), name="f")

    same = registered.options(timeout=30)
    registered.options(tags={"a": "1"})

    assert same is registered
    assert registered.run("x") == {"tags": {"a": "1"}, "timeout": 30, "version": 1}


def test_options_of_the_client_at_registration_become_those_of_the_function(client: WorldClient) -> None:
    registered = client.options(timeout=4, tags={"a": "1"}).register(lambda ctx: seen(ctx), name="f")

    assert registered.run("own") == {"tags": {"a": "1"}, "timeout": 4, "version": 1}
    assert client.run("by-function", registered)["timeout"] == 31_536_000
    assert client.run("by-name", "f")["tags"] == {}


# ---- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["client", "function"])
@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"timeout": "5"}, TypeError, "timeout must be .*, got str"),
        ({"timeout": True}, TypeError, "timeout must be .*, got bool"),
        ({"timeout": -1}, ValueError, "timeout must be greater than or equal to zero"),
        ({"timeout": float("nan")}, ValueError, "timeout must be a number of seconds"),
        ({"timeout": float("inf")}, ValueError, "timeout must be at most"),
        ({"version": "1"}, TypeError, "version must be `int`, got str"),
        ({"version": -1}, ValueError, "version must be greater than or equal to zero"),
        ({"tags": [("a", "b")]}, TypeError, "tags must be"),
        ({"tags": {"a": 1}}, TypeError, "tags must be"),
        ({"tags": {1: "a"}}, TypeError, "tags must be"),
        ({"target": 1}, TypeError, "target must be `str`, got int"),
        ({"target": ""}, ValueError, "target must name a group or an address"),
        ({"target": "two words"}, ValueError, "target 'two words' holds a space"),
        ({"target": "a\0"}, ValueError, "holds a NUL or a lone surrogate"),
        ({"idempotency_key": 1}, TypeError, "idempotency_key must be"),
        ({"encoder": json}, TypeError, "encoder must have encode"),
        ({"retry_policy": 1}, TypeError, "retry_policy must be"),
        ({"retry_policy": Never}, TypeError, r"retry_policy must be .*: write Never\(\)"),
        ({"check_args": 1}, TypeError, "check_args must be `bool`, got int"),
        ({"durable": False}, TypeError, "unexpected keyword argument 'durable'"),
        ({"id": "x"}, TypeError, "unexpected keyword argument 'id'"),
        ({"non_retryable_exceptions": (ValueError,)}, TypeError, "unexpected keyword argument"),
        ({"timeuot": 5}, TypeError, "unexpected keyword argument 'timeuot'"),
    ],
    ids=repr,
)
def test_a_wrong_option_is_refused_by_name_and_leaves_the_others(
    client: WorldClient, where: str, given: dict[str, Any], error: type[Exception], text: str
) -> None:
    registered = client.register(lambda ctx: seen(ctx), name="f").options(timeout=30)

    with pytest.raises(error, match=text):
        (client if where == "client" else registered).options(**given)

    assert registered.run("x")["timeout"] == 30


class Broken:
    """An encoder that does what it should for its first values only."""

    def __init__(self, good: int, then: Any) -> None:
        self.good, self.then = good, then

    def encode(self, obj: Any) -> Any:
        self.good -= 1
        if self.good >= 0:
            return json.dumps(obj)
        if isinstance(self.then, Exception):
            raise self.then
        return self.then

    def decode(self, obj: str | None) -> Any:
        return None if obj is None else json.loads(obj)


@pytest.mark.parametrize(
    ("then", "error", "text"),
    [(5, EncodeError, "Broken.encode must give"), (RuntimeError("broken"), RuntimeError, "broken")],
    ids=["wrong type", "raises"],
)
@pytest.mark.parametrize("good", [0, 1], ids=["arguments", "result"])
def test_an_encoder_that_fails_is_an_error_of_the_one_call(
    client: WorldClient, good: int, then: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        client.options(encoder=Broken(good, then), retry_policy=Never()).run("x", echo, 1)

    assert client.run("y", echo, 1) == 1


class Policy:
    def __init__(self, gives: Any) -> None:
        self.gives = gives

    def next(self, attempt: int) -> Any:
        if isinstance(self.gives, Exception):
            raise self.gives
        return self.gives


@pytest.mark.parametrize(
    ("gives", "error", "text"),
    [
        ("x", TypeError, r"what retry_policy.next\(\) gives must be .*, got str"),
        (-1, ValueError, r"what retry_policy.next\(\) gives must be greater than or equal to zero, got -1"),
        (float("nan"), ValueError, r"what retry_policy.next\(\) gives must be a number of seconds"),
        (RuntimeError("policy"), RuntimeError, "policy"),
        (None, ConnectionError, "try again"),
    ],
    ids=repr,
)
def test_a_policy_that_gives_no_wait_ends_the_one_call_with_the_reason(
    client: WorldClient, gives: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        client.options(retry_policy=Policy(gives)).run("x", flaky)

    assert client.promises.get("x").state == "REJECTED"


def test_options_are_given_by_keyword(client: WorldClient) -> None:
    with pytest.raises(TypeError):
        client.options(5)  # type: ignore[call-arg]


def test_an_explicit_child_id_must_be_one(client: WorldClient) -> None:
    @client.register
    def names(ctx: Context, id: str) -> Generator[Any, Any, Any]:
        result = yield ctx.run(seen).options(id=id)
        return result["version"]

    assert client.run("good", names, "mine") == 1
    with pytest.raises(InvalidId):
        client.run("bad", names, "")


# ---- set_dependency ---------------------------------------------------------------------------------------------


def test_dependencies_are_there_for_every_function_however_they_ask() -> None:
    class Database:
        pass

    database = Database()
    with Resonate() as client:
        client.set_dependency("db", "first")
        client.options(timeout=5).set_dependency("db", database)
        client.with_dependency(database)

        @client.register
        def asks(ctx: Context) -> list[bool]:
            same = [ctx.dependencies["db"], ctx.get_dependency("db"), ctx.get_dependency(Database)]
            return [*(found is database for found in same), ctx.get_dependency("none", 7) == 7]

        assert client.run("x", asks) == [True] * 4


@pytest.mark.parametrize("name", [None, 1, b"db", str], ids=repr)
def test_the_name_of_a_dependency_is_text(name: Any) -> None:
    with pytest.raises(TypeError, match="the name of a dependency must be `str`, got"):
        Resonate().set_dependency(name, 1)


def test_dependencies_may_be_set_while_the_client_runs_and_after_it_stopped() -> None:
    shared = Dependencies()
    client = Resonate(dependencies=shared, registry=Registry())
    client.start()
    client.set_dependency("a", 1)
    client.stop()

    client.set_dependency("b", threading)

    assert dict(shared.view()) == {"a": 1, "b": threading}


def test_a_deadline_in_the_past_is_a_timeout(client: WorldClient) -> None:
    with pytest.raises(ResonateTimedoutError):
        client.options(timeout=0).run("x", seen)


@pytest.mark.parametrize("tags", [{"a": "\0"}, {"\0": "a"}, {"a": "\udc00"}], ids=["nul", "nul in key", "surrogate"])
def test_tags_are_text_that_every_storage_can_keep(tags: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="cannot be stored"):
        Resonate().options(tags=tags)
