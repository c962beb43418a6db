"""The page on operations and the Grafana dashboard name what there is, and all of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from resonate.clock import SystemClock
from resonate.server.app import create_app
from resonate.server.metrics import Metrics as ServerMetrics
from resonate.service.service import Service
from resonate.storage.memory import MemoryStorage
from resonate.telemetry import Metrics

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "operations.md").read_text()
DASHBOARD = (DOCS / "grafana" / "resonate.json").read_text()

NOT_METRICS = {"resonate_id", "resonate_root"}
SUFFIXES = re.compile(r"_(total|bucket|count|sum|created)$")


def bare(names: set[str]) -> set[str]:
    return {SUFFIXES.sub("", name) for name in names}


@pytest.fixture
def known() -> set[str]:
    registry, service = CollectorRegistry(), Service(MemoryStorage(), SystemClock())
    Metrics(registry)
    server = ServerMetrics()
    server.watch(service, create_app(service))
    return {metric.name for source in (registry, server.registry) for metric in source.collect()}


def test_the_page_has_a_row_for_each_metric(known: set[str]) -> None:
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `resonate_")]
    named = {name for row in rows for name in re.findall(r"resonate_\w+", row)}

    assert bare(named) == bare(known)


@pytest.mark.parametrize("text", [PAGE, DASHBOARD], ids=["page", "dashboard"])
def test_each_expression_asks_for_a_metric_that_exists(text: str, known: set[str]) -> None:
    asked = {match for match in re.findall(r"resonate_[a-z_]+(?=[\[{_]|\b)", text) if match not in NOT_METRICS}

    assert bare(asked) - bare(known) == set()


def test_the_dashboard_shows_each_metric(known: set[str]) -> None:
    panels = json.loads(DASHBOARD)["panels"]
    expressions = " ".join(target["expr"] for panel in panels for target in panel.get("targets", []))

    assert {name for name in bare(known) if name not in expressions} == {
        "resonate_messages",
        "resonate_requests_in_progress",
        "resonate_schedule_promises",
        "resonate_write_requests",
    }
