"""`schedule`: functions that run by the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from queue import Queue
from typing import Any

import pytest

from resonate import Context, Resonate
from resonate.errors import EncodeError, FunctionNotFound, ResonateStoreError, ResonateTimedoutError
from resonate.testing import World, WorldClient

pytestmark = pytest.mark.usefixtures("place")

MINUTE = 60_000


class Ticks:
    """A client in a world at the start of an hour, whose function notes when it runs."""

    def __init__(self, world: World) -> None:
        world.clock.set(int(datetime(2024, 3, 1, 12, tzinfo=UTC).timestamp() * 1000))
        self.world = world
        self.client = world.client()
        self.seen: list[tuple[str, Any]] = []

        def tick(ctx: Context, text: str = "tick", *, extra: int = 0) -> str:
            self.seen.append((self.now, text if not extra else (text, extra)))
            return text

        self.tick = self.client.register(tick)

    @property
    def now(self) -> str:
        return datetime.fromtimestamp(self.world.clock.now() / 1000, UTC).strftime("%d. %H:%M:%S")


@pytest.fixture
def ticks(world: World) -> Ticks:
    return Ticks(world)


# ---- firing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cron", "seconds", "times"),
    [
        ("* * * * *", 180, ["01. 12:01:00", "01. 12:02:00", "01. 12:03:00"]),
        ("*/20 * * * *", 3600, ["01. 12:20:00", "01. 12:40:00", "01. 13:00:00"]),
        ("30 6 * * *", 2 * 86400, ["02. 06:30:00", "03. 06:30:00"]),
        ("*/15 * * * * *", 45, ["01. 12:00:15", "01. 12:00:30", "01. 12:00:45"]),
        ("@hourly", 7200, ["01. 13:00:00", "01. 14:00:00"]),
        ("0 0 * * MON", 4 * 86400, ["04. 00:00:00"]),
    ],
)
def test_a_schedule_runs_its_function_at_each_occurrence_in_utc(
    ticks: Ticks, cron: str, seconds: int, times: list[str]
) -> None:
    ticks.client.schedule("s", ticks.tick, cron)

    ticks.world.advance(seconds)

    assert [when for when, _ in ticks.seen] == times


def test_the_arguments_of_a_schedule_are_those_of_each_run(ticks: Ticks) -> None:
    ticks.client.schedule("s", "tick", "* * * * *", "hello", extra=3)

    ticks.world.advance(120)

    assert [what for _, what in ticks.seen] == [("hello", 3)] * 2


@pytest.mark.parametrize("swapped", [False, True], ids=["func first", "cron first"])
@pytest.mark.parametrize("cron", ["* * * * *", "0 * * * * *"], ids=["5 fields", "6 fields"])
@pytest.mark.parametrize("by", ["wrapper", "function", "name"])
def test_function_and_cron_may_come_in_either_order(ticks: Ticks, swapped: bool, cron: str, by: str) -> None:
    func: Any = {"wrapper": ticks.tick, "function": ticks.tick.func, "name": "tick"}[by]
    pair = (cron, func) if swapped else (func, cron)

    ticks.client.schedule("s", *pair, "text")
    ticks.world.advance(60)

    assert ticks.seen == [("01. 12:01:00", "text")]


@pytest.mark.parametrize("kind", ["generator", "async"])
def test_every_kind_of_function_can_be_scheduled(ticks: Ticks, kind: str) -> None:
    def in_steps(ctx: Context) -> Generator[Any, Any, None]:
        yield ctx.sleep(30)
        yield ctx.run(ticks.tick, "after 30 s")

    async def at_once(ctx: Context) -> None:
        await ctx.sleep(30)
        await ctx.run(ticks.tick, "after 30 s")

    func: Callable[..., Any] = in_steps if kind == "generator" else at_once
    ticks.client.register(func)
    ticks.client.schedule("s", func, "* * * * *")

    ticks.world.advance(90)

    assert ticks.seen == [("01. 12:01:30", "after 30 s")]


def test_a_run_is_a_promise_named_after_schedule_and_instant(ticks: Ticks) -> None:
    ticks.client.schedule("report", ticks.tick, "* * * * *")

    ticks.world.advance(60)

    handle = ticks.client.get(f"report-{ticks.world.clock.now()}")
    assert (handle.done(), handle.result()) == (True, "tick")


def test_a_schedule_really_fires_without_anybody_driving_it() -> None:
    seen: Queue[str] = Queue()
    with Resonate() as client:
        client.register(lambda ctx, text: seen.put(text), name="tick")
        client.schedule("s", "tick", "* * * * * *", "real")

        assert seen.get(timeout=10) == "real"


def test_a_schedule_fires_for_a_function_that_is_registered_later(ticks: Ticks) -> None:
    ticks.client.schedule("s", "later", "* * * * *")
    ticks.world.advance(60)

    ticks.client.register(lambda ctx: ticks.seen.append((ticks.now, "later")), name="later")
    ticks.world.settle()

    assert ticks.seen == [("01. 12:01:00", "later")]


def test_a_failing_run_does_not_end_the_schedule(ticks: Ticks) -> None:
    @ticks.client.register
    def fails(ctx: Context) -> Generator[Any, Any, None]:
        ticks.seen.append((ticks.now, "tried"))
        yield from ()
        raise KeyError("bad")

    ticks.client.schedule("s", fails, "* * * * *")
    ticks.world.advance(120)

    assert [when for when, _ in ticks.seen] == ["01. 12:01:00", "01. 12:02:00"]


# ---- options -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [90, 90.0, timedelta(seconds=90)], ids=repr)
@pytest.mark.parametrize("where", ["call", "client"])
def test_a_timeout_bounds_each_run(ticks: Ticks, where: str, timeout: Any) -> None:
    ticks.client.register(lambda ctx: None, name="f")
    if where == "call":
        ticks.client.schedule("s", "f", "0 13 * * *", timeout=timeout)
    else:
        ticks.client.options(timeout=timeout).schedule("s", "f", "0 13 * * *")

    ticks.world.advance(3600)

    assert ticks.client.promises.get(f"s-{ticks.world.clock.now()}").timeout == ticks.world.clock.now() + 90_000


def test_a_run_that_takes_too_long_is_a_timeout(ticks: Ticks) -> None:
    @ticks.client.register
    def slow(ctx: Context) -> Generator[Any, Any, None]:
        yield ctx.sleep(3600)

    ticks.client.schedule("s", slow, "0 13 * * *", timeout=60)
    ticks.world.advance(3600)
    run = ticks.client.get(f"s-{ticks.world.clock.now()}")

    with pytest.raises(ResonateTimedoutError):
        run.result()


def test_tags_target_and_version_are_those_of_the_runs(ticks: Ticks) -> None:
    client = ticks.client
    client.register(lambda ctx: 1, name="f", version=1)
    client.register(lambda ctx: 2, name="f", version=2)
    client.options(tags={"a": "b"}, target="others").schedule("told", "f", "0 13 * * *", version=1)
    client.schedule("newest", "f", "0 13 * * *")

    ticks.world.advance(3600)

    now = ticks.world.clock.now()
    tags = client.promises.get(f"told-{now}").tags
    assert (tags["a"], tags["resonate:target"]) == ("b", "poll://any@others")
    assert '"version":1' in (client.promises.get(f"told-{now}").param.data or "")
    assert client.get(f"newest-{now}").result() == 2


def test_what_is_scheduled_runs_in_the_group_that_has_it(ticks: Ticks) -> None:
    billing = ticks.world.client(group="billing")
    billing.register(lambda ctx: "billed", name="bill")
    billing.schedule("own", "bill", "0 13 * * *")
    ticks.client.options(target="billing").schedule("told", "bill", "0 13 * * *")

    ticks.world.advance(3600)

    now = ticks.world.clock.now()
    assert [billing.get(f"{id}-{now}").result() for id in ("own", "told")] == ["billed"] * 2


# ---- the schedule itself --------------------------------------------------------------------------------------


def test_a_deleted_schedule_fires_no_more(ticks: Ticks) -> None:
    schedule = ticks.client.schedule("s", ticks.tick, "* * * * *")
    ticks.world.advance(60)

    schedule.delete()
    ticks.world.advance(600)

    assert len(ticks.seen) == 1
    with pytest.raises(ResonateStoreError):
        ticks.client.schedules.get("s")


def test_a_schedule_shows_what_it_is(ticks: Ticks) -> None:
    schedule = ticks.client.schedule("s", ticks.tick, "0 13 * * *", timeout=60)

    assert (schedule.id, schedule.cron, schedule.promise_timeout) == ("s", "0 13 * * *", MINUTE)
    assert schedule.next_runtime == ticks.world.clock.now() + 60 * MINUTE
    assert ticks.client.schedules.get("s") == schedule


def test_the_same_definition_again_joins_and_keeps_its_next_run(ticks: Ticks) -> None:
    first = ticks.client.schedule("s", ticks.tick, "*/5 * * * *")
    ticks.world.advance(60)

    second = ticks.client.schedule("s", ticks.tick, "*/5 * * * *")

    assert second == first
    ticks.world.advance(240)
    assert [when for when, _ in ticks.seen] == ["01. 12:05:00"]


@pytest.mark.parametrize(
    "again",
    [
        lambda client: client.schedule("s", "tick", "*/2 * * * *", "old"),
        lambda client: client.schedule("s", "tick", "* * * * *", "new"),
        lambda client: client.schedule("s", "tick", "* * * * *", "old", timeout=5),
        lambda client: client.options(tags={"a": "b"}).schedule("s", "tick", "* * * * *", "old"),
    ],
    ids=["cron", "arguments", "timeout", "tags"],
)
def test_another_definition_replaces_the_old_one_and_says_so(
    ticks: Ticks, again: Callable[[WorldClient], Any], caplog: pytest.LogCaptureFixture
) -> None:
    first = ticks.client.schedule("s", "tick", "* * * * *", "old")

    second = again(ticks.client)

    assert second != first
    assert ticks.client.schedules.get("s") == second
    assert "schedule s had another definition" in caplog.text


def test_schedules_work_from_async_code() -> None:
    seen: Queue[str] = Queue()

    async def main() -> str:
        async with Resonate() as client:
            client.register(lambda ctx, text: seen.put(text), name="tick")
            schedule = await client.aio.schedule("s", "tick", "* * * * * *", "async")
            text = await asyncio.get_running_loop().run_in_executor(None, lambda: seen.get(timeout=10))
            schedule.delete()
            return text

    assert asyncio.run(main()) == "async"


# ---- refused -------------------------------------------------------------------------------------------------


def local(ctx: Context) -> None: ...


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "text"),
    [
        (("s", "tick", "not a cron"), {}, ValueError, "cron"),
        (("s", "tick", ""), {}, ValueError, "cron"),
        (("s", "tick", "61 * * * *"), {}, ValueError, "61"),
        (("s", "tick", "* * * *"), {}, ValueError, "cron"),
        (("s", "tick", 5), {}, TypeError, "cron must be `str`, got int"),
        (("s", 5, "* * * * *"), {}, TypeError, r"func must be `Callable \| str`, got int"),
        (("s", "", "* * * * *"), {}, ValueError, "empty string"),
        (("s", local, "* * * * *"), {}, FunctionNotFound, "function local not found in registry"),
        ((1, "tick", "* * * * *"), {}, TypeError, "id must be `str`, got int"),
        (("", "tick", "* * * * *"), {}, ValueError, "id"),
        (("a\0", "tick", "* * * * *"), {}, ValueError, "id"),
        (("s", "tick", "* * * * *"), {"timeout": "5"}, TypeError, "timeout must be .*, got str"),
        (("s", "tick", "* * * * *"), {"timeout": -1}, ValueError, "timeout must be greater than or equal to zero"),
        (("s", "tick", "* * * * *"), {"version": "1"}, TypeError, "version must be `int`, got str"),
        (("s", "tick", "* * * * *", 1, 2), {}, TypeError, "takes at most 1 positional arguments"),
        (("s", "tick", "* * * * *"), {"wrong": 1}, TypeError, "unexpected keyword argument 'wrong'"),
        (("s", "tick", "* * * * *", object()), {}, EncodeError, r"args\[0\]: object cannot be stored"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_at_once_and_nothing_is_kept(
    ticks: Ticks, args: tuple[Any, ...], kwargs: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        ticks.client.schedule(*args, **kwargs)

    ticks.world.advance(120)
    assert ticks.seen == []
    with pytest.raises(ResonateStoreError):
        ticks.client.schedules.get("s")
