"""What happened, and why is it waiting: the same answers wherever state lives."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from typer.testing import CliRunner

from resonate import Context, Resonate
from resonate.cli.app import app
from resonate.errors import ExecutionHalted, NonDeterminismError, ResonateStoreError
from resonate.inspection import Attempt, Call, Wait
from resonate.inspection.waits import Reached, waits_of
from resonate.retry_policies import Constant, Never
from tests import databases
from tests.homes import until
from tests.wire_server import WireServer

T = TypeVar("T")
EMBEDDED = ["memory", "file", "postgres"]
"""Servers take no ids for calls but those that begin with their root's."""

HOMES = ["memory", "file", "postgres", "http", "foreign"]


@pytest.fixture(params=HOMES)
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Resonate]:
    """A client of each home, with functions that end in each way."""
    server: WireServer | None = None
    url: str | None = None
    if request.param == "file":
        url = f"sqlite:///{tmp_path}/app.db?synchronous=off"
    elif request.param == "postgres":
        url = databases.fresh_url()
    elif request.param in ("http", "foreign"):
        server = WireServer(foreign="." if request.param == "foreign" else None).start()
        url = server.url
    client = Resonate(url=url)
    for function in (add, adds, fails, sleeps, approval, asks, busy):
        client.register(function)
    yield client
    client.stop()
    if server is not None:
        server.stop()


entered, leave = threading.Event(), threading.Event()


def add(ctx: Context, a: int, b: int) -> int:
    return a + b


def adds(ctx: Context, n: int) -> Generator[Any, Any, int]:
    total = 0
    for number in range(n):
        total = yield ctx.run(add, total, number)
    return total


def fails(ctx: Context, what: str) -> None:
    raise LookupError(f"no {what}")


def sleeps(ctx: Context) -> Generator[Any, Any, None]:
    yield ctx.sleep(3600)


def approval(ctx: Context) -> Generator[Any, Any, Any]:
    yield ctx.run(adds, 2)
    return (yield ctx.promise(timeout=86_400))


def asks(ctx: Context) -> Generator[Any, Any, Any]:
    first = yield ctx.begin_rpc("approval")
    yield ctx.begin_rpc("unknown", 1).options(target="nobody")
    return (yield first)


def busy(ctx: Context) -> None:
    entered.set()
    leave.wait(20)


def eventually(look: Callable[[], T], fits: Callable[[T], bool]) -> T:
    """What `look` gives once it fits: a worker in memory may have what it lacks the function of for a moment."""
    found: list[T] = []

    def fitting() -> bool:
        found.append(look())
        return fits(found[-1])

    until(fitting)
    return found[-1]


def suspended(client: Resonate, id: str) -> Call:
    """What is shown of `id` once it waits."""
    until(lambda: client.get(id).status().state == "waiting")
    return client.get(id).tree()


# Status.


def test_what_is_read_is_printed_as_the_command_line_prints_it(client: Resonate) -> None:
    client.run("sum", adds, 2)
    handle = client.begin_run("ask", approval)
    waiting = suspended(client, "ask")
    tree = [re.sub(r" [0-9.]+ m?s ", " T ", line) for line in str(client.get("sum").tree()).splitlines()]
    wait, more = str(handle.why()).splitlines()

    below = [call.id for call in client.get("sum").tree().calls]
    assert tree == [
        "✓ adds  sum  succeeded  T  → 1",
        f"├─ ✓ add  {below[0]}  succeeded  T  → 0",
        f"└─ ✓ add  {below[1]}  succeeded  T  → 1",
    ]
    assert str(waiting).splitlines()[0] == "· approval  ask  waiting"
    assert "waits for somebody to settle it" in wait
    assert more.strip().startswith("resonate promises resolve")
    assert str(client.get("sum").why()) == "nothing: it has ended"
    assert repr(waiting) == "Call(id='ask', title='approval', state='waiting')"
    assert repr(handle.why()).startswith("[Wait(id='ask")


def test_a_page_is_gone_through_counted_and_printed(client: Resonate) -> None:
    for number in range(3):
        client.run(f"s{number}", add, number, 1)

    page = client.list(limit=2)
    first, second, more = str(page).splitlines()

    assert [call.id for call in page] == ["s2", "s1"]
    assert len(page) == 2
    assert first.startswith("✓ add  s2  succeeded  ")
    assert second.endswith("→ 2")
    assert more == f"more: cursor={page.cursor!r}"
    assert str(client.list(prefix="none")) == "nothing"


def test_what_has_succeeded_shows_its_input_output_and_times(client: Resonate) -> None:
    before = datetime.now(UTC)
    client.run("a", adds, 3)

    call = client.get("a").status()

    assert (call.state, call.name, call.version, call.output, call.group) == ("succeeded", "adds", 1, 3, "default")
    assert call.input["args"] == [3]
    assert call.settled
    assert call.settled_at is not None
    assert call.created_at <= call.settled_at
    assert abs(call.created_at / 1000 - before.timestamp()) < 60


def test_what_has_failed_shows_the_error_with_its_traceback(client: Resonate) -> None:
    with pytest.raises(LookupError):
        client.options(retry_policy=Never()).run("f", fails, "luck")

    call = client.get("f").status()

    assert call.state == "failed"
    assert call.error is not None
    assert str(call.error) == "LookupError: no luck"
    assert "raise LookupError" in call.error.traceback


def test_what_was_cancelled_and_what_timed_out_say_so(client: Resonate) -> None:
    handle = client.begin_run("c", sleeps)
    handle.cancel()
    timed = client.options(timeout=0.05).begin_run("t", sleeps)
    with pytest.raises(Exception, match="t"):
        timed.result()

    assert client.get("c").status().state == "cancelled"
    assert client.get("t").status().state == "timed out"
    assert [call.state for call in client.get("t").tree().calls] == ["timed out"]  # its sleep, which was cut


def test_a_promise_that_is_nobodys_to_run_is_pending(client: Resonate) -> None:
    client.promises.create("bare", 10**14)

    call = client.get("bare").status()

    assert (call.state, call.kind, call.title) == ("pending", "promise", "promise")


def test_what_runs_shows_its_worker(client: Resonate) -> None:
    entered.clear()
    leave.clear()
    handle = client.begin_run("b", busy)
    assert entered.wait(20)

    call = handle.status()
    waits = handle.why()
    leave.set()
    handle.result()

    assert (call.state, call.worker, call.lease_ms) == ("running", client.pid, 10_000)
    assert waits == [
        Wait(
            "b",
            f"b (busy) is run by worker {client.pid}, which holds its lease; should that one be gone for good, others "
            "have it within 10s, or at once by",
            "resonate tasks release b --version 1",
            "lease",
            ("b",),
        )
    ]
    assert handle.why() == []


def test_an_unknown_id_is_an_error(client: Resonate) -> None:
    client.run("a", adds, 1)
    handle = client.get("a")
    client._core.inspector()

    with pytest.raises(ResonateStoreError, match="not found: nobody"):
        client._core.inspector().execution("nobody")
    assert handle.status().id == "a"


# Trees.


def shape(call: Call) -> Any:
    """Names and states of a tree."""
    below = [shape(child) for child in call.calls]
    return (call.title, call.state, below) if below else (call.title, call.state)


def test_a_tree_has_all_calls_in_the_order_of_the_code(client: Resonate) -> None:
    client.run("a", adds, 12)

    tree = client.get("a").tree()

    assert shape(tree) == ("adds", "succeeded", [("add", "succeeded")] * 12)
    assert [call.input for call in tree.calls] == [None] * 12  # what runs in its caller is not stored with its input
    assert [call.output for call in tree.calls] == [0, 1, 3, 6, 10, 15, 21, 28, 36, 45, 55, 66]
    assert all("test_inspection.py" in call.place for call in tree.calls)


def test_a_tree_goes_down_to_the_leaves_of_remote_calls(client: Resonate) -> None:
    client.begin_run("r", asks)

    done = ("approval", "waiting", [("adds", "succeeded", [("add", "succeeded")] * 2), ("promise", "pending")])

    _, unknown = eventually(  # the states are read after the promises, so of some that are newer
        lambda: client.get("r").tree().calls,
        lambda calls: [call.state for call in calls] == ["waiting", "queued"] and shape(calls[0]) == done,
    )

    assert (unknown.title, unknown.state, unknown.group) == ("unknown", "queued", "nobody")


# Why.


def test_a_sleep_says_until_when_and_how_to_end_it(client: Resonate) -> None:
    client.begin_run("s", sleeps)
    tree = suspended(client, "s")
    (timer,) = tree.calls

    (wait,) = client.get("s").why()

    assert wait.id == timer.id
    assert re.fullmatch(
        rf"{timer.id} \(test_inspection.py:\d+\) sleeps until .*\d\d:\d\d:\d\d UTC \(in (1h|59m 5\ds)\)", wait.text
    )
    assert wait.command == f"resonate promises resolve {timer.id}"
    until(lambda: timer.deadline > 0)
    assert abs(timer.deadline - timer.created_at - 3_600_000) < 5_000


def test_what_is_waited_for_is_found_through_remote_calls(client: Resonate) -> None:
    client.begin_run("r", asks)

    approval, unknown = eventually(
        lambda: client.get("r").why(),
        lambda waits: len(waits) == 2 and "settle it" in waits[0].text and "nobody" in waits[1].text,
    )

    assert "waits for somebody to settle it, until " in approval.text
    assert approval.command == f"resonate promises resolve {approval.id} --value JSON"
    assert "waits for a worker: none of group nobody that has unknown version 1 has taken it up since " in unknown.text
    assert [(wait.kind, wait.path) for wait in (approval, unknown)] == [
        ("promise", ("r", client.get("r").tree().calls[0].id, approval.id)),
        ("worker", ("r", unknown.id)),
    ]
    assert unknown.command == "resonate worker MODULE --group nobody"
    client.promises.resolve(approval.id, data="1")
    until(lambda: [wait.id for wait in client.get("r").why()] == [unknown.id])


def test_a_halted_execution_says_why_and_how_it_goes_on(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/app.db"
    with Resonate(url=url) as client:
        client.register(approval, name="program")
        client.begin_run("p", "program")
        suspended(client, "p")
    with Resonate(url=url) as client:
        client.register(asks, name="program")
        (promise,) = [call for call in client.get("p").tree().calls if call.kind == "promise"]
        client.promises.resolve(promise.id)
        with pytest.raises((NonDeterminismError, ExecutionHalted)):
            client.get("p").result(timeout=20)
        until(lambda: client.get("p").status().state == "halted")

        call = client.get("p").status()
        (wait,) = client.get("p").why()

    assert call.reason is not None
    assert "the code no longer does what is recorded" in call.reason
    assert wait.text.startswith("p (program) is halted: the code no longer does what is recorded")
    assert wait.command == "resonate resume p"
    said = [CliRunner().invoke(app, [name, "p", "--url", url]).output.splitlines() for name in ("why", "show")]
    for lines, lead in zip(said, ("  | ", " " * 12), strict=True):
        assert len([line for line in lines if line.startswith(f"{lead}recorded: ")]) == 1
        assert len([line for line in lines if line.startswith(f"{lead}asked: ")]) == 1


def test_a_long_pause_before_the_next_attempt_is_shown(client: Resonate) -> None:
    client.options(retry_policy=Constant(delay=3600, max_retries=3)).begin_run("f", fails, "luck")
    until(lambda: client.get("f").tree().state == "retrying")

    (wait,) = client.get("f").why()

    assert wait.text.startswith("f (fails) has failed once (LookupError: no luck); retry 1 begins at ")
    assert wait.command == "resonate retry f"


def joins(ctx: Context) -> Generator[Any, Any, Any]:
    return (yield ctx.rpc("approval").options(id="shared"))


def takes(ctx: Context) -> Generator[Any, Any, Any]:
    return (yield ctx.promise(id="signature"))


@pytest.mark.parametrize("client", EMBEDDED, indirect=True)
def test_what_another_execution_has_begun_is_followed_into_its_tree(client: Resonate) -> None:
    client.register(joins)
    for id in ("first", "second"):
        client.begin_run(id, joins)
        eventually(client.get(id).why, lambda waits: len(waits) == 1 and waits[0].kind == "promise")

    first, second = client.get("first").why()[0], client.get("second").why()[0]

    assert (second.id, second.text, second.command) == (first.id, first.text, first.command)
    assert [wait.path for wait in (first, second)] == [
        ("first", "shared", first.id),
        ("second", "shared", first.id),
    ]
    assert client.get("second").tree().calls == ()


@pytest.mark.parametrize("client", EMBEDDED, indirect=True)
def test_a_promise_that_a_program_made_beside_its_functions_is_found(client: Resonate) -> None:
    client.promises.create("signature", 10**13)
    client.register(takes)
    client.begin_run("t", takes)

    (wait,) = eventually(client.get("t").why, lambda waits: [wait.kind for wait in waits] == ["promise"])

    assert wait.text.startswith("signature waits for somebody to settle it, until 2286-11-20 17:46:40 UTC (in ")
    assert (wait.command, wait.path) == ("resonate promises resolve signature --value JSON", ("t", "signature"))


def test_what_is_gone_or_was_awaited_by_others_is_said_to_be_unknown() -> None:
    call = Call(id="x", kind="root", name="order", state="waiting", created_at=0, deadline=100)
    reached = Reached(call, {"x": ["purged"]})

    (wait,) = waits_of(reached, lambda id: None, 50)

    assert (wait.kind, wait.path, wait.command) == ("unknown", ("x",), "")
    assert wait.text.startswith("x (order) is waiting, and nothing that is open is recorded below it")


ENDED = Call(id="x:1", kind="plain", state="succeeded", created_at=1_000, settled_at=12_000, deadline=100_000)


@pytest.mark.parametrize(
    ("call", "says", "kind"),
    [
        (
            {"state": "queued", "group": "g", "tags": {"resonate:delay": "90000"}},
            "x (order) is to begin at 00:01:30 UTC (in 1m)",
            "delay",
        ),
        (
            {"state": "queued", "group": "https://example.com/hook"},
            "x (order) waits since 00:00:00 UTC for https://example.com/hook to take it up",
            "worker",
        ),
        (
            {"state": "queued", "group": "g", "tags": {"resonate:target": "poll://uni@g/w-1"}},
            "x (order) waits since 00:00:00 UTC for process w-1 of group g, which alone may take it up: start a "
            "program with that pid, or cancel it",
            "worker",
        ),
        (
            {"state": "queued", "group": "g"},
            "x (order) waits for a worker: none of group g that has order version 1 has taken it up since 00:00:00 UTC "
            "(30s)",
            "worker",
        ),
        (
            {"state": "queued", "group": "g", "started_at": 1_000, "calls": (ENDED,)},
            "x (order) waits for a worker to go on with it: none of group g that has order version 1 has taken it up "
            "since 00:00:12 UTC (18s)",
            "worker",
        ),
        ({"state": "running"}, "x (order) is run by worker (unknown), which holds its lease", "lease"),
        (
            {"state": "pending", "kind": "plain", "place": "/srv/app/shop.py:7"},
            "x (order, shop.py:7) runs since 00:00:00 UTC",
            "step",
        ),
        (
            {"state": "retrying", "again_at": 20_000, "attempts": (Attempt(number=1), Attempt(number=2))},
            "x (order) has failed 2 times; retry 2 begins at 00:00:20 UTC (now)",
            "retry",
        ),
        ({"state": "halted"}, "x (order) is halted", "halted"),
        (
            {"state": "pending", "kind": "promise", "name": "", "deadline": 2**62},
            "x waits for somebody to settle it, until the end of time",
            "promise",
        ),
    ],
)
def test_each_wait_is_one_sentence(call: dict[str, Any], says: str, kind: str) -> None:
    made = Call(**{"id": "x", "kind": "root", "name": "order", "created_at": 0, "deadline": 100_000, **call})

    (wait,) = waits_of(Reached(made), lambda id: None, 30_000)

    assert (wait.text, wait.kind) == (says, kind)


def test_times_are_told_in_the_zone_that_is_asked_for() -> None:
    call = Call(id="x", kind="promise", state="pending", created_at=0, deadline=90_000_000)

    (wait,) = waits_of(Reached(call), lambda id: None, 0, timezone(timedelta(hours=2), "EET"))

    assert wait.text == "x waits for somebody to settle it, until 1970-01-02 03:00:00 EET (in 1d 1h)"


# Lists.


def test_executions_are_listed_the_newest_first_page_by_page(client: Resonate) -> None:
    for number in range(5):
        client.run(f"l-{number}", adds, 1)
    client.promises.create("bare", 10**14)

    first = client.list(limit=2)
    second = client.list(limit=2, cursor=first.cursor)
    third = client.list(limit=2, cursor=second.cursor)

    ids = [[call.id for call in page.items] for page in (first, second, third)]
    assert ids == [["l-4", "l-3"], ["l-2", "l-1"], ["l-0"]]
    assert third.cursor is None


def test_a_list_is_narrowed(client: Resonate) -> None:
    client.run("a-1", adds, 1)
    with pytest.raises(LookupError):
        client.options(retry_policy=Never(), tags={"shop": "x"}).run("a-2", fails, "luck")
    client.begin_run("b-1", sleeps)
    suspended(client, "b-1")
    client.options(target="elsewhere").begin_rpc("b-2", "unknown", 1)

    def ids(**wanted: Any) -> list[str]:
        return sorted(call.id for call in client.list(**wanted).items)

    assert ids() == ["a-1", "a-2", "b-1", "b-2"]
    assert ids(state="failed") == ["a-2"]
    assert ids(state="waiting") == ["b-1"]
    until(lambda: ids(state="queued") == ["b-2"])  # a worker that lacks the function may have it for a moment
    assert ids(function="adds") == ["a-1"]
    assert ids(group="elsewhere") == ["b-2"]
    assert ids(tags={"shop": "x"}) == ["a-2"]
    assert ids(prefix="b-") == ["b-1", "b-2"]
    now = datetime.now(UTC)
    assert ids(since=now - timedelta(hours=1), until=now + timedelta(hours=1)) == ["a-1", "a-2", "b-1", "b-2"]
    assert ids(until=now - timedelta(hours=1)) == []


def test_what_cannot_be_listed_is_refused(client: Resonate) -> None:
    with pytest.raises(ValueError, match="state must be one of queued, running"):
        client.list(state="done")
    with pytest.raises(ValueError, match="comes from no page"):
        client.list(cursor="x")


def test_a_list_is_had_inside_a_loop_too(client: Resonate) -> None:
    async def main() -> list[str]:
        await client.aio.start()
        await client.aio.run("in-a-loop", adds, 1)
        return [call.id for call in (await client.aio.list(function="adds")).items]

    assert asyncio.run(main()) == ["in-a-loop"]


# Attempts.


def flaky(times: int) -> Callable[[Context], str]:
    """A step that fails so many times, and then succeeds."""
    left = [times]

    def step(ctx: Context) -> str:
        if left[0]:
            left[0] -= 1
            raise LookupError(f"{left[0]} left")
        return "done"

    return step


def test_a_step_shows_its_attempts_with_their_times_worker_and_errors(client: Resonate) -> None:
    step = flaky(2)

    def tries(ctx: Context) -> Generator[Any, Any, Any]:
        return (yield ctx.run(step).options(retry_policy=Constant(delay=0.05)))

    client.register(tries)
    assert client.run("tries", tries) == "done"

    root = client.get("tries").tree()
    (call,) = root.calls
    first, second, third = call.attempts
    assert [each.number for each in call.attempts] == [1, 2, 3]
    assert [None if each.error is None else str(each.error) for each in call.attempts] == [
        "LookupError: 1 left",
        "LookupError: 0 left",
        None,
    ]
    assert {each.worker for each in call.attempts} == {client.pid} == {call.worker}
    assert call.started_at == first.started_at
    assert first.ended_at is not None
    assert first.ended_at + 50 == first.again_at
    assert second.started_at is not None
    assert second.started_at >= first.again_at
    assert third.ended_at == call.settled_at
    assert (root.worker, len(root.attempts)) == (client.pid, 1)
    assert root.started_at is not None
    assert root.created_at <= root.started_at <= first.started_at  # type: ignore[operator]


def test_a_pause_of_seconds_between_attempts_is_seen_while_it_lasts(client: Resonate) -> None:
    step = flaky(9)

    def tries(ctx: Context) -> Generator[Any, Any, Any]:
        return (yield ctx.run(step).options(retry_policy=Constant(delay=30)))

    client.register(tries)
    handle = client.begin_run("pauses", tries)
    (call,) = eventually(
        lambda: client.get("pauses").tree().calls, lambda calls: bool(calls and calls[0].state == "retrying")
    )
    waits = client.get("pauses").why()
    handle.cancel()

    (attempt,) = call.attempts
    assert (attempt.number, str(attempt.error), attempt.worker) == (1, "LookupError: 8 left", client.pid)
    assert attempt.ended_at is not None
    assert call.again_at == attempt.again_at == attempt.ended_at + 30_000
    assert any("has failed once (LookupError: 8 left); retry 1 begins at " in wait.text for wait in waits)


def test_the_attempts_before_a_durable_pause_are_read_from_its_timers(client: Resonate) -> None:
    step = flaky(2)

    def tries(ctx: Context) -> Generator[Any, Any, Any]:
        return (yield ctx.run(step).options(retry_policy=Constant(delay=3600)))

    client.register(tries)
    handle = client.begin_run("long", tries)
    for number in (1, 2):
        (call,) = eventually(lambda: client.get("long").tree().calls, partial(has_attempts, number))
        assert call.state == "retrying"
        (pause,) = [below for below in call.calls if not below.settled]
        client.promises.resolve(pause.id)
    assert handle.result(20) == "done"

    (call,) = client.get("long").tree().calls
    assert [(each.number, each.error is None) for each in call.attempts] == [(1, False), (2, False), (3, True)]
    assert all(below.kind == "retry" and not below.attempts for below in call.calls)


def has_attempts(number: int, calls: Sequence[Call]) -> bool:
    return bool(calls) and len(calls[0].attempts) == number


def test_waiting_for_a_worker_is_told_apart_from_running(client: Resonate) -> None:
    def late(ctx: Context) -> str:
        return "done"

    handle = client.begin_rpc("late", "late")
    until(lambda: client.get("late").status().state == "queued")
    queued = client.get("late").status()
    assert queued.started_at is None
    client.register(late)
    assert handle.result(60) == "done"

    call = client.get("late").status()
    assert call.started_at is not None
    assert call.settled_at is not None
    assert call.created_at <= call.started_at <= call.settled_at
    assert call.worker == client.pid


# Groups and failures.


def test_groups_show_what_is_open_and_who_has_it(client: Resonate) -> None:
    entered.clear()
    leave.clear()
    handle = client.begin_run("b", busy)
    client.options(target="nobody").begin_rpc("q", "unknown")
    client.begin_run("s", sleeps)
    suspended(client, "s")
    assert entered.wait(20)

    groups = eventually(
        lambda: {group.name: group for group in client._core.inspector().groups()},
        lambda found: found["nobody"].queued == 1,
    )
    leave.set()
    handle.result()

    assert (groups["default"].running, groups["default"].waiting) == (1, 1)
    (worker,) = groups["default"].workers
    assert (worker.pid, worker.leases, [call.title for call in worker.calls]) == (client.pid, 1, ["busy"])
    assert worker.ttl_ms is not None
    assert groups["nobody"].queued == 1
    assert groups["nobody"].oldest is not None


def test_a_long_text_does_not_set_a_failure_apart(client: Resonate) -> None:
    for number, length in enumerate((10, 10_000)):
        with pytest.raises(LookupError):
            client.options(retry_policy=Never()).run(f"f-{number}", fails, "x" * length)

    (group,) = client._core.inspector().failures()

    assert group.ids == ("f-1", "f-0")
    assert group.place.endswith(" in fails")


def test_what_failed_alike_is_counted_together(client: Resonate) -> None:
    caller = client.options(retry_policy=Never())
    for number in range(3):
        with pytest.raises(LookupError):
            caller.run(f"f-{number}", fails, str(number))

    (group,) = client._core.inspector().failures()

    assert (group.function, group.count, group.error.type) == ("fails", 3, "LookupError")
    assert group.place.startswith("test_inspection.py:")
    assert group.place.endswith(" in fails")
    assert group.ids == ("f-2", "f-1", "f-0")
    assert group.oldest == client.get("f-0").status().settled_at
    assert not group.more
    (some,) = client._core.inspector().failures(limit=2)
    assert (some.count, some.more, some.oldest) == (2, True, None)
    (named,) = client._core.inspector().failures(shown=1)
    assert (named.count, named.ids, named.oldest) == (3, ("f-2",), None)


def test_groups_that_are_not_read_to_the_end_say_so(client: Resonate) -> None:
    client.options(target="nobody").begin_rpc("q", "unknown")

    (group,) = client._core.inspector()._foreign.groups(1)

    assert (group.name, set(group.more)) == ("nobody", {"queued", "running", "waiting", "halted"})


def test_what_the_official_command_begins_is_listed_too(client: Resonate) -> None:
    client.promises.create("bare", 10**14, tags={"resonate:target": "poll://any@nobody"})

    assert [call.id for call in client.list().items] == ["bare"]
