"""The dashboard without a browser: its headers, who may do what, and what each screen says."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from resonate import Context, Resonate
from resonate.encoders import Base64Encoder, CombinedEncoder, JsonEncoder
from resonate.inspection import Failure, FailureGroup, Inspector
from resonate.protocol.requests import PromiseGet
from resonate.retry_policies import Constant, Never
from resonate.server.auth import Authenticator, BearerToken, Identity
from resonate.server.base import Settings
from resonate.server.running import Server
from resonate.ui import Dashboard, app, screens
from resonate.ui.decoding import Payloads
from tests.server.serving import serving
from tests.ui.filled import decline, filled, is_now

Json = Any
OURS = {"resonate-action": "1", "content-type": "application/json"}


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[Server, Resonate]]:
    with filled() as made:
        yield made


def ask(
    server: Server, path: str, body: Json = None, headers: dict[str, str] | None = None
) -> tuple[int, Json, dict[str, str]]:
    """One exchange with the dashboard of `server`: status, JSON or text, headers."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    method = "GET" if body is None else "POST"
    connection.request(method, f"/ui{path}", None if body is None else json.dumps(body), headers or {})
    answer = connection.getresponse()
    text = answer.read().decode()
    found = json.loads(text) if "json" in answer.headers.get("content-type", "") else text
    connection.close()
    return answer.status, found, {name.lower(): value for name, value in answer.headers.items()}


def test_the_page_has_a_strict_policy_and_names_no_other_host(world: tuple[Server, Resonate]) -> None:
    status, text, headers = ask(world[0], "/")

    assert status == 200
    assert "script-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert "<style" not in text
    assert " style=" not in text
    static = Path(screens.__file__).parent / "static"
    for file in static.iterdir():
        hosts = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in hosts, file.name
        assert "https://" not in hosts, file.name
        assert "innerHTML" not in hosts, file.name


def test_the_path_without_its_slash_leads_to_the_page(world: tuple[Server, Resonate]) -> None:
    status, _, headers = ask(world[0], "")

    assert status == 307
    assert headers["location"].endswith("ui/")


def test_a_file_that_is_known_is_not_sent_again(world: tuple[Server, Resonate]) -> None:
    _, _, headers = ask(world[0], "/app.js")

    assert ask(world[0], "/app.js", headers={"if-none-match": headers["etag"]})[0] == 304
    assert ask(world[0], "/nothing.js")[0] == 404
    assert ask(world[0], "/../application.py")[0] == 404


def test_the_list_is_filtered_and_paged(world: tuple[Server, Resonate]) -> None:
    failed = ask(world[0], "/api/executions?state=failed")[1]
    orders = ask(world[0], "/api/executions?prefix=order-104&function=order")[1]

    assert {call["id"] for call in failed["items"]} == {"payment-0", "payment-1", "payment-2"}
    assert [call["id"] for call in orders["items"]] == ["order-1043", "order-1042", "order-1041"]
    assert ask(world[0], "/api/executions?state=odd")[0] == 400
    assert "NAME=VALUE" in ask(world[0], "/api/executions?tag=odd")[1]["error"]


def test_a_tree_comes_from_the_top_down_with_depths(world: tuple[Server, Resonate]) -> None:
    rows = ask(world[0], "/api/tree?id=order-1041")[1]["rows"]

    assert [(row["name"], row["depth"]) for row in rows] == [
        ("order", 0),
        ("pack", 1),
        ("reserve", 2),
        ("reserve", 2),
        ("reserve", 2),
        ("charge", 1),
    ]
    assert ask(world[0], "/api/tree?id=nobody")[0] == 404


def test_what_is_long_is_cut(world: tuple[Server, Resonate]) -> None:
    server, client = world
    client.promises.create("long", 10**14)
    client.promises.resolve("long", data=json.dumps("x" * (screens.SHOWN + 1000)))

    shown = ask(server, "/api/call?id=long")[1]["output"]

    assert len(shown) < screens.SHOWN + 100
    assert shown.endswith("more characters; export shows all")


def test_groups_show_who_listens_and_what_nobody_takes(world: tuple[Server, Resonate]) -> None:
    server, client = world

    found = {group["group"]: group for group in ask(server, "/api/groups")[1]["groups"]}

    assert [worker["pid"] for worker in found["default"]["workers"]] == [client.pid]
    assert found["renderers"]["backlog"] == 1
    assert found["renderers"]["workers"] == []


def test_failures_are_grouped_by_function_error_and_place(world: tuple[Server, Resonate]) -> None:
    (group,) = ask(world[0], "/api/failures")[1]["groups"]

    assert (group["function"], group["error"], group["count"]) == ("decline", "ValueError", 3)
    assert group["place"].startswith("filled.py:")


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/json"},
        {**OURS, "origin": "http://elsewhere.example"},
        {**OURS, "sec-fetch-site": "cross-site"},
        {**OURS, "sec-fetch-site": "same-site"},
    ],
)
def test_other_sites_cannot_act(world: tuple[Server, Resonate], headers: dict[str, str]) -> None:
    server, client = world

    status, found, _ = ask(server, "/api/act/cancel", {"id": "reminder-7"}, headers)

    assert status == 403
    text = found if isinstance(found, str) else found["error"]
    assert "nothing was" in text.lower()
    assert client.get("reminder-7").status().state == "waiting"


def test_an_action_that_makes_no_sense_says_why(world: tuple[Server, Resonate]) -> None:
    server = world[0]

    assert "has ended already" in ask(server, "/api/act/cancel", {"id": "order-1041"}, OURS)[1]["error"]
    assert "can be resumed" in ask(server, "/api/act/resume", {"id": "reminder-7"}, OURS)[1]["error"]
    assert "nothing below" in ask(server, "/api/act/retry", {"id": "reminder-7"}, OURS)[1]["error"]
    assert (
        "no JSON"
        in ask(server, "/api/act/settle", {"id": "refund-88:2", "how": "resolve", "value": "{"}, OURS)[1]["error"]
    )
    assert ask(server, "/api/act/dance", {}, OURS)[0] == 404
    assert ask(server, "/api/act/cancel", [], OURS)[0] == 400
    assert ask(server, "/api/act/cancel", {"id": "nobody"}, OURS)[0] == 404


def test_an_export_holds_the_whole_tree(world: tuple[Server, Resonate]) -> None:
    _, found, headers = ask(world[0], "/api/export?id=order-1042")

    assert found["root"] == "order-1042"
    assert len(found["promises"]) == 6
    assert headers["content-disposition"].startswith("attachment")


def test_a_read_only_dashboard_changes_nothing() -> None:
    with serving(settings=Settings(ui="read-only")) as server, Resonate(url=server.url) as client:
        client.promises.create("p", 10**14)

        status, found, _ = ask(server, "/api/act/settle", {"id": "p", "how": "resolve"}, OURS)

        assert (status, ask(server, "/api/about")[1]["readOnly"]) == (403, True)
        assert "read-only" in found["error"]
        assert client.get("p").status().state == "pending"


def test_a_dashboard_that_is_off_is_not_there() -> None:
    with serving(settings=Settings()) as server:
        assert ask(server, "/")[0] == 404


AUTH = Authenticator(
    tokens=[
        BearerToken("root", Identity("root", "admin")),
        BearerToken("mine", Identity("mine", prefix="mine", groups=("g",))),
    ]
)
MINE = {"authorization": "Bearer mine"}


def test_a_token_sees_and_changes_only_its_own() -> None:
    with serving(settings=Settings(auth=AUTH, ui="full")) as server, Resonate(url=server.url, token="root") as client:
        for id in ("mine", "other"):
            client.promises.create(id, 10**14)

        assert ask(server, "/")[0] == 200  # the page itself holds nothing
        assert ask(server, "/api/executions")[0] == 401
        assert ask(server, "/api/act/settle", {"id": "mine", "how": "resolve"}, OURS)[0] == 401
        assert ask(server, "/api/call?id=other", headers=MINE)[0] == 403
        assert ask(server, "/api/act/settle", {"id": "other", "how": "resolve"}, OURS | MINE)[0] == 403
        assert ask(server, "/api/act/settle", {"id": "mine", "how": "resolve"}, OURS | MINE)[0] == 200
        assert ask(server, "/api/groups", headers=MINE)[1]["groups"] == []
        assert client.get("mine").status().state == "succeeded"
        assert client.get("other").status().state == "pending"


def test_a_token_with_a_prefix_sees_groups_and_failures_of_its_own() -> None:
    with serving(settings=Settings(auth=AUTH, ui="full")) as server, Resonate(url=server.url, token="root") as client:
        client.register(decline)
        for id in ("mine-1", "other-1", "mine-2"):
            with pytest.raises(ValueError, match="declined"):
                client.options(retry_policy=Never()).run(id, decline, "4000")
            client.options(target="g").begin_rpc(f"{id}-waits", "charge", 1)

        found = ask(server, "/api/failures", headers=MINE)[1]
        groups = ask(server, "/api/groups", headers=MINE)[1]

        assert [(group["count"], group["ids"]) for group in found["groups"]] == [(2, ["mine-2", "mine-1"])]
        assert [(group["group"], group["backlog"]) for group in groups["groups"]] == [("g", 2)]
        assert (found["partial"], groups["partial"]) == (False, False)


def test_what_is_begun_again_is_no_longer_left() -> None:
    with serving(settings=Settings(ui="full")) as server, Resonate(url=server.url) as client:
        client.register(decline)
        for number in range(7):
            with pytest.raises(ValueError, match="declined"):
                client.options(retry_policy=Never()).run(f"lost-{number}", decline, "4000")
        assert ask(server, "/api/act/again", {"ids": ["lost-3"]}, OURS)[0] == 200
        is_now(client, screens.successor("lost-3"), "failed")

        (group,) = ask(server, "/api/failures")[1]["groups"]

        assert (group["count"], len(group["ids"]), group["again"]) == (8, screens.SHOWN_FAILED, 1)
        assert set(group["left"]) == {screens.successor("lost-3"), *(f"lost-{n}" for n in range(7) if n != 3)}
        assert group["first"] < group["last"]


def test_small_kinds_of_failures_are_named_in_full_and_large_ones_share_the_rest() -> None:
    kinds = [kind(tuple(f"{size}-{number}" for number in range(size))) for size in (1_000, 3, 999)]
    assert [len(own) for own in screens._named(kinds)] == [499, 3, 498]


def kind(ids: tuple[str, ...]) -> FailureGroup:
    return FailureGroup(
        function="f", error=Failure(type="E", message="", traceback=""), place="", count=len(ids), newest=1, ids=ids
    )


def test_without_a_server_workers_are_told_by_what_they_hold(tmp_path: Path) -> None:
    entered, leave = threading.Event(), threading.Event()

    def busy(ctx: Context) -> None:
        entered.set()
        leave.wait(20)

    url = f"sqlite:///{tmp_path}/app.db"
    with Resonate(url=url) as client:
        client.register(busy)
        handle = client.begin_run("b", busy)
        assert entered.wait(20)
        dashboard = app(url)
        try:
            found = screens.groups(Inspector(dashboard.access.enter(None), dashboard.access.now), None)
        finally:
            leave.set()
            dashboard.close()
        handle.result()

    ((worker,),) = [group["workers"].copy() for group in found["groups"]]
    assert (worker["pid"], worker["polls"], worker["leases"]) == (client.pid, None, 1)
    assert worker["runs"] == [{"id": "b", "name": "busy"}]
    assert worker["seen"] > 0


def test_a_file_has_its_dashboard_without_a_server(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/app.db"
    with Resonate(url=url) as client:
        client.promises.create("p", 10**14)
        dashboard = app(url)
        try:
            send = dashboard.access.enter(None)
            (answer,) = send([PromiseGet("p")])
            found = screens.executions(Inspector(send, dashboard.access.now), {}, 0)
        finally:
            dashboard.close()

    assert answer.promise is not None
    assert found == {"items": [], "cursor": None, "counts": {}, "more": ()}
    assert isinstance(dashboard, Dashboard)
    assert uvicorn.Config(dashboard).app is dashboard


@pytest.mark.parametrize("declines", [False, True])
def test_what_is_decoded_for_the_page_still_has_its_attempts(declines: bool) -> None:
    def pay(ctx: Context) -> str:
        if declines or ctx.info.attempt == 1:
            raise ValueError("declined")
        return "paid"

    encoder = CombinedEncoder(JsonEncoder(), Base64Encoder())
    with Resonate() as client:
        client.register(pay)
        caller = client.options(encoder=encoder, retry_policy=Constant(delay=0, max_retries=1))
        with pytest.raises(Exception, match="declined") if declines else contextlib.nullcontext():
            caller.run("pay", pay)
        network = client._core.started().network
        shown = Inspector(Payloads(encoder).reading(network.send), network.now).execution("pay")

    assert (shown.output, str(shown.error)) == ((None, "Exception: declined") if declines else ("paid", "None"))
    assert [str(each.error) for each in shown.attempts] == ["ValueError", str(shown.error)]
    assert shown.worker == client.pid
