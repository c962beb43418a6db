"""HTTP/1.1 on one socket: what a client of this protocol needs of it, and no more.

Written by hand because a request through a general library costs five to ten times the
processor time (`python -m benchmarks.wire`), which is most of what a step costs. A head and
its body leave in one write, an answer that fits one packet is read in one. Redirects are not
followed: 300 is an answer of the protocol.
"""

from __future__ import annotations

import base64
import select
import socket
import threading
from collections.abc import Iterator
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from resonate.errors import UsageError
from resonate.urls import shown

CONNECT: Final = 5.0
"""Seconds that a server gets to accept a connection."""

REQUEST: Final = 10.0
"""Seconds of silence after which an answer is given up (protocol 9.1)."""

HEAD_MAX: Final = 65_536
"""Bytes of an answer's head; no server of this protocol comes near."""

BODY_MAX: Final = 1 << 29
"""Bytes of an answer: a preload holds a whole branch, but not the memory of this machine."""

TRAILERS_MAX: Final = 100
"""Lines behind a chunked answer."""

INTERIM_MAX: Final = 16
"""Informational answers before the real one."""

READ: Final = 65_536
"""Bytes asked for at once."""

CONNECTIONS: Final = 64
"""Requests on their way at the same time; further callers wait. As many threads as a client has at most."""

IDLE_MAX: Final = 32
"""Connections kept open while nobody uses them."""


class Lost(Exception):
    """No answer came. `sent` tells whether the server may have seen the request all the same."""

    def __init__(self, reason: str, sent: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent


FORBIDDEN: Final = "the role or prefix of this token or user does not allow it: use one that may"
"""What to do where a server knows who we are, and refuses."""


class Server(NamedTuple):
    """Where a server is, and how we show who we are.

    `authorization` is the whole value of that header. `shown` is the URL without secrets.
    """

    shown: str
    secure: bool
    host: str
    port: int
    authority: str
    path: str
    authorization: str | None

    def __repr__(self) -> str:
        return f"Server({self.shown!r})"

    @classmethod
    def at(cls, url: str, token: str | None = None, auth: tuple[str, str] | None = None) -> Server:
        """The server that `url` names; a token beats `auth`, which beats a name in the URL.

        Raises:
            UsageError: it names none.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            why = "" if "@" in url else f": {error}"
            raise UsageError(f"url {shown(url)!r} is no address of a server{why}") from None
        secure = parts.scheme == "https"
        host = parts.hostname
        if not host:
            raise UsageError(f"url {shown(url)!r} names no host: write http://HOST:PORT")
        name = f"[{host}]" if ":" in host else host
        authority = name if port is None else f"{name}:{port}"
        if auth is None and parts.username is not None:
            auth = unquote(parts.username), unquote(parts.password or "")
        authorization = _authorization(token, auth)
        if any(not " " <= character <= "\x7e" for character in f"{authorization or ''}{parts.path}{authority}"):
            raise UsageError("url and token must be plain ASCII without control characters: they are part of a header")
        return cls(
            f"{parts.scheme}://{authority}{parts.path.rstrip('/')}",
            secure,
            host,
            port or (443 if secure else 80),
            authority,
            parts.path.rstrip("/"),
            authorization,
        )

    @property
    def remedy(self) -> str:
        """What to do if it does not know who we are."""
        if (self.authorization or "").startswith("Basic "):
            return (
                "check user and password in auth=(USER, PASSWORD) (or RESONATE_USERNAME and RESONATE_PASSWORD, or the "
                "url), or pass token=..."
            )
        if self.authorization is not None:
            return "check the token in token=... (or RESONATE_TOKEN): it is not known there, over or meant for others"
        return "pass token=... (or set RESONATE_TOKEN)"

    def head(self, method: str, path: str, *lines: str) -> bytes:
        """The beginning of a request, up to but without the empty line."""
        head = [f"{method} {self.path}{path} HTTP/1.1", f"host: {self.authority}", "user-agent: resonate-py", *lines]
        if self.authorization is not None:
            head.append(f"authorization: {self.authorization}")
        return "\r\n".join(head).encode("latin-1") + b"\r\n"


class Answer(Struct, frozen=True, gc=False):
    """An HTTP answer; the names of its headers are in lower case."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class Connection:
    """One socket to a server; used by one thread at a time.

    Raises:
        Lost: it could not be opened; nothing was sent.
    """

    def __init__(self, server: Server, timeout: float = REQUEST) -> None:
        self.closed = False
        self._timeout = timeout
        self._rest = b""
        try:
            plain = socket.create_connection((server.host, server.port), CONNECT)
        except OSError as error:
            raise Lost(f"cannot connect: {error}", sent=False) from None
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = _secured(plain, server.host) if server.secure else plain
        self.socket.settimeout(timeout)

    def ask(self, request: bytes) -> Answer:
        """Send a whole request and read the whole answer.

        Raises:
            Lost: the connection broke; it is closed then.
        """
        try:
            self.socket.sendall(request)
            status, headers, ends = self.read_head()
            body = self._read_body(status, headers)
        except (OSError, ValueError) as error:
            self.close()
            raise Lost(_reason(error, self._timeout), sent=True) from None
        except BaseException:  # interrupted: the rest of the answer must not be taken for the next one
            self.close()
            raise
        if ends:
            self.close()
        return Answer(status, headers, body)

    def read_head(self) -> tuple[int, dict[bytes, bytes], bool]:
        """Status and headers of the next answer, and whether the connection ends with it.

        Raises:
            OSError, ValueError: it broke, or what came is no HTTP.
        """
        for _ in range(INTERIM_MAX):
            data = self._rest
            end = data.find(b"\r\n\r\n")
            while end < 0:
                if len(data) > HEAD_MAX:
                    raise ValueError(f"the head of the answer is longer than {HEAD_MAX} bytes")
                data += self._receive()
                end = data.find(b"\r\n\r\n")
            self._rest = data[end + 4 :]
            status, headers, ends = _parse_head(data[:end])
            if status >= 200:  # an informational answer is followed by the real one
                return status, headers, ends
        raise ValueError("the answer is announced again and again and does not come")

    def pieces(self, headers: dict[bytes, bytes]) -> Iterator[bytes]:
        """The body of an answer as it comes; ends with it.

        Raises:
            OSError, ValueError: it broke.
        """
        if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
            yield from self._chunks()
            return
        left = _size(headers[b"content-length"], 10) if b"content-length" in headers else None
        while left is None or left > 0:
            piece, self._rest = self._rest, b""
            if not piece:
                piece = self.socket.recv(READ)
            if not piece:
                if left is None:
                    return
                raise ConnectionError("the answer ended in the middle")
            if left is not None:
                if len(piece) > left:
                    piece, self._rest = piece[:left], piece[left:]
                left -= len(piece)
            yield piece

    def idle(self) -> bool:
        """Whether it may be used again: open, and the server has neither said anything nor hung up."""
        if self.closed or self._rest:
            return False
        if not hasattr(select, "poll"):  # Windows, where `select` has no limit of descriptors
            return not select.select([self.socket], [], [], 0)[0]
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Close the socket. Idempotent."""
        self.closed = True
        self.socket.close()

    def _read_body(self, status: int, headers: dict[bytes, bytes]) -> bytes:
        if status in (204, 304):
            return b""
        length = headers.get(b"content-length")
        if length is None or b"transfer-encoding" in headers:
            return self._gather(headers)
        size = _size(length, 10)
        body, self._rest = self._rest, b""
        if len(body) == size:  # nearly always: the answer came in one packet
            return body
        if size > BODY_MAX:
            raise ValueError(f"an answer of {size} bytes is longer than {BODY_MAX}")
        self._rest = body
        return self._gather(headers)

    def _gather(self, headers: dict[bytes, bytes]) -> bytes:
        pieces: list[bytes] = []
        size = 0
        for piece in self.pieces(headers):
            pieces.append(piece)
            size += len(piece)
            if size > BODY_MAX:
                raise ValueError(f"the answer is longer than {BODY_MAX} bytes")
        return b"".join(pieces)

    def _chunks(self) -> Iterator[bytes]:
        while True:
            size = _size(self._line().partition(b";")[0].strip(), 16)
            if size == 0:
                for _ in range(TRAILERS_MAX):
                    if not self._line():
                        return
                raise ValueError("the answer's trailers do not end")
            left = size
            while left:
                piece, self._rest = self._rest, b""
                if not piece:
                    piece = self._receive()
                if len(piece) > left:
                    piece, self._rest = piece[:left], piece[left:]
                left -= len(piece)
                yield piece
            if self._line():
                raise ValueError("a chunk of the answer is longer than announced")

    def _line(self) -> bytes:
        data = self._rest
        while (end := data.find(b"\r\n")) < 0:
            if len(data) > HEAD_MAX:
                raise ValueError("a line of the answer does not end")
            data += self._receive()
        self._rest = data[end + 2 :]
        return data[:end]

    def _receive(self) -> bytes:
        data = self.socket.recv(READ)
        if not data:
            raise ConnectionError("the server closed the connection")
        return data


class Connections:
    """The open connections to one server, for any number of threads."""

    def __init__(self, server: Server, timeout: float = REQUEST) -> None:
        self.server = server
        self._timeout = timeout
        self._idle: list[Connection] = []
        self._room = threading.BoundedSemaphore(CONNECTIONS)
        self._closed = False

    def ask(self, request: bytes) -> Answer:
        """Send a whole request over a connection that is free, or a new one.

        Raises:
            Lost: no answer came.
        """
        with self._room:
            connection = self._free()
            answer = connection.ask(request)
            if not connection.closed:
                if len(self._idle) < IDLE_MAX and not self._closed:
                    self._idle.append(connection)
                else:
                    connection.close()
            return answer

    def close(self) -> None:
        """Close what is idle; what is in use is closed when it is done."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _free(self) -> Connection:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return Connection(self.server, self._timeout)
            if connection.idle():
                return connection
            connection.close()


def _secured(plain: socket.socket, host: str) -> socket.socket:
    import ssl  # costs 10 ms to import, and most servers next door speak plain HTTP

    try:
        return ssl.create_default_context().wrap_socket(plain, server_hostname=host)
    except OSError as error:
        plain.close()
        raise Lost(f"cannot connect: {error}", sent=False) from None


def _parse_head(head: bytes) -> tuple[int, dict[bytes, bytes], bool]:
    first, *lines = head.split(b"\r\n")
    version, _, rest = first.partition(b" ")
    if not version.startswith(b"HTTP/1."):
        raise ValueError(f"what answered speaks no HTTP: {first[:40]!r}")
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip()
    wish = headers.get(b"connection", b"").lower()
    lasts = version == b"HTTP/1.1" or wish == b"keep-alive"
    sized = b"content-length" in headers or b"transfer-encoding" in headers
    return int(rest[:3]), headers, not lasts or wish == b"close" or not sized


def _size(text: bytes, base: int) -> int:
    """A length as HTTP writes it: digits and nothing else, so that everybody reads the same."""
    if not text or text.strip(b"0123456789" if base == 10 else b"0123456789abcdefABCDEF") or len(text) > 16:
        raise ValueError(f"{text[:40]!r} is no length")
    return int(text, base)


def _reason(error: Exception, timeout: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:g} s"
    return str(error) or type(error).__name__


def _authorization(token: str | None, auth: tuple[str, str] | None) -> str | None:
    if token is not None:
        return f"Bearer {token}"
    if auth is not None:
        try:
            return "Basic " + base64.b64encode(f"{auth[0]}:{auth[1]}".encode()).decode()
        except UnicodeEncodeError:
            raise UsageError("user and password must be Unicode text: half of a surrogate pair is none") from None
    return None
