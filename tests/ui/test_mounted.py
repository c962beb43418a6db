"""The dashboard inside applications of other people, under any path, and with values that only they can read."""

from __future__ import annotations

import base64
import contextlib
import json
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

import resonate.ui
from resonate import Context, Resonate
from resonate.encoders import CombinedEncoder, JsonEncoder
from resonate.errors import UsageError
from tests.ui.filled import refund, until
from tests.ui.pages import accessible, confirm, go, opened

pytestmark = pytest.mark.slow


class Mirror:
    """Stands for a cipher: text backwards, marked."""

    def encode(self, obj: str | None) -> str | None:
        return None if obj is None else f"secret:{obj[::-1]}"

    def decode(self, obj: str | None) -> str | None:
        if obj is None:
            return None
        if not obj.startswith("secret:"):
            raise ValueError("not mine")
        return obj.removeprefix("secret:")[::-1]


SECRET: Any = CombinedEncoder(JsonEncoder(), Mirror())


@contextlib.contextmanager
def served(app: ASGIApp) -> Iterator[str]:
    """Where an application is served by uvicorn."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/app.db"


def shout(ctx: Context, text: str) -> str:
    return text.upper()


def begun(client: Resonate) -> None:
    """A refund that waits to be approved."""
    handle = client.begin_run("refund-1", refund, 120)
    until(lambda: any(call.kind == "promise" for call in handle.tree().calls))


def by_hand(page: ASGIApp) -> ASGIApp:
    """An application that hands requests on by itself, as one of Django does in its asgi.py."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/admin/resonate"):
            await page({**scope, "root_path": "/admin/resonate"}, receive, send)

    return app


@pytest.mark.parametrize(
    ("wrap", "path"),
    [
        (lambda page: Starlette(routes=[Mount("/resonate", page)]), "/resonate"),
        (lambda page: Starlette(routes=[Mount("/a", routes=[Mount("/b", page)])]), "/a/b"),
        (by_hand, "/admin/resonate"),
        (lambda page: page, ""),
    ],
    ids=["mounted", "nested", "by hand", "alone"],
)
def test_it_works_under_any_path(page: Page, url: str, wrap: Any, path: str) -> None:
    dashboard = resonate.ui.app(url)
    with Resonate(url=url) as client, served(wrap(dashboard)) as base:
        client.register(refund)
        begun(client)
        with urllib.request.urlopen(f"{base}{path}") as answer:
            assert not path or answer.url == f"{base}{path}/"  # led to where its files lie beside it

        go(page, f"{base}{path}/", "executions").get_by_text("refund-1").click()
        page.get_by_role("region", name="Why it waits").get_by_role("button", name="Settle it").click()
        page.get_by_role("button", name="true", exact=True).click()
        confirm(page, "Settle")

        expect(page.locator(".summary .badge")).to_contain_text("succeeded")
        assert client.get("refund-1").result() == {"refunded": 120, "approved": True}
        page.goto("about:blank")
    dashboard.close()


def test_values_of_an_encoder_are_shown_and_written_by_its_key(page: Page, url: str) -> None:
    dashboard = resonate.ui.app(url, encoder=SECRET)
    with Resonate(url=url) as client, served(dashboard) as base:
        client.register(refund)
        client.register(shout)
        client.options(encoder=SECRET).run("plain", shout, "cleartext")
        client.options(encoder=SECRET).promises.create("ask", 10**14)
        stored = client.get("plain").status()
        assert "cleartext" not in json.dumps([stored.input, stored.output])

        go(page, f"{base}/", "execution/plain")
        expect(page.get_by_label("Called with", exact=True)).to_contain_text('"cleartext"')
        expect(page.get_by_label("Output", exact=True)).to_contain_text('"CLEARTEXT"')
        go(page, f"{base}/", "execution/ask")
        page.locator(".summary").get_by_role("button", name="Settle…").click()
        page.get_by_label("Value, as JSON").fill('"granted"')
        confirm(page, "Settle")
        expect(page.get_by_label("Output", exact=True)).to_contain_text('"granted"')

        assert str(client.get("ask").status().output) == 'secret:"detnarg"'
        page.goto("about:blank")
    dashboard.close()


@contextlib.contextmanager
def codec(origin: list[str]) -> Iterator[tuple[str, list[Any]]]:
    """A decoder of somebody's, and what it was asked."""
    asked: list[Any] = []

    class Codec(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None: ...

        def answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("access-control-allow-origin", origin[0])
            self.send_header("access-control-allow-credentials", "true")
            self.send_header("access-control-allow-headers", "content-type")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_OPTIONS(self) -> None:
            self.answer(b"")

        def do_POST(self) -> None:
            found = json.loads(self.rfile.read(int(self.headers["content-length"])))["values"]
            asked.extend(found)
            values = [SECRET.decode(base64.b64decode(value["data"]).decode()) for value in found]
            self.answer(json.dumps({"values": values}).encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Codec)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/decode", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_decoder_of_the_users_is_asked_by_the_page_alone(browser: Browser, url: str) -> None:
    origin = [""]
    with Resonate(url=url) as client, codec(origin) as (decoder, asked):
        client.register(shout)
        client.options(encoder=SECRET).run("plain", shout, "cleartext")
        dashboard = resonate.ui.app(url, decoder=decoder)
        with served(dashboard) as base, opened(browser) as page:
            origin[0] = base
            go(page, f"{base}/", "execution/plain")

            expect(page.get_by_label("Called with", exact=True)).to_contain_text('"cleartext"')
            expect(page.get_by_label("Output", exact=True)).to_contain_text('"CLEARTEXT"')
            accessible(page, "decoded")
            assert len(asked) == 2
            page.goto("about:blank")
        dashboard.close()


def test_a_decoder_that_does_not_answer_leaves_what_is_stored(browser: Browser, url: str) -> None:
    with Resonate(url=url) as client:
        client.register(shout)
        client.options(encoder=SECRET).run("plain", shout, "cleartext")
        dashboard = resonate.ui.app(url, decoder="http://127.0.0.1:9/decode")
        with served(dashboard) as base:
            page = browser.new_page()
            go(page, f"{base}/", "execution/plain")

            expect(page.get_by_role("alert")).to_contain_text("http://127.0.0.1:9/decode cannot be reached")
            expect(page.get_by_label("Output, as stored", exact=True)).to_contain_text(
                base64.b64encode(b"secret:").decode()[:8]
            )
            page.close()
        dashboard.close()


@pytest.mark.parametrize("decoder", ["codec.example.com", "ftp://codec.example.com", "https://a b/", "https://*/", "x"])
def test_a_decoder_has_to_be_a_url(url: str, decoder: str) -> None:
    with pytest.raises(UsageError, match="decoder has to be a URL"):
        resonate.ui.app(url, decoder=decoder)


PROGRAM = """
import sys, uvicorn, resonate.ui
from starlette.applications import Starlette
from starlette.routing import Mount
app = Starlette(routes=[Mount("/resonate", resonate.ui.app(sys.argv[1]))])
class Told(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print(self.servers[0].sockets[0].getsockname()[1], flush=True)
Told(uvicorn.Config(app, port=0, log_level="error")).run()
"""


def test_an_application_ends_while_pages_are_open(url: str) -> None:
    with (
        Resonate(url=url) as client,
        subprocess.Popen([sys.executable, "-c", PROGRAM, url], stdout=subprocess.PIPE, text=True) as process,
    ):
        client.promises.create("p", 10**14)
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/resonate/api/live/executions", timeout=20) as answer:
                assert answer.readline().startswith(b"retry:")
                process.send_signal(signal.SIGINT)
                answer.read()
            process.wait(20)
        finally:
            process.kill()
    assert process.returncode in (0, -signal.SIGINT, 130)
