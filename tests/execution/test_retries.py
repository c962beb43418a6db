"""Retries: who gets them, how long they wait, and what survives a crash."""

from __future__ import annotations

from typing import Any

import pytest

from resonate.context import Context
from resonate.errors import NonDeterminismError
from resonate.execution.execution import LONG_RETRY
from resonate.options import Options
from resonate.retry_policies import Constant, Exponential, Linear, Never
from tests.execution.driver import BLOCKED, DONE, HALTED, WAITING, Coro, Gen, Machine, Run, creation, written


class Failing:
    """A step that fails so many times before it succeeds."""

    def __init__(self, times: int, error: type[Exception] = ConnectionError) -> None:
        self.left = times
        self.error = error
        self.attempts: list[int] = []

    def step(self) -> Any:
        def flaky(ctx: Context) -> str:
            self.attempts.append(ctx.info.attempt)
            if self.left:
                self.left -= 1
                raise self.error("not yet")
            return "at last"

        return flaky


def calling(step: Any, **options: Any) -> Any:
    def root(ctx: Context) -> Gen:
        return (yield ctx.run(step).options(**options))

    return root


def test_a_failed_step_is_tried_again_after_the_wait_of_its_policy() -> None:
    failing = Failing(2)
    run = Machine().start(calling(failing.step(), retry_policy=Constant(delay=5)))
    assert run.advance() == WAITING
    assert [delay for _, delay in run.backing_off] == [5.0]

    assert run.retry() == WAITING
    assert run.retry() == DONE
    assert run.result() == "at last"
    assert failing.attempts == [1, 2, 3]


def test_the_wait_grows_by_the_number_of_attempts() -> None:
    failing = Failing(2)
    run = Machine().start(calling(failing.step(), retry_policy=Linear(delay=3)))
    run.advance()
    first = run.backing_off[0][1]
    run.retry()

    assert run.backing_off[0][1] == 2 * first == 6.0


def test_the_last_error_is_raised_when_the_policy_gives_up() -> None:
    failing = Failing(9)
    run = Machine().start(calling(failing.step(), retry_policy=Constant(delay=1, max_retries=1)))
    run.advance()

    assert run.retry() == DONE
    with pytest.raises(ConnectionError):
        run.result()
    assert failing.attempts == [1, 2]


def test_a_policy_of_never_settles_the_first_failure() -> None:
    failing = Failing(1)
    run = Machine().start(calling(failing.step(), retry_policy=Never()))

    assert run.advance() == DONE
    assert failing.attempts == [1]


def test_failures_named_as_final_are_not_tried_again_subclasses_included() -> None:
    failing = Failing(1, ConnectionRefusedError)
    step = calling(failing.step(), retry_policy=Constant(delay=1), non_retryable_exceptions=(OSError,))

    assert Machine().start(step).advance() == DONE
    assert failing.attempts == [1]


def test_failures_not_named_as_final_are_tried_again() -> None:
    failing = Failing(1)
    step = calling(failing.step(), retry_policy=Constant(delay=1), non_retryable_exceptions=(KeyError,))

    assert Machine().start(step).advance() == WAITING


def test_mistakes_of_the_program_are_not_tried_again() -> None:
    def mistaken(ctx: Context) -> Gen:
        yield 42

    run = Machine().start(calling(mistaken, retry_policy=Constant(delay=1)))

    assert run.advance() == DONE


class Odd:
    def next(self, attempt: int) -> Any:
        return "soon"


@pytest.mark.parametrize("policy", [Odd(), lambda func: "never"], ids=["no number", "no policy"])
def test_a_policy_that_fails_is_the_error_of_the_call_with_its_cause(policy: Any) -> None:
    run = Machine().start(calling(Failing(9).step(), retry_policy=policy))

    assert run.advance() == DONE
    with pytest.raises(TypeError, match="retry_policy") as caught:
        run.result()
    assert isinstance(caught.value.__cause__, ConnectionError)


def test_nobody_waits_for_an_attempt_beyond_the_deadline() -> None:
    failing = Failing(9)
    run = Machine().start(calling(failing.step(), retry_policy=Constant(delay=30)), timeout_ms=20_000)

    assert run.advance() == DONE
    assert failing.attempts == [1]


def test_an_async_leaf_is_tried_again_by_the_default_policy() -> None:
    attempts: list[int] = []

    async def leaf(ctx: Context) -> str:
        attempts.append(ctx.info.attempt)
        if len(attempts) == 1:
            raise ConnectionError
        return "ok"

    async def root(ctx: Context) -> Coro:
        return await ctx.run(leaf).options(retry_policy=Exponential(delay=1))

    run = Machine().start(root)
    assert run.advance() == WAITING

    assert run.retry() == DONE
    assert run.result() == "ok"
    assert attempts == [1, 2]


def test_an_async_function_that_made_a_durable_call_is_not_tried_again_by_default() -> None:
    def ok(ctx: Context) -> None:
        return None

    async def root(ctx: Context) -> None:
        await ctx.run(ok)
        raise ConnectionError

    run = Machine().start(root, options=Options())

    assert run.advance() == DONE
    with pytest.raises(ConnectionError):
        run.result()


def test_a_generator_that_is_tried_again_counts_its_calls_from_one_and_finds_them_done() -> None:
    attempts: list[int] = []

    def ok(ctx: Context) -> str:
        return ctx.id

    def child(ctx: Context) -> Gen:
        attempts.append(ctx.info.attempt)
        id = yield ctx.run(ok)
        if len(attempts) == 1:
            raise ConnectionError
        return id

    machine = Machine()
    run = machine.start(calling(child, retry_policy=Constant(delay=1)))
    assert run.advance() == WAITING

    assert run.retry() == DONE
    assert run.result() == "root:1.1"
    assert machine.ran.count("root:1.1") == 1


def test_a_root_may_be_tried_again_too() -> None:
    failing = Failing(1)
    machine = Machine()
    run = machine.start(failing.step(), options=Options(retry_policy=Constant(delay=1)))
    assert run.advance() == WAITING

    assert run.retry() == DONE
    assert run.result() == "at last"


def test_other_steps_go_on_while_one_backs_off() -> None:
    failing = Failing(1)
    step = failing.step()
    seen: list[str] = []

    def other(ctx: Context) -> None:
        seen.append("other")

    def root(ctx: Context) -> Gen:
        slow = yield ctx.begin_run(step).options(retry_policy=Constant(delay=5))
        yield ctx.run(other)
        return (yield slow)

    run = Machine().start(root)
    assert run.advance() == WAITING
    assert seen == ["other"]

    assert run.retry() == DONE


# ---- waits of a minute and more -----------------------------------------------------------------


def long(failing: Failing, step: Any = None) -> Any:
    return calling(step or failing.step(), retry_policy=Constant(delay=LONG_RETRY))


def woken(run: Run) -> str:
    """Suspended until its timer fires, and woken by that."""
    assert run.suspend().status == 200
    run.machine.pass_time(LONG_RETRY)
    return run.wake()


def test_a_wait_of_a_minute_is_a_durable_timer_and_the_execution_can_be_suspended() -> None:
    failing = Failing(1)
    machine = Machine()
    run = machine.start(long(failing))
    assert run.advance() == BLOCKED
    assert run.execution.wakes_at() == machine.now() + 60_000

    assert woken(run) == DONE
    assert run.result() == "at last"
    assert "create root:1.r1" in written(run.sent)
    assert creation(run.sent, "root:1.r1").tags["resonate:timer"] == "true"


def test_the_timer_of_a_retry_belongs_to_the_branch_so_that_a_replay_finds_it() -> None:
    run = Machine().start(long(Failing(1)))
    run.advance()
    run.suspend()

    tags = creation(run.sent, "root:1.r1").tags
    assert (tags["resonate:branch"], tags["resonate:parent"]) == ("root", "root:1")


def test_the_number_of_attempts_survives_a_crash() -> None:
    failing = Failing(2)
    machine = Machine()
    run = machine.start(long(failing))
    run.advance()
    assert woken(run) == BLOCKED
    run.suspend()
    second = machine.crash_after(LONG_RETRY)
    assert second.advance() == BLOCKED
    second.flush()

    assert second.advance() == DONE
    assert failing.attempts == [1, 2, 3]


def test_a_crash_during_the_wait_does_not_shorten_it() -> None:
    failing = Failing(1)
    machine = Machine()
    run = machine.start(long(failing))
    assert run.advance() == BLOCKED
    run.flush()
    until = machine.promise("root:1.r1").timeout_at
    second = machine.crash()

    assert second.advance() == BLOCKED
    assert second.execution.wakes_at() == until
    assert failing.attempts == [1]
    assert second.suspend().status == 200
    machine.pass_time(60)
    assert second.wake() == DONE
    assert failing.attempts == [1, 2]


def test_a_generator_waits_durably_as_well_and_keeps_its_finished_steps() -> None:
    attempts: list[int] = []

    def ok(ctx: Context) -> str:
        return ctx.id

    def child(ctx: Context) -> Gen:
        attempts.append(ctx.info.attempt)
        id = yield ctx.run(ok)
        if len(attempts) == 1:
            raise ConnectionError
        return id

    machine = Machine()
    run = machine.start(long(Failing(0), child))
    assert run.advance() == BLOCKED
    run.flush()
    second = machine.crash()
    assert second.advance() == BLOCKED
    second.suspend()
    machine.pass_time(60)

    assert second.wake() == DONE
    assert second.result() == "root:1.1"
    assert attempts == [1, 2]
    assert machine.ran.count("root:1.1") == 1


def test_a_root_waits_durably_below_its_own_id() -> None:
    failing = Failing(1)
    machine = Machine()
    run = machine.start(failing.step(), options=Options(retry_policy=Constant(delay=90)))
    assert run.advance() == BLOCKED
    assert run.suspend().status == 200
    assert machine.known("root:r1")
    machine.pass_time(90)
    second = machine.crash()

    state = second.advance()
    if state == BLOCKED:
        second.flush()
        state = second.advance()
    assert state == DONE
    assert failing.attempts == [1, 2]


def test_disagreement_with_the_record_is_never_tried_again() -> None:
    def ok(ctx: Context) -> None:
        return None

    def one(ctx: Context) -> Gen:
        yield ctx.run(ok)
        yield ctx.rpc("other")

    def two(ctx: Context) -> Gen:
        yield ctx.sleep(4)

    machine = Machine()
    options = Options(retry_policy=Constant(delay=1))
    run = machine.start(one, options=options)
    run.advance()
    run.flush()
    second = machine.crash(func=two)

    assert second.advance() == HALTED
    assert second.backing_off == []
    with pytest.raises(NonDeterminismError):
        raise second.execution.halt or AssertionError
