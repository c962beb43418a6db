"""Who ran a call and which attempts of it failed, as text beside what is written anyway."""

from __future__ import annotations

import pytest

from resonate.encoders import JsonEncoder
from resonate.execution.attempts import KEPT, RAN, Failed, Ran, add, ran, read_ran
from resonate.options import Options
from resonate.protocol.requests import PromiseWrite, TaskFence, TaskFulfill
from resonate.retry_policies import Constant
from tests.execution.driver import DONE, WAITING, Machine
from tests.execution.test_retries import Failing, calling

FAILED = Failed(1, 5, 6, "KeyError", "it|has|bars", 1_006)


@pytest.mark.parametrize(
    "record",
    [Ran(7, "pid-1"), Ran(None, "pid-1"), Ran(7, ""), Ran(7, "pid-1", (FAILED, FAILED))],
)
def test_a_record_is_read_as_it_was_written(record: Ran) -> None:
    assert read_ran(ran(record.started_at, record.worker, record.failed)) == record


@pytest.mark.parametrize("text", ["", "7", "x|pid", "-7|pid", "7|pid|[", "7|pid|[[1]]", "7|pid|" + "[" * 100_000])
def test_what_is_no_record_is_passed_over(text: str) -> None:
    assert read_ran(text) is None


def test_of_many_failed_attempts_the_first_and_the_last_ones_are_kept() -> None:
    failed: list[Failed] = []
    for number in range(1, KEPT + 10):
        failed = add(failed, Failed(number, 0, 0, "E", "", 0))

    assert len(failed) == KEPT
    assert [each.number for each in (failed[0], failed[1], failed[-1])] == [1, 11, KEPT + 9]


def test_a_step_that_succeeds_at_once_writes_no_more_than_its_result() -> None:
    run = Machine().start(calling(Failing(0).step()))
    assert run.advance() == DONE

    fence, end = run.sent
    assert type(fence) is TaskFence
    assert type(fence.action) is PromiseWrite
    assert type(end) is TaskFulfill
    for value in (fence.action.settle.value, end.action.value):
        assert value.headers is not None
        assert read_ran(value.headers[RAN]) == Ran(run.machine.now(), "")


def test_a_pause_is_noted_from_two_seconds_on_and_the_note_is_no_call() -> None:
    machine = Machine()
    run = machine.start(calling(Failing(2).step(), retry_policy=Constant(delay=2)))
    assert run.advance() == WAITING
    run.flush()

    noted = machine.promise("root:1.tried1-1")
    assert noted.state == "resolved"
    told = read_ran(noted.tags[RAN])
    assert told is not None
    assert [(each.number, each.type, each.again_at - each.ended_at) for each in told.failed] == [
        (1, "ConnectionError", 2_000)
    ]

    again = machine.crash()
    assert again.advance() == WAITING  # the step is tried anew, and then succeeds
    assert again.retry() == DONE
    assert again.result() == "at last"


@pytest.mark.parametrize("delay", [2, 90])
def test_of_a_call_with_an_encoder_the_class_of_an_error_is_told_and_not_its_text(delay: float) -> None:
    machine = Machine()
    run = machine.start(calling(Failing(1).step(), retry_policy=Constant(delay=delay), encoder=JsonEncoder()))
    run.advance()
    run.flush()

    told = read_ran(machine.promise("root:1.tried1-1" if delay < 60 else "root:1.r1").tags[RAN])
    assert told is not None
    assert [(each.type, each.text) for each in told.failed] == [("ConnectionError", "")]


def test_a_short_pause_is_told_with_the_result() -> None:
    run = Machine().start(calling(Failing(2).step(), retry_policy=Constant(delay=1.9)))
    run.advance()
    run.retry()
    assert run.retry() == DONE

    (value,) = [
        each.action.settle.value for each in run.sent if type(each) is TaskFence and hasattr(each.action, "settle")
    ]
    assert value.headers is not None
    told = read_ran(value.headers[RAN])
    assert told is not None
    assert [each.number for each in told.failed] == [1, 2]


def test_a_pause_of_a_step_that_is_not_recorded_is_not_noted_either() -> None:
    run = Machine().start(calling(Failing(1).step(), retry_policy=Constant(delay=5), durable=False))
    assert run.advance() == WAITING

    assert run.execution.outbox == []
    assert run.retry() == DONE


def test_a_root_that_is_retried_tells_of_its_attempts_too() -> None:
    machine = Machine()
    run = machine.start(Failing(1, ValueError).step(), options=Options(retry_policy=Constant(delay=1)))
    run.advance()
    assert run.retry() == DONE

    headers = machine.promise("root").value.headers
    assert headers is not None
    told = read_ran(headers[RAN])
    assert told is not None
    assert [each.type for each in told.failed] == ["ValueError"]


def test_the_timer_of_a_long_pause_tells_of_the_attempt_before_it() -> None:
    machine = Machine()
    run = machine.start(calling(Failing(1).step(), retry_policy=Constant(delay=90)))
    run.advance()
    run.suspend()

    told = read_ran(machine.promise("root:1.r1").tags[RAN])
    assert told is not None
    assert [each.number for each in told.failed] == [1]
