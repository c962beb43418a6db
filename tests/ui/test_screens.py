"""What each screen shows, in Chromium: looks, filters, live changes, keys."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from resonate import Context, Resonate
from resonate.protocol.records import ORIGIN, PARENT, TARGET
from resonate.protocol.requests import PromiseCreate, PromiseSettle, TaskCreate, TaskHalt, TaskRelease
from resonate.server.auth import Authenticator, BasicUser, BearerToken, Identity
from resonate.server.base import Listening, Settings
from resonate.server.running import Server
from tests.server.serving import serving
from tests.ui.filled import charge, filled, reserve, until
from tests.ui.pages import accessible, of_its_own, opened, told, visit

pytestmark = pytest.mark.slow

SCREENS = (
    "executions",
    "execution/order-1042",
    "execution/send-5?call=send-5%3A1",
    "execution/refund-88",
    "execution/payment-9",
    "execution/payment-0",
    "execution/reminder-9",
    "execution/approve-budget",
    "groups",
    "schedules",
    "failures",
)

World = tuple[Server, Resonate]


def asks(ctx: Context) -> Generator[Any, Any, Any]:
    return (yield (yield ctx.promise()))


def other(ctx: Context) -> Generator[Any, Any, Any]:
    return (yield ctx.sleep(3_600))


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with filled() as made:
        yield made


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("width", "screens"), [(1440, SCREENS[:6]), (1440, SCREENS[6:]), (390, SCREENS[::2])])
def test_every_screen_is_accessible_in_light_and_dark_and_fits(
    browser: Browser, world: World, width: int, screens: Sequence[str]
) -> None:
    with opened(browser, width) as page:
        for screen in screens:
            visit(page, world[0], screen)
            told(page)
            accessible(page, screen)
            page.emulate_media(color_scheme="dark")
            accessible(page, f"{screen}, dark", "color-contrast")
            page.emulate_media(color_scheme="light")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, screen


def test_dialogs_are_accessible_and_give_the_focus_back(page: Page, world: World) -> None:
    visit(page, world[0], "execution/refund-88")
    button = page.get_by_role("region", name="Why it waits").get_by_role("button", name="Settle it")

    button.click()
    accessible(page, "the form")
    expect(page.get_by_label("Value, as JSON")).to_be_focused()
    page.keyboard.press("Escape")
    expect(button).to_be_focused()
    page.keyboard.press("?")
    accessible(page, "the keys")


def test_the_list_is_filtered_by_state_and_id(page: Page, world: World) -> None:
    visit(page, world[0], "executions")
    rows = page.locator("[data-row]")
    expect(rows.filter(has_text="refund-88")).to_be_visible()

    failed = page.get_by_role("group", name="State").get_by_role("button", name="failed")
    expect(failed).to_have_text("✕failed3")
    page.get_by_role("group", name="State").get_by_role("button", name="succeeded").click()
    expect(rows.filter(has_text="order-1043")).to_be_visible()
    expect(rows.filter(has_text="refund-88")).to_have_count(0)
    page.keyboard.press("/")
    page.keyboard.type("order-1041")
    page.keyboard.press("Enter")
    expect(rows).to_have_count(1)
    rows.click()

    expect(page.get_by_role("heading", name="order", level=1)).to_be_visible()
    expect(page.get_by_role("treeitem")).to_have_count(6)


def test_the_list_is_filtered_by_function_group_tag_and_time(page: Page, world: World) -> None:
    visit(page, world[0], "executions")
    rows = page.locator("[data-row]")

    page.get_by_label("Function").fill("reminder")
    page.get_by_role("button", name="Search").click()
    expect(rows).to_have_count(3)
    page.get_by_role("link", name="Clear").click()
    expect(page.get_by_label("Function")).to_have_value("")
    page.get_by_label("Tag").fill("tenant=acme")
    page.get_by_label("Tag").press("Enter")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("priority=high")
    expect(page.get_by_label("Tag")).to_have_value("tenant=acme")
    page.get_by_label("Tag").fill("")
    page.get_by_label("Group").fill("nobody")
    page.get_by_label("Group").press("Enter")
    expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()
    page.get_by_label("Group").fill("default")
    page.get_by_role("combobox", name="Begun").select_option("Last hour")  # which asks at once
    expect(rows.filter(has_text="order-1041")).to_be_visible()
    page.get_by_role("combobox", name="Begun").select_option("From … to …")
    page.get_by_label("Begun before").fill("2020-01-01T00:00")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()


def test_a_filter_that_makes_no_sense_says_so(browser: Browser, world: World) -> None:
    page = browser.new_page()
    page.goto(f"{world[0].url}/ui/#/executions?tag=odd")

    expect(page.get_by_role("alert")).to_contain_text("is not NAME=VALUE")
    page.evaluate("location.hash = '#/executions'")
    expect(page.locator("[data-row]").first).to_be_visible()
    page.close()


def test_the_list_has_pages_and_grows_by_itself(page: Page) -> None:
    with of_its_own(page) as (server, client):
        client.register(charge)
        for number in range(101):
            client.run(f"many-{number}", charge, number)
        visit(page, server, "executions")
        told(page, "live")
        rows = page.locator("[data-row]")
        expect(rows).to_have_count(100)

        page.get_by_role("button", name="Show older ones").click()
        expect(rows).to_have_count(101)
        expect(rows.last).to_contain_text("many-0")
        client.run("newest", charge, 1)

        expect(rows).to_have_count(102)
        expect(rows.first).to_contain_text("newest")
        assert len({row.get_attribute("href") for row in rows.all()}) == 102


def test_a_hidden_tab_asks_nothing_and_catches_up_when_it_is_shown(page: Page, world: World) -> None:
    server, client = world
    visit(page, server, "executions?prefix=hidden-")
    told(page, "live")
    hide = "to => { Object.defineProperty(document, 'hidden', {value: to, configurable: true});" + (
        "document.dispatchEvent(new Event('visibilitychange')); }"
    )
    asked: list[str] = []

    page.evaluate(hide, True)
    told(page, "paused")
    page.on("request", lambda request: asked.append(request.url))
    client.run("hidden-1", "charge", 1)
    page.wait_for_timeout(1_500)  # longer than a look at what has changed takes
    expect(page.locator("[data-row]")).to_have_count(0)
    assert asked == []
    page.evaluate(hide, False)

    expect(page.locator("[data-row]").filter(has_text="hidden-1")).to_be_visible()
    told(page, "live")


def test_each_attempt_has_a_bar_and_its_error(page: Page, world: World) -> None:
    visit(page, world[0], "execution/send-5")

    row = page.get_by_role("treeitem").filter(has_text="label")
    expect(row.locator(".bar.failed")).to_have_count(2)
    expect(row.locator(".bar.pause")).to_have_count(2)
    expect(row.locator(".bar.succeeded")).to_have_count(1)
    row.click()
    details = page.get_by_role("complementary", name="Details of the call")

    expect(details).to_contain_text("3 attempts")
    expect(details.get_by_text("ConnectionError: the carrier answered 503")).to_have_count(2)
    expect(details).to_contain_text("filled.py:")
    assert page.url.endswith("?call=send-5%3A1")


def test_waiting_for_a_worker_is_drawn_apart_from_running(page: Page, world: World) -> None:
    visit(page, world[0], "execution/report-2026-10")

    row = page.get_by_role("treeitem").filter(has_text="render")
    expect(row.locator(".bar.queue")).to_have_count(1)
    expect(row.locator(".bar")).to_have_count(1)
    expect(page.get_by_role("region", name="Why it waits")).to_contain_text("resonate worker MODULE --group renderers")


def test_what_is_in_the_queue_again_waits_from_when_it_came_back(page: Page, world: World) -> None:
    server, client = world
    network = client._core.started().network
    send, begun = network.send, network.now()
    send([TaskCreate("p", 60_000, PromiseCreate("back", 10**14, tags={TARGET: "poll://any@nobody"}))])
    send([PromiseCreate("back:1", 10**14, tags={ORIGIN: "back", PARENT: "back"})])
    until(lambda: network.now() > begun + 20)
    send([PromiseSettle("back:1", "resolved")])
    send([TaskRelease("back", 1)])

    visit(page, server, "execution/back")

    bars = page.get_by_role("treeitem").first.locator(".bar")
    expect(bars.last).to_have_class("bar queue")
    expect(bars.last).to_have_attribute("title", re.compile("^waits for a worker to go on: "))
    expect(bars.nth(-2)).to_have_attribute("title", re.compile("^ran and waited: "))
    expect(page.get_by_role("region", name="Why it waits")).to_contain_text("waits for a worker to go on with it")


def test_a_call_is_found_by_its_name_and_shown(page: Page, world: World) -> None:
    visit(page, world[0], "execution/order-1042")
    page.get_by_role("button", name="Fold", exact=True).click()
    expect(page.get_by_role("treeitem")).to_have_count(3)

    page.keyboard.press("f")
    page.keyboard.type("reserve")

    expect(page.locator(".found")).to_have_text("1 of 3")
    expect(page.get_by_role("treeitem", selected=True)).to_contain_text("reserve")
    page.keyboard.press("Enter")
    expect(page.locator(".found")).to_have_text("2 of 3")
    expect(page.get_by_role("complementary")).to_contain_text("reserved lamp")


def test_the_tree_is_used_with_the_keys(page: Page, world: World) -> None:
    visit(page, world[0], "execution/order-1042")
    page.get_by_role("tree").focus()

    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("treeitem")).to_have_count(3)
    expect(page.get_by_role("treeitem", selected=True)).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("treeitem")).to_have_count(6)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")

    expect(page.get_by_role("complementary")).to_contain_text("reserved book")


def test_all_is_reached_with_the_keys(page: Page, world: World) -> None:
    visit(page, world[0], "groups")

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    assert page.evaluate("getComputedStyle(document.activeElement).left") == "8px"
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.keyboard.press("g")
    page.keyboard.press("f")
    expect(page.get_by_role("heading", name="Failures")).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_label("Id begins with")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.locator("[data-row]").nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("tree")).to_be_visible()


def test_workers_are_shown_with_what_they_have_and_what_nobody_takes(page: Page, world: World) -> None:
    server, client = world
    visit(page, server, "groups")

    default = page.get_by_role("region", name="Group default", exact=True)
    expect(default).to_contain_text(client.pid)
    expect(default).to_contain_text("1 listening")
    renderers = page.get_by_role("region", name="Group renderers", exact=True)
    expect(renderers).to_contain_text("nobody listens")
    expect(renderers).to_contain_text("resonate worker MODULE --group renderers")
    renderers.get_by_role("link", name="1").click()
    expect(page).to_have_url(f"{server.url}/ui/#/executions?group=renderers&state=queued")
    field = page.get_by_label("Group", exact=True)  # the cards, there until the list is, are called Group …
    expect(field).to_have_value("renderers")


def test_a_click_that_is_under_way_while_the_page_changes_is_not_lost(page: Page) -> None:
    with of_its_own(page) as (server, client):
        client.options(target="short").begin_rpc("halted", "charge", 1)
        client._core.started().network.send([TaskHalt("halted")])
        visit(page, server, "groups")
        told(page, "live")
        card = page.get_by_role("region", name="Group short", exact=True)
        link = card.get_by_role("link", name="1")
        link.hover()
        page.mouse.down()

        with Resonate(url=server.url, group="short", pid="short-1") as other:
            other.register(reserve)
            other.run("else", reserve, "book")
            expect(card.get_by_role("row").filter(has_text="short-1")).to_contain_text("now")
            page.mouse.up()

            expect(page).to_have_url(f"{server.url}/ui/#/executions?group=short&state=halted")


def test_a_worker_that_left_was_seen_last_when_it_did(page: Page, world: World) -> None:
    server, _ = world
    visit(page, server, "groups")
    row = page.get_by_role("region", name="Group short", exact=True).get_by_role("row").filter(has_text="short-1")

    with Resonate(url=server.url, group="short", pid="short-1") as client:
        client.register(charge)
        client.run("short", charge, 1)
        expect(row).to_contain_text("now")

    expect(row).to_contain_text("ago")
    expect(page.get_by_role("region", name="Group short", exact=True)).to_contain_text("nobody listens")


def test_times_of_a_schedule_are_in_words_and_in_the_readers_time(browser: Browser, world: World) -> None:
    with opened(browser, timezone_id="Asia/Tokyo") as page:
        visit(page, world[0], "schedules")
        card = page.get_by_role("region", name="Schedule nightly")

        expect(card).to_contain_text("every day at 03:00 UTC")
        expect(card).to_contain_text("your time (Asia/Tokyo)")
        expect(card.locator("ol li")).to_have_count(3)
        expect(card.locator("ol li").first).to_contain_text("12:00:00")
        expect(card).to_contain_text("charge")


def test_the_theme_is_switched_and_kept(page: Page, world: World) -> None:
    visit(page, world[0], "executions")

    page.get_by_role("button", name="Switch between light and dark").click()
    page.reload()

    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_what_does_not_exist_says_so(browser: Browser, world: World) -> None:
    page = browser.new_page()
    page.goto(f"{world[0].url}/ui/#/execution/nobody")

    expect(page.get_by_role("alert")).to_contain_text("Not found")
    page.close()


def test_a_guarded_server_asks_for_a_token(browser: Browser) -> None:
    auth = Authenticator(tokens=[BearerToken("secret", Identity("ann", "admin"))])
    with serving(settings=Settings(auth=auth, ui="full")) as server:
        page = browser.new_page()
        page.goto(f"{server.url}/ui/")
        page.get_by_label("Token").fill("wrong")
        accessible(page, "signing in")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_label("That was not accepted")).to_be_visible()
        page.get_by_label("That was not accepted").fill("secret")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="No executions yet")).to_be_visible()
        page.close()


def test_a_server_that_goes_is_missed_and_found_again(browser: Browser) -> None:
    with serving(settings=Settings(ui="full")) as server:
        port = server.port
        page = browser.new_page()
        visit(page, server, "executions")
        told(page, "live")
    told(page, "reconnecting")

    with (
        serving(settings=Settings(ui="full"), listening=Listening(port=port)) as server,
        Resonate(url=server.url) as client,
    ):
        client.register(charge)
        client.run("after", charge, 1)
        expect(page.locator("[data-row]").filter(has_text="after")).to_be_visible()
        told(page, "live")
        page.close()


def test_a_screen_that_is_first_asked_for_while_the_server_is_down_comes_by_itself(browser: Browser) -> None:
    with serving(settings=Settings(ui="full")) as server, Resonate(url=server.url) as client:
        port = server.port
        client.promises.create("by-hand", 10**14)
        page = browser.new_page()
        visit(page, server, "execution/by-hand")
        told(page, "live")
        page.locator(".summary").get_by_role("button", name="Cancel").click()
    told(page, "reconnecting")
    page.get_by_role("button", name="Cancel this execution").click()
    said = page.get_by_role("dialog").get_by_role("alert")
    expect(said).to_contain_text("out of reach, so this may have happened or not")
    page.get_by_role("button", name="Back").click()
    page.get_by_role("link", name="Workers").click()
    expect(page.get_by_role("alert")).to_contain_text("The server is out of reach. It is asked again until it answers.")

    with serving(settings=Settings(ui="full"), listening=Listening(port=port)):
        expect(page.get_by_role("heading", name="Workers", exact=True)).to_be_visible()
        told(page, "live")
        page.close()


def test_what_is_typed_to_sign_in_stays(browser: Browser) -> None:
    auth = Authenticator(tokens=[BearerToken("secret", Identity("ann", "admin"))])
    with serving(settings=Settings(ui="full")) as server:
        port = server.port
        page = browser.new_page()
        visit(page, server, "executions")
        told(page, "live")
    told(page, "reconnecting")

    with serving(settings=Settings(auth=auth, ui="full"), listening=Listening(port=port)):
        page.get_by_label("Token").fill("secret")
        page.wait_for_timeout(2_500)  # longer than a screen waits until it asks again
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="No executions yet")).to_be_visible()
        page.close()


def test_a_user_whose_name_has_a_dot_signs_in(browser: Browser) -> None:
    auth = Authenticator(users=[BasicUser("ada.lovelace", "a.b:c", Identity("ada", "admin"))])
    with serving(settings=Settings(auth=auth, ui="full")) as server:
        page = browser.new_page()
        page.goto(f"{server.url}/ui/")
        page.get_by_label("Token").fill("töken€")
        page.get_by_role("button", name="Sign in").click()
        page.get_by_label("That is no token").fill("ada.lovelace:a.b:c")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="No executions yet")).to_be_visible()
        page.close()


def test_why_an_execution_is_halted_is_said_once_in_its_own_lines(page: Page) -> None:
    with of_its_own(page) as (server, client):
        client.register(asks)
        client.begin_run("halts", asks)
        until(lambda: client.get("halts").tree().state == "waiting")
        client.stop()
        with Resonate(url=server.url, log_level="CRITICAL") as changed:
            changed.register(other, name="asks")
            changed.promises.resolve("halts:1")
            until(lambda: changed.get("halts").tree().state == "halted")

        visit(page, server, "execution/halts")

        banner = page.get_by_role("region", name="Why it waits")
        expect(banner).to_contain_text("is halted: ")
        assert banner.locator("p").first.inner_text().count("\n") > 1
        expect(page.locator(".summary .error-line")).to_have_count(0)


def test_a_step_of_one_is_said_without_a_number(page: Page) -> None:
    with of_its_own(page) as (server, client):
        client.options(target="nobody").schedule("often", "charge", "*/1 * * * *")

        expect(visit(page, server, "schedules").locator("dd").first).to_contain_text("every minute")


def test_an_export_is_saved(page: Page, world: World) -> None:
    visit(page, world[0], "execution/order-1042")

    with page.expect_download() as saved:
        page.get_by_role("button", name="Export").click()

    assert saved.value.suggested_filename == "order-1042.json"
    assert len(json.loads(saved.value.path().read_text())["promises"]) == 6
    until(lambda: page.locator("#toasts").inner_text().startswith("order-1042 is exported"))
