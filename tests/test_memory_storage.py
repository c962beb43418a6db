"""The memory storage: what its contract says beyond what the protocol tests already use."""

from __future__ import annotations

import pytest

from resonate.protocol.records import EMPTY, Promise
from resonate.protocol.rows import PromiseRow
from resonate.storage import memory
from resonate.storage.memory import MemoryStorage

TIMER = {"resonate:timer": "true"}


def pending(id: str, timeout_at: int) -> PromiseRow:
    return PromiseRow(Promise(id, "pending", EMPTY, EMPTY, TIMER, timeout_at, 0))


def settled(id: str, timeout_at: int) -> PromiseRow:
    return PromiseRow(Promise(id, "resolved", EMPTY, EMPTY, TIMER, timeout_at, 0, 1))


def test_a_timer_armed_while_the_heap_is_cleared_of_dead_ones_still_fires() -> None:
    storage = MemoryStorage()
    for n in range(3 * memory.HEAP_SPARE):
        storage.apply([pending(f"p{n}", 1_000 + n)])
        if n % 7:
            storage.apply([settled(f"p{n}", 1_000 + n)])

    due = storage.due(10**9, 10**9)

    assert [id for _, id in due] == [f"p{n}" for n in range(0, 3 * memory.HEAP_SPARE, 7)]


def test_timers_of_settled_promises_do_not_pile_up() -> None:
    storage = MemoryStorage()

    for n in range(10 * memory.HEAP_SPARE):
        storage.apply([pending(f"p{n}", 10**12 + n)])
        storage.apply([settled(f"p{n}", 10**12 + n)])

    assert len(storage._heap) <= memory.HEAP_SPARE + 1


def test_a_step_that_is_interrupted_is_there_as_a_whole() -> None:
    class Interrupted(MemoryStorage):
        times = 0

        def _arm(self, at: int, kind: str, id: str) -> None:
            self.times += 1
            if self.times == 2:
                raise KeyboardInterrupt
            super()._arm(at, kind, id)

    storage = Interrupted()

    with pytest.raises(KeyboardInterrupt):
        storage.apply([pending("a", 5), pending("b", 6), pending("c", 7)])

    assert [id for _, id in storage.due(10, 10)] == ["a", "b", "c"]
