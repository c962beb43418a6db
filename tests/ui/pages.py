"""Pages of the dashboard in Chromium."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any, Final, Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from resonate import Resonate
from resonate.server.base import Settings
from resonate.server.running import Server
from tests.server.serving import serving

WAIT: Final = 20_000
"""Milliseconds after which a test gives up on the page."""


@contextlib.contextmanager
def opened(browser: Browser, width: int = 1440, scheme: Any = "light", **options: Any) -> Iterator[Page]:
    """A page of that width, at whose end the console must hold no error and no policy have been broken."""
    context = browser.new_context(
        viewport={"width": width, "height": 844}, color_scheme=scheme, accept_downloads=True, **options
    )
    page = context.new_page()
    page.set_default_timeout(WAIT)
    problems: list[str] = []
    page.add_init_script("addEventListener('securitypolicyviolation', e => console.error('policy', e.blockedURI))")
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("dialog", lambda box: problems.append(box.message))
    yield page
    context.close()
    assert not problems, problems


@contextlib.contextmanager
def of_its_own(page: Page, ui: Literal["full", "read-only"] = "full") -> Iterator[tuple[Server, Resonate]]:
    """A server and a client of it, whose page is left before the server goes."""
    with serving(settings=Settings(ui=ui)) as server, Resonate(url=server.url) as client:
        yield server, client
        page.goto("about:blank")


def visit(page: Page, server: Server, screen: str) -> Locator:
    """The content of a screen of that server, once it is there."""
    return go(page, f"{server.url}/ui/", screen)


def go(page: Page, base: str, screen: str) -> Locator:
    """The content of a screen of the dashboard at that address, once it is there."""
    page.goto(f"{base}#/{screen}")
    content = page.locator(f'main[aria-busy="false"][data-screen={json.dumps(screen, ensure_ascii=False)}] > .page')
    content.wait_for()
    return content


def told(page: Page, *states: str) -> None:
    """Wait until the page says that it is live, or one of `states`."""
    expect(page.locator("#live")).to_have_text(re.compile(f"^({'|'.join(states or ('live', 'complete'))})$"))


def confirm(page: Page, label: str) -> None:
    """Press the button of the open dialog and wait until it is gone."""
    box = page.get_by_role("dialog")
    box.get_by_role("button", name=label, exact=True).click()
    expect(box).to_have_count(0)


def result(page: Page, text: str) -> None:
    """Wait until the page says what came of an action."""
    expect(page.locator("#toasts").get_by_text(text)).to_be_visible()


def accessible(page: Page, what: str, *rules: str) -> None:
    """Nothing on the page keeps anybody from using it, as far as axe can tell (by these rules; none: all of them)."""
    found = Axe().run(page, options={"runOnly": list(rules)} if rules else None)
    assert found.violations_count == 0, f"{what}: {found.generate_report()}"
