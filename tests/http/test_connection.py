"""HTTP/1.1 as we read it, against bytes of a socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from resonate.errors import UsageError
from resonate.network.http import connection
from resonate.network.http.connection import Connections, Lost, Server

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Heard(list[bytes]):
    """What a peer was sent; `hung_up` once it has closed a connection."""

    def __init__(self) -> None:
        super().__init__()
        self.hung_up = threading.Event()


@contextmanager
def peer(*scripts: list[bytes]) -> Iterator[tuple[str, Heard]]:
    """A server that answers the n-th connection's requests with the pieces of the n-th script, then hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))
    heard = Heard()

    def serve() -> None:
        for script in scripts:
            try:
                one, _ = listener.accept()
            except OSError:
                return
            with one:
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for answer in script:
                    data = one.recv(65536)
                    if not data:
                        break
                    heard.append(data)
                    one.sendall(answer)
            heard.hung_up.set()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", heard
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


Ask = Callable[[], connection.Answer]


@pytest.fixture
def asking() -> Iterator[Callable[..., Ask]]:
    """Makes functions that send a request to a URL over connections of their own."""
    made: list[Connections] = []

    def asking(url: str, timeout: float = 5.0) -> Ask:
        server = Server.at(url)
        connections = Connections(server, timeout)
        made.append(connections)
        return lambda: connections.ask(server.head("POST", "/") + b"content-length: 0\r\n\r\n")

    yield asking
    for connections in made:
        connections.close()


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (OK, b"ok"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"ok"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n3\r\n or\r\n0\r\ntrailer: x\r\n\r\n",
            b"ok or",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
    ids=["length", "informational", "chunked", "until closed", "1.0", "no content"],
)
def test_a_body_ends_where_its_head_says(answer: bytes, body: bytes, asking: Callable[..., Ask]) -> None:
    with peer([answer]) as (url, _):
        assert asking(url)().body == body


def test_a_connection_is_used_again(asking: Callable[..., Ask]) -> None:
    with peer([OK, OK]) as (url, heard):
        ask = asking(url)

        assert (ask().body, ask().body) == (b"ok", b"ok")
        assert len(heard) == 2


def test_a_connection_that_the_server_closed_meanwhile_is_not_used_again(asking: Callable[..., Ask]) -> None:
    with peer([OK], [OK]) as (url, heard):
        ask = asking(url)
        ask()
        assert heard.hung_up.wait(10)

        assert ask().body == b"ok"


def test_connection_close_is_obeyed(asking: Callable[..., Ask]) -> None:
    closing = OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    with peer([closing], [OK]) as (url, _):
        ask = asking(url)

        assert (ask().body, ask().body) == (b"ok", b"ok")


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\ncontent-le", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", b"SSH-2.0-x\r\n\r\n"],
    ids=["nothing", "half a head", "half a body", "no HTTP"],
)
def test_an_answer_that_breaks_off_is_lost_and_may_have_been_applied(answer: bytes, asking: Callable[..., Ask]) -> None:
    with peer([answer]) as (url, _), pytest.raises(Lost) as lost:
        asking(url)()

    assert lost.value.sent


def test_silence_is_given_up(asking: Callable[..., Ask]) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(Lost, match=r"no answer within 0.05 s") as lost,
    ):
        asking(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=0.05)()

    assert lost.value.sent


def test_a_refused_connection_has_sent_nothing(asking: Callable[..., Ask]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    with pytest.raises(Lost, match="cannot connect") as lost:
        asking(f"http://127.0.0.1:{port}")()

    assert not lost.value.sent


def test_an_answer_without_bound_is_refused(monkeypatch: pytest.MonkeyPatch, asking: Callable[..., Ask]) -> None:
    monkeypatch.setattr(connection, "BODY_MAX", 10)
    with (
        peer([b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n"]) as (url, _),
        pytest.raises(Lost, match="longer than 10"),
    ):
        asking(url)()


@pytest.mark.parametrize(
    ("url", "token", "auth", "expected"),
    [
        ("http://h", None, None, None),
        ("http://h", "t", ("u", "p"), "Bearer t"),
        ("http://h", None, ("u", "p"), "Basic dTpw"),
        ("http://u:p@h", None, None, "Basic dTpw"),
        ("http://x:y@h", None, ("u", "p"), "Basic dTpw"),
    ],
)
def test_a_token_beats_basic_auth_which_beats_the_url(
    url: str, token: str | None, auth: tuple[str, str] | None, expected: str | None
) -> None:
    server = Server.at(url, token, auth)

    assert server.authorization == expected
    assert server.shown == "http://h"


def test_the_path_of_a_url_leads_every_path() -> None:
    server = Server.at("https://h:7/base/")

    assert (server.secure, server.host, server.port) == (True, "h", 7)
    assert server.head("POST", "/").startswith(b"POST /base/ HTTP/1.1\r\nhost: h:7\r\n")
    assert Server.at("http://[::1]:8001").authority == "[::1]:8001"


def test_what_would_break_out_of_a_header_is_refused() -> None:
    with pytest.raises(UsageError, match="control characters"):
        Server.at("http://h", "a\r\nx: y")
