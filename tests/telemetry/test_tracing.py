"""Spans of executions: one for each call, the same ids wherever and however often it runs."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

from resonate import Resonate
from resonate.retry_policies import Constant
from resonate.telemetry import Tracing
from tests.homes import Home, until


class Collected:
    """A provider that keeps what is exported."""

    def __init__(self, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False, **options)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracing = Tracing(self.provider)

    def wait_for(self, *ids: str) -> None:
        """The span of a root may be ended a moment after its caller has the result."""
        until(lambda: set(ids) <= set(self.spans))

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        found = [span for span in self.exporter.get_finished_spans() if "resonate.id" in (span.attributes or {})]
        by_id = {str(_attributes(span)["resonate.id"]): span for span in found}
        assert len(by_id) == len(found), "no call has two spans"
        return by_id


def _attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    span_id: int = span.context.span_id
    return span_id


def trace_of(span: ReadableSpan) -> int:
    assert span.context is not None
    trace_id: int = span.context.trace_id
    return trace_id


def double(ctx: Any, x: int) -> int:
    return 2 * x


def inner(ctx: Any, x: int) -> Any:
    return (yield ctx.run(double, x))


def outer(ctx: Any, x: int) -> Any:
    first = yield ctx.run(inner, x)
    return first + (yield ctx.run(double, 1))


async def gathering(ctx: Any) -> int:
    first: int = await ctx.run(double, 1)
    second: int = await ctx.run(double, 2)
    return first + second


@pytest.fixture
def collected() -> Collected:
    return Collected()


@pytest.fixture
def observed(collected: Collected) -> Iterator[Resonate]:
    with Resonate(pid="me", group="default") as client:
        client.observe(collected.tracing)
        client.register(outer)
        client.register(gathering)
        yield client


def test_each_call_has_a_span_below_that_of_its_caller(observed: Resonate, collected: Collected) -> None:
    observed.run("a", outer, 1)
    collected.wait_for("a")

    spans = collected.spans
    assert set(spans) == {"a", "a:1", "a:1.1", "a:2"}
    assert parent_of(spans["a"]) is None
    assert parent_of(spans["a:1"]) == parent_of(spans["a:2"]) == id_of(spans["a"])
    assert parent_of(spans["a:1.1"]) == id_of(spans["a:1"])
    assert len({trace_of(span) for span in spans.values()}) == 1


def test_an_async_function_and_its_steps_have_spans(observed: Resonate, collected: Collected) -> None:
    observed.run("g", gathering)
    collected.wait_for("g")

    spans = collected.spans
    assert set(spans) == {"g", "g:1", "g:2"}
    assert parent_of(spans["g:2"]) == id_of(spans["g"])


def test_a_span_says_what_was_called(observed: Resonate, collected: Collected) -> None:
    observed.run("a", outer, 1)

    assert collected.spans["a:1.1"].name == "double"
    assert _attributes(collected.spans["a:1.1"]) == {
        "resonate.id": "a:1.1",
        "resonate.root": "a",
        "resonate.function": "double",
        "resonate.version": 1,
        "resonate.kind": "plain",
        "resonate.pid": "me",
        "resonate.group": "default",
        "resonate.attempts": 1,
    }


def test_the_trace_goes_on_from_where_the_call_was_made(observed: Resonate, collected: Collected) -> None:
    tracer = collected.provider.get_tracer("the program")

    with tracer.start_as_current_span("request") as request:
        observed.run("a", outer, 1)

    collected.wait_for("a")
    here = request.get_span_context()
    assert trace_of(collected.spans["a"]) == here.trace_id
    assert parent_of(collected.spans["a"]) == here.span_id
    assert trace_of(collected.spans["a:1.1"]) == here.trace_id


def test_what_a_step_does_is_below_its_span(observed: Resonate, collected: Collected) -> None:
    tracer = collected.provider.get_tracer("a library")

    def fetch(ctx: Any) -> None:
        with tracer.start_as_current_span("GET"):
            pass

    def fetching(ctx: Any) -> Any:
        yield ctx.run(fetch)

    observed.register(fetching)
    observed.run("f", fetching)

    get = next(span for span in collected.exporter.get_finished_spans() if span.name == "GET")
    assert parent_of(get) == id_of(collected.spans["f:1"])
    assert not trace.get_current_span().get_span_context().is_valid


def test_a_remote_call_belongs_to_the_trace_of_its_caller(observed: Resonate, collected: Collected) -> None:
    def asking(ctx: Any) -> Any:
        return (yield ctx.rpc("double", 4))

    observed.register(double)
    observed.register(asking)
    with collected.provider.get_tracer("the program").start_as_current_span("request") as request:
        observed.run("q", asking)

    collected.wait_for("q", "q:1")
    assert parent_of(collected.spans["q:1"]) == id_of(collected.spans["q"])
    assert trace_of(collected.spans["q:1"]) == request.get_span_context().trace_id


def test_a_failure_and_each_attempt_before_it_are_told(observed: Resonate, collected: Collected) -> None:
    def failing(ctx: Any) -> None:
        raise ValueError(f"attempt {ctx.info.attempt}")

    def calls(ctx: Any) -> Any:
        yield ctx.run(failing).options(retry_policy=Constant(delay=0, max_retries=2))

    observed.register(calls)
    with pytest.raises(ValueError, match="attempt 3"):
        observed.run("x", calls)

    span = collected.spans["x:1"]
    assert not span.status.is_ok
    assert span.status.description == "ValueError: attempt 3"
    told = [(event.attributes or {})["exception.message"] for event in span.events]
    assert told == ["attempt 1", "attempt 2", "attempt 3"]
    assert _attributes(span)["resonate.attempts"] == 3
    collected.wait_for("x")
    assert not collected.spans["x"].status.is_ok


@pytest.mark.parametrize("evict", [False, True], ids=["in place", "by replay"])
def test_a_wait_and_a_replay_add_no_spans(evict: bool) -> None:
    collected = Collected()
    home = Home("threads", evict)
    home.client.observe(collected.tracing)

    def waiting(ctx: Any) -> Any:
        yield ctx.run(inner, 1)
        promise = yield ctx.promise(id="outside")
        return (yield promise) + (yield ctx.run(double, 1))

    home.client.register(waiting)
    handle = home.client.begin_run("w", waiting)
    home.suspended("w", awaiting="outside")
    before = set(collected.spans)
    home.client.promises.resolve("outside", data="5")
    assert handle.result() == 7
    collected.wait_for("w")
    home.client.stop()

    assert before == {"w:1", "w:1.1"}
    spans = collected.spans  # asserts that no call has two
    assert len(spans) == 4
    assert (spans["w"].start_time or 0) <= (spans["w:1"].start_time or 0)
    assert parent_of(spans["w:1"]) == id_of(spans["w"])


def test_the_ids_are_the_same_in_every_process() -> None:
    collected = Collected()
    with Resonate() as client:
        client.observe(collected.tracing)
        client.register(outer)
        client.run("a", outer, 1)

    assert id_of(collected.spans["a:1"]) == int.from_bytes(hashlib.sha256(b"a:1").digest()[-8:])
    assert trace_of(collected.spans["a:1"]) == int.from_bytes(hashlib.sha256(b"a").digest()[:16])


def test_a_step_that_died_with_its_process_is_exported_once(tmp_path: Path) -> None:
    program = Path(__file__).with_name("killed_program.py")
    url = f"sqlite:///{tmp_path}/app.db"

    first = subprocess.run([sys.executable, program, url, "die"], capture_output=True, text=True, timeout=30)
    second = subprocess.run([sys.executable, program, url, "live"], capture_output=True, text=True, timeout=30)

    assert first.returncode == -9
    assert (second.returncode, second.stderr) == (0, "")
    assert sorted((first.stdout + second.stdout).split()) == ["dying", "first", "program"]


def test_what_is_not_sampled_is_not_exported() -> None:
    collected = Collected(sampler=ParentBased(ALWAYS_OFF))
    with Resonate() as client:
        client.observe(collected.tracing)
        client.register(outer)
        client.run("a", outer, 1)

    assert collected.spans == {}


def test_without_an_sdk_nothing_is_made_and_nothing_breaks() -> None:
    with Resonate() as client:
        client.observe(Tracing())
        client.register(outer)

        assert client.run("a", outer, 1) == 4


def test_an_observer_that_fails_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Tracing):
        def attempt_began(self, execution: Any, call: Any) -> None:
            raise RuntimeError("no")

    with Resonate() as client:
        client.observe(Broken())
        client.register(outer)

        assert client.run("a", outer, 1) == 4

    assert "an observer failed" in caplog.text
