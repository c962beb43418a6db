"""More requests than a server takes: what is let in is answered, the rest is told when to come again, cheaply."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from resonate.protocol import requests as rq
from resonate.server.admission import ANSWER, PACE, Admission
from resonate.server.base import Settings
from resonate.server.running import Server
from resonate.storage.base import Storage
from tests.homes import until
from tests.server.serving import HOMES, LATER, PATIENCE, Client, envelope, promise, serving
from tests.server.test_http import Held

LIMIT = 8


def test_refusals_are_told_at_a_bounded_rate_however_many_there_are() -> None:
    now, told = [100.0], [0]

    def refused() -> None:
        told[0] += 1

    admission = Admission(LIMIT, refused, lambda: now[0])
    waits = [admission.refuse() for _ in range(PACE)]
    now[0] += 10
    later = admission.refuse()

    assert waits[0] == pytest.approx(1 / PACE)
    assert waits[-1] == pytest.approx(1)
    assert later == pytest.approx(1 / PACE)
    assert told == [PACE + 1]


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)


def post(id: str, **head: str) -> bytes:
    body = envelope("promise.create", promise(id))
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"POST / HTTP/1.1\r\nhost: localhost\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body


def received(peer: socket.socket, length: int) -> bytes:
    got = b""
    while len(got) < length and (piece := peer.recv(65_536)):
        got += piece
    return got


class Full:
    """A server that is busy with as many requests as it takes, until it is let go."""

    def __init__(self, server: Server, storage: Held) -> None:
        self.server = server
        self._storage = storage
        self._first = Client(server)
        self.answers: list[int] = []
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()
        assert storage.reached.wait(PATIENCE)

    def _ask(self) -> None:
        self.answers.append(self._first.send(rq.PromiseCreate("first", LATER)).status)

    def let_go(self) -> None:
        self._storage.go.set()
        self._thread.join()
        self._first.close()


def test_pipelined_requests_are_refused_in_order_and_the_connection_stays() -> None:
    storage = Held()
    with serving(storage, Settings(max_waiting=1)) as server:
        full = Full(server, storage)
        with connect(server) as peer:
            peer.sendall(post("a") + post("b"))
            refused = received(peer, 2 * len(ANSWER))
            full.let_go()
            peer.sendall(post("c"))
            accepted = received(peer, 15)
        client = Client(server)
        known = [client.send(rq.PromiseGet(id)).status for id in ("a", "b", "c")]
        client.close()

    assert refused == 2 * ANSWER
    assert accepted.startswith(b"HTTP/1.1 200 ")
    assert known == [404, 404, 200]
    assert full.answers == [200]


def test_what_follows_a_refusal_does_not_overtake_it() -> None:
    storage = Held()
    with serving(storage, Settings(max_waiting=1)) as server:
        full = Full(server, storage)
        with connect(server) as peer:
            peer.sendall(post("a") + b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
            told = received(peer, 2 * len(ANSWER))
        full.let_go()

    assert told == 2 * ANSWER


def test_whoever_asks_before_it_sends_the_body_is_refused_before() -> None:
    storage = Held()
    with serving(storage, Settings(max_waiting=1)) as server:
        full = Full(server, storage)
        with connect(server) as peer:
            head, _, _ = post("a", expect="100-continue").partition(b"{")
            peer.sendall(head)
            refused = received(peer, 10_000)
        full.let_go()

    assert refused == ANSWER


def test_other_requests_than_posts_are_answered_while_a_server_is_full() -> None:
    storage = Held()
    with serving(storage, Settings(max_waiting=1)) as server:
        full = Full(server, storage)
        other = Client(server)
        status, _, _ = other.http("GET", "/health")
        full.let_go()
        other.close()

    assert status == 200


@pytest.mark.slow
@pytest.mark.parametrize("home", HOMES)
def test_a_flood_is_answered_or_refused_and_what_was_acknowledged_is_stored(home: str) -> None:
    storage: Storage = HOMES[home]()
    with serving(storage, Settings(max_waiting=LIMIT)) as server:
        peers = [connect(server) for _ in range(40 * LIMIT)]
        for number, peer in enumerate(peers):
            peer.sendall(post(f"p{number}"))
        statuses = [received(peer, 15)[9:12] for peer in peers]
        for peer in peers:
            peer.close()
        client = Client(server)
        stored = [client.send(rq.PromiseGet(f"p{number}")).status for number in range(len(peers))]
        began = time.monotonic()
        client.send(rq.PromiseCreate("after", LATER))
        took = time.monotonic() - began
        client.close()
        until(lambda: server._admission.inside == 0)

    assert set(statuses) <= {b"200", b"503"}
    assert statuses.count(b"200") >= LIMIT
    assert [status == b"200" for status in statuses] == [status == 200 for status in stored]
    assert took < 10, "it is there again"
