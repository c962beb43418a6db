"""What HTTP adds to the protocol: paths, methods, sizes, headers, and who is turned away before being read."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from resonate.clock import SettableClock
from resonate.errors import OutcomeUnknown, StorageUnavailable
from resonate.protocol import requests as rq
from resonate.server.auth import Authenticator, BasicUser, BearerToken, Identity
from resonate.server.base import MAX_BODY, Settings
from resonate.server.running import Server
from resonate.storage.memory import MemoryStorage
from tests.server.serving import HOMES, LATER, Client, batch, envelope, promise, raw, read_all, serving

GET_NOBODY = envelope("promise.get", {"id": "nobody"})


@pytest.fixture(scope="module", params=list(HOMES))
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serving(HOMES[request.param]()) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    client = Client(server)
    yield client
    client.close()


# ---- answers ------------------------------------------------------------------------------------


def test_an_answer_is_json_with_the_status_of_its_head(client: Client) -> None:
    status, body, headers = client.http("POST", "/", GET_NOBODY)

    assert status == json.loads(body)["head"]["status"] == 404
    assert headers["content-type"] == "application/json"
    assert isinstance(json.loads(body)["data"], str)


def test_what_was_created_over_one_connection_is_found_over_another(server: Server, client: Client) -> None:
    client.send(rq.PromiseCreate("found", LATER))

    other = Client(server)

    assert other.send(rq.PromiseGet("found")).status == 200
    other.close()


@pytest.mark.parametrize("path", ["/", "/batch"])
@pytest.mark.parametrize("body", [b"", b"{}", GET_NOBODY, batch([GET_NOBODY])])
def test_every_answer_names_the_batch_extension_and_the_clock(path: str, body: bytes, client: Client) -> None:
    before = client.http("POST", "/", GET_NOBODY)[2]["resonate-now"]

    _, _, headers = client.http("POST", path, body)

    assert headers["resonate-batch"] == "1"
    assert int(headers["resonate-now"]) >= int(before)


def test_the_content_type_of_a_request_is_not_looked_at(client: Client) -> None:
    assert client.http("POST", "/", GET_NOBODY, content_type="text/plain")[0] == 404


def test_a_suspend_that_does_not_suspend_is_300_without_a_location() -> None:
    with serving() as server:
        client = Client(server)
        client.send(rq.TaskCreate("p", 60_000, rq.PromiseCreate("w", LATER, tags={"resonate:target": "poll://any@g"})))
        client.send(rq.PromiseCreate("x", LATER, tags={"resonate:external": "true"}))
        client.send(rq.PromiseSettle("x", "resolved"))
        action = {"kind": "promise.register_callback", "head": {}, "data": {"awaited": "x", "awaiter": "w"}}

        status, body, headers = client.http(
            "POST", "/", envelope("task.suspend", {"id": "w", "version": 1, "actions": [action]})
        )
        client.close()

    assert (status, json.loads(body)["data"]) == (300, {"preload": []})
    assert "location" not in headers


# ---- paths and methods ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/batch"])
def test_another_method_is_405_with_an_empty_body(method: str, path: str, client: Client) -> None:
    status, body, _ = client.http(method, path)

    assert (status, body) == (405, b"")


@pytest.mark.parametrize("path", ["/nope", "/health/", "/batch/", "/poll", "/poll/g", "/poll/g/", "/poll/g/a/b", "//"])
def test_an_unknown_path_is_404_with_an_empty_body(path: str, client: Client) -> None:
    status, body, _ = client.http("GET", path)

    assert (status, body) == (404, b"")


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_health_and_readiness_are_empty_answers_to_get(path: str, client: Client) -> None:
    assert client.http("GET", path)[:2] == (200, b"")
    assert client.http("POST", path, b"{}")[:2] == (405, b"")


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/promises", "/schedules/", "/tasks/heartbeat", "/promises/a/b?c=d"])
def test_the_paths_of_older_servers_are_410_with_an_error(method: str, path: str, client: Client) -> None:
    status, body, headers = client.http(method, path, b"{}")

    assert status == 410
    assert headers["content-type"] == "application/json"
    assert "POST /" in json.loads(body)["error"]


# ---- sizes and load -------------------------------------------------------------------------------------


def padded(size: int) -> bytes:
    head = GET_NOBODY[:-1] + b', "padding": "'
    return head + b"x" * (size - len(head) - 2) + b'"}'


@pytest.mark.parametrize("path", ["/", "/batch"])
def test_a_body_above_the_limit_is_413_as_text(path: str, client: Client) -> None:
    status, body, headers = client.http("POST", path, padded(MAX_BODY + 1))

    assert status == 413
    assert headers["content-type"].startswith("text/plain")
    assert str(MAX_BODY) in body.decode()


def test_a_body_of_exactly_the_limit_is_read(client: Client) -> None:
    body = padded(MAX_BODY)

    assert len(body) == MAX_BODY
    assert client.http("POST", "/", body)[0] == 404


def test_a_body_above_the_limit_is_refused_before_it_is_sent(server: Server) -> None:
    with raw(server) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999\r\n\r\n")

        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_a_chunked_body_is_counted_as_it_comes(server: Server) -> None:
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    with raw(server) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(MAX_BODY // 0x10000 + 1):
            connection.sendall(chunk)

        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_a_connection_is_good_for_the_next_request_after_a_body_that_was_too_large(client: Client) -> None:
    client.http("POST", "/", padded(MAX_BODY + 1))

    assert client.http("POST", "/", GET_NOBODY)[0] == 404


class Held(MemoryStorage):
    """Commits when it is let go, or fails as it is told to."""

    immediate = False

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.go = threading.Event()
        self.failure: Exception | None = None

    def commit(self) -> None:
        self.reached.set()
        assert self.go.wait(20)
        if self.failure is not None:
            raise self.failure


def test_more_requests_than_may_wait_are_told_to_come_back() -> None:
    storage = Held()
    with serving(storage, Settings(max_waiting=1)) as server:
        answers: list[int] = []
        first, second = Client(server), Client(server)
        waits = threading.Thread(target=lambda: answers.append(first.send(rq.PromiseCreate("a", LATER)).status))
        waits.start()
        assert storage.reached.wait(20)

        status, body, headers = second.http("POST", "/", envelope("promise.create", promise("b")))
        storage.go.set()
        waits.join()

        assert (status, headers["retry-after"]) == (503, "1")
        assert "Nothing was done" in body.decode()
        assert answers == [200]
        assert second.send(rq.PromiseGet("b")).status == 404
        first.close()
        second.close()


@pytest.mark.parametrize(
    ("failure", "status"),
    [(StorageUnavailable("the disk is full"), 503), (OutcomeUnknown("the disk is gone"), 500)],
    ids=["nothing was written", "nobody knows"],
)
def test_a_storage_that_fails_is_answered_with_what_is_known(failure: Exception, status: int) -> None:
    storage = Held()
    storage.go.set()
    with serving(storage) as server:
        client = Client(server)
        storage.failure = failure

        answer = client.answer(envelope("promise.create", promise("a")))
        storage.failure = None
        client.close()

    got = json.loads(answer[1])
    assert answer[0] == got["head"]["status"] == status
    assert (got["kind"], got["head"]["corrId"]) == ("promise.create", "c")
    assert str(failure.args[0]) in got["data"]


def test_readiness_is_that_of_the_storage_and_health_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resonate.server.app.READY_TIMEOUT", 0.05)
    storage = Held()
    with serving(storage) as server:
        client = Client(server)

        hangs = client.http("GET", "/ready")[0], client.http("GET", "/health")[0]
        storage.failure = StorageUnavailable("the disk is full")
        storage.go.set()
        fails = client.http("GET", "/ready")[:2]
        storage.failure = None
        works = client.http("GET", "/ready")[:2]
        client.close()

    assert (hangs, fails, works) == ((503, 200), (503, b""), (200, b""))


class Broken(MemoryStorage):
    """Has a mistake in it."""

    def due(self, now: int, limit: int) -> list[Any]:
        return []

    def next_due(self) -> int | None:
        return None

    def promises(self, after: str | None = None) -> Any:
        raise ZeroDivisionError("a mistake of ours")


def test_a_mistake_of_ours_is_500_with_the_echo_and_the_next_request_is_served() -> None:
    with serving(Broken()) as server:
        client = Client(server)

        status, body = client.answer(envelope("promise.search", {}))
        after = client.send(rq.PromiseCreate("a", LATER))
        client.close()

    got = json.loads(body)
    assert (status, got["kind"], got["head"]["corrId"]) == (500, "promise.search", "c")
    assert "a mistake of ours" in got["data"]
    assert after.status == 200


# ---- debug, strict, fences ------------------------------------------------------------------------------------


def test_debug_requests_are_403_and_debug_time_is_dropped_unless_enabled() -> None:
    clock = SettableClock(5_000)
    with serving(clock=clock) as server:
        client = Client(server)

        refused = client.ask("debug.snap", {})
        _, created = client.ask("promise.create", promise("a"), **{"resonate:debug_time": 77})
        client.close()

    assert refused[0] == 403
    assert created["promise"]["createdAt"] == 5_000


def test_with_debug_a_request_brings_its_own_instant() -> None:
    with serving(debug=True) as server:
        client = Client(server)

        _, created = client.ask("promise.create", promise("a"), **{"resonate:debug_time": 77})
        client.close()

    assert created["promise"]["createdAt"] == 77


def test_a_strict_server_knows_no_search() -> None:
    with serving(strict=True) as server:
        client = Client(server)

        assert client.ask("promise.search", {})[0] == 501
        client.close()


def test_the_clock_in_the_headers_is_the_service_s() -> None:
    with serving(clock=SettableClock(5_000)) as server:
        client = Client(server)

        assert client.http("POST", "/", GET_NOBODY)[2]["resonate-now"] == "5000"
        client.close()


# ---- CORS -----------------------------------------------------------------------------------------------------


def preflight(client: Client, origin: str) -> tuple[int, dict[str, str]]:
    status, _, headers = client.http(
        "OPTIONS",
        "/",
        origin=origin,
        access_control_request_method="POST",
        access_control_request_headers="content-type",
    )
    return status, headers


def test_pages_of_configured_origins_may_ask_and_others_may_not() -> None:
    with serving(settings=Settings(cors_origins=("https://a.test",))) as server:
        client = Client(server)

        status, headers = preflight(client, "https://a.test")
        assert (status, headers["access-control-allow-origin"]) == (200, "https://a.test")
        assert "POST" in headers["access-control-allow-methods"]
        assert "origin" in headers["vary"].lower()
        assert "access-control-allow-origin" not in preflight(client, "https://b.test")[1]

        status, _, headers = client.http("POST", "/", GET_NOBODY, origin="https://a.test")
        assert (status, headers["access-control-allow-origin"]) == (404, "https://a.test")
        client.close()


def test_a_star_lets_every_page_ask() -> None:
    with serving(settings=Settings(cors_origins=("*",))) as server:
        client = Client(server)

        status, headers = preflight(client, "https://anybody.test")
        client.close()

    assert (status, headers["access-control-allow-origin"]) == (200, "*")


def test_without_origins_no_answer_speaks_of_cors(client: Client) -> None:
    _, _, headers = client.http("POST", "/", GET_NOBODY, origin="https://a.test")

    assert [name for name in headers if name.startswith("access-control")] == []


# ---- who asks -----------------------------------------------------------------------------------------------


AUTH = Authenticator(
    tokens=[
        BearerToken("all", Identity("all", prefix="")),
        BearerToken("some", Identity("some", prefix="a", groups=("mine",))),
        BearerToken("admin", Identity("admin", role="admin")),
    ],
    users=[BasicUser("u", "p", Identity("u", prefix=""))],
)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    with serving(settings=Settings(auth=AUTH), debug=True) as server:
        yield server


ORDER: list[tuple[str, bytes, int, str]] = [
    ("no envelope comes before the token", b"[]", 400, "Invalid request envelope"),
    ("the version comes before the token", envelope("promise.get", {"id": "a"}, version="x"), 400, "head.version"),
    ("no token", envelope("promise.get", {"id": "a"}), 401, "Unauthorized"),
    ("a wrong token", envelope("promise.get", {"id": "a"}, auth="?"), 401, "Unauthorized"),
    ("an unknown kind without a token", envelope("nope", {}), 401, "Unauthorized"),
    ("an unknown kind with a token for everything", envelope("nope", {}, auth="all"), 400, "Unknown operation"),
    ("an unknown kind with a token for some", envelope("nope", {}, auth="some"), 403, "Forbidden"),
    ("an id outside of the prefix", envelope("promise.get", {"id": "b"}, auth="some"), 403, "Forbidden"),
    ("wrong fields with a token", envelope("promise.get", {"id": 5}, auth="some"), 400, "Invalid request"),
    ("a broken rule with a token", envelope("promise.get", {"id": ""}, auth="all"), 400, "must not be empty"),
    ("debug with a token for everything", envelope("debug.snap", {}, auth="all"), 403, "Forbidden"),
    ("a missing promise with a token", envelope("promise.get", {"id": "a"}, auth="some"), 404, "not found"),
]


@pytest.mark.parametrize(("body", "status", "text"), [row[1:] for row in ORDER], ids=[row[0] for row in ORDER])
def test_the_token_has_its_place_among_the_checks(guarded: Server, body: bytes, status: int, text: str) -> None:
    client = Client(guarded)

    got, reply, _ = client.http("POST", "/", body)
    (inner,) = client.batch([body])
    client.close()

    assert (got, inner["head"]["status"]) == (status, status)
    assert text in json.loads(reply)["data"]
    assert text in inner["data"]


@pytest.mark.parametrize(
    ("header", "auth", "status"),
    [
        ("Bearer all", None, 404),
        ("bearer all", None, 404),
        ("Basic dTpw", None, 404),
        ("Bearer ?", None, 401),
        ("Bearer all", "?", 401),
        ("Bearer ?", "all", 404),
    ],
)
def test_the_head_counts_before_the_header(guarded: Server, header: str, auth: str | None, status: int) -> None:
    client = Client(guarded)
    head = {} if auth is None else {"auth": auth}
    body = envelope("promise.get", {"id": "nobody"}, **head)

    got = client.http("POST", "/", body, authorization=header)[0]
    (inner,) = client.batch([body], authorization=header)
    client.close()

    assert (got, inner["head"]["status"]) == (status, status)


def test_a_search_shows_only_what_its_token_may_see(guarded: Server) -> None:
    client = Client(guarded)
    for id in ("a1", "b1"):
        assert client.ask("promise.create", promise(id), auth="all")[0] == 200

    _, found = client.ask("promise.search", {}, auth="some")
    client.close()

    assert [each["id"] for each in found["promises"]] == ["a1"]


def test_only_an_admin_may_use_debug_requests(guarded: Server) -> None:
    client = Client(guarded)

    assert client.ask("debug.snap", {}, auth="admin")[0] == 200
    client.close()


def test_health_and_readiness_need_no_token(guarded: Server) -> None:
    client = Client(guarded)

    assert [client.http("GET", path)[0] for path in ("/health", "/ready")] == [200, 200]
    client.close()


def test_a_request_line_that_is_no_http_is_400_and_the_connection_ends(server: Server) -> None:
    with raw(server) as connection:
        connection.sendall(b"what is this\r\n\r\n")

        assert read_all(connection).startswith(b"HTTP/1.1 400 ")
