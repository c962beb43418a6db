"""What programs see of a server and a network that fail: nothing, and never a step twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from resonate import Context, Resonate
from resonate.errors import OutcomeUnknown, ResonateStoreError, StorageUnavailable
from resonate.network.http.network import HttpNetwork
from resonate.protocol.records import ACQUIRED, PENDING, TARGET, Value
from resonate.protocol.requests import (
    PromiseCreate,
    PromiseGet,
    PromiseRegisterCallback,
    PromiseSettle,
    PromiseWrite,
    Request,
    ScheduleCreate,
    ScheduleDelete,
    TaskAcquire,
    TaskCreate,
    TaskFence,
    TaskFulfill,
    TaskGet,
    TaskRelease,
    TaskSuspend,
)
from tests.wire_server import Fault, WireServer, serving

FAR = 2**53 - 1
TARGETED = {TARGET: "poll://any@nobody"}
FAULTS: list[Fault] = ["cut before", "cut after", "cut within", "500", "503", "502 after", "garbage"]


@pytest.fixture(params=[None, ":"], ids=["ours", "foreign"])
def server(request: pytest.FixtureRequest) -> Iterator[WireServer]:
    with serving(foreign=request.param) as server:
        yield server


def network(server: WireServer, **given: Any) -> HttpNetwork:
    return HttpNetwork(server.url, "default", given.pop("pid", "me"), **given)


@pytest.fixture
def net(server: WireServer) -> Iterator[HttpNetwork]:
    network = HttpNetwork(server.url, "default", "me")
    network.send([PromiseGet("nobody")])  # now it knows whether batches are taken
    yield network
    network.stop()


class Steps:
    """A program whose steps say that they ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def client(self, server: WireServer) -> Resonate:
        ran = self.ran

        def step(ctx: Context, name: str) -> str:
            ran.append(name)
            return name

        def far(ctx: Context) -> str:
            ran.append("far")
            return "far"

        def main(ctx: Context) -> Generator[Any, Any, str]:
            first = yield ctx.run(step, "one")
            second = yield ctx.run(step, "two")
            third = yield ctx.rpc("far")
            yield ctx.sleep(0.05)
            last = yield ctx.run(step, "three")
            return f"{first} {second} {third} {last}"

        resonate = Resonate(url=server.url)
        resonate.register(main, name="main")
        resonate.register(far, name="far")
        return resonate


KINDS = ["task.create", "task.fence", "task.suspend", "task.acquire", "task.fulfill", "promise.register_listener"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", FAULTS)
def test_no_single_fault_changes_a_result_or_runs_a_step_twice(server: WireServer, fault: Fault, kind: str) -> None:
    steps = Steps()

    with steps.client(server) as resonate:
        server.fail(fault, kind)
        assert resonate.run("main", "main") == "one two far three"

    assert sorted(steps.ran) == ["far", "one", "three", "two"]


@pytest.mark.parametrize("fault", ["cut after", "500"])
def test_faults_in_a_row_are_waited_for(server: WireServer, fault: Fault) -> None:
    steps = Steps()

    with steps.client(server) as resonate:
        server.fail(fault, times=3)
        server.fail("cut before", "task.fulfill", times=3)
        assert resonate.run("main", "main") == "one two far three"

    assert sorted(steps.ran) == ["far", "one", "three", "two"]


def test_a_server_that_restarts_in_the_middle_is_waited_for(server: WireServer) -> None:
    ran: list[str] = []
    going, come_back = threading.Event(), threading.Event()

    def step(ctx: Context, name: str) -> str:
        ran.append(name)
        return name

    def pause(ctx: Context) -> None:
        going.set()
        come_back.wait(20)

    def main(ctx: Context) -> Generator[Any, Any, str]:
        yield ctx.run(step, "one")
        yield ctx.run(pause)
        last: str = yield ctx.run(step, "two")
        return last

    with Resonate(url=server.url) as resonate:
        resonate.register(main)
        handle = resonate.begin_run("main", main)
        assert going.wait(20)
        server.stop()
        come_back.set()
        server.start()
        assert handle.result(20) == "two"

    assert ran == ["one", "two"]


def test_waiting_for_others_survives_a_restart_of_the_server(server: WireServer) -> None:
    with Resonate(url=server.url) as waiter, Resonate(url=server.url, group="others") as other:
        other.promises.create("news", FAR)
        handle = waiter.get("news")
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(handle.result(20)))
        thread.start()
        server.wait(lambda: server.streams >= 1 and "promise.register_listener" in server.kinds)
        server.stop()
        server.service.handle([PromiseSettle("news", "resolved", Value(None, "MQ=="))])
        server.start()
        thread.join(20)

    assert found == [1]


def test_a_server_that_has_forgotten_everything_is_told_to_who_waits() -> None:
    with serving() as server, serving() as empty, Resonate(url=server.url) as waiter:
        waiter.promises.create("news", FAR)
        handle = waiter.get("news")
        failed: list[BaseException | None] = []
        thread = threading.Thread(target=lambda: failed.append(handle.future.exception(20)))
        thread.start()
        server.wait(lambda: server.streams >= 1 and "promise.register_listener" in server.kinds)
        server.restart(empty.service)
        thread.join(20)

    assert "not found: news" in str(failed[0])


def test_a_stream_that_is_cut_again_and_again_loses_no_message(server: WireServer) -> None:
    def far(ctx: Context, n: int) -> int:
        return n

    with Resonate(url=server.url, group="workers") as worker, Resonate(url=server.url) as caller:
        worker.register(far, name="far")
        worker.start()
        for n in range(10):
            handle = caller.options(target="workers").begin_rpc(f"far-{n}", "far", n)
            server.cut()
            assert handle.result(20) == n


@pytest.mark.slow
def test_a_server_that_is_not_there_is_reported_within_seconds() -> None:
    with serving() as server:
        url = server.url

    begun = time.monotonic()
    with Resonate(url=url) as resonate:
        resonate.register(lambda ctx: 1, name="f")
        with pytest.raises(StorageUnavailable) as refused:
            resonate.run("f", "f")

    assert time.monotonic() - begun < 10
    assert url in str(refused.value)
    assert "task.create 'f'" in str(refused.value)
    assert "see that the server runs" in str(refused.value)


def test_a_worker_waits_for_a_server_that_starts_later() -> None:
    with serving() as server:
        server.stop()
        with Resonate(url=server.url, group="workers") as worker:
            worker.register(lambda ctx: "here", name="f")
            worker.start()
            server.start()
            with Resonate(url=server.url) as caller:
                assert caller.options(target="workers").rpc("f", "f") == "here"


# ---- requests that may not be repeated blindly -----------------------------------------------------


def root(id: str) -> PromiseCreate:
    return PromiseCreate(id, FAR, tags=TARGETED)


def acquired(net: HttpNetwork, id: str) -> int:
    answer = net.send([TaskCreate("me", 60_000, root(id))])[0]
    assert answer.task is not None
    return answer.task.version


LOST: list[Fault] = ["cut after", "cut within", "502 after", "wrong corrId"]


@pytest.mark.parametrize("fault", LOST)
def test_a_task_whose_creation_was_not_heard_of_is_ours(server: WireServer, net: HttpNetwork, fault: Fault) -> None:
    server.fail(fault, "task.create")

    answer = net.send([TaskCreate("me", 60_000, root("a"))])[0]

    assert (answer.status, answer.task and answer.task.state) == (200, ACQUIRED)
    assert answer.promise is not None


@pytest.mark.parametrize("fault", LOST)
def test_a_task_whose_acquisition_was_not_heard_of_is_ours(server: WireServer, net: HttpNetwork, fault: Fault) -> None:
    net.send([root("a")])
    server.fail(fault, "task.acquire")

    answer = net.send([TaskAcquire("a", 0, "me", 60_000)])[0]

    assert (answer.status, answer.task and answer.task.version) == (200, 1)


def test_what_a_dead_process_of_our_pid_has_recorded_is_read_with_its_task(server: WireServer) -> None:
    with_record = {"resonate:origin": "a", "resonate:branch": "a"}
    step = PromiseWrite(PromiseCreate("a:1", FAR, tags=with_record), PromiseSettle("a:1", "resolved"))
    dead = network(server)
    dead.send([PromiseGet("nobody")])
    dead.send([TaskCreate("me", 60_000, PromiseCreate("a", FAR, tags={**TARGETED, **with_record}))])
    dead.send([TaskFence("a", 1, step, False)])
    dead.stop()
    net = network(server)
    net.send([PromiseGet("nobody")])
    server.fail("cut after", "task.create")

    (answer,) = net.send([TaskCreate("me", 60_000, PromiseCreate("a", FAR, tags={**TARGETED, **with_record}))])
    net.stop()

    assert (answer.status, answer.partial) == (200, False)
    assert [(promise.id, promise.state) for promise in answer.preload] == [("a:1", "resolved")]


def test_a_task_that_another_holds_is_not_taken_for_ours(server: WireServer, net: HttpNetwork) -> None:
    other = network(server, pid="other")
    other.send([TaskCreate("other", 60_000, root("a"))])
    server.fail("cut after", "task.create")

    answer = net.send([TaskCreate("me", 60_000, root("a"))])[0]

    assert answer.status == 409
    other.stop()


def test_of_two_callers_in_one_process_only_one_gets_the_task(server: WireServer, net: HttpNetwork) -> None:
    assert acquired(net, "a") == 1
    server.fail("cut after", "task.create")

    answer = net.send([TaskCreate("me", 60_000, root("a"))])[0]

    assert answer.status == 409


@pytest.mark.parametrize("fault", LOST)
def test_giving_a_task_up_succeeds_though_nobody_heard(server: WireServer, net: HttpNetwork, fault: Fault) -> None:
    net.send([PromiseCreate("x", FAR, tags=TARGETED)])
    cases: list[tuple[str, str, Request]] = [
        ("f", "task.fulfill", TaskFulfill("f", 1, PromiseSettle("f", "resolved", Value(None, "MQ==")))),
        ("r", "task.release", TaskRelease("r", 1)),
    ]
    for id, kind, request in cases:
        assert acquired(net, id) == 1
        server.fail(fault, kind)

        answer = net.send([request])[0]

        assert answer.status == 200


def test_a_suspension_that_nobody_heard_of_holds(server: WireServer, net: HttpNetwork) -> None:
    version = acquired(net, "a")
    child = "a:1"
    create = PromiseCreate(child, FAR, tags={**TARGETED, "resonate:origin": "a", "resonate:branch": child})
    server.fail("cut after", "task.suspend")

    answers = net.send(
        [TaskFence("a", version, create, False), TaskSuspend("a", version, (PromiseRegisterCallback(child, "a"),))],
        chain=True,
    )

    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].action is not None
    task = net.send([TaskGet("a")])[0].task
    assert task is not None
    assert task.state == "suspended"


def test_a_deleted_schedule_is_deleted_though_nobody_heard(server: WireServer, net: HttpNetwork) -> None:
    net.send([ScheduleCreate("s", "* * * * *", "{{.id}}-{{.timestamp}}", 1000, promise_tags=TARGETED)])
    server.fail("cut after", "schedule.delete")

    assert net.send([ScheduleDelete("s")])[0].status == 200


def test_a_whole_batch_that_nobody_heard_of_is_found_applied(server: WireServer, net: HttpNetwork) -> None:
    version = acquired(net, "a")
    tags = {"resonate:origin": "a", "resonate:branch": "a"}
    writes = [
        TaskFence("a", version, PromiseWrite(PromiseCreate(id, FAR, tags=tags), PromiseSettle(id, "resolved")), False)
        for id in ("a:1", "a:2")
    ]
    server.fail("cut after", "task.fulfill")

    answers = net.send([*writes, TaskFulfill("a", version, PromiseSettle("a", "resolved"))], chain=True)

    assert [answer.status for answer in answers] == [200, 200, 200]
    states = [answer.action.promise.state for answer in answers[:2] if answer.action and answer.action.promise]
    assert states == ["resolved", "resolved"]
    assert answers[2].promise is not None


def test_a_batch_that_is_sent_again_goes_on_where_its_settlements_are_recorded(
    server: WireServer, net: HttpNetwork
) -> None:
    version = acquired(net, "a")
    tags = {"resonate:origin": "a", "resonate:branch": "a"}
    creates = [TaskFence("a", version, PromiseCreate(f"a:{n}", FAR, tags=tags), False) for n in (1, 2)]
    settles = [TaskFence("a", version, PromiseSettle(f"a:{n}", "resolved"), False) for n in (1, 2)]
    server.fail("cut after", "task.fence")

    answers = net.send([*creates, *settles], chain=True)

    assert len(answers) == 4
    assert all(answer.status == 200 for answer in answers)


def test_a_chain_ends_where_the_record_differs(server: WireServer, net: HttpNetwork) -> None:
    version = acquired(net, "a")
    tags = {"resonate:origin": "a", "resonate:branch": "a"}
    net.send([PromiseCreate("a:1", FAR, tags=tags), PromiseSettle("a:1", "rejected")])
    write = PromiseWrite(PromiseCreate("a:1", FAR, tags=tags), PromiseSettle("a:1", "resolved"))

    answers = net.send(
        [TaskFence("a", version, write, False), TaskFulfill("a", version, PromiseSettle("a", "resolved"))], chain=True
    )

    assert len(answers) == 1
    assert answers[0].action is not None
    assert answers[0].action.promise is not None
    assert answers[0].action.promise.state == "rejected"
    assert net.send([PromiseGet("a")])[0].promise.state == PENDING  # type: ignore[union-attr]


# ---- giving up ---------------------------------------------------------------------------------------


def test_an_answer_that_never_comes_is_an_unknown_outcome(server: WireServer) -> None:
    net = network(server, patience=0.2, timeout=0.1)
    server.fail("silence", times=50)

    with pytest.raises(OutcomeUnknown, match=r"promise.create 'a' got no answer .* read before you send it again"):
        net.send([PromiseCreate("a", FAR)])
    net.stop()


def test_a_server_that_stays_away_is_asked_once_by_each_further_request(server: WireServer) -> None:
    net = network(server, patience=2)
    net.send([PromiseGet("a")])
    server.stop()
    with pytest.raises(StorageUnavailable):
        net.send([PromiseGet("a")])

    begun = time.monotonic()
    with pytest.raises(StorageUnavailable):
        net.send([PromiseGet("a")])

    assert time.monotonic() - begun < 1.5
    net.stop()


def test_stopping_ends_the_wait_for_a_server_that_is_away() -> None:
    with serving() as server:
        net = network(server)
        net.send([PromiseGet("a")])
        server.stop()
        failed: list[Exception] = []

        def ask() -> None:
            try:
                net.send([PromiseGet("a")])
            except ResonateStoreError as error:
                failed.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        net.stop()
        thread.join(5)

        assert not thread.is_alive()
        assert len(failed) == 1
