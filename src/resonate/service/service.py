"""handle(requests): many callers, one transaction.

Callers of any thread hand requests in. Whoever finds the service free applies its own and
everything that waits in one transaction, wakes the callers and passes the lead on (flat
combining): no hand-off when it is idle, group commit when it is busy. Messages leave only
after the commit. One instant `now` holds for a whole batch and never goes backwards.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from typing import Final

from resonate.clock import Clock
from resonate.errors import ResonateStoreError
from resonate.protocol import chain as chains
from resonate.protocol import machine, validation
from resonate.protocol.footprint import Footprint, footprint
from resonate.protocol.records import PENDING, Execute
from resonate.protocol.requests import (
    DebugReset,
    DebugSnap,
    DebugStart,
    DebugStop,
    DebugTick,
    Request,
    Response,
)
from resonate.protocol.rows import Send
from resonate.protocol.steps import FENCE_PRELOAD, RETRY_TIMEOUT, Rules
from resonate.service.delivery import Delivery, Subscription
from resonate.service.timers import EVERYTHING, Timers
from resonate.storage.base import Storage, Transaction

ROUNDS: Final = 8
"""Batches a leader serves for others before it passes the lead on and returns to its caller."""

BATCH: Final = 256
"""Callers served in one transaction at most."""

_DEBUG: Final = (DebugStart, DebugStop, DebugReset, DebugTick, DebugSnap)
_LOG: Final = logging.getLogger("resonate.service")


class Call:
    """The requests of one caller, and what became of them.

    Args:
        requests, chain, trusted, now: as for `Service.handle`.

    Attributes:
        answers: in order; fewer than `requests` if the chain broke or an error came in between.
        error: what `handle` would have raised.
    """

    __slots__ = ("answers", "chain", "done", "error", "now", "requests", "trusted", "woken")

    def __init__(
        self, requests: Sequence[Request], chain: bool = False, trusted: bool = False, now: int | None = None
    ) -> None:
        self.requests = requests
        self.chain = chain
        self.trusted = trusted
        self.now = now
        self.answers: list[Response] = []
        self.error: Exception | None = None
        self.done = False
        self.woken: threading.Lock | None = None

    def wake(self) -> None:
        woken = self.woken
        if woken is not None and woken.locked():
            woken.release()


class Service:
    """Applies requests to a storage and does by itself what the protocol asks a server to do.

    Args:
        storage: keeps the rows.
        clock: gives `now`.
        retry_timeout: milliseconds between two offers of a task that nobody takes.
        strict: answer as the bare specification where it differs.
        debug: allow `debug.*` and requests that bring their own `now`.
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
        fence_preload: int | None = FENCE_PRELOAD,
    ) -> None:
        self.storage = storage
        self.rules = Rules(retry_timeout, strict, fence_preload)
        self.debug = debug
        self.clock = clock
        self.delivery = Delivery(storage, clock)
        self.timers = Timers(self)
        self._standing = storage.begin(lambda: footprint(())) if storage.immediate else None
        self._now = 0
        self._rounds = ROUNDS if storage.immediate else 1  # a round that waits for a disk is long enough
        self._debug_now = 0  # the largest instant that a request brought along: it never falls either
        self._lead = threading.Lock()
        self._queue: deque[Call] = deque()

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
        for group in {subscription.group for subscription in subscriptions}:
            self.storage.watch(group, self._after)
        self.delivery.subscribe(*subscriptions)

    def give_back(self, sends: Sequence[Send]) -> None:
        """Put messages that were taken, and reached nobody, into the outbox again; offers only if they still hold.

        Raises:
            ResonateStoreError: they could not be stored. An offer is made again by itself, other news is lost.
        """
        with self._lead:
            transaction = self.storage.begin(lambda: Footprint({send.key[1] for send in sends}, set(), set()))
            try:
                transaction.apply([send for send in sends if _still_holds(transaction, send)])
                transaction.commit()
            except BaseException:
                transaction.rollback()
                raise
        self._pass_on()
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
        if not self._queue and self._lead.acquire(blocking=False):  # whoever waits already is not overtaken
            try:
                if self._standing is not None:
                    answers, error = self._apply(self._standing, requests, chain, trusted, self._tell(now))
                else:
                    answers, error = self._alone(requests, chain, trusted, now)
            finally:
                self._lead.release()
                if self._queue:
                    self._pass_on()
        else:
            call = Call(requests, chain, trusted, now)
            self._wait(call)
            answers, error = call.answers, call.error
        self._after()
        if error is not None:
            raise error
        return answers

    def handle_all(self, calls: Sequence[Call]) -> None:
        """Answer several callers at once, on this thread; each call then has its `answers` and its `error`.

        One transaction serves up to `BATCH` of them, as if they had called `handle` side by side.
        Raises nothing of a storage: that is the error of the calls it happened to.
        """
        for begin in range(0, len(calls), BATCH):
            batch = calls[begin : begin + BATCH]
            try:
                with self._lead:
                    self._transact(batch)
            except Exception as error:
                for call in batch:
                    call.answers, call.error = [], error
            finally:
                self._pass_on()
            self._after()

    def tick(self, now: int | None = None) -> None:
        """Fire everything due, to a fixed point, on this thread."""
        while self.fire(self.now() if now is None else now, limit=EVERYTHING):
            pass

    def fire(self, now: int, limit: int) -> int:
        """Fire up to `limit` of what is due at `now` in one transaction; returns how many."""
        try:
            with self._lead:
                fired = self.timers.fire(now, limit)
        finally:
            self._pass_on()
        self._after()
        return fired

    # ---- leading ------------------------------------------------------------------------------

    def _wait(self, call: Call) -> None:
        """Wait until a leader has served `call`, or lead."""
        call.woken = threading.Lock()
        call.woken.acquire()
        self._queue.append(call)
        try:
            while not call.done:
                if self._lead.acquire(blocking=False):
                    try:
                        self._serve(call)
                    finally:
                        self._lead.release()
                else:
                    call.woken.acquire()
        except BaseException:  # interrupted while waiting: nobody may wait for us to lead
            if not call.done and call in self._queue:
                self._queue.remove(call)
            raise
        finally:
            self._pass_on()

    def _serve(self, own: Call) -> None:
        """Serve what waits, our own call first or not, for a bounded number of rounds."""
        for _ in range(self._rounds):
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH))]
            if not batch:
                return
            try:
                self._transact(batch)
            finally:
                for call in batch:
                    if call.done:
                        call.wake()
                    elif call is not own:
                        self._queue.append(call)
            if own.done and len(self._queue) == 0:
                return

    def _pass_on(self) -> None:
        """The lead is free: let the one who has waited longest take it."""
        if self._queue:
            try:
                self._queue[0].wake()
            except IndexError:  # served in between
                return

    def _alone(
        self, requests: Sequence[Request], chain: bool, trusted: bool, now: int | None
    ) -> tuple[list[Response], Exception | None]:
        """One caller's requests in a transaction of their own: nobody else waits."""
        transaction = self.storage.begin(lambda: footprint(requests))
        try:
            answered = self._apply(transaction, requests, chain, trusted, self._tell(now))
            transaction.commit()
        except BaseException:
            transaction.rollback()
            raise
        return answered

    def _transact(self, batch: Sequence[Call]) -> None:
        """The requests of several callers in one transaction."""
        transaction = self.storage.begin(lambda: footprint(r for call in batch for r in call.requests))
        now = self._tell(None)
        try:
            for call in batch:
                at = now if call.now is None else self._tell(call.now)
                call.answers, call.error = self._apply(transaction, call.requests, call.chain, call.trusted, at)
            transaction.commit()
        except BaseException:
            transaction.rollback()
            raise
        for call in batch:
            call.done = True

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
                    answer, effects = handlers[type(request)](transaction, request, now, rules)
                    if effects:
                        transaction.apply(effects)
                answers.append(answer)
                if chain and not chains.holds(request, answer):
                    break
        except Exception as error:
            _LOG.exception("a request failed, nothing of it was stored: %r", requests[len(answers)])
            return answers, ResonateStoreError(f"{type(error).__name__}: {error}", 500)
        return answers, None

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
            case DebugStop():
                self.timers.resume()
            case DebugReset():
                self._debug_now = 0
            case DebugTick(time):
                self._debug_now = max(self._debug_now, time)
                self.timers.fire_within(transaction, self._debug_now)
        return None

    def _after(self) -> None:
        """After a commit: hand out its messages, and have the sleeper look at earlier timers."""
        storage = self.storage
        fresh = storage.fresh()
        if fresh:
            self.delivery.hand_out(fresh)
            move = self.delivery.next_move()
            if move is not None and move < self.timers.wakes_at:
                self.timers.look_again()
        due = storage.next_due()
        if due is not None and due < self.timers.wakes_at:
            self.timers.look_again()


def _still_holds(transaction: Transaction, send: Send) -> bool:
    if not isinstance(send.message, Execute):
        return True
    task = transaction.task(send.message.id)
    return task is not None and task.state == PENDING and task.version == send.message.version


__all__ = ["Call", "Service", "Subscription"]
