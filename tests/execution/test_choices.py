"""all, race, first and map: what decides them, what is recorded, and what a replay sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from resonate.context import Context
from resonate.errors import UsageError
from resonate.execution.commands import Promise
from tests.execution.driver import BLOCKED, DONE, Coro, Gen, Machine, Run, written


def double(ctx: Context, n: int) -> int:
    return 2 * n


def fail(ctx: Context, text: str) -> None:
    raise ValueError(text)


def waiting(machine: Machine, func: Callable[..., Any]) -> Run:
    """`func` has run until it waits, and is suspended."""
    run = machine.start(func)
    assert run.advance() == BLOCKED
    assert run.suspend().status == 200
    return run


def settle(run: Run, id: str, value: Any = None) -> str:
    """`id` is settled from outside and the execution is woken by that."""
    if isinstance(value, Exception):
        run.machine.reject(id, value)
    else:
        run.machine.resolve(id, value)
    state = run.wake()
    if state == BLOCKED:
        run.suspend()
    return state


def test_thousands_of_calls_may_be_made_before_they_are_given_to_a_choice() -> None:
    def main(ctx: Context) -> Gen:
        return len((yield ctx.all([ctx.run(double, n) for n in range(3000)])))

    assert Machine().run(main) == 3000


# ---- all ---------------------------------------------------------------------------------------


def test_all_gives_the_values_in_the_order_of_its_members() -> None:
    def root(ctx: Context) -> Gen:
        return (yield ctx.all([ctx.run(double, 1), ctx.rpc("f"), ctx.run(double, 3)]))

    run = waiting(Machine(), root)

    assert settle(run, "root:2", "remote") == DONE
    assert run.result() == [2, "remote", 6]


def test_all_of_nothing_is_an_empty_list() -> None:
    def root(ctx: Context) -> Gen:
        return (yield ctx.all([]))

    assert Machine().run(root) == []


def test_all_of_what_is_done_already_is_decided_at_once() -> None:
    def root(ctx: Context) -> Gen:
        promise = yield ctx.begin_run(double, 1)
        yield promise
        return (yield ctx.all([promise, promise]))

    assert Machine().run(root) == [2, 2]


def test_all_raises_the_first_failure_while_others_still_run() -> None:
    def root(ctx: Context) -> Gen:
        try:
            yield ctx.all([ctx.rpc("f"), ctx.rpc("g")])
        except KeyError as error:
            return error.args

    run = waiting(Machine(), root)

    assert settle(run, "root:2", KeyError("g")) == BLOCKED
    assert run.execution.root.ended is not None
    assert settle(run, "root:1") == DONE
    assert run.result() == ("g",)


def test_a_failure_among_values_that_are_there_already_is_raised() -> None:
    def root(ctx: Context) -> Gen:
        bad = yield ctx.begin_run(fail, "bad")
        try:
            yield bad
        except ValueError:
            pass
        good = yield ctx.begin_run(double, 1)
        yield good
        yield ctx.all([good, bad])

    with pytest.raises(ValueError, match="bad"):
        Machine().run(root)


def test_a_choice_takes_calls_and_promises_and_nothing_else() -> None:
    def root(ctx: Context) -> Gen:
        yield ctx.all([ctx.run(double, 1), 42])

    with pytest.raises(UsageError, match="got 42"):
        Machine().run(root)


def test_a_value_that_cannot_be_read_fails_the_choice_that_waited_for_it() -> None:
    def root(ctx: Context) -> Gen:
        yield ctx.all([ctx.promise(), ctx.rpc("f")])

    machine = Machine()
    run = waiting(machine, root)
    settle(run, "root:2", 1)
    from resonate.protocol.records import Value
    from resonate.protocol.requests import PromiseSettle

    machine.send([PromiseSettle("root:1", "resolved", Value(None, "%%%"))])

    assert run.wake() == DONE
    with pytest.raises(ValueError, match="root:1"):
        run.result()


def test_an_async_function_may_wait_for_a_choice() -> None:
    async def root(ctx: Context) -> Coro:
        return await ctx.all([ctx.run(double, 1), ctx.run(double, 2)])

    assert Machine().run(root) == [2, 4]


# ---- race ------------------------------------------------------------------------------------------


def race(ctx: Context) -> Gen:
    winner = yield ctx.race([ctx.rpc("f"), ctx.rpc("g")])
    yield ctx.rpc("h")
    return winner


def test_a_race_gives_the_value_of_the_first_to_end_and_waits_for_the_rest_at_the_end() -> None:
    run = waiting(Machine(), race)

    assert settle(run, "root:2", "g") == BLOCKED
    assert settle(run, "root:4") == BLOCKED
    assert settle(run, "root:1", "f") == DONE
    assert run.result() == "g"


def test_a_race_raises_the_error_of_the_first_to_end() -> None:
    run = waiting(Machine(), race)

    assert settle(run, "root:1", KeyError("f")) == BLOCKED
    assert settle(run, "root:2") == DONE
    with pytest.raises(KeyError, match="f"):
        run.result()


def test_the_winner_of_a_race_is_written_before_the_code_of_another_step_starts() -> None:
    machine = Machine()
    seen: list[str] = []

    def look(ctx: Context) -> None:
        seen.append(machine.promise("root:2").state)

    def root(ctx: Context) -> Gen:
        yield ctx.race([ctx.run(double, 1)])
        yield ctx.run(look)

    machine.run(root)

    assert seen == ["resolved"]


def test_a_race_that_was_decided_has_the_same_winner_on_replay_whoever_is_settled_by_then() -> None:
    machine = Machine()
    run = waiting(machine, race)
    settle(run, "root:2", "g")
    machine.resolve("root:1", "f")
    machine.resolve("root:4", None)
    second = machine.crash()
    assert second.advance() == BLOCKED
    second.flush()
    assert second.advance() == BLOCKED
    second.flush()

    assert second.advance() == DONE
    assert second.result() == "g"
    assert "settle root:3" not in written(second.sent)


def test_a_race_with_a_local_winner_is_decided_on_replay_from_the_records_alone() -> None:
    def root(ctx: Context) -> Gen:
        winner = yield ctx.race([ctx.rpc("f"), ctx.run(double, 4)])
        yield ctx.rpc("h")
        return winner

    machine = Machine()
    run = waiting(machine, root)
    machine.resolve("root:1", "late")
    machine.resolve("root:4", None)
    run.release()
    second = machine.crash()
    assert second.advance() == BLOCKED
    second.flush()

    assert second.advance() == DONE
    assert second.result() == 8
    assert machine.ran == ["root", "root:2", "root"]


def test_a_race_that_was_not_decided_goes_on_being_run_after_a_crash() -> None:
    machine = Machine()
    waiting(machine, race)
    machine.resolve("root:1", "f")
    second = machine.crash()
    assert second.advance() == BLOCKED
    second.flush()
    assert second.advance() == BLOCKED
    second.flush()

    assert "settle root:3" in written(second.sent)


def test_a_decided_all_is_known_on_replay_once_all_members_are_learnt() -> None:
    def root(ctx: Context) -> Gen:
        values = yield ctx.all([ctx.rpc("f"), ctx.run(double, 2), ctx.rpc("g")])
        yield ctx.rpc("h")
        return values

    machine = Machine()
    run = waiting(machine, root)
    settle(run, "root:1", "f")
    settle(run, "root:3", "g")
    machine.resolve("root:5", None)
    second = machine.crash()
    assert second.advance() == BLOCKED
    second.flush()
    assert second.advance() == BLOCKED
    second.flush()

    assert second.advance() == DONE
    assert second.result() == ["f", 4, "g"]
    assert machine.ran == ["root", "root:2", "root"]


def test_a_decided_all_that_failed_fails_the_same_way_on_replay() -> None:
    def root(ctx: Context) -> Gen:
        try:
            yield ctx.all([ctx.rpc("f"), ctx.rpc("g")])
        except KeyError as error:
            yield ctx.rpc("h")
            return error.args

    machine = Machine()
    run = waiting(machine, root)
    settle(run, "root:2", KeyError("g"))
    machine.reject("root:1", KeyError("f"))
    machine.resolve("root:4", None)
    second = machine.crash()
    assert second.advance() == BLOCKED
    second.flush()
    second.advance()
    second.flush()

    assert second.advance() == DONE
    assert second.result() == ("g",)


# ---- first, and map --------------------------------------------------------------------------------------


def test_first_gives_the_promise_that_ended_first_also_if_it_failed() -> None:
    def root(ctx: Context) -> Gen:
        bad = yield ctx.begin_run(fail, "bad")
        remote = yield ctx.begin_rpc("f")
        first = yield ctx._choose([remote, bad], "first")
        return first == bad

    machine = Machine()
    run = waiting(machine, root)

    assert settle(run, "root:2") == DONE
    assert run.result() is True


def test_map_gives_the_values_in_the_order_of_the_items() -> None:
    def root(ctx: Context) -> Gen:
        return (yield ctx.map(double, [3, 1, 2]))

    assert Machine().run(root) == [6, 2, 4]


def test_map_runs_at_most_so_many_at_the_same_time() -> None:
    def remote(ctx: Context, name: str) -> Gen:
        return (yield ctx.rpc(name))

    def root(ctx: Context) -> Gen:
        return (yield ctx.map(remote, ["a", "b", "c"], limit=2))

    machine = Machine()
    run = waiting(machine, root)

    assert sorted(run.execution.awaited) == ["root:1.1.1", "root:1.2.1"]
    assert settle(run, "root:1.2.1", "B") == BLOCKED
    assert sorted(run.execution.awaited) == ["root:1.1.1", "root:1.4.1"]
    assert settle(run, "root:1.1.1", "A") == BLOCKED
    assert settle(run, "root:1.4.1", "C") == DONE
    assert run.result() == ["A", "B", "C"]


def test_map_that_has_enough_ends_and_hands_what_still_runs_to_its_caller() -> None:
    def remote(ctx: Context, name: str) -> Gen:
        return (yield ctx.rpc(name))

    def root(ctx: Context) -> Gen:
        values = yield ctx.map(remote, ["a", "b"], min_successful=1)
        yield ctx.rpc("after")
        return values

    machine = Machine()
    run = waiting(machine, root)
    assert settle(run, "root:1.2.1", "B") == BLOCKED

    assert machine.promise("root:1").state == "resolved"
    assert settle(run, "root:2") == BLOCKED
    assert run.execution.root.ended is not None
    assert settle(run, "root:1.1.1", "A") == DONE
    assert run.result() == [None, "B"]
    assert machine.promise("root:1.1").state == "resolved"


def test_map_that_failed_does_not_wait_for_the_items_that_still_run() -> None:
    def remote(ctx: Context, name: str) -> Gen:
        return (yield ctx.rpc(name))

    def root(ctx: Context) -> Gen:
        try:
            yield ctx.map(remote, ["a", "b"])
        except KeyError:
            return "failed"

    machine = Machine()
    run = waiting(machine, root)

    assert settle(run, "root:1.1.1", KeyError("a")) == BLOCKED
    assert run.execution.root.ended is not None
    assert settle(run, "root:1.2.1") == DONE
    assert run.result() == "failed"


def test_a_finished_map_is_not_begun_again_on_replay() -> None:
    def root(ctx: Context) -> Gen:
        values = yield ctx.map(double, [1, 2])
        yield ctx.rpc("after")
        return values

    machine = Machine()
    waiting(machine, root)
    machine.ran.clear()
    machine.resolve("root:2", None)
    second = machine.crash()
    assert second.advance() == BLOCKED
    second.flush()

    assert second.advance() == DONE
    assert second.result() == [2, 4]
    assert machine.ran == ["root"]


def test_a_choice_member_that_was_made_before_is_not_begun_twice() -> None:
    def root(ctx: Context) -> Gen:
        command = ctx.run(double, 5)
        value = yield command
        return [value, *(yield ctx.all([command, Promise("root:1")]))]

    machine = Machine()

    assert machine.run(root) == [10, 10, 10]
    assert machine.ran.count("root:1") == 1


def test_the_last_member_to_end_after_a_decision_changes_nothing() -> None:
    def root(ctx: Context) -> Gen:
        return (yield ctx.race([ctx.run(double, 1), ctx.run(double, 2)]))

    run = Machine().start(root)

    assert run.advance() == DONE
    assert written(run.sent).count("settle root:3") == 1
