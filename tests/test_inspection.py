"""What happened, and why is it waiting: the same answers wherever state lives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from resonate import Context, Resonate
from resonate.errors import ExecutionHalted, NonDeterminismError, ResonateStoreError
from resonate.inspection import Call, Wait
from resonate.retry_policies import Constant, Never
from resonate.storage.sqlite.rows import _EXECUTIONS, LAST
from tests import databases
from tests.homes import until
from tests.wire_server import WireServer

T = TypeVar("T")
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
    assert waits == [Wait("b", f"b (busy) is run by worker {client.pid}, which has to renew its lease every 10 s")]
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

    remote, unknown = eventually(
        lambda: client.get("r").tree().calls, lambda calls: [call.state for call in calls] == ["waiting", "queued"]
    )

    assert shape(remote) == (
        "approval",
        "waiting",
        [("adds", "succeeded", [("add", "succeeded")] * 2), ("promise", "pending")],
    )
    assert (unknown.title, unknown.state, unknown.group) == ("unknown", "queued", "nobody")


# Why.


def test_a_sleep_says_until_when_and_how_to_end_it(client: Resonate) -> None:
    client.begin_run("s", sleeps)
    tree = suspended(client, "s")
    (timer,) = tree.calls

    (wait,) = client.get("s").why()

    assert wait.id == timer.id
    assert wait.text.startswith(f"{timer.id} sleeps until ")
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
    assert "for a worker of group nobody that has unknown and room for it" in unknown.text
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


def test_a_long_pause_before_the_next_attempt_is_shown(client: Resonate) -> None:
    client.options(retry_policy=Constant(delay=3600, max_retries=3)).begin_run("f", fails, "luck")
    until(lambda: client.get("f").tree().state == "retrying")

    (wait,) = client.get("f").why()

    assert wait.text.startswith("f (fails) has failed and is tried again at ")
    assert wait.command == "resonate retry f"


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
    assert groups["default"].workers == {client.pid: 1}
    assert groups["nobody"].queued == 1
    assert groups["nobody"].oldest is not None


def test_what_failed_alike_is_counted_together(client: Resonate) -> None:
    caller = client.options(retry_policy=Never())
    for number in range(3):
        with pytest.raises(LookupError):
            caller.run(f"f-{number}", fails, str(number))

    (group,) = client._core.inspector().failures()

    assert (group.function, group.count, group.error.type) == ("fails", 3, "LookupError")
    assert group.place.startswith("test_inspection.py:")
    assert group.place.endswith(" in fails")
    assert set(group.ids) == {"f-0", "f-1", "f-2"}


def test_a_list_reads_the_newest_executions_and_nothing_of_their_calls(tmp_path: Path) -> None:
    with Resonate(url=f"sqlite:///{tmp_path}/app.db?synchronous=off") as client:
        client.register(adds)
        client.run("old", adds, 50)
        client.run("new", adds, 50)
        storage = client._core.started().network.service.storage  # type: ignore[attr-defined]
        plan = storage._connection.execute(f"EXPLAIN QUERY PLAN {_EXECUTIONS}", (*LAST, 10))

        (first,) = client.list(limit=1).items

    assert first.id == "new"
    (step,) = [row[3] for row in plan]
    assert step.startswith("SEARCH resonate_promises USING INDEX resonate_promises_begun ")


def test_what_the_official_command_begins_is_listed_too(client: Resonate) -> None:
    client.promises.create("bare", 10**14, tags={"resonate:target": "poll://any@nobody"})

    assert [call.id for call in client.list().items] == ["bare"]
