"""handle(requests): many callers, one transaction (`lane`), on some storages several side by side.

A lane is chosen by the origin of what is asked for. Messages leave only after the commit.
One instant `now` holds for a whole batch and never goes backwards.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar
from zlib import crc32

from resonate.clock import Clock
from resonate.errors import OutcomeUnknown, ResonateStoreError, StorageUnavailable, StorageUnusable, UsageError
from resonate.protocol import chain as chains
from resonate.protocol import machine, steps, validation
from resonate.protocol.footprint import Footprint, footprint, subject
from resonate.protocol.ids import origin_of
from resonate.protocol.records import PENDING, Execute
from resonate.protocol.requests import (
    DebugReset,
    DebugSnap,
    DebugStart,
    DebugStop,
    DebugTick,
    Request,
    Response,
    TaskHeartbeat,
    TaskRef,
)
from resonate.protocol.rows import Send
from resonate.protocol.steps import FENCE_PRELOAD, RETRY_TIMEOUT, Rules
from resonate.service.delivery import Delivery, Subscription
from resonate.service.lane import BATCH, ROUNDS, Call, Lane
from resonate.service.purger import Purger
from resonate.service.timers import EVERYTHING, Timers
from resonate.storage.base import Conflict, Storage, Timer, Transaction

Work = Callable[[Any], Callable[[], Sequence[Request]]]
"""What happens in a transaction: it is lent the connection, and returns what gives the requests to apply then."""

_DEBUG: Final = (DebugStart, DebugStop, DebugReset, DebugTick, DebugSnap)
_LOG: Final = logging.getLogger("resonate.service")


TRIES: Final = 100
"""Attempts at a transaction that others get in the way of; from the second on it locks what it needs."""

Result = TypeVar("Result")


class Service:
    """Applies requests to a storage and does by itself what the protocol asks a server to do.

    Args:
        storage: keeps the rows.
        clock: gives `now`.
        retry_timeout: milliseconds between two offers of a task that nobody takes.
        strict: answer as the bare specification where it differs.
        debug: allow `debug.*` and requests that bring their own `now`.
        retention: milliseconds for which finished trees are kept; None is for ever.
        fence_preload: records that the answer of a fence brings along at most; None sets no bound.
    """

    def __init__(
        self,
        storage: Storage,
        clock: Clock,
        *,
        retry_timeout: int = RETRY_TIMEOUT,
        strict: bool = False,
        debug: bool = False,
        retention: int | None = None,
        fence_preload: int | None = FENCE_PRELOAD,
    ) -> None:
        self.storage = storage
        self.rules = Rules(retry_timeout, strict, fence_preload)
        self.debug = debug
        self.clock = clock
        self.delivery = Delivery(storage, clock)
        self.timers = Timers(self)
        self.purger = Purger(self, retention)
        self._standing = storage.begin(lambda: footprint(())) if storage.immediate else None
        self._now = 0
        rounds = ROUNDS if storage.immediate else 1  # a round that waits for a disk is long enough
        self._lanes = [Lane(number, self._transact, rounds) for number in range(storage.lanes)]
        self._work = self._lanes[-1]
        """The lane of what the service does by itself."""
        self._asked = self._lanes[:-1] or self._lanes
        self._debug_now = 0  # the largest instant that a request brought along: it never falls either
        self._transacting: set[int] = set()  # threads that have lent the storage's connection to user code

    def start(self) -> None:
        """Begin to fire what is due by itself. Idempotent."""
        self.timers.start()

    def stop(self) -> None:
        """Stop firing; requests are still answered. Idempotent."""
        self.timers.stop()

    def now(self) -> int:
        """The instant a request handed in now would have, milliseconds since the epoch."""
        now = self.clock.now()
        return now if now > self._now else self._now

    def subscribe(self, *subscriptions: Subscription) -> None:
        """Have messages for `subscriptions` kept for them and announced to them, waiting ones included."""
        for subscription in subscriptions:
            self.storage.watch(subscription.group, subscription.pid, self._after)
        self.delivery.subscribe(*subscriptions)
        self._look_at_moves()

    def give_back(self, sends: Sequence[Send]) -> None:
        """Put messages that were taken, and reached nobody, into the outbox again; offers only if they still hold.

        Raises:
            ResonateStoreError: they could not be stored. An offer is made again by itself, other news is lost.
        """
        rows = Footprint({send.key[1] for send in sends}, set(), set())
        with self._work.lead:
            self._run(
                self._work,
                lambda: rows,
                lambda transaction: transaction.apply([send for send in sends if _still_holds(transaction, send)]),
            )
        self._work.pass_on()
        self._after()

    def handle(
        self, requests: Sequence[Request], *, chain: bool = False, trusted: bool = False, now: int | None = None
    ) -> list[Response]:
        """Answer `requests` in order; returns when all their writes are durable.

        Args:
            requests: each is one transition.
            chain: stop after the first answer that `protocol.chain.holds` refuses.
            trusted: the caller has checked the field rules.
            now: the instant to use, for debug only; else the clock's.

        Raises:
            ResonateStoreError: a request could not be applied; nothing of it was stored, those before it were.
        """
        if self._transacting:
            self._refuse_nested()
        lane = self._lanes[0] if len(self._lanes) == 1 else self._lane_of(requests)
        if lane is None:
            return self._apart(requests, chain, trusted, now)
        if not lane.queue and lane.lead.acquire(blocking=False):  # whoever waits already is not overtaken
            try:
                if self._standing is not None:
                    answers, error = self._apply(self._standing, requests, chain, trusted, self._tell(now))
                else:
                    answers, error = self._alone(lane, requests, chain, trusted, now)
            finally:
                lane.lead.release()
                if lane.queue:
                    lane.pass_on()
        else:
            call = Call(requests, chain, trusted, now)
            lane.wait(call)
            answers, error = call.answers, call.error
        self._after()
        if error is not None:
            raise error
        return answers

    def transact(self, work: Work, seconds: float) -> list[Response]:
        """Lend `work` the storage's connection, then apply the requests it wants, in one transaction.

        `work(connection)` returns what gives the requests once the connection is back. They are a
        chain. Where it breaks, or `work` raises, nothing of the transaction stays. Meanwhile `work`
        must not ask this service for anything: it would wait for itself.

        Raises:
            NotSupported: this storage has no connection to lend.
            TransactionTooLong: `work` took longer than `seconds`.
            UsageError: `work` did with the connection what it must not.
            ResonateStoreError: the transaction could not be begun or committed.
        """
        self._refuse_nested()
        me = threading.get_ident()
        transaction = self.storage.joint()
        try:
            self._transacting.add(me)
            try:
                with transaction.lend(seconds) as connection:
                    wanted = work(connection)
            finally:
                self._transacting.discard(me)
            requests = wanted()
            transaction.load(footprint(requests))
            answers, error = self._apply(transaction, requests, True, True, self.now())
            if error is not None:
                raise error
            if not chains.whole(requests, answers):
                transaction.rollback()
                return answers
        except Conflict as conflict:
            transaction.rollback()
            raise StorageUnavailable(f"{conflict}; nothing of the transaction was stored. It is tried again") from None
        except BaseException:
            transaction.rollback()
            raise
        try:
            transaction.commit()
        except BaseException:
            transaction.rollback()
            raise
        self._after()
        return answers

    def write_in(
        self, connection: Any, requests: Sequence[Request], check: Callable[[Sequence[Response]], object]
    ) -> tuple[list[Response], Callable[[], bool]]:
        """Apply `requests` within the user's own transaction on `connection`, which is theirs to commit.

        Args:
            check: called with the answers; if it raises, nothing is written, and the connection is left as it was.

        Returns:
            The answers, and what tells whether that transaction is still open.

        Raises:
            NotSupported, TypeError, UsageError: that is not a connection to where state lives.
            ResonateStoreError: a request could not be applied.
        """
        for _ in range(TRIES):
            transaction = self.storage.within(connection)
            try:
                transaction.load(footprint(requests))
                answers, error = self._apply(transaction, requests, False, True, self.now())
                if error is not None:
                    raise error
                check(answers)
                transaction.commit()
            except Conflict:
                transaction.rollback()
                continue
            except BaseException:
                transaction.rollback()
                raise
            return answers, transaction.leave()
        raise StorageUnavailable(_CROWDED)

    def _refuse_nested(self) -> None:
        if self._transacting and threading.get_ident() in self._transacting:
            raise UsageError(
                "a step of ctx.transaction asked the client for something that its own transaction holds up. "
                "Do that in a step before or after it, or use resonate.begin_run_in(connection, ...)"
            )

    def handle_all(self, calls: Sequence[Call]) -> None:
        """Answer several callers at once, on this thread; each call then has its `answers` and its `error`.

        One transaction serves up to `BATCH` of them, as if they had called `handle` side by side.
        Raises nothing of a storage: that is the error of the calls it happened to.
        """
        lanes: dict[Lane, list[Call]] = {}
        for call in calls:
            lane = self._lanes[0] if len(self._lanes) == 1 else self._lane_of(call.requests)
            if lane is None:
                self._serve_apart(call)
            else:
                lanes.setdefault(lane, []).append(call)
        for lane, own in lanes.items():
            for begin in range(0, len(own), BATCH):
                batch = own[begin : begin + BATCH]
                try:
                    with lane.lead:
                        self._transact(lane, batch)
                except Exception as error:
                    for call in batch:
                        if not call.done:
                            call.answers, call.error = [], error
                finally:
                    lane.pass_on()
                self._after()

    def tick(self, now: int | None = None) -> None:
        """Fire everything due, to a fixed point, on this thread."""
        while self.fire(self.now() if now is None else now, limit=EVERYTHING):
            pass

    def fire(self, now: int, limit: int) -> int:
        """Fire up to `limit` of what is due at `now` in one transaction; returns how many."""
        with self.leading():
            fired = self.timers.fire(now, limit)
        self._after()
        return fired

    @contextmanager
    def leading(self) -> Iterator[None]:
        """Have the service's own lane to oneself, as a batch of requests has its."""
        self._refuse_nested()
        try:
            with self._work.lead:
                yield
        finally:
            self._work.pass_on()

    def run(self, rows: Callable[[], Footprint], work: Callable[[Transaction], Result]) -> Result:
        """Have `work` change a transaction with `rows` and commit it; the caller has the service's own lane."""
        return self._run(self._work, rows, work)

    def announce(self) -> None:
        """After a commit of `run`: hand out its messages, and look at what is due earlier."""
        self._after()

    # ---- leading ------------------------------------------------------------------------------

    @property
    def parallel(self) -> int:
        """How many callers can be served side by side."""
        return len(self._asked)

    def lane_for(self, requests: Sequence[Request]) -> int:
        """Of `parallel` sides, the one that serves `requests`."""
        lane = self._lane_of(requests)
        return 0 if lane is None else lane.number

    def _lane_of(self, requests: Sequence[Request]) -> Lane | None:
        """The lane of what is asked for; None if it has to be asked for in several."""
        asked = self._asked
        if not requests:
            return asked[0]
        if len(requests) == 1 and type(requests[0]) in (TaskHeartbeat, DebugTick):
            return None
        return asked[_lane_number(subject(requests[0]), len(asked))]

    def _apart(self, requests: Sequence[Request], chain: bool, trusted: bool, now: int | None) -> list[Response]:
        """A heartbeat, each lane its own part of it: a lane remembers the rows of its tasks; or a tick."""
        (request,) = requests
        if type(request) is DebugTick:
            if self.debug:
                self._debug_now = max(self._debug_now, request.time)
                self.tick(self._debug_now)
            answered = self._alone(self._work, requests, chain, trusted, now)
            return answered[0]
        assert type(request) is TaskHeartbeat
        parts: dict[Lane, list[TaskRef]] = {self._asked[0]: []}
        for ref in request.tasks:
            lane = self._asked[_lane_number(ref.id, len(self._asked))]
            parts.setdefault(lane, []).append(ref)
        answers: list[Response] = []
        for lane, refs in parts.items():
            if refs or not answers:
                call = Call([TaskHeartbeat(request.pid, tuple(refs))], chain, trusted, now)
                lane.wait(call)
                if call.error is not None:
                    raise call.error
                answers = call.answers
        self._after()
        return answers

    def _serve_apart(self, call: Call) -> None:
        try:
            call.answers = self._apart(call.requests, call.chain, call.trusted, call.now)
        except Exception as error:
            call.error = error

    def _alone(
        self, lane: Lane, requests: Sequence[Request], chain: bool, trusted: bool, now: int | None
    ) -> tuple[list[Response], Exception | None]:
        """One caller's requests in a transaction of their own: nobody else waits."""
        return self._run(
            lane,
            lambda: footprint(requests),
            lambda transaction: self._apply(transaction, requests, chain, trusted, self._tell(now)),
        )

    def _transact(self, lane: Lane, batch: Sequence[Call]) -> None:
        """The requests of several callers; nobody fails for what only somebody else's cannot be stored for."""
        try:
            self._together(lane, batch)
            return
        except _OF_THE_STORAGE:
            raise
        except Exception:
            if len(batch) == 1:
                raise
        for call in batch:
            try:
                self._together(lane, (call,))
            except _OF_THE_STORAGE:
                raise
            except Exception as error:
                call.answers, call.error, call.done = [], error, True

    def _together(self, lane: Lane, batch: Sequence[Call]) -> None:
        """The requests of several callers in one transaction."""

        def answer(transaction: Transaction) -> None:
            now = self._tell(None)
            for call in batch:
                at = now if call.now is None else self._tell(call.now)
                call.answers, call.error = self._apply(transaction, call.requests, call.chain, call.trusted, at)

        self._run(lane, lambda: footprint(r for call in batch for r in call.requests), answer)
        for call in batch:
            call.done = True

    def _run(self, lane: Lane, rows: Callable[[], Footprint], work: Callable[[Transaction], Result]) -> Result:
        """A transaction of the lane that the caller leads; again from the start while others are in the way."""
        for _ in range(TRIES):
            try:
                transaction = self.storage.begin(rows, lane.number)
                try:
                    result = work(transaction)
                    transaction.commit()
                except BaseException:
                    transaction.rollback()
                    raise
            except Conflict:
                continue
            return result
        raise StorageUnavailable(_CROWDED)

    def _tell(self, given: int | None) -> int:
        """The instant of a batch: the clock's, or in debug the one a request brought; never earlier than the last."""
        if given is None or not self.debug:
            now = self.clock.now()
            if now < self._now:
                return self._now
            self._now = now
            return now
        self._debug_now = max(self._debug_now, given)
        return self._debug_now

    def _apply(
        self, transaction: Transaction, requests: Sequence[Request], chain: bool, trusted: bool, now: int
    ) -> tuple[list[Response], Exception | None]:
        answers: list[Response] = []
        rules, handlers, checked = self.rules, machine.HANDLERS, trusted and not self.debug
        try:
            for request in requests:
                answer = None if checked else self._check(transaction, request, trusted)
                if answer is None:
                    if len(self._lanes) > 1:
                        self._store_deadlines(transaction, request, now)
                    answer, effects = handlers[type(request)](transaction, request, now, rules)
                    if effects:
                        transaction.apply(effects)
                answers.append(answer)
                if chain and not chains.holds(request, answer):
                    break
        except (Conflict, StorageUnavailable, OutcomeUnknown):
            raise  # of the transaction as a whole
        except Exception as error:
            _LOG.exception("a request failed, nothing of it was stored: %r", requests[len(answers)])
            return answers, ResonateStoreError(f"{type(error).__name__}: {error}", 500)
        return answers, None

    def _store_deadlines(self, transaction: Transaction, request: Request, now: int) -> None:
        """Settle what `request` is about to see timed out.

        Where transactions do not wait for each other, another process may have read its clock before that deadline
        and not have written yet. It finds this row changed then, and settles nothing that was shown settled.
        """
        for id in footprint((request,)).promises:
            row = transaction.promise(id)
            if row is not None and row.promise.state == PENDING and row.promise.timeout_at <= now:
                transaction.apply(steps.time_out(transaction, self.rules, id, now))

    def _check(self, transaction: Transaction, request: Request, trusted: bool) -> Response | None:
        if isinstance(request, _DEBUG):
            return self._debug(transaction, request)
        if trusted:
            return None
        problem = validation.check(request, strict=self.rules.strict)
        return None if problem is None else Response(400, error=problem)

    def _debug(self, transaction: Transaction, request: Request) -> Response | None:
        if not self.debug:
            return Response(403, error="debug operations are not enabled")
        match request:
            case DebugStart():
                self.timers.pause()
                self.delivery.hold(True)
            case DebugStop():
                self.timers.resume()
                self.delivery.hold(False)
            case DebugReset():
                self._debug_now = 0
            case DebugTick(time):
                self._debug_now = max(self._debug_now, time)
                if len(self._lanes) == 1:  # else they have been fired before
                    self.timers.fire_within(transaction, self._debug_now)
        return None

    def _meet(self, owed: list[Timer]) -> None:
        """Resume awaiters that a commit could not resume; should it fail, the timers do it."""
        try:
            with self.leading():
                self.timers.meet(owed, self._debug_now or self.now())
        except ResonateStoreError as error:
            _LOG.warning("awaiters are not resumed yet, trying again: %s", error)

    def _after(self) -> None:
        """After a commit: hand out its messages, and have the sleeper look at earlier timers."""
        storage = self.storage
        if len(self._lanes) > 1 and (owed := storage.owed()):
            self._meet(owed)
        fresh = storage.fresh()
        if fresh:
            self.delivery.hand_out(fresh)
            self._look_at_moves()
        due = storage.next_due()
        if due is not None and due < self.timers.wakes_at:
            self.timers.look_again()

    def _look_at_moves(self) -> None:
        """What was routed is left to its last suspender for a moment: have the sleeper see when that ends."""
        move = self.delivery.next_move()
        if move is not None and move < self.timers.wakes_at:
            self.timers.look_again()


_OF_THE_STORAGE: Final = (StorageUnavailable, OutcomeUnknown, StorageUnusable)
"""What befalls a transaction whatever it holds."""

_CROWDED: Final = (
    f"others got in the way of a transaction {TRIES} times in a row; nothing was written. Trying again is safe. If "
    "this lasts, look for transactions that hold locks on resonate's tables"
)


def _lane_number(id: str, lanes: int) -> int:
    return crc32(origin_of(id).encode("utf-8", "surrogatepass")) % lanes


def _still_holds(transaction: Transaction, send: Send) -> bool:
    if not isinstance(send.message, Execute):
        return True
    task = transaction.task(send.message.id)
    return task is not None and task.state == PENDING and task.version == send.message.version


__all__ = ["Call", "Service", "Subscription", "Work"]
