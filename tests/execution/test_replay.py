"""Replay: what a second process does with the records of the first, and when it stops."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from resonate.context import Context
from resonate.errors import NonDeterminismError, UsageError
from resonate.execution.records import (
    CALL_TAG,
    HALT_TAG,
    RETRY_TAG,
    SEEN_TAG,
    Records,
    agree,
    describe,
    identity,
    split,
)
from resonate.protocol.records import EMPTY, PARENT, PENDING, Promise
from tests.execution.driver import BLOCKED, DONE, HALTED, Coro, Gen, Machine, Run, together, written

Function = Callable[..., Any]


def double(ctx: Context, n: int) -> int:
    return 2 * n


def half(ctx: Context, n: int) -> float:
    return n / 2


def begun(machine: Machine, func: Function, *args: Any) -> Run:
    """`func` has run until it waits, all that it did is written, and its process is gone."""
    run = machine.start(func, *args)
    assert run.advance() == BLOCKED
    run.flush()
    machine.ran.clear()
    return run


# ---- nothing runs twice ----------------------------------------------------------------------


def test_a_finished_step_does_not_run_again_and_gives_its_recorded_value() -> None:
    def root(ctx: Context) -> Gen:
        value = yield ctx.run(double, 4)
        return value + (yield ctx.rpc("other"))

    machine = Machine()
    begun(machine, root)
    second = machine.crash()
    assert second.advance() == BLOCKED
    second.suspend()
    machine.resolve("root:2", 1)

    assert second.wake() == DONE
    assert second.result() == 9
    assert machine.ran == ["root"]


def test_a_step_that_was_created_and_not_finished_runs_again() -> None:
    def root(ctx: Context) -> Gen:
        promise = yield ctx.begin_run(double, 4)
        return (yield promise)

    machine = Machine()
    run = machine.start(root)
    call = run.execution.next()
    assert call is not None
    run.step(call)
    run.flush()

    second = machine.crash()
    assert second.advance() == DONE
    assert second.result() == 8
    assert machine.ran == ["root", "root", "root:1"]
    assert "create root:1" not in written(second.sent)


def test_the_steps_below_a_finished_step_are_not_looked_at_again() -> None:
    def child(ctx: Context) -> Gen:
        return (yield ctx.run(double, 1)) + (yield ctx.run(double, 2))

    def root(ctx: Context) -> Gen:
        value = yield ctx.run(child)
        yield ctx.rpc("other")
        return value

    machine = Machine()
    begun(machine, root)
    second = machine.crash()
    second.advance()

    assert machine.ran == ["root"]


def test_a_step_that_is_not_durable_runs_again_on_replay_and_is_not_missed() -> None:
    def root(ctx: Context) -> Gen:
        yield ctx.run(double, 1).options(durable=False)
        yield ctx.rpc("other")

    machine = Machine()
    begun(machine, root)
    second = machine.crash()

    assert second.advance() == BLOCKED
    assert machine.ran == ["root", "root:1"]


def test_a_recorded_error_is_raised_again_without_running_the_step() -> None:
    def fail(ctx: Context) -> None:
        raise KeyError("lost")

    def root(ctx: Context) -> Gen:
        try:
            yield ctx.run(fail)
        except KeyError as error:
            yield ctx.rpc("other")
            return error.args

    machine = Machine()
    begun(machine, root)
    machine.resolve("root:2", None)
    second = machine.crash()

    assert second.advance() == BLOCKED
    second.flush()
    assert second.advance() == DONE
    assert second.result() == ("lost",)
    assert machine.ran == ["root"]


def test_a_remote_call_that_was_settled_meanwhile_is_learnt_by_creating_it_again() -> None:
    def root(ctx: Context) -> Gen:
        return (yield ctx.rpc("other"))

    machine = Machine()
    begun(machine, root)
    machine.resolve("root:1", "there")
    second = machine.crash()

    assert second.advance() == BLOCKED
    second.flush()
    assert second.advance() == DONE
    assert second.result() == "there"


def test_a_settled_remote_call_in_the_preload_needs_no_second_creation() -> None:
    def root(ctx: Context) -> Gen:
        return (yield ctx.rpc("other"))

    machine = Machine()
    begun(machine, root)
    settled = machine.resolve("root:1", "there")
    second = machine.crash(preload=[settled])

    assert second.advance() == DONE
    assert second.result() == "there"
    assert written(second.sent) == ["TaskFulfill root"]


def test_a_settled_detached_call_in_the_preload_needs_no_second_creation() -> None:
    def root(ctx: Context) -> Gen:
        promise = yield ctx.detached("other")
        yield ctx.sleep(1)
        return (yield promise)

    machine = Machine()
    begun(machine, root)
    settled = machine.resolve("root:1", "there")
    second = machine.crash(preload=[settled])
    assert second.advance() == BLOCKED
    assert second.queued == ["create root:2"]
    second.flush()

    assert second.advance() == DONE
    assert second.result() == "there"


def test_a_pending_remote_call_in_the_preload_is_awaited_without_a_second_creation() -> None:
    def root(ctx: Context) -> Gen:
        yield ctx.begin_rpc("other")
        return "end"

    machine = Machine()
    begun(machine, root)
    second = machine.crash(preload=[machine.promise("root:1")])

    assert second.advance() == BLOCKED
    assert second.queued == []
    assert list(second.execution.awaited) == ["root:1"]
    assert second.suspend().status == 200
    machine.resolve("root:1", None)
    assert second.wake() == DONE


def test_an_async_function_replays_from_its_records_like_a_generator() -> None:
    async def child(ctx: Context) -> Coro:
        return await ctx.run(double, 3)

    async def root(ctx: Context) -> Coro:
        value = await ctx.run(child)
        return value + await ctx.rpc("other")

    machine = Machine()
    begun(machine, root)
    second = machine.crash()
    assert second.advance() == BLOCKED
    second.suspend()
    machine.resolve("root:2", 1)

    assert second.wake() == DONE
    assert second.result() == 7
    assert machine.ran == ["root"]


def test_an_execution_that_was_suspended_replays_in_another_process_too() -> None:
    def root(ctx: Context) -> Gen:
        value = yield ctx.run(double, 4)
        yield ctx.sleep(5)
        return value + (yield ctx.run(double, 1))

    machine = Machine()
    run = machine.start(root)
    run.advance()
    run.suspend()
    machine.ran.clear()
    machine.pass_time(5)
    second = machine.crash()
    assert second.advance() == BLOCKED
    second.flush()

    assert second.advance() == DONE
    assert second.result() == 10
    assert machine.ran == ["root", "root:3"]


# ---- the code disagrees with the record --------------------------------------------------------------


def wait(ctx: Context) -> Any:
    return ctx.rpc("other")


def one_step(ctx: Context) -> Gen:
    yield ctx.run(double, 1)
    yield wait(ctx)


def another_function(ctx: Context) -> Gen:
    yield ctx.run(half, 1)
    yield wait(ctx)


def another_argument(ctx: Context) -> Gen:
    yield ctx.run(double, 2)
    yield wait(ctx)


def another_kind(ctx: Context) -> Gen:
    yield ctx.rpc("double", 1)
    yield wait(ctx)


def a_sleep(ctx: Context) -> Gen:
    yield ctx.sleep(5)
    yield wait(ctx)


def a_promise(ctx: Context) -> Gen:
    yield ctx.promise()
    yield wait(ctx)


def a_choice(ctx: Context) -> Gen:
    yield ctx.all([])
    yield wait(ctx)


def fewer(ctx: Context) -> Gen:
    yield from ()


def an_error(ctx: Context) -> Gen:
    yield from ()
    raise ValueError("early")


@pytest.mark.parametrize(
    "changed", [another_function, another_argument, another_kind, a_sleep, a_promise, a_choice, fewer, an_error]
)
def test_code_that_asks_for_something_else_than_is_recorded_is_halted(changed: Function) -> None:
    machine = Machine()
    begun(machine, one_step)
    second = machine.crash(func=changed)

    assert second.advance() == HALTED
    assert isinstance(second.execution.halt, NonDeterminismError)
    assert "TaskFulfill root" not in written(second.sent)
    assert machine.promise("root").state == PENDING


def test_the_error_shows_both_calls_with_file_and_line() -> None:
    machine = Machine()
    begun(machine, one_step)
    second = machine.crash(func=another_function)
    second.advance()

    first_line = one_step.__code__.co_firstlineno + 1
    second_line = another_function.__code__.co_firstlineno + 1
    text = str(second.execution.halt)
    assert "double with arguments" in text
    assert f"at test_replay.py:{first_line}" in text
    assert f"at test_replay.py:{second_line}" in text
    assert "root:1" in text


def test_the_error_of_a_function_that_ended_early_counts_its_calls() -> None:
    machine = Machine()
    begun(machine, one_step)
    second = machine.crash(func=fewer)
    second.advance()

    text = str(second.execution.halt)
    assert "1 calls recorded under it, plain double with arguments" in text
    assert "fewer ended after 0 of them" in text


def elsewhere(ctx: Context, n: int) -> Gen:
    return (yield ctx.run(double, n).options(id="shared"))


def test_a_step_whose_id_is_settled_in_another_execution_takes_that_value_and_runs_no_code() -> None:
    machine = Machine()
    first = machine.start(elsewhere, 4)
    assert first.advance() == DONE
    second = machine.start(elsewhere, 4, id="second")

    assert second.advance() == DONE
    assert second.result() == first.result() == 8
    assert machine.ran == ["root", "shared", "second"]


def test_what_was_queued_behind_such_a_step_is_sent_all_the_same() -> None:
    def several(ctx: Context, n: int) -> Gen:
        promises = []
        for id in ("shared", "other", "mine"):
            promises.append((yield ctx.begin_run(double, n).options(id=id)))
        values = []
        for promise in promises:
            values.append((yield promise))
        return values

    machine = Machine()
    machine.start(elsewhere, 4).advance()
    run = machine.start(several, 4, id="second")

    assert run.advance() == DONE
    assert run.result() == [8, 8, 8]
    assert machine.ran == ["root", "shared", "second", "other", "mine"]
    assert machine.promise("mine").state == "resolved"
    assert machine.start(several, 4, id="third").advance() == DONE
    assert machine.ran[-1] == "third"


def test_a_step_behind_another_is_asked_for_too_if_its_id_may_be_known_elsewhere() -> None:
    def later(ctx: Context, n: int) -> Gen:
        yield ctx.run(double, 1)
        return (yield ctx.run(double, n).options(id="shared"))

    machine = Machine()
    machine.start(elsewhere, 4).advance()
    run = machine.start(later, 4, id="second")

    assert run.advance() == DONE
    assert run.result() == 8
    assert machine.ran == ["root", "shared", "second", "second:1"]


def test_an_async_step_whose_id_is_settled_elsewhere_is_not_started() -> None:
    async def inner(ctx: Context, n: int) -> Coro:
        return 2 * n

    async def outer(ctx: Context, n: int) -> Coro:
        return await ctx.run(inner, n).options(id="shared")

    machine = Machine()
    assert machine.start(outer, 4).advance() == DONE
    second = machine.start(outer, 4, id="second")

    assert second.advance() == DONE
    assert second.result() == 8
    assert machine.ran == ["root", "shared", "second"]


def test_an_id_that_stands_for_another_call_elsewhere_halts_with_both_sides() -> None:
    machine = Machine()
    machine.start(elsewhere, 4).advance()
    second = machine.start(elsewhere, 5, id="second")

    assert second.advance() == HALTED
    assert second.execution.halt is not None
    assert second.execution.halt.id == "shared"
    assert "double with arguments" in second.execution.halt.recorded


def test_a_step_in_the_place_of_a_remote_call_halts_even_if_it_gives_the_same() -> None:
    def before(ctx: Context) -> Gen:
        yield ctx.rpc("double", 4)
        yield ctx.rpc("later")

    def after(ctx: Context) -> Gen:
        yield ctx.run(double, 4)
        yield ctx.rpc("later")

    machine = Machine()
    run = machine.start(before)
    run.advance()
    run.flush()
    machine.resolve("root:1", 8)
    replay = machine.crash(func=after)
    replay.advance()
    replay.flush()

    assert replay.execution.halt is not None
    assert replay.execution.halt.recorded.startswith("rpc double")
    assert replay.execution.halt.asked.startswith("plain double")


def test_a_sleep_of_no_length_in_the_place_of_a_step_is_found() -> None:
    def after(ctx: Context) -> Gen:
        yield ctx.sleep(0)

    machine = Machine()
    begun(machine, one_step)
    replay = machine.crash(func=after)

    assert replay.advance() == HALTED


def test_code_that_asks_for_more_than_is_recorded_goes_on() -> None:
    def more(ctx: Context) -> Gen:
        yield ctx.run(double, 1)
        yield ctx.begin_rpc("other")
        yield ctx.run(double, 2)

    machine = Machine()
    begun(machine, one_step)
    second = machine.crash(func=more)

    assert second.advance() == BLOCKED
    assert second.execution.halt is None
    assert machine.ran == ["root", "root:3"]


def test_an_async_function_that_asks_for_something_else_is_halted() -> None:
    async def one(ctx: Context) -> None:
        await ctx.run(double, 1)
        await ctx.rpc("other")

    async def other(ctx: Context) -> None:
        try:
            await ctx.run(half, 1)
        except NonDeterminismError:
            await ctx.rpc("other")

    machine = Machine()
    begun(machine, one)
    second = machine.crash(func=other)

    assert second.advance() == HALTED


def test_a_remote_call_whose_arguments_changed_is_found_out_when_its_creation_is_answered() -> None:
    def one(ctx: Context) -> Gen:
        yield ctx.rpc("other", 1)

    def two(ctx: Context) -> Gen:
        yield ctx.rpc("other", 2)

    machine = Machine()
    begun(machine, one)
    second = machine.crash(func=two)
    assert second.advance() == BLOCKED
    second.flush()

    assert second.advance() == HALTED
    assert "other" in str(second.execution.halt)


def test_a_local_call_of_a_new_version_is_another_call() -> None:
    assert not agree(identity("plain", 1, "d", "f", "a:1"), identity("plain", 2, "d", "f", "a:1"))


def test_a_changed_argument_passes_where_arguments_are_not_compared() -> None:
    def one(ctx: Context) -> Gen:
        yield ctx.run(double, 1).options(check_args=False)
        yield ctx.rpc("other")

    def two(ctx: Context) -> Gen:
        yield ctx.run(double, 2).options(check_args=False)
        yield ctx.rpc("other")

    machine = Machine()
    begun(machine, one)
    second = machine.crash(func=two)

    assert second.advance() == BLOCKED
    assert machine.ran == ["root"]


def test_a_call_that_moved_to_another_line_is_the_same_call() -> None:
    def two(ctx: Context) -> Gen:
        value = ctx.run(double, 1)
        yield value
        yield ctx.rpc("other")

    machine = Machine()
    begun(machine, one_step)
    second = machine.crash(func=two)

    assert second.advance() == BLOCKED


def test_an_id_used_twice_for_different_calls_is_a_mistake_of_the_program_also_on_replay() -> None:
    def root(ctx: Context) -> Gen:
        yield ctx.run(double, 1).options(id="root:x")
        try:
            yield ctx.run(half, 1).options(id="root:x")
        except UsageError:
            yield ctx.rpc("other")

    machine = Machine()
    begun(machine, root)
    second = machine.crash()

    assert second.advance() == BLOCKED


# ---- the order of outcomes ------------------------------------------------------------------------------


async def both(ctx: Context) -> Coro:
    arrived = await together(ctx.rpc("a"), ctx.rpc("b"))
    await ctx.run(double, 1)
    last = await ctx.rpc("c")
    return [arrived, last]


def test_an_async_function_sees_outcomes_in_the_recorded_order_on_replay() -> None:
    machine = Machine()
    run = machine.start(both)
    run.advance()
    run.suspend()
    machine.resolve("root:2", "b")
    run.wake()
    run.suspend()
    machine.resolve("root:1", "a")
    run.wake()
    run.suspend()

    machine.resolve("root:4", "c")
    second = machine.crash()
    assert second.advance() == BLOCKED
    second.flush()
    assert second.advance() in (BLOCKED, DONE)
    second.flush()
    second.advance()

    assert second.result() == [[("2", "b"), ("1", "a")], "c"]


def test_without_a_recorded_order_outcomes_are_seen_as_they_arrive() -> None:
    machine = Machine()
    run = machine.start(both)
    run.advance()
    run.suspend()
    machine.resolve("root:2", "b")
    machine.resolve("root:1", "a")
    run.wake()
    run.suspend()
    machine.resolve("root:4", None)
    run.wake()

    arrived = run.result()[0]
    assert [name for name, _ in arrived] == ["1", "2"]


def test_the_order_is_written_with_the_next_creation_and_counts_on() -> None:
    async def root(ctx: Context) -> Coro:
        await together(ctx.rpc("a"), ctx.rpc("b"))
        await ctx.run(double, 3)
        await together(ctx.rpc("a"), ctx.rpc("b"))
        await ctx.run(double, 6)

    machine = Machine()
    run = machine.start(root)
    state = run.advance()
    for number in (1, 2, 4, 5):
        run.suspend()
        machine.resolve(f"root:{number}", None)
        state = run.wake()

    assert state == DONE
    assert machine.promise("root:3").tags[SEEN_TAG] == '{"root":[0,["1","2"]]}'
    assert machine.promise("root:6").tags[SEEN_TAG] == '{"root":[2,["4","5"]]}'


def test_the_order_survives_when_only_a_remote_call_follows() -> None:
    async def root(ctx: Context) -> Coro:
        arrived = await together(ctx.rpc("a"), ctx.rpc("b"))
        return [arrived, await ctx.rpc("c", arrived)]

    machine = Machine()
    run = machine.start(root)
    run.advance()
    for number in (2, 1):
        run.suspend()
        machine.resolve(f"root:{number}", number)
        run.wake()
    run.flush()
    machine.resolve("root:3", "c")
    replay = machine.crash()
    for _ in range(2):  # what each call has come to is learnt by creating it again
        assert replay.advance() == BLOCKED
        replay.flush()

    assert SEEN_TAG not in machine.promise("root:3").tags
    assert machine.promise("root:seen3-1").state == "resolved"
    assert replay.advance() == DONE
    assert replay.result() == [[("2", 2), ("1", 1)], "c"]


def test_outcomes_that_were_not_recorded_come_after_those_that_were() -> None:
    machine = Machine()
    run = machine.start(both)
    run.advance()
    root = run.execution.root
    run.execution.records = Records([note("root:9", {"root": [0, ["2"]]})])
    order = run.execution.records.order(root)

    assert order is not None
    assert order.first(["root:1", "root:2"]) == 1
    assert order.first(["root:1"]) == 0


def note(id: str, notes: dict[str, Any]) -> Promise:
    return Promise(id, "resolved", EMPTY, EMPTY, {PARENT: "root", SEEN_TAG: json.dumps(notes)}, 1, 1, 1)


# ---- records ------------------------------------------------------------------------------------------------


def record(id: str, **tags: str) -> Promise:
    return Promise(id, PENDING, EMPTY, EMPTY, {PARENT: "root", **tags}, 1, 1)


def test_the_identity_of_a_call_can_be_taken_apart_whatever_its_name_holds() -> None:
    text = identity("plain", 3, "abc", "odd|name", "f.py:7")

    assert split(text) == ("plain", "3", "abc", "odd|name", "f.py:7")
    assert describe(text) == "plain odd|name version 3 with arguments abc at f.py:7"


def test_a_call_without_arguments_and_of_the_first_version_is_described_shortly() -> None:
    assert describe(identity("sleep", 1, "", "5s", "f.py:7")) == "sleep 5s at f.py:7"


def test_a_record_without_our_tag_agrees_with_any_call() -> None:
    assert agree(None, identity("plain", 1, "", "f", "a:1"))


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (identity("plain", 1, "d", "f", "elsewhere:9"), True),
        (identity("rpc", 1, "d", "f", "a:1"), False),
        (identity("plain", 1, "e", "f", "a:1"), False),
        (identity("plain", 1, "d", "g", "a:1"), False),
    ],
)
def test_calls_agree_by_kind_version_arguments_and_name_never_by_place(other: str, same: bool) -> None:
    assert agree(identity("plain", 1, "d", "f", "a:1"), other) is same


def test_retries_count_by_their_highest_attempt_and_not_as_calls() -> None:
    records = Records([record("root:r2", **{RETRY_TAG: "2"}), record("root:r1", **{RETRY_TAG: "1"}), record("root:1")])

    assert records.retries == {"root": 2}
    assert records.children == {"root": ["root:1"]}


def test_the_note_of_a_halt_is_no_record_of_the_function() -> None:
    records = Records([record("root:halt1", **{HALT_TAG: "why"})])

    assert records.by_id == {}
    assert records.children == {}


def test_notes_of_order_are_put_together_whatever_order_they_are_read_in() -> None:
    records = Records([note("b", {"root": [2, ["4", "5"]]}), note("a", {"root": [0, ["1", "2"]]})])

    assert records.seen == {"root": ["1", "2", "4", "5"]}


def test_a_promise_without_a_parent_counts_for_nobody() -> None:
    records = Records([Promise("x", PENDING, EMPTY, EMPTY, {CALL_TAG: "f"}, 1, 1)])

    assert records.children == {"": ["x"]}
