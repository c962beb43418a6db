"""The inside of a `Resonate`: its network and worker, and how a root call begins, joins and ends."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from resonate import signals
from resonate.clock import Clock, SystemClock
from resonate.context import Context, Shared
from resonate.errors import (
    CapacityError,
    ClientStopped,
    ForkedClient,
    InsideEventLoop,
    ResonateError,
    ResonateStoreError,
    UsageError,
)
from resonate.execution.call import outcome_of
from resonate.handle import LONGEST_WAIT
from resonate.network.base import Network
from resonate.network.embedded import EmbeddedNetwork
from resonate.options import Options
from resonate.protocol import pauses, validation
from resonate.protocol.records import ACQUIRED, HALTED, PENDING, SCOPE, TARGET, Promise, Value
from resonate.protocol.requests import (
    PromiseCreate,
    PromiseGet,
    PromiseSettle,
    Request,
    Response,
    ScheduleCreate,
    ScheduleDelete,
    ScheduleGet,
    TaskContinue,
    TaskCreate,
    TaskGet,
    TaskRelease,
)
from resonate.retry_policies import seconds
from resonate.roots import RootCall, check_same, creation, resolve
from resonate.service.service import Service
from resonate.settings import Settings
from resonate.storage.base import Storage
from resonate.storage.drivers import driver_connection, interrupt
from resonate.storage.memory import MemoryStorage
from resonate.storage.sqlite.location import absent
from resonate.stores import PromiseClient, ScheduleClient, network_for
from resonate.worker.held import Completion, Held
from resonate.worker.intake import root_of
from resonate.worker.lineage import CURRENT
from resonate.worker.observer import Observer
from resonate.worker.pool import Pool
from resonate.worker.room import Place
from resonate.worker.standing import standing
from resonate.worker.worker import Worker

if TYPE_CHECKING:
    from resonate.inspection import Inspector

SCHEDULED_ID: Final = "{{.id}}-{{.timestamp}}"
"""The ids of a schedule's runs (protocol 9.9): a valid origin in every dialect."""

CANCEL_PAGE: Final = 1000
"""Promises read at once when what is below a cancelled root is looked for."""

IO_THREADS: Final = 32
"""Threads that wait for a disk on behalf of event loops; those that wait together share a commit."""

INTERRUPT_EVERY: Final = 0.1
"""Seconds between two attempts to end the statement of a cancelled `begin_run_in`: one may come between two of them."""

T = TypeVar("T")

_DEFAULT: Final = Options()

_LOG: Final = logging.getLogger("resonate")

_forks = 0
"""How often this process has been forked off: cheaper to compare than a process id."""


def _count_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


class Client:
    """Everything that the copies of one `Resonate` share."""

    def __init__(self, settings: Settings, shared: Shared, store: Any, message_source: Any) -> None:
        self.settings = settings
        self.shared = shared
        self._store = store
        self._message_source = message_source
        self._forks = _forks
        self._starting = threading.RLock()  # a signal handler may call `stop` on the thread that is in it
        self._worker: Worker | None = None
        self._observers: list[Observer] = []
        self._service: Service | None = None
        self._stopped = False
        self._stopper: int | None = None
        """The thread that was the first to call `stop`."""
        self._ended = threading.Event()
        self._bound: asyncio.AbstractEventLoop | None = None
        self._bound_thread = 0
        """The thread on which that loop runs."""
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
        """End everything; what is held is released, open handles get an error. Who calls it meanwhile waits too."""
        patience = None if timeout is None else min(seconds(timeout), LONGEST_WAIT)
        with self._starting:
            self._stopped = True
            first = self._stopper is None
            if first:
                self._stopper = threading.get_ident()
        worker = self._worker if _forks == self._forks else None
        if not first:
            if worker is not None and self._stopper != threading.get_ident() and not worker.runs_here():
                self._ended.wait(patience)
            return
        try:
            if worker is not None:
                self._end(worker, patience)
        finally:
            self._ended.set()
            signals.forget(self._told_to_end)

    def _end(self, worker: Worker, patience: float | None) -> None:
        try:
            worker.stop(patience)
        finally:  # whatever failed: no thread, lock or pid of ours is to stay
            if self._service is not None:
                self._service.stop()
                self._service.storage.close()
            if self._io is not None:
                self._io.shutdown(wait=False)

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have async functions run on `loop`, which runs on this thread, if the client has not started yet."""
        if self._worker is None:
            self._bound, self._bound_thread = loop, threading.get_ident()

    def observe(self, observer: Observer) -> None:
        """Have `observer` told of what happens here, from the start if the client has not started yet."""
        with self._starting:
            self._observers.append(observer)
            if self._worker is not None:
                self._worker.observe(observer)

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
        """Resolve and encode a root call; see `roots.resolve`."""
        return resolve(self.shared, self.settings.group, func, args, kwargs, opts, remote=remote)

    async def place(self) -> Place:
        """A place for an execution that is to be begun, waited for without blocking."""
        worker = self.started()
        if _inside():
            return Place(None)
        await worker.room.wait_async()
        return self._placed(worker)

    @property
    def inline(self) -> bool:
        """Whether requests are answered without I/O, so that an event loop may wait for the answers."""
        return self._store is None and self.settings.url is None

    async def off_loop(self, job: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
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
        place = await self.place()
        try:
            return await self.off_loop(self.begin, id, call, opts, remote=False, lend=False, place=place)
        finally:
            place.give_back()

    def begin(
        self, id: str, call: RootCall, opts: Options, *, remote: bool, lend: bool, place: Place | None = None
    ) -> Completion:
        """Create the promise of a root call, or join the one that is there.

        With `lend` the caller's thread drives the execution as far as it goes before this
        returns; otherwise a thread of the pool does. Waits for room unless there is a `place` for it.

        Raises:
            IdConflict: `id` belongs to another call.
            CapacityError: there is no room, and waiting would block the loop that is to make it.
        """
        worker = self.started()
        if place is None:
            place = Place(None) if remote or _inside() else self._wait_for_place(worker)
        try:
            return self._begin(worker, id, call, opts, remote, lend, place)
        finally:
            place.give_back()

    def _begin(
        self, worker: Worker, id: str, call: RootCall, opts: Options, remote: bool, lend: bool, place: Place
    ) -> Completion:
        create = self._create(id, call, opts)
        request: Request = create if remote else TaskCreate(worker.network.pid, worker.ttl_ms, create, preload=False)
        asked = worker.clock()
        answer = worker.network.send((request,))[0]
        if answer.status in (409, 422):  # somebody else holds it, or it was created by hand, without a task
            answer = worker.network.send((PromiseGet(id),))[0]
        promise = self._check(create, opts, answer)
        returns = call.signature.returns if call.signature is not None else Any
        completion = worker.watch.expect(id, returns, opts)
        if promise.state != PENDING:
            worker.watch.settled(promise)
        elif answer.task is not None and answer.task.state == ACQUIRED:
            self._drive(worker, id, call, opts, answer, asked, lend, place)
        elif id in worker.warm:
            worker.watch.suspended()
        elif id not in worker.held:
            worker.watch.listen(completion)
        return completion

    def begin_in(self, connection: Any, id: str, call: RootCall, opts: Options) -> Completion:
        """Create the promise of a root call in the user's transaction on `connection`, or join the one that is there.

        Raises:
            IdConflict: `id` belongs to another call.
            NotSupported, TypeError, UsageError: that is no connection to where state lives.
        """
        if self._worker is None and _holds_file(connection):
            raise UsageError(
                "the client has to be started before the transaction in which begin_run_in is called, since starting "
                "writes to the file too: call start() first"
            )
        worker = self.started()
        create = self._create(id, call, opts)
        (answer,), pending = worker.network.write_in(
            connection, (create,), lambda answers: self._check(create, opts, answers[0])
        )
        promise = answer.promise
        assert promise is not None, "checked"
        returns = call.signature.returns if call.signature is not None else Any
        if promise.state != PENDING:
            completion = Completion(id, returns, opts)
            completion.complete(outcome_of(promise, returns, opts))
            return completion
        return worker.watch.uncommitted(id, returns, opts, pending)

    async def abegin_in(self, connection: Any, id: str, call: RootCall, opts: Options) -> Completion:
        """`begin_in` for an event loop. Cancelled, it ends its statement and then leaves the connection alone.

        On a thread of its own: it may wait for a transaction that only this loop can end, and is not to hold up others.
        """
        driver: list[Any] = []

        def begin() -> Completion:
            driver.append(driver_connection(connection))
            return self.begin_in(connection, id, call, opts)

        thread = ThreadPoolExecutor(1, "resonate-begin-in")
        begun = asyncio.get_running_loop().run_in_executor(thread, copy_context().run, begin)
        thread.shutdown(wait=False)
        try:
            return await asyncio.shield(begun)
        except asyncio.CancelledError:
            while not begun.done():
                if driver:
                    await asyncio.to_thread(interrupt, driver[0])
                await asyncio.wait((begun,), timeout=INTERRUPT_EVERY)
            begun.exception()  # seen
            raise

    def _wait_for_place(self, worker: Worker) -> Place:
        if not worker.room.keep():
            if worker.loop.bound_to(asyncio._get_running_loop()):
                raise CapacityError(
                    f"{worker.max_concurrent} executions run (max_concurrent), and to wait here would block the loop "
                    "that they need: write `await r.aio.begin_run(...)`"
                )
            worker.room.wait()
        return self._placed(worker)

    def _placed(self, worker: Worker) -> Place:
        """The place that is kept, unless the client was stopped meanwhile."""
        place = Place(worker.room)
        try:
            self.started()
        except BaseException:
            place.give_back()
            raise
        return place

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
            {**(opts.tags or {}), SCOPE: "global", TARGET: call.target},
        )
        problem = validation.check(create)
        if problem is not None:
            raise ValueError(problem)
        known = network.send((ScheduleGet(id),))[0].schedule
        if known is not None:
            if pauses.is_same(known, create):
                _LOG.info("schedule %s is defined already; joined", id)
                return
            _LOG.warning(
                "schedule %s had another definition (%s, next at %d); replaced", id, known.cron, known.next_run_at
            )
            network.send((ScheduleDelete(id),))
            create = pauses.as_paused_as(known, create)
        network.send((create,))

    def exists(self, id: str) -> None:
        """Raise unless there is a promise `id`."""
        worker = self.started()
        if id not in worker.watch.completions and worker.network.send((PromiseGet(id),))[0].status == 404:
            raise ResonateStoreError(f"The specified promise was not found: {id}", 40400)

    def purge(self, id: str) -> None:
        """Delete the finished tree of `id`; nothing of it is known here afterwards.

        Raises:
            ResonateStoreError: 100.404, there is no such promise.
            UsageError: it is pending, or no root.
            NotSupported: the store cannot.
        """
        worker = self.started()
        promise = worker.network.send((PromiseGet(id),))[0].promise
        if promise is not None and promise.state != PENDING:  # who waits here has it before it is gone
            worker.endings.settled_elsewhere(promise)
        worker.network.purge(id)

    # ---- for handles --------------------------------------------------------------------------------------

    def subscribe(self, id: str, options: Options = _DEFAULT, returns: Any = Any) -> Completion:
        """Begin to wait for the promise `id`.

        Raises:
            ResonateStoreError: 100.404, there is no such promise.
        """
        worker = self.started()
        known = id in worker.watch.completions
        completion = worker.watch.expect(id, returns, options)
        if not known:
            worker.watch.listen(completion)
        return completion

    def look_again(self, halted: Completion) -> Completion:
        """What to wait for after `halted`: the same while its execution is halted, and once that was resumed, anew."""
        worker = self._worker
        if worker is None or worker.stopped:
            return halted
        task = worker.network.send((TaskGet(halted.id),))[0].task
        if task is not None and task.state == HALTED:
            return halted
        return self.subscribe(halted.id, halted.options, halted.returns)

    async def asubscribe(self, id: str) -> Completion:
        """`subscribe` for an event loop."""
        return await self.off_loop(self.subscribe, id)

    async def alook_again(self, halted: Completion) -> Completion:
        """`look_again` for an event loop."""
        return await self.off_loop(self.look_again, halted)

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

    def standing(self, id: str, patience: float) -> str:
        """Why `id` is not done, as far as that is found out within `patience` seconds; else empty."""
        return "" if self._worker is None or self._stopped else standing(self._worker, id, patience)

    def cancel(self, id: str) -> None:
        """Settle `id` as cancelled, and below it everything attached that is still pending."""
        worker = self.started()
        promise = worker.network.send((PromiseSettle(id, "rejected_canceled"),))[0].promise
        if promise is None:
            raise ResonateStoreError(f"The specified promise was not found: {id}", 40400)
        from resonate.inspection.steering import cancel_below  # only for those who cancel

        cancel_below(worker.network.send, promise)
        worker.endings.settled_elsewhere(promise)

    def inspector(self) -> Inspector:
        """What answers questions about executions."""
        from resonate.inspection import Inspector  # only for those who ask for it

        network = self.started().network
        return Inspector(network.send, network.now)

    def resume(self, id: str) -> None:
        """Offer the halted task `id` to its workers again.

        Raises:
            ResonateStoreError: 100.404, there is no such task.
            UsageError: it is not halted.
        """
        answer = self.started().network.send((TaskContinue(id),))[0]
        if answer.status == 404:
            raise ResonateStoreError(f"The specified execution was not found: {id}", 40400)
        if answer.status != 200:
            raise UsageError(f"{id} cannot be resumed, only what is halted can: {answer.error}")

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
            worker.loop.bind(self._bound, self._bound_thread)
        for observer in self._observers:
            worker.observe(observer)
        worker.start()
        self.heed_signals()
        return worker

    def heed_signals(self) -> None:
        """Stop when the process is told to end, if this is the main thread, which alone may ask for that."""
        if self.settings.url is not None:
            signals.watch(self._told_to_end)

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
        create = creation(id, call, opts, worker.network.now(), origin)
        if worker.observer is not None:
            create.tags.update(worker.observer.root_tags())
        return create

    def _check(self, create: PromiseCreate, opts: Options, answer: Response) -> Promise:
        """The promise that was created or joined.

        Raises:
            IdConflict: it is of another call.
            ResonateStoreError: 40399 for another idempotency key, or what the service said.
        """
        promise = answer.promise
        if promise is None:
            raise ResonateStoreError(answer.error or f"{create.id} could not be created", answer.status)
        try:
            check_same(promise, create, opts)
        except ResonateError:
            self._give_back(answer)
            raise
        return promise

    def _give_back(self, answer: Response) -> None:
        if answer.task is not None and answer.task.state == ACQUIRED:
            self.started().network.send((TaskRelease(answer.task.id, answer.task.version),))

    def _drive(
        self,
        worker: Worker,
        id: str,
        call: RootCall,
        opts: Options,
        answer: Response,
        asked: float,
        lend: bool,
        place: Place,
    ) -> None:
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
            held: Held | None = worker.hold(answer.promise, answer.task.version, answer.preload, root, asked=asked)
        else:
            held = worker.intake.acquired(answer, asked, opts)
        if held is None:
            return
        place.give_back()  # it is held now
        if held.execution.starting:  # an async function needs no thread
            worker.loop.pump(held)
        elif lend:
            worker.threads.drive(held)
        else:
            worker.submit(held)


def _holds_file(connection: Any) -> bool:
    """Whether it has begun a transaction of SQLite, which keeps all others from writing."""
    return getattr(driver_connection(connection), "in_transaction", False) is True


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
        UsageError: another live process goes by our pid, or nothing is there and nothing is to be made.
    """
    storage: Storage
    clock: Clock = SystemClock()
    if settings.database is not None:
        from resonate.storage.postgres.storage import PostgresStorage  # brings psycopg: only for those who ask for it

        storage = PostgresStorage(settings.database, make=settings.make)
        clock = storage.clock
    elif settings.file is not None:
        from resonate.storage.sqlite.storage import SqliteStorage  # brings sqlite3: only for those who ask for it

        if not settings.make and not os.path.exists(settings.file.path):
            raise absent(settings.file.path)
        storage = SqliteStorage(settings.file)
    else:
        storage = MemoryStorage()
    kept = settings.retention
    service = Service(storage, clock, retention=None if kept == math.inf else int(kept * 1000))
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


__all__ = ["Client"]
