"""What is awaited under ids that the program chose is noted, once, before the task is given up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from resonate.context import Context
from resonate.execution.records import AWAITS_TAG
from resonate.protocol.records import PARENT, Promise
from resonate.protocol.requests import PromiseCreate, PromiseSearch
from tests.execution.driver import BLOCKED, DONE, Gen, Machine, Run

FAR = 10**13


def notes(machine: Machine) -> list[Promise]:
    (answer,) = machine.send([PromiseSearch(limit=1000)])
    return [promise for promise in answer.promises or () if AWAITS_TAG in promise.tags]


def own(ctx: Context) -> Gen:
    return (yield ctx.promise(id="chosen"))


def numbered(ctx: Context) -> Gen:
    return (yield ctx.promise())


def remote(ctx: Context) -> Gen:
    return (yield ctx.rpc("other").options(id="chosen"))


def below(ctx: Context) -> Gen:
    return (yield ctx.run(own))


@pytest.mark.parametrize(("func", "parent"), [(own, "root"), (remote, "root"), (below, "root:1")])
def test_what_another_execution_may_have_made_is_noted_beside_who_awaits_it(
    func: Callable[..., Any], parent: str
) -> None:
    machine = Machine()
    machine.send([PromiseCreate("chosen", FAR, tags={"resonate:external": "true"})])
    run = machine.start(func)
    assert run.advance() == BLOCKED

    run.suspend()

    (note,) = notes(machine)
    assert (note.state, note.tags[AWAITS_TAG], note.tags[PARENT]) == ("resolved", "chosen", parent)
    assert note.id == "root:awaits1-1"


def test_an_id_of_our_own_making_needs_no_note() -> None:
    machine = Machine()
    run = machine.start(numbered)
    run.advance()

    run.suspend()

    assert notes(machine) == []


def test_what_is_known_to_be_our_own_needs_no_note() -> None:
    machine = Machine()
    run = machine.start(own)
    run.advance()
    run.flush()

    run.suspend()

    assert notes(machine) == []


def two(ctx: Context) -> Gen:
    first = yield ctx.begin_rpc("other").options(id="first")
    second = yield ctx.begin_rpc("other").options(id="second")
    return [(yield first), (yield second)]


def test_each_is_noted_once_whoever_runs_the_execution_and_replays_agree() -> None:
    machine = Machine()
    for id in ("first", "second"):
        machine.send([PromiseCreate(id, FAR, tags={"resonate:external": "true"})])
    suspended(machine.start(two))
    machine.resolve("first", 1)

    suspended(machine.crash())
    noted = [note.tags[AWAITS_TAG] for note in notes(machine)]
    machine.resolve("second", 2)
    last = machine.crash()
    state = last.advance()
    if state == BLOCKED:  # what it has asked for is settled already
        assert last.suspend().status == 300
        state = last.advance()

    assert noted == ["first", "second"]
    assert (state, last.result()) == (DONE, [1, 2])
    assert len(notes(machine)) == 2


def suspended(run: Run) -> None:
    """It goes as far as it can and gives the task up."""
    while run.advance() != BLOCKED or run.suspend().status == 300:
        continue
