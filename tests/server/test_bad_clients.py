"""Clients that send rubbish, too slowly, or vanish: they get an answer or lose their connection, and hurt nobody."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resonate.protocol import requests as rq
from resonate.protocol import shapes, wire
from resonate.protocol.listing import Wanted
from resonate.protocol.records import Value
from resonate.server.base import Listening
from resonate.server.running import Server
from tests.server.serving import ANY, HOMES, LATER, Client, Json, Listener, batch, envelope, raw, read_all, serving


@pytest.fixture(scope="module", params=list(HOMES))
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serving(HOMES[request.param](), debug=True) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    client = Client(server)
    yield client
    client.close()


# ---- wrong JSON at every path ------------------------------------------------------------------------------

_PROMISE = rq.PromiseCreate("a", LATER, Value({"h": "v"}, "d"), {"resonate:target": ANY})
_SETTLE = rq.PromiseSettle("a", "resolved", Value({"h": "v"}, "d"))
_CALLBACK = rq.PromiseRegisterCallback("b", "a")
GOOD: list[rq.Request] = [
    rq.PromiseGet("a"),
    _PROMISE,
    _SETTLE,
    _CALLBACK,
    rq.PromiseRegisterListener("a", ANY),
    rq.PromiseSearch("pending", {"k": "v"}, 5, "a"),
    rq.TaskGet("a"),
    rq.TaskCreate("p", 1000, _PROMISE),
    rq.TaskAcquire("a", 0, "p", 1000),
    rq.TaskRelease("a", 1),
    rq.TaskFulfill("a", 1, _SETTLE),
    rq.TaskSuspend("a", 1, (_CALLBACK,)),
    rq.TaskFence("a", 1, rq.PromiseCreate("a.1", LATER, Value({"h": "v"}, "d"), {"k": "v"})),
    rq.TaskFence("a", 1, rq.PromiseSettle("a.1", "resolved")),
    rq.TaskHeartbeat("p", (rq.TaskRef("a", 1),)),
    rq.TaskHalt("a"),
    rq.TaskContinue("a"),
    rq.TaskSearch("pending", 5, "a"),
    rq.ScheduleGet("s"),
    rq.ScheduleCreate("s", "* * * * *", "{{.id}}", 1000, Value({"h": "v"}, "d"), {"k": "v"}),
    rq.ScheduleDelete("s"),
    rq.ScheduleSearch({"k": "v"}, 5, "a"),
    rq.ExecutionSearch(Wanted(prefix="a"), 5),
    rq.ExecutionCount(Wanted(prefix="a"), "function", 5),
    rq.ExecutionTree("a", 5, "a"),
    rq.ExecutionFailures(5, 5, 5),
    rq.GroupSearch(5),
    rq.DebugStart(),
    rq.DebugStop(),
    rq.DebugTick(0),
    rq.DebugSnap(),
    rq.DebugReset(),
]
WRONG: list[Json] = [None, True, 5, -1, 1.5, 2**63, -(2**63) - 1, "", "\0", "x" * 3000, [], [5], {}, {"a": 5}]


def paths(value: Json, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from paths(value[key], (*path, key))


def with_wrong(value: Json, path: tuple[Any, ...], wrong: Json) -> Json:
    if not path:
        return wrong
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[path[0]] = with_wrong(value[path[0]], path[1:], wrong)
    return changed


def check(reply: Json) -> None:
    """A well-formed answer that blames the request, if anybody."""
    head = reply["head"]
    assert head["version"] == wire.VERSION
    assert isinstance(reply["kind"], str)
    assert isinstance(head["corrId"], str)
    assert head["status"] < 500, reply
    assert isinstance(reply["data"], str) == (head["status"] >= 400)


def test_every_kind_is_among_the_good_requests() -> None:
    assert {shapes.WRITERS[type(request)][0] for request in GOOD} == set(shapes.READERS)


@pytest.mark.parametrize("request_", GOOD, ids=lambda request: type(request).__name__)
def test_a_wrong_value_at_any_path_of_any_request_is_answered_and_never_a_mistake_of_ours(
    request_: rq.Request, client: Client
) -> None:
    good = json.loads(wire.encode_request(request_, "c"))
    sent = [json.dumps(with_wrong(good, path, wrong)).encode() for path in paths(good) for wrong in WRONG]

    for begin in range(0, len(sent), wire.MAX_BATCH):
        for answer in client.batch(sent[begin : begin + wire.MAX_BATCH]):
            check(answer)


@pytest.mark.parametrize("wrong", ["\ud800", float("nan"), float("inf")], ids=ascii)
def test_what_is_no_json_at_any_path_is_400(wrong: Json, client: Client) -> None:
    good = json.loads(wire.encode_request(GOOD[1], "c"))
    for path in paths(good):
        body = json.dumps(with_wrong(good, path, wrong)).encode()

        assert client.answer(body)[0] == 400
        assert client.http("POST", "/batch", batch([body]))[0] == 400


@pytest.mark.parametrize("request_", GOOD, ids=lambda request: type(request).__name__)
def test_a_missing_field_is_answered_too(request_: rq.Request, client: Client) -> None:
    good = json.loads(wire.encode_request(request_, "c"))
    for path in paths(good):
        if path and isinstance(path[-1], str):
            holder: Json = json.loads(json.dumps(good))
            inner = holder
            for key in path[:-1]:
                inner = inner[key]
            del inner[path[-1]]

            status, reply = client.answer(json.dumps(holder).encode())

            assert status == json.loads(reply)["head"]["status"]
            check(json.loads(reply))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)
ENVELOPES = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from(sorted(shapes.READERS)) | ANYTHING,
        "head": st.fixed_dictionaries({"corrId": st.just("c"), "version": st.just(wire.VERSION)}) | ANYTHING,
        "data": ANYTHING,
    },
)


@settings(max_examples=150)
@given(
    body=st.binary(max_size=200) | ENVELOPES.map(lambda e: json.dumps(e).encode()) | ANYTHING.map(repr).map(str.encode)
)
def test_whatever_is_sent_is_answered_in_an_envelope(body: bytes, client: Client) -> None:
    status, reply = client.answer(body)

    assert status == json.loads(reply)["head"]["status"]
    check(json.loads(reply))


@pytest.mark.parametrize(
    "body",
    [b"[" * 200_000, b'{"a":' * 200_000, b'{"kind":"promise.get","head":{},"data":' + b"[" * 200_000],
    ids=["lists", "objects", "data"],
)
def test_json_nested_very_deeply_is_400(body: bytes, client: Client) -> None:
    assert client.answer(body)[0] == 400


# ---- too slow ------------------------------------------------------------------------------------------------

HASTY = Listening(port=0, header_timeout=200, request_timeout=400)


@pytest.fixture(scope="module")
def hasty() -> Iterator[Server]:
    with serving(listening=HASTY) as server:
        yield server


def test_a_connection_that_says_nothing_is_closed(hasty: Server) -> None:
    with raw(hasty) as connection:
        assert read_all(connection).startswith(b"HTTP/1.1 408 ")


def test_a_head_that_trickles_in_loses_its_connection(hasty: Server) -> None:
    with raw(hasty) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: localhost\r\n")
        stop = threading.Event()
        trickles = threading.Thread(target=_trickle, args=(connection, b"x: y\r\n", stop))
        trickles.start()

        answer = read_all(connection)
        stop.set()
        trickles.join()

    assert answer == b"" or answer.startswith(b"HTTP/1.1 408 ")


def test_a_body_that_trickles_in_loses_its_connection_and_changes_nothing(hasty: Server) -> None:
    with raw(hasty) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n")
        stop = threading.Event()
        trickles = threading.Thread(target=_trickle, args=(connection, b"{", stop))
        trickles.start()

        answer = read_all(connection)
        stop.set()
        trickles.join()

    assert answer == b""


def _trickle(connection: socket.socket, drop: bytes, stop: threading.Event) -> None:
    try:
        while not stop.wait(0.05):
            connection.sendall(drop)
    except OSError:  # the server has hung up
        return


def test_a_second_request_that_trickles_in_loses_its_connection_too(hasty: Server) -> None:
    body = envelope("promise.get", {"id": "nobody"})
    whole = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    with raw(hasty) as connection:
        connection.sendall(whole + b"POST / HT")

        answer = read_all(connection)

    assert answer.startswith(b"HTTP/1.1 404 ")


def test_slow_connections_do_not_keep_others_from_being_served(hasty: Server) -> None:
    slow = [socket.create_connection(("127.0.0.1", hasty.port)) for _ in range(50)]
    for connection in slow:
        connection.sendall(b"POST / HTTP/1.1\r\ncontent-le")
    client = Client(hasty)

    assert client.send(rq.PromiseGet("nobody")).status == 404

    client.close()
    for connection in slow:
        connection.close()


def test_a_stream_whose_peer_reads_nothing_ends_and_what_did_not_fit_goes_to_others(
    hasty: Server,
) -> None:
    client = Client(hasty)
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.connect(("127.0.0.1", hasty.port))
    deaf.sendall(b"GET /poll/big/a HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert deaf.recv(4096).startswith(b"HTTP/1.1 200 ")
    count, large = 20, Value(data="x" * 1_000_000)
    for number in range(count):
        client.send(rq.PromiseCreate(f"big{number}", LATER, tags={"resonate:external": "true"}))
        client.send(rq.PromiseRegisterListener(f"big{number}", "poll://any@big"))
        client.send(rq.PromiseSettle(f"big{number}", "resolved", large))

    listener = Listener(hasty, "big", "b")
    heard: list[str] = []
    while f"big{count - 1}" not in heard:
        heard.append(listener.message()["data"]["promise"]["id"])

    assert len(heard) >= count / 2  # the kernel takes a few megabytes that nobody reads
    listener.close()
    deaf.close()
    client.close()


# ---- gone ----------------------------------------------------------------------------------------------------


def cut(connection: socket.socket) -> None:
    """Close as a process does that was killed: with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.99])
def test_a_connection_cut_in_the_middle_of_a_batch_changes_nothing(part: float, server: Server, client: Client) -> None:
    ids = [f"cut-{part}-{number}" for number in range(200)]
    body = batch([wire.encode_request(rq.PromiseCreate(id, LATER), "c") for id in ids])
    with raw(server) as connection:
        connection.sendall(b"POST /batch HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body))
        connection.sendall(body[: int(len(body) * part)])
        cut(connection)

    found = [client.send(rq.PromiseGet(id)).status for id in ids]

    assert set(found) == {404}


def test_a_batch_whose_sender_does_not_wait_for_the_answer_is_done_all_the_same(server: Server, client: Client) -> None:
    ids = [f"done-{number}" for number in range(200)]
    body = batch([wire.encode_request(rq.PromiseCreate(id, LATER), "c") for id in ids])
    head = b"POST /batch HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body)
    listener = Listener(server, "after", "a")
    last = wire.encode_request(rq.PromiseCreate("done", LATER, tags={"resonate:target": "poll://any@after"}), "c")
    body = body[:-2] + b"," + last + b"]}"
    head = b"POST /batch HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body)
    with raw(server) as connection:
        connection.sendall(head + body)
        connection.shutdown(socket.SHUT_WR)

        assert listener.offer() == "done"

    assert {client.send(rq.PromiseGet(id)).status for id in ids} == {200}
    listener.close()


def test_many_connections_that_vanish_leave_a_server_that_serves(server: Server, client: Client) -> None:
    body = envelope("promise.create", {"id": "v", "timeoutAt": LATER})
    whole = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    for end in range(0, len(whole), 3):
        with raw(server) as connection:
            connection.sendall(whole[:end])
            cut(connection)

    assert client.send(rq.PromiseGet("nobody")).status == 404
