"""Pages of other sites in a browser that reaches the server: what they cannot have it do."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import uvicorn

from resonate.server.auth import Authenticator, BearerToken, Identity
from resonate.server.base import Settings
from resonate.server.build import open_server
from resonate.server.config import resolve
from resonate.server.running import Server
from resonate.ui import app
from resonate.ui.browsers import Guard
from tests.server.serving import PATIENCE, Client, batch, envelope, promise, serving

CREATE = envelope("promise.create", promise("stolen"))

OTHER_SITES: list[dict[str, str]] = [
    {"Origin": "https://evil.test", "Content-Type": "text/plain"},
    {"Origin": "null", "Content-Type": "application/x-www-form-urlencoded"},
    {"Origin": "http://127.0.0.1:1"},  # another port is another site
    {"Origin": "http://127.0.0.1.evil.test"},
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site", "Content-Type": "multipart/form-data"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "https://evil.test", "Sec-Fetch-Site": "same-origin"},
]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(settings=Settings(ui="full")) as running:
        yield running


def ask(server: Server, method: str, path: str, body: bytes | None, /, **headers: str) -> int:
    """The status; the answer, which may be a stream, is left."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    with closing(connection):
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, sent)
        return connection.getresponse().status


def known(server: Server, id: str) -> bool:
    with closing(Client(server)) as client:
        return client.ask("promise.get", {"id": id})[0] == 200


@pytest.mark.parametrize("headers", OTHER_SITES, ids=str)
def test_a_page_of_another_site_changes_nothing(headers: dict[str, str], server: Server) -> None:
    assert ask(server, "POST", "/", CREATE, **headers) == 403
    assert ask(server, "POST", "/batch", batch([CREATE]), **headers) == 403
    assert ask(server, "POST", "/ui/api/act/cancel", b"{}", resonate_action="1", **headers) == 403
    assert not known(server, "stolen")


@pytest.mark.parametrize("headers", OTHER_SITES, ids=str)
def test_a_page_of_another_site_takes_no_messages_and_reads_no_screen(headers: dict[str, str], server: Server) -> None:
    assert ask(server, "GET", "/poll/default/x", None, **headers) == 403
    assert ask(server, "GET", "/ui/api/executions", None, **headers) == 403
    assert ask(server, "GET", "/ui/api/live/executions", None, **headers) == 403
    assert server.app.hub.listeners() == {}


def test_programs_and_our_own_page_are_let_in(server: Server) -> None:
    own = f"http://127.0.0.1:{server.port}"

    assert ask(server, "POST", "/", CREATE) == 200
    assert ask(server, "POST", "/", CREATE, Origin=own, Sec_Fetch_Site="same-origin") == 200
    assert ask(server, "POST", "/", CREATE, Sec_Fetch_Site="none") == 200
    assert ask(server, "GET", "/ui/", None, Sec_Fetch_Site="cross-site") == 200  # a link to the page may be anywhere


def test_a_site_that_is_allowed_may_ask() -> None:
    with serving(settings=Settings(cors_origins=("https://app.test",))) as server:
        assert ask(server, "POST", "/", CREATE, Origin="https://app.test", Sec_Fetch_Site="cross-site") == 200
        assert ask(server, "POST", "/", CREATE, Origin="https://app.test.evil.test") == 403
        assert ask(server, "POST", "/", CREATE, Origin="http://app.test") == 403
    with serving(settings=Settings(cors_origins=("*",))) as server:
        assert ask(server, "POST", "/", CREATE, Origin="https://evil.test") == 200


REBOUND = ["evil.test", "evil.test:8001", "127.0.0.1.evil.test", "localhost.evil.test", "[evil.test]", "127.1", ""]
OWN_NAMES = ["localhost", "LOCALHOST:8001", "127.0.0.1:8001", "[::1]:8001", "a.localhost", "10.1.2.3", "localhost."]


@pytest.mark.parametrize("host", REBOUND)
def test_a_name_that_suddenly_means_this_machine_reaches_nothing(host: str, server: Server) -> None:
    for method, path, body in [
        ("POST", "/", CREATE),
        ("GET", "/ui/", None),
        ("GET", "/ui/api/executions", None),
        ("GET", "/poll/g/a", None),
        ("GET", "/ready", None),
    ]:
        assert ask(server, method, path, body, Host=host, Origin=f"http://{host}") == 403


@pytest.mark.parametrize("host", OWN_NAMES)
def test_addresses_and_localhost_are_our_names(host: str, server: Server) -> None:
    assert ask(server, "POST", "/", CREATE, Host=host) == 200


def test_two_hosts_in_one_request_are_none() -> None:
    guard = Guard(())

    assert guard.problem([(b"host", b"localhost"), (b"host", b"evil.test")], open=True) is not None
    assert guard.problem([(b"host", b"evil.test"), (b"host", b"localhost")], open=True) is not None


def test_the_servers_own_name_and_url_are_known(tmp_path: Path) -> None:
    flags = {
        "url": "memory",
        "server.host": "state.internal",
        "server.url": "https://public.test/x",
        "server.port": 0,
        "observability.metrics_port": 0,
    }
    with open_server(resolve(flags, {}, directory=str(tmp_path))) as (server, _):
        assert server.app.settings.hosts == ("state.internal", "public.test")


def test_where_tokens_are_asked_for_or_others_reach_it_any_name_is_right(tmp_path: Path) -> None:
    token = {"auth.tokens": '[{"secret": "s", "role": "admin"}]'}
    common = {"url": "memory", "server.port": 0, "observability.metrics_port": 0}
    environment = {"RESONATE_AUTH__TOKENS": token["auth.tokens"]}
    with open_server(resolve(common, environment, directory=str(tmp_path))) as (server, _):
        assert server.app.settings.hosts is None
    with open_server(resolve({**common, "server.bind": "0.0.0.0"}, {}, directory=str(tmp_path))) as (server, _):
        assert server.app.settings.hosts is None


def test_tokens_that_anybody_can_make_guard_nothing(tmp_path: Path) -> None:
    unchecked = {"RESONATE_AUTH__PUBLICKEY": "none"}
    common = {"url": "memory", "server.port": 0, "observability.metrics_port": 0}
    with open_server(resolve(common, unchecked, directory=str(tmp_path))) as (server, _):
        assert server.app.settings.hosts is not None
    exposed = {**common, "server.bind": "0.0.0.0"}
    with open_server(resolve(exposed, unchecked, directory=str(tmp_path))) as (server, _):
        assert server.app.settings.ui is None


def test_a_guarded_server_refuses_other_sites_too() -> None:
    auth = Authenticator(tokens=[BearerToken("t", Identity("t", role="admin"))])
    with serving(settings=Settings(auth=auth, ui="full")) as server:
        assert ask(server, "POST", "/", CREATE, Origin="https://evil.test", Authorization="Bearer t") == 403
        assert ask(server, "POST", "/", CREATE, Host="any.test", Authorization="Bearer t") == 200


def test_the_dashboard_by_itself_is_not_reached_by_other_sites_and_names(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    page = app(url, hosts=())
    config = uvicorn.Config(page, host="127.0.0.1", port=0, log_level="error", lifespan="off")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    try:
        while not running.started:
            thread.join(0.01)
        port = running.servers[0].sockets[0].getsockname()[1]

        def get(**headers: str) -> int:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
            with closing(connection):
                connection.request("GET", "/api/about", headers={n.replace("_", "-"): v for n, v in headers.items()})
                return connection.getresponse().status

        assert get() == 200
        assert get(Host=f"evil.test:{port}") == 403
        assert get(Sec_Fetch_Site="cross-site") == 403
    finally:
        running.should_exit = True
        thread.join()
        page.close()


def test_an_answer_to_another_site_tells_nothing(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    with closing(connection):
        connection.request("POST", "/", CREATE, {"Origin": "https://evil.test"})
        answer = connection.getresponse()
        body = answer.read()
    assert "access-control-allow-origin" not in {name.lower() for name in answer.headers}
    assert b"stolen" not in body
