"""Real programs, killed at each of their checkpoints; and bugs planted for the tool to find."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from resonate.execution.execution import Execution
from resonate.retry_policies import Constant, Never
from resonate.testing import CrashReport, World, WorldClient, crash_at_every_checkpoint
from resonate.worker.worker import Worker

SEEDS = [None, 1, 2, 3]
seeded = pytest.mark.parametrize("seed", SEEDS)


def double(ctx: Any, n: int) -> int:
    return 2 * n


def boom(ctx: Any) -> None:
    raise ValueError("out of stock")


async def half(ctx: Any, n: int) -> float:
    await asyncio.sleep(n)
    return n / 2


def registers(*funcs: Callable[..., Any]) -> Callable[[WorldClient], None]:
    def prepare(client: WorldClient) -> None:
        for func in funcs:
            client.register(func)

    return prepare


def in_sequence(ctx: Any, n: int) -> Any:
    total = 0
    for i in range(n):
        total += yield ctx.run(double, i)
    return total


def nested(ctx: Any, depth: int) -> Any:
    if depth == 0:
        return (yield ctx.run(double, 1))
    left = yield ctx.begin_run(nested, depth - 1)
    right = yield ctx.run(nested, depth - 1)
    return (yield left) + right


def sleeper(ctx: Any, days: int) -> Any:
    before = yield ctx.time.time()
    for _ in range(days):
        yield ctx.sleep(86400)
    after = yield ctx.time.time()
    return round((after - before) / 86400)


def over_rpc(ctx: Any) -> Any:
    first = yield ctx.begin_rpc("double", 1)
    second = yield ctx.rpc("in_sequence", 3)
    return (yield first) + second


def choices(ctx: Any) -> Any:
    values = yield ctx.all([ctx.run(double, 1), ctx.run(double, 2)])
    winner = yield ctx.race([ctx.sleep(50), ctx.run(double, 3)])
    mapped = yield ctx.map(double, [4, 5, 6], limit=2)
    return [values, winner, mapped]


def fans_out(ctx: Any, n: int) -> Any:
    begun = []
    for i in range(n):
        begun.append((yield ctx.begin_run(double, i)))
    total = 0
    for promise in begun:
        total += yield promise
    return total


async def gathers(ctx: Any, n: int) -> Any:
    async def chain(i: int) -> float:
        first = await ctx.run(half, i)
        return float(first + await ctx.run(half, n - i))

    return await asyncio.gather(*[chain(i) for i in range(n)])


def echo(ctx: Any, value: Any) -> Any:
    return value


async def remembers_order(ctx: Any) -> Any:
    """Which call ends first depends on when its worker died; that it stays the first does not."""
    seen = []
    for next_done in asyncio.as_completed([ctx.run(half, 3), ctx.run(half, 1), ctx.sleep(2)]):
        seen.append(await next_done)
        recorded = await ctx.run(echo, seen)
        if recorded != seen:
            return [recorded, seen]
    return len(seen)


def remembers_winner(ctx: Any) -> Any:
    winner = yield ctx.race([ctx.sleep(12), ctx.rpc("nap", 11)])
    recorded = yield ctx.run(echo, winner)
    return winner == recorded


def nap(ctx: Any, seconds: int) -> Any:
    yield ctx.sleep(seconds)
    return "rested"


def remembers_chance(ctx: Any) -> Any:
    drawn = []
    for _ in range(3):
        drawn.append((yield ctx.random.randint(1, 6)))
    return drawn == (yield ctx.run(echo, drawn))


def refuses(ctx: Any) -> Any:
    yield ctx.run(double, 1)
    yield ctx.run(boom).options(retry_policy=Never())


@seeded
@pytest.mark.parametrize(
    ("func", "args", "result"),
    [
        (double, (4,), 8),
        (in_sequence, (5,), 20),
        (nested, (2,), 8),
        (sleeper, (7,), 7),
        (over_rpc, (), 8),
        (choices, (), [[2, 4], 6, [8, 10, 12]]),
        (fans_out, (6,), 30),
        (gathers, (3,), [1.5, 1.5, 1.5]),
        (remembers_order, (), 3),
        (remembers_winner, (), True),
        (remembers_chance, (), True),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_program_comes_to_its_result_wherever_its_worker_dies(
    func: Callable[..., Any], args: tuple[Any, ...], result: Any, seed: int | None
) -> None:
    others = [other for other in (double, in_sequence, nap) if other is not func]
    report = crash_at_every_checkpoint(func, *args, prepare=registers(*others), seed=seed)

    assert report.result == result
    assert report.runs == 2 * report.checkpoints


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize(
    ("func", "args", "result"),
    [
        (in_sequence, (3,), 6),
        (nested, (1,), 4),
        (sleeper, (1,), 1),
        (over_rpc, (), 8),
        (choices, (), [[2, 4], 6, [8, 10, 12]]),
        (gathers, (3,), [1.5, 1.5, 1.5]),
        (remembers_winner, (), True),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_program_on_a_file_comes_to_its_result_from_what_the_file_holds(
    func: Callable[..., Any], args: tuple[Any, ...], result: Any, seed: int | None
) -> None:
    others = [other for other in (double, in_sequence, nap) if other is not func]
    report = crash_at_every_checkpoint(func, *args, prepare=registers(*others), seed=seed, on_file=True)

    assert report.result == result
    assert report.runs == 2 * report.checkpoints


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_a_transaction_has_happened_exactly_once_wherever_its_worker_dies(seed: int | None) -> None:
    def insert(connection: sqlite3.Connection, n: int) -> int:
        connection.execute("CREATE TABLE IF NOT EXISTS seen (n INTEGER)")
        connection.execute("INSERT INTO seen VALUES (?)", (n,))
        return int(connection.execute("SELECT count(*) FROM seen").fetchone()[0])

    def counts(ctx: Any) -> Any:
        rows = []
        for n in range(3):
            rows.append((yield ctx.transaction(insert, n)))
            yield ctx.run(double, n)
        return rows

    report = crash_at_every_checkpoint(counts, on_file=True, seed=seed)

    assert report.result == [1, 2, 3]
    assert report.runs == 2 * report.checkpoints


def test_a_failure_is_the_same_failure_after_a_crash() -> None:
    report = crash_at_every_checkpoint(refuses)

    assert isinstance(report.result, ValueError)
    assert report.runs == 2 * report.checkpoints


def test_in_a_sequence_only_the_step_that_was_running_runs_again() -> None:
    report = crash_at_every_checkpoint(in_sequence, 4)

    assert report.checkpoints == 5  # created; then one per step, the last with the result
    assert report.repeated == {f"checkpoint:{n}": 1 for n in range(1, 5)}


def test_a_retry_goes_on_after_a_crash_in_any_attempt() -> None:
    tries: list[int] = []

    def flaky(ctx: Any) -> str:
        tries.append(ctx.info.attempt)
        if ctx.info.attempt < 3:
            raise ConnectionError("not yet")
        return "there"

    def retries(ctx: Any) -> Any:
        yield ctx.run(double, 1)
        return (yield ctx.run(flaky).options(retry_policy=Constant(delay=90, max_retries=5)))

    report = crash_at_every_checkpoint(retries)

    assert report.result == "there"
    assert len(tries) >= 3 * (report.runs + 1) - 2


def test_a_saga_compensates_exactly_what_it_has_booked() -> None:
    booked: dict[str, set[str]] = {}

    def book(ctx: Any, what: str) -> str:
        if what == "car":
            raise ValueError("no car left")
        booked["now"].add(what)
        return what

    def cancel(ctx: Any, what: str) -> None:
        booked["now"].discard(what)

    def trip(ctx: Any) -> Any:
        done = []
        try:
            for what in ("flight", "hotel", "car"):
                done.append((yield ctx.run(book, what).options(retry_policy=Never())))
        except ValueError as error:
            for what in reversed(done):
                yield ctx.run(cancel, what)
            return [str(error), sorted(booked["now"])]
        return done

    report = crash_at_every_checkpoint(trip, outside=lambda world: booked.update(now=set()))

    assert report.result == ["no car left", []]


def test_somebody_outside_answers_while_workers_die() -> None:
    def approval(ctx: Any) -> Any:
        promise = yield ctx.promise(id="approval")
        answer = yield promise
        yield ctx.run(double, 1)
        return answer

    def clerk(world: World) -> None:
        world.after(3600, lambda: world.promises.resolve("approval", data='"yes"'))

    report = crash_at_every_checkpoint(approval, outside=clerk)

    assert isinstance(report, CrashReport)
    assert report.checkpoints >= 4


# ---- bugs that the tool must find -----------------------------------------------------------------


def test_a_result_that_depends_on_memory_is_found() -> None:
    log: list[int] = []

    def step(ctx: Any) -> None:
        log.append(1)

    def counts(ctx: Any) -> Any:
        yield ctx.run(step)
        yield ctx.run(step)
        return len(log)

    with pytest.raises(AssertionError, match="without a crash it returned 2"):
        crash_at_every_checkpoint(counts, outside=lambda world: log.clear())


def test_a_program_that_is_not_deterministic_is_found() -> None:
    calls: list[int] = []

    def other(ctx: Any, n: int) -> int:
        return n

    def fickle(ctx: Any) -> Any:
        calls.append(1)
        yield ctx.run(double if len(calls) == 1 else other, 1)
        return (yield ctx.run(double, 2))

    with pytest.raises(AssertionError, match="NonDeterminismError"):
        crash_at_every_checkpoint(fickle, outside=lambda world: calls.clear())


def test_a_worker_that_writes_too_late_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Worker, "flush", lambda self, held, before_step=False: None)

    with pytest.raises(AssertionError, match=r"checkpoint:2 \(double\) started .* checkpoint:1 \(double\) was not yet"):
        crash_at_every_checkpoint(in_sequence, 3)


def test_a_worker_that_forgets_what_is_recorded_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Execution.__init__

    def forgetful(self: Execution, promise: Any, version: int, preload: Any, *rest: Any, **given: Any) -> None:
        original(self, promise, version, (), *rest, **given)

    monkeypatch.setattr(Execution, "__init__", forgetful)

    with pytest.raises(AssertionError, match=r"checkpoint:1 \(double\) started in default-2 although .* recorded"):
        crash_at_every_checkpoint(in_sequence, 3)


def test_a_violation_shows_everything_that_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Worker, "flush", lambda self, held, before_step=False: None)

    with pytest.raises(AssertionError) as raised:
        crash_at_every_checkpoint(in_sequence, 2)

    lines = str(raised.value).splitlines()
    assert lines[0].startswith("the run without a crash is not as it should be")
    assert any("default-1" in line and "start" in line and "checkpoint:2" in line for line in lines)
