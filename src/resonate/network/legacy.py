"""A user's own store and message source as a network: the protocol of today over the old one.

Old stores know create, settle, callback and subscribe, and tasks that are claimed,
completed and kept by one heartbeat per process. What they lack is made up for here:

- *Versions and fences.* Each acquisition of a root counts up a version of this process; a
  fence is refused once the lease is known to be lost or has not been renewed for its ttl.
- *Preload.* Old stores cannot search. So before the children of a batch are created, their
  ids are written into a journal, itself promises (`ROOT:journal1`, ...); who takes the task
  over reads them. It is what keeps a finished step from running again after a crash.
- *Release and continue.* Old tasks can only be completed. To have one offered again, a short
  timer is created whose callback wakes the root.
- *One owner.* Each settled callback is a task of its own. One that arrives while the root
  is held here is claimed and completed: the next suspension sees what it stood for.

Store errors with the code of an expected refusal become statuses; all others are raised,
and the worker gives the execution up to whoever gets its task next. Repeating is safe:
every create and settle of an execution names its id as its key.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from resonate.clock import Clock, SystemClock
from resonate.errors import ResonateStoreError
from resonate.models.message_source import Mesg, MessageSource
from resonate.models.store import PromiseRecord, Store, TaskRecord
from resonate.network.legacy_records import (
    key_of,
    old_tags,
    promise_of,
    promise_told,
    schedule_of,
    text_of,
)
from resonate.network.marks import KEY, NONCE, to_wire
from resonate.protocol.chain import holds
from resonate.protocol.records import (
    ACQUIRED,
    BRANCH,
    FULFILLED,
    HALTED,
    ORIGIN,
    PARENT,
    PENDING,
    SCOPE,
    SUSPENDED,
    TARGET,
    TIMER,
    Execute,
    Message,
    Promise,
    Task,
    Unblock,
    Value,
)
from resonate.protocol.requests import (
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
from resonate.protocol.rows import project

NUDGE: Final = 200
"""Milliseconds until a released task is offered again."""

NUDGES: Final = 5
"""Timers tried for one release: each may be over before its callback is registered."""

PAUSE: Final = 1.0
"""Seconds between two attempts to hear from a message source that raises."""

JOIN: Final = 2.0
"""Seconds that `stop` waits for a message source to return from `next`."""

FAR: Final = 2**53 - 1
"""A deadline nobody lives to see, for subscriptions: their promise's own deadline is what counts."""

_NOT_FOUND: Final = (100.404, 100.40403)
_REFUSED: Final = (100.40303, 100.40399)
_NOT_OURS: Final = (100.40305, 100.40403, 100.404)

_LOG: Final = logging.getLogger("resonate.network")
_OK: Final = Response(200)


class _Root:
    """What this process knows of one root: its offers, and the lease while it holds one."""

    __slots__ = ("branch", "halted", "homes", "journaled", "lease", "lock", "timeout_at", "ttl", "until", "version")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.version = 0
        self.lease: tuple[str, int] | None = None
        self.until = 0.0
        self.ttl = 0
        self.branch = ""
        self.timeout_at = 0
        self.journaled = 0
        self.halted = False
        self.homes: set[str] = set()


class LegacyNetwork:
    """The network of a client whose store and message source are the user's own.

    Args:
        store, message_source: implement `models.store.Store` and `models.message_source.MessageSource`.
        group, pid: the client's; the addresses are the message source's.
        clock: gives instants; the store is taken to go by the same.
    """

    inline = False

    def __init__(
        self, store: Store, message_source: MessageSource, group: str, pid: str, clock: Clock | None = None
    ) -> None:
        self.store = store
        self.message_source = message_source
        self.group = group
        self.pid = pid
        self._clock = SystemClock() if clock is None else clock
        self._now = 0
        self._lock = threading.Lock()
        self._roots: dict[str, _Root] = {}
        self._offers: dict[str, deque[tuple[str, int]]] = {}
        self._homes: dict[str, str] = {}
        self._abandoned: list[tuple[str, tuple[str, int], int]] = []
        self._messages: deque[Message] = deque()
        self._wake: Callable[[], None] = lambda: None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    # ---- network ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the message source and begin to hear from it. Idempotent."""
        if self._thread is None:
            self.message_source.start()
            self._thread = threading.Thread(target=self._hear, name="resonate-messages", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop the message source. Idempotent."""
        self._stopping.set()
        thread = self._thread
        if thread is not None and thread.is_alive():
            self.message_source.stop()
            if thread is not threading.current_thread():
                thread.join(JOIN)

    def now(self) -> int:
        """Milliseconds since the epoch; never goes backwards."""
        self._now = max(self._now, self._clock.now())
        return self._now

    def send(self, requests: Sequence[Request], *, chain: bool = False) -> list[Response]:
        """Answer `requests` one after the other; see `Network.send`.

        Raises:
            ResonateStoreError: the store raised something other than an expected refusal;
                the requests before that one have been applied.
        """
        answers: list[Response] = []
        try:
            self._journal(requests)
            for request in requests:
                answer = _HANDLERS[type(request)](self, request)
                answers.append(answer)
                if chain and not holds(request, answer):
                    break
        except ResonateStoreError:
            raise
        except Exception as error:
            what = requests[len(answers)]
            text = f"the store {type(self.store).__name__} raised {type(error).__name__}: {error} ({what})"
            raise ResonateStoreError(text, 500) from error
        return answers

    async def asend(self, requests: Sequence[Request], *, chain: bool = False) -> list[Response]:
        """`send` on a thread of the loop's executor: a user's store may block."""
        return await asyncio.to_thread(self.send, requests, chain=chain)

    def listen(self, wake: Callable[[], None]) -> None:
        """Have `wake` called when `take` may have something."""
        self._wake = wake

    def take(self, limit: int) -> list[Message]:
        """Up to `limit` messages."""
        messages = self._messages
        taken: list[Message] = []
        while messages and len(taken) < limit:
            taken.append(messages.popleft())
        return taken

    def anycast(self, group: str) -> str:
        """The address of any worker of `group`; of our own the message source knows it."""
        return self.message_source.anycast if group == self.group else f"poll://any@{group}"

    def unicast(self) -> str:
        """The address of this very client."""
        return self.message_source.unicast

    # ---- messages --------------------------------------------------------------------------------

    def _hear(self) -> None:
        while not self._stopping.is_set():
            try:
                mesg = self.message_source.next()
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
        if mesg["type"] == "notify":
            return Unblock(promise_told(mesg["promise"], self.store.encoder))
        if mesg["type"] not in ("invoke", "resume"):
            _LOG.warning("a message of an unknown type is left alone: %r", mesg)
            return None
        id, counter = mesg["task"]["id"], mesg["task"]["counter"]
        home = self._homes.get(id) or id.removeprefix("__invoke:")
        with self._lock:
            self._offers.setdefault(home, deque()).append((id, counter))
        root = self._roots.get(home)
        return Execute(home, root.version if root is not None else 0)

    # ---- promises --------------------------------------------------------------------------------

    def _promise_get(self, request: PromiseGet) -> Response:
        record = self._read(request.id)
        return _no_promise(request.id) if record is None else Response(200, self._seen(record))

    def _promise_create(self, request: PromiseCreate) -> Response:
        return Response(200, self._created(request))

    def _promise_write(self, request: PromiseWrite) -> Response:
        created = self._created(request.create)
        return Response(200, created) if created.state != PENDING else self._promise_settle(request.settle)

    def _promise_settle(self, request: PromiseSettle) -> Response:
        try:
            return Response(200, self._settled(request))
        except ResonateStoreError as error:
            if error.code in _REFUSED:
                return self._promise_get(PromiseGet(request.id))
            if error.code in _NOT_FOUND:
                return _no_promise(request.id)
            raise

    def _promise_register_callback(self, request: PromiseRegisterCallback) -> Response:
        promise = self._await(request.awaited, request.awaiter, FAR)
        return _no_promise(request.awaited) if promise is None else Response(200, promise)

    def _promise_register_listener(self, request: PromiseRegisterListener) -> Response:
        address = request.address
        id = self.pid if address == self.unicast() else address
        try:
            record, _ = self.store.promises.subscribe(id=id, promise_id=request.awaited, recv=address, timeout=FAR)
        except ResonateStoreError as error:
            if error.code in _NOT_FOUND:
                return _no_promise(request.awaited)
            raise
        return Response(200, self._seen(record))

    def _created(self, request: PromiseCreate) -> Promise:
        id, tags = request.id, request.tags
        try:
            record = self.store.promises.create(
                id=id,
                timeout=request.timeout_at,
                ikey=key_of(id, tags),
                strict=False,
                headers=request.param.headers,
                data=text_of(request.param),
                tags=old_tags(tags),
            )
        except ResonateStoreError as error:
            if error.code not in _REFUSED:
                raise
            record = self.store.promises.get(id=id)  # it exists with another key: the protocol joins by id
        return self._seen(record)

    def _settled(self, request: PromiseSettle) -> Promise:
        value, promises = request.value, self.store.promises
        settle = {"resolved": promises.resolve, "rejected": promises.reject}.get(request.state, promises.cancel)
        headers = value.headers or {}
        record = settle(
            id=request.id,
            ikey=headers.get(KEY, None if NONCE in headers else request.id),
            strict=False,
            headers=value.headers,
            data=text_of(value),
        )
        return self._seen(record)

    def _read(self, id: str) -> PromiseRecord | None:
        try:
            return self.store.promises.get(id=id)
        except ResonateStoreError as error:
            if error.code in _NOT_FOUND:
                return None
            raise

    def _seen(self, record: PromiseRecord) -> Promise:
        """A store's promise, projected: a store may be late to time it out."""
        return project(promise_of(record), self.now())

    def _await(self, awaited: str, awaiter: str, timeout: int) -> Promise | None:
        """Have `awaiter` resumed once `awaited` is settled; the latter, or None if there is none."""
        try:
            record, callback = self.store.promises.callback(
                promise_id=awaited, root_promise_id=awaiter, recv=self.message_source.anycast, timeout=timeout
            )
        except ResonateStoreError as error:
            if error.code in _NOT_FOUND:
                return None
            raise
        root = self._roots.get(awaiter)
        if callback is not None and root is not None:
            self._homes[callback.id] = awaiter
            root.homes.add(callback.id)
        return self._seen(record)

    # ---- tasks: acquiring ------------------------------------------------------------------------

    def _task_create(self, request: TaskCreate) -> Response:
        id = request.action.id
        until = time.monotonic() + request.ttl / 1000
        record, task = self._created_with_task(request)
        promise = self._seen(record)
        if TARGET not in promise.tags:
            return Response(422, error=f"promise {id!r} exists without target, hence without a task")
        if promise.state != PENDING:
            self._forget(id)
            return Response(200, promise, Task(id, FULFILLED, 0, 0))
        if task is None:
            return Response(409, error=f"promise {id!r} exists; its task belongs to somebody else or waits")
        root = self._root(id)
        with root.lock:
            self._hold(root, promise, (task.id, task.counter), until, request.ttl)
            held = Task(id, ACQUIRED, root.version, 0, request.ttl, request.pid)
        return Response(200, promise, held)

    def _created_with_task(self, request: TaskCreate) -> tuple[PromiseRecord, TaskRecord | None]:
        create, id, tags = request.action, request.action.id, request.action.tags
        try:
            return self.store.promises.create_with_task(
                id=id,
                timeout=create.timeout_at,
                pid=request.pid,
                ttl=request.ttl,
                ikey=key_of(id, tags),
                strict=False,
                headers=create.param.headers,
                data=text_of(create.param),
                tags=old_tags(tags),
            )
        except ResonateStoreError as error:
            if error.code not in _REFUSED:
                raise
            return self.store.promises.get(id=id), None

    def _task_acquire(self, request: TaskAcquire) -> Response:
        with self._lock:
            offers = self._offers.pop(request.id, ())
        answer: Response | None = None
        for offer in offers:
            answer = self._claimed(offer, request) or answer
        if answer is not None:
            return answer
        return Response(409, error=f"task {request.id!r} is not on offer here any more")

    def _claimed(self, offer: tuple[str, int], request: TaskAcquire) -> Response | None:
        """Claim one offer; None if it is gone, over, or a root that is held here needs it no more."""
        id, counter = offer
        until = time.monotonic() + request.ttl / 1000
        try:
            record, leaf = self.store.tasks.claim(id=id, counter=counter, pid=request.pid, ttl=request.ttl)
        except ResonateStoreError as error:
            if error.code in _NOT_OURS:
                return None
            raise
        promise = self._seen(record)
        if promise.state != PENDING:
            self._complete(offer)
            self._forget(promise.id)
            return None
        root = self._root(promise.id)
        with root.lock:
            if root.lease is not None and root.lease[0] != id and not self._lost(promise.id, root):
                self._complete(offer)
                return None
            self._hold(root, promise, offer, until, request.ttl)
            held = Task(promise.id, ACQUIRED, root.version, 0, request.ttl, request.pid)
        preload = self._recorded(promise.id, root) if request.preload else ()
        resumed = () if leaf is None else (leaf.id,)
        return Response(200, promise, held, preload=preload, resumed=resumed)

    def _hold(self, root: _Root, promise: Promise, lease: tuple[str, int], until: float, ttl: int) -> None:
        root.version += 1
        root.lease, root.until, root.ttl = lease, until, ttl
        root.branch = promise.tags.get(BRANCH, promise.id)
        root.timeout_at = promise.timeout_at
        root.halted = False

    # ---- tasks: while held -----------------------------------------------------------------------

    def _task_fence(self, request: TaskFence) -> Response:
        refusal = self._refused(request.id, request.version)
        if refusal is not None:
            return refusal
        return Response(200, action=_ACTIONS[type(request.action)](self, request.action))

    def _task_heartbeat(self, request: TaskHeartbeat) -> Response:
        self._release_abandoned()
        begun = time.monotonic()
        self.store.tasks.heartbeat(pid=request.pid)
        for ref in request.tasks:
            root = self._roots.get(ref.id)
            if root is not None and root.lease is not None and root.version == ref.version:
                root.until = begun + root.ttl / 1000
        return _OK

    def _task_get(self, request: TaskGet) -> Response:
        id = request.id
        root = self._roots.get(id)
        if root is None or not root.version:
            return Response(404, error=f"task {id!r} is not known here, and this kind of store cannot be asked")
        if root.lease is not None:
            return Response(200, task=Task(id, ACQUIRED, root.version, 0, root.ttl, self.pid))
        return Response(200, task=Task(id, HALTED if root.halted else SUSPENDED, root.version, 0))

    def _refused(self, id: str, version: int) -> Response | None:
        """The refusal if the lease that a request counts on is not held any more."""
        root = self._roots.get(id)
        if root is not None and root.lease is not None and root.version == version and not self._lost(id, root):
            return None
        return Response(409, error=f"task {id!r} is not held here as version {version} any more")

    def _lost(self, id: str, root: _Root) -> bool:
        """Whether the lease has not been renewed in time; if so it is given back when that is possible."""
        if time.monotonic() < root.until:
            return False
        with root.lock:
            lease, root.lease = root.lease, None
        if lease is not None:
            self._abandoned.append((id, lease, root.timeout_at))
        return True

    # ---- tasks: giving up ------------------------------------------------------------------------

    def _task_fulfill(self, request: TaskFulfill) -> Response:
        id, action = request.id, request.action
        refusal = self._refused(id, request.version)
        if refusal is not None:
            return refusal
        answer = self._promise_settle(action)
        promise = answer.promise
        if promise is None:
            return answer
        root = self._root(id)
        if root.lease is not None:
            self._complete(root.lease)
        self._forget(id)
        if promise.state != action.state or promise.value != action.value:
            return Response(409, error=f"promise {id!r} was settled by somebody else")
        return answer

    def _task_suspend(self, request: TaskSuspend) -> Response:
        id = request.id
        root = self._root(id)
        with root.lock:
            refusal = self._refused(id, request.version)
            if refusal is not None:
                return refusal
            for action in request.actions:
                promise = self._await(action.awaited, id, root.timeout_at)
                if promise is None:
                    return Response(422, error=f"awaited: promise {action.awaited!r} not found")
                if promise.state != PENDING:
                    return Response(300)
            lease, root.lease = root.lease, None
            assert lease is not None
            try:
                self.store.tasks.complete(id=lease[0], counter=lease[1])
            except ResonateStoreError as error:
                if error.code in _NOT_OURS:
                    return Response(409, error=f"task {id!r} was taken away: {error}")
                root.lease = lease
                raise
        return _OK

    def _task_release(self, request: TaskRelease) -> Response:
        id = request.id
        root = self._root(id)
        with root.lock:
            refusal = self._refused(id, request.version)
            if refusal is not None:
                return refusal
            lease, root.lease = root.lease, None
            assert lease is not None
            try:
                self._nudge(id, root.timeout_at)
                self._complete(lease)
            except BaseException:
                self._abandoned.append((id, lease, root.timeout_at))
                raise
        return _OK

    def _task_halt(self, request: TaskHalt) -> Response:
        root = self._roots.get(request.id)
        if root is None or root.lease is None:
            return Response(409, error=f"task {request.id!r} is not held here, and this kind of store cannot halt it")
        with root.lock:
            lease, root.lease = root.lease, None
            if lease is not None:
                self._complete(lease)
            root.halted = True
        return _OK

    def _task_continue(self, request: TaskContinue) -> Response:
        root = self._roots.get(request.id)
        if root is None or not root.halted:
            return Response(409, error=f"task {request.id!r} was not halted here")
        self._nudge(request.id, root.timeout_at)
        root.halted = False
        return _OK

    def _complete(self, lease: tuple[str, int]) -> None:
        """Complete a task that is over anyway; that somebody else has it by now is no matter."""
        try:
            self.store.tasks.complete(id=lease[0], counter=lease[1])
        except ResonateStoreError as error:
            if error.code not in _NOT_OURS:
                raise

    def _nudge(self, id: str, timeout_at: int) -> None:
        """Have the root `id` resumed in a moment."""
        for attempt in range(1, NUDGES + 1):
            timer = f"{id}:again-{uuid.uuid4().hex[:12]}"
            tags = {TIMER: "true", PARENT: id, SCOPE: "global"}
            self._created(PromiseCreate(timer, self.now() + NUDGE * attempt, tags=tags))
            promise = self._await(timer, id, timeout_at)
            if promise is not None and promise.state == PENDING:
                return
        raise ResonateStoreError(f"task {id!r} could not be released: the store is too slow", 0)

    def _release_abandoned(self) -> None:
        """Give back what was let go while the store did not answer; our heartbeat would keep it else."""
        for entry in list(self._abandoned):
            id, lease, timeout_at = entry
            self._nudge(id, timeout_at)
            self._complete(lease)
            self._abandoned.remove(entry)

    def _root(self, id: str) -> _Root:
        root = self._roots.get(id)
        return root if root is not None else self._roots.setdefault(id, _Root())

    def _forget(self, id: str) -> None:
        root = self._roots.pop(id, None)
        if root is not None:
            root.lease = None
            for home in root.homes:
                self._homes.pop(home, None)

    # ---- journal ---------------------------------------------------------------------------------

    def _journal(self, requests: Sequence[Request]) -> None:
        """Write down which children of a root `requests` create, before they exist."""
        fences = [request for request in requests if type(request) is TaskFence]
        if not fences:
            return
        id, version = fences[0].id, fences[0].version
        root = self._roots.get(id)
        if root is None or self._refused(id, version) is not None:
            return
        creations = (_creation(fence.action) for fence in fences)
        children = [create.id for create in creations if create is not None and create.tags.get(BRANCH) == root.branch]
        if children:
            self._write_page(id, root, json.dumps(children, separators=(",", ":")))

    def _write_page(self, id: str, root: _Root, text: str) -> None:
        data = to_wire(text)
        tags = {ORIGIN: id.partition(":")[0], PARENT: id, SCOPE: "local"}
        while True:
            root.journaled += 1
            page = PromiseCreate(f"{id}:journal{root.journaled}", root.timeout_at, Value(None, data), tags)
            if self._created(page).param.data == data:  # else a holder before us wrote that page
                return

    def _recorded(self, id: str, root: _Root) -> list[Promise]:
        """Every child of the root that the journal names and the store has."""
        children: dict[str, None] = {}
        root.journaled = 0
        while (record := self._read(f"{id}:journal{root.journaled + 1}")) is not None:
            root.journaled += 1
            children.update(dict.fromkeys(json.loads(record.param.data or "[]")))
        records = (self._read(child) for child in sorted(children))
        return [self._seen(record) for record in records if record is not None]

    # ---- schedules -------------------------------------------------------------------------------

    def _schedule_get(self, request: ScheduleGet) -> Response:
        try:
            return Response(200, schedule=schedule_of(self.store.schedules.get(id=request.id)))
        except ResonateStoreError as error:
            if error.code in _NOT_FOUND:
                return Response(404, error=f"schedule {request.id!r} not found")
            raise

    def _schedule_create(self, request: ScheduleCreate) -> Response:
        known = self._schedule_get(ScheduleGet(request.id))
        if known.schedule is not None:
            return known
        record = self.store.schedules.create(
            id=request.id,
            cron=request.cron,
            promise_id=request.promise_id.replace("{{.id}}", request.id),
            promise_timeout=request.promise_timeout,
            ikey=request.id,
            promise_headers=request.promise_param.headers,
            promise_data=text_of(request.promise_param),
            promise_tags=old_tags(request.promise_tags),
        )
        return Response(200, schedule=schedule_of(record))

    def _schedule_delete(self, request: ScheduleDelete) -> Response:
        try:
            self.store.schedules.delete(id=request.id)
        except ResonateStoreError as error:
            if error.code in _NOT_FOUND:
                return Response(404, error=f"schedule {request.id!r} not found")
            raise
        return _OK

    def _not_offered(self, request: Any) -> Response:
        return Response(501, error=f"the store {type(self.store).__name__} offers no search")


def _no_promise(id: str) -> Response:
    return Response(404, error=f"promise {id!r} not found")


def _creation(action: PromiseCreate | PromiseSettle | PromiseWrite) -> PromiseCreate | None:
    """What an action of a fence creates."""
    if type(action) is PromiseWrite:
        return action.create
    return action if type(action) is PromiseCreate else None


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
    PromiseSearch: LegacyNetwork._not_offered,
    TaskGet: LegacyNetwork._task_get,
    TaskCreate: LegacyNetwork._task_create,
    TaskAcquire: LegacyNetwork._task_acquire,
    TaskRelease: LegacyNetwork._task_release,
    TaskFulfill: LegacyNetwork._task_fulfill,
    TaskSuspend: LegacyNetwork._task_suspend,
    TaskFence: LegacyNetwork._task_fence,
    TaskHeartbeat: LegacyNetwork._task_heartbeat,
    TaskHalt: LegacyNetwork._task_halt,
    TaskContinue: LegacyNetwork._task_continue,
    TaskSearch: LegacyNetwork._not_offered,
    ScheduleGet: LegacyNetwork._schedule_get,
    ScheduleCreate: LegacyNetwork._schedule_create,
    ScheduleDelete: LegacyNetwork._schedule_delete,
    ScheduleSearch: LegacyNetwork._not_offered,
}
