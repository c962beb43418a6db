"""Whoever may only read changes nothing over HTTP, whatever way they try; and every action asks who they are."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from resonate.clock import SystemClock
from resonate.server.auth import Authenticator, BearerToken, Identity
from resonate.server.base import Settings
from resonate.server.running import ServerThread
from resonate.service.service import Service
from resonate.storage.memory import MemoryStorage
from tests.server.serving import LATER, PATIENCE
from tests.server.test_permissions import NAMING, data_of

TOKENS = {
    "admin": Identity("admin", role="admin"),
    "reader": Identity("reader", role="reader", prefix=""),
    "ann": Identity("ann", prefix="ann."),
}
ACTIONS: dict[str, dict[str, Any]] = {
    "cancel": {"id": "open"},
    "retry": {"id": "open"},
    "resume": {"id": "halted"},
    "settle": {"id": "open", "how": "resolve"},
    "again": {"ids": ["open"]},
    "run-schedule": {"id": "each-day"},
    "pause-schedule": {"id": "each-day"},
    "resume-schedule": {"id": "each-day"},
    "delete-schedule": {"id": "each-day"},
}


class Site:
    """A server with a few things in it, and who asks it."""

    def __init__(self, port: int, service: Service) -> None:
        self.port = port
        self.service = service

    def http(self, method: str, path: str, body: Any, token: str | None) -> tuple[int, Any]:
        headers = {"content-type": "application/json", "resonate-action": "1"}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            if answer.headers.get_content_type() == "text/event-stream":
                return answer.status, None
            text = answer.read()
            return answer.status, json.loads(text) if text.startswith((b"{", b"[")) else text
        finally:
            connection.close()

    def ask(self, kind: str, data: Any, token: str | None) -> tuple[int, Any]:
        envelope = {"kind": kind, "head": {"corrId": "1", "version": "2026-04-01"}, "data": data}
        status, answer = self.http("POST", "/", envelope, token)
        return status, answer["data"]

    def state(self) -> Any:
        storage = self.service.storage
        return (
            [row.promise for row in storage.promises(None)],  # type: ignore[attr-defined]
            list(storage.tasks(None)),  # type: ignore[attr-defined]
            list(storage.schedules(None)),  # type: ignore[attr-defined]
        )


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    auth = Authenticator(tokens=[BearerToken(name, identity) for name, identity in TOKENS.items()])
    service = Service(MemoryStorage(), SystemClock())
    with ServerThread(service, Settings(auth=auth, ui="full")) as server:
        site = Site(server.port, service)
        target = {"resonate:target": "poll://any@shop"}
        for id, tags in (("open", target), ("halted", target), ("ann.1", target), ("bare", {})):
            create = {"id": id, "timeoutAt": LATER, "param": {}, "tags": tags}
            assert site.ask("promise.create", create, "admin")[0] == 200
        assert site.ask("task.halt", {"id": "halted"}, "admin")[0] == 200
        schedule = {
            "id": "each-day",
            "cron": "0 0 * * *",
            "promiseId": "day.{{.timestamp}}",
            "promiseTimeout": 1000,
            "promiseParam": {},
            "promiseTags": target,
        }
        assert site.ask("schedule.create", schedule, "admin")[0] == 200
        yield site


WRITES = [kind for kind in NAMING if not kind.endswith(".get") and "write" not in kind]


@pytest.mark.parametrize("kind", WRITES)
@pytest.mark.parametrize(("token", "status"), [(None, 401), ("wrong", 401), ("reader", 403), ("ann", 403)])
def test_no_request_of_the_protocol_changes_anything_without_permission(
    site: Site, kind: str, token: str | None, status: int
) -> None:
    count, make = NAMING[kind]
    before = site.state()

    found = site.ask(*data_of(make(*["open"] * count)), token)

    assert found[0] == status
    assert site.state() == before


@pytest.mark.parametrize("token", [None, "reader", "ann"])
def test_nothing_is_smuggled_in_a_batch(site: Site, token: str | None) -> None:
    settle = {
        "kind": "promise.settle",
        "head": {"corrId": "1", "version": "2026-04-01"},
        "data": {"id": "bare", "state": "resolved", "value": {}},
    }
    before = site.state()

    status, answer = site.http("POST", "/batch", {"requests": [settle, settle]}, token)

    assert status == 200
    wanted = 401 if token is None else 403
    assert [each["head"]["status"] for each in answer["responses"]] == [wanted, wanted]
    assert site.state() == before


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(("token", "status"), [(None, 401), ("wrong", 401), ("reader", 403), ("ann", 403)])
def test_no_action_of_the_dashboard_is_carried_out_without_permission(
    site: Site, action: str, token: str | None, status: int
) -> None:
    before = site.state()

    found, answer = site.http("POST", f"/ui/api/act/{action}", ACTIONS[action], token)

    assert found == status, answer
    assert site.state() == before


@pytest.mark.parametrize("path", ["/trees/purge", "/trees/import"])
@pytest.mark.parametrize(("token", "status"), [(None, 401), ("reader", 403), ("ann", 403)])
def test_no_tree_is_deleted_or_stored_without_permission(site: Site, path: str, token: str | None, status: int) -> None:
    promise = {"id": "new", "state": "resolved", "param": {}, "value": {}, "tags": {}, "timeoutAt": 9, "createdAt": 1}
    tree = {"format": "resonate-tree/1", "root": "new", "exportedAt": 1, "promises": [{**promise, "settledAt": 2}]}
    before = site.state()

    found, answer = site.http("POST", path, {"id": "open"} if path.endswith("purge") else tree, token)

    assert found == status, answer
    assert site.state() == before


def test_a_reader_takes_no_message_from_the_workers(site: Site) -> None:
    assert site.http("GET", "/poll/shop/me", None, "reader")[0] == 403
    assert site.http("GET", "/poll/shop/me", None, None)[0] == 401


def test_a_reader_sees_everything_and_is_told_that_nothing_can_be_done(site: Site) -> None:
    assert site.ask("promise.get", {"id": "open"}, "reader")[0] == 200
    status, found = site.ask("execution.search", {}, "reader")
    assert status == 200
    assert {promise["id"] for promise in found["promises"]} == {"open", "halted", "ann.1"}
    assert site.ask("execution.count", {"by": "group"}, "reader")[1]["counts"] == {"shop": {"pending": 2, "halted": 1}}
    assert site.ask("group.search", {}, "reader")[1]["groups"][0]["group"] == "shop"
    assert site.http("GET", "/ui/api/about", None, "reader")[1]["readOnly"] is True
    assert site.http("GET", "/ui/api/about", None, "admin")[1]["readOnly"] is False
    for screen in ("executions", "groups", "failures", "schedules", "tree?id=open", "why?id=open"):
        assert site.http("GET", f"/ui/api/{screen}", None, "reader")[0] == 200


def test_whoever_has_a_prefix_finds_and_counts_only_what_begins_with_it(site: Site) -> None:
    found = site.ask("execution.search", {}, "ann")[1]
    assert [promise["id"] for promise in found["promises"]] == ["ann.1"]
    assert site.ask("execution.search", {"prefix": "op"}, "ann")[1]["promises"] == []
    assert site.ask("execution.count", {}, "ann")[1]["counts"] == {"": {"pending": 1}}
    assert site.ask("execution.tree", {"id": "open"}, "ann")[0] == 403
    assert site.ask("execution.failures", {}, "ann")[0] == 501  # it cannot be told for a part
    assert site.ask("group.search", {}, "ann")[0] == 501
    assert site.http("GET", "/ui/api/groups", None, "ann")[0] == 200
    assert site.http("GET", "/ui/api/failures", None, "ann")[0] == 200
