"""Steps of one execution: their ids, what is written when, and how calls end."""

from __future__ import annotations

from typing import Any

import pytest

from resonate.context import Context
from resonate.errors import (
    ForgottenCommand,
    IdTooLong,
    InvalidId,
    NotACommand,
    ResonateCanceledError,
    ResonateTimedoutError,
    UsageError,
)
from resonate.execution import begin
from resonate.execution.commands import Promise
from resonate.execution.coroutine import Returned
from resonate.protocol.records import BRANCH, ORIGIN, PARENT, SCOPE, TARGET, Value
from resonate.protocol.requests import PromiseCreate, PromiseSettle
from tests.execution.driver import BLOCKED, DONE, Coro, Gen, Machine, creation, value_of, written


def double(ctx: Context, n: int) -> int:
    return 2 * n


def name_of(ctx: Context) -> str:
    return ctx.id


def fail(ctx: Context, text: str = "no") -> None:
    raise ValueError(text)


# ---- ids -------------------------------------------------------------------------------------


def test_children_are_numbered_below_the_root_by_colon_and_below_each_other_by_dot() -> None:
    def child(ctx: Context) -> Gen:
        return [(yield ctx.run(name_of)), (yield ctx.run(name_of))]

    def root(ctx: Context) -> Gen:
        return [(yield ctx.run(name_of)), (yield ctx.run(child))]

    assert Machine().run(root) == ["root:1", ["root:2.1", "root:2.2"]]


def test_an_id_that_extends_its_origin_by_a_dot_goes_on_in_the_old_dialect() -> None:
    def root(ctx: Context) -> Gen:
        return (yield ctx.run(name_of))

    run = Machine().start(root, id="top.4", origin="top")
    run.advance()

    assert run.result() == "top.4.1"


def test_an_id_that_extends_its_origin_by_a_colon_goes_on_by_dots() -> None:
    def root(ctx: Context) -> Gen:
        return (yield ctx.run(name_of))

    run = Machine().start(root, id="top:4", origin="top")
    run.advance()

    assert run.result() == "top:4.1"


def test_a_root_whose_own_id_holds_a_colon_numbers_by_dots() -> None:
    def root(ctx: Context) -> Gen:
        return (yield ctx.run(name_of))

    run = Machine().start(root, id="a:b")
    run.advance()

    assert run.result() == "a:b.1"


def test_calls_of_an_async_function_are_numbered_like_those_of_a_generator() -> None:
    async def child(ctx: Context) -> Coro:
        return [await ctx.run(name_of), await ctx.run(name_of)]

    async def root(ctx: Context) -> Coro:
        return [await ctx.run(child), await ctx.run(name_of)]

    assert Machine().run(root) == [["root:1.1", "root:1.2"], "root:2"]


def test_a_number_is_used_up_when_the_call_is_made_not_when_it_is_yielded() -> None:
    def root(ctx: Context) -> Gen:
        first, second = ctx.run(name_of), ctx.run(name_of)
        return [(yield second), (yield first)]

    assert Machine().run(root) == ["root:2", "root:1"]


def test_an_id_of_ones_own_replaces_the_number_which_stays_used() -> None:
    def root(ctx: Context) -> Gen:
        return [(yield ctx.run(name_of).options(id="mine")), (yield ctx.run(name_of))]

    assert Machine().run(root) == ["mine", "root:2"]


def test_the_tags_of_a_step_say_where_it_stands_in_the_tree() -> None:
    def child(ctx: Context) -> Gen:
        yield ctx.rpc("other")

    def root(ctx: Context) -> Gen:
        yield ctx.run(child)

    run = Machine().start(root)
    run.advance()
    run.suspend()

    step, remote = creation(run.sent, "root:1").tags, creation(run.sent, "root:1.1").tags
    assert (step[ORIGIN], step[BRANCH], step[PARENT], step[SCOPE]) == ("root", "root", "root", "local")
    assert (remote[ORIGIN], remote[BRANCH], remote[PARENT], remote[SCOPE]) == ("root", "root:1.1", "root:1", "global")
    assert remote[TARGET] == "poll://any@default"


def test_an_id_beyond_2048_bytes_is_refused_with_its_depth() -> None:
    def root(ctx: Context) -> Gen:
        yield ctx.run(name_of).options(id="x" * 2049)

    with pytest.raises(IdTooLong, match="depth 1"):
        Machine().run(root)


def test_the_limit_of_an_id_counts_bytes_not_characters() -> None:
    def root(ctx: Context) -> Gen:
        yield ctx.run(name_of).options(id="ü" * 1024)
        yield ctx.run(name_of).options(id="ü" * 1025)

    machine = Machine()
    with pytest.raises(IdTooLong):
        machine.run(root)
    assert machine.known("ü" * 1024)


@pytest.mark.parametrize("id", ["", "a\0b"])
def test_a_promise_passed_in_with_an_id_that_cannot_be_is_refused(id: str) -> None:
    def root(ctx: Context) -> Gen:
        command = ctx.run(name_of)
        command.id = id
        yield command

    with pytest.raises(InvalidId):
        Machine().run(root)


# ---- what is written when ---------------------------------------------------------------------------


def test_a_root_of_one_step_is_written_in_one_batch_with_its_result() -> None:
    def root(ctx: Context) -> Gen:
        return (yield ctx.run(double, 21))

    run = Machine().start(root)

    assert run.advance() == DONE
    assert run.result() == 42
    assert [written(batch) for batch in run.batches] == [["create root:1", "settle root:1", "TaskFulfill root"]]


def test_n_steps_in_a_row_are_n_batches() -> None:
    def root(ctx: Context) -> Gen:
        for n in range(4):
            yield ctx.run(double, n)

    run = Machine().start(root)
    run.advance()

    assert len(run.batches) == 4
    assert written(run.batches[0]) == ["create root:1", "settle root:1"]
    assert written(run.batches[1]) == ["create root:2", "settle root:2"]


def test_the_result_of_a_step_is_durable_before_the_code_of_the_next_one_starts() -> None:
    machine = Machine()
    seen: list[str] = []

    def look(ctx: Context) -> None:
        seen.append(machine.promise("root:1").state)

    def root(ctx: Context) -> Gen:
        yield ctx.run(double, 1)
        yield ctx.run(look)

    machine.run(root)

    assert seen == ["resolved"]


def test_a_first_step_starts_without_anything_having_been_written() -> None:
    machine = Machine()
    seen: list[bool] = []

    def look(ctx: Context) -> None:
        seen.append(machine.known("root:1"))

    def root(ctx: Context) -> Gen:
        yield ctx.run(look)

    machine.run(root)

    assert seen == [False]


def test_the_creation_of_a_local_step_alone_asks_for_no_write() -> None:
    def root(ctx: Context) -> Gen:
        yield ctx.run(double, 1)

    run = Machine().start(root)
    execution = run.execution
    call = execution.next()
    assert call is not None

    run.step(call)

    assert run.queued == ["create root:1"]
    assert execution.unwritten == 0


def three_begun(ctx: Context) -> Gen:
    one = yield ctx.begin_run(double, 0)
    two = yield ctx.begin_run(double, 1)
    three = yield ctx.begin_run(double, 2)
    return [(yield one), (yield two), (yield three)]


def test_the_creations_of_steps_that_wait_to_start_wait_for_their_results() -> None:
    run = Machine().start(three_begun)
    run.advance()

    assert run.result() == [0, 2, 4]
    assert [written(batch) for batch in run.batches] == [
        ["create root:1", "settle root:1"],
        ["create root:2", "settle root:2"],
        ["create root:3", "settle root:3", "TaskFulfill root"],
    ]


def test_the_creations_of_steps_that_wait_to_start_are_written_when_everything_is() -> None:
    run = Machine().start(three_begun)
    while not run.execution.running and len(run.execution.calls) < 3:
        call = run.execution.next()
        assert call is not None
        run.step(call)

    run.flush()

    assert written(run.batches[0]) == ["create root:1", "create root:2", "create root:3"]
    assert run.advance() == DONE
    assert written(run.batches[1]) == ["settle root:1"]


def test_a_step_begun_beside_others_may_start_while_their_results_are_unwritten() -> None:
    run = Machine().start(three_begun)
    execution = run.execution
    for _ in range(5):  # the function up to its first wait, and the first step
        call = execution.next()
        assert call is not None
        run.step(call)

    second = execution.beside()
    assert second is not None
    run.step(second)
    third = execution.beside()
    assert third is not None
    run.step(third)

    assert (second.id, third.id) == ("root:2", "root:3")
    assert execution.beside() is None
    assert (execution.unwritten, execution.pressing) == (3, False)
    assert run.advance() == DONE
    assert run.result() == [0, 2, 4]
    assert written(run.batches[0]) == [
        "create root:1", "settle root:1", "create root:2", "settle root:2", "create root:3", "settle root:3",
        "TaskFulfill root",
    ]  # fmt: skip


def test_no_step_may_start_once_code_has_gone_on_with_an_unwritten_result() -> None:
    run = Machine().start(three_begun)
    execution = run.execution
    for _ in range(5):
        call = execution.next()
        assert call is not None
        run.step(call)

    function = execution.next()
    assert function is not None
    assert function.id == "root"
    run.step(function)

    pressed = execution.pressing, execution.beside()
    run.flush(before_step=True)

    assert pressed == (True, None)
    assert (execution.pressing, execution.unwritten) == (False, 0)
    assert execution.beside() is not None


def test_a_step_that_is_begun_while_a_result_is_unwritten_waits_for_it() -> None:
    def root(ctx: Context) -> Gen:
        yield ctx.begin_run(double, 0)
        yield ctx.begin_run(double, 1)

    run = Machine().start(root)
    execution = run.execution
    function = execution.next()
    assert function is not None
    run.step(function)
    function = execution.next()
    assert function is not None
    (step,) = execution.ready
    execution.ready.clear()
    execution.running += 1
    run.step(step)  # on another thread, while the function goes on
    before = execution.pressing

    run.step(function)

    assert (before, execution.pressing) == (False, True)


def test_a_step_is_not_looked_for_far_behind_what_else_is_ready() -> None:
    def child(ctx: Context) -> Gen:
        return (yield ctx.run(double, 1))

    def root(ctx: Context) -> Gen:
        begun = []
        for _ in range(20):
            begun.append((yield ctx.begin_run(child)))
        yield ctx.begin_run(double, 1)
        yield begun[0]

    run = Machine().start(root)
    execution = run.execution
    while execution.ready[0].kind != "generator" or execution.ready[0].id == "root":
        call = execution.next()
        assert call is not None
        run.step(call)

    assert not execution.pressing
    assert execution.beside() is None


def test_a_result_that_comes_while_others_are_written_waits_for_the_next_write() -> None:
    run = Machine().start(three_begun)
    execution = run.execution
    for _ in range(5):
        call = execution.next()
        assert call is not None
        run.step(call)
    batch = execution.take(before_step=True)
    second = execution.beside()
    assert second is not None
    run.step(second)

    state = execution.answered(batch, run.machine.send(batch, chain=True))

    assert (state, execution.unwritten) == ("ok", 1)
    assert run.advance() == DONE
    assert run.result() == [0, 2, 4]


def test_a_remote_call_counts_as_unwritten_and_a_bare_promise_is_urgent() -> None:
    def root(ctx: Context) -> Gen:
        yield ctx.begin_rpc("other")
        yield ctx.promise()

    run = Machine().start(root)
    execution = run.execution
    for expected in ((1, 0), (2, 1)):
        call = execution.next()
        assert call is not None
        run.step(call)
        assert (execution.unwritten, execution.urgent) == expected


def test_the_id_of_a_bare_promise_is_durable_before_the_function_has_it() -> None:
    machine = Machine()
    seen: list[bool] = []

    def root(ctx: Context) -> Gen:
        promise = yield ctx.promise()
        seen.append(machine.known(promise.id))

    machine.start(root).advance()

    assert seen == [True]


def test_a_detached_call_is_durable_before_the_function_goes_on() -> None:
    machine = Machine()
    seen: list[bool] = []

    def root(ctx: Context) -> Gen:
        promise = yield ctx.detached("other")
        seen.append(machine.known(promise.id))

    machine.start(root).advance()

    assert seen == [True]


def test_an_async_step_starts_after_what_the_function_has_seen_is_durable() -> None:
    machine = Machine()
    seen: list[str] = []

    async def look(ctx: Context) -> None:
        seen.append(machine.promise("root:1").state)

    async def root(ctx: Context) -> None:
        await ctx.run(double, 1)
        await ctx.run(look)

    machine.run(root)

    assert seen == ["resolved"]


def test_a_step_that_is_not_durable_is_never_written() -> None:
    def root(ctx: Context) -> Gen:
        return (yield ctx.run(double, 4).options(durable=False))

    run = Machine().start(root)
    run.advance()

    assert run.result() == 8
    assert written(run.sent) == ["TaskFulfill root"]


def test_the_callers_own_tags_are_kept_beside_ours() -> None:
    def root(ctx: Context) -> Gen:
        yield ctx.run(double, 1).options(tags={"team": "blue"})
        yield ctx.begin_rpc("other").options(tags={"team": "red"})
        yield ctx.rpc("other")

    run = Machine().start(root)
    run.advance()
    run.suspend()

    assert creation(run.sent, "root:1").tags["team"] == "blue"
    assert creation(run.sent, "root:2").tags["team"] == "red"
    assert creation(run.sent, "root:2").tags[PARENT] == "root"


# ---- values and errors -----------------------------------------------------------------------------------


def test_the_error_of_a_step_is_raised_where_it_was_called() -> None:
    def root(ctx: Context) -> Gen:
        try:
            yield ctx.run(fail, "broken")
        except ValueError as error:
            return str(error)

    machine = Machine()

    assert machine.run(root) == "broken"
    assert machine.promise("root:1").state == "rejected"


def test_an_error_that_nobody_catches_rejects_the_root() -> None:
    def root(ctx: Context) -> Gen:
        yield ctx.run(fail, "broken")

    machine = Machine()

    with pytest.raises(ValueError, match="broken"):
        machine.run(root)
    assert machine.promise("root").state == "rejected"


def test_a_value_that_cannot_be_stored_is_an_error_of_the_step_that_returned_it() -> None:
    def bad(ctx: Context) -> Any:
        return lambda: None

    def root(ctx: Context) -> Gen:
        yield ctx.run(bad)

    with pytest.raises(TypeError, match="bad"):
        Machine().run(root)


def test_yielding_something_that_is_no_call_is_an_error_that_names_the_line() -> None:
    def root(ctx: Context) -> Gen:
        yield 42

    with pytest.raises(NotACommand, match=r"test_steps\.py:\d+"):
        Machine().run(root)


def test_yielding_something_wrong_in_a_helper_names_the_line_of_the_helper() -> None:
    def helper() -> Gen:
        yield "wrong"

    def root(ctx: Context) -> Gen:
        yield from helper()

    with pytest.raises(NotACommand) as caught:
        Machine().run(root)
    assert f"test_steps.py:{helper.__code__.co_firstlineno + 1}" in str(caught.value)


def test_awaiting_something_that_is_no_call_names_the_function() -> None:
    class Odd:
        def __await__(self) -> Gen:
            return (yield 42)

    async def root(ctx: Context) -> Any:
        return await Odd()

    with pytest.raises(NotACommand, match="root"):
        Machine().run(root)


def test_a_function_may_catch_its_own_mistake_and_go_on() -> None:
    def root(ctx: Context) -> Gen:
        try:
            yield None
        except NotACommand:
            return (yield ctx.run(double, 3))

    assert Machine().run(root) == 6


@pytest.mark.parametrize("wrong", [lambda ctx: ctx.run(double, 1), lambda ctx: Promise("x")])
def test_returning_a_call_instead_of_its_value_is_an_error(wrong: Any) -> None:
    def root(ctx: Context) -> Gen:
        yield ctx.run(double, 1)
        return wrong(ctx)

    with pytest.raises(ForgottenCommand):
        Machine().run(root)


def test_a_returned_call_is_named_as_the_program_wrote_it() -> None:
    def root(ctx: Context) -> Any:
        return ctx.run(double, 1)

    async def main(ctx: Context) -> Any:
        return ctx.run(double, 1)

    with pytest.raises(ForgottenCommand, match=r"ctx\.run\(double\)"):
        Machine().run(main)


def test_a_call_that_is_made_and_never_yielded_starts_nothing() -> None:
    def root(ctx: Context) -> Gen:
        ctx.run(fail)
        return (yield ctx.run(double, 2))

    machine = Machine()

    assert machine.run(root) == 4
    assert not machine.known("root:1")


def test_a_promise_that_is_yielded_meanwhile_is_none_of_those_made_and_not_yielded() -> None:
    left: list[list[str]] = []

    def root(ctx: Context) -> Gen:
        promise = yield ctx.begin_run(double, 1)
        made = ctx.run(double, 2)
        yield promise
        left.append([c.id for c in begin.forgotten(ctx._call)])
        yield made
        left.append([c.id for c in begin.forgotten(ctx._call)])

    Machine().run(root)

    assert left == [["root:2"], []]


def test_what_was_made_and_not_yielded_is_known_in_the_order_it_was_made() -> None:
    left: list[list[str]] = []

    def root(ctx: Context) -> Gen:
        call = ctx._call
        made = [ctx.run(double, n) for n in range(4)]
        left.append([c.id for c in begin.forgotten(call)])
        yield made[2]
        left.append([c.id for c in begin.forgotten(call)])
        yield made[0]
        left.append([c.id for c in begin.forgotten(call)])
        yield made[3]
        yield made[3]
        left.append([c.id for c in begin.forgotten(call)])
        yield made[1]
        left.append([c.id for c in begin.forgotten(call)])

    Machine().run(root)

    assert left == [
        ["root:1", "root:2", "root:3", "root:4"],
        ["root:1", "root:2", "root:4"],
        ["root:2", "root:4"],
        ["root:2"],
        [],
    ]


# ---- the same call again -------------------------------------------------------------------------------------


def test_a_promise_may_be_yielded_again_and_gives_the_same_value() -> None:
    def root(ctx: Context) -> Gen:
        promise = yield ctx.begin_run(double, 5)
        return [(yield promise), (yield promise)]

    machine = Machine()

    assert machine.run(root) == [10, 10]
    assert machine.ran.count("root:1") == 1


def test_two_calls_of_one_id_with_the_same_arguments_are_one_call() -> None:
    def root(ctx: Context) -> Gen:
        return [(yield ctx.run(double, 5).options(id="x")), (yield ctx.run(double, 5).options(id="x"))]

    machine = Machine()

    assert machine.run(root) == [10, 10]
    assert machine.ran.count("x") == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (lambda ctx: ctx.run(double, 5), lambda ctx: ctx.run(double, 6)),
        (lambda ctx: ctx.run(double, 5), lambda ctx: ctx.run(fail)),
        (lambda ctx: ctx.run(double, 5), lambda ctx: ctx.begin_rpc("double", 5)),
        (lambda ctx: ctx.begin_rpc("double", 5), lambda ctx: ctx.begin_rpc("double", 6)),
        (lambda ctx: ctx.begin_rpc("double", 5), lambda ctx: ctx.detached("double", 5)),
        (lambda ctx: ctx.promise(), lambda ctx: ctx.promise(data=1)),
        (lambda ctx: ctx.promise(), lambda ctx: ctx.sleep(0)),
        (lambda ctx: ctx.promise(), lambda ctx: ctx.all([])),
    ],
)
def test_one_id_for_two_different_calls_is_refused_with_both_named(first: Any, second: Any) -> None:
    def root(ctx: Context) -> Gen:
        yield first(ctx).options(id="x")
        yield second(ctx).options(id="x")

    run = Machine().start(root)
    run.advance()

    end = run.execution.root.ended
    assert end is not None
    with pytest.raises(UsageError, match=r"'x' is used twice.* first by .* now by .*options\(id="):
        value_of(end.outcome)


def test_the_same_remote_call_sleep_and_promise_may_be_asked_for_twice() -> None:
    def root(ctx: Context) -> Gen:
        a = yield ctx.begin_rpc("f", 1).options(id="a")
        b = yield ctx.begin_rpc("f", 1).options(id="a")
        c = yield ctx.promise(id="c")
        d = yield ctx.promise(id="c")
        yield ctx.sleep(0).options(id="e")
        yield ctx.sleep(0).options(id="e")
        yield ctx.all([]).options(id="f")
        yield ctx.all([]).options(id="f")
        return [a == b, c == d]

    run = Machine().start(root)
    run.advance()

    assert run.execution.root.ended is not None
    assert value_of(run.execution.root.ended.outcome) == [True, True]


def test_other_arguments_under_one_id_pass_where_they_are_not_compared() -> None:
    def root(ctx: Context) -> Gen:
        first = yield ctx.run(double, 5).options(id="x")
        return [first, (yield ctx.run(double, 6).options(id="x", check_args=False))]

    assert Machine().run(root) == [10, 10]


# ---- structure ----------------------------------------------------------------------------------------------------


def test_a_function_does_not_end_before_the_calls_it_began() -> None:
    def root(ctx: Context) -> Gen:
        yield ctx.begin_run(double, 1)
        return "end"

    machine = Machine()

    assert machine.run(root) == "end"
    assert machine.promise("root:1").state == "resolved"


def test_a_function_that_raises_still_waits_for_the_calls_it_began() -> None:
    def root(ctx: Context) -> Gen:
        yield ctx.begin_run(double, 1)
        raise RuntimeError("late")

    machine = Machine()

    with pytest.raises(RuntimeError, match="late"):
        machine.run(root)
    assert machine.ran == ["root", "root:1"]


def test_a_function_that_ended_waits_for_a_remote_call_it_began() -> None:
    def child(ctx: Context) -> Gen:
        yield ctx.begin_rpc("other")
        return "child"

    def root(ctx: Context) -> Gen:
        return (yield ctx.run(child))

    machine = Machine()
    run = machine.start(root)
    assert run.advance() == BLOCKED
    assert run.suspend().status == 200
    machine.resolve("root:1.1", None)

    assert run.wake() == DONE
    assert run.result() == "child"


def test_a_detached_call_is_not_waited_for() -> None:
    def root(ctx: Context) -> Gen:
        promise = yield ctx.detached("other")
        return promise.id

    machine = Machine()

    assert machine.run(root) == "root:1"
    assert machine.promise("root:1").state == "pending"


def test_a_detached_call_may_be_waited_for_and_has_a_deadline_of_its_own() -> None:
    def root(ctx: Context) -> Gen:
        promise = yield ctx.detached("other").options(timeout=60)
        return (yield promise)

    machine = Machine()
    run = machine.start(root, timeout_ms=5_000)
    assert run.advance() == BLOCKED
    run.suspend()

    assert machine.promise("root:1").timeout_at == machine.now() + 60_000
    machine.resolve("root:1", "out there")
    assert run.wake() == DONE
    assert run.result() == "out there"


def test_a_detached_call_outlives_its_caller_by_up_to_a_year() -> None:
    def root(ctx: Context) -> Gen:
        yield ctx.detached("other")

    machine = Machine()
    machine.start(root, timeout_ms=5_000).advance()

    assert machine.promise("root:1").timeout_at == machine.now() + 31_536_000_000


# ---- what happens elsewhere ----------------------------------------------------------------------


def test_a_remote_call_suspends_and_its_value_goes_on_in_place() -> None:
    def root(ctx: Context) -> Gen:
        return (yield ctx.rpc("other", 1)) + (yield ctx.rpc("other", 2))

    machine = Machine()
    run = machine.start(root)
    state = run.advance()
    for number, value in ((1, 10), (2, 5)):
        assert state == BLOCKED
        assert run.suspend().status == 200
        machine.resolve(f"root:{number}", value)
        state = run.wake()

    assert state == DONE
    assert run.result() == 15
    assert machine.ran == ["root"]


def test_a_remote_call_that_fails_raises_its_error() -> None:
    def root(ctx: Context) -> Gen:
        yield ctx.rpc("other")

    machine = Machine()
    run = machine.start(root)
    run.advance()
    run.suspend()
    machine.reject("root:1", KeyError("gone"))
    run.wake()

    with pytest.raises(KeyError, match="gone"):
        run.result()


def test_a_remote_call_that_is_cancelled_raises_the_cancellation() -> None:
    def root(ctx: Context) -> Gen:
        yield ctx.rpc("other")

    machine = Machine()
    run = machine.start(root)
    run.advance()
    run.suspend()
    machine.cancel("root:1")
    run.wake()

    with pytest.raises(ResonateCanceledError, match="root:1"):
        run.result()


def test_a_remote_call_that_times_out_raises_the_timeout() -> None:
    def root(ctx: Context) -> Gen:
        try:
            yield ctx.rpc("other").options(timeout=5)
        except ResonateTimedoutError as error:
            return str(error)

    machine = Machine()
    run = machine.start(root)
    run.advance()
    run.suspend()
    machine.pass_time(5)

    assert run.wake() == DONE
    assert "root:1" in run.result()


def test_a_value_that_cannot_be_read_is_an_error_of_whoever_reads_it() -> None:
    def root(ctx: Context) -> Gen:
        yield ctx.promise()
        yield Promise("root:1")

    machine = Machine()
    run = machine.start(root)
    run.advance()
    run.suspend()
    machine.send([PromiseSettle("root:1", "resolved", Value(None, "%%%"))])

    assert run.wake() == DONE
    with pytest.raises(ValueError, match="root:1"):
        run.result()


def test_a_sleep_is_a_timer_that_its_deadline_resolves() -> None:
    def root(ctx: Context) -> Gen:
        yield ctx.sleep(30)
        return "awake"

    machine = Machine()
    run = machine.start(root)
    assert run.advance() == BLOCKED
    assert run.execution.wakes_at() == machine.now() + 30_000
    run.suspend()
    machine.pass_time(30)

    assert run.wake() == DONE
    assert run.result() == "awake"


@pytest.mark.parametrize("seconds", [0, -1])
def test_a_sleep_of_no_time_writes_nothing_and_uses_its_number(seconds: int) -> None:
    def root(ctx: Context) -> Gen:
        yield ctx.sleep(seconds)
        return (yield ctx.run(name_of))

    run = Machine().start(root)
    run.advance()

    assert run.result() == "root:2"
    assert "create root:1" not in written(run.sent)


def test_a_sleep_ends_at_the_deadline_of_its_caller_at_the_latest() -> None:
    def root(ctx: Context) -> Gen:
        yield ctx.sleep(60)

    machine = Machine()
    run = machine.start(root, timeout_ms=20_000)
    run.advance()

    assert run.execution.wakes_at() == machine.now() + 20_000


def test_nobody_knows_when_a_remote_call_wakes() -> None:
    def root(ctx: Context) -> Gen:
        yield ctx.rpc("other")

    run = Machine().start(root)
    run.advance()

    assert run.execution.wakes_at() == float("inf")


def test_a_bare_promise_is_settled_from_outside_and_bounded_by_its_caller() -> None:
    def root(ctx: Context) -> Gen:
        promise = yield ctx.promise(data={"ask": 1}, timeout=1e6)
        return (yield promise)

    machine = Machine()
    run = machine.start(root, timeout_ms=20_000)
    assert run.advance() == BLOCKED
    assert machine.promise("root:1").timeout_at == machine.now() + 20_000
    run.suspend()
    machine.resolve("root:1", "yes")

    assert run.wake() == DONE
    assert run.result() == "yes"


def test_a_promise_of_another_execution_can_be_waited_for_and_is_not_owned() -> None:
    def root(ctx: Context, wait: bool) -> Gen:
        promise: Promise[Any] = Promise("elsewhere")
        return [(yield promise), (yield promise)]

    machine = Machine()
    machine.send([PromiseCreate("elsewhere", machine.now() + 60_000, tags={"resonate:external": "true"})])
    run = machine.start(root, True)
    assert run.advance() == BLOCKED
    assert run.suspend().status == 200
    machine.resolve("elsewhere", 7)

    assert run.wake() == DONE
    assert run.result() == [7, 7]


def test_a_suspension_names_each_awaited_promise_once() -> None:
    def root(ctx: Context) -> Gen:
        one = yield ctx.begin_rpc("other", 1)
        two = yield ctx.begin_rpc("other", 2)
        return (yield ctx.all([one, two, one]))

    run = Machine().start(root)
    run.advance()

    awaited = [action.awaited for action in run.execution.suspend().actions]
    assert sorted(awaited) == ["root:1", "root:2"]


def test_news_that_concern_nobody_here_change_nothing() -> None:
    def root(ctx: Context) -> Gen:
        yield ctx.begin_run(double, 1)
        yield ctx.rpc("other")

    machine = Machine()
    run = machine.start(root)
    run.advance()
    run.flush()
    pending = machine.promise("root:2")
    local = machine.promise("root:1")
    unknown = machine.promise("root")
    settled = machine.resolve("root:2", 1)

    assert not run.execution.settle(pending)
    assert not run.execution.settle(local)
    assert not run.execution.settle(unknown)
    assert run.execution.settle(settled)
    assert not run.execution.settle(settled)


def test_the_suspension_is_refused_when_the_awaited_promise_is_settled_already() -> None:
    def root(ctx: Context) -> Gen:
        return (yield ctx.rpc("other"))

    machine = Machine()
    run = machine.start(root)
    run.advance()
    run.flush()
    machine.resolve("root:1", "quick")

    assert run.suspend().status == 300
    run.learn()
    assert run.advance() == DONE
    assert run.result() == "quick"


def test_the_stack_of_a_call_tells_its_kind_and_id() -> None:
    run = Machine().start(double, 1)

    assert repr(run.execution.root) == "<Call plain root>"


def test_a_plain_function_may_be_the_root() -> None:
    assert Machine().run(double, 4) == 8


def test_returned_values_are_seen_as_a_replay_would_see_them() -> None:
    def pair(ctx: Context) -> dict[int, int]:
        return {1: 2}

    def root(ctx: Context) -> Gen:
        return (yield ctx.run(pair))

    run = Machine().start(root)
    run.advance()

    assert isinstance(run.execution.root.ended.outcome, Returned)  # type: ignore[union-attr]
    assert run.result() == {1: 2}
