"""Two tenants of one server, each with a token for a prefix: what one can see, take and change of the other's."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import closing

import pytest
from starlette.routing import BaseRoute, Mount, Route

from resonate.protocol import transfer, wire
from resonate.protocol.requests import (
    ExecutionCount,
    ExecutionFailures,
    ExecutionSearch,
    ExecutionTree,
    GroupSearch,
    PromiseSearch,
    Request,
    ScheduleSearch,
    TaskSearch,
)
from resonate.protocol.shapes import READERS
from resonate.server.auth import Authenticator, BasicUser, BearerToken, Identity
from resonate.server.base import Settings
from resonate.server.running import Server
from resonate.storage import executions
from resonate.ui import actions
from tests.server.serving import LATER, Client, Json, Listener, envelope, promise, serving
from tests.server.test_permissions import NAMING

ANN, BOB, ROOT, NOBODY = "Bearer ann", "Bearer bob", "Bearer root", "Bearer nobody"
AUTH = Authenticator(
    tokens=[
        BearerToken("ann", Identity("ann", prefix="ann.")),
        BearerToken("bob", Identity("bob", prefix="bob.")),
        BearerToken("root", Identity("root", role="admin")),
        BearerToken("nobody", Identity("nobody")),
    ],
    users=[BasicUser("ann", "pw", Identity("ann", prefix="ann."))],
)


@contextlib.contextmanager
def two_tenants() -> Iterator[Server]:
    with serving(settings=Settings(auth=AUTH, ui="full"), debug=True) as running:
        with closing(Client(running)) as client:
            for tenant in ("ann", "bob"):
                root = {"resonate:scope": "global", "secret": tenant}
                at = f"{tenant}.1"
                ask(client, ROOT, "promise.create", promise(at, "poll://any@g", **root))
                done = {"id": f"{tenant}.2", "state": "resolved", "value": {"data": "c2VjcmV0"}}
                ask(client, ROOT, "promise.create", promise(f"{tenant}.2", "poll://any@g"))
                ask(client, ROOT, "promise.settle", done)
                plan: Json = {"id": f"{tenant}.plan", "cron": "0 0 1 1 *", "promiseId": f"{tenant}.{{{{.timestamp}}}}"}
                plan |= {"promiseTimeout": 1, "promiseTags": {"resonate:target": "poll://any@g"}}
                ask(client, ROOT, "schedule.create", plan)
        yield running


@pytest.fixture
def server() -> Iterator[Server]:
    with two_tenants() as running:
        yield running


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    """For tests that change nothing."""
    with two_tenants() as running:
        yield running


def ask(client: Client, token: str | None, kind: str, data: Json) -> tuple[int, Json]:
    headers = {} if token is None else {"authorization": token}
    status, body, _ = client.http("POST", "/", envelope(kind, data), **headers)
    return status, json.loads(body)["data"]


def snapshot(server: Server) -> Json:
    """All that is stored, but for when and to whom tasks are offered: that goes on by itself."""
    with closing(Client(server)) as client:
        found = ask(client, ROOT, "debug.snap", {})[1]
    return {name: rows for name, rows in found.items() if name not in ("messages", "taskTimeouts")}


# ---- each kind of request and each path has its line ---------------------------------------------------------------

PATHS: dict[tuple[str, str], tuple[str, int, int, int]] = {
    # (method, path): what is sent, and the status without a token, with a foreign one, with one that may
    ("POST", "/"): ("envelope", 401, 403, 200),
    ("POST", "/batch"): ("batch", 200, 200, 200),  # each request in it is answered by itself, see below
    ("POST", "/trees/import"): ("tree", 401, 403, 200),
    ("POST", "/trees/purge"): ("purge", 401, 403, 200),
    ("GET", "/poll/{rest:path}"): ("/poll/g/x", 401, 200, 200),  # and gets messages of its own ids only
    ("GET", "/health"): ("/health", 200, 200, 200),
    ("GET", "/ready"): ("/ready", 200, 200, 200),
    ("GET", "/ui"): ("/ui", 307, 307, 307),
    ("GET", "/ui/{name:path}"): ("/ui/", 200, 200, 200),  # the page without anything in it
    ("GET", "/ui/api/{screen}"): ("/ui/api/call?id=ann.2", 401, 403, 200),
    ("GET", "/ui/api/live/{screen}"): ("/ui/api/live/call?id=ann.2", 401, 403, 200),
    ("POST", "/ui/api/act/{action}"): ("cancel", 401, 403, 200),
    **{
        ("*", path): (path.replace("{rest:path}", "x"), 410, 410, 410)
        for base in ("promises", "schedules", "tasks")
        for path in (f"/{base}", f"/{base}/{{rest:path}}")
    },
}


def routes(found: list[BaseRoute], above: str = "") -> Iterator[tuple[str, str]]:
    for route in found:
        if isinstance(route, Mount):
            yield from routes(list(route.routes), above + route.path)
        elif isinstance(route, Route):
            for method in sorted((route.methods or {"*"}) - {"HEAD"}):
                yield method, above + route.path
        else:
            pytest.fail(f"a route of an unknown kind: {route}")


def test_every_path_has_a_line_here(shared: Server) -> None:
    assert set(routes(shared.app.routes)) == set(PATHS)


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_a_path_gives_each_token_what_its_line_says(method: str, path: str, server: Server) -> None:
    what, *expected = PATHS[method, path]
    for token, status in zip((None, BOB, ANN), expected, strict=True):
        assert called(server, "GET" if method == "*" else method, path, what, token) == status, token


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/", b"{", 400),
        ("POST", "/", b'{"kind":"promise.get"}', 400),
        ("POST", "/batch", b"{}", 400),
        ("GET", "/nothing", None, 404),
        ("GET", "/poll/g", None, 404),
        ("GET", "/", None, 405),
        ("POST", "/poll/g/x", None, 405),
        ("GET", "/promises/ann.2", None, 410),
    ],
)
def test_what_is_no_request_is_answered_alike_to_everybody(
    method: str, path: str, body: bytes | None, status: int, shared: Server
) -> None:
    answers = []
    for token in (None, BOB, ROOT):
        with closing(Client(shared)) as client:
            client.connection.request(method, path, body, {} if token is None else {"authorization": token})
            answer = client.connection.getresponse()
            answers.append((answer.status, answer.read()))

    assert answers == [(status, answers[0][1])] * 3


def called(server: Server, method: str, path: str, what: str, token: str | None) -> int:
    bodies: dict[str, tuple[str, bytes]] = {
        "envelope": ("/", envelope("promise.get", {"id": "ann.2"})),
        "batch": ("/batch", b'{"requests":[' + envelope("promise.get", {"id": "ann.2"}) + b"]}"),
        "tree": ("/trees/import", transfer.dump(tree("ann.new"))),
        "purge": ("/trees/purge", b'{"id":"ann.2"}'),
        "cancel": ("/ui/api/act/cancel", b'{"id":"ann.1"}'),
    }
    url, body = bodies.get(what, (what, None))
    headers = {"resonate-action": "1"} | ({} if token is None else {"authorization": token})
    with closing(Client(server)) as client:
        client.connection.request(method, url, body, headers)
        answer = client.connection.getresponse()
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            answer.close()
        else:
            answer.read()
        return answer.status


def tree(id: str) -> transfer.Tree:
    one: Json = {"id": id, "state": "pending", "param": {}, "value": {}, "tags": {}, "timeoutAt": LATER, "createdAt": 1}
    found: Json = {"format": transfer.FORMAT, "root": id, "exportedAt": 1, "promises": [one]}
    return transfer.load(json.dumps(found).encode())


def test_a_request_in_a_batch_is_judged_as_it_would_be_alone(shared: Server) -> None:
    with closing(Client(shared)) as client:
        requests = [envelope("promise.get", {"id": id}) for id in ("bob.2", "ann.2", "bob.2")]
        for token, statuses in ((BOB, [200, 403, 200]), (None, [401] * 3), (ROOT, [200] * 3)):
            headers = {} if token is None else {"authorization": token}
            assert [each["head"]["status"] for each in client.batch(requests, None, **headers)] == statuses
        own = [envelope("promise.get", {"id": "ann.2"}, auth=name) for name in ("ann", "bob")]
        assert [each["head"]["status"] for each in client.batch(own)] == [200, 403]


NARROWED: dict[str, tuple[Request, int]] = {
    # what names nothing is narrowed to the prefix, or refused: the request, and its status with a prefix
    "promise.search": (PromiseSearch(), 200),
    "task.search": (TaskSearch(), 200),
    "schedule.search": (ScheduleSearch(), 200),
    "execution.search": (ExecutionSearch(), 200),
    "execution.count": (ExecutionCount(), 200),
    "execution.tree": (ExecutionTree("bob.1"), 200),
    "execution.failures": (ExecutionFailures(), 501),
    "group.search": (GroupSearch(), 501),
}
KINDS = {*(name.partition(" ")[0] for name in NAMING), *NARROWED}
DEBUG = {kind for kind in READERS if kind.startswith("debug.")}


def test_every_kind_of_request_has_a_line_here() -> None:
    assert set(READERS) == KINDS | DEBUG


@pytest.mark.parametrize("kind", NARROWED)
def test_what_names_no_id_tells_of_ones_own_only(kind: str, shared: Server) -> None:
    request, expected = NARROWED[kind]
    body = wire.encode_request(request, "c")
    with closing(Client(shared)) as client:
        everything = client.http("POST", "/", body, authorization=ROOT)[1]
        for token, status in ((BOB, expected), (NOBODY, 403), (None, 401)):
            headers = {} if token is None else {"authorization": token}
            found, answer, _ = client.http("POST", "/", body, **headers)
            assert found == status
            assert b"ann" not in answer
        if kind not in ("execution.tree", "execution.count", "execution.failures", "group.search"):
            assert b"ann" in everything
        if kind == "execution.count":
            counts = [json.loads(each)["data"]["counts"][""] for each in (everything, ask_raw(client, BOB, body))]
            assert sum(counts[0].values()) == 2 * sum(counts[1].values()) > 0


def ask_raw(client: Client, token: str, body: bytes) -> bytes:
    return client.http("POST", "/", body, authorization=token)[1]


def test_no_cursor_of_executions_tells_of_another_tenants(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, few in (("EXAMINED", 3), ("CHUNK", 2), ("SORTED", 0)):
        monkeypatch.setattr(executions, name, few)
    with closing(Client(server)) as client:
        own = {f"bob.{number:02}" for number in range(10, 20)}
        for id in sorted(own | {f"{name}.{number}" for name in ("ann", "zoe") for number in range(20)}):
            ask(client, ROOT, "promise.create", promise(id, "poll://any@g", **{"resonate:scope": "global"}))
        seen: list[str] = []
        cursor = None
        for _ in range(200):
            answer = json.loads(ask_raw(client, BOB, wire.encode_request(ExecutionSearch(limit=2, cursor=cursor), "c")))
            seen += [each["id"] for each in answer["data"]["promises"]]
            cursor = answer["data"].get("cursor")
            if cursor is None:
                break
            assert "ann" not in cursor
            assert "zoe" not in cursor
    assert own <= set(seen)
    assert len(seen) == len(set(seen))
    assert all(id.startswith("bob.") for id in seen)


READER = Identity("reader", role="reader", prefix="ann.")


@pytest.mark.parametrize("name", sorted(NAMING))
def test_a_reader_changes_nothing(name: str) -> None:
    count, make = NAMING[name]
    request = make(*(f"ann.{number}" for number in range(count)))

    assert AUTH.permit(READER, request) == (name in ("promise.get", "task.get", "schedule.get", "execution.tree"))
    assert not READER.may_poll("g")  # whoever is given an offer keeps it from others


@pytest.mark.parametrize("name", sorted(NAMING))
def test_no_kind_of_request_reaches_what_is_not_ones_own(name: str, shared: Server) -> None:
    count, make = NAMING[name]
    if name == "task.fence write":  # never on the wire
        return
    before = snapshot(shared)
    with closing(Client(shared)) as client:
        for place in range(count):
            ids = [f"bob.{number}" for number in range(count)]
            ids[place] = "ann.1"
            body = wire.encode_request(make(*ids), "c")
            for token, status in ((BOB, 403), (NOBODY, 403), (None, 401)):
                headers = {} if token is None else {"authorization": token}
                assert client.http("POST", "/", body, **headers)[0] == status
    assert snapshot(shared) == before


@pytest.mark.parametrize("kind", sorted(DEBUG))
def test_debug_is_for_admins(kind: str, shared: Server) -> None:
    with closing(Client(shared)) as client:
        for token, status in ((BOB, 403), (NOBODY, 403), (None, 401)):
            assert ask(client, token, kind, {"time": 1})[0] == status


# ---- searches, cursors, preloads --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["promise", "task", "schedule"])
@pytest.mark.parametrize("cursor", [None, "", "a", "ann.", "ann.1", "bob.", "bo", "b", "zzz", "\U0010ffff", "bob.\0"])
def test_no_cursor_leads_a_search_out_of_its_prefix(kind: str, cursor: str | None, shared: Server) -> None:
    with closing(Client(shared)) as client:
        data: Json = {"limit": 1}
        for _ in range(20):
            status, found = ask(client, BOB, f"{kind}.search", data | ({} if cursor is None else {"cursor": cursor}))
            if status != 200:
                assert status == 400
                return
            assert all(each["id"].startswith("bob.") for each in found[f"{kind}s"])
            cursor = found.get("cursor")
            if cursor is None:
                return
            assert cursor.startswith("bob.")
        pytest.fail("the pages do not end")


@pytest.mark.parametrize("tag", ["resonate:branch", "resonate:parent", "resonate:origin"])
def test_a_lineage_does_not_lead_into_another_tree(tag: str, server: Server) -> None:
    with closing(Client(server)) as client:
        assert ask(client, BOB, "promise.create", promise("bob.x", **{tag: "ann.1"}))[0] == 403
        task = {"pid": "p", "ttl": 9, "action": inner("bob.x", **{tag: "ann.1"})}
        assert ask(client, BOB, "task.create", task)[0] == 403
        status, found = ask(client, BOB, "task.create", {"pid": "p", "ttl": 9999, "action": inner("bob.y")})
        assert (status, found["preload"]) == (200, [])


def inner(id: str, **tags: str) -> Json:
    return {"kind": "promise.create", "head": {}, "data": promise(id, "poll://any@g", **tags)}


@pytest.mark.parametrize("template", ["{{.timestamp}}", "ann.{{.timestamp}}", "", "bob", "{{.id}}", "bo{{.id}}"])
def test_no_schedule_begins_anything_of_another_tenant(template: str, server: Server) -> None:
    plan: Json = {"cron": "* * * * *", "promiseTimeout": 1, "promiseId": template}
    plan["promiseTags"] = {"resonate:target": "poll://any@g"}
    with closing(Client(server)) as client:
        for id in ("ann.s", "b", "", "{{.timestamp}}bob."):
            assert ask(client, BOB, "schedule.create", plan | {"id": id})[0] in (400, 403)
        status, _ = ask(client, BOB, "schedule.create", plan | {"id": "bob.s"})
        assert status == (200 if template == "{{.id}}" else 403)


# ---- messages ---------------------------------------------------------------------------------------------------


def drained(listener: Listener, count: int) -> list[Json]:
    return [listener.message() for _ in range(count)]


def id_of(message: Json) -> str:
    data = message["data"]
    return str((data.get("task") or data.get("promise"))["id"])


def test_a_stream_gets_messages_of_ids_that_its_token_may_touch_and_no_others(server: Server) -> None:
    with closing(Listener(server, "g", "w", Authorization=BOB)) as bob, closing(Client(server)) as client:
        assert id_of(bob.message()) == "bob.1"  # ann.1 waits for the same group, and was there first
        for number in range(20):
            ask(client, ROOT, "promise.create", promise(f"ann.t{number}", "poll://any@g"))
            ask(client, ROOT, "promise.create", promise(f"bob.t{number}", "poll://any@g"))
        assert {id_of(each) for each in drained(bob, 20)} == {f"bob.t{number}" for number in range(20)}

        with closing(Listener(server, "g", "w", Authorization=ANN)) as ann:
            assert {id_of(each) for each in drained(ann, 21)} == {"ann.1", *(f"ann.t{number}" for number in range(20))}


def test_a_stream_under_somebody_elses_name_takes_nothing_of_theirs(server: Server) -> None:
    """Poll hijacking: of two streams of one name the newest gets what is addressed to it, if it may see it."""
    with (
        closing(Listener(server, "own", "pid-1", Authorization=ANN)) as ann,
        closing(Listener(server, "own", "pid-1", Authorization=BOB)) as thief,
        closing(Client(server)) as client,
    ):
        listen = {"awaited": "ann.9", "address": "poll://uni@own/pid-1"}
        ask(client, ANN, "promise.create", promise("ann.9", **{"resonate:external": "true"}))
        ask(client, ANN, "promise.register_listener", listen)
        ask(client, ANN, "promise.settle", {"id": "ann.9", "state": "resolved", "value": {"data": "c2VjcmV0"}})
        ask(client, ANN, "promise.create", promise("ann.10", "poll://any@own/pid-1"))
        ask(client, BOB, "promise.create", promise("bob.10", "poll://uni@own/pid-1"))

        assert {id_of(each) for each in drained(ann, 2)} == {"ann.9", "ann.10"}
        assert id_of(thief.message()) == "bob.10"


def test_an_admins_stream_gets_everything_and_one_that_may_touch_nothing_is_refused(server: Server) -> None:
    with closing(Listener(server, "g", "w", Authorization=ROOT)) as root:
        assert {id_of(each) for each in drained(root, 2)} == {"ann.1", "bob.1"}
    with closing(Listener(server, "g", "w", Authorization=NOBODY)) as nobody:
        assert nobody.status == 403


def test_what_a_leaving_stream_had_goes_to_those_who_may_have_it(server: Server) -> None:
    with closing(Listener(server, "g", "w", Authorization=ANN)) as ann:
        assert id_of(ann.message()) == "ann.1"
        with closing(Listener(server, "g", "other", Authorization=BOB)) as bob:
            assert id_of(bob.message()) == "bob.1"
            ann.close()
            with closing(Listener(server, "g", "w2", Authorization=ANN)) as next_one:
                assert id_of(next_one.message()) == "ann.1"


# ---- the dashboard -------------------------------------------------------------------------------------------------

SCREENS = ["executions", "tree", "call", "why", "groups", "schedules", "failures", "export"]


@pytest.mark.parametrize("screen", SCREENS)
def test_no_screen_shows_anything_of_another_tenant(screen: str, shared: Server) -> None:
    with closing(Listener(shared, "g", "worker-of-ann", Authorization=ANN)), closing(Client(shared)) as client:
        for query in ("", "?id=ann.1", "?prefix=ann.", "?id=bob.1", "?cursor=ann.", "?tag=secret=ann"):
            status, body, _ = client.http("GET", f"/ui/api/{screen}{query}", authorization=BOB)
            assert status in (200, 400, 403, 404)
            if status == 200:  # else it says what was asked for, and no more
                assert b"ann" not in body


@pytest.mark.parametrize("action", sorted(actions._ACTIONS))
def test_no_action_changes_anything_of_another_tenant(action: str, shared: Server) -> None:
    before = snapshot(shared)
    with closing(Client(shared)) as client:
        for id in ("ann.1", "ann.2", "ann.plan"):
            body = json.dumps({"id": id, "ids": [id], "how": "resolve", "value": "1"}).encode()
            for token, status in ((BOB, 403), (NOBODY, 403), (None, 401)):
                headers = {"resonate-action": "1"} | ({} if token is None else {"authorization": token})
                assert client.http("POST", f"/ui/api/act/{action}", body, **headers)[0] == status
    assert snapshot(shared) == before


def test_the_listing_of_executions_keeps_to_the_prefix(shared: Server) -> None:
    with closing(Client(shared)) as client:
        _, body, _ = client.http("GET", "/ui/api/executions", authorization=BOB)
    assert {each["id"] for each in json.loads(body)["items"]} <= {"bob.1", "bob.2"}
