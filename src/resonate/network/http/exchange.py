"""One request, or one batch, to its answers: envelopes, checks, and repeats while no answer comes.

Every answer is checked (kind, corrId, status) before it counts; one that fails is as good as
none. What no answer came to is sent again after a pause, until the server has been out of
reach for a while. The caller hears whether an attempt without an answer may have been
applied, for not every request may be repeated blindly (`remedies`).
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Sequence
from itertools import count
from typing import Final, TypeVar

import msgspec
from msgspec import Raw, Struct

from resonate.errors import OutcomeUnknown, ResonateStoreError, StorageUnavailable, StorageUnusable
from resonate.network.http.connection import FORBIDDEN, Answer, Connections, Lost
from resonate.network.http.offset import ServerClock
from resonate.protocol import shapes
from resonate.protocol.chain import holds
from resonate.protocol.requests import Request, Response
from resonate.protocol.wire import WireError, decode_response, encode_request

FIRST_PATIENCE: Final = 5.0
"""Seconds until a server that has never answered is reported: most likely the URL is wrong."""

PATIENCE: Final = 30.0
"""Seconds for which requests are repeated when a server that has answered is gone: it restarts."""

LAST_PATIENCE: Final = 5.0
"""Seconds for a client that stops: late results are worth that; what it cannot give back, its leases do."""

PAUSE_FIRST: Final = 0.05
PAUSE_MAX: Final = 2.0
"""Seconds between two attempts, doubled with each and shortened by chance, so that clients spread."""

BATCH: Final = b"resonate-batch"
"""The header by which a server offers `POST /batch`."""

UNSURE: Final = frozenset((500, 502, 504))
"""Statuses that leave open whether the request was applied; the last two come from a proxy."""

LATER: Final = frozenset((429, 503))
"""Statuses that say that it was not, and may be sent again."""

NOT_OURS: Final = frozenset((404, 405, 501))
"""Statuses that come without an envelope where there is no such path."""

SHOWN: Final = 200
"""Characters of a foreign answer that an error shows."""

_LOG: Final = logging.getLogger("resonate.network")


class Letter(Struct, frozen=True, gc=False):
    """A request in its envelope; repeated as it is. `meant` is what the caller wants: mostly that very request."""

    request: Request
    corr_id: str
    body: bytes
    meant: Request


class _Batch(Struct, gc=False):
    responses: list[Raw]


_Read = TypeVar("_Read")

_batch = msgspec.json.Decoder(_Batch).decode


class Exchange:
    """Requests and answers of one client.

    Args:
        connections: to the server.
        clock: learns the server's time from each answer.
        token: for the head of each envelope.
        patience: seconds; see `PATIENCE`. A server that has never answered gets at most `FIRST_PATIENCE`.
        returned: called when a server that was gone has answered.
    """

    def __init__(
        self,
        connections: Connections,
        clock: ServerClock,
        token: str | None,
        patience: float = PATIENCE,
        returned: Callable[[], None] = lambda: None,
    ) -> None:
        self._returned = returned
        self.offers_batch: bool | None = None
        self._answered = False
        self._connections = connections
        self._clock = clock
        self._token = token
        self._patience = patience
        self._shown = connections.server.shown
        self._remedy = connections.server.remedy
        self._single = connections.server.head("POST", "/", "content-type: application/json") + b"content-length: "
        self._several = (
            connections.server.head("POST", "/batch", "content-type: application/json") + b"content-length: "
        )
        self._numbers = count(1)
        self._stopping = threading.Event()
        self._gone_since: float | None = None
        self._complained = 0.0

    def letter(self, request: Request, *, before: Request | None = None) -> Letter:
        """`request` in an envelope of its own; if it goes `before` another one, what goes wrong is told of that one."""
        corr_id = str(next(self._numbers))
        return Letter(request, corr_id, encode_request(request, corr_id, auth=self._token), before or request)

    def one(self, letter: Letter) -> tuple[Response, bool]:
        """The answer to one request, and whether an earlier attempt may have been applied.

        Raises:
            StorageUnavailable: the server stayed out of reach and has not seen the request.
            OutcomeUnknown: no answer came, and it may have been applied.
            ResonateStoreError: the server will not have us, or is none.
        """
        head = self._single + b"%d\r\n\r\n" % len(letter.body)
        return self._insist(head + letter.body, lambda answer: self._read_one(letter, answer), [letter])

    def batch(self, letters: Sequence[Letter], *, chain: bool) -> tuple[list[Response] | None, bool]:
        """The answers to several requests sent at once; None if the server will not have them so.

        Raises:
            as `one`.
        """
        parts = b",".join(letter.body for letter in letters)
        body = b'{"requests":[' + parts + (b'],"chain":true}' if chain else b'],"chain":false}')
        head = self._several + b"%d\r\n\r\n" % len(body)
        return self._insist(head + body, lambda answer: self._read_several(letters, chain, answer), letters)

    def leave(self) -> None:
        """Wait no longer than a few seconds from now on: the client is about to stop."""
        self._patience = min(self._patience, LAST_PATIENCE)

    def stop(self) -> None:
        """Repeat nothing any more: whoever waits for the server is told."""
        self._stopping.set()

    # ---- attempts --------------------------------------------------------------------------------

    def _insist(self, request: bytes, read: Callable[[Answer], _Read], letters: Sequence[Letter]) -> tuple[_Read, bool]:
        unsure = False
        pause = PAUSE_FIRST
        while True:
            sent = self._clock.monotonic()
            try:
                answer = self._connections.ask(request)
                self._clock.learn(answer.headers, sent)
                result = read(answer)
            except Lost as lost:
                unsure = unsure or lost.sent
                self._wait(pause, lost.reason, unsure, letters)
                pause = min(PAUSE_MAX, pause * 2)
                continue
            if self._gone_since is not None:
                self._gone_since = None
                self._returned()
            if result is not None:
                self._answered = True
            return result, unsure

    def _wait(self, pause: float, reason: str, unsure: bool, letters: Sequence[Letter]) -> None:
        """Pause before the next attempt, or raise: this was the last."""
        now = self._clock.monotonic()
        if self._gone_since is None:
            self._gone_since = now
        patience = self._patience if self.offers_batch is not None else min(FIRST_PATIENCE, self._patience)
        if now + pause > self._gone_since + patience or self._stopping.is_set():
            what = f"{_described(letters)} got no answer from {self._shown}: {reason}"
            if unsure:
                raise OutcomeUnknown(f"{what}. It may have been applied: read before you send it again")
            raise StorageUnavailable(f"{what}. Nothing was changed; see that the server runs and the url is right")
        if now - self._complained > PAUSE_MAX:  # for all threads together, not for each
            self._complained = now
            _LOG.warning("%s: %s; trying again", self._shown, reason)
        self._pause(pause)

    def _pause(self, seconds: float) -> None:
        """Wait for that long, shortened by chance; not once the client stops."""
        self._stopping.wait(seconds * random.uniform(0.5, 1.0))

    # ---- answers ---------------------------------------------------------------------------------

    def _read_one(self, letter: Letter, answer: Answer) -> Response:
        status = answer.status
        if status in LATER or status in UNSURE:
            raise Lost(f"HTTP {status}", sent=status in UNSURE)
        try:
            response = decode_response(answer.body, letter.request, letter.corr_id)
        except WireError as error:
            return self._unreadable(letter, answer, error)
        if response.status != status:
            raise Lost(f"HTTP {status} around an answer of status {response.status}", sent=True)
        self.offers_batch = BATCH in answer.headers
        return self._admitted(letter, response)

    def _read_several(self, letters: Sequence[Letter], chain: bool, answer: Answer) -> list[Response] | None:
        status = answer.status
        if status in LATER or status in UNSURE:
            raise Lost(f"HTTP {status}", sent=status in UNSURE)
        if status in NOT_OURS:
            self.offers_batch = False
            return None
        if status == 413 and len(letters) > 1:
            return None
        if status != 200:
            self._unreadable(letters[0], answer, WireError(f"a batch was answered with HTTP {status}"))
        try:
            bodies = _batch(answer.body).responses
            if not 0 < len(bodies) <= len(letters):
                raise WireError(f"{len(bodies)} answers to {len(letters)} requests")
            answers = [decode_response(b, to.request, to.corr_id) for b, to in zip(bodies, letters, strict=False)]
        except (msgspec.DecodeError, WireError, UnicodeDecodeError) as error:
            raise Lost(f"unreadable answer: {error}", sent=True) from None
        if len(answers) < len(letters) and not (chain and not holds(letters[len(answers) - 1].request, answers[-1])):
            raise Lost(f"{len(answers)} answers to {len(letters)} requests", sent=True)
        self.offers_batch = BATCH in answer.headers
        for letter, response in zip(letters, answers, strict=False):
            if response.status in UNSURE or response.status in LATER:
                raise Lost(f"status {response.status} inside a batch: {response.error}", sent=True)
            self._admitted(letter, response)
        return answers

    def _admitted(self, letter: Letter, response: Response) -> Response:
        if response.status in (401, 403):
            hint = self._remedy if response.status == 401 else FORBIDDEN
            raise self._refused(letter, response.status, response.error or "", hint)
        return response

    def _unreadable(self, letter: Letter, answer: Answer, problem: WireError) -> Response:
        """An answer without our envelope: what its HTTP status says, if that is anything."""
        status = answer.status
        text = answer.body[:SHOWN].decode(errors="replace").strip()
        if status == 401:
            raise self._refused(letter, status, text, self._remedy)
        if status == 403:  # by something in front of the server, or before it looked who we are: the text says why
            raise self._refused(letter, status, text)
        if status == 413:
            size = len(letter.body)
            return Response(413, error=f"{_described([letter])}: {size} bytes are more than the server takes: {text}")
        if 300 <= status < 500:
            # where a server has answered before, something in front of it answers in its place for a while
            kind = StorageUnavailable if self._answered else StorageUnusable
            raise kind(
                f"{self._shown} answered {_described([letter])} with HTTP {status} and no answer of the protocol "
                f"({text or 'empty'}): is the url that of a Resonate server, of version 2026-04-01?"
            )
        raise Lost(f"HTTP {status}: {problem}", sent=True)

    def _refused(self, letter: Letter, status: int, text: str, hint: str = "") -> ResonateStoreError:
        why = f"{status} {text}: {hint}" if hint else f"{status} {text}"
        return ResonateStoreError(f"{self._shown} refused {_described([letter])} with {why}", status * 100)


def _described(letters: Sequence[Letter]) -> str:
    """What was asked, for people: kind and id of the first, and how many more."""
    request = letters[0].meant
    kind = shapes.WRITERS[type(request)][0]
    id = getattr(request, "id", None) or getattr(request, "awaited", None) or getattr(_action(request), "id", "")
    more = f" and {len(letters) - 1} more" if len(letters) > 1 else ""
    return f"{kind} {id!r}{more}" if id else f"{kind}{more}"


def _action(request: Request) -> object:
    return getattr(request, "action", None)
