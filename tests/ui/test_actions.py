"""Each action in Chromium, confirmed in a dialog, with its result shown and its effect on what is stored."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from resonate import Resonate
from resonate.protocol.requests import ScheduleGet
from resonate.retry_policies import Never
from resonate.server.running import Server
from tests.ui.filled import decline, filled, halt, is_now, until
from tests.ui.pages import confirm, of_its_own, result, visit

pytestmark = pytest.mark.slow

World = tuple[Server, Resonate]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with filled() as made:
        yield made


def test_a_refund_is_approved_by_the_form_and_seen_to_finish(page: Page, world: World) -> None:
    server, client = world
    handle = client.begin_run("refund-form", "refund", 75)
    until(lambda: any(call.kind == "promise" for call in handle.tree().calls))
    visit(page, server, "execution/refund-form")
    banner = page.get_by_role("region", name="Why it waits")
    expect(banner).to_contain_text("waits for somebody to settle it")
    expect(banner).to_contain_text("resonate promises resolve")

    banner.get_by_role("button", name="Settle it").click()
    page.get_by_label("Value, as JSON").fill("{no json")
    page.get_by_role("button", name="Settle", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("is no JSON")
    page.get_by_label("Value, as JSON").fill('{"by": "Ann"}')
    confirm(page, "Settle")

    result(page, "refund-form:2 is resolved")
    assert handle.result() == {"refunded": 75, "approved": {"by": "Ann"}}
    expect(page.locator(".summary .badge")).to_contain_text("succeeded")
    expect(banner).to_be_hidden()


def test_a_promise_is_rejected_with_a_reason_that_whoever_waits_sees(page: Page, world: World) -> None:
    server, client = world
    handle = client.begin_run("refund-no", "refund", 75)
    until(lambda: any(call.kind == "promise" for call in handle.tree().calls))
    visit(page, server, "execution/refund-no")

    page.get_by_role("treeitem").filter(has_text="promise").click()
    page.get_by_role("complementary").get_by_role("button", name="Settle it").click()
    page.get_by_label("Reject").check()
    page.get_by_label("Why, as text").fill("not this time")
    confirm(page, "Settle")

    expect(page.locator(".summary .badge")).to_contain_text("failed")
    with pytest.raises(Exception, match=r"^not this time"):
        handle.result()


def test_a_promise_without_an_execution_is_cancelled(page: Page, world: World) -> None:
    server, client = world
    client.promises.create("by-hand", 10**14)
    visit(page, server, "execution/by-hand")

    page.locator(".summary").get_by_role("button", name="Settle…").click()
    page.get_by_role("dialog").get_by_label("Cancel").check()
    expect(page.get_by_role("dialog").locator("textarea")).to_be_disabled()
    confirm(page, "Settle")

    expect(page.locator(".summary .badge")).to_contain_text("cancelled")
    assert client.get("by-hand").status().state == "cancelled"


def test_retry_now_ends_the_pause(page: Page, world: World) -> None:
    server, client = world
    visit(page, server, "execution/payment-9")

    page.get_by_role("region", name="Why it waits").get_by_role("button", name="Retry now").click()
    confirm(page, "Retry now")

    result(page, "1 attempt of payment-9 begins now")
    until(lambda: sum(call.kind == "retry" for call in client.get("payment-9").tree().calls) == 2)
    expect(page.get_by_role("treeitem")).to_have_count(3)
    expect(page.get_by_role("treeitem").first.locator(".bar.failed")).to_have_count(2)


def test_a_sleep_is_ended(page: Page, world: World) -> None:
    server, client = world
    client.begin_run("nap", "reminder")
    is_now(client, "nap", "waiting")
    visit(page, server, "execution/nap")

    page.get_by_role("button", name="End the sleep").click()
    confirm(page, "End the sleep now")

    expect(page.locator(".summary .badge")).to_contain_text("succeeded")
    assert client.get("nap").result() == "sent"


def test_cancel_is_confirmed_and_carried_out(page: Page, world: World) -> None:
    server, client = world
    visit(page, server, "execution/reminder-7")
    button = page.locator(".summary").get_by_role("button", name="Cancel")

    button.click()
    page.get_by_role("dialog").get_by_role("button", name="Back").click()
    assert client.get("reminder-7").status().state == "waiting"
    button.click()
    confirm(page, "Cancel this execution")

    result(page, "reminder-7 is cancelled")
    expect(page.locator(".summary .badge")).to_contain_text("cancelled")
    tree = client.get("reminder-7").tree()
    assert {tree.state, *(call.state for call in tree.calls)} == {"cancelled"}


def test_what_has_changed_meanwhile_is_said_in_the_dialog(browser: Browser, world: World) -> None:
    server, client = world
    page = browser.new_page()  # one that may say on its console that it was refused
    handle = client.begin_run("race", "reminder")
    is_now(client, "race", "waiting")
    visit(page, server, "execution/race")

    page.locator(".summary").get_by_role("button", name="Cancel").click()
    handle.cancel()
    page.get_by_role("dialog").get_by_role("button", name="Cancel this execution").click()

    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("race has ended already")
    page.get_by_role("button", name="Back").click()
    page.close()


def test_a_halted_execution_is_resumed(page: Page, world: World) -> None:
    server, client = world
    client.begin_run("halted", "reminder")
    halt(client, "halted")
    visit(page, server, "execution/halted")
    expect(page.get_by_role("region", name="Why it waits")).to_contain_text("is halted")

    page.locator(".summary").get_by_role("button", name="Resume").click()
    confirm(page, "Resume")

    result(page, "halted goes on")
    expect(page.locator(".summary .badge")).to_contain_text("waiting")
    assert client.get("halted").status().state == "waiting"


def test_failures_are_begun_again_together_and_only_once(page: Page, world: World) -> None:
    server, client = world
    visit(page, server, "failures")
    card = page.get_by_role("region", name="decline: ValueError")
    expect(card).to_contain_text("filled.py:")

    card.get_by_role("button", name="Begin all again").click()
    confirm(page, "Begin again")

    result(page, "3 executions are begun again")
    again = client._core.inspector().executions(prefix="payment-")
    assert {call.id for call in again.items if ".again" in call.id} == {f"payment-{one}.again-1" for one in range(3)}
    expect(card).to_contain_text("begun again")
    visit(page, server, "execution/payment-0")
    page.get_by_role("button", name="Begin again").click()
    confirm(page, "Begin it again")
    result(page, "payment-0.again-1 is begun")
    page.locator("#toasts").get_by_role("link", name="payment-0.again-1").click()
    expect(page.locator(".crumbs span.id")).to_have_text("payment-0.again-1")
    assert len(client._core.inspector().executions(prefix="payment-0").items) == 2


def test_more_failures_than_one_request_begins_are_begun_again(page: Page) -> None:
    with of_its_own(page) as (server, client):
        client.register(decline)
        for number in range(60):
            with pytest.raises(ValueError, match="declined"):
                client.options(retry_policy=Never()).run(f"lost-{number}", decline, "4000")
        visit(page, server, "failures")

        page.get_by_role("button", name="Begin all again").click()
        confirm(page, "Begin again")

        result(page, "60 executions are begun again")
        assert len(client._core.inspector().executions(prefix="lost-", limit=200).items) == 120


def test_a_schedule_is_run_now_paused_let_go_on_and_deleted(page: Page, world: World) -> None:
    server, client = world
    visit(page, server, "schedules")
    card = page.get_by_role("region", name="Schedule nightly")

    card.get_by_role("button", name="Run now").click()
    confirm(page, "Run now")
    result(page, "is begun")
    until(
        lambda: [run.output for run in client._core.inspector().executions(prefix="nightly-").items] == [{"charged": 5}]
    )
    expect(card.locator(".results li")).to_contain_text("succeeded")

    card.get_by_role("button", name="Pause").click()
    confirm(page, "Pause")
    expect(card).to_contain_text("paused")
    assert _tags(client).get("resonate:paused") == "true"
    card.get_by_role("button", name="Go on").click()
    confirm(page, "Go on")
    expect(card.get_by_role("button", name="Pause")).to_be_visible()
    assert "resonate:paused" not in _tags(client)

    card.get_by_role("button", name="Delete").click()
    confirm(page, "Delete")
    expect(page.get_by_role("heading", name="No schedules")).to_be_visible()
    assert client._core.started().network.send([ScheduleGet("nightly")])[0].status == 404


def _tags(client: Resonate) -> dict[str, str]:
    schedule = client._core.started().network.send([ScheduleGet("nightly")])[0].schedule
    assert schedule is not None
    return schedule.promise_tags


def test_a_read_only_page_offers_no_action(page: Page) -> None:
    with of_its_own(page, "read-only") as (server, client):
        client.promises.create("p", 10**14)
        visit(page, server, "execution/p")

        expect(page.locator("#where")).to_contain_text("read-only")
        expect(page.get_by_role("button", name="Export")).to_be_visible()
        expect(page.get_by_role("button", name="Settle")).to_have_count(0)
        expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
