"""What a client's worker does, in numbers for Prometheus.

The names begin with `resonate_`; a server's own are in `server/metrics.py` and differ from these.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from resonate.errors import NotSupported
from resonate.execution.call import STEPS, Call
from resonate.execution.coroutine import Outcome, Returned
from resonate.execution.execution import Execution
from resonate.worker.observer import ACQUIRED, FAILED, RESUMED, SUCCEEDED, SUSPENDED, Observer

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

FUNCTIONS: Final = 200
"""Names of functions that get labels of their own; those after them share one, so that series stay few."""

OTHERS: Final = "(others)"

SHORT: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds: from a step in memory to one that waits for a slow peer."""

LONG: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 86_400.0, 604_800.0)
"""Seconds: executions last from a millisecond to weeks."""

COUNTS: Final = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)


class Metrics(Observer):
    """Counts for Prometheus; one object may watch several clients of a process.

    Args:
        registry: a `prometheus_client.CollectorRegistry`; default the library's own, which
            `prometheus_client.start_http_server` shows.

    Raises:
        NotSupported: `prometheus-client` is not installed.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        try:
            import prometheus_client as library  # an extra
        except ImportError:
            raise NotSupported("metrics need prometheus-client: pip install 'resonate-py[metrics]'") from None
        registry = library.REGISTRY if registry is None else registry

        def histogram(name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Any:
            return library.Histogram(f"resonate_{name}", text, labels, buckets=buckets, registry=registry)

        def counter(name: str, text: str, labels: tuple[str, ...]) -> Any:
            return library.Counter(f"resonate_{name}", text, labels, registry=registry)

        self._held = library.Gauge(
            "resonate_worker_executions", "Executions in this process", ("state",), registry=registry
        )
        self._running, self._waiting = self._held.labels("running"), self._held.labels("waiting")
        self._events = counter(
            "executions",
            "What happened to executions: begun, acquired, replayed, resumed; succeeded, failed, suspended, halted, "
            "lost (the lease), stopped",
            ("function", "event"),
        )
        self._lasted = histogram(
            "execution_seconds", "From the creation of an execution to its end", ("function", "outcome"), LONG
        )
        self._queued = histogram("queue_seconds", "From the creation of an execution to its first worker", (), LONG)
        self._attempts = counter("attempts", "Attempts of calls: returned, raised, retried", ("function", "outcome"))
        self._steps = histogram("step_seconds", "What the code of a step took", ("function",), SHORT)
        self._evictions = counter("evictions", "Waiting executions that made room, to be replayed", ()).inc
        self._writes = histogram("write_seconds", "One write of an execution, until it is durable", (), SHORT).observe
        self._written = histogram("write_requests", "Requests of one write", (), COUNTS).observe
        # a labelled child is found through a lock and a tuple of strings: remember the few there are
        self._children: dict[tuple[Any, ...], Callable[..., None]] = {}
        self._functions: set[str] = set()

    def came(self, execution: Execution, how: str) -> None:
        self._count(self._events, execution.root.name, how)
        if how == RESUMED:
            self._waiting.dec()
        elif how == ACQUIRED:
            self._queued.observe(max(0, execution.now() - execution.created_at) / 1000)
        self._running.inc()

    def left(self, execution: Execution, how: str) -> None:
        self._count(self._events, execution.root.name, how)
        self._running.dec()
        if how == SUSPENDED:
            self._waiting.inc()
        elif how in (SUCCEEDED, FAILED):
            took = max(0, execution.now() - execution.created_at) / 1000
            self._child(self._lasted, self._label(execution.root.name), how, method="observe")(took)

    def closed(self, execution: Execution, evicted: bool) -> None:
        self._waiting.dec()
        if evicted:
            self._evictions()

    @contextmanager
    def within(self, call: Call) -> Iterator[None]:
        if call.kind not in STEPS:
            yield
            return
        began = time.perf_counter()
        try:
            yield
        finally:
            took = time.perf_counter() - began
            self._child(self._steps, self._label(call.name), method="observe")(took)

    def attempt_ended(self, execution: Execution, call: Call, outcome: Outcome, retry_in: float | None) -> None:
        how = "returned" if type(outcome) is Returned else "raised" if retry_in is None else "retried"
        self._count(self._attempts, call.name, how)

    def sent(self, requests: int, seconds: float) -> None:
        self._writes(seconds)
        self._written(requests)

    def _count(self, metric: Any, function: str, second: str) -> None:
        self._child(metric, self._label(function), second, method="inc")()

    def _label(self, function: str) -> str:
        if function in self._functions:
            return function
        if len(self._functions) >= FUNCTIONS:
            return OTHERS
        self._functions.add(function)
        return function

    def _child(self, metric: Any, *labels: str, method: str) -> Callable[..., None]:
        key = (metric, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = getattr(metric.labels(*labels), method)
        return child


__all__ = ["Metrics"]
