"""What the service's answers mean: go on, replay, or somebody else has the task."""

from __future__ import annotations

from typing import Any

import pytest

from resonate.context import Context
from resonate.errors import ResonateTimedoutError
from resonate.execution import execution as core
from resonate.execution.execution import DIVERGED, LOST, OK
from resonate.protocol.records import EMPTY, Promise, Value
from resonate.protocol.requests import PromiseSettle, Request, Response, TaskFence
from tests.execution.driver import BLOCKED, DONE, Gen, Machine, Run, written


def double(ctx: Context, n: int) -> int:
    return 2 * n


def one_step(ctx: Context) -> Gen:
    return (yield ctx.run(double, 21))


def remote(ctx: Context) -> Gen:
    return (yield ctx.rpc("other"))


def last_batch(run: Run) -> list[Request]:
    """All that a finished run would send."""
    execution = run.execution
    while (call := execution.next()) is not None:
        run.step(call)
    return [*execution.take(), execution.fulfil()]


def test_the_answers_to_a_good_batch_say_go_on() -> None:
    machine = Machine()
    run = machine.start(one_step)
    batch = last_batch(run)

    assert run.execution.answered(batch, machine.send(batch, chain=True)) == OK
    assert machine.promise("root").state == "resolved"


@pytest.mark.parametrize("status", [404, 409])
def test_a_task_that_is_gone_or_somebody_elses_is_lost(status: int) -> None:
    run = Machine().start(one_step)
    batch = last_batch(run)

    assert run.execution.answered(batch, [Response(status, error="no")]) == LOST


def test_a_refused_request_is_neither_lost_nor_worth_a_replay() -> None:
    run = Machine().start(one_step)
    batch = last_batch(run)

    assert run.execution.answered(batch, [Response(400, error="bad")]) == core.REFUSED


def test_a_step_that_is_recorded_with_another_outcome_asks_for_a_replay() -> None:
    machine = Machine()
    run = machine.start(one_step)
    batch = last_batch(run)
    other = machine.start(one_step, id="elsewhere").execution
    create = batch[0].action  # type: ignore[union-attr]
    machine.send([TaskFence("root", 1, getattr(create, "create", create), False)])
    machine.send([PromiseSettle("root:1", "resolved", Value(None, "Nw=="))])

    assert run.execution.answered(batch, machine.send(batch, chain=True)) == DIVERGED
    assert other.outbox == []
    assert machine.promise("root").state == "pending"


def test_a_server_error_asks_for_a_replay() -> None:
    run = Machine().start(one_step)
    batch = last_batch(run)

    assert run.execution.answered(batch, [Response(500, error="storage")]) == DIVERGED


def test_an_inner_error_of_a_fence_asks_for_a_replay() -> None:
    run = Machine().start(one_step)
    batch = last_batch(run)

    assert run.execution.answered(batch, [Response(200, action=Response(404))]) == DIVERGED


def test_a_fence_without_an_inner_answer_asks_for_a_replay() -> None:
    run = Machine().start(one_step)
    run.execution.outbox.clear()
    call = run.execution.next()
    assert call is not None
    run.step(call)
    batch = run.execution.take()

    assert run.execution.answered(batch, [Response(200)]) == DIVERGED


def test_a_write_counts_as_unwritten_until_it_is_answered() -> None:
    machine = Machine()
    run = machine.start(remote)
    call = run.execution.next()
    assert call is not None
    run.step(call)
    batch = run.execution.take()
    assert run.execution.unwritten == 1

    run.execution.answered(batch, machine.send(batch, chain=True))

    assert run.execution.unwritten == 0


def test_a_remote_call_that_was_settled_before_it_was_created_here_is_done_at_once() -> None:
    machine = Machine()
    run = machine.start(remote)
    run.advance()
    action: Any = run.execution.outbox[0].action  # type: ignore[union-attr]
    machine.send([action])
    machine.resolve("root:1", "quick")
    run.flush()

    assert run.advance() == DONE
    assert run.result() == "quick"


# ---- a step that is created after its own deadline ----------------------------------------------


def late(ctx: Context) -> Gen:
    try:
        yield ctx.run(double, 1).options(timeout=1)
    except ResonateTimedoutError:
        return "late"


def expired(machine: Machine, func: Any) -> Run:
    """The deadline of the step passes while it runs, before anything was written."""
    run = machine.start(func)
    execution = run.execution
    call = execution.next()
    assert call is not None
    run.step(call)
    machine.pass_time(2)
    execution.expire(execution.calls["root:1"])
    return run


def test_a_step_created_after_its_deadline_does_not_break_the_execution() -> None:
    machine = Machine()
    run = expired(machine, late)

    assert run.advance() == DONE
    assert run.broken is None
    assert run.result() == "late"
    assert machine.promise("root:1").state == "rejected_timedout"
    assert machine.promise("root").state == "resolved"


def test_what_comes_behind_a_late_step_is_sent_again_and_durable_before_more_code_runs() -> None:
    machine = Machine()
    seen: list[str] = []

    def look(ctx: Context) -> None:
        seen.append(machine.promise("root:2").state)

    def root(ctx: Context) -> Gen:
        try:
            yield ctx.run(double, 1).options(timeout=1)
        except ResonateTimedoutError:
            yield ctx.run(double, 2)
            yield ctx.run(look)

    run = expired(machine, root)

    assert run.advance() == DONE
    assert seen == ["resolved"]
    assert machine.ran == ["root", "root:2", "root:3"]


def test_remote_calls_behind_a_late_step_are_sent_again() -> None:
    def root(ctx: Context) -> Gen:
        try:
            yield ctx.run(double, 1).options(timeout=1)
        except ResonateTimedoutError:
            return (yield ctx.rpc("other"))

    machine = Machine()
    run = expired(machine, root)
    assert run.advance() == BLOCKED
    batch = run.execution.take()
    assert run.execution.answered(batch, machine.send(batch, chain=True)) == OK
    assert not machine.known("root:2")
    assert run.execution.unwritten == 1
    run.flush()

    assert machine.known("root:2")
    assert run.suspend().status == 200
    machine.resolve("root:2", "ok")
    assert run.wake() == DONE
    assert run.result() == "ok"


def test_a_step_that_timed_out_in_the_record_but_has_a_value_here_asks_for_a_replay() -> None:
    def root(ctx: Context) -> Gen:
        value = yield ctx.run(double, 1).options(timeout=1)
        yield ctx.rpc("other")
        return value

    machine = Machine()
    run = machine.start(root)
    assert run.advance() == BLOCKED
    machine.pass_time(2)
    run.flush()

    assert run.broken == DIVERGED
    second = machine.crash()
    assert second.advance() == DONE
    with pytest.raises(ResonateTimedoutError):
        second.result()


@pytest.mark.parametrize("flushed", [True, False])
def test_results_below_a_step_that_expired_are_dropped_without_harm(flushed: bool) -> None:
    machine = Machine()
    runs: list[Run] = []

    def slow(ctx: Context) -> Gen:
        begun = yield ctx.begin_run(double, 1)
        if flushed:
            runs[0].flush()
        yield begun
        yield ctx.rpc("other")

    def root(ctx: Context) -> Gen:
        try:
            yield ctx.run(slow).options(timeout=1)
        except ResonateTimedoutError:
            return (yield ctx.run(double, 2))

    runs.append(machine.start(root))
    execution = runs[0].execution
    while (call := execution.next()) is not None:
        runs[0].step(call)
    assert "settle root:1.1" in runs[0].queued
    machine.pass_time(2)
    execution.expire(execution.calls["root:1"])

    assert runs[0].advance() == DONE
    assert runs[0].broken is None
    assert runs[0].result() == 4
    assert machine.promise("root:1.1").state == "rejected_timedout"


@pytest.mark.parametrize("state", ["resolved", "rejected", "rejected_canceled"])
def test_only_a_timeout_is_forgiven_to_a_step_that_is_created_late(state: Any) -> None:
    run = expired(Machine(), late)
    batch = run.execution.take()
    settled = Promise("root:1", state, EMPTY, EMPTY, {}, 1, 1, 1)

    assert run.execution.answered(batch, [Response(200, action=Response(200, promise=settled))]) == DIVERGED


def test_an_answer_without_a_promise_is_not_forgiven() -> None:
    run = expired(Machine(), late)
    batch = run.execution.take()

    assert run.execution.answered(batch, [Response(200, action=Response(200))]) == DIVERGED


def test_an_end_that_a_late_step_kept_from_being_written_is_not_queued_by_itself() -> None:
    machine = Machine()
    run = expired(machine, late)
    batch = last_batch(run)

    assert run.execution.answered(batch, machine.send(batch, chain=True)) == OK
    assert run.execution.outbox == []
    assert machine.promise("root").state == "pending"


def test_a_batch_is_taken_once() -> None:
    run = Machine().start(remote)
    run.advance()

    assert written(run.execution.take()) == ["create root:1"]
    assert run.execution.take() == []
