"""The poll stream: its exact bytes, who gets which message, what happens to those nobody can take."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from resonate.protocol import requests as rq
from resonate.protocol import wire
from resonate.server.auth import Authenticator, BearerToken, Identity
from resonate.server.base import Settings
from resonate.server.running import Server
from resonate.storage.sqlite.location import Location
from resonate.storage.sqlite.storage import SqliteStorage
from tests.server.serving import HOMES, LATER, PATIENCE, Client, Listener, serving


@pytest.fixture(scope="module", params=list(HOMES))
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serving(HOMES[request.param](), Settings(poll_comment=60_000), debug=True) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    client = Client(server)
    assert client.ask("debug.reset", {})[0] == 200
    yield client
    client.close()


def offer(client: Client, id: str, address: str = "poll://any@g") -> None:
    assert client.send(rq.PromiseCreate(id, LATER, tags={"resonate:target": address})).status == 200


def settled(client: Client, id: str, address: str) -> None:
    """Let a listener at `address` hear that `id` is settled."""
    client.send(rq.PromiseCreate(id, LATER, tags={"resonate:external": "true"}))
    assert client.send(rq.PromiseRegisterListener(id, address)).status == 200
    client.send(rq.PromiseSettle(id, "resolved"))


def waiting(client: Client) -> int:
    """How much news nobody has taken. (Offers stay in a file until their task is acquired.)"""
    snapshot = client.ask("debug.snap", {})[1]
    return sum(message["message"]["kind"] == "unblock" for message in snapshot["messages"])


def until_gone(server: Server, count: int) -> None:
    """Return when so many streams are left."""
    done = threading.Event()

    def look() -> None:
        if len(server.app.hub.streams) == count:
            done.set()
        else:
            server.loop.call_later(0.001, look)

    server.loop.call_soon_threadsafe(look)
    assert done.wait(PATIENCE)


# ---- bytes ------------------------------------------------------------------------------------


def test_a_stream_is_events_of_one_line_and_nothing_else(server: Server, client: Client) -> None:
    listener = Listener(server)
    offer(client, "a")

    assert listener.line() == b'data: {"kind":"execute","head":{},"data":{"task":{"id":"a","version":0}}}\n'
    assert listener.line() == b"\n"
    assert listener.response.getheader("content-type") == "text/event-stream"
    assert listener.response.getheader("cache-control") == "no-cache"
    assert listener.response.getheader("transfer-encoding") == "chunked"
    listener.close()


def test_news_of_a_settled_promise_hold_its_record(server: Server, client: Client) -> None:
    listener = Listener(server, "g", "me")
    settled(client, "x", "poll://uni@g/me")

    message = listener.message()

    assert (message["kind"], message["head"]) == ("unblock", {})
    assert (message["data"]["promise"]["id"], message["data"]["promise"]["state"]) == ("x", "resolved")
    listener.close()


def test_an_offer_says_where_to_talk_back_if_the_server_knows() -> None:
    with serving(settings=Settings(server_url="http://me:8001")) as server:
        client, listener = Client(server), Listener(server)
        offer(client, "a")

        assert listener.message()["head"] == {"serverUrl": "http://me:8001"}
        listener.close()
        client.close()


def test_a_quiet_stream_gets_comments_that_end_like_events() -> None:
    with serving(settings=Settings(poll_comment=20)) as server:
        listener = Listener(server)

        assert [listener.line() for _ in range(4)] == [b":\n", b"\n"] * 2
        listener.close()


def test_group_and_id_are_decoded_each_by_itself(server: Server, client: Client) -> None:
    listener = Listener(server, "%67", "a%2Fb")
    settled(client, "x", "poll://uni@g/a/b")

    assert listener.message()["data"]["promise"]["id"] == "x"
    listener.close()


# ---- who gets what ---------------------------------------------------------------------------------


def test_messages_for_a_group_wait_until_somebody_listens(server: Server, client: Client) -> None:
    offer(client, "a")
    settled(client, "x", "poll://any@g")
    offer(client, "b", "poll://any@other")

    listener = Listener(server)

    assert [listener.message()["kind"], listener.message()["kind"]] == ["execute", "unblock"]
    assert waiting(client) == 0
    listener.close()


def test_messages_come_in_the_order_of_the_outbox(server: Server, client: Client) -> None:
    ids = [f"t{number:03}" for number in range(100)]
    for id in ids:
        offer(client, id)

    listener = Listener(server)

    assert [listener.offer() for _ in ids] == ids
    listener.close()


def test_the_streams_of_a_group_take_turns(server: Server, client: Client) -> None:
    listeners = [Listener(server, "g", id) for id in "abc"]
    for number in range(30):
        offer(client, f"t{number}")

    heard = [[listener.offer() for _ in range(10)] for listener in listeners]

    assert sorted(id for ids in heard for id in ids) == sorted(f"t{number}" for number in range(30))
    for listener in listeners:
        listener.close()


def test_what_piled_up_for_a_group_is_dealt_to_all_who_take(server: Server, client: Client) -> None:
    listeners = [Listener(server, "g", id) for id in "abcd"]
    made = [rq.PromiseCreate(f"t{number}", LATER, tags={"resonate:target": "poll://any@g"}) for number in range(400)]
    client.batch([wire.encode_request(request, "c") for request in made])

    heard = Counter(listener.offer()[0] for listener in listeners for _ in range(100))

    assert heard == {"t": 400}
    for listener in listeners:
        listener.close()


def test_a_named_stream_alone_gets_what_is_addressed_to_it(server: Server, client: Client) -> None:
    mine, other = Listener(server, "g", "mine"), Listener(server, "g", "other")
    settled(client, "x", "poll://uni@g/mine")
    settled(client, "y", "poll://uni@g/other")
    settled(client, "z", "poll://uni@g/absent")

    assert mine.message()["data"]["promise"]["id"] == "x"
    assert other.message()["data"]["promise"]["id"] == "y"
    assert waiting(client) == 1
    mine.close()
    other.close()


def test_a_preferred_stream_is_preferred_and_another_does_if_it_is_not_there(server: Server, client: Client) -> None:
    other, mine = Listener(server, "g", "other"), Listener(server, "g", "mine")
    for number in range(10):
        offer(client, f"t{number}", "poll://any@g/mine")

    assert [mine.offer() for _ in range(10)] == [f"t{number}" for number in range(10)]

    offer(client, "u", "poll://any@g/absent")
    mine.close()
    until_gone(server, 1)
    offer(client, "v", "poll://any@g/mine")

    heard = {other.offer()}
    while "v" not in heard:
        heard.add(other.offer())
    other.close()


def test_of_two_streams_of_one_name_the_newest_gets_what_is_addressed_to_it(server: Server, client: Client) -> None:
    older, newest = Listener(server, "g", "a"), Listener(server, "g", "a")
    for number in range(4):
        settled(client, f"x{number}", "poll://uni@g/a")

    assert [newest.message()["data"]["promise"]["id"] for _ in range(4)] == [f"x{number}" for number in range(4)]

    newest.close()
    until_gone(server, 1)
    settled(client, "y", "poll://uni@g/a")

    assert older.message()["data"]["promise"]["id"] == "y"
    older.close()


def test_both_streams_of_one_name_take_their_turn_for_the_group(server: Server, client: Client) -> None:
    listeners = [Listener(server, "g", "a"), Listener(server, "g", "a")]
    for number in range(10):
        offer(client, f"t{number}")

    assert len({listener.offer() for listener in listeners for _ in range(5)}) == 10
    for listener in listeners:
        listener.close()


def test_who_suspended_a_task_last_is_offered_it_first(server: Server, client: Client) -> None:
    streams = {id: Listener(server, "g", id) for id in ("a", "b", "c")}
    tags = {"resonate:target": "poll://any@g"}
    client.send(rq.TaskCreate("b", 60_000, rq.PromiseCreate("w", LATER, tags=tags)))
    client.send(rq.PromiseCreate("x", LATER, tags={"resonate:external": "true"}))
    client.send(rq.TaskSuspend("w", 1, (rq.PromiseRegisterCallback("x", "w"),)))

    client.send(rq.PromiseSettle("x", "resolved"))

    assert streams["b"].offer() == "w"
    for stream in streams.values():
        stream.close()


def test_a_message_is_not_lost_with_the_stream_it_was_meant_for(server: Server, client: Client) -> None:
    """However the end of a stream and a message for it meet, the next stream of that name has it."""
    for number in range(30):
        gone = Listener(server, "g", "a")
        closes = threading.Thread(target=gone.close)
        closes.start()
        settled(client, f"x{number}", "poll://uni@g/a")
        closes.join()
        until_gone(server, 0)
        # a message that reached the socket of a peer that has just gone cannot be told from one that was read
        if waiting(client):
            heir = Listener(server, "g", "a")
            assert heir.message()["data"]["promise"]["id"] == f"x{number}"
            heir.close()
            until_gone(server, 0)


# ---- who may listen ------------------------------------------------------------------------------------


def test_more_streams_than_fit_are_503_and_one_that_ends_makes_room() -> None:
    with serving(settings=Settings(poll_connections=2)) as server:
        listeners = [Listener(server, "g", id) for id in "ab"]

        refused = Listener(server, "g", "c")
        assert refused.status == 503
        assert refused.response.read() == b"Poll registration at capacity"
        assert (refused.response.getheader("content-type") or "").startswith("text/plain")

        listeners[0].close()
        until_gone(server, 1)
        late = Listener(server, "g", "c")
        assert late.status == 200
        for listener in (listeners[1], late, refused):
            listener.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_another_method_is_405(method: str, client: Client) -> None:
    assert client.http(method, "/poll/g/a", b"")[:2] == (405, b"")


AUTH = Authenticator(
    tokens=[
        BearerToken("any", Identity("any", prefix="x")),
        BearerToken("mine", Identity("mine", prefix="x", groups=("mine",))),
    ]
)


@pytest.mark.parametrize(
    ("group", "token", "status", "said"),
    [
        ("g", None, 401, b"Unauthorized"),
        ("g", "Bearer ?", 401, b"Unauthorized"),
        ("g", "Bearer mine", 403, b"Forbidden"),
        ("g", "Bearer any", 200, b""),
        ("mine", "bearer mine", 200, b""),
    ],
)
def test_a_stream_needs_a_token_for_its_group(group: str, token: str | None, status: int, said: bytes) -> None:
    headers = {} if token is None else {"Authorization": token}
    with serving(settings=Settings(auth=AUTH)) as server:
        listener = Listener(server, group, "a", **headers)

        assert listener.status == status
        if said:
            assert listener.response.read() == said
        listener.close()


# ---- the end --------------------------------------------------------------------------------------------


def test_streams_end_cleanly_when_the_server_stops() -> None:
    with serving() as server:
        listeners = [Listener(server, "g", str(number)) for number in range(10)]
        server.stop()

        assert [listener.line() for listener in listeners] == [b""] * 10
        for listener in listeners:
            listener.close()


def test_messages_of_other_processes_reach_the_streams_of_every_group(tmp_path: object) -> None:
    location = Location(f"{tmp_path}/shared.db", synchronous="off")
    storage, other = SqliteStorage(location), SqliteStorage(location)
    with serving(storage) as server, serving(other) as elsewhere:
        listeners = {group: Listener(server, group, "a") for group in ("g1", "g2", "g3")}
        client = Client(elsewhere)
        for group in listeners:
            offer(client, f"t-{group}", f"poll://any@{group}")

        assert {group: listener.offer() for group, listener in listeners.items()} == {
            group: f"t-{group}" for group in listeners
        }
        for listener in listeners.values():
            listener.close()
        client.close()
    storage.close()
    other.close()


def test_hundreds_of_streams_each_get_their_own(server: Server, client: Client) -> None:
    count = 300
    connections: list[socket.socket] = []
    for number in range(count):
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
        connection.sendall(b"GET /poll/g/s%d HTTP/1.1\r\nhost: localhost\r\n\r\n" % number)
        connections.append(connection)
    for connection in connections:
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    for number in range(count):
        settled(client, f"x{number}", f"poll://uni@g/s{number}")

    for number, connection in enumerate(connections):
        assert b'"id":"x%d"' % number in connection.recv(4096)
        connection.close()
    until_gone(server, 0)
