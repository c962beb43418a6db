"""Executions and their calls as OpenTelemetry spans, the same ones however often the code is replayed.

A span's id follows from the id of its call, and its parent's from the id of the call above it, so
processes that run parts of one tree need not tell each other anything, and a call that is run again
after a crash gives the same span again. A span is ended, and so exported, when its call is settled,
by the process in which that happened; a replay, which runs no code of what is settled, adds none.

The trace is the one in which the root was called, kept in a tag of its promise in the form of W3C's
`traceparent` (https://www.w3.org/TR/trace-context/); where it was called in none, its id follows
from the root's id.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final

from resonate.errors import NotSupported
from resonate.execution.call import STEPS, Call
from resonate.execution.coroutine import Outcome, Raised
from resonate.execution.execution import Execution
from resonate.execution.records import TRACE_TAG
from resonate.worker.observer import SUSPENDED, Observer

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanContext, TracerProvider

VERSION: Final = "00"
SAMPLED: Final = 1


class Tracing(Observer):
    """Makes spans of executions, their steps and their functions; steps run with theirs as the current one.

    So what instrumented libraries do inside a step is below its span. A call that is tried again
    has one span, with an event for each failure.

    Args:
        tracer_provider: default the global one, as it is when this is made.

    Raises:
        NotSupported: `opentelemetry-api` is not installed.
    """

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        try:
            from opentelemetry import trace  # an extra
        except ImportError:
            raise NotSupported("tracing needs opentelemetry-api: pip install 'resonate-py[otel]'") from None
        self._trace = trace
        self._tracer: Any = (tracer_provider or trace.get_tracer_provider()).get_tracer("resonate")
        self._ids: _Ids | None = None
        if hasattr(self._tracer, "id_generator"):  # of the SDK; what makes no spans needs no ids
            self._ids = self._tracer.id_generator = _Ids(self._tracer.id_generator)
        self._spans: dict[str, dict[str, Span]] = {}
        self._common: dict[str, str] = {}

    def attached(self, pid: str, group: str) -> None:
        self._common = {"resonate.pid": pid, "resonate.group": group}

    def root_tags(self) -> Mapping[str, str]:
        here = self._trace.get_current_span().get_span_context()
        if not here.is_valid:
            return {}
        return {TRACE_TAG: f"{VERSION}-{here.trace_id:032x}-{here.span_id:016x}-{here.trace_flags:02x}"}

    def attempt_began(self, execution: Execution, call: Call) -> None:
        spans = self._spans.setdefault(execution.id, {})
        if call.id not in spans:
            spans[call.id] = self._start(execution, call)

    def within(self, call: Call) -> AbstractContextManager[object]:
        root = call
        while root.owner is not None:
            root = root.owner
        span = self._spans[root.id][call.id]
        return self._trace.use_span(span, record_exception=False, set_status_on_exception=False)

    def attempt_ended(self, execution: Execution, call: Call, outcome: Outcome, retry_in: float | None) -> None:
        spans = self._spans.get(execution.id, {})
        span = spans.get(call.id)
        if span is None:
            return
        if type(outcome) is Raised:
            span.record_exception(outcome.error, {"resonate.attempt": call.attempt})
        if retry_in is not None:
            return
        span.set_attribute("resonate.attempts", call.attempt)
        if type(outcome) is Raised:
            text = f"{type(outcome.error).__name__}: {outcome.error}"
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, text))
        if call is not execution.root:  # the root's is ended when its result is durable
            del spans[call.id]
            span.end()

    def left(self, execution: Execution, how: str) -> None:
        if how == SUSPENDED:
            return
        span = self._spans.pop(execution.id, {}).get(execution.id)
        if span is not None and execution.root.ended is not None and execution.stop is None:
            span.end()

    def closed(self, execution: Execution, evicted: bool) -> None:
        self._spans.pop(execution.id, None)

    def _start(self, execution: Execution, call: Call) -> Span:
        trace_id, above, flags = self._place(execution)
        parent = self._trace.INVALID_SPAN_CONTEXT
        if call.owner is not None:
            parent = self._context(trace_id, _span_id(call.owner.id), flags, remote=False)
        elif above is not None:
            parent = self._context(trace_id, above, flags, remote=True)
        attributes: dict[str, Any] = {
            **self._common,
            "resonate.id": call.id,
            "resonate.root": execution.origin,
            "resonate.function": call.name,
            "resonate.version": call.version,
            "resonate.kind": call.kind,
        }
        if self._ids is not None:
            self._ids.next(trace_id, _span_id(call.id))
        context = self._trace.set_span_in_context(self._trace.NonRecordingSpan(parent))
        span: Span = self._tracer.start_span(
            call.name or call.id, context, attributes=attributes, start_time=_began(execution, call)
        )
        return span

    def _place(self, execution: Execution) -> tuple[int, int | None, int]:
        """The trace of `execution`, the span above it and whether that trace is sampled, as flags."""
        child = execution.parent != execution.id
        if execution.trace is not None:
            try:
                _, trace, span, flags = execution.trace.split("-")
                return int(trace, 16), _span_id(execution.parent) if child else int(span, 16), int(flags, 16)
            except ValueError:  # written by nobody of ours
                pass
        trace_id = int.from_bytes(hashlib.sha256(execution.origin.encode()).digest()[:16]) or 1
        return trace_id, _span_id(execution.parent) if child else None, self._sampled(trace_id)

    def _sampled(self, trace_id: int) -> int:
        """What the sampler says to a trace whose root is made elsewhere; by its id, so the same everywhere."""
        sampler = getattr(self._tracer, "sampler", None)
        if sampler is None:
            return SAMPLED
        return SAMPLED if sampler.should_sample(None, trace_id, "").decision.is_sampled() else 0

    def _context(self, trace_id: int, span_id: int, flags: int, *, remote: bool) -> SpanContext:
        return self._trace.SpanContext(trace_id, span_id, remote, self._trace.TraceFlags(flags))


class _Ids:
    """Gives the next span of our tracer the ids that it is to have; spans of others are not made by that tracer."""

    def __init__(self, other: Any) -> None:
        self._other = other
        self._local = threading.local()

    def next(self, trace_id: int, span_id: int) -> None:
        self._local.ids = (trace_id, span_id)

    def generate_trace_id(self) -> int:
        ids: tuple[int, int] = self._local.ids
        return ids[0]

    def generate_span_id(self) -> int:
        ids: tuple[int, int] = self._local.ids
        return ids[1]

    def is_trace_id_random(self) -> bool:
        return False


def _span_id(id: str) -> int:
    return int.from_bytes(hashlib.sha256(id.encode()).digest()[-8:]) or 1


def _began(execution: Execution, call: Call) -> int | None:
    """Nanoseconds since the epoch of the beginning of a function; None is now, for what begins now."""
    if call is execution.root:
        return execution.created_at * 1_000_000
    record = execution.records.by_id.get(call.id) if execution.records is not None and call.kind not in STEPS else None
    return None if record is None else record.created_at * 1_000_000


__all__ = ["Tracing"]
