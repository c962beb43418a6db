"""Watching a client from outside: `r.observe(Tracing())`, `r.observe(Metrics())`, `JsonLines` for logs.

`Tracing` needs the extra `otel`, `Metrics` the extra `metrics`; each is imported where it is made.
"""

from resonate.telemetry.logs import JsonLines
from resonate.telemetry.metrics import Metrics
from resonate.telemetry.tracing import Tracing
from resonate.worker.observer import Observer

__all__ = ["JsonLines", "Metrics", "Observer", "Tracing"]
