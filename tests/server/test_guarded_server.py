"""A whole server that knows who asks: envelopes, poll streams, and a worker that it pushes to and that talks back."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from resonate import Resonate
from resonate.clock import SystemClock
from resonate.errors import ResonateStoreError
from resonate.server.auth import Authenticator, BasicUser, BearerToken, Identity
from resonate.server.base import Settings
from resonate.server.push import Pusher, PushSettings
from resonate.server.running import ServerThread
from resonate.service.service import Service
from resonate.storage.memory import MemoryStorage

from .pushed import LATER, LOCAL
from .receiver import PATIENCE, Push, Reply, receiving

KEY = Ed25519PrivateKey.generate()
PEM = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def token(**claims: Any) -> str:
    return jwt.encode({"exp": time.time() + 86_400, **claims}, KEY, "EdDSA")


ANN = token(prefix="ann.", groups=["ann"])
BOB = token(prefix="bob.")
ADMIN = token(role="admin")


class Caller:
    """Sends requests to a server, and gives status and data of what it answers."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)

    def __call__(self, token: str | None, kind: str, header: str | None = None, /, **data: Any) -> tuple[int, Any]:
        head = {"corrId": "1", "version": "2026-04-01", **({"auth": token} if token else {})}
        headers = {"Authorization": header} if header else {}
        self._connection.request("POST", "/", json.dumps({"kind": kind, "head": head, "data": data}), headers)
        answer = self._connection.getresponse()
        return answer.status, json.loads(answer.read())["data"]

    def poll(self, path: str, header: str | None) -> int:
        self._connection.request("GET", path, headers={"Authorization": header} if header else {})
        with self._connection.getresponse() as answer:
            self._connection.close()  # the stream would never end by itself
            return answer.status

    def close(self) -> None:
        self._connection.close()


def created(id: str) -> dict[str, Any]:
    return {"id": id, "timeoutAt": LATER, "param": {}, "tags": {"resonate:external": "true"}}


@pytest.fixture
def call() -> Iterator[Caller]:
    users = [BasicUser("bob", "s3cret", Identity("bob", prefix="bob."))]
    auth = Authenticator(public_key=PEM, users=users)
    service = Service(MemoryStorage(), SystemClock(), debug=True)
    with ServerThread(service, Settings(auth=auth)) as server, closing(Caller(server.port)) as caller:
        yield caller


def test_a_client_with_a_wrong_password_is_told_to_check_that() -> None:
    auth = Authenticator(users=[BasicUser("bob", "s3cret", Identity("bob", prefix=""))])
    with ServerThread(Service(MemoryStorage(), SystemClock()), Settings(auth=auth)) as server:
        client = Resonate(url=f"http://127.0.0.1:{server.port}", auth=("bob", "wrong"))
        client.register(lambda ctx: 1, name="one")

        with pytest.raises(ResonateStoreError) as refused:
            client.run("p", "one")
        client.stop()

    assert refused.value.code == 100.401
    assert "check user and password in auth=(USER, PASSWORD)" in str(refused.value)
    assert "probe" not in str(refused.value)


@pytest.fixture
def url() -> Iterator[str]:
    tokens = [
        BearerToken("reading", Identity("carl", role="reader", prefix="")),
        BearerToken("anns", Identity("ann", prefix="ann.")),
    ]
    service = Service(MemoryStorage(), SystemClock())
    with ServerThread(service, Settings(auth=Authenticator(tokens=tokens))) as server:
        yield f"http://127.0.0.1:{server.port}"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "refused execution.search with 401 Unauthorized: pass token=... (or set RESONATE_TOKEN)"),
        ({"token": "wrong"}, "refused execution.search with 401 Unauthorized: check the token in token=..."),
    ],
)
def test_a_client_that_is_not_known_is_told_what_it_asked_and_which_token_to_look_at(
    url: str, given: dict[str, str], said: str
) -> None:
    client = Resonate(url=url, **given)  # type: ignore[arg-type]
    with pytest.raises(ResonateStoreError) as refused:
        client.list()
    client.stop()

    assert said in str(refused.value)


def test_a_reader_that_starts_something_is_told_that_it_may_be_the_role(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = Resonate(url=url, token="reading")
    with pytest.raises(ResonateStoreError) as refused:
        client.rpc("p", "one")
    stream = client._core.started().network._stream  # type: ignore[attr-defined]
    stream._thread.join(PATIENCE)
    client.stop()

    allowed = "the role or prefix of this token or user does not allow it: use one that may"
    assert str(refused.value).endswith(f"refused promise.create 'p' with 403 Forbidden: {allowed}")
    (told,) = [record.getMessage() for record in caplog.records if "refused the stream" in record.getMessage()]
    assert "HTTP 403: the role or groups of this token or user do not allow it" in told


def test_what_a_prefix_allows_may_be_the_first_thing_that_a_client_asks(url: str) -> None:
    with Resonate(url=url, token="anns", group="nobodys") as client:
        assert client.list().items == ()


def test_a_request_needs_a_token_that_may_name_its_ids(call: Caller) -> None:
    assert call(None, "promise.create", **created("ann.1")) == (401, "Unauthorized")
    assert call("nonsense", "promise.create", **created("ann.1")) == (401, "Unauthorized")
    assert call(BOB, "promise.create", **created("ann.1")) == (403, "Forbidden")
    assert call(ANN, "promise.create", **created("ann.1"))[0] == 200
    assert call(None, "promise.get", f"Bearer {ANN}", id="ann.1")[0] == 200
    assert call(BOB, "promise.get", f"Bearer {ANN}", id="ann.1")[0] == 403
    assert call(None, "promise.create", "Basic Ym9iOnMzY3JldA==", **created("bob.1"))[0] == 200
    assert call(None, "promise.create", "Basic Ym9iOndyb25n", **created("bob.2"))[0] == 401


def test_a_search_shows_only_what_the_prefix_allows(call: Caller) -> None:
    for id in ("ann.1", "ann.2", "bob.1", "carl"):
        assert call(ADMIN, "promise.create", **created(id))[0] == 200

    def found(token: str, **query: Any) -> list[str]:
        status, data = call(token, "promise.search", **query)
        assert status == 200
        return [promise["id"] for promise in data["promises"]]

    assert found(ANN) == ["ann.1", "ann.2"]
    assert found(ANN, cursor="ann.1") == ["ann.2"]
    assert found(ANN, cursor="b") == []
    assert found(ANN, prefix="bob.") == ["ann.1", "ann.2"]
    assert found(BOB) == ["bob.1"]
    assert found(ADMIN) == ["ann.1", "ann.2", "bob.1", "carl"]
    assert call(token(), "promise.search")[0] == 403


def test_debug_is_for_admins_only_even_where_it_is_served(call: Caller) -> None:
    assert call(ADMIN, "debug.snap")[0] == 200
    assert call(token(prefix=""), "debug.snap")[0] == 403
    assert call(ANN, "debug.reset")[0] == 403
    assert call(None, "debug.reset")[0] == 401


def test_a_poll_stream_needs_a_token_that_may_poll_its_group(call: Caller) -> None:
    assert call.poll("/poll/ann/1", None) == 401
    assert call.poll("/poll/ann/1", "Bearer nonsense") == 401
    assert call.poll("/poll/ann/1", f"bearer {ANN}") == 200
    assert call.poll("/poll/bob/1", f"Bearer {ANN}") == 403
    assert call.poll("/poll/bob/1", f"Bearer {BOB}") == 200
    assert call.poll("/poll/any/1", f"Bearer {ADMIN}") == 200


def test_health_needs_no_token(call: Caller) -> None:
    assert call.poll("/health", None) == 200
    assert call.poll("/ready", None) == 200


def test_a_pushed_worker_runs_its_task_and_talks_back_to_the_url_in_the_offer() -> None:
    service = Service(MemoryStorage(), SystemClock())
    seen: list[tuple[int, Any]] = []

    def work(push: Push, reply: Reply) -> None:
        port, task = int(push.json["head"]["serverUrl"].rpartition(":")[2]), push.json["data"]["task"]
        settle = {"id": task["id"], "state": "resolved", "value": {"data": "42"}}
        action = {"kind": "promise.settle", "head": {}, "data": settle}
        with closing(Caller(port)) as back:
            seen.append(back(ANN, "task.acquire", **task, pid="pushed", ttl=60_000))
            version = seen[0][1]["task"]["version"]
            seen.append(back(ANN, "task.fulfill", id=task["id"], version=version, action=action))
        reply.send(200, b'{"status":"completed"}')

    with (
        ServerThread(service, Settings(auth=Authenticator(public_key=PEM))) as server,
        receiving(work) as worker,
        receiving() as listener,
    ):
        pusher = Pusher(service, PushSettings(allow=LOCAL, server_url=server.url))
        pusher.start()
        try:
            promise = created("ann.w")
            promise["tags"] = {"resonate:target": worker.url()}
            with closing(Caller(server.port)) as call:
                assert call(ANN, "promise.create", **promise)[0] == 200
                status, data = call(ANN, "promise.register_listener", awaited="ann.w", address=listener.url())
            assert status == 200

            told = data["promise"]
            if told["state"] == "pending":  # else the worker was faster, and the answer has told it
                told = listener.wait(1)[0].json["data"]["promise"]

            assert (told["id"], told["state"], told["value"]) == ("ann.w", "resolved", {"data": "42"})
            pusher.stop()  # the worker's request has ended
            assert [status for status, _ in seen] == [200, 200]
        finally:
            pusher.stop()
