"""Waiting for promises that are settled elsewhere: one listener per id, however many wait."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from resonate.errors import DecodeError, ExecutionHalted, ResonateShutdownError, ResonateStoreError, StorageUnusable
from resonate.execution.call import outcome_of
from resonate.execution.coroutine import Outcome, Raised
from resonate.execution.records import HALT_TAG, halt_notes
from resonate.options import Options
from resonate.protocol.records import HALTED, PENDING, Promise
from resonate.protocol.requests import PromiseGet, PromiseRegisterListener, TaskGet
from resonate.worker.held import Completion, Held

if TYPE_CHECKING:
    from resonate.worker.worker import Worker

REFRESH_EMBEDDED: Final = 5.0
"""Seconds between two looks at what we wait for, where a look costs next to nothing."""

REFRESH_REMOTE: Final = 60.0
"""The same, where each look is a request over a network."""

REFRESH_ALONE: Final = 3600.0
"""Seconds between two looks at what was suspended here, at most, where no other process can halt it; they double."""

POLL_FIRST: Final = 0.05
POLL_MAX: Final = 5.0
"""Seconds between reads of a promise that cannot be listened to (protocol 9.2), growing."""

COMMIT_FIRST: Final = 0.001
COMMIT_MAX: Final = 0.25
"""Seconds between looks for what a user's transaction has yet to commit, growing."""

_DEFAULT: Final = Options()
_LOG: Final = logging.getLogger("resonate.worker")


class Watch:
    """Completions by id, and what is heard about them."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self.completions: dict[str, Completion] = {}
        self.children: dict[str, Held] = {}
        self._remote: dict[str, Completion] = {}
        self._uncommitted: set[Completion] = set()
        self._refreshed = 0.0
        self._looking = False
        self._pause = REFRESH_EMBEDDED

    @property
    def busy(self) -> bool:
        """Whether anything waits for a promise that others settle."""
        return bool(self._remote)

    def expect(self, id: str, returns: Any = Any, options: Options = _DEFAULT) -> Completion:
        """The completion of `id`, made if nobody waits for it yet."""
        completion = self.completions.get(id)
        if completion is None:
            completion = self.completions.setdefault(id, Completion(id, returns, options))
            if self._worker.stopped:
                completion.complete(Raised(ResonateShutdownError("the client was stopped")))
        return completion

    def listen(self, completion: Completion) -> None:
        """Hear of `completion`'s promise from the service; it may be settled already.

        Raises:
            ResonateStoreError: 100.404 if there is no such promise.
        """
        id = completion.id
        network = self._worker.network
        answer = network.send([PromiseRegisterListener(id, network.unicast())])[0]
        if answer.status == 404:
            self.completions.pop(id, None)
            raise ResonateStoreError(f"The specified promise was not found: {id}", 40400)
        if answer.promise is not None and answer.promise.state != PENDING:
            self.settled(answer.promise)
            return
        self._remote[id] = completion
        if answer.status == 422:
            self._poll(completion, POLL_FIRST)
        self._worker.ticker.watch()

    def uncommitted(self, id: str, returns: Any, options: Options, pending: Callable[[], bool]) -> Completion:
        """The completion of a promise that a transaction of the user's has yet to commit.

        Args:
            pending: whether that transaction is still open.
        """
        completion = Completion(id, returns, options)
        self._uncommitted.add(completion)
        self._await_commit(completion, pending, COMMIT_FIRST)
        return completion

    def _await_commit(self, completion: Completion, pending: Callable[[], bool], pause: float) -> None:
        def look() -> None:
            if completion not in self._uncommitted:
                return
            still = pending()  # asked first: what is committed in between is then found
            try:
                network = self._worker.network
                known = network.is_committed(completion.id)  # `send` would wait for the user's transaction
                if not known and not still:  # a commit looks over before it is: now wait for it
                    known = network.send([PromiseGet(completion.id)])[0].promise is not None
                if known:
                    self._join(completion)
            except ResonateStoreError as error:
                _LOG.warning("%s: cannot see yet whether it was committed: %s", completion.id, error)
                known, still = False, True
            if not known and still:
                self._await_commit(completion, pending, min(pause * 2, COMMIT_MAX))
                return
            self._uncommitted.discard(completion)
            if not known:
                gone = f"{completion.id} does not exist: the transaction in which it was begun was rolled back"
                completion.complete(Raised(ResonateStoreError(gone, 40400)))

        self._worker.ticker.after(pause, look)

    def _join(self, completion: Completion) -> None:
        """Have `completion` end like its promise."""
        first = self.completions.setdefault(completion.id, completion)
        if first is completion:
            self.listen(completion)
            return

        def follow() -> None:
            completion.halted = first.halted
            completion.complete(first.outcome)  # type: ignore[arg-type]

        first.when_done(follow)

    def again(self, id: str) -> None:
        """Our own execution of `id` is over without a result: wait for somebody else's."""
        completion = self.completions.get(id)
        if completion is None or completion.outcome is not None or self._worker.stopped:
            return
        try:
            self.listen(completion)
        except ResonateStoreError as error:
            if error.code == 100.404:
                completion.complete(Raised(error))
                return
            if isinstance(error, StorageUnusable):
                self.completed(id, Raised(error))
                return
            self._remote[id] = completion
            self._poll(completion, POLL_FIRST)

    def heard(self, promise: Promise) -> None:
        """An `unblock`: the promise is of a child somebody here waits for, or of a root."""
        held = self.children.pop(promise.id, None)
        if held is not None:
            with held.lock:
                here = not held.suspended  # a suspended one hears of it with its task
                if here:
                    held.execution.settle(promise)
            if here:
                self._worker.submit(held)
                if held.execution.arrivals:
                    self._worker.loop.pump(held)
        self._worker.endings.settled_elsewhere(promise)

    def settled(self, promise: Promise) -> None:
        """The promise is settled: complete whoever waits for it."""
        completion = self.completions.pop(promise.id, None)
        self._remote.pop(promise.id, None)
        if completion is not None and completion.outcome is None:
            completion.complete(outcome_of(promise, completion.returns, completion.options))

    def completed(self, id: str, outcome: Outcome, *, halted: bool = False) -> None:
        """Our own execution of `id` ended with `outcome`, or was halted with it."""
        completion = self.completions.pop(id, None)
        if completion is not None:
            completion.halted = halted
            completion.complete(outcome)
            if self._remote:
                self._remote.pop(id, None)

    def abandon(self, error: Exception) -> None:
        """Leave everybody who still waits with `error`."""
        for completion in [*self.completions.values(), *self._uncommitted]:
            completion.complete(Raised(error))
        self.completions.clear()
        self._uncommitted.clear()
        self._remote.clear()

    def refresh(self, now: float) -> None:
        """Look at what we wait for now and then: messages may be lost, tasks may be halted."""
        if not self._remote or now - self._refreshed < self._interval:
            return
        self._refreshed = now
        waiting = list(self._remote)
        try:
            self._look(waiting)
            self._check_halted([id for id in waiting if id in self._remote])
        except StorageUnusable as error:
            for id in waiting:
                self.completed(id, Raised(error))
        except ResonateStoreError as error:
            _LOG.warning("what %d callers wait for cannot be looked at, trying again later: %s", len(waiting), error)

    @property
    def _interval(self) -> float:
        """Seconds between two looks, at first."""
        return REFRESH_EMBEDDED if self._worker.network.near else REFRESH_REMOTE

    def suspended(self) -> None:
        """An execution that somebody here waits for is suspended: it may go on, end or be halted in another process.

        We hear of that by a message, which may be lost, so it is looked at now and then.
        """
        if not self._looking:
            self._looking = True
            self._pause = self._interval
            self._worker.later(self._pause, self._look_elsewhere)

    def _look_elsewhere(self) -> None:
        self._looking = False
        pause, waiting = self._pause, self._suspended()
        if not waiting or self._worker.stopped:
            return
        try:
            self._look(waiting)
            self._check_halted([id for id in waiting if id in self.completions])
        except ResonateStoreError as error:
            _LOG.warning("what %d callers wait for cannot be looked at, trying again later: %s", len(waiting), error)
        self._looking = True
        most = REFRESH_ALONE if self._worker.network.inline else REFRESH_REMOTE
        self._pause = min(most, pause * 2)  # those that sleep for weeks may be many
        self._worker.later(self._pause, self._look_elsewhere)

    def _suspended(self) -> list[str]:
        """What is waited for here, and was suspended here."""
        return [id for id in list(self.completions) if id in self._worker.warm]

    def renew(self) -> None:
        """Messages may have been lost: listen again to everything that is waited for, and hear what is settled."""
        waiting = [*self._remote, *self.children, *self._suspended()]
        if not waiting or self._worker.stopped:
            return
        try:
            self._look(waiting)
        except ResonateStoreError as error:
            _LOG.warning("%d promises cannot be listened to again yet: %s", len(waiting), error)
            self._refreshed = 0.0

    def _look(self, ids: list[str]) -> None:
        """Read the promises `ids`, and where a listener may be lost set it again."""
        network = self._worker.network
        if network.near:
            answers = network.send([PromiseGet(id) for id in ids])
        else:
            answers = network.send([PromiseRegisterListener(id, network.unicast()) for id in ids])
        for id, answer in zip(ids, answers, strict=True):
            if answer.promise is not None and answer.promise.state != PENDING:
                self.heard(answer.promise)
            elif answer.status == 404:
                self._gone(id)

    def _gone(self, id: str) -> None:
        gone = f"The specified promise was not found: {id}, which was purged or lost before its result was read here"
        self.completed(id, Raised(ResonateStoreError(gone, 40400)))

    def _check_halted(self, ids: list[str]) -> None:
        """Tell who waits for an execution that was halted: it neither goes on nor ends."""
        network = self._worker.network
        for answer in network.send([TaskGet(id) for id in ids]):
            if answer.task is None or answer.task.state != HALTED:
                continue
            id = answer.task.id
            notes = network.send([PromiseGet(note) for note in halt_notes(id, answer.task.version)])
            reasons = [note.promise.tags[HALT_TAG] for note in notes if note.promise and HALT_TAG in note.promise.tags]
            error = ExecutionHalted(id, reasons[-1] if reasons else "no reason given")
            self.completed(id, Raised(error), halted=True)

    def _poll(self, completion: Completion, pause: float) -> None:
        def look() -> None:
            if completion.outcome is not None or self._worker.stopped:
                return
            try:
                answer = self._worker.network.send([PromiseGet(completion.id)])[0]
            except StorageUnusable as error:
                self.completed(completion.id, Raised(error))
                return
            except (ResonateStoreError, DecodeError):
                answer = None
            if answer is not None and answer.promise is not None and answer.promise.state != PENDING:
                self.settled(answer.promise)
            elif answer is not None and answer.status == 404:
                self._gone(completion.id)
            else:
                self._poll(completion, min(pause * 2, POLL_MAX))

        self._worker.ticker.after(pause, look)
