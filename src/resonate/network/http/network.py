"""A server as a network: the contract of `network.base` over HTTP.

What a server of another make does differently is evened out here, so that nothing above
knows whom it is talking to: one heartbeat per origin, a preload that is completed by a
search, the dialect of its ids (protocol 0.2, 9.3, 9.6).
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Final
from urllib.parse import quote

from msgspec.structs import replace

from resonate.errors import ResonateStoreError
from resonate.network.apart import Apart
from resonate.network.base import ANY
from resonate.network.http.batches import Batches
from resonate.network.http.connection import REQUEST, Connections, Server
from resonate.network.http.exchange import PATIENCE, Exchange
from resonate.network.http.offset import ServerClock
from resonate.network.http.stream import SILENCE, Stream
from resonate.network.http.trees import WholeTrees
from resonate.protocol.ids import TODAY, Dialect
from resonate.protocol.records import BRANCH, Execute, Message, Promise, Unblock
from resonate.protocol.requests import (
    PromiseRegisterCallback,
    PromiseSearch,
    Request,
    Response,
    TaskAcquire,
    TaskHeartbeat,
    TaskRef,
    TaskRelease,
)
from resonate.protocol.transfer import Tree
from resonate.protocol.wire import WireError, decode_message

OFFERS: Final = 10_000
"""Offers kept until there is room for them; the server repeats those beyond (protocol 6.2, R6)."""

PAGE: Final = 1000
PAGES: Final = 10_000
"""Promises per page, and pages, of a branch that is read by search; more than a replay could hold."""

LEASE: Final = 10_000
"""Milliseconds for which a task is leased that is given back at once."""

LOOP_THREADS: Final = 32
"""Requests that event loops wait for at the same time; more wait for a thread."""

_LOG: Final = logging.getLogger("resonate.network")


class HttpNetwork(Apart):
    """Requests to and messages from one server.

    Args:
        url: of the server, http or https, with the path it is mounted under if any.
        group, pid: whose messages to receive.
        token: sent in each envelope and as `Authorization: Bearer`.
        auth: (user, password) for basic auth; only without a token.
        timeout: seconds of silence after which one attempt is given up.
        patience: seconds for which requests are repeated while the server is gone.
        silence: seconds without a byte after which the stream of messages is opened again.

    Raises:
        UsageError: `url` names no server.
    """

    near = False
    inline = False

    def __init__(
        self,
        url: str,
        group: str,
        pid: str,
        *,
        token: str | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float = REQUEST,
        patience: float = PATIENCE,
        silence: float = SILENCE,
    ) -> None:
        self.group = group
        self.pid = pid
        server = Server.at(url, token, auth)
        self._url = server.shown
        self._clock = ServerClock()
        self.now = self._clock.now
        self._connections = Connections(server, timeout)
        self._exchange = Exchange(self._connections, self._clock, token, patience, lambda: self._stream.hurry())
        self._batches = Batches(self._exchange)
        self._whole = WholeTrees(server, max(timeout, PATIENCE))
        path = f"/poll/{quote(group, safe='')}/{quote(pid, safe='')}"
        self._stream = Stream(server, path, self._heard, self._opened, self._beats, silence=silence)
        self._news: deque[Unblock] = deque()
        self._offers: OrderedDict[str, Execute] = OrderedDict()
        self._lock = Lock()
        self._wake: Callable[[], None] | None = None
        self._reopened: Callable[[], None] = lambda: None
        self._dialect: Dialect | None = None
        self._loop_threads: ThreadPoolExecutor | None = None

    # ---- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to receive messages, if somebody listens. Idempotent."""
        if self._wake is not None:
            self._stream.start()

    def leave(self) -> None:
        """Receive nothing more, and let others have the tasks that were offered to us. Idempotent.

        The stream ends first: what is given back from now on is not offered to us again.
        """
        self._stream.stop()
        self._exchange.leave()
        with self._lock:
            offers = list(self._offers.values())
            self._offers.clear()
        if not offers:
            return
        try:
            answers = self.send([TaskAcquire(offer.id, offer.version, self.pid, LEASE, False) for offer in offers])
            ours = [answer.task for answer in answers if answer.status == 200 and answer.task is not None]
            self.send([TaskRelease(task.id, task.version) for task in ours])
        except ResonateStoreError as error:
            _LOG.warning("%d offered tasks are offered to others only in a while: %s", len(offers), error)

    def stop(self) -> None:
        """Close every connection and end every thread; requests under way may still be answered. Idempotent."""
        self._batches.stop()
        self._stream.stop()
        self._connections.close()
        if self._loop_threads is not None:
            self._loop_threads.shutdown(wait=False)

    def keeper(self) -> str:
        """What keeps the promises, for errors."""
        return f"the server at {self._url}"

    # ---- requests --------------------------------------------------------------------------------

    def send(self, requests: Sequence[Request], *, chain: bool = False) -> list[Response]:
        """Answer `requests` in order; see `Network.send`.

        Raises:
            StorageUnavailable: the server stayed out of reach and has not seen the request.
            OutcomeUnknown: no answer came, and some of it may have been applied.
            ResonateStoreError: the server refused our token, or is no server of this protocol.
        """
        if len(requests) == 1 and type(requests[0]) is TaskHeartbeat:
            return [self._heartbeat(requests[0])]
        answers = self._batches.send(requests, chain=chain)
        for at, answer in enumerate(answers):
            request = requests[at]
            if answer.partial or (type(request) is TaskAcquire and answer.status == 200 and request.preload):
                answers[at] = self._completed(answer)
        return answers

    async def asend(self, requests: Sequence[Request], *, chain: bool = False) -> list[Response]:
        """`send` for an event loop: on a thread, which costs a loop less than a client of its own would."""
        if self._loop_threads is None:
            self._loop_threads = ThreadPoolExecutor(LOOP_THREADS, "resonate-http")
        send = self.send
        return await asyncio.get_running_loop().run_in_executor(self._loop_threads, lambda: send(requests, chain=chain))

    @property
    def dialect(self) -> Dialect:
        """How the server wants ids; asked once of servers of another make, by requests that change nothing.

        Raises:
            ResonateStoreError: the server is out of reach.
        """
        if self._exchange.offers_batch:
            return TODAY
        if self._dialect is None:
            self._dialect = self._probe()
        return self._dialect

    def _heartbeat(self, request: TaskHeartbeat) -> Response:
        """One request, but one per origin where the server is not known to take several (D5)."""
        if self._exchange.offers_batch or len(request.tasks) < 2:
            return self._batches.ask(request)
        origins: dict[str, list[TaskRef]] = {}
        separator = self.dialect.separator
        for ref in request.tasks:
            origins.setdefault(ref.id.partition(separator)[0], []).append(ref)
        beats = [TaskHeartbeat(request.pid, tuple(refs)) for refs in origins.values()]
        answers = self._batches.send(beats, chain=False)
        return next((answer for answer in answers if answer.status != 200), answers[0])

    def _completed(self, answer: Response) -> Response:
        """The answer to an acquisition with everything that is recorded of its branch.

        Our server answers with all of it; of others nothing is known (D14), so it is searched for.
        """
        promise, task = answer.promise, answer.task
        if promise is None or task is None:
            return answer
        if not answer.partial and (task.version == 1 or self._exchange.offers_batch):
            return answer
        found: list[Promise] = []
        cursor: str | None = None
        branch = promise.tags.get(BRANCH, promise.id)
        for _ in range(PAGES):
            page = self._batches.ask(PromiseSearch(tags={BRANCH: branch}, limit=PAGE, cursor=cursor))
            if page.status != 200:
                return replace(answer, partial=True)
            found += [other for other in page.promises or () if other.id != promise.id]
            cursor = page.cursor
            if cursor is None:
                return replace(answer, preload=found, partial=False)
        return replace(answer, partial=True)

    def _probe(self) -> Dialect:
        try:
            old = self._batches.ask(PromiseRegisterCallback("probe.1", "probe")).status
            if self._exchange.offers_batch:
                return TODAY
            new = self._batches.ask(PromiseRegisterCallback("probe:1", "probe")).status
        except ResonateStoreError as error:
            if error.code == 100.401:  # of whoever asks first, who knows nothing of the probe
                text = f"{self._url} does not know this client (401): {self._connections.server.remedy}"
                raise ResonateStoreError(text, 40100) from None
            if error.code != 100.403:
                raise
            return TODAY  # a token for some ids only: the probe's are not among them
        if (old, new) != (404, 400):
            return TODAY
        # A timer is armed there only if it has a target; this one is valid and reaches nobody.
        return Dialect(".", f"poll://uni@{self.group}")

    # ---- whole trees -----------------------------------------------------------------------------

    def purge(self, id: str) -> None:
        """Delete the finished tree of `id`; see `Network.purge`."""
        self._whole.purge(id)

    def bring(self, tree: Tree) -> None:
        """Store a whole exported tree; see `Network.bring`."""
        self._whole.bring(tree)

    # ---- messages --------------------------------------------------------------------------------

    def listen(self, wake: Callable[[], None], reopened: Callable[[], None] | None = None) -> None:
        """Have `wake` called when `take` may have something, `reopened` when messages may have been lost."""
        self._wake = wake
        if reopened is not None:
            self._reopened = reopened

    def take(self, limit: int, leave: Collection[str] = (), offers: int = ANY) -> list[Message]:
        """Up to `limit` messages; what is left stays with us, for the server has given it away."""
        taken: list[Message] = []
        with self._lock:
            while self._news and len(taken) < limit:
                taken.append(self._news.popleft())
            for id in self._free(min(offers, limit - len(taken)), leave):
                taken.append(self._offers.pop(id))
        return taken

    def anycast(self, group: str) -> str:
        """The address of any worker of `group`."""
        return f"poll://any@{group}"

    def unicast(self) -> str:
        """The address of this very client."""
        return f"poll://uni@{self.group}/{self.pid}"

    def _free(self, count: int, leave: Collection[str]) -> Iterable[str]:
        if count <= 0:
            return ()
        found: list[str] = []
        for id in self._offers:
            if len(found) == count:
                break
            if id not in leave:
                found.append(id)
        return found

    def _heard(self, data: bytes) -> None:
        try:
            message = decode_message(data)
        except WireError as error:
            _LOG.warning("a message is left alone: %s", error)
            return
        if message is None:
            return
        with self._lock:
            if isinstance(message, Unblock):
                self._news.append(message)
            elif len(self._offers) < OFFERS or message.id in self._offers:
                known = self._offers.get(message.id)
                if known is None or known.version < message.version:
                    self._offers[message.id] = message
            else:
                _LOG.warning("no room for the offer of %s: the server will repeat it", message.id)
        if self._wake is not None:
            self._wake()

    def _opened(self) -> None:
        _LOG.debug("messages of %s come in", self._connections.server.shown)
        self._reopened()

    def _beats(self) -> bool:
        return self._exchange.offers_batch is not False  # nothing known yet: opening it once too often costs little


__all__ = ["HttpNetwork"]
