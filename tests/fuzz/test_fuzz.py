"""Each target for a moment, always with the same cases: `python -m tests.fuzz` goes on from there."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from resonate.protocol import cron, machine
from resonate.protocol.records import Promise, Value
from resonate.protocol.requests import PromiseSettle
from resonate.protocol.rows import PromiseRow
from tests.fuzz import making, targets
from tests.fuzz.samples import Recorder

CASES = {"configs": 150, "http": 300, "requests": 1_000, "sse": 500, "type_trees": 2_500, "payloads": 2_500}
"""Of each target, where it is not 1,500: about a second."""


@pytest.mark.parametrize("name", targets.TARGETS)
def test_nothing_that_anybody_may_write_breaks_its_reader(name: str) -> None:
    Recorder.touched.clear()
    for seed in range(CASES.get(name, 1_500)):
        try:
            targets.run(name, Random(seed))
        except Exception as error:
            error.add_note(f"again: python -m tests.fuzz --target {name} --cases 1 --seed {seed}")
            raise
    assert Recorder.touched == []


def test_a_seed_is_always_the_same_case() -> None:
    cases = [making.dumped(rng, making.changed(rng, targets.recorded()[5][0])) for rng in (Random(7), Random(7))]

    assert cases[0] == cases[1]


def test_choices_may_be_read_off_bytes() -> None:
    for data in (b"", b"\0", b"\xff" * 200, bytes(range(256))):
        for name in ("crons", "sse", "messages", "type_trees", "requests"):
            targets.run(name, making.FromBytes(data))


def test_a_reader_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cron, "next_occurrence", lambda text, after: after)  # not later

    with pytest.raises(targets.Broken):
        for seed in range(50):
            targets.run("crons", Random(seed))


def test_a_request_that_is_refused_and_changes_something_all_the_same_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    search = machine.HANDLERS[PromiseSettle]
    leftover = PromiseRow(Promise("leftover", "pending", Value(), Value(), {}, 2**50, 1))

    def careless(view: Any, request: Any, now: int, rules: Any) -> Any:
        response, effects = search(view, request, now, rules)
        return response, (*effects, leftover) if response.status == 404 else effects

    monkeypatch.setitem(machine.HANDLERS, PromiseSettle, careless)
    with pytest.raises(targets.Broken, match="something has changed"):
        for seed in range(300):
            targets.run("requests", Random(seed))
