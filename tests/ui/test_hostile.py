"""What is stored is shown as text, whatever it holds: in payloads, ids, names, tags, groups, errors, schedules."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from resonate import Context
from resonate.retry_policies import Never
from resonate.server.base import Settings
from resonate.ui import screens
from tests.server.serving import serving
from tests.ui.filled import HOSTILE
from tests.ui.pages import of_its_own, visit

pytestmark = pytest.mark.slow

MARK = "<script>alert(1)</script>"
ID = f"a/b?c=d&e#f %41 ü\"'{HOSTILE}"


ATTACKS = """async (hostile) => {
  const broken = [], refused = [];
  const heard = (event) => { broken.push(event.effectiveDirective); event.stopImmediatePropagation(); };
  document.addEventListener("securitypolicyviolation", heard, true);
  const attempt = (name, work) => { try { work(); } catch { refused.push(name); } };
  await new Promise((go) => setTimeout(go)); // what a debugger runs itself may evaluate
  attempt("markup", () => { document.createElement("div").innerHTML = hostile; });
  attempt("evaluated", () => Function("return 1")());
  const script = document.createElement("script");
  attempt("script", () => { script.textContent = "window.ran = true"; });
  const styled = document.createElement("p");
  styled.setAttribute("style", "color: red");
  document.body.append(script, styled);
  await fetch("http://127.0.0.1:9/").catch(() => refused.push("host"));
  await new Promise((go) => setTimeout(go, 200));
  return { refused, broken, ran: window.ran ?? false, coloured: getComputedStyle(styled).color };
}"""


def fail(ctx: Context, text: str) -> None:
    raise ValueError(f"{HOSTILE} {text}")


def test_nothing_that_is_stored_becomes_markup(page: Page) -> None:
    with of_its_own(page) as (server, client):
        client.register(fail, name=f"fail {MARK}")
        tags = {HOSTILE: MARK, "plain": HOSTILE}
        with pytest.raises(ValueError, match="onerror"):
            client.options(tags=tags, retry_policy=Never()).run(ID, f"fail {MARK}", MARK)
        client.options(target=MARK).begin_rpc("lost", "nobody", MARK)
        client.promises.create(f"p {HOSTILE}", 10**14, tags={"x": MARK})
        client.promises.create("javascript:alert(1)//", 10**14)
        client.schedule(f"s {HOSTILE}", f"fail {MARK}", "0 3 * * *", MARK)

        for screen in ("executions", "groups", "schedules", "failures"):
            content = visit(page, server, screen)
            expect(content).to_contain_text("alert(1)")
            assert content.locator("img, script").count() == 0, screen
        visit(page, server, "executions?prefix=a%2Fb")
        page.locator("[data-row]").click()
        expect(page.locator(".crumbs span.id")).to_have_text(ID)
        expect(page.locator(".summary .badge")).to_contain_text("failed")
        details = page.get_by_role("complementary")
        for text in (MARK, HOSTILE, "raise ValueError"):
            expect(details).to_contain_text(text)
        page.get_by_role("button", name="Begin again").click()
        expect(page.get_by_role("dialog")).to_contain_text(HOSTILE)
        assert page.locator("main img, main script, dialog img").count() == 0
        for id in (f"p {HOSTILE}", "javascript:alert(1)//"):
            visit(page, server, f"execution/{quote(id, safe='')}")
            expect(page.locator(".crumbs span.id")).to_have_text(id)
        assert page.locator("a[href^='javascript']").count() == 0


def test_an_id_is_seen_as_it_is(page: Page) -> None:
    with of_its_own(page) as (server, client):
        for id in ("pay-\u202e0001", " ", "👩\u200d💻"):
            client.options(target="nobody").begin_rpc(id, "lost")

        visit(page, server, "executions")

        expect(page.locator("[data-row] .id")).to_have_text(["👩\u200d💻", '" "', "pay-\\u202e0001"])
        page.locator("[data-row]").last.click()
        expect(page.locator(".crumbs span.id")).to_have_text("pay-\\u202e0001")


def test_what_a_page_did_not_bring_cannot_run(browser: Browser) -> None:
    """The policy holds: markup, inline code, evaluated code and other hosts are refused by the browser."""
    with serving(settings=Settings(ui="full")) as server:
        page = browser.new_page()  # one that may say on its console what was refused
        visit(page, server, "executions")
        found = page.evaluate(ATTACKS, HOSTILE)
        page.close()

        assert set(found["refused"]) == {"markup", "evaluated", "script", "host"}
        assert not found["ran"]
        assert found["coloured"] != "rgb(255, 0, 0)"
        assert {"connect-src", "style-src-attr"} <= set(found["broken"])


def test_what_is_long_is_cut_and_does_not_widen_the_page(page: Page) -> None:
    with of_its_own(page) as (server, client):
        id = "long-" + "x" * 900
        client.promises.create(id, 10**14, tags={"y" * 500: "z" * 500})
        client.promises.resolve(id, data=json.dumps("w" * 1_000_000))
        visit(page, server, f"execution/{id}")

        expect(page.get_by_label("Output", exact=True)).to_contain_text("more characters")
        assert len(page.get_by_label("Output", exact=True).inner_text()) < screens.SHOWN + 100
        assert page.evaluate("document.documentElement.scrollWidth") <= 1440
