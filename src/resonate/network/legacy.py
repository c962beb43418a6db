"""A user's own store and message source as a network: today's protocol over the old one.

Requests are translated one by one (`legacy_store`), tasks get what the old protocol lacks
(`legacy_tasks`), messages are heard on one thread. Store errors with the code of an
expected refusal become statuses. All others are raised, and the worker gives the execution
up to whoever gets its task next; repeating is safe, for every create and settle of an
execution names its id as its key.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from resonate.clock import Clock, SystemClock
from resonate.daemons import Daemon
from resonate.errors import ResonateStoreError
from resonate.models.message_source import Mesg, MessageSource
from resonate.models.store import Store
from resonate.network.apart import Apart
from resonate.network.base import ANY
from resonate.network.legacy_records import promise_told
from resonate.network.legacy_store import OldStore
from resonate.network.legacy_tasks import OldTasks
from resonate.protocol.chain import holds
from resonate.protocol.ids import EMBEDDED
from resonate.protocol.records import PENDING, Execute, Message, Promise, Unblock
from resonate.protocol.requests import (
    OURS,
    PromiseCreate,
    PromiseGet,
    PromiseRegisterCallback,
    PromiseRegisterListener,
    PromiseSearch,
    PromiseSettle,
    PromiseWrite,
    Request,
    Response,
    ScheduleCreate,
    ScheduleDelete,
    ScheduleGet,
    ScheduleSearch,
    TaskAcquire,
    TaskContinue,
    TaskCreate,
    TaskFence,
    TaskFulfill,
    TaskGet,
    TaskHalt,
    TaskHeartbeat,
    TaskRelease,
    TaskSearch,
    TaskSuspend,
)

PAUSE: Final = 1.0
"""Seconds between two attempts to hear from a message source that raises."""

JOIN: Final = 2.0
"""Seconds that `stop` waits for a message source to return from `next`."""

FAR: Final = 2**53 - 1
"""A deadline nobody lives to see, for subscriptions: their promise's own deadline is what counts."""

_LOG: Final = logging.getLogger("resonate.network")


class LegacyNetwork(Apart):
    """The network of a client whose store and message source are the user's own.

    Args:
        store, message_source: implement `models.store.Store` and `models.message_source.MessageSource`.
        group, pid: the client's; the addresses are the message source's.
        clock: gives instants; the store is taken to go by the same.
    """

    near = False
    inline = False
    dialect = EMBEDDED

    def __init__(
        self, store: Store, message_source: MessageSource, group: str, pid: str, clock: Clock | None = None
    ) -> None:
        self.group = group
        self.pid = pid
        self.old = OldStore(store, SystemClock() if clock is None else clock)
        self.tasks = OldTasks(self.old, pid, message_source.anycast)
        self._source = message_source
        self._messages: deque[Message] = deque()
        self._wake: Callable[[], None] = lambda: None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def start(self) -> None:
        """Start the message source and begin to hear from it. Idempotent."""
        if self._thread is None:
            self._source.start()
            self._thread = Daemon(target=self._hear, name="resonate-messages")
            self._thread.start()

    def leave(self) -> None:
        """A message source of the user's is only ever stopped."""

    def stop(self) -> None:
        """Stop the message source. Idempotent."""
        thread = self._thread
        if thread is None or self._stopping.is_set():
            return
        self._stopping.set()
        self._source.stop()
        if thread is not threading.current_thread():
            thread.join(JOIN)

    def now(self) -> int:
        """Milliseconds since the epoch; never goes backwards."""
        return self.old.now()

    def send(self, requests: Sequence[Request], *, chain: bool = False) -> list[Response]:
        """Answer `requests` one after the other; see `Network.send`.

        Raises:
            ResonateStoreError: the store raised something other than an expected refusal;
                the requests before that one have been applied.
        """
        answers: list[Response] = []
        try:
            self._answer(requests, chain, answers)
        except BaseException as error:
            self.tasks.unseen(requests, answers)
            if isinstance(error, ResonateStoreError) or not isinstance(error, Exception):
                raise
            what = type(requests[len(answers)]).__name__
            text = f"the store {type(self.old.store).__name__} raised {type(error).__name__} for {what}: {error}"
            raise ResonateStoreError(text, 500) from error
        return answers

    def _answer(self, requests: Sequence[Request], chain: bool, answers: list[Response]) -> None:
        fences = [request for request in requests if type(request) is TaskFence]
        if fences:
            self.tasks.journal(fences)
        for request in requests:
            answer = _HANDLERS[type(request)](self, request)
            answers.append(answer)
            if chain and not holds(request, answer):
                return

    async def asend(self, requests: Sequence[Request], *, chain: bool = False) -> list[Response]:
        """`send` on a thread of the loop's executor: a user's store may block."""
        return await asyncio.to_thread(self.send, requests, chain=chain)

    def keeper(self) -> str:
        """What keeps the promises, for errors."""
        return f"the store {type(self.old.store).__name__}"

    def listen(self, wake: Callable[[], None], reopened: Callable[[], None] | None = None) -> None:
        """Have `wake` called when `take` may have something."""
        self._wake = wake

    def take(self, limit: int, leave: Collection[str] = (), offers: int = ANY) -> list[Message]:
        """Up to `limit` messages; those left stay with us, for the source has given them away."""
        messages = self._messages
        taken: list[Message] = []
        for _ in range(len(messages)):
            if len(taken) == limit:
                break
            message = messages.popleft()
            if isinstance(message, Execute):
                if message.id in leave or not offers:
                    messages.append(message)
                    continue
                offers -= 1
            taken.append(message)
        return taken

    def anycast(self, group: str) -> str:
        """The address of any worker of `group`; of our own the message source knows it."""
        return self._source.anycast if group == self.group else f"poll://any@{group}"

    def unicast(self) -> str:
        """The address of this very client."""
        return self._source.unicast

    # ---- messages --------------------------------------------------------------------------------

    def _hear(self) -> None:
        while not self._stopping.is_set():
            try:
                mesg = self._source.next()
                if mesg is None:
                    return
                message = self._understood(mesg)
            except Exception as error:
                _LOG.warning("the message source failed, trying again in %g s: %s", PAUSE, error)
                self._stopping.wait(PAUSE)
                continue
            if message is not None:
                self._messages.append(message)
                self._wake()

    def _understood(self, mesg: Mesg) -> Message | None:
        kind: str = mesg["type"]
        if kind == "notify":
            return Unblock(promise_told(mesg["promise"], self.old.store.encoder))  # type: ignore[typeddict-item]
        if kind not in ("invoke", "resume"):
            _LOG.warning("a message of the unknown type %r is left alone", kind)
            return None
        task = mesg["task"]  # type: ignore[typeddict-item]
        id, version = self.tasks.offered((task["id"], task["counter"]))
        return Execute(id, version)

    # ---- requests --------------------------------------------------------------------------------

    def _promise_get(self, request: PromiseGet) -> Response:
        return _shown(request.id, self.old.read(request.id))

    def _promise_create(self, request: PromiseCreate) -> Response:
        return Response(200, self.old.create(request))

    def _promise_settle(self, request: PromiseSettle) -> Response:
        return _shown(request.id, self.old.settle(request))

    def _promise_write(self, request: PromiseWrite) -> Response:
        created = self.old.create(request.create)
        return Response(200, created) if created.state != PENDING else self._promise_settle(request.settle)

    def _promise_register_callback(self, request: PromiseRegisterCallback) -> Response:
        promise, _ = self.old.callback(request.awaited, request.awaiter, self._source.anycast, FAR)
        return _shown(request.awaited, promise)

    def _promise_register_listener(self, request: PromiseRegisterListener) -> Response:
        address = request.address
        id = self.pid if address == self.unicast() else address
        return _shown(request.awaited, self.old.subscribe(id, request.awaited, address, FAR))

    def _task_fence(self, request: TaskFence) -> Response:
        refusal = self.tasks.refused(request.id, request.version)
        if refusal is not None:
            return refusal
        return Response(200, action=_ACTIONS[type(request.action)](self, request.action))

    def _schedule_get(self, request: ScheduleGet) -> Response:
        schedule = self.old.schedule(request.id)
        if schedule is None:
            return _no_schedule(request.id)
        return Response(200, schedule=schedule)

    def _schedule_create(self, request: ScheduleCreate) -> Response:
        return Response(200, schedule=self.old.create_schedule(request))

    def _schedule_delete(self, request: ScheduleDelete) -> Response:
        return Response(200) if self.old.delete_schedule(request.id) else _no_schedule(request.id)

    def _search(self, request: Any) -> Response:
        return Response(501, error=f"the store {type(self.old.store).__name__} offers no search")


def _shown(id: str, promise: Promise | None) -> Response:
    if promise is None:
        return Response(404, error=f"promise {id!r} not found")
    return Response(200, promise)


def _no_schedule(id: str) -> Response:
    return Response(404, error=f"schedule {id!r} not found")


_ACTIONS: Final[dict[type, Callable[[LegacyNetwork, Any], Response]]] = {
    PromiseCreate: LegacyNetwork._promise_create,
    PromiseSettle: LegacyNetwork._promise_settle,
    PromiseWrite: LegacyNetwork._promise_write,
}

_HANDLERS: Final[dict[type, Callable[[LegacyNetwork, Any], Response]]] = {
    PromiseGet: LegacyNetwork._promise_get,
    PromiseCreate: LegacyNetwork._promise_create,
    PromiseSettle: LegacyNetwork._promise_settle,
    PromiseRegisterCallback: LegacyNetwork._promise_register_callback,
    PromiseRegisterListener: LegacyNetwork._promise_register_listener,
    PromiseSearch: LegacyNetwork._search,
    TaskGet: lambda network, request: network.tasks.get(request),
    TaskCreate: lambda network, request: network.tasks.create(request),
    TaskAcquire: lambda network, request: network.tasks.acquire(request),
    TaskRelease: lambda network, request: network.tasks.release(request),
    TaskFulfill: lambda network, request: network.tasks.fulfill(request),
    TaskSuspend: lambda network, request: network.tasks.suspend(request),
    TaskFence: LegacyNetwork._task_fence,
    TaskHeartbeat: lambda network, request: network.tasks.heartbeat(request),
    TaskHalt: lambda network, request: network.tasks.halt(request),
    TaskContinue: lambda network, request: network.tasks.go_on(request),
    TaskSearch: LegacyNetwork._search,
    ScheduleGet: LegacyNetwork._schedule_get,
    ScheduleCreate: LegacyNetwork._schedule_create,
    ScheduleDelete: LegacyNetwork._schedule_delete,
    ScheduleSearch: LegacyNetwork._search,
    **dict.fromkeys(OURS, LegacyNetwork._search),
}
