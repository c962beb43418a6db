"""One line for each event, with the ids as fields, and none for what is only replayed."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest

from resonate.retry_policies import Constant
from resonate.telemetry import JsonLines
from resonate.worker.report import LONGEST, shown
from tests.homes import Home, until


def double(ctx: Any, x: int) -> int:
    return 2 * x


def waiting(ctx: Any) -> Any:
    yield ctx.run(double, 1)
    promise = yield ctx.promise(id="outside")
    return (yield promise) + (yield ctx.run(double, 1))


def about(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What was said of executions."""
    return [record for record in caplog.records if hasattr(record, "resonate_id")]


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in about(caplog) if record.name == "resonate.worker"]


def run_with_a_wait(home: Home) -> None:
    home.client.register(waiting)
    handle = home.client.begin_run("w", waiting)
    home.suspended("w", awaiting="outside")
    home.client.promises.resolve("outside", data="5")
    assert handle.result() == 7


def test_the_life_of_an_execution_is_told(caplog: pytest.LogCaptureFixture) -> None:
    home = Home("threads")
    with caplog.at_level(logging.DEBUG, "resonate.worker"):
        run_with_a_wait(home)
        until(lambda: len(lines(caplog)) == 4)
    home.client.stop()

    begun, waits, on, succeeded = lines(caplog)
    assert begun == "w: waiting version 1 begun"
    assert waits == "w: waits for outside"
    assert on == "w: goes on"
    assert succeeded.startswith("w: succeeded after 0.")


def test_a_replay_says_that_it_is_one_and_nothing_twice(caplog: pytest.LogCaptureFixture) -> None:
    home = Home("threads", evict=True)
    with caplog.at_level(logging.INFO, "resonate.worker"):
        run_with_a_wait(home)
        until(lambda: len(lines(caplog)) == 3)
    home.client.stop()

    begun, again, _ = lines(caplog)
    assert begun == "w: waiting version 1 begun"
    assert again == "w: waiting version 1 taken over, replaying what is recorded"


def test_a_failure_is_told_with_its_error(caplog: pytest.LogCaptureFixture) -> None:
    home = Home("threads")

    def failing(ctx: Any) -> None:
        raise ValueError("no\nsuch \x1b[31mthing")

    home.client.register(failing)
    with caplog.at_level(logging.INFO, "resonate.worker"):
        with pytest.raises(ValueError, match="no"):
            home.client.options(retry_policy=Constant(max_retries=0)).run("f", failing)
        until(lambda: len(lines(caplog)) == 2)
    home.client.stop()

    assert lines(caplog)[1].endswith(r"s: ValueError: no\nsuch \x1b[31mthing")
    assert "\n" not in lines(caplog)[1]


def test_a_long_error_is_cut() -> None:
    assert len(shown(ValueError("x" * 10_000))) == LONGEST + 1


def test_a_line_is_a_json_object_with_the_ids(caplog: pytest.LogCaptureFixture) -> None:
    home = Home("threads")
    home.client.register(double)
    with caplog.at_level(logging.INFO, "resonate.worker"):
        home.client.run("d", double, 1)
    home.client.stop()

    line = json.loads(JsonLines().format(about(caplog)[0]))

    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "resonate.worker",
        "message": "d: double version 1 begun",
        "resonate_id": "d",
        "resonate_root": "d",
    }


def test_what_a_called_step_logs_names_the_same_root_as_the_worker(caplog: pytest.LogCaptureFixture) -> None:
    home = Home("threads")

    def step(ctx: Any) -> None:
        ctx.logger.info("here")

    def calling(ctx: Any) -> Any:
        yield ctx.rpc(step)

    home.client.register(step)
    home.client.register(calling)
    with caplog.at_level(logging.INFO, "resonate"):
        home.client.run("c", calling)
    home.client.stop()

    said = {record.getMessage(): record.resonate_root for record in about(caplog)}  # type: ignore[attr-defined]
    assert said["[c:1] here"] == said["c:1: step version 1 taken from the queue"] == "c"


def test_an_exception_is_a_field_of_its_line() -> None:
    try:
        raise ValueError("no")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f.py", 1, "it failed: %s", ("so",), sys.exc_info())

    line = json.loads(JsonLines().format(record))

    assert line["message"] == "it failed: so"
    assert line["exception"].endswith("ValueError: no")
