"""What one peer can make a server, or a client, hold in memory or wait for."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
from collections.abc import Iterator

import pytest

from resonate.network.http.connection import Connection, Lost
from resonate.network.http.connection import Server as At
from resonate.protocol import searches
from resonate.server import batch as batches
from resonate.server import connections
from resonate.server.running import Server
from tests.server.serving import Client, envelope, promise, raw, read_all, serving


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def sent(connection: socket.socket, piece: bytes, most: int) -> int:
    """How many bytes of endless `piece`s the server took before it hung up."""
    total = 0
    with contextlib.suppress(OSError):
        while total < most:
            connection.sendall(piece)
            total += len(piece)
    return total


ENDLESS = {
    "a path": (b"GET /", b"a" * 4096),
    "a header's name": (b"POST / HTTP/1.1\r\nhost: localhost\r\n", b"a" * 4096),
    "a header's value": (b"POST / HTTP/1.1\r\nhost: localhost\r\nx: ", b"a" * 4096),
    "headers": (b"POST / HTTP/1.1\r\nhost: localhost\r\n", b"x: 1\r\n" * 500),
    "a chunk's extension": (
        b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n5;",
        b"a" * 4096,
    ),
    "a trailer": (b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: ", b"a" * 4096),
    "trailers": (b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"x: 1\r\n" * 500),
}


@pytest.mark.parametrize(("begin", "piece"), ENDLESS.values(), ids=ENDLESS)
def test_what_does_not_end_in_a_request_loses_its_connection(begin: bytes, piece: bytes, server: Server) -> None:
    with raw(server) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        connection.sendall(begin)
        taken = sent(connection, piece, 64 * 1024 * 1024)

    assert taken < 16 * 1024 * 1024  # most of which lies in the kernel
    client = Client(server)
    assert client.http("GET", "/health")[0] == 200
    client.close()


def test_a_head_may_be_as_long_as_the_longest_token(server: Server) -> None:
    client = Client(server)
    assert client.http("GET", "/health", authorization="Bearer " + "a" * 32 * 1024)[0] == 200
    client.close()
    with raw(server) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 3 * connections.MAX_HEAD)
        answer = b""
        with contextlib.suppress(OSError):  # what was sent too much may have the answer thrown away
            answer = connection.recv(100)
    assert b"200" not in answer


SMUGGLED = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n"
TWO_LENGTHS = [
    b"content-length: 3\r\ntransfer-encoding: chunked",
    b"content-length: 3\r\ncontent-length: 4",
    b"transfer-encoding: chunked\r\ntransfer-encoding: identity",
    b"transfer-encoding : chunked",
    b"transfer-encoding: xchunked",
    b"content-length: +3",
    b"content-length: 0x3",
    b"content-length: 3 3",
    b"x: a\r content-length: 3",
]


@pytest.mark.parametrize("head", TWO_LENGTHS)
def test_a_request_whose_end_can_be_read_in_two_ways_is_refused(head: bytes, server: Server) -> None:
    with raw(server) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: localhost\r\n" + head + b"\r\n\r\n" + SMUGGLED)
        answers = read_all(connection)

    assert answers.startswith(b"HTTP/1.1 400 ")
    assert answers.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
def test_a_compressed_body_is_not_unpacked(encoding: str, server: Server) -> None:
    bomb = gzip.compress(b'{"kind":"promise.get",' + b" " * 1_000_000)
    client = Client(server)
    status, body, headers = client.http("POST", "/", bomb, content_encoding=encoding, content_type="application/json")
    client.close()

    assert status == 400
    assert b"Invalid request envelope" in body
    assert "content-encoding" not in headers


LIES = [
    b"content-length: -1\r\n\r\nx",
    b"content-length: +5\r\n\r\nhello",
    b"content-length: 1_0\r\n\r\nhello world",
    b"content-length: " + b"9" * 5000 + b"\r\n\r\nx",
    b"content-length: 99999999999\r\n\r\nx",
    b"transfer-encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
    b"transfer-encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    b"transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\nx",
    b"transfer-encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
    b"transfer-encoding: chunked\r\n\r\n5\r\nhello, and more\r\n0\r\n\r\n",
]


@pytest.mark.parametrize("lie", [*LIES, b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 50], ids=lambda lie: ascii(lie[:50]))
def test_an_answer_that_lies_about_its_length_is_lost(lie: bytes) -> None:
    answer = lie if lie.startswith(b"HTTP") else b"HTTP/1.1 200 OK\r\n" + lie
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listening:
        thread = threading.Thread(target=_play, args=(listening, answer))
        thread.start()
        connection = Connection(At.at(f"http://127.0.0.1:{listening.getsockname()[1]}"), 5)
        with pytest.raises(Lost):
            connection.ask(b"GET / HTTP/1.1\r\n\r\n")
        connection.close()
        thread.join()


def _play(listening: socket.socket, answer: bytes) -> None:
    peer, _ = listening.accept()
    with peer:
        peer.recv(1000)
        with contextlib.suppress(OSError):
            peer.sendall(answer)
            peer.shutdown(socket.SHUT_WR)
            peer.recv(1000)


def test_a_page_ends_where_its_answer_would_get_too_large(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searches, "PAGE_SIZE", 1_000)
    client = Client(server)
    for number in range(12):
        param = {"data": "x" * 300, "headers": {"a": "y" * 100}}
        client.ask("promise.create", promise(f"large.{number:02}") | {"param": param})
    found: list[str] = []
    asked: dict[str, object] = {"limit": 1000}
    pages = 0
    while True:
        status, page = client.ask("promise.search", asked)
        assert status == 200
        assert len(page["promises"]) <= 3
        found += [each["id"] for each in page["promises"]]
        pages += 1
        if "cursor" not in page:
            break
        asked["cursor"] = page["cursor"]
    client.close()
    assert [id for id in found if id.startswith("large.")] == [f"large.{number:02}" for number in range(12)]
    assert pages >= 4


@pytest.mark.parametrize("chain", [False, True])
def test_a_batch_whose_answers_get_too_large_is_answered_in_part(
    chain: bool, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MAX_ANSWERS", 5_000)
    client = Client(server)
    client.ask("promise.create", promise("wide") | {"param": {"data": "x" * 3_000}})
    asked = [envelope("promise.search", {"limit": 1000})] * 20 + [envelope("promise.create", promise(f"after.{chain}"))]

    answers = client.batch(asked, chain)

    statuses = [each["head"]["status"] for each in answers]
    assert statuses[0] == 200
    assert set(statuses) == {200, 503}
    assert statuses == sorted(statuses)
    assert len(statuses) == (statuses.index(503) + 1 if chain else 21)
    assert client.ask("promise.get", {"id": f"after.{chain}"})[0] == 404
    client.close()
