"""Many requests to one server: in one round trip where it offers that, else one after the other.

Ours, of the contract of `Network.send`, are here: the chain's rule over several round trips,
the write of a promise in one request (which travels as creation and settlement), and what a
batch means that was sent again because its answer was lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from resonate.errors import OutcomeUnknown, ResonateStoreError, StorageUnavailable
from resonate.network.http.exchange import Exchange, Letter
from resonate.network.http.remedies import Remedies, as_answered
from resonate.protocol.chain import holds
from resonate.protocol.records import PENDING
from resonate.protocol.requests import (
    OURS,
    PromiseCreate,
    PromiseGet,
    PromiseRegisterListener,
    PromiseSettle,
    PromiseWrite,
    Request,
    Response,
    TaskAcquire,
    TaskFence,
    TaskFulfill,
    TaskGet,
    TaskHeartbeat,
    TaskRelease,
    TaskSuspend,
)

BATCH_MAX: Final = 1000
"""Requests in one batch, by the extension's rule."""

BATCH_BYTES: Final = 2_000_000
"""Bytes of one batch: below the 2 MiB that a body may have (protocol 2.4)."""

ALIKE: Final = frozenset(
    (PromiseGet, TaskGet, PromiseRegisterListener, PromiseSettle, TaskAcquire, TaskRelease, TaskHeartbeat)
)
"""Kinds of which several in a row may be sent side by side: none changes what the others answer."""

SIDE_BY_SIDE: Final = 8
"""Requests on their way at once to a server that takes no batches."""


_PROBE: Final = "resonate.ready"  # a promise that may or may not exist
_FORBIDDEN: Final = 100.403
_FOREIGN: Final = "the server is of another make, which knows no such request"


class Batches:
    """Sends lists of requests.

    Args:
        exchange: sends one, or one batch.
    """

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.remedies = Remedies(self.ask)
        self._helpers: ThreadPoolExecutor | None = None

    def ask(self, request: Request) -> Response:
        """The answer to one request that may be repeated blindly."""
        return self.exchange.one(self.exchange.letter(request))[0]

    def send(self, requests: Sequence[Request], *, chain: bool) -> list[Response]:
        """Answer `requests`; see `Network.send`."""
        if not requests:
            return []
        split = _halves(requests)
        wire = requests if split is None else split
        letters = [self.exchange.letter(request) for request in wire]
        answers: list[Response] = []
        try:
            (self._chain if chain else self._all)(letters, answers)
        except StorageUnavailable as error:
            if answers:
                raise OutcomeUnknown(f"{error.mesg} (the {len(answers)} requests before it were applied)") from None
            raise
        return answers if split is None else _joined(requests, answers)

    def stop(self) -> None:
        """Free the threads. Idempotent."""
        self.exchange.stop()
        if self._helpers is not None:
            self._helpers.shutdown(wait=False, cancel_futures=True)

    # ---- one after the other ---------------------------------------------------------------------

    def _chain(self, letters: list[Letter], answers: list[Response]) -> None:
        unsure = False
        while len(answers) < len(letters):
            rest = letters[len(answers) :]
            got, again = self._piece(rest, chain=True)
            unsure = unsure or again
            answers += got
            if not holds(letters[len(answers) - 1].request, answers[-1]) and not self._mend(letters, answers, unsure):
                return

    def _all(self, letters: list[Letter], answers: list[Response]) -> None:
        while len(answers) < len(letters):
            rest = letters[len(answers) :]
            if isinstance(rest[0].request, OURS) and not self._is_ours(rest[0].request):
                answers.append(Response(501, error=_FOREIGN))
                continue
            alike = self._alike(rest)
            if alike > 1:
                answers += self._side_by_side(rest[:alike])
                continue
            got, unsure = self._piece(rest, chain=False)
            answers += [self._understood(to, answer, unsure) for to, answer in zip(rest, got, strict=False)]

    def _is_ours(self, request: Request) -> bool:
        """Whether the server is of our make, and so knows `request`; others may not even answer it."""
        if self.exchange.offers_batch is None:
            try:
                self.exchange.one(self.exchange.letter(PromiseGet(_PROBE), before=request))
            except ResonateStoreError as error:
                if error.code != _FORBIDDEN:  # that promise is not ours to read; the request may be
                    raise
        return self.exchange.offers_batch is not False

    def _piece(self, letters: list[Letter], *, chain: bool) -> tuple[list[Response], bool]:
        """Send as many of `letters` as one round trip takes; their answers, and whether one was sent twice."""
        exchange = self.exchange
        size = _room(letters) if exchange.offers_batch else 1
        if size > 1:
            answers, unsure = exchange.batch(letters[:size], chain=chain)
            if answers is not None:
                return answers, unsure
        answer, unsure = exchange.one(letters[0])
        return [answer], unsure

    def _understood(self, letter: Letter, answer: Response, unsure: bool) -> Response:
        if unsure and answer.status in (404, 409):
            return self.remedies.after(letter.request, answer)
        return self.remedies.taken(answer) if answer.task is not None and not _reads(letter.request) else answer

    # ---- side by side ----------------------------------------------------------------------------

    def _alike(self, letters: list[Letter]) -> int:
        """How many of the first may be sent side by side; only worth it where there are no batches."""
        if self.exchange.offers_batch is not False or type(letters[0].request) not in ALIKE:
            return 1
        kind = type(letters[0].request)
        for at, letter in enumerate(letters):
            if type(letter.request) is not kind:
                return at
        return len(letters)

    def _side_by_side(self, letters: list[Letter]) -> list[Response]:
        if self._helpers is None:
            self._helpers = ThreadPoolExecutor(SIDE_BY_SIDE, "resonate-http")
        return list(self._helpers.map(self._alone, letters))

    def _alone(self, letter: Letter) -> Response:
        answer, unsure = self.exchange.one(letter)
        return self._understood(letter, answer, unsure)

    # ---- broken chains ---------------------------------------------------------------------------

    def _mend(self, letters: list[Letter], answers: list[Response], unsure: bool) -> bool:
        """Whether the chain, broken at the last of `answers`, goes on after all; completes them if all is done.

        A creation may find its promise settled by the very settlement that follows: the two
        are one write, or the batch was applied before and its answer lost.
        """
        at = len(answers) - 1
        request, answer = letters[at].request, answers[at]
        if answer.status < 400:
            return _settled_by(request, answer, letters[at + 1 :] if unsure else letters[at + 1 : at + 2])
        last = letters[-1].request
        if not unsure or answer.status not in (404, 409) or not isinstance(last, TaskFulfill | TaskSuspend):
            return False
        end = self.remedies.applied(last)
        if end is None:
            return False
        wire = [letter.request for letter in letters]
        answers[at:] = [*(as_answered(request, wire) for request in wire[at:-1]), end]
        return True


def _room(letters: list[Letter]) -> int:
    """How many of `letters` fit one batch; at least one."""
    size = 0
    for at, letter in enumerate(letters):
        size += len(letter.body) + 1
        if at == BATCH_MAX or (size > BATCH_BYTES and at):
            return at
    return len(letters)


def _halves(requests: Sequence[Request]) -> list[Request] | None:
    """`requests` with each write as creation and settlement; None if there is none."""
    if not any(type(request) is TaskFence and type(request.action) is PromiseWrite for request in requests):
        return None
    wire: list[Request] = []
    for request in requests:
        if type(request) is TaskFence and type(request.action) is PromiseWrite:
            wire.append(TaskFence(request.id, request.version, request.action.create, request.preload))
            wire.append(TaskFence(request.id, request.version, request.action.settle, request.preload))
        else:
            wire.append(request)
    return wire


def _joined(requests: Sequence[Request], answers: list[Response]) -> list[Response]:
    """The answers to `requests` from those to their halves, which may end early."""
    joined: list[Response] = []
    left = iter(answers)
    for request in requests:
        answer = next(left, None)
        if answer is None:
            break
        if type(request) is TaskFence and type(request.action) is PromiseWrite:
            answer = next(left, answer)
        joined.append(answer)
    return joined


def _settled_by(request: Request, answer: Response, rest: Sequence[Letter]) -> bool:
    """Whether a creation found its promise as the settlement of it among `rest` leaves it."""
    if type(request) is not TaskFence or type(request.action) is not PromiseCreate or answer.action is None:
        return False
    promise = answer.action.promise
    if promise is None or promise.state == PENDING:
        return False
    for letter in rest:
        later = letter.request
        action = later.action if type(later) is TaskFence else None
        if type(action) is PromiseSettle and action.id == promise.id:
            return (action.state, action.value) == (promise.state, promise.value)
    return False


def _reads(request: Request) -> bool:
    return type(request) is TaskGet
