"""A whole execution from one home to another, and what a server asks of whoever brings or purges one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from resonate import Context, Resonate
from resonate.clock import SystemClock
from resonate.errors import NotSupported, ResonateStoreError, StorageUnavailable, UsageError
from resonate.inspection import exporting
from resonate.protocol import transfer
from resonate.protocol.requests import PromiseGet
from resonate.protocol.transfer import Tree
from resonate.server.auth import Authenticator, BearerToken, Identity
from resonate.server.base import Settings
from resonate.service.importer import bring
from resonate.service.service import Service
from tests import databases, files
from tests.homes import until
from tests.server.serving import Client, serving
from tests.wire_server import WireServer

HOMES = ("memory", "file", "postgres", "server")


def charge(ctx: Context, amount: int) -> int:
    return 2 * amount


def order(ctx: Context, amount: int) -> Any:
    charged = yield ctx.run(charge, amount)
    remote = yield ctx.rpc("charge", amount)
    approval = yield ctx.promise()
    return [charged, remote, (yield approval)]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Callable[[str], Resonate]]:
    """Makes a client of a fresh home of that kind."""
    with ExitStack() as stack:

        def home(kind: str) -> Resonate:
            url = None
            if kind == "file":
                url = f"sqlite:///{tmp_path}/{len(list(tmp_path.iterdir()))}.db?synchronous=off"
            elif kind == "postgres":
                url = databases.fresh_url()
            elif kind == "server":
                url = stack.enter_context(serving()).url
            client = Resonate(url=url)
            for function in (order, charge):
                client.register(function)
            stack.callback(client.stop)
            return client

        yield home


def exported(client: Resonate, id: str) -> Tree:
    network = client._core.started().network
    return transfer.load(transfer.dump(exporting.export(network.send, network.now, id)))


def brought(client: Resonate, tree: Tree) -> None:
    client._core.started().network.bring(tree)


@pytest.mark.parametrize(("one", "other"), list(zip(HOMES, HOMES[1:] + HOMES[:1], strict=True)))
def test_what_is_finished_is_the_same_in_another_home(home: Callable[[str], Resonate], one: str, other: str) -> None:
    here, there = home(one), home(other)
    handle = here.begin_run("o", order, 4)
    until(lambda: handle.status().state == "waiting" and len(handle.tree().calls) == 3)
    here.promises.resolve(handle.tree().calls[2].id, data='"yes"')
    result = handle.result(timeout=20)

    brought(there, exported(here, "o"))

    assert result == [8, 8, "yes"]
    assert there.get("o").result(timeout=20) == result
    assert replace(exported(there, "o"), exported_at=0) == replace(exported(here, "o"), exported_at=0)


@pytest.mark.parametrize(("one", "other"), [("file", "memory"), ("memory", "postgres"), ("postgres", "server")])
def test_what_is_open_goes_on_where_it_is_brought_and_repeats_no_step(
    home: Callable[[str], Resonate], one: str, other: str
) -> None:
    here, there = home(one), home(other)
    handle = here.begin_run("o", order, 4)
    until(lambda: handle.status().state == "waiting" and len(handle.tree().calls) == 3)
    tree = exported(here, handle.tree().calls[1].id)
    here.stop()

    brought(there, tree)

    until(lambda: there.get("o").status().state == "waiting")
    steps = there.get("o").tree().calls
    assert [(step.id, step.created_at) for step in steps] == [
        (promise.id, promise.created_at) for promise in tree.promises[1:]
    ]
    there.promises.resolve(steps[2].id, data='"yes"')
    assert there.get("o").result(timeout=20) == [8, 8, "yes"]


@pytest.mark.parametrize("kind", HOMES)
def test_what_exists_is_not_overwritten_and_nothing_else_is_stored(home: Callable[[str], Resonate], kind: str) -> None:
    here, there = home("memory"), home(kind)
    here.run("a", "charge", 1)
    tree = exported(here, "a")
    there.run("a:1", "charge", 2)
    below = replace(tree.promises[0], id="a:1", tags={**tree.promises[0].tags, "resonate:parent": "a"})

    with pytest.raises(UsageError, match="a cannot be imported: a:1 exists here already, and nothing was changed"):
        brought(there, replace(tree, promises=(*tree.promises, below)))

    assert there._core.started().network.send([PromiseGet("a")])[0].status == 404
    assert there.get("a:1").result(timeout=20) == 4


@pytest.mark.parametrize("kind", ["file", "postgres"])
def test_a_failure_half_way_stores_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = named("a")
    storage = files.emptied() if kind == "file" else databases.emptied()
    service = Service(storage, SystemClock())
    whole = transfer.stored

    def breaks(*arguments: Any) -> list[Any]:
        return [*whole(*arguments), object()]

    monkeypatch.setattr(transfer, "stored", breaks)
    with pytest.raises(KeyError):
        bring(service, tree)
    monkeypatch.undo()

    assert service.handle([PromiseGet("a")])[0].status == 404
    bring(service, tree)
    assert service.handle([PromiseGet("a")])[0].status == 200


# The server.


@pytest.fixture
def guarded() -> Iterator[Callable[..., Resonate]]:
    """Makes clients, by their token, of a server that lets `right` do everything and `few` what begins with a-."""
    tokens = [
        BearerToken("right-token", Identity("all", role="admin")),
        BearerToken("few-token", Identity("few", prefix="a-")),
    ]
    with serving(settings=Settings(auth=Authenticator(tokens=tokens))) as server, ExitStack() as stack:

        def client(token: str | None) -> Resonate:
            client = Resonate(url=server.url, token=token, group="nobody")
            stack.callback(client.stop)
            return client

        yield client


def named(id: str) -> Tree:
    client = Resonate()
    client.register(charge)
    client.run(id, "charge", 1)
    tree = exported(client, id)
    client.stop()
    return tree


def test_whoever_brings_a_tree_must_be_allowed_to_touch_all_of_it(guarded: Callable[..., Resonate]) -> None:
    few, right = guarded("few-token"), guarded("right-token")

    brought(few, named("a-1"))
    with pytest.raises(ResonateStoreError, match=r"b-1 cannot be imported: .* 403 Forbidden: the role or prefix"):
        brought(few, named("b-1"))
    with pytest.raises(ResonateStoreError, match=r"401 Unauthorized: check the token in token=\.\.\."):
        brought(guarded("wrong-token"), named("c-1"))
    brought(right, named("b-1"))

    network = right._core.started().network
    assert [answer.status for answer in network.send([PromiseGet(id) for id in ("a-1", "b-1", "c-1")])] == [
        200,
        200,
        404,
    ]


def test_whoever_purges_must_be_allowed_to_touch_it(guarded: Callable[..., Resonate]) -> None:
    few, right = guarded("few-token"), guarded("right-token")
    for id in ("a-1", "b-1"):
        brought(right, named(id))

    few.purge("a-1")
    with pytest.raises(ResonateStoreError, match="403 Forbidden"):
        few._core.started().network.purge("b-1")

    network = right._core.started().network
    assert [answer.status for answer in network.send([PromiseGet("a-1"), PromiseGet("b-1")])] == [404, 200]


def test_a_server_purges_what_is_finished_and_says_what_is_not(home: Callable[[str], Resonate]) -> None:
    client = home("server")
    handle = client.begin_run("o", order, 4)
    until(lambda: handle.status().state == "waiting")

    with pytest.raises(UsageError, match="o is still pending, so nothing was deleted"):
        client.purge("o")
    with pytest.raises(ResonateStoreError, match="not found: nix") as error:
        client.purge("nix")
    handle.cancel()
    client.purge("o")

    assert error.value.code == pytest.approx(100.404)
    assert client._core.started().network.send([PromiseGet("o")])[0].status == 404


def test_a_body_that_is_no_tree_or_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resonate.server.trees.MAX_TREE", 1_000)
    with serving() as server:
        client = Client(server)
        nothing, answer, _ = client.http("POST", "/trees/import", b"[]")
        missing, said, _ = client.http("POST", "/trees/purge", b'{"it": 1}')
        large, told, _ = client.http("POST", "/trees/import", b" " * 1_001)
        client.connection.close()

    assert (nothing, missing, large) == (409, 400, 413)
    assert b"this is no exported execution" in answer
    assert b"the body is to be" in said
    assert b"more than 1000 bytes" in told


def test_a_server_of_another_make_or_none_is_told_apart() -> None:
    server = WireServer(foreign=".").start()
    client = Resonate(url=server.url, group="nobody")
    try:
        with pytest.raises(NotSupported, match="is of another make, which knows no such request"):
            brought(client, named("a-1"))
        with pytest.raises(NotSupported, match=r"x cannot be purged: the server at .* is of another make"):
            client._core.started().network.purge("x")
        server.stop()
        with pytest.raises(StorageUnavailable, match="Nothing was changed; see that the server runs"):
            brought(client, named("a-1"))
    finally:
        client.stop()
        server.stop()
