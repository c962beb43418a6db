"""The inside of a `Resonate`: its network and worker, and how a root call begins, joins and ends."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import copy_context
from datetime import timedelta
from functools import partial
from typing import Any, Final, TypeVar

from msgspec import Struct

from resonate import signals
from resonate.clock import SystemClock
from resonate.context import Context, Shared
from resonate.errors import (
    CapacityError,
    ClientStopped,
    DecodeError,
    ForkedClient,
    IdConflict,
    InsideEventLoop,
    InvalidId,
    ResonateStoreError,
)
from resonate.execution.begin import ID_LIMIT
from resonate.execution.call import DETACHED
from resonate.execution.commands import address
from resonate.execution.records import CALL_TAG, KEY_TAG, identity, split
from resonate.function import Function
from resonate.handle import LONGEST_WAIT
from resonate.network.base import Network
from resonate.network.embedded import EmbeddedNetwork
from resonate.options import Options
from resonate.protocol import validation
from resonate.protocol.records import ACQUIRED, BRANCH, ORIGIN, PARENT, PENDING, SCOPE, TARGET, Promise, Value
from resonate.protocol.requests import (
    PromiseCreate,
    PromiseGet,
    PromiseSearch,
    PromiseSettle,
    Request,
    Response,
    ScheduleCreate,
    ScheduleDelete,
    ScheduleGet,
    TaskCreate,
    TaskRelease,
)
from resonate.retry_policies import seconds, to_wire
from resonate.service.service import Service
from resonate.settings import Settings
from resonate.signatures import Signature, describe
from resonate.storage.base import Storage
from resonate.storage.memory import MemoryStorage
from resonate.stores import PromiseClient, ScheduleClient, network_for
from resonate.values import decode_call, digest, encode_call
from resonate.worker.held import Completion, Held
from resonate.worker.intake import root_of
from resonate.worker.lineage import CURRENT
from resonate.worker.pool import Pool
from resonate.worker.worker import Worker

SCHEDULED_ID: Final = "{{.id}}-{{.timestamp}}"
"""The ids of a schedule's runs (protocol 9.9): a valid origin in every dialect."""

CANCEL_PAGE: Final = 1000
"""Promises read at once when what is below a cancelled root is looked for."""

IO_THREADS: Final = 32
"""Threads that wait for a disk on behalf of event loops; those that wait together share a commit."""

SHOWN: Final = 200
"""Characters of a call's arguments that an error shows."""

T = TypeVar("T")

_LOG: Final = logging.getLogger("resonate")

_forks = 0
"""How often this process has been forked off: cheaper to compare than a process id."""


def _count_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


class RootCall(Struct, frozen=True):
    """A root call, resolved and encoded: what is to be stored, and how its result is read."""

    name: str
    func: Callable[..., Any] | None
    version: int
    signature: Signature | None
    data: str | None
    headers: dict[str, str] | None
    target: str
    identity: str
    args: tuple[Any, ...] | None
    """The arguments, where a trip through the encoder is known to change nothing."""


class Client:
    """Everything that the copies of one `Resonate` share."""

    def __init__(self, settings: Settings, shared: Shared, store: Any, message_source: Any) -> None:
        self.settings = settings
        self.shared = shared
        self._store = store
        self._message_source = message_source
        self._forks = _forks
        self._starting = threading.Lock()
        self._worker: Worker | None = None
        self._service: Service | None = None
        self._stopped = False
        self._bound: asyncio.AbstractEventLoop | None = None
        self._warned = False
        self._warned_of_colon = False
        self._io: ThreadPoolExecutor | None = None

    # ---- life --------------------------------------------------------------------------------------

    def started(self) -> Worker:
        """The running worker, started now if it has not been.

        Raises:
            ClientStopped: `stop` was called.
            ForkedClient: this is another process than the one that made the client.
        """
        self.check_process()
        worker = self._worker
        if worker is not None and not self._stopped:
            return worker
        with self._starting:
            if self._stopped:
                raise ClientStopped("this client has been stopped: make a new Resonate to go on")
            if self._worker is None:
                self._worker = self._start()
            return self._worker

    def check_process(self) -> None:
        """Refuse to go on in a forked child, where nothing of this client runs.

        Raises:
            ForkedClient: this is another process than the one that made the client.
        """
        if _forks != self._forks:
            raise ForkedClient("this client was made before the process was forked: make a new Resonate in the child")

    def stop(self, timeout: float | timedelta | None) -> None:
        """End everything; what is held is released, open handles get an error."""
        patience = None if timeout is None else min(seconds(timeout), LONGEST_WAIT)
        signals.forget(self._told_to_end)
        with self._starting:
            self._stopped = True
        if self._worker is not None and _forks == self._forks:
            self._worker.stop(patience)
            if self._service is not None:
                self._service.stop()
                self._service.storage.close()
            if self._io is not None:
                self._io.shutdown(wait=False)

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have async functions run on `loop`, if the client has not started yet."""
        if self._worker is None:
            self._bound = loop

    def registered(self) -> None:
        """A function was registered: tasks that lacked one may run now."""
        if self._worker is not None:
            self._worker.intake.registered()

    @property
    def promises(self) -> PromiseClient:
        return PromiseClient(self.started().network)

    @property
    def schedules(self) -> ScheduleClient:
        return ScheduleClient(self.started().network)

    # ---- beginning -----------------------------------------------------------------------------------

    def call(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], opts: Options, *, remote: bool
    ) -> RootCall:
        """Resolve and encode a root call.

        Raises:
            TypeError: `func` is neither function nor name, or the arguments do not fit it.
            FunctionNotFound: not registered here; for `remote` a name need not be.
            EncodeError: an argument cannot be stored.
        """
        found: Callable[..., Any] | None
        signature: Signature | None
        known = self.shared.registered(func) if not opts.version else None
        if known is not None:
            found, name, version, signature = known
        else:
            if not isinstance(func, str) and not callable(func):
                raise TypeError(f"func must be `Callable | str`, got {type(func).__name__}")
            if func == "":
                raise ValueError("func must be a function or the name of one, got an empty string")
            func = func.func if isinstance(func, Function) else func
            find = self.shared.registry.resolve if remote else self.shared.registry.get
            name, found, version = find(func, opts.version)
            signature = describe(found) if found is not None else None
        if signature is not None:
            signature.bind(args, kwargs)
        retry = None
        if opts.retry_policy is not None and signature is not None:
            retry = to_wire(opts.policy_for(found, signature.kind))
        data, headers = encode_call(name, args, kwargs, version, encoder=opts.encoder, retry=retry)
        group = self.settings.group if found is not None else "default"
        text = identity("root", version, digest(args, kwargs), name, "-")
        kept = None
        if signature is not None and not kwargs and headers is None and _unchanged(args, signature):
            kept = args
        return RootCall(name, found, version, signature, data, headers, address(opts.target or group), text, kept)

    @asynccontextmanager
    async def in_turn(self) -> AsyncIterator[None]:
        """Wait without blocking until an execution may be begun, which is then to be done in the block."""
        worker = self.started()
        if not worker.full or _inside():
            yield
            return
        await worker.room.wait_async()
        try:
            yield
        finally:
            worker.room.next()

    @property
    def inline(self) -> bool:
        """Whether requests are answered without I/O, so that an event loop may wait for the answers."""
        return self._store is None and self.settings.url is None

    async def off_loop(self, job: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call `job`, which may block for I/O, without blocking the loop."""
        if self.inline:
            return job(*args, **kwargs)
        if self._io is None:
            self._io = ThreadPoolExecutor(IO_THREADS, "resonate-io")
        call = partial(copy_context().run, job, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._io, call)

    async def abegin(self, id: str, call: RootCall, opts: Options, *, remote: bool) -> Completion:
        """`begin` for an event loop."""
        if remote:
            return await self.off_loop(self.begin, id, call, opts, remote=True, lend=False)
        async with self.in_turn():
            return await self.off_loop(self.begin, id, call, opts, remote=False, lend=False, admitted=True)

    def begin(
        self, id: str, call: RootCall, opts: Options, *, remote: bool, lend: bool, admitted: bool = False
    ) -> Completion:
        """Create the promise of a root call, or join the one that is there.

        With `lend` the caller's thread drives the execution as far as it goes before this
        returns; otherwise a thread of the pool does. Waits for room unless `admitted`.

        Raises:
            IdConflict: `id` belongs to another call.
            CapacityError: there is no room, and waiting would block the loop that is to make it.
        """
        worker = self.started()
        if len(worker.held) >= worker.max_concurrent and not remote and not admitted and not _inside():
            return self._begin_in_turn(worker, id, call, opts, lend)
        create = self._create(id, call, opts)
        request: Request = create if remote else TaskCreate(worker.network.pid, worker.ttl_ms, create, preload=False)
        answer = worker.network.send((request,))[0]
        if answer.status in (409, 422):  # somebody else holds it, or it was created by hand, without a task
            answer = worker.network.send((PromiseGet(id),))[0]
        self._check(id, create, call, opts, answer)
        promise = answer.promise
        assert promise is not None
        returns = call.signature.returns if call.signature is not None else Any
        completion = worker.watch.expect(id, returns, opts)
        if promise.state != PENDING:
            worker.watch.settled(promise)
        elif answer.task is not None and answer.task.state == ACQUIRED:
            self._drive(worker, id, call, opts, answer, lend)
        elif id not in worker.held and id not in worker.warm:
            worker.watch.listen(completion)
        return completion

    def _begin_in_turn(self, worker: Worker, id: str, call: RootCall, opts: Options, lend: bool) -> Completion:
        if worker.loop.bound_to(asyncio._get_running_loop()):
            raise CapacityError(
                f"{worker.max_concurrent} executions run (max_concurrent), and to wait here would block the loop "
                "that they need: write `await r.aio.begin_run(...)`"
            )
        worker.room.wait()
        try:
            return self.begin(id, call, opts, remote=False, lend=lend, admitted=True)
        finally:
            worker.room.next()

    def define_schedule(self, id: str, cron: str, call: RootCall, opts: Options) -> None:
        """Create the schedule; the same definition joins, another one replaces what is there.

        Raises:
            ValueError: a bad id or cron expression, in the service's words.
        """
        network = self.started().network
        timeout = Options.TIMEOUT if opts.timeout is None else opts.timeout
        create = ScheduleCreate(
            id,
            cron,
            SCHEDULED_ID,
            int(timeout * 1000),
            Value(call.headers, call.data),
            {**(opts.tags or {}), TARGET: call.target},
        )
        problem = validation.check(create)
        if problem is not None:
            raise ValueError(problem)
        known = network.send((ScheduleGet(id),))[0].schedule
        if known is not None:
            if (known.cron, known.promise_id, known.promise_timeout, known.promise_param, known.promise_tags) == (
                create.cron,
                create.promise_id,
                create.promise_timeout,
                create.promise_param,
                create.promise_tags,
            ):
                _LOG.info("schedule %s is defined already; joined", id)
                return
            _LOG.warning(
                "schedule %s had another definition (%s, next at %d); replaced", id, known.cron, known.next_run_at
            )
            network.send((ScheduleDelete(id),))
        network.send((create,))

    def exists(self, id: str) -> None:
        """Raise unless there is a promise `id`."""
        worker = self.started()
        if id not in worker.watch.completions and worker.network.send((PromiseGet(id),))[0].status == 404:
            raise ResonateStoreError(f"The specified promise was not found: {id}", 40400)

    # ---- for handles --------------------------------------------------------------------------------------

    def subscribe(self, id: str) -> Completion:
        """Begin to wait for the promise `id`."""
        worker = self.started()
        known = id in worker.watch.completions
        completion = worker.watch.expect(id)
        if not known:
            worker.watch.listen(completion)
        return completion

    async def asubscribe(self, id: str) -> Completion:
        """`subscribe` for an event loop."""
        return await self.off_loop(self.subscribe, id)

    def owns_loop(self, loop: asyncio.AbstractEventLoop | None) -> bool:
        """Whether our async functions run on `loop`."""
        return loop is not None and (
            self._bound is loop or (self._worker is not None and self._worker.loop.bound_to(loop))
        )

    def may_block(self, method: str, instead: str) -> None:
        """Refuse to block the loop that our async functions run on; warn once on another loop.

        Raises:
            InsideEventLoop: called on that very loop.
            ForkedClient: called in a forked child.
        """
        self.check_process()
        loop = asyncio._get_running_loop()
        if loop is None:
            return
        if self.owns_loop(loop):
            raise InsideEventLoop(method, instead)
        if not self._warned:
            self._warned = True
            _LOG.warning("%s blocks the running event loop until it is done; in async code use `%s`", method, instead)

    def cancel(self, id: str) -> None:
        """Settle `id` as cancelled, and below it everything attached that is still pending."""
        worker = self.started()
        promise = worker.network.send((PromiseSettle(id, "rejected_canceled"),))[0].promise
        if promise is None:
            raise ResonateStoreError(f"The specified promise was not found: {id}", 40400)
        self._cancel_below(worker.network, promise)
        worker.settled_elsewhere(promise)

    # ---- inside ----------------------------------------------------------------------------------------------

    def _start(self) -> Worker:
        settings = self.settings
        network: Network
        if self._store is not None:
            network = network_for(self._store, self._message_source, settings.group, settings.pid)
        elif settings.server is not None:
            network = connect(settings)
        else:
            self._service = open_service(settings)
            alone = not self._service.storage.shared
            network = EmbeddedNetwork(self._service, settings.group, settings.pid, catch_all=alone)
        worker = Worker(
            network,
            self.shared.registry,
            ttl_ms=settings.ttl * 1000,
            threads=settings.workers,
            max_concurrent=settings.max_concurrent,
            make_context=partial(Context, _shared=self.shared),
        )
        if self._bound is not None:
            worker.loop.bind(self._bound)
        worker.start()
        if settings.url is not None:
            signals.watch(self._told_to_end)
        return worker

    def _told_to_end(self) -> None:
        _LOG.info("SIGTERM: no task is begun any more, steps that run have %d s to end", self.settings.ttl)
        self.stop(self.settings.ttl)

    def _create(self, id: str, call: RootCall, opts: Options) -> PromiseCreate:
        worker = self._worker
        assert worker is not None
        origin = id.partition(":")[0]
        if "." in id and worker.network.dialect.separator == ".":
            origin = id.partition(".")[0]  # to that server it is a child, and must say of whom
        elif origin != id and not self._warned_of_colon:
            self._warned_of_colon = True
            _LOG.warning("root id %r holds a ':'; servers of the newer dialect refuse it, use '-' or '.' instead", id)
        tags = {
            ORIGIN: origin,
            BRANCH: id,
            PARENT: id,
            SCOPE: "global",
            TARGET: call.target,
            CALL_TAG: call.identity,
        }
        if opts.tags:
            tags = {**opts.tags, **tags}
        if opts.idempotency_key is not None and (key := opts.key_for(id)) != id:
            tags[KEY_TAG] = key
        timeout = Options.TIMEOUT if opts.timeout is None else opts.timeout
        return PromiseCreate(id, worker.network.now() + int(timeout * 1000), Value(call.headers, call.data), tags)

    def _check(self, id: str, create: PromiseCreate, call: RootCall, opts: Options, answer: Response) -> None:
        """Refuse to join a call that is not the one asked for (api 14.1).

        Raises:
            IdConflict: another function or other arguments.
            ResonateStoreError: 40399 for another idempotency key, or what the service said.
        """
        promise = answer.promise
        if promise is None:
            raise ResonateStoreError(answer.error or f"{id} could not be created", answer.status)
        if promise.tags is create.tags:
            return
        if promise.tags.get(KEY_TAG, id) != create.tags.get(KEY_TAG, id):
            self._give_back(answer)
            raise ResonateStoreError(f"{id} was created with another idempotency key", 40399)
        recorded = promise.tags.get(CALL_TAG)
        if recorded is None:
            return
        old, new = split(recorded), split(call.identity)
        same_version = not opts.version or old[1] == new[1]
        explicit = opts.idempotency_key is not None
        same_args = explicit or not opts.check_args or old[2] == new[2]
        if old[3] != new[3] or not same_version or not same_args:
            self._give_back(answer)
            raise IdConflict(id, describe_root(promise, recorded), describe_root(create, call.identity))

    def _give_back(self, answer: Response) -> None:
        if answer.task is not None and answer.task.state == ACQUIRED:
            self.started().network.send((TaskRelease(answer.task.id, answer.task.version),))

    def _drive(self, worker: Worker, id: str, call: RootCall, opts: Options, answer: Response, lend: bool) -> None:
        assert answer.promise is not None
        assert answer.task is not None
        if answer.task.version > 1:  # it waited for a worker and may have run before: replay it from its records
            self._give_back(answer)
            worker.watch.again(id)
            return
        if call.args is not None and answer.promise.param.data is call.data and opts.encoder is None:
            assert call.func is not None
            assert call.signature is not None
            root = root_of(answer.promise, call.name, call.func, call.version, call.signature, call.args, {}, opts)
            held: Held | None = worker.hold(answer.promise, answer.task.version, answer.preload, root)
        else:
            held = worker.intake.acquired(answer, opts)
        if held is None:
            return
        if held.execution.starting:  # an async function needs no thread
            worker.loop.pump(held)
        elif lend:
            worker.threads.drive(held)
        else:
            worker.submit(held)

    def _cancel_below(self, network: Network, root: Promise) -> None:
        """Settle the pending descendants of `root`, but for detached calls and what is below them."""
        origin = root.tags.get(ORIGIN, root.id)
        children: dict[str, list[str]] = {}
        cursor = None
        while True:
            page = network.send((PromiseSearch("pending", {ORIGIN: origin}, CANCEL_PAGE, cursor),))[0]
            for promise in page.promises or ():
                if promise.id != root.id and promise.tags.get(CALL_TAG, "").partition("|")[0] != DETACHED:
                    children.setdefault(promise.tags.get(PARENT, ""), []).append(promise.id)
            cursor = page.cursor
            if cursor is None:
                break
        below, at = [root.id], 0
        while at < len(below):  # pages come in the order of ids, which says nothing where a program chose them
            below += children.pop(below[at], ())
            at += 1
        for start in range(1, len(below), CANCEL_PAGE):
            network.send([PromiseSettle(id, "rejected_canceled") for id in below[start : start + CANCEL_PAGE]])


def _inside() -> bool:
    """Whether this is called from a durable function: it must not wait for room that it takes itself."""
    return Pool.inside() is not None or CURRENT.get() is not None


def connect(settings: Settings) -> Network:
    """The network of a client whose promises a server keeps; nothing connects before the first request."""
    from resonate.network.http import HttpNetwork  # only for those who ask for it

    assert settings.server is not None
    return HttpNetwork(settings.server, settings.group, settings.pid, token=settings.token, auth=settings.auth)


def open_service(settings: Settings) -> Service:
    """The service on the storage that the URL names, started; what a dead process of our pid held is free again.

    Raises:
        ResonateStoreError: the storage cannot be opened.
        UsageError: another live process goes by our pid.
    """
    storage: Storage
    if settings.file is None:
        storage = MemoryStorage()
    else:
        from resonate.storage.sqlite.storage import SqliteStorage  # brings sqlite3: only for those who ask for it

        storage = SqliteStorage(settings.file)
    service = Service(storage, SystemClock())
    try:
        left = storage.claim(settings.pid)
        if left:
            _LOG.info("pid %s is back: %d tasks of its last process go on at once", settings.pid, len(left))
            service.handle([TaskRelease(id, version) for id, version in left], trusted=True)
    except BaseException:
        storage.close()
        raise
    service.start()
    return service


def _unchanged(args: tuple[Any, ...], signature: Signature) -> bool:
    """Whether storing and reading the arguments gives them back as they are."""
    for arg in args:
        if type(arg) not in _SCALARS:
            return False
    if not signature.annotated:
        return True
    wanted = signature.positional(len(args))
    return all(want is Any or want is type(arg) for arg, want in zip(args, wanted, strict=False))


def describe_root(promise: Promise | PromiseCreate, text: str) -> str:
    """A root call as a person reads it: name, version, shortened arguments."""
    _, version, _, name, _ = split(text)
    try:
        call = decode_call(promise.param.data, promise.param.headers)
        shown = [repr(arg) for arg in call.args] + [f"{key}={arg!r}" for key, arg in call.kwargs.items()]
    except DecodeError:  # written by an encoder of the user's: only that encoder can read it
        shown = ["…"]
    arguments = ", ".join(shown)
    arguments = arguments if len(arguments) <= SHOWN else arguments[:SHOWN] + "…"
    return f"{name}({arguments}) version {version}"


def check_id(id: object) -> None:
    """Refuse what cannot be the id of a root.

    Raises:
        TypeError: not a str.
        InvalidId: empty, too long, or holding a NUL.
    """
    if not isinstance(id, str):
        raise TypeError(f"id must be `str`, got {type(id).__name__}")
    if not id or "\0" in id:
        raise InvalidId(id, "an id is not empty and holds no NUL")
    if not id.isascii():
        try:
            id.encode()
        except UnicodeEncodeError:
            raise InvalidId(id, "an id is text that UTF-8 can write") from None
    if len(id) * 4 > ID_LIMIT and len(id.encode()) > ID_LIMIT:
        raise InvalidId(id[:80] + "…", f"an id has at most {ID_LIMIT} bytes")


_SCALARS: Final = frozenset((bool, int, str, float, type(None)))

__all__ = ["Client", "RootCall", "check_id"]
