"""The dashboard in a real browser, against a real server with executions in every state."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest

from resonate import Resonate
from resonate.server.auth import Authenticator, BearerToken, Identity
from resonate.server.base import Settings
from tests.homes import until
from tests.server.serving import serving
from tests.ui.browser import CALLS, OPTIONS, chromium, shop

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra test)")

expect = playwright.expect
pytestmark = pytest.mark.slow

if chromium() is None:
    if os.environ.get("CI") == "true":
        pytest.fail("Chromium is not installed (Debian: apt-get install chromium)", pytrace=False)
    pytest.skip("Chromium is not installed (Debian: apt-get install chromium)", allow_module_level=True)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(settings=Settings(ui="full")) as server:
        yield server.url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Resonate]:
    with shop(url) as client:
        yield client


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium(), args=list(OPTIONS))
        yield browser
        browser.close()


@pytest.fixture(params=["1440 light", "390 dark"])
def page(request: pytest.FixtureRequest, browser: Any, url: str, client: Resonate) -> Iterator[Any]:
    """A page that fails the test if anything is written to its console as an error."""
    width, scheme = request.param.split()
    context = browser.new_context(viewport={"width": int(width), "height": 900}, color_scheme=scheme)
    context.set_default_timeout(10_000)
    page = context.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.allowed = errors
    yield page
    context.close()
    assert errors == []


def go(page: Any, url: str, place: str) -> None:
    page.goto(f"{url}/ui/{place}")
    page.wait_for_selector("main h1")


# What is shown.


def test_the_list_shows_each_execution_with_its_state_and_can_be_narrowed(page: Any, url: str) -> None:
    go(page, url, "#/")

    rows = {row.split("\n")[0].split("\t")[0].strip(): row for row in page.locator("tbody tr").all_inner_texts()}
    assert {"order-1", "refund-1", "fail-0", "video-1", "gone-1"} <= rows.keys()
    assert "succeeded" in rows["order-1"]
    assert "waiting" in rows["refund-1"]
    assert "LookupError: <b>no</b> luck" in rows["fail-0"]
    page.get_by_label("State").select_option("failed")
    page.wait_for_url("**/#/executions?*state=failed*")
    expect(page.locator("tbody tr")).to_have_count(3)
    page.get_by_label("Id begins with").fill("fail-1")
    page.get_by_label("Id begins with").press("Enter")
    expect(page.locator("tbody tr")).to_have_count(1)


def test_an_execution_shows_its_calls_in_the_order_of_the_code_and_details_of_each(page: Any, url: str) -> None:
    go(page, url, "#/x/order-1")

    assert [text.split("\n")[0] for text in page.locator(".call .name").all_inner_texts()] != []
    names = page.locator(".call .title").all_inner_texts()
    assert names == ["order", "charge", "pack"]
    page.locator(".call").nth(1).click()
    assert '"amount": 42' in page.locator(".details").inner_text()
    page.locator(".call").nth(2).click()
    assert "box of lamp" in page.locator(".details").inner_text()
    page.locator(".call .fold").first.click()
    assert page.locator(".call").count() == 1


def test_an_error_is_shown_with_its_traceback_and_never_as_markup(page: Any, url: str) -> None:
    go(page, url, "#/x/fail-0")

    details = page.locator(".details").inner_text()
    assert "LookupError: <b>no</b> luck" in details
    assert "Traceback (most recent call last)" in details
    assert page.locator("main b").count() == 0


def test_failures_are_counted_by_function_error_and_place(page: Any, url: str) -> None:
    go(page, url, "#/failures")

    (row,) = [text for text in page.locator("tbody tr").all_inner_texts() if text.startswith("fails")]
    assert re.search(r"browser\.py:\d+ in fails\s+3", row)


def test_workers_and_schedules_are_shown(page: Any, url: str) -> None:
    go(page, url, "#/groups")
    rows = page.locator("tbody tr").all_inner_texts()
    assert any(row.startswith("video") for row in rows)

    go(page, url, "#/schedules")
    page.wait_for_selector("text=nightly")
    assert "0 3 * * *" in page.locator("tbody tr").first.inner_text()


def test_what_changes_is_shown_without_a_reload(page: Any, url: str, client: Resonate) -> None:
    id = f"live-{page.viewport_size['width']}"
    go(page, url, "#/executions?prefix=live-")

    client.begin_run(id, "refund", "x")

    page.wait_for_selector(f"tbody tr:has-text('{id}') >> text=waiting")
    client.promises.resolve(f"{id}:2", data='"yes"')
    page.wait_for_selector(f"tbody tr:has-text('{id}') >> text=succeeded")


# What is done.


def test_an_approval_is_found_explained_and_given_in_the_page(page: Any, url: str, client: Resonate) -> None:
    id = f"approve-{page.viewport_size['width']}"
    handle = client.begin_run(id, "refund", "order-1")
    until(lambda: client.get(id).status().state == "waiting")
    go(page, url, f"#/x/{id}")

    banner = page.get_by_label("Why it waits")
    assert f"{id}:2 waits for somebody to settle it, until" in banner.inner_text()
    banner.get_by_role("button", name="Settle…").click()
    page.get_by_role("dialog").get_by_label("JSON").fill('{"granted": true}')
    page.get_by_role("button", name="Settle it").click()

    page.wait_for_selector(f"text={id}:2 is resolved")
    assert handle.result(timeout=20) == ["order-1", {"granted": True}]
    page.wait_for_selector(".head .s-succeeded")


def test_what_is_no_json_is_not_sent(page: Any, url: str, client: Resonate) -> None:
    go(page, url, "#/x/refund-1")
    page.get_by_label("Why it waits").get_by_role("button", name="Settle…").click()

    page.get_by_role("dialog").get_by_label("JSON").fill("yes")
    page.get_by_role("button", name="Settle it").click()

    page.wait_for_selector("text=That is no JSON")
    page.get_by_role("button", name="Leave it").click()
    assert client.get("refund-1").status().state == "waiting"


def test_cancel_asks_first_and_tells_what_came_of_it(page: Any, url: str, client: Resonate) -> None:
    id = f"cancel-{page.viewport_size['width']}"
    client.begin_run(id, "reminder")
    until(lambda: client.get(id).status().state == "waiting")
    go(page, url, f"#/x/{id}")

    page.get_by_role("button", name="Cancel…").click()
    page.get_by_role("button", name="Leave it").click()
    assert client.get(id).status().state == "waiting"
    page.get_by_role("button", name="Cancel…").click()
    page.get_by_role("button", name="Cancel it").click()

    page.wait_for_selector(f"text={id} is cancelled")
    assert client.get(id).status().state == "cancelled"
    page.wait_for_selector(".head .s-cancelled")


def test_a_halted_execution_is_resumed(page: Any, url: str, client: Resonate) -> None:
    from resonate.protocol.requests import TaskHalt

    id = f"halt-{page.viewport_size['width']}"
    client.begin_run(id, "reminder")
    until(lambda: client.get(id).status().state == "waiting")
    client._core.started().network.send([TaskHalt(id)])
    go(page, url, f"#/x/{id}")

    assert "is halted" in page.get_by_label("Why it waits").inner_text()
    page.get_by_role("button", name="Resume").click()
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()

    page.wait_for_selector(f"text={id} goes on")
    until(lambda: client.get(id).status().state == "waiting")


# How it behaves.

OPENED = """async () => {
    const begun = performance.now();
    location.hash = '#/x/large-1';
    while (!document.querySelector('.call')) await new Promise((next) => setTimeout(next, 5));
    return performance.now() - begun;
}"""


def test_ten_thousand_calls_open_at_once_and_scroll_smoothly(page: Any, url: str, client: Resonate) -> None:
    client.run("large-1", "large", CALLS)
    go(page, url, "#/")
    page.evaluate(
        """() => {
            window.long = [];
            const seen = (list) => window.long.push(...list.getEntries().map((entry) => entry.duration));
            new PerformanceObserver(seen).observe({ type: 'longtask', buffered: true });
        }"""
    )

    took = []
    for _ in range(3):  # the best of three: what else the machine does is no news
        took.append(page.evaluate(OPENED))
        page.evaluate("location.hash = '#/'")
        page.wait_for_selector("tbody tr")
    page.evaluate(OPENED)
    page.evaluate("window.long.length = 0")
    page.evaluate(
        """async () => {
            const tree = document.querySelector('.tree');
            for (let at = 0; at < 60; at++) {
                tree.scrollTop = at * 4000;
                await new Promise((next) => requestAnimationFrame(next));
            }
        }"""
    )

    assert page.locator(".tree-head").inner_text().startswith("Calls")
    assert "10,001 calls" in page.locator(".tree-head").inner_text()
    assert page.locator(".call").count() < 100
    assert min(took) < 2000
    assert sorted([0, 0, *page.evaluate("window.long")])[-2] < 200


def test_the_tree_is_used_with_the_keyboard(page: Any, url: str) -> None:
    go(page, url, "#/x/order-1")
    page.wait_for_selector(".call")

    page.get_by_role("tree").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")

    assert page.locator(".call[aria-selected=true] .title").inner_text() == "pack"
    assert "box of lamp" in page.locator(".details").inner_text()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowLeft")
    assert page.locator(".call").count() == 1


CHECKS = """() => {
    const problems = [];
    const labelled = (e) => e.labels && e.labels.length;
    const named = (e) => e.getAttribute('aria-label') || e.textContent.trim() || labelled(e) || e.title;
    for (const e of document.querySelectorAll('button, a[href], input, select, textarea, [role=tree], img'))
        if (e.tagName === 'IMG' ? !e.hasAttribute('alt') : !named(e))
            problems.push('no name: ' + e.outerHTML.slice(0, 80));
    const light = (text) => {
        const part = text.match(/[\\d.]+/g).map(Number);
        const [r, g, b] = part.map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return { value: 0.2126 * r + 0.7152 * g + 0.0722 * b, clear: part.length > 3 && part[3] === 0 };
    };
    const behind = (e) => { while (e && light(getComputedStyle(e).backgroundColor).clear) e = e.parentElement;
        return light(getComputedStyle(e || document.documentElement).backgroundColor).value; };
    for (const e of document.querySelectorAll('main *, header *')) {
        const text = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
        if (!text || !e.offsetParent) continue;
        const [a, b] = [light(getComputedStyle(e).color).value, behind(e)].sort((x, y) => y - x);
        if ((a + 0.05) / (b + 0.05) >= 4.5) continue;
        problems.push('contrast: ' + e.textContent.trim().slice(0, 40) + ' ' + e.className);
    }
    if (!document.querySelector('h1')) problems.push('no heading');
    if (document.documentElement.scrollWidth > innerWidth) problems.push('scrolls sideways');
    if (!document.documentElement.lang) problems.push('no language');
    return problems;
}"""


@pytest.mark.parametrize(
    "place", ["#/", "#/x/order-1", "#/x/refund-1", "#/x/fail-0", "#/failures", "#/groups", "#/schedules"]
)
def test_everything_has_a_name_and_can_be_read(page: Any, url: str, place: str) -> None:
    go(page, url, place)
    page.wait_for_timeout(100)

    assert page.evaluate(CHECKS) == []


# Safety.


def test_nothing_of_a_promise_becomes_code_and_nothing_is_loaded_from_elsewhere(
    page: Any, url: str, client: Resonate
) -> None:
    evil = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.url))
    client.options(tags={"evil": evil}).run("evil-1", "pack", evil)

    go(page, url, "#/x/evil-1")
    page.wait_for_selector(".call")

    assert evil in page.locator(".details").inner_text().replace('\\"', '"')
    assert "owned" not in page.title()
    assert all(each.startswith(url) for each in loaded)


def test_an_id_of_any_form_has_a_page(page: Any, url: str, client: Resonate) -> None:
    id = "a/b?c=d&e#f %41 ü"
    client.run(id, "pack", "x")

    go(page, url, f"#/x/{id.replace('%', '%25').replace('/', '%2F').replace('?', '%3F').replace('#', '%23')}")

    assert page.locator("main h1").inner_text() == id
    page.wait_for_selector(".head .s-succeeded")


def test_actions_of_other_sites_are_refused(url: str, client: Resonate) -> None:
    import urllib.error
    import urllib.request

    body = json.dumps({"do": "cancel", "id": "refund-1"}).encode()
    for headers in ({}, {"x-resonate-ui": "1", "sec-fetch-site": "cross-site"}):
        request = urllib.request.Request(f"{url}/ui/api/act", body, {"content-type": "text/plain", **headers})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request)
        assert refused.value.code == 403
        refused.value.close()
    assert client.get("refund-1").status().state == "waiting"


def test_a_dashboard_that_only_shows_has_no_actions(browser: Any) -> None:
    with serving(settings=Settings(ui="read-only")) as server, shop(server.url) as client:
        page = browser.new_page()
        go(page, server.url, "#/x/refund-1")

        assert page.get_by_role("button", name="Cancel…").count() == 0
        assert page.get_by_role("button", name="Settle…").count() == 0
        said = page.evaluate(
            """async () => (await fetch('api/act', { method: 'POST', headers: { 'x-resonate-ui': '1' },
                body: '{"do": "cancel", "id": "refund-1"}' })).status"""
        )
        page.close()
        assert said == 403
        assert client.get("refund-1").status().state == "waiting"


def test_who_has_not_signed_in_sees_nothing_and_then_only_their_own(browser: Any) -> None:
    auth: Authenticator = Authenticator(
        tokens=(BearerToken("all", Identity("boss", "admin")), BearerToken("some", Identity("ada", "user", "ada-")))
    )
    with serving(settings=Settings(ui="full", auth=auth)) as server:
        with Resonate(url=server.url, token="all") as client:
            client.promises.create(
                "ada-1", 10**14, tags={"resonate:target": "poll://any@g", "resonate:scope": "global"}
            )
            client.promises.create(
                "bob-1", 10**14, tags={"resonate:target": "poll://any@g", "resonate:scope": "global"}
            )
        page = browser.new_page()
        page.goto(f"{server.url}/ui/")
        page.get_by_label("Token, or user:password").fill("some")
        assert page.locator("main").inner_text() == "…"
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_selector("tbody tr")

        assert [row.split()[0] for row in page.locator("tbody tr").all_inner_texts()] == ["ada-1"]
        page.close()


def test_without_a_dashboard_there_is_none() -> None:
    import urllib.error
    import urllib.request

    with serving(settings=Settings()) as server, pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{server.url}/ui/")
    assert refused.value.code == 404
    refused.value.close()
