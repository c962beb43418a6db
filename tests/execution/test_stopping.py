"""What ends calls early: deadlines of steps, cancellation, a lost lease, a closed frame."""

from __future__ import annotations

from typing import Any

import pytest

from resonate.context import Context
from resonate.errors import ExecutionStopped, ResonateCanceledError, ResonateTimedoutError
from resonate.execution.call import Call
from resonate.options import Options
from resonate.protocol.requests import PromiseCreate
from resonate.retry_policies import Constant
from tests.execution.driver import BLOCKED, DONE, WAITING, Coro, Gen, Machine, Run, together, written


def double(ctx: Context, n: int) -> int:
    return 2 * n


def remote(ctx: Context) -> Gen:
    return (yield ctx.rpc("other"))


async def remotely(ctx: Context) -> Coro:
    return await ctx.rpc("other")


def expire(run: Run, id: str, seconds: float = 0) -> None:
    """The deadline of `id` passes."""
    run.machine.pass_time(seconds)
    run.execution.expire(run.execution.calls[id])
    run.stop_frames()


def stopped(run: Run, reason: BaseException | None = None) -> str:
    return run.stop(reason or ExecutionStopped("the lease is lost"))


# ---- deadlines of steps ---------------------------------------------------------------------


def patient(ctx: Context, func: Any) -> Gen:
    try:
        return (yield ctx.run(func).options(timeout=5))
    except ResonateTimedoutError as error:
        return ["late", (yield ctx.run(double, 1)), error.promise_id if hasattr(error, "promise_id") else ""]


@pytest.mark.parametrize("func", [remote, remotely])
def test_a_step_that_passes_its_deadline_raises_the_timeout_in_its_caller(func: Any) -> None:
    run = Machine().start(patient, func)
    assert run.advance() == BLOCKED
    run.flush()
    assert [call.id for call in run.execution.timed] == ["root:1"]
    expire(run, "root:1", 5)

    assert run.advance() == DONE
    assert run.result()[:2] == ["late", 2]
    assert run.machine.promise("root:1").state == "rejected_timedout"
    assert "settle root:1" not in written(run.sent)


def test_a_step_has_a_deadline_to_watch_only_if_it_is_earlier_than_its_callers() -> None:
    def root(ctx: Context) -> Gen:
        yield ctx.run(double, 1).options(timeout=60)
        yield ctx.run(double, 2)
        yield ctx.run(double, 3).options(timeout=1)

    machine = Machine()
    run = machine.start(root, timeout_ms=5_000)
    run.advance()

    assert [call.id for call in run.execution.timed] == ["root:3"]
    assert machine.promise("root:1").timeout_at == machine.now() + 5_000
    assert machine.promise("root:3").timeout_at == machine.now() + 1_000


def test_the_code_of_an_expired_step_is_closed_and_its_cleanup_records_nothing() -> None:
    cleaned: list[str] = []

    def slow(ctx: Context) -> Gen:
        try:
            yield ctx.rpc("other")
        finally:
            cleaned.append("finally")
            yield ctx.run(double, 9)

    run = Machine().start(patient, slow)
    run.advance()
    expire(run, "root:1", 5)

    assert run.advance() == DONE
    assert cleaned == ["finally"]
    assert "create root:1.2" not in written(run.sent)


def test_expiry_reaches_the_code_below_the_step_too() -> None:
    closed: list[str] = []

    def inner(ctx: Context) -> Gen:
        try:
            yield ctx.rpc("other")
        except ExecutionStopped:
            closed.append(ctx.id)
            raise

    def slow(ctx: Context) -> Gen:
        yield ctx.run(inner)

    run = Machine().start(patient, slow)
    run.advance()
    expire(run, "root:1", 5)

    assert run.advance() == DONE
    assert closed == ["root:1.1"]


def test_what_is_stopped_twice_is_told_the_first_reason_once() -> None:
    told: list[str] = []

    def inner(ctx: Context) -> Gen:
        try:
            yield ctx.rpc("other")
        except ExecutionStopped as stopped:
            told.append(str(stopped))
            raise

    def slow(ctx: Context) -> Gen:
        yield ctx.run(inner)

    run = Machine().start(patient, slow)
    run.advance()
    run.execution.expire(run.execution.calls["root:1"])

    assert stopped(run) == "stopped"
    assert len(told) == 1
    assert "root:1 passed its deadline" in told[0]


def test_expiry_leaves_the_calls_beside_it_alone() -> None:
    def root(ctx: Context) -> Gen:
        beside = yield ctx.begin_run(remote)
        late = yield ctx.begin_run(remote).options(timeout=5)
        try:
            yield late
        except ResonateTimedoutError:
            return (yield beside)

    machine = Machine()
    run = machine.start(root)
    run.advance()
    run.suspend()
    expire(run, "root:2", 5)
    machine.resolve("root:1.1", "fine")

    run.learn()
    state = run.advance()
    if state == BLOCKED:
        run.learn()
        state = run.advance()
    assert run.execution.root.ended is not None
    assert run.result() == "fine"


def test_what_an_expired_step_had_not_begun_yet_is_not_begun() -> None:
    def child(ctx: Context) -> Gen:
        promise = yield ctx.begin_run(double, 1)
        yield promise

    def root(ctx: Context) -> Gen:
        promise = yield ctx.begin_run(child).options(timeout=5)
        yield promise

    machine = Machine()
    run = machine.start(root)
    execution = run.execution
    for _ in range(2):
        call = execution.next()
        assert call is not None
        run.step(call)
    expire(run, "root:1", 5)

    assert run.advance() == DONE
    assert "root:1.1" not in machine.ran
    with pytest.raises(ResonateTimedoutError):
        run.result()


def test_a_plain_step_that_ends_after_its_deadline_has_timed_out_and_stays_so() -> None:
    machine = Machine()
    runs: list[Run] = []

    def slow(ctx: Context) -> str:
        expire(runs[0], "root:1", 6)
        return "too late"

    runs.append(machine.start(patient, slow))

    assert runs[0].advance() == DONE
    assert runs[0].result()[:2] == ["late", 2]
    assert runs[0].broken is None
    assert machine.promise("root:1").state == "rejected_timedout"


def test_a_plain_step_below_one_that_expired_writes_no_result() -> None:
    machine = Machine()
    runs: list[Run] = []

    def slow(ctx: Context) -> str:
        expire(runs[0], "root:1", 6)
        return "too late"

    def child(ctx: Context) -> Gen:
        return (yield ctx.run(slow))

    runs.append(machine.start(patient, child))

    assert runs[0].advance() == DONE
    assert runs[0].broken is None
    assert "settle root:1.1" not in written(runs[0].sent)


def test_a_step_that_backs_off_is_not_tried_again_once_it_has_expired() -> None:
    attempts: list[int] = []

    def flaky(ctx: Context) -> None:
        attempts.append(1)
        raise ConnectionError

    def root(ctx: Context) -> Gen:
        yield ctx.run(flaky).options(timeout=5, retry_policy=Constant(delay=3))

    run = Machine().start(root)
    assert run.advance() == WAITING
    expire(run, "root:1", 5)

    assert run.retry() == DONE
    assert attempts == [1]
    with pytest.raises(ResonateTimedoutError):
        run.result()


def test_a_step_below_one_that_expired_is_not_tried_again() -> None:
    attempts: list[int] = []

    def flaky(ctx: Context) -> None:
        attempts.append(1)
        raise ConnectionError

    def child(ctx: Context) -> Gen:
        yield ctx.run(flaky).options(retry_policy=Constant(delay=3))

    run = Machine().start(patient, child)
    assert run.advance() == WAITING
    expire(run, "root:1", 5)
    run.retry()

    assert attempts == [1]


def test_an_async_step_below_one_that_expired_is_not_started() -> None:
    async def leaf(ctx: Context) -> None:
        raise AssertionError

    def child(ctx: Context) -> Gen:
        yield ctx.run(leaf)

    machine = Machine()
    run = machine.start(patient, child)
    execution = run.execution
    for _ in range(2):
        call = execution.next()
        assert call is not None
        run.step(call)
    assert [call.id for call in execution.starting] == ["root:1.1"]
    expire(run, "root:1", 5)

    assert run.advance() == DONE
    assert "root:1.1" not in machine.ran


def test_a_deadline_that_passes_after_the_end_changes_nothing() -> None:
    def root(ctx: Context) -> Gen:
        promise = yield ctx.begin_run(double, 1).options(timeout=5)
        value = yield promise
        yield ctx.rpc("other")
        return value

    machine = Machine()
    run = machine.start(root)
    run.advance()
    run.suspend()
    expire(run, "root:1", 5)
    machine.resolve("root:2", None)

    assert run.wake() == DONE
    assert run.result() == 2


def test_a_deadline_passes_once() -> None:
    run = Machine().start(patient, remote)
    run.advance()
    expire(run, "root:1", 5)
    outcome = run.execution.calls["root:1"].outcome
    expire(run, "root:1")

    assert run.execution.calls["root:1"].outcome is outcome


# ---- cancellation ------------------------------------------------------------------------------


def test_a_cancelled_function_sees_the_cancellation_where_it_waits() -> None:
    seen: list[BaseException] = []

    def root(ctx: Context) -> Gen:
        try:
            yield ctx.rpc("other")
        except ResonateCanceledError as error:
            seen.append(error)
            raise

    run = Machine().start(root)
    run.advance()
    run.suspend()
    reason = ResonateCanceledError("root")

    assert stopped(run, reason) == "stopped"
    assert seen == [reason]
    assert run.execution.outbox == []


def test_a_cancelled_async_function_sees_the_cancellation_where_it_waits() -> None:
    seen: list[BaseException] = []

    async def root(ctx: Context) -> None:
        try:
            await together(ctx.rpc("a"), ctx.rpc("b"))
        except ResonateCanceledError as error:
            seen.append(error)
            raise

    run = Machine().start(root)
    run.advance()
    run.suspend()
    reason = ResonateCanceledError("root")

    assert stopped(run, reason) == "stopped"
    assert seen == [reason]


def test_durable_calls_in_the_cleanup_of_a_cancelled_function_raise_again() -> None:
    seen: list[type[BaseException]] = []

    def root(ctx: Context) -> Gen:
        try:
            yield ctx.rpc("other")
        finally:
            for command in (ctx.run(double, 1), ctx.rpc("undo"), ctx.promise(), ctx.sleep(1)):
                try:
                    yield command
                except BaseException as error:
                    seen.append(type(error))

    run = Machine().start(root)
    run.advance()
    run.suspend()
    stopped(run, ResonateCanceledError("root"))

    assert seen == [ResonateCanceledError] * 4
    assert run.queued == []


def test_a_cancelled_function_may_begin_detached_calls_which_are_not_fenced() -> None:
    def root(ctx: Context) -> Gen:
        try:
            yield ctx.rpc("other")
        finally:
            yield ctx.detached("undo", 1)

    machine = Machine()
    run = machine.start(root)
    run.advance()
    run.suspend()
    machine.cancel("root")
    stopped(run, ResonateCanceledError("root"))

    assert [type(request) for request in run.batches[-1]] == [PromiseCreate]
    assert machine.promise("root:2").state == "pending"


def test_a_function_whose_lease_is_lost_may_not_begin_detached_calls() -> None:
    seen: list[type[BaseException]] = []

    def root(ctx: Context) -> Gen:
        try:
            yield ctx.rpc("other")
        finally:
            try:
                yield ctx.detached("undo")
            except BaseException as error:
                seen.append(type(error))
                raise

    run = Machine().start(root)
    run.advance()
    run.suspend()
    stopped(run)

    assert seen == [ExecutionStopped]
    assert run.execution.outbox == []


# ---- a lost lease, a closed frame --------------------------------------------------------------------


def test_closing_runs_finally_and_passes_by_except_exception() -> None:
    seen: list[str] = []

    def root(ctx: Context) -> Gen:
        try:
            yield ctx.rpc("other")
        except Exception:
            seen.append("except")
        finally:
            seen.append("finally")

    run = Machine().start(root)
    run.advance()
    run.suspend()
    stopped(run)

    assert seen == ["finally"]
    assert run.execution.root.code is None
    assert run.execution.root.ended is None


def test_closing_reaches_every_frame_of_the_tree() -> None:
    closed: list[str] = []

    def leaf(ctx: Context) -> Gen:
        try:
            yield ctx.rpc("other")
        finally:
            closed.append(ctx.id)

    async def leafy(ctx: Context) -> None:
        try:
            await ctx.rpc("other")
        finally:
            closed.append(ctx.id)

    def root(ctx: Context) -> Gen:
        try:
            yield ctx.all([ctx.run(leaf), ctx.run(leafy)])
        finally:
            closed.append(ctx.id)

    run = Machine().start(root)
    run.advance()
    run.suspend()
    stopped(run)

    assert sorted(closed) == ["root", "root:1", "root:2"]
    assert all(call.code is None for call in run.execution.calls.values())


def test_what_was_queued_and_what_had_not_begun_is_dropped() -> None:
    def root(ctx: Context) -> Gen:
        yield ctx.begin_run(double, 1)
        yield ctx.begin_rpc("other")
        yield ctx.begin_run(remotely)
        yield ctx.run(double, 2)

    machine = Machine()
    run = machine.start(root)
    execution = run.execution
    for _ in range(3):
        execution.ready.remove(execution.root)
        execution.running += 1
        run.step(execution.root)
    assert execution.outbox
    assert execution.starting
    stopped(run)

    assert machine.ran == ["root"]
    assert (execution.outbox, execution.unwritten, execution.urgent) == ([], 0, 0)


def test_a_plain_step_that_ends_after_the_stop_writes_nothing() -> None:
    runs: list[Run] = []

    def slow(ctx: Context) -> str:
        runs[0].execution.stop_all(ExecutionStopped("the lease is lost"))
        return "too late"

    def root(ctx: Context) -> Gen:
        yield ctx.run(slow)

    runs.append(Machine().start(root))

    assert runs[0].advance() == "stopped"
    assert runs[0].sent == runs[0].execution.outbox == []


def test_a_plain_root_that_ends_after_the_stop_has_no_result() -> None:
    runs: list[Run] = []

    def root(ctx: Context) -> str:
        runs[0].execution.stop_all(ExecutionStopped("the lease is lost"))
        return "too late"

    runs.append(Machine().start(root))

    assert runs[0].advance() == "stopped"
    assert runs[0].execution.root.ended is None


def test_a_step_that_backs_off_is_not_tried_again_once_the_execution_is_stopped() -> None:
    attempts: list[int] = []

    def flaky(ctx: Context) -> None:
        attempts.append(1)
        raise ConnectionError

    def root(ctx: Context) -> Gen:
        yield ctx.run(flaky).options(retry_policy=Constant(delay=3))

    run = Machine().start(root)
    assert run.advance() == WAITING
    stopped(run)
    run.retry()

    assert attempts == [1]


def test_a_root_that_backs_off_is_not_tried_again_once_it_is_stopped() -> None:
    attempts: list[int] = []

    def flaky(ctx: Context) -> None:
        attempts.append(1)
        raise ConnectionError

    run = Machine().start(flaky, options=Options(retry_policy=Constant(delay=3)))
    assert run.advance() == WAITING
    stopped(run)
    run.retry()

    assert attempts == [1]


def test_a_generator_that_is_about_to_go_on_is_stopped_at_its_next_command() -> None:
    went: list[str] = []

    def root(ctx: Context) -> Gen:
        yield ctx.begin_rpc("other")
        went.append("on")
        yield ctx.run(double, 1)
        went.append("too far")

    run = Machine().start(root)
    call = run.execution.next()
    assert call is not None
    run.step(call)
    stopped(run)

    assert went == ["on"]
    assert run.execution.outbox == []


def test_a_refused_write_stops_everything() -> None:
    def root(ctx: Context) -> Gen:
        yield ctx.run(double, 1)
        yield ctx.run(double, 2)

    machine = Machine()
    run = machine.start(root)
    machine.pass_time(11)
    machine.acquire()

    assert run.advance() == "stopped"
    assert run.broken == "lost"
    assert machine.ran == ["root", "root:1"]
    assert not machine.known("root:1")


@pytest.mark.parametrize("stop", [True, False])
def test_a_generator_whose_code_runs_is_stopped_at_its_next_command_and_not_entered_twice(stop: bool) -> None:
    runs: list[Run] = []
    seen: list[Any] = []

    def busy(ctx: Context) -> Gen:
        if stop:
            runs[0].execution.stop_all(ExecutionStopped("the lease is lost"))
        else:
            expire(runs[0], "root:1", 6)
        seen.append([call for call in runs[0].execution.ready if call.id == ctx.id])
        try:
            yield ctx.run(double, 1)
        except ExecutionStopped as error:
            seen.append(type(error))
            raise

    runs.append(Machine().start(patient, busy))
    runs[0].advance()

    assert seen == [[], ExecutionStopped]


def test_calls_compare_by_identity() -> None:
    run = Machine().start(double, 1)

    assert run.execution.root == run.execution.root
    assert run.execution.root != Call("root", None, "plain", 0, Options())
