"""Steps that a function begins and does not wait for yet: on several threads where that helps, and sharing writes."""

from __future__ import annotations

import threading
from collections.abc import Generator
from typing import Any

import pytest

from resonate import Context, Resonate
from resonate.service.service import Service
from resonate.testing import crash_at_every_checkpoint
from resonate.worker import threads as driver
from resonate.worker import worker

Gen = Generator[Any, Any, Any]
PATIENCE = 20.0


def double(ctx: Context, n: int) -> int:
    return 2 * n


def fan(ctx: Context, count: int) -> Gen:
    begun = []
    for n in range(count):
        begun.append((yield ctx.begin_run(double, n)))
    total = 0
    for promise in begun:
        total += yield promise
    return total


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many requests each batch of a worker had."""
    sizes: list[int] = []
    handle = Service.handle

    def counted(self: Service, requests: Any, **given: Any) -> Any:
        if given.get("chain"):
            sizes.append(len(requests))
        return handle(self, requests, **given)

    monkeypatch.setattr(Service, "handle", counted)
    return sizes


def test_steps_begun_side_by_side_that_block_run_on_several_threads() -> None:
    together = threading.Barrier(3)

    def meets(ctx: Context) -> bool:
        together.wait(PATIENCE)  # breaks unless three are here at the same time
        return True

    def program(ctx: Context) -> Gen:
        begun = []
        for _ in range(3):
            begun.append((yield ctx.begin_run(meets)))
        results = []
        for promise in begun:
            results.append((yield promise))
        return results

    with Resonate(workers=2) as r:
        r.register(program)
        assert r.run("meet", program) == [True, True, True]


def test_a_function_goes_on_with_a_result_while_a_step_beside_it_blocks() -> None:
    seen = threading.Event()

    def quick(ctx: Context) -> int:
        return 1

    def waits(ctx: Context) -> bool:
        return seen.wait(PATIENCE)

    def tells(ctx: Context) -> None:
        seen.set()

    def program(ctx: Context) -> Gen:
        first = yield ctx.begin_run(quick)
        second = yield ctx.begin_run(waits)
        yield first
        yield ctx.run(tells)
        return (yield second)

    with Resonate(workers=2) as r:
        r.register(program)
        assert r.run("goes-on", program) is True


def test_short_steps_begun_side_by_side_share_writes(batches: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "TOGETHER_SECONDS", PATIENCE)
    monkeypatch.setattr(worker, "PULSE", PATIENCE)  # no beat writes a part of it on a slow machine,
    monkeypatch.setattr(driver, "HELP_AFTER", PATIENCE)  # and no thread helps with steps that seem to take long
    with Resonate() as r:
        r.register(fan)
        assert r.run("fan", fan, 4 * driver.TOGETHER) == 4 * driver.TOGETHER * (4 * driver.TOGETHER - 1)

    assert sum(batches) == 4 * driver.TOGETHER + 1  # each step is one write, and then the end
    assert max(batches) <= driver.TOGETHER + 1


def test_a_step_that_takes_long_does_not_wait_for_those_beside_it_to_be_recorded(
    batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "TOGETHER_SECONDS", 0.0)
    with Resonate() as r:
        r.register(fan)
        r.run("fan", fan, 10)

    assert batches == [1] * 9 + [2]


def test_wherever_a_worker_dies_a_fan_out_repeats_only_what_shared_the_lost_write() -> None:
    report = crash_at_every_checkpoint(fan, 2 * driver.TOGETHER)

    assert report.result == 2 * driver.TOGETHER * (2 * driver.TOGETHER - 1)
    assert report.checkpoints == 3  # the creation, half of the results, and the rest with the end
    assert set(report.repeated.values()) == {1}
