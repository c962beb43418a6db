"""What is fuzzed, and what has to hold: each target makes one case of a `Random` and raises if something is wrong."""

from __future__ import annotations

import base64
import gzip
import json
import logging
import re
import socket
import time
from collections.abc import Callable
from functools import lru_cache
from importlib.resources import files
from ipaddress import ip_address, ip_network
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.parse import quote, urlencode

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from resonate.cli import reading
from resonate.clock import SystemClock
from resonate.errors import DecodeError, NotSupported, ResonateError, UsageError
from resonate.inspection import drawing
from resonate.network.http import events
from resonate.network.http.connection import Connection, Lost, Server
from resonate.network.http.events import Events
from resonate.protocol import addresses, cron, transfer, validation, wire
from resonate.protocol.requests import DebugSnap, Request, Response
from resonate.protocol.shapes import READERS
from resonate.server.auth import Authenticator, BasicUser, BearerToken, Identity, Unauthorized
from resonate.server.base import Settings as BaseSettings
from resonate.server.config import KEYS, TABLE, resolve
from resonate.server.destinations import Destinations, Refused
from resonate.server.running import ServerThread
from resonate.service.importer import bring
from resonate.service.service import Service
from resonate.storage.memory import MemoryStorage
from resonate.urls import shown
from resonate.values import decode, decode_call, decode_error, encode
from resonate.values.digests import digest
from resonate.values.payload import HEADER, pack
from resonate.values.typetree import join
from tests.fuzz import making
from tests.fuzz.samples import PLAIN, TAGS, Annotated
from tests.urls import resolved

Target = Callable[[Random], None]

SLOW: Final = 2.0
"""Seconds of processor time after which a case counts as hanging."""


class Broken(AssertionError):
    """Something that has to hold does not; the text shows the input."""


@lru_cache
def recorded() -> tuple[Any, ...]:
    """Exchanges with a server, as they were recorded: request and answer."""
    found = []
    for file in sorted((files("resonate.conformance") / "recordings").iterdir(), key=lambda each: each.name):
        for line in gzip.decompress(file.read_bytes()).decode().splitlines():
            entry = json.loads(line) if line else {}
            if "req" in entry:
                found.append((entry["req"], entry["expect"]))
    return tuple(found)


# ---- the wire: what a client sends ---------------------------------------------------------------------------------


class _World:
    """A service with some state, anew every few hundred cases."""

    def __init__(self) -> None:
        self.left = 0
        self.service = Service(MemoryStorage(), SystemClock(), debug=True)

    def ready(self, rng: Random) -> Service:
        if not self.left:
            self.left = 300
            self.service = Service(MemoryStorage(), SystemClock(), debug=True)
            for request, _ in rng.sample(recorded(), 30):
                if request.get("kind") != "debug.tick":
                    wire.answer(json.dumps(request).encode(), self.answer, debug=True)
        self.left -= 1
        return self.service

    def answer(self, request: Request, now: int | None) -> Response:
        return self.service.handle([request], now=now)[0]

    def state(self, body: bytes) -> bytes:
        """All that is stored, at the instant of the request: what is shown changes as time goes by."""
        try:
            at = json.loads(body)["head"]["resonate:debug_time"]
        except (ValueError, TypeError, LookupError, RecursionError):
            at = 0
        now = at if isinstance(at, int) and 0 <= at < 2**63 else 0
        return msgspec.json.encode(self.service.handle([DebugSnap()], now=now)[0].snapshot)


_WORLD = _World()


def requests(rng: Random) -> None:
    """A request is answered in an envelope, and one that is refused changes nothing."""
    service = _WORLD.ready(rng)
    request, _ = rng.choice(recorded())
    body = making.dumped(rng, making.changed(rng, request, 3))
    ticks = b"debug.tick" in body  # to the end of time, perhaps: every occurrence of a schedule until then
    for debug in (False,) if ticks else (True, False):
        before = _WORLD.state(body)
        status, answer = wire.answer(body, _WORLD.answer, debug=debug)
        _is_answer(status, answer, body)
        if status >= 400 and _WORLD.state(body) != before:
            raise Broken(f"refused with {status}, and something has changed: {body!r}")
    assert service is _WORLD.service


def batches(rng: Random) -> None:
    """A batch is read as a whole or refused, and each of its requests is answered."""
    _WORLD.ready(rng)
    good = {"requests": [making.changed(rng, rng.choice(recorded())[0], 1) for _ in range(rng.randrange(5))]}
    body = making.dumped(rng, making.changed(rng, good | {"chain": rng.random() < 0.5}, 1))
    found = wire.decode_batch(body)
    if isinstance(found, wire.Refusal):
        _is_answer(found.status, found.body, body)
        return
    for envelope in found[0]:
        _is_answer(*wire.answer(bytes(envelope), _WORLD.answer), body)


def _is_answer(status: int, answer: bytes, body: bytes) -> None:
    envelope = msgspec.json.decode(answer)
    if envelope["head"]["status"] != status or not (200 <= status < 502) or status == 500:
        raise Broken(f"answered {status} with {answer[:200]!r} to {body!r}")


# ---- the wire: what a server says ----------------------------------------------------------------------------------


def answers(rng: Random) -> None:
    """An answer of any form is read, or is said to be none."""
    request, expected = rng.choice(recorded())
    call = wire.decode(json.dumps(request).encode(), debug=True)
    if isinstance(call, wire.Refusal):
        return
    head = {"corrId": call.corr_id, "status": expected["status"], "version": wire.VERSION}
    good = {"kind": call.kind, "head": head, "data": expected["data"]}
    try:
        wire.decode_response(making.dumped(rng, making.changed(rng, good)), call.request, call.corr_id)
    except wire.WireError:
        pass


def messages(rng: Random) -> None:
    """A message of any form is read, passed over, or said to be none."""
    promise = {"id": "a", "state": "resolved", "param": {}, "value": {}, "tags": {}, "timeoutAt": 1, "createdAt": 0}
    good = rng.choice(
        (
            {"kind": "execute", "head": {}, "data": {"task": {"id": "a", "version": 1}}},
            {"kind": "unblock", "head": {}, "data": {"promise": promise}},
        )
    )
    try:
        wire.decode_message(making.dumped(rng, making.changed(rng, good)))
    except wire.WireError:
        pass


_PIECES: Final = (
    b"data: x",
    b"data:",
    b"data",
    b":",
    b": hello",
    b"id: 7",
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\n",
    b"\xef\xbb\xbf",
    b"\xff",
    b" ",
)


def sse(rng: Random) -> None:
    """However a stream is cut, its events are the same, and what has no end is refused."""
    stream = b"".join(rng.choice(_PIECES) for _ in range(rng.randrange(40)))
    whole = Events()
    expected = whole.feed(stream)
    parts = Events()
    found: list[bytes] = []
    left = stream
    while left:
        size = 1 + rng.randrange(5)
        piece, left = left[:size], left[size:]
        found += parts.feed(piece)
    if found != expected or parts.beats != whole.beats:
        raise Broken(f"{stream!r} gives {expected} and in pieces {found}")
    longest = events.EVENT_MAX
    events.EVENT_MAX = 200  # type: ignore[misc]
    try:
        endless = Events()
        piece = rng.choice(_PIECES)
        for _ in range(500):
            endless.feed(piece)
        if piece.strip() and b"\n\n" not in piece and not piece.startswith(b"\xef"):
            raise Broken(f"{piece!r} again and again is no event, and is kept for ever")
    except ValueError:
        pass
    finally:
        events.EVENT_MAX = longest  # type: ignore[misc]


class _Played:
    """A socket on which bytes come in pieces, and then the end."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data = data
        self._size = size

    def sendall(self, data: bytes) -> None:
        pass

    def recv(self, size: int) -> bytes:
        size = min(size, self._size)
        piece, self._data = self._data[:size], self._data[size:]
        return piece

    def close(self) -> None:
        pass


_ANSWERS: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-type: application/json\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n3\r\nyou\r\n0\r\na: b\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 No\r\nconnection: close\r\n\r\nuntil the end",
    b"HTTP/1.0 204 No\r\n\r\n",
)


def http_answers(rng: Random) -> None:
    """What answers is read as HTTP or is given up."""
    data = making.changed_bytes(rng, rng.choice(_ANSWERS))
    connection = object.__new__(Connection)
    connection.closed, connection._timeout, connection._rest = False, 1.0, b""
    connection.socket = _Played(data, rng.choice((1, 3, 1000)))  # type: ignore[assignment]
    try:
        connection.ask(b"")
    except Lost:
        pass


# ---- a whole server ------------------------------------------------------------------------------------------


class _Complaints(logging.Handler):
    """What is logged as our own mistake."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))


_COMPLAINTS: Final = _Complaints()


@lru_cache
def _server() -> ServerThread:
    """A server that lives for as long as the process."""
    for name in ("uvicorn.error", "asyncio", "resonate"):
        logging.getLogger(name).addHandler(_COMPLAINTS)
    service = Service(MemoryStorage(), SystemClock())
    return ServerThread(service, BaseSettings(ui="full")).start()


_SCREENS: Final = ("executions", "tree", "call", "why", "groups", "schedules", "failures", "export", "about", "nothing")
_FILTERS: Final = ("id", "state", "function", "group", "tag", "prefix", "since", "until", "cursor", "limit")


def http(rng: Random) -> None:
    """Whatever is sent to the port, and asked of the dashboard, is answered or cut off, and never our own mistake."""
    server = _server()
    match rng.randrange(5):
        case 0:
            query = urlencode({rng.choice(_FILTERS): making.text(rng)[:300] for _ in range(3)}, errors="replace")
            raw = f"GET /ui/api/{rng.choice(_SCREENS)}?{query} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()
        case 1:
            body = making.dumped(rng, making.changed(rng, {"id": "a", "ids": ["a"], "how": "resolve", "value": "1"}))
            action = rng.choice(("cancel", "retry", "resume", "settle", "again", "run-schedule", "delete-schedule"))
            raw = _post(f"/ui/api/act/{action}", body, "resonate-action: 1\r\n")
        case 2:
            path = rng.choice(("/trees/import", "/trees/purge"))
            raw = _post(path, making.dumped(rng, making.changed(rng, rng.choice((_tree(rng), {"id": "a"})))))
        case 3:
            raw = f"GET /poll/{quote(making.text(rng)[:100], errors='replace')}/a HTTP/1.1\r\nhost: x\r\n\r\n".encode()
        case _:
            raw = _post(rng.choice(("/", "/batch")), making.dumped(rng, rng.choice(recorded())[0]))
    if rng.random() < 0.5:
        raw = making.changed_bytes(rng, raw)
    with socket.create_connection(("127.0.0.1", server.port), 10) as peer:
        peer.sendall(raw)
        peer.shutdown(socket.SHUT_WR)
        answer = b""
        while (piece := peer.recv(65536)) and len(answer) < 1 << 20:
            answer += piece
    if re.match(rb"HTTP/1.1 5(?!0[13])", answer):
        raise Broken(f"answered with {answer[:100]!r} to {raw!r}")
    if _COMPLAINTS.texts:
        raise Broken(f"{_COMPLAINTS.texts.pop()} after {raw!r}")


def _post(path: str, body: bytes, more: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nhost: localhost\r\n{more}content-length: {len(body)}\r\n\r\n".encode() + body


# ---- who asks ------------------------------------------------------------------------------------------------------

_KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_PEM: Final = _KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
_ANN: Final = Identity("ann", None, "ann.")
_AUTH: Final = Authenticator(
    public_key=_PEM,
    issuer="us",
    tokens=[BearerToken("f1xed", _ANN)],
    users=[BasicUser("ann", "s3cret", _ANN)],
)


def tokens(rng: Random) -> None:
    """Nobody gets in with what is not one of ours, and nobody gets to be somebody else."""
    claims = {"exp": 2**40, "iss": "us", "prefix": "ann.", "sub": "ann"}
    good = jwt.encode(claims, _KEY, "EdDSA")
    match rng.randrange(5):
        case 0:
            token = making.changed_text(rng, good)
        case 1:  # another head or payload under the same signature
            head, payload, signature = good.split(".")
            other = json.dumps(making.changed(rng, {"alg": "EdDSA", "typ": "JWT", "kid": "../../dev/null"})).encode()
            more = json.dumps(making.changed(rng, {**claims, "role": "admin"})).encode()
            token = ".".join((rng.choice((head, _b64(other))), rng.choice((payload, _b64(more))), signature))
        case 2:  # signed by whoever knows the public key
            token = jwt.encode({**claims, "role": "admin"}, "x" * 64, rng.choice(("HS256", "HS384", "HS512")))
        case 3:
            token = f"{_b64(making.dumped(rng, {'alg': rng.choice(('none', 'None', ''))}))}.{_b64(b'{}')}."
        case _:
            token = making.text(rng)
    basic = base64.b64encode(making.changed_text(rng, "ann:s3cret").encode("utf-8", "replace")).decode()
    headers = (
        f"Bearer {token}",
        f"Basic {basic}",
        making.changed_text(rng, "Basic YW5uOnMzY3JldA=="),
        making.text(rng),
    )
    for sent, header in ((token, None), (None, rng.choice(headers))):
        try:
            identity = _AUTH.authenticate(sent, authorization=header)
        except Unauthorized as refused:
            if any(secret in str(refused) for secret in ("f1xed", "s3cret", good)):
                raise Broken(f"{refused} tells a secret") from None
            continue
        if (identity.prefix, identity.admin) != ("ann.", False):
            raise Broken(f"{sent!r} with {header!r} is {identity}")


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


# ---- texts that people write ---------------------------------------------------------------------------------------

_CRONS: Final = (
    "* * * * *",
    "*/5 1-3,7 * JAN-MAR MON",
    "0 0 29 2 *",
    "15 30 4 1,15 * 5",
    "@daily",
    "0 0 ? * 7",
    "59 23 31 12 6",
)
_FIELD: Final = (
    "*",
    "*/7",
    "0",
    "31",
    "29",
    "2",
    "1-5",
    "5-1",
    "*/0",
    "1,2,3",
    "?",
    "MON",
    "feb",
    "7",
    "60",
    "1-",
    "1//2",
    "L",
    "#",
    "1-59/58",
)


def crons(rng: Random) -> None:
    """An expression is refused with a reason, or comes next at an instant that is later, and soon known."""
    if rng.random() < 0.5:
        text = making.changed_text(rng, rng.choice(_CRONS))
    else:
        text = " ".join(rng.choice(_FIELD) for _ in range(rng.choice((5, 5, 5, 6, 6, 4, 7))))
    problem = cron.check(text)
    after = rng.choice((0, -1, 1_700_000_000_000, 2**52, 2**63 - 1, -(2**63), 253402300799000, rng.randrange(2**42)))
    at = cron.next_occurrence(text, after)
    if problem is not None and at is not None:
        raise Broken(f"{text!r} is refused ({problem}), and comes at {at}")
    if at is not None and at <= after:
        raise Broken(f"{text!r} comes at {at}, which is not after {after}")


_URLS: Final = (
    "memory:",
    "sqlite:///app.db?synchronous=normal",
    "sqlite:////var/lib/app.db",
    "postgresql://me:pw@h:5432,h2/db?schema=resonate&lanes=2&sslmode=require",
    "postgres:///db",
    "http://me:pw@localhost:8001/base",
    "https://[::1]:8001",
)


def urls(rng: Random) -> None:
    """A URL names a home or is refused with a reason."""
    url = making.changed_text(rng, rng.choice(_URLS))
    env = {name: making.text(rng) for name in ("RESONATE_HOST", "RESONATE_PORT", "RESONATE_SCHEME", "RESONATE_TOKEN")}
    given = None if rng.random() < 0.2 else url
    try:
        resolved(given, env)
    except (ValueError, TypeError, NotSupported):
        pass
    try:
        Server.at(url)
    except UsageError:
        pass
    if "//" in url and shown(url) != shown(shown(url)):
        raise Broken(f"{url!r} is shown as {shown(url)!r}")


_DESTINATIONS: Final = Destinations(["worker.test", "*.internal", "10.2.0.0/16"])
_ALLOWED: Final = ip_network("10.2.0.0/16")
_PUSHED: Final = (
    "http://worker.test:80/x?y=1",
    "https://93.184.215.14/",
    "http://127.0.0.1:1/",
    "http://0x7f.1/",
    "http://017700000001/",
    "http://2130706433/",
    "http://[::ffff:127.0.0.1]/",
    "poll://any@g/a",
    "gcps://p/t",
)


def push_addresses(rng: Random) -> None:
    """An address is refused, or its host is one that was looked at."""
    address = making.changed_text(rng, rng.choice(_PUSHED))
    found = addresses.parse(address)
    if found is not None and any(ord(char) < 33 for char in address):
        raise Broken(f"{address!r} holds what cannot be in a header")
    try:
        url = _DESTINATIONS.check_url(address)
    except Refused:
        return
    host = url.raw_host
    if found is None or host is None:  # never stored, so never posted to
        return
    try:  # spellings of addresses that the system knows and we may not
        spelled = [str(entry[4][0]) for entry in socket.getaddrinfo(host, 80, flags=socket.AI_NUMERICHOST)]
    except (OSError, ValueError):
        return
    try:
        _DESTINATIONS.check_resolved(host, spelled)
    except Refused:
        return
    if any(not ip_address(each).is_global and ip_address(each) not in _ALLOWED for each in spelled):
        raise Broken(f"{address!r} would be posted to {spelled}")


_TOML: Final = """
level = "info"
[server]
port = 9000
bind = "127.0.0.1"
[storage]
type = "sqlite"
sqlite = { path = "a.db" }
[transports.http_push]
allow = ["10.0.0.0/8"]
[[auth.tokens]]
secret = "s"
prefix = "p"
"""


def configs(rng: Random, directory: str = "/nonexistent") -> None:
    """Settings from a file and the environment are followed, or refused with the place."""
    raw = (
        making.changed_bytes(rng, _TOML.encode())
        if rng.random() < 0.7
        else making.changed_text(rng, _TOML).encode("utf-8", "replace")
    )
    environment = {}
    for _ in range(rng.randrange(3)):
        key = rng.choice(TABLE)
        environment[key.variable] = rng.choice((making.text(rng), str(key.default), json.dumps(making.value(rng, 2))))
    file = Path(_scratch()) / "resonate.toml"
    file.write_bytes(raw if rng.random() < 0.7 else b"")
    try:
        config = resolve({}, environment, str(file))
    except UsageError:
        return
    for path in KEYS:
        assert isinstance(config.settings[path].shown, str)


@lru_cache
def _scratch() -> str:
    import tempfile

    return tempfile.mkdtemp(prefix="resonate-fuzz-")


def typed(rng: Random) -> None:
    """What people type after a command is understood or refused; what is printed is printable."""
    for read in (reading.duration, reading.instant):
        try:
            read(making.changed_text(rng, rng.choice(("1h30m", "500ms", "2026-11-23T14:00", "1.5d"))))
        except UsageError:
            pass
    text = making.text(rng) + making.text(rng)
    if not drawing.clean(text).isprintable():
        raise Broken(f"{text!r} is printed as {drawing.clean(text)!r}")


# ---- values --------------------------------------------------------------------------------------------------------


def type_trees(rng: Random) -> None:
    """Any type tree over any JSON gives a value or a DecodeError; soon, whatever they are."""
    plain, node = _plain(rng, 4), _node(rng, 4)
    try:
        value = join(plain, node, 1_000)
    except DecodeError:
        return
    try:
        digest([value], {})
        encode(value, "value")
    except ResonateError:
        pass


def payloads(rng: Random) -> None:
    """A payload of any form is a value, an error, or a DecodeError."""
    raw = making.dumped(rng, _plain(rng, 3))
    data = pack(raw) if rng.random() < 0.9 else making.text(rng)
    headers = {HEADER: making.dumped(rng, _node(rng, 3)).decode("utf-8", "replace")} if rng.random() < 0.7 else None
    if rng.random() < 0.2:
        headers = {**(headers or {}), making.text(rng): making.text(rng)}
    for read in (
        lambda: decode(data, headers),
        lambda: decode(data, headers, rng.choice(Annotated), "value"),
        lambda: decode_call(data, headers),
        lambda: decode_error(data, headers),
    ):
        try:
            read()
        except DecodeError:
            pass


def _plain(rng: Random, depth: int) -> Any:
    if rng.random() < 0.6:
        return rng.choice(PLAIN)
    return making.value(rng, depth)


def _node(rng: Random, depth: int) -> Any:
    tag = rng.choice(TAGS)
    match rng.randrange(7 if depth else 3):
        case 0 | 1:
            return tag
        case 2:
            return making.value(rng, 1)
        case 3 | 4:
            return [tag, [_node(rng, depth - 1)]]
        case 5:
            return [
                tag,
                {str(rng.choice((0, 1, "a", "item", making.text(rng)))): _node(rng, depth - 1) for _ in range(2)},
            ]
        case _:
            info = {
                "class": rng.choice(TAGS).partition(" ")[2] or "builtins:ValueError",
                "args": [[_plain(rng, 1), _node(rng, depth - 1)]],
            }
            return [
                "error",
                making.changed(
                    rng, info | {"cause": [{"name": "E", "message": "m"}, ["error", {}]], "notes": ["n"]}, 2
                ),
            ]


# ---- whole trees ---------------------------------------------------------------------------------------------------


def imports(rng: Random) -> None:
    """A tree is stored as a whole, or nothing of it is."""
    service = Service(MemoryStorage(), SystemClock(), debug=True)
    text = making.dumped(rng, making.changed(rng, _tree(rng), 3))
    try:
        tree = transfer.load(text)
    except UsageError:
        return
    before = service.handle([DebugSnap()])[0].snapshot
    try:
        bring(service, tree)
    except ResonateError:
        if service.handle([DebugSnap()])[0].snapshot != before:
            raise Broken(f"refused, and something is stored: {text!r}") from None
        return
    stored = service.handle([DebugSnap()])[0].snapshot
    assert stored is not None
    if {promise.id for promise in stored["promises"]} != {promise.id for promise in tree.promises}:  # type: ignore[attr-defined]
        raise Broken(f"not all of it is stored: {text!r}")
    for promise in tree.promises:
        if validation.check(READERS["promise.get"](msgspec.Raw(msgspec.json.encode({"id": promise.id})))) is not None:
            raise Broken(f"what is stored cannot be asked for: {promise.id!r}")


def _tree(rng: Random) -> Any:
    def promise(id: str, state: str, **tags: str) -> Any:
        settled = {} if state == "pending" else {"settledAt": 5}
        tags = {"resonate:origin": "r", **tags}
        found = {"id": id, "state": state, "param": {}, "value": {}, "tags": tags, "timeoutAt": 2**52, "createdAt": 1}
        return found | settled

    run = {"resonate:target": "poll://any@g"}
    return {
        "format": transfer.FORMAT,
        "root": "r",
        "exportedAt": 10,
        "promises": [
            promise("r", "pending", **run),
            promise("r:1", "resolved", **{"resonate:parent": "r", "resonate:branch": "r"}),
            promise("r:2", "pending", **{"resonate:parent": "r", **run}),
        ],
        "tasks": [
            {"id": "r", "state": "suspended", "version": 3, "resumes": []},
            {"id": "r:2", "state": "pending", "version": 0, "resumes": []},
        ],
    }


TARGETS: Final[dict[str, Target]] = {
    each.__name__: each
    for each in (
        requests,
        batches,
        answers,
        messages,
        sse,
        http_answers,
        http,
        tokens,
        crons,
        urls,
        push_addresses,
        configs,
        typed,
        type_trees,
        payloads,
        imports,
    )
}


def run(name: str, rng: Random) -> None:
    """One case of a target.

    Raises:
        Exception: something does not hold, or it took too long.
    """
    begun = time.process_time()
    TARGETS[name](rng)
    took = time.process_time() - begun
    if took > SLOW:
        raise Broken(f"a case took {took:.1f} s")
