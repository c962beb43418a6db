"""What messages become: offered tasks are acquired and driven, news is handed on.

Messages are pulled when there is room for another execution. A task whose function is not
registered here is released and then left alone for a growing time (`missing`).
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from resonate.errors import DecodeError, ExecutionStopped, FunctionNotFound, ResonateStoreError, StorageUnusable
from resonate.execution.call import Call
from resonate.execution.records import CALL_TAG, KEY_TAG, split
from resonate.options import Options
from resonate.protocol.records import Execute, Promise, Value
from resonate.protocol.requests import (
    PromiseGet,
    PromiseSettle,
    Request,
    Response,
    TaskAcquire,
    TaskFulfill,
    TaskRelease,
)
from resonate.registry import Registry
from resonate.retry_policies import from_wire
from resonate.signatures import Signature, describe
from resonate.values import decode_call, encode_error, retype
from resonate.worker import observer as events
from resonate.worker.held import Held
from resonate.worker.missing import Missing

if TYPE_CHECKING:
    from resonate.worker.worker import Worker

AT_ONCE: Final = 32
"""Messages taken in one go: enough to share a round trip, few enough to leave others some."""

FEW: Final = 8
"""Awaited promises that are read together with the acquisition; with more, only the settled ones are."""

IGNORE_MAX: Final = 60.0
"""Seconds that a task which something failed for is left alone, at most."""

PAUSES: Final = 10_000
"""Tasks whose pauses are remembered; those beyond start again with a short one."""

AGAIN_FIRST: Final = 0.1
AGAIN_MAX: Final = 5.0
"""Seconds before what the service was out of reach for is tried again; they double."""

MENDED_MAX: Final = 60.0
"""The same, at most, where somebody has to mend something first, such as rights in a database."""

_LOG: Final = logging.getLogger("resonate.worker")


class Intake:
    """Turns messages into held executions."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._scheduled = False
        self._starved = False
        self._useless = False
        self._again = AGAIN_FIRST
        self._trying = False
        self._ignored: set[str] = set()
        self._pauses: OrderedDict[str, float] = OrderedDict()
        network = worker.network
        self.missing = Missing(network.group, network.pid, network.near, worker.clock)

    def wake(self) -> None:
        """There may be messages: look for them on a thread of the pool."""
        if not self._scheduled and not self._worker.stopped:
            self._scheduled = True
            self._worker.pool.submit(self._take)

    def room(self) -> None:
        """An execution ended; go on if we had no room for more."""
        if self._starved:
            self._starved = False
            self.wake()

    def ignore(self, id: str, first: float = 1.0) -> None:
        """Leave offers of `id` to others for `first` seconds, twice as long each next time."""
        known = self._pauses.pop(id, None)
        pause = first if known is None else min(IGNORE_MAX, known * 2)
        self._pauses[id] = pause
        if len(self._pauses) > PAUSES:
            self._pauses.popitem(last=False)
        self._leave(id, pause)

    def went_on(self, id: str) -> None:
        """`id` has ended or suspended: what stood in its way is over, and the next pause is short again."""
        self._pauses.pop(id, None)
        self.missing.went_on(id)

    def registered(self) -> None:
        """A function was registered: look again at what lacked one."""
        self.missing.registered()
        if self._ignored or self._useless:
            self._ignored.clear()
            self.wake()

    def acquired(self, answer: Response, asked: float, options: Options | None = None) -> Held | None:
        """Take charge of a freshly acquired task, which was asked for at `asked`; None if it cannot run here."""
        promise, task = answer.promise, answer.task
        assert promise is not None
        assert task is not None
        how = events.BEGUN
        if options is None:  # whoever waits for it in this process may have asked for more than the record keeps
            waiting = self._worker.watch.completions.get(promise.id)
            options = waiting.options if waiting is not None and waiting.options != _DEFAULT else None
            how = events.ACQUIRED
        try:
            root = root_call(promise, self._worker.registry, options)
        except FunctionNotFound as error:
            self._lacks(promise, error)
            self._worker.network.send([TaskRelease(promise.id, task.version)])
            return None
        except (DecodeError, TypeError) as error:
            self.reject(promise.id, task.version, error)
            return None
        if task.version > 1 or answer.preload:
            how = events.REPLAYED
        return self._worker.hold(
            promise, task.version, answer.preload, root, complete=not answer.partial, how=how, asked=asked
        )

    def _take(self) -> None:
        self._scheduled = False
        worker = self._worker
        self._starved = True  # until we know better: whoever makes room in between then wakes us
        wanted = min(AT_ONCE, max(1, worker.pool.limit * 4 - worker.pool.backlog())) if self._can_run() else 0
        limit = worker.room.keep(wanted, beyond=worker.pool.standing)
        try:
            messages = worker.network.take(AT_ONCE, self._ignored, limit)
        except ResonateStoreError as error:
            self._starved = False  # or the places that are given back would have us try again at once
            worker.room.give_back(limit)
            self._failed(error)
            return
        self._again = AGAIN_FIRST
        offers: list[Execute] = []
        for message in messages:
            if type(message) is Execute:
                offers.append(message)
            else:
                worker.watch.heard(message.promise)  # type: ignore[union-attr]
        if len(offers) < limit or limit == wanted:
            self._starved = False
            if 0 < limit == len(offers) or len(messages) == AT_ONCE:
                self.wake()
        worker.room.give_back(limit - len(offers))
        if offers:
            self._acquire(offers)

    def _can_run(self) -> bool:
        """Whether offers are of any use: a program that has not yet registered anything leaves them where they are."""
        self._useless = True  # until we know better: whoever registers in between then wakes us
        if self._worker.network.near and self._worker.registry.empty:
            return False
        self._useless = False
        return True

    def _failed(self, error: ResonateStoreError) -> None:
        """Messages could not be taken: try again after a pause, twice as long each time."""
        if self._trying:  # woken in between by something else; one chain of pauses is enough
            return
        self._trying = True
        most = MENDED_MAX if isinstance(error, StorageUnusable) else AGAIN_MAX
        pause = min(self._again, most)
        self._again = min(pause * 2, most)
        _LOG.warning("messages could not be taken, trying again in %g s: %s", pause, error)
        self._worker.later(pause, self._try_again)

    def _try_again(self) -> None:
        self._trying = False
        self.wake()

    def _acquire(self, offers: list[Execute], pause: float = AGAIN_FIRST) -> None:
        """Acquire the tasks that are offered, for which places are kept, and have them driven."""
        worker = self._worker
        ready = self._tried(offers, pause) if not worker.stopped else []
        if ready is None:
            return
        worker.room.give_back(len(offers))
        for held in ready[1:]:
            worker.submit(held)
        if ready:  # on this very thread: another would have to be woken
            worker.threads.drive(ready[0])

    def _tried(self, offers: list[Execute], pause: float) -> list[Held] | None:
        """Acquire tasks: what is to be driven on threads; None if that is to be tried again."""
        worker = self._worker
        requests: list[Request] = []
        plan: list[tuple[Execute, Held | None, int]] = []
        for offer in offers:
            held = worker.warm.get(offer.id)
            requests.append(TaskAcquire(offer.id, offer.version, worker.network.pid, worker.ttl_ms, held is None))
            reads = list(held.execution.awaited) if held is not None and len(held.execution.awaited) <= FEW else []
            requests.extend(PromiseGet(id) for id in reads)
            plan.append((offer, held, len(reads)))
        asked = worker.clock()
        try:
            answers = worker.network.send(requests)
        except ResonateStoreError as error:
            ids = ", ".join(offer.id for offer in offers[:3])
            _LOG.warning("%d tasks (%s) could not be acquired, trying again: %s", len(offers), ids, error)
            again = partial(self._acquire, offers, min(pause * 2, AGAIN_MAX))
            worker.later(pause, lambda: worker.pool.submit(again))
            return None
        at = 0
        ready: list[Held] = []
        for offer, held, count in plan:
            answer, read = answers[at], answers[at + 1 : at + 1 + count]
            at += 1 + count
            if answer.status != 200:
                continue
            try:
                going = self._go_on(answer, asked, held, read)
            except ResonateStoreError as error:  # the others have been acquired too, and are to run
                _LOG.warning("%s was acquired and could not be begun, its lease runs out: %s", offer.id, error)
                continue
            if going is not None and going.execution.starting:
                worker.loop.pump(going)
            elif going is not None:
                ready.append(going)
        return ready

    def _go_on(self, answer: Response, asked: float, held: Held | None, read: list[Response]) -> Held | None:
        """What is to be driven after a task was acquired; None if that cannot be."""
        worker = self._worker
        promise, task = answer.promise, answer.task
        assert promise is not None
        assert task is not None
        stale = worker.held.get(promise.id)
        if stale is not None and held is None:
            worker.stop_execution(stale, ExecutionStopped(f"{promise.id}: the lease was lost and has been taken again"))
        try:
            in_place = held is not None and self._in_place(held, task.version, answer, asked, read)
        except ResonateStoreError as error:  # it is held, and does not know what it has waited for
            assert held is not None
            worker.endings.abandon(held, error)
            return None
        if held is not None and not in_place:
            worker.stop_execution(held, ExecutionStopped(f"{promise.id} was run elsewhere in between; replaying it"))
            worker.network.send([TaskRelease(promise.id, task.version)])
            return None
        return self.acquired(answer, asked) if held is None else held

    def _in_place(self, held: Held, version: int, answer: Response, asked: float, read: list[Response]) -> bool:
        """Wake a warm execution, if nobody else ran in between."""
        execution = held.execution
        with held.writing:
            if version != execution.version + 1 or not held.suspended or execution.stop is not None:
                return False
            self._worker.rewarm(held, version, asked)
            if not read:
                ids = list(answer.resumed) or list(execution.awaited)
                read = self._worker.network.send([PromiseGet(id) for id in ids])
            with held.lock:
                for got in read:
                    if got.promise is not None:
                        execution.settle(got.promise)
                held.closing = False
        if execution.arrivals:
            self._worker.loop.pump(held)
        return True

    def reject(self, id: str, version: int, error: Exception) -> None:
        """A task we hold cannot be run: its caller is told, with the reason."""
        _LOG.error("%s cannot run: %s", id, error)
        data, headers, _ = encode_error(error)
        action = PromiseSettle(id, "rejected", Value(headers, data))
        answer = self._worker.network.send([TaskFulfill(id, version, action)])[0]
        if answer.promise is not None:
            self._worker.watch.settled(answer.promise)

    def _lacks(self, promise: Promise, error: FunctionNotFound) -> None:
        registry = self._worker.registry
        pause = self.missing.lacks(promise, error, registry.versions(error.name))
        self._leave(promise.id, pause)
        if registry.resolve(error.name, error.version)[1] is not None:  # registered while we looked
            self.registered()

    def _leave(self, id: str, pause: float) -> None:
        self._ignored.add(id)
        self._worker.later(pause, lambda: self._look_again(id))

    def _look_again(self, id: str) -> None:
        self._ignored.discard(id)
        self.wake()


def root_call(promise: Promise, registry: Registry, options: Options | None = None) -> Call:
    """The recorded function, version and arguments of `promise`, ready to run.

    Raises:
        FunctionNotFound: not registered here.
        DecodeError: the record is no invocation, or its arguments cannot be read.
        TypeError: the arguments do not fit the function.
    """
    encoder = options.encoder if options is not None else _encoder_of(promise, registry)
    try:
        call = decode_call(promise.param.data, promise.param.headers, encoder=encoder)
    except DecodeError:
        if options is not None or encoder is None:
            raise
        encoder = None  # its caller has not set the encoder that the function was registered with
        call = decode_call(promise.param.data, promise.param.headers)
    name, func, version = registry.find(call.func, call.version)
    signature = describe(func)
    args, kwargs = retype(call, signature)
    signature.bind(args, kwargs)
    if options is None:
        options = _recorded_options(promise, call.retry)
        if encoder is not None:
            options = replace(options, encoder=encoder)
    return root_of(promise, name, func, version, signature, args, kwargs, options)


def root_of(
    promise: Promise,
    name: str,
    func: Callable[..., Any],
    version: int,
    signature: Signature,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: Options,
) -> Call:
    """The root call of `promise`, of a function and arguments that are known already."""
    root = Call(promise.id, None, signature.kind, promise.timeout_at, options, func, args, kwargs)
    root.returns = signature.returns
    root.name = name
    root.version = version
    return root


def _encoder_of(promise: Promise, registry: Registry) -> Any:
    tag = promise.tags.get(CALL_TAG)
    return registry.encoder(split(tag)[3]) if tag is not None else None


def _recorded_options(promise: Promise, retry: dict[str, Any] | None) -> Options:
    """The options of a root call that somebody else made, as far as its record keeps them."""
    tags = {name: tag for name, tag in promise.tags.items() if not name.startswith("resonate:")}
    key = promise.tags.get(KEY_TAG)
    if not tags and key is None and not retry:
        return _DEFAULT
    policy = from_wire(retry) if retry else None
    return Options(tags=tags or None, idempotency_key=key, retry_policy=policy)


_DEFAULT: Final = Options()
