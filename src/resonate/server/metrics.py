"""What happens, in numbers: Prometheus text on a port of its own.

The names are the official server's (protocol 2.5). A kind that no request of the protocol has is
counted under one label, so that nobody can make labels without bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Histogram, make_asgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp

from resonate.protocol.shapes import READERS
from resonate.service.service import Service

if TYPE_CHECKING:
    from resonate.server.app import Application

UNKNOWN: Final = "unknown"
"""The label of kinds that the protocol does not know."""

GROUPS: Final = 200
"""Groups that have a series of their own."""

BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds: from a request on memory to one on a disk that hangs."""


class Metrics:
    """The counters of one server; two servers in one process share none."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "resonate_request_total", "Requests answered", ("kind", "status"), registry=self.registry
        )
        self._durations = Histogram(
            "resonate_request_duration_seconds",
            "From the arrival of a request to its answer",
            ("kind",),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._messages = Counter("resonate_messages_total", "Messages sent out", ("kind",), registry=self.registry)
        self._deliveries = Counter(
            "resonate_deliveries_total", "What became of messages", ("status",), registry=self.registry
        )
        self._refusals = Counter(
            "resonate_refused", "Requests turned away unread: busy, too_large", ("reason",), registry=self.registry
        )
        # a labelled child is found through a lock and a tuple of strings: remember the few there are
        self._count: dict[tuple[str, int], Callable[[], None]] = {}
        self._observe: dict[str, Callable[[float], None]] = {}

    def watch(self, service: Service, app: Application) -> None:
        """Show the state of these two to whoever asks."""
        self.registry.register(_State(service, app))

    def refused(self, reason: str) -> None:
        """A request was turned away for load or size."""
        self._refusals.labels(reason).inc()

    def answered(self, kind: str, status: int, seconds: float) -> None:
        """A request of `kind` was answered with `status` after `seconds`."""
        if kind not in READERS:
            kind = UNKNOWN
        try:
            self._count[kind, status]()
            self._observe[kind](seconds)
        except KeyError:
            self._count[kind, status] = self._requests.labels(kind, str(status)).inc
            self._observe[kind] = self._durations.labels(kind).observe
            self._count[kind, status]()
            self._observe[kind](seconds)

    def batch_answered(self, outcomes: Iterable[tuple[str, int]], seconds: float) -> None:
        """The requests of a batch were answered together after `seconds`."""
        for kind, status in outcomes:
            self.answered(kind, status, seconds)

    def delivered(self, kind: str, status: str) -> None:
        """A message of `kind` left: `status` is success, error or dropped."""
        self._messages.labels(kind).inc()
        self._deliveries.labels(status).inc()

    def app(self) -> ASGIApp:
        """What answers `/metrics`."""
        exposition: ASGIApp = make_asgi_app(registry=self.registry)
        return exposition


class _State(Collector):
    """What service and application count themselves, read when somebody asks."""

    def __init__(self, service: Service, app: Application) -> None:
        self._service = service
        self._app = app

    def describe(self) -> Iterator[Metric]:
        """Nothing: who registers a collector is not to ask the storage yet."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        timers = self._service.timers
        yield CounterMetricFamily(
            "resonate_schedule_promises", "Promises created by schedules", value=timers.occurrences
        )
        fired = CounterMetricFamily(
            "resonate_timers_fired", "Deadlines, leases, offers, schedules and resumptions due", labels=("kind",)
        )
        for kind, count in timers.fired.items():
            fired.add_metric((kind,), count)
        yield fired
        yield GaugeMetricFamily(
            "resonate_timer_lag_seconds", "For how long the oldest timer has been due", value=timers.lag() / 1000
        )
        streams = GaugeMetricFamily("resonate_streams", "Workers that listen, by group", labels=("group",))
        for group, pids in _largest(self._app.hub.listeners()):
            streams.add_metric((group,), pids)
        yield streams
        yield GaugeMetricFamily("resonate_requests_in_progress", "Requests under way", value=self._app.under_way)


def _largest(listeners: dict[str, list[str]]) -> Iterable[tuple[str, int]]:
    """The largest groups with their sizes: clients choose the names, so there is a bound to them."""
    sizes = sorted(((len(pids), group) for group, pids in listeners.items()), reverse=True)
    return [(group, size) for size, group in sizes[:GROUPS]]
