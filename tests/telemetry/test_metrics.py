"""What a worker does, in numbers: each event is counted once, and gauges come back to zero."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from resonate import Resonate
from resonate.errors import ResonateCanceledError
from resonate.retry_policies import Constant
from resonate.telemetry import Metrics
from resonate.telemetry.metrics import FUNCTIONS, OTHERS
from tests.homes import Home, until


class Watched:
    """A home with metrics in a registry of its own."""

    def __init__(self, evict: bool = False) -> None:
        self.registry = CollectorRegistry()
        self.home = Home("threads", evict)
        self.client: Resonate = self.home.client
        self.client.observe(Metrics(self.registry))

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"resonate_{name}", labels) or 0.0

    def event(self, event: str, function: str = "waiting") -> float:
        return self.value("executions_total", function=function, event=event)

    def settled(self) -> None:
        """The last event of an execution may come a moment after its result."""
        until(lambda: self.value("worker_executions", state="running") == 0)


def double(ctx: Any, x: int) -> int:
    return 2 * x


def waiting(ctx: Any) -> Any:
    promise = yield ctx.promise(id="outside")
    return (yield promise) + (yield ctx.run(double, 1))


def test_a_run_is_counted_and_timed() -> None:
    watched = Watched()
    watched.client.register(double)
    watched.client.run("d", double, 2)
    watched.settled()
    watched.client.stop()

    assert watched.event("begun", "double") == watched.event("succeeded", "double") == 1
    assert watched.value("execution_seconds_count", function="double", outcome="succeeded") == 1
    assert watched.value("attempts_total", function="double", outcome="returned") == 1
    assert watched.value("step_seconds_count", function="double") == 1
    assert watched.value("write_seconds_count") == 1
    assert watched.value("worker_executions", state="running") == 0


@pytest.mark.parametrize("evict", [False, True], ids=["in place", "by replay"])
def test_a_wait_goes_on_in_place_or_is_replayed_and_the_gauges_know(evict: bool) -> None:
    watched = Watched(evict)
    watched.client.register(waiting)
    handle = watched.client.begin_run("w", waiting)
    watched.home.suspended("w", awaiting="outside")
    asleep = watched.value("worker_executions", state="waiting")
    watched.client.promises.resolve("outside", data="5")
    assert handle.result() == 7
    watched.settled()
    watched.client.stop()

    assert asleep == (0 if evict else 1)
    assert watched.event("suspended") == 1
    assert watched.event("replayed" if evict else "resumed") == 1
    assert watched.event("resumed" if evict else "replayed") == 0
    assert watched.value("evictions_total") == (1 if evict else 0)
    assert watched.value("worker_executions", state="waiting") == 0


def test_retries_and_failures_are_told_apart() -> None:
    watched = Watched()

    def flaky(ctx: Any) -> None:
        raise ValueError(ctx.info.attempt)

    watched.client.register(flaky)
    with pytest.raises(ValueError, match="3"):
        watched.client.options(retry_policy=Constant(delay=0, max_retries=2)).run("f", flaky)
    watched.settled()
    watched.client.stop()

    assert watched.value("attempts_total", function="flaky", outcome="retried") == 2
    assert watched.value("attempts_total", function="flaky", outcome="raised") == 1
    assert watched.event("failed", "flaky") == 1


def test_a_cancelled_execution_leaves_the_gauges() -> None:
    watched = Watched()
    watched.client.register(waiting)
    handle = watched.client.begin_run("w", waiting)
    watched.home.suspended("w", awaiting="outside")
    handle.cancel()
    with pytest.raises(ResonateCanceledError):
        handle.result()
    watched.client.stop()

    assert watched.value("worker_executions", state="waiting") == 0
    assert watched.value("worker_executions", state="running") == 0


def test_one_taken_from_the_queue_tells_how_long_it_was_there() -> None:
    watched = Watched()
    watched.client.register(double)
    assert watched.client.rpc("d", "double", 2) == 4
    watched.settled()
    watched.client.stop()

    assert watched.event("acquired", "double") == 1
    assert watched.value("queue_seconds_count") == 1


def test_ever_more_functions_make_no_ever_more_series() -> None:
    watched = Watched()
    metrics = Metrics(CollectorRegistry())

    labels = {metrics._label(f"f{n}") for n in range(2 * FUNCTIONS)}
    watched.client.stop()

    assert len(labels) == FUNCTIONS + 1
    assert OTHERS in labels
