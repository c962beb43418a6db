"""A program whose second step kills it when told to; prints the name of each span that it exports."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from resonate import Resonate
from resonate.telemetry import Tracing


class Printer(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for span in spans:
            print(span.name, flush=True)
        return SpanExportResult.SUCCESS


def first(ctx: Any) -> None:
    pass


def dying(ctx: Any) -> None:
    if sys.argv[2] == "die":
        os.kill(os.getpid(), signal.SIGKILL)


def program(ctx: Any) -> Any:
    yield ctx.run(first)
    yield ctx.run(dying)


if __name__ == "__main__":
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Printer()))
    with Resonate(url=sys.argv[1], pid="same") as client:
        client.observe(Tracing(provider))
        client.register(program)
        client.run("p", program)
