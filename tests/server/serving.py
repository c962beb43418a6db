"""A real server on a free port for tests, and clients of it that say what they like."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from resonate.clock import Clock, SystemClock
from resonate.protocol import wire
from resonate.protocol.requests import Request, Response
from resonate.server.base import Listening, Settings
from resonate.server.push import PushSettings
from resonate.server.running import Server, ServerThread
from resonate.service.service import Service
from resonate.storage.base import Storage
from resonate.storage.memory import MemoryStorage
from tests import files

PATIENCE: Final = 20.0
"""Seconds after which a test gives up on a server."""

LATER: Final = 2**52
ANY: Final = "poll://any@g"
HOMES: Final[dict[str, Callable[[], Storage]]] = {"memory": MemoryStorage, "sqlite": files.emptied}
"""A storage that answers on the event loop, and one that does I/O."""

Json = Any


@contextlib.contextmanager
def serving(
    storage: Storage | None = None,
    settings: Settings | None = None,
    listening: Listening | None = None,
    clock: Clock | None = None,
    push: PushSettings | None = None,
    **options: Any,
) -> Iterator[Server]:
    """A server around a new service; `options` are the service's."""
    service = Service(MemoryStorage() if storage is None else storage, clock or SystemClock(), **options)
    with ServerThread(service, settings, listening, push) as thread:
        yield thread.server


class Client:
    """One keep-alive connection."""

    def __init__(self, server: Server) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        self.headers: dict[str, str] = {}

    def http(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes, dict[str, str]]:
        """One exchange: status, body and headers, their names in lower case."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, path, body, names)
        answer = self.connection.getresponse()
        return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}

    def answer(self, body: bytes) -> tuple[int, bytes]:
        """The answer to a raw body."""
        status, reply, _ = self.http("POST", "/", body)
        return status, reply

    def ask(self, kind: str, data: Json, **head: Json) -> tuple[int, Json]:
        """The status and the data of the answer to a request."""
        status, reply, _ = self.http("POST", "/", envelope(kind, data, **head))
        return status, json.loads(reply)["data"]

    def send(self, request: Request) -> Response:
        """The answer to a record, as a record."""
        _, reply, _ = self.http("POST", "/", wire.encode_request(request, "c"))
        return wire.decode_response(reply, request, "c")

    def batch(self, envelopes: Sequence[bytes], chain: bool | None = None, **headers: str) -> list[Json]:
        """The envelopes that answer a batch."""
        status, reply, _ = self.http("POST", "/batch", batch(envelopes, chain), **headers)
        assert status == 200, reply
        answers: list[Json] = json.loads(reply)["responses"]
        return answers

    def close(self) -> None:
        self.connection.close()


def envelope(kind: str, data: Json, **head: Json) -> bytes:
    return json.dumps({"kind": kind, "head": {"corrId": "c", "version": wire.VERSION, **head}, "data": data}).encode()


def batch(envelopes: Sequence[bytes], chain: bool | None = None) -> bytes:
    end = b"" if chain is None else b',"chain":' + json.dumps(chain).encode()
    return b'{"requests":[' + b",".join(envelopes) + b"]" + end + b"}"


def promise(id: str, target: str | None = None, **tags: str) -> Json:
    """The data of a `promise.create`."""
    if target is not None:
        tags["resonate:target"] = target
    return {"id": id, "timeoutAt": LATER, "tags": tags}


class Listener:
    """One poll stream."""

    def __init__(self, server: Server, group: str = "g", id: str = "a", **headers: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        self.connection.request("GET", f"/poll/{group}/{id}", headers=headers)
        self.response = self.connection.getresponse()
        self.status = self.response.status

    def line(self) -> bytes:
        """The next line, as it came; empty at the end of the stream."""
        return self.response.readline()

    def message(self) -> Json:
        """The next message; comments are passed over."""
        while True:
            line = self.line()
            assert line, "the stream has ended"
            if line.startswith(b"data: "):
                assert self.line() == b"\n"
                return json.loads(line[6:])

    def offer(self) -> str:
        """The id of the task that the next message offers."""
        id: str = self.message()["data"]["task"]["id"]
        return id

    def close(self) -> None:
        self.response.close()
        self.connection.close()


@contextlib.contextmanager
def raw(server: Server) -> Iterator[socket.socket]:
    """A bare connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        yield connection


def read_all(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)
