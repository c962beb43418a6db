"""What is said of functions that a worker lacks."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from resonate import Context, Resonate
from resonate.errors import FunctionNotFound
from resonate.protocol.records import EMPTY, Promise
from resonate.protocol.requests import TaskGet
from resonate.registry import Registry
from resonate.worker.missing import SAID_FIRST, Missing
from tests.homes import until


def test_what_is_still_missing_is_not_said_again_for_each_function_that_is_registered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    now = [100.0]
    missing = Missing("default", "me", near=True, clock=lambda: now[0])
    waits = Promise("p", "pending", EMPTY, EMPTY, {}, timeout_at=1, created_at=0)

    for _ in range(5):
        missing.lacks(waits, FunctionNotFound("refund", 1), ())
        missing.registered()
    assert len(caplog.records) == 1

    now[0] += SAID_FIRST
    missing.lacks(waits, FunctionNotFound("refund", 1), ())
    assert "(4 more offers like it since this was last said.)" in caplog.records[-1].getMessage()
    assert len(caplog.records) == 2


def test_a_task_that_was_left_alone_is_tried_soon_again_after_a_function_was_registered() -> None:
    missing = Missing("default", "me", near=True, clock=lambda: 100.0)
    waits = Promise("p", "pending", EMPTY, EMPTY, {}, timeout_at=1, created_at=0)
    pauses = [missing.lacks(waits, FunctionNotFound("refund", 1), ()) for _ in range(3)]

    missing.registered()

    assert pauses[2] > pauses[0] == missing.lacks(waits, FunctionNotFound("refund", 1), ())


def test_a_program_that_has_not_yet_registered_anything_leaves_work_alone_until_it_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    url = f"sqlite:///{tmp_path}/app.db"
    with Resonate(url=url, group="callers") as caller:
        order = caller.options(target="workers").begin_rpc("order", "checkout")

        registry = Registry()
        with Resonate(url=url, group="workers", registry=registry) as worker:
            until(lambda: worker._core.started().intake._useless)
            registry.add(checkout)
            assert order.result(timeout=60) == "done"
        assert caller._core.started().network.send([TaskGet("order")])[0].task.version == 1  # type: ignore[union-attr]

    assert not caplog.records


def checkout(ctx: Context) -> str:
    return "done"
