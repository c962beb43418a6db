"""A create and a settle as one transition: whatever is there, it does what the two would do."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from resonate.clock import SettableClock
from resonate.protocol.chain import holds
from resonate.protocol.records import Value
from resonate.protocol.requests import (
    DebugSnap,
    PromiseCreate,
    PromiseSettle,
    PromiseWrite,
    Request,
    Response,
    TaskCreate,
    TaskFence,
)
from resonate.protocol.validation import check
from resonate.protocol.wire import encode_request
from resonate.service.service import Service
from resonate.storage.memory import MemoryStorage
from tests import files

TARGET = {"resonate:target": "poll://any@g"}
ROOT = TaskCreate("p", 1_000_000, PromiseCreate("w", 1_000_000, tags=TARGET))
LOCAL = {"resonate:origin": "w", "resonate:branch": "w", "resonate:scope": "local"}


def child(timeout_at: int, tags: dict[str, str]) -> PromiseWrite:
    create = PromiseCreate("w:1", timeout_at, Value(data="cGFyYW0="), tags)
    return PromiseWrite(create, PromiseSettle("w:1", "resolved", Value(data="MQ==")))


def played(before: Sequence[Request], batch: Sequence[Request], now: int) -> tuple[list[Response], object]:
    """What a batch answers and leaves, in memory and, equally, on a file."""
    found = []
    for storage in (MemoryStorage(), files.emptied()):
        service = Service(storage, SettableClock(0), debug=True)
        service.handle([ROOT, *before], now=0)
        answers = service.handle(batch, chain=True, trusted=True, now=now)
        found.append((answers, service.handle([DebugSnap()], now=now)[0].snapshot))
    assert found[0] == found[1]
    return found[0]


BEFORE: dict[str, list[Request]] = {
    "nothing": [],
    "pending": [PromiseCreate("w:1", 500, tags=LOCAL)],
    "settled": [PromiseCreate("w:1", 500, tags=LOCAL), PromiseSettle("w:1", "rejected")],
}


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
@pytest.mark.parametrize("timeout_at", [500, 100, 99], ids=["in time", "at the deadline", "too late"])
def test_one_write_leaves_what_a_create_and_then_a_settle_leave(before: list[Request], timeout_at: int) -> None:
    write = child(timeout_at, LOCAL)
    fences = [TaskFence("w", 1, action, False) for action in (write.create, write.settle)]

    one, after_one = played(before, [TaskFence("w", 1, write, False)], now=100)
    two, after_two = played(before, fences, now=100)

    assert one[-1].action is not None
    assert two[-1].action is not None
    if len(two) == 2:
        assert (one[-1].action, after_one) == (two[-1].action, after_two)
    assert holds(TaskFence("w", 1, write, False), one[-1]) == (len(two) == 2 and holds(fences[1], two[-1]))


def test_a_targeted_child_is_only_created() -> None:
    write = child(500, {**TARGET, "resonate:origin": "w"})

    answers, _ = played([], [TaskFence("w", 1, write, False)], now=100)

    assert answers[0].action is not None
    assert answers[0].action.promise is not None
    assert answers[0].action.promise.state == "pending"


def test_a_write_without_the_lease_changes_nothing() -> None:
    answers, snapshot = played([], [TaskFence("w", 2, child(500, LOCAL), False)], now=100)

    assert answers[0].status == 409
    assert isinstance(snapshot, dict)
    assert [promise.id for promise in snapshot["promises"]] == ["w"]


def test_both_halves_are_validated() -> None:
    good = TaskFence("w", 1, child(500, LOCAL))
    bad_create = TaskFence("w", 1, child(-1, LOCAL))
    settle = PromiseSettle("w:1", "pending")  # type: ignore[arg-type]
    bad_settle = TaskFence("w", 1, PromiseWrite(child(500, LOCAL).create, settle))

    assert check(good) is None
    assert "action.create.data.timeoutAt" in (check(bad_create) or "")
    assert "action.settle.data.state" in (check(bad_settle) or "")


def test_the_wire_has_no_such_action() -> None:
    with pytest.raises(AssertionError, match="send its two halves"):
        encode_request(TaskFence("w", 1, child(500, LOCAL)), "c")
