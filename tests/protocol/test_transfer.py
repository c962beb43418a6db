"""The document of a whole tree: what is read from it, what is refused, and which rows it becomes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from resonate.clock import SettableClock
from resonate.errors import UsageError
from resonate.protocol import transfer
from resonate.protocol.records import Promise, Task, Value
from resonate.protocol.requests import DebugSnap, PromiseGet, PromiseSettle, TaskAcquire, TaskGet
from resonate.protocol.transfer import FORMAT, Tree
from resonate.service.importer import bring
from resonate.service.service import Service
from resonate.storage.memory import MemoryStorage

ANY = "poll://any@g"
NOW = 1_000


def lineage(id: str, parent: str, **names: str) -> dict[str, str]:
    return {"resonate:origin": "r", "resonate:parent": parent, **{f"resonate:{k}": v for k, v in names.items()}}


ROOT = Promise("r", "pending", Value(data="eA=="), Value(), lineage("r", "r", target=ANY), 9_000, 100)
STEP = Promise("r:1", "resolved", Value(), Value({"h": "1"}, "eQ=="), lineage("r:1", "r"), 9_000, 100, 200)
REMOTE = Promise("r:2", "rejected", Value(), Value(), lineage("r:2", "r", target=ANY), 9_000, 100, 300)
OPEN = Promise("r:3", "pending", Value(), Value(), lineage("r:3", "r", target=ANY), 9_000, 100)
TREE = Tree(
    format=FORMAT,
    root="r",
    exported_at=500,
    promises=(ROOT, STEP, REMOTE, OPEN),
    tasks=(Task("r", "suspended", 3, 0), Task("r:2", "fulfilled", 2, 0), Task("r:3", "pending", 0, 0)),
)


@pytest.fixture
def service() -> Service:
    clock = SettableClock()
    clock.set(NOW)
    return Service(MemoryStorage(), clock, debug=True)


def snap(service: Service, key: str) -> Any:
    (answer,) = service.handle([DebugSnap()])
    assert answer.snapshot is not None
    return answer.snapshot[key]


def test_what_is_written_is_read_again_one_record_to_a_line() -> None:
    text = transfer.dump(TREE)

    assert transfer.load(text) == TREE
    assert json.loads(text)["format"] == "resonate-tree/1"
    assert len(text.splitlines()) == 1 + 4 + 1 + 3 + 1


def test_every_promise_is_stored_as_it_was(service: Service) -> None:
    bring(service, TREE)

    answers = service.handle([PromiseGet(promise.id) for promise in TREE.promises])
    assert [answer.promise for answer in answers] == list(TREE.promises)


def test_open_tasks_are_offered_at_their_version_and_others_are_not(service: Service) -> None:
    bring(service, TREE)

    tasks = [answer.task for answer in service.handle([TaskGet(id) for id in ("r", "r:2", "r:3")])]
    assert tasks == [Task("r", "pending", 3, 0), Task("r:2", "fulfilled", 2, 0), Task("r:3", "pending", 0, 0)]
    offers = sorted((row["message"].id, row["message"].version) for row in snap(service, "messages"))
    assert offers == [("r", 3), ("r:3", 0)]
    (acquired,) = service.handle([TaskAcquire("r", 3, "w", 1_000)])
    assert acquired.status == 200
    assert acquired.task is not None
    assert acquired.task.version == 4


def test_what_was_halted_stays_halted(service: Service) -> None:
    bring(service, replace(TREE, tasks=(Task("r", "halted", 3, 0),)))

    assert service.handle([TaskGet("r")])[0].task == Task("r", "halted", 3, 0)
    assert [row["message"].id for row in snap(service, "messages")] == ["r:3"]


def test_a_task_that_is_not_in_the_document_begins_anew(service: Service) -> None:
    bring(service, replace(TREE, tasks=()))

    tasks = [answer.task for answer in service.handle([TaskGet(id) for id in ("r", "r:2")])]
    assert tasks == [Task("r", "pending", 0, 0), Task("r:2", "fulfilled", 0, 0)]


def test_a_deadline_that_passed_in_between_is_noticed(service: Service) -> None:
    bring(service, replace(TREE, promises=(replace(ROOT, timeout_at=900), STEP, REMOTE, OPEN)))
    service.tick()

    (answer,) = service.handle([PromiseGet("r")])
    assert answer.promise is not None
    assert (answer.promise.state, answer.promise.settled_at) == ("rejected_timedout", 900)


@pytest.mark.parametrize("taken", ["r", "r:3"])
def test_nothing_is_stored_if_anything_exists(service: Service, taken: str) -> None:
    at = next(promise for promise in TREE.promises if promise.id == taken)
    bring(service, replace(TREE, root=taken, promises=(replace(at, tags={}),), tasks=()))
    service.handle([PromiseSettle(taken, "resolved", Value(data="bWluZQ=="))])
    before = snap(service, "promises")

    with pytest.raises(UsageError, match=f"r cannot be imported: {taken} exists here already, and nothing was changed"):
        bring(service, TREE)

    assert snap(service, "promises") == before


def test_many_that_exist_are_counted(service: Service) -> None:
    bring(service, TREE)

    with pytest.raises(UsageError, match="r, r:1, r:2 and 1 more exist here already"):
        bring(service, TREE)


def with_promise(**changes: Any) -> Tree:
    return replace(TREE, promises=(ROOT, replace(STEP, **changes), REMOTE, OPEN))


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        (replace(TREE, root="x"), "there is no promise 'x' in it"),
        (replace(TREE, promises=(replace(ROOT, tags=lineage("r", "p")),)), "'r' is no root: its parent is 'p'"),
        (replace(TREE, promises=(ROOT, STEP, STEP)), "promise 'r:1' is in it twice"),
        (replace(TREE, tasks=(*TREE.tasks, TREE.tasks[0])), "task 'r' is in it twice"),
        (with_promise(tags={"resonate:origin": "q"}), "promise 'r:1': it is of another root: 'q'"),
        (with_promise(tags={}), "promise 'r:1': it is of another root: None"),
        (with_promise(id=""), "promise '': id must not be empty"),
        (with_promise(tags=lineage("r:1", "r", target="nowhere")), "resonate:target must be an address"),
        (with_promise(settled_at=None), "promise 'r:1': it is resolved, and settledAt is None"),
        (with_promise(state="pending"), "promise 'r:1': it is pending, and settledAt is 200"),
        (with_promise(state="pending", settled_at=None), "promise 'r:1': it is pending, and has a value"),
        (with_promise(created_at=-1), r"createdAt and settledAt must be from 0 to 2\^63 - 1"),
        (replace(TREE, tasks=(Task("r:1", "fulfilled", 1, 0),)), "task 'r:1': there is no promise of that id that a"),
        (replace(TREE, tasks=(Task("x", "fulfilled", 1, 0),)), "task 'x': there is no promise of that id that a"),
        (replace(TREE, tasks=(Task("r", "pending", -1, 0),)), "task 'r': version must be from 0"),
        (replace(TREE, tasks=(Task("r", "fulfilled", 1, 0),)), "task 'r': it is fulfilled, and its promise pending"),
        (replace(TREE, tasks=(Task("r:2", "halted", 1, 0),)), "task 'r:2': it is halted, and its promise rejected"),
    ],
)
def test_what_cannot_have_been_exported_is_refused_with_its_place(tree: Tree, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        transfer.load(transfer.dump(tree))


def test_more_promises_than_one_transaction_takes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "PROMISES", 3)

    with pytest.raises(UsageError, match="it has 4 promises, 3 can be stored at once"):
        transfer.load(transfer.dump(TREE))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "it is no JSON"),
        (b"\xff\xfe", "it is no JSON"),
        (b"[" * 100_000, "it is no JSON"),
        (b"[]", "write one with `resonate export ID`"),
        (b'{"promises": []}', "write one with `resonate export ID`"),
        (b'{"format": "resonate-tree/2"}', "this is 'resonate-tree/2', and 'resonate-tree/1' is what can be read here"),
        (b'{"format": "resonate-tree/1", "root": 7}', "or it was damaged: Expected `str`, got `int` - at `\\$.root`"),
        (transfer.dump(TREE).replace(b'"rejected"', b'"perhaps"'), r"Invalid enum value 'perhaps' - at `\$.promises"),
        (transfer.dump(TREE)[:-20], "it is no JSON"),
    ],
)
def test_what_is_no_such_document_is_refused(text: bytes, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        transfer.load(text)
