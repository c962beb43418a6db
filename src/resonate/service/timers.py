"""Fires what is due: deadlines, leases, offers, schedules, purges. One thread, asleep in between."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

from resonate.daemons import Daemon
from resonate.errors import OutcomeUnknown, ResonateStoreError
from resonate.protocol import steps
from resonate.protocol.footprint import Footprint
from resonate.protocol.records import ACQUIRED
from resonate.protocol.rows import Effect, PromiseRow, Resume, Resumed
from resonate.storage.base import PROMISE, RESUME, SCHEDULE, TASK, Timer, Transaction

if TYPE_CHECKING:
    from resonate.service.service import Service

BATCH: Final = 100
"""Timers fired in one transaction; requests are served in between."""

EVERYTHING: Final = 1_000_000
"""Timers fired at once where somebody waits for all of them."""

SWEEP: Final = 30.0
"""Seconds after which the sleeper looks by itself, whatever it has been told (protocol P5)."""

AFTER_FAILURE: Final = 1.0
"""Seconds before another try when firing has failed."""

NEVER: Final = float("inf")

_LOG: Final = logging.getLogger("resonate.service")
_ORDER: Final = {PROMISE: 0, TASK: 1, SCHEDULE: 2, RESUME: 3}
LEASE: Final = "lease"
_NAMES: Final = {PROMISE: "deadline", TASK: "offer", SCHEDULE: "schedule", RESUME: "resume"}
_STEPS: Final = {PROMISE: steps.time_out, TASK: steps.wake, SCHEDULE: steps.fire}


class Timers:
    """The sleeper of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._paused = False
        self._stopped = False
        self.wakes_at = NEVER
        self.fired = dict.fromkeys((*_NAMES.values(), LEASE), 0)
        """How many deadlines, leases and so on have run out here; one whose commit failed counts again."""
        self.occurrences = 0
        """Promises that schedules have created here."""

    def start(self) -> None:
        """Start the thread. Idempotent."""
        with self._changed:
            if self._thread is None and not self._stopped:
                self._service.clock.watch(self.look_again)
                self.wakes_at = float("-inf")
                self._thread = Daemon(target=self._run, name="resonate-timers")
                self._thread.start()

    def stop(self) -> None:
        """End the thread. Idempotent."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
            thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def pause(self) -> None:
        """Fire nothing until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """Fire again."""
        self._paused = False
        self.look_again()

    def look_again(self) -> None:
        """Something may be due earlier than it was, or time has jumped."""
        with self._changed:
            self.wakes_at = float("-inf")
            self._changed.notify()

    def fire(self, now: int, limit: int) -> int:
        """Fire up to `limit` due timers in a transaction of their own; the caller leads the service."""
        service = self._service
        due = service.storage.due(now, limit)
        if not due:
            return 0
        return self._fire(due, now)

    def meet(self, owed: list[Timer], now: int) -> None:
        """Resume those who await what has just been settled elsewhere; the caller leads the service."""
        self._fire(owed, now)

    def _fire(self, due: list[Timer], now: int) -> int:
        service = self._service
        due.sort(key=lambda timer: _ORDER[timer[0]])
        spared: list[Timer] = []

        def fire(transaction: Transaction) -> int:
            spared[:] = [timer for timer in due if not transaction.reachable(timer[1])]
            return self._apply(transaction, due if not spared else [t for t in due if t not in spared], now)

        try:
            self.occurrences += service.run(lambda: _footprint(due), fire)
        except BaseException:
            service.storage.put_back(due)
            raise
        if spared:  # others have these now
            service.storage.put_back(spared)
        return len(due) - len(spared)

    def fire_within(self, transaction: Transaction, now: int) -> None:
        """Fire all that is due, to a fixed point, in a transaction that is under way."""
        while due := self._service.storage.due(now, EVERYTHING):
            due.sort(key=lambda timer: _ORDER[timer[0]])
            self.occurrences += self._apply(transaction, due, now)

    def _apply(self, transaction: Transaction, due: list[Timer], now: int) -> int:
        """Fire timers; how many promises schedules have created."""
        created = 0
        for kind, id, *rest in due:
            what = _NAMES[kind]
            if kind == RESUME:
                effects = self._work_off(transaction, id, rest[0], now)
            else:
                if kind == TASK and (task := transaction.task(id)) is not None and task.state == ACQUIRED:
                    what = LEASE
                effects = _STEPS[kind](transaction, self._service.rules, id, now)
            if effects:
                transaction.apply(effects)
                self.fired[what] += 1
                if kind == SCHEDULE:
                    created += sum(1 for effect in effects if isinstance(effect, PromiseRow))
        return created

    def _work_off(self, transaction: Transaction, awaiter: str, awaited: str, now: int) -> list[Effect]:
        effects = steps.work_off(transaction, self._service.rules, Resume(awaiter, awaited), now)
        return [*effects, Resumed(awaiter, awaited)]

    def _run(self) -> None:
        service, failed, unknown = self._service, "", False
        while not self._stopped:
            try:
                fired = 0 if self._paused else service.fire(service.now(), BATCH)
                service.delivery.move_on()
                if not self._paused:
                    service.purger.beat(service.now())
                failed, unknown = "", False
            except Exception as error:
                if isinstance(error, OutcomeUnknown) and not unknown:
                    unknown = True
                    continue  # each step looks at its own condition first, so it may be tried again
                if str(error) != failed:  # a storage that stays out of reach is reported once
                    failed = str(error)
                    unexpected = None if isinstance(error, ResonateStoreError) else error
                    _LOG.error("timers do not fire, trying each %g s: %s", AFTER_FAILURE, error, exc_info=unexpected)
                with self._changed:
                    if not self._stopped:
                        self._changed.wait(AFTER_FAILURE)
                fired = 0
            if not fired:
                self._sleep()

    def _next(self) -> float:
        """When something may be due, milliseconds since the epoch."""
        due = None if self._paused else self._service.storage.next_due()
        move = self._service.delivery.next_move()
        purge = NEVER if self._paused else self._service.purger.next_at
        return min(NEVER if due is None else due, NEVER if move is None else move, purge)

    def lag(self) -> float:
        """Milliseconds for which the oldest timer has been due; 0 if none is."""
        due = self._service.storage.next_due()
        return 0.0 if due is None else max(0.0, self._service.now() - due)

    def _sleep(self) -> None:
        service = self._service
        with self._changed:
            if self._stopped:
                return
            self.wakes_at = self._next()
            # whoever added a timer before it could see `wakes_at` did not notify: look once more
            if self._next() < self.wakes_at:
                self.wakes_at = float("-inf")
                return
            now = service.now()
            if self.wakes_at <= now:
                return
            wait = SWEEP if self.wakes_at == NEVER else min(SWEEP, (self.wakes_at - now) / 1000)
            self._changed.wait(wait if service.clock.runs else None)
            self.wakes_at = float("-inf")


def _footprint(due: list[Timer]) -> Footprint:
    promises = {timer[1] for timer in due if timer[0] != SCHEDULE}
    return Footprint(promises, {timer[1] for timer in due if timer[0] == SCHEDULE}, set(), spare=True)
