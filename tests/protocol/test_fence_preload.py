"""What the answer of a fence brings along: the first records of the branch, up to a bound; nothing for who asks so."""

from __future__ import annotations

import json

import pytest

from resonate.protocol import requests as rq
from resonate.protocol import wire
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


def test_a_fence_may_say_over_the_wire_that_it_wants_no_preload() -> None:
    fence = rq.TaskFence("w", 1, rq.PromiseSettle("w.1", "resolved"), preload=False)

    call = wire.decode(body := wire.encode_request(fence, "c"))

    assert isinstance(call, wire.Call)
    assert call.request == fence
    assert json.loads(body)["data"]["preload"] is False


def test_a_preload_of_another_type_is_a_key_we_do_not_know() -> None:
    action = {"kind": "promise.settle", "data": {"id": "w.1", "state": "resolved"}}
    data = {"id": "w", "version": 1, "preload": "no", "action": action}
    head = {"corrId": "c", "version": wire.VERSION}

    call = wire.decode(json.dumps({"kind": "task.fence", "head": head, "data": data}).encode())

    assert isinstance(call, wire.Call)
    assert call.request == rq.TaskFence("w", 1, rq.PromiseSettle("w.1", "resolved"))
