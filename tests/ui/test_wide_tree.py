"""Ten thousand calls: the execution opens in two seconds, scrolls smoothly, and draws only what is in sight."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from resonate import Resonate
from resonate.server.base import Settings
from resonate.server.running import Server
from tests.server.serving import serving
from tests.ui.filled import wide
from tests.ui.pages import visit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

CALLS = 10_000

OPENED = """async () => {
  const began = performance.now();
  location.hash = "#/execution/wide";
  while (!document.querySelector("[role=treeitem]")) await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
  return performance.now() - began;
}"""

SCROLLED = """async () => {
  const found = [], frames = [], tree = document.querySelector("[role=tree]");
  const seen = new PerformanceObserver((list) => { for (const one of list.getEntries()) found.push(one.duration); });
  seen.observe({ type: "longtask" });
  let most = 0, last = performance.now();
  for (let step = 0; step < 120; step++) {
    tree.scrollTop = step * tree.scrollHeight / 120;
    await new Promise(requestAnimationFrame);
    most = Math.max(most, document.querySelectorAll("[role=treeitem]").length);
    frames.push(performance.now() - last);
    last = performance.now();
  }
  seen.disconnect();
  frames.sort((one, other) => one - other);
  return { longest: Math.max(0, ...found), frame: frames[60], rows: most };
}"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(settings=Settings(ui="full")) as server, Resonate(url=server.url) as client:
        client.register(wide)
        client.run("wide", wide, CALLS)
        yield server


def test_it_opens_in_two_seconds_and_scrolls_smoothly(page: Page, server: Server) -> None:
    visit(page, server, "executions")
    work = page.context.new_cdp_session(page)
    work.send("Performance.enable", {"timeDomain": "threadTicks"})
    pace = _pace()
    used = time.process_time() + _busy(work.send("Performance.getMetrics"))
    took = page.evaluate(OPENED)
    used = time.process_time() + _busy(work.send("Performance.getMetrics")) - used
    expect(page.locator(".tools .count")).to_have_text(f"{CALLS:,}")

    before = _busy(work.send("Performance.getMetrics"))
    runs = [page.evaluate(SCROLLED) for _ in range(3)]
    frame = (_busy(work.send("Performance.getMetrics")) - before) / (3 * 120) * 1000

    best = min(runs, key=lambda run: float(run["longest"]))
    pace = max(_pace(), pace)
    print(f"opened in {took:.0f} ms, {used:.2f} s of the processor, the server's included")
    print(f"a frame takes {frame:.1f} ms of the processor; best of three scrolls: {best}")
    assert used < 2 * pace
    assert frame < 30 * pace
    if os.getloadavg()[0] < 2 * (os.cpu_count() or 1):  # else others have the machine, and the clock tells of them
        assert took < 2_000 * pace
        assert best["longest"] < 200 * pace
    assert max(run["rows"] for run in runs) < 100


def _pace() -> float:
    """How much slower this machine is right now than one on which a fixed piece of work takes a quarter of a second."""
    began = time.process_time()
    sum(number * number for number in range(3_000_000))
    return max(1.0, (time.process_time() - began) / 0.25)


def _busy(metrics: object) -> float:
    """Seconds of the processor that the page's thread has used."""
    assert isinstance(metrics, dict)
    found = {one["name"]: one["value"] for one in metrics["metrics"]}
    return float(found["TaskDuration"])


def test_its_calls_are_found_and_reached_at_once(page: Page, server: Server) -> None:
    visit(page, server, "execution/wide?call=wide%3A9999")
    chosen = page.get_by_role("treeitem", selected=True)
    expect(chosen).to_be_in_viewport()
    expect(chosen.locator(".name")).to_have_attribute("title", "wide:9999")

    page.get_by_label("Find a call").fill("wide:4321")
    expect(page.locator(".found")).to_have_text("1 of 1")
    expect(chosen).to_be_in_viewport()
    page.get_by_role("tree").focus()
    page.keyboard.press("End")
    expect(chosen.locator(".name")).to_have_attribute("title", f"wide:{CALLS}")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowLeft")

    expect(page.get_by_role("treeitem")).to_have_count(1)
    expect(page.locator(".hidden-count")).to_have_text(f"{CALLS:,}")
