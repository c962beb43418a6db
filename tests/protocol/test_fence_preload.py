"""What the answer of a fence brings along: the first records of the branch, up to a bound."""

from __future__ import annotations

import pytest

from resonate.protocol import requests as rq
from resonate.protocol.records import BRANCH, TARGET

from .bench import ANY, YEAR, new_service


@pytest.mark.parametrize(("bound", "shown"), [(10, 10), (0, 0), (None, 12)])
def test_a_fence_brings_along_the_first_records_of_its_branch_up_to_the_bound(bound: int | None, shown: int) -> None:
    service = new_service(fence_preload=bound)
    begun = rq.TaskCreate("p", 1000, rq.PromiseCreate("w", YEAR, tags={TARGET: ANY, BRANCH: "w"}))
    steps = [rq.PromiseCreate(f"w.{n:02}", YEAR, tags={BRANCH: "w"}) for n in range(12)]
    service.handle([begun], now=0)

    *_, answer = service.handle([rq.TaskFence("w", 1, step) for step in steps], now=0)

    assert [promise.id for promise in answer.preload] == [step.id for step in steps][:shown]
