"""Services that do not tell all they have recorded, or want ids and timers of another form."""

from __future__ import annotations

import pytest

from resonate.context import Context
from resonate.execution.execution import REFUSED
from resonate.protocol.ids import TODAY, Dialect
from resonate.protocol.records import BRANCH, ORIGIN, PARENT, TARGET, TIMER
from resonate.protocol.requests import Response
from resonate.retry_policies import Constant
from tests.execution.driver import BLOCKED, DONE, Gen, Machine


def three_steps(ctx: Context) -> Gen:
    total = 0
    for n in range(3):
        total += yield ctx.run(double, n)
    yield ctx.sleep(5)
    return total


def double(ctx: Context, n: int) -> int:
    return 2 * n


def test_steps_that_are_recorded_unknown_to_us_do_not_run_again() -> None:
    machine = Machine()
    first = machine.start(three_steps)
    assert first.advance() == BLOCKED
    first.flush()
    before = [id for id in machine.ran if id != "root"]

    machine.complete = False
    machine.pass_time(6)
    again = machine.crash(preload=())

    assert again.advance() == BLOCKED  # on the timer, whose creation shows that it is over
    assert again.suspend().status == 300
    again.learn()
    assert again.advance() == DONE
    assert before == ["root:1", "root:2", "root:3"]
    assert [id for id in machine.ran if id != "root"] == before
    assert again.result() == 6


def test_every_creation_is_answered_before_its_step_where_the_record_is_partly_known() -> None:
    machine = Machine()
    machine.complete = False

    run = machine.start(three_steps)

    assert run.advance() == BLOCKED
    assert [len(batch) for batch in run.batches] == [1, 2, 2]


def test_a_service_of_the_old_dialect_gets_its_ids_and_armed_timers() -> None:
    machine = Machine()
    machine.dialect = Dialect(".", "poll://uni@nobody")

    def main(ctx: Context) -> Gen:
        yield ctx.sleep(5)
        return "rested"

    run = machine.start(main)

    assert run.advance() == BLOCKED
    run.suspend()
    timer = machine.promise("root.1")
    assert (timer.tags[TIMER], timer.tags[TARGET]) == ("true", "poll://uni@nobody")


def test_a_long_wait_before_a_retry_is_an_armed_timer_too() -> None:
    machine = Machine()
    machine.dialect = Dialect(".", "poll://uni@nobody")

    def fails(ctx: Context) -> None:
        raise ValueError("no")

    def main(ctx: Context) -> Gen:
        yield ctx.run(fails).options(retry_policy=Constant(delay=120, max_retries=1))

    run = machine.start(main)

    assert run.advance() == BLOCKED
    run.suspend()
    assert machine.promise("root.1.r1").tags[TARGET] == "poll://uni@nobody"


def test_ids_that_a_program_chose_are_trees_of_their_own_where_the_service_wants_that() -> None:
    machine = Machine()
    machine.dialect = TODAY

    def fails(ctx: Context) -> None:
        raise ValueError("no")

    def below(ctx: Context) -> Gen:
        yield ctx.run(fails).options(retry_policy=Constant(delay=120, max_retries=1))

    def main(ctx: Context) -> Gen:
        yield ctx.begin_run(below).options(id="free")
        yield ctx.run(fails).options(id="other", retry_policy=Constant(delay=120, max_retries=1))

    run = machine.start(main)

    assert run.advance() == BLOCKED
    run.suspend()
    for id in ("free", "free.1", "other", "other.r1"):
        tags = machine.promise(id).tags
        assert (tags[ORIGIN], tags[BRANCH], tags[PARENT]) == (id, id, id)


@pytest.mark.parametrize("status", [400, 413])
def test_what_a_service_will_never_take_is_refused(status: int) -> None:
    machine = Machine()
    run = machine.start(three_steps)
    while (call := run.execution.next()) is not None:
        run.step(call)
        if run.execution.queued:
            break
    batch = run.execution.take()

    assert run.execution.answered(batch, [Response(status, error="too large")]) == REFUSED
