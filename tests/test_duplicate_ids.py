"""One id is one call: what joins, what is given again and what is refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from resonate import Context, Resonate
from resonate.errors import IdConflict, ResonateStoreError
from resonate.testing import World

pytestmark = pytest.mark.usefixtures("place")

METHODS = ["run", "begin_run", "rpc", "begin_rpc"]


class Program:
    """A client whose function counts how often it has been run, and may be held up."""

    def __init__(self) -> None:
        self.client = Resonate()
        self.runs: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

        def echo(ctx: Context, value: Any = None, *, extra: int = 0) -> Any:
            self.runs.append(ctx.id)
            assert self.gate.wait(30)
            return value

        def fail(ctx: Context) -> Generator[Any, Any, None]:
            self.runs.append(ctx.id)
            yield from ()
            raise KeyError("once")

        self.echo, self.fail = self.client.register(echo), self.client.register(fail)
        self.client.register(lambda ctx, value=None: "another", name="another")


@pytest.fixture
def program() -> Iterator[Program]:
    program = Program()
    yield program
    program.gate.set()
    program.client.stop()


def call(client: Any, method: str, *args: Any, **kwargs: Any) -> Any:
    result = getattr(client, method)(*args, **kwargs)
    return result.result(timeout=10) if method.startswith("begin") else result


# ---- joined ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", METHODS)
@pytest.mark.parametrize("second", METHODS)
def test_the_same_call_again_gives_the_first_result_and_runs_nothing(program: Program, first: str, second: str) -> None:
    results = [call(program.client, method, "x", "echo", [1, {"a": (2,)}], extra=5) for method in (first, second)]

    assert results == [[1, {"a": (2,)}]] * 2
    assert program.runs == ["x"]


@pytest.mark.parametrize("second", METHODS)
def test_the_same_call_again_raises_the_first_error_and_runs_nothing(program: Program, second: str) -> None:
    for method in ("run", second):
        with pytest.raises(KeyError, match="once"):
            call(program.client, method, "x", program.fail)

    assert program.runs == ["x"]


def test_a_function_may_be_named_by_object_wrapper_or_name(program: Program) -> None:
    ways: list[Any] = [program.echo, program.echo.func, "echo"]

    assert [program.client.run("x", way, 1) for way in ways] == [1, 1, 1]
    assert program.echo.run("x", 1) == 1
    assert program.runs == ["x"]


def test_many_threads_with_one_id_are_one_execution(program: Program) -> None:
    program.gate.clear()
    with ThreadPoolExecutor(16) as pool:
        waiting = [pool.submit(call, program.client, METHODS[n % 4], "x", "echo", "v") for n in range(16)]
        program.gate.set()

        assert [each.result(timeout=10) for each in waiting] == ["v"] * 16
    assert program.runs == ["x"]


@pytest.mark.parametrize("second", ["begin_run", "begin_rpc"])
def test_joining_while_it_runs_gives_a_handle_of_the_same_execution(program: Program, second: str) -> None:
    program.gate.clear()
    first = program.client.begin_run("x", "echo", 1)

    joined = getattr(program.client, second)("x", "echo", 1)

    program.gate.set()
    assert (first.result(timeout=10), joined.result(timeout=10)) == (1, 1)
    assert program.runs == ["x"]


def test_arguments_are_compared_by_value_whatever_the_order_of_keys(program: Program) -> None:
    program.client.run("x", "echo", {"a": 1, "b": {3, 4}})

    assert program.client.run("x", "echo", {"b": {4, 3}, "a": 1}) == {"a": 1, "b": {3, 4}}


def test_a_newer_version_registered_meanwhile_still_joins_the_recorded_one(program: Program) -> None:
    program.client.register(lambda ctx: "v1", name="f", version=1)
    program.client.run("x", "f")
    program.client.register(lambda ctx: "v2", name="f", version=2)

    assert program.client.run("x", "f") == "v1"
    assert program.client.options(version=1).run("x", "f") == "v1"


def test_a_promise_created_by_hand_is_joined_by_its_id(program: Program) -> None:
    program.client.promises.create("x", 10**15, ikey="x")
    program.client.promises.resolve("x", data='"by hand"')

    assert program.client.run("x", "echo", 1) == "by hand"
    assert program.runs == []


# ---- refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "running"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("args", "kwargs", "asked"),
    [
        (("another", 1), {}, "another(1) version 1"),
        (("echo", 2), {}, "echo(2) version 1"),
        (("echo",), {}, "echo() version 1"),
        (("echo", 1), {"extra": 3}, "echo(1, extra=3) version 1"),
        (("echo",), {"value": 1}, "echo(value=1) version 1"),
    ],
    ids=["function", "argument", "fewer", "more", "by keyword"],
)
def test_another_call_under_an_id_is_refused_with_both_calls(
    program: Program, finished: bool, method: str, args: Any, kwargs: Any, asked: str
) -> None:
    if not finished:
        program.gate.clear()
    handle = program.client.begin_run("x", "echo", 1)
    if finished:
        handle.result(timeout=10)

    with pytest.raises(IdConflict) as refused:
        call(program.client, method, "x", *args, **kwargs)

    assert (refused.value.id, refused.value.recorded, refused.value.asked) == ("x", "echo(1) version 1", asked)
    assert "recorded: echo(1) version 1" in str(refused.value)
    program.gate.set()
    assert handle.result(timeout=10) == 1
    assert program.runs == ["x"]


def test_a_refused_call_leaves_a_waiting_call_to_its_worker(program: Program) -> None:
    waiting = program.client.begin_rpc("x", "later", 1)

    with pytest.raises(IdConflict, match=r"recorded: later\(1\) version 1"):
        program.client.run("x", "echo", 1)

    program.client.register(lambda ctx, value: value + 1, name="later")
    assert waiting.result(timeout=10) == 2


@pytest.mark.parametrize("method", METHODS)
def test_another_version_asked_for_is_another_call(program: Program, method: str) -> None:
    program.client.register(lambda ctx: 1, name="f", version=1)
    program.client.register(lambda ctx: 2, name="f", version=2)
    program.client.options(version=1).run("x", "f")

    with pytest.raises(IdConflict) as refused:
        call(program.client.options(version=2), method, "x", "f")

    assert (refused.value.recorded, refused.value.asked) == ("f() version 1", "f() version 2")


def test_long_arguments_are_shortened_in_the_refusal(program: Program) -> None:
    program.client.run("x", "echo", "a" * 5000)

    with pytest.raises(IdConflict) as refused:
        program.client.run("x", "echo", "b" * 5000)

    assert len(str(refused.value)) < 1000
    assert "aaaa" in refused.value.recorded
    assert "bbbb" in refused.value.asked


def test_a_refused_call_changes_nothing_of_the_record(program: Program) -> None:
    program.client.run("x", "echo", 1)
    before = program.client.promises.get("x")

    with pytest.raises(IdConflict):
        program.client.run("x", "another", 1)

    assert program.client.promises.get("x") == before


# ---- asked for ------------------------------------------------------------------------------------------------------


def test_an_explicit_idempotency_key_joins_with_other_arguments(program: Program) -> None:
    keyed = program.client.options(idempotency_key="k")

    assert [keyed.run("x", "echo", 1), keyed.run("x", "echo", 2)] == [1, 1]
    assert program.runs == ["x"]


def test_an_explicit_idempotency_key_does_not_join_another_function(program: Program) -> None:
    keyed = program.client.options(idempotency_key="k")
    keyed.run("x", "echo", 1)

    with pytest.raises(IdConflict):
        keyed.run("x", "another", 1)


@pytest.mark.parametrize(("first", "second"), [("k", "other"), ("k", None), (None, "k")])
def test_another_idempotency_key_is_refused_as_the_store_does(
    program: Program, first: str | None, second: str | None
) -> None:
    program.client.options(idempotency_key=first).run("x", "echo", 1)

    with pytest.raises(ResonateStoreError, match="another idempotency key") as refused:
        program.client.options(idempotency_key=second).run("x", "echo", 1)

    assert refused.value.code == 100.40399


def test_arguments_are_not_compared_where_nobody_wants_it(program: Program) -> None:
    careless = program.client.options(check_args=False)

    assert [careless.run("x", "echo", 1), careless.run("x", "echo", 2)] == [1, 1]
    with pytest.raises(IdConflict):
        careless.run("x", "another", 1)


# ---- what is recorded by others ---------------------------------------------------------------------------------


class Reversed:
    """JSON backwards."""

    def encode(self, obj: Any) -> str | None:
        return None if obj is None else json.dumps(obj, default=str)[::-1]

    def decode(self, obj: str | None) -> Any:
        return None if obj is None else json.loads(obj[::-1])


def test_a_conflict_with_what_an_encoder_wrote_shows_what_can_be_read(program: Program) -> None:
    program.client.options(encoder=Reversed()).run("x", "echo", 1)

    with pytest.raises(IdConflict) as refused:
        program.client.run("x", "echo", 2)

    assert (refused.value.recorded, refused.value.asked) == ("echo(…) version 1", "echo(2) version 1")


def test_a_run_that_joins_a_waiting_rpc_takes_it_over(world: World) -> None:
    client = world.client(group="billing")
    waiting = client.options(target="billing").begin_rpc("x", "later", 1)
    client.register(lambda ctx, value: value + 1, name="later")

    assert client.run("x", "later", 1) == 2
    assert waiting.result() == 2


def test_a_colon_in_a_root_id_works_and_is_warned_of_once(program: Program, caplog: pytest.LogCaptureFixture) -> None:
    results = [program.client.run(f"order:{n}", "echo", n) for n in range(3)]

    warnings = [record.getMessage() for record in caplog.records if "holds a ':'" in record.getMessage()]
    assert (results, len(warnings)) == ([0, 1, 2], 1)
    assert "'order:0'" in warnings[0]
