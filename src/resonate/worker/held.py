"""An execution in this worker's hands, and the place where its result is waited for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from threading import Event, Lock
from typing import Any, Final

from resonate.execution.call import Call
from resonate.execution.coroutine import Outcome, Returned
from resonate.execution.execution import Execution
from resonate.options import Options
from resonate.worker.pool import Pool
from resonate.worker.waiting import await_event

_COMPLETING: Final = Lock()
"""Guards the hand-over between "not done yet" and "call me back"; held for nanoseconds."""


class Completion:
    """The outcome of one root, once it is durable; any number of handles share it.

    Lighter than a `concurrent.futures.Future`, which costs more to make than a whole step.
    """

    __slots__ = ("_callbacks", "halted", "id", "options", "outcome", "returns")

    def __init__(self, id: str, returns: Any, options: Options) -> None:
        self.id = id
        self.returns = returns
        self.options = options
        self.outcome: Outcome | None = None
        self.halted = False
        """Whether the outcome is that the execution was halted: it may be resumed, and end otherwise."""
        self._callbacks: list[Callable[[], None]] | None = None

    def complete(self, outcome: Outcome) -> None:
        """Set the outcome, once; later ones are ignored. Callbacks run on this thread."""
        with _COMPLETING:
            if self.outcome is not None:
                return
            self.outcome = outcome
            callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            callback()

    def result(self) -> Any:
        """The value, or raise the error; only once the outcome is there."""
        outcome = self.outcome
        assert outcome is not None, f"{self.id} is not done yet"
        if type(outcome) is Returned:
            return outcome.value
        raise outcome.error.with_traceback(None)  # type: ignore[union-attr]

    def when_done(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the outcome is there: at once, or on the thread that brings it."""
        with _COMPLETING:
            if self.outcome is None:
                if self._callbacks is None:
                    self._callbacks = []
                self._callbacks.append(callback)
                return
        callback()

    def forget(self, callback: Callable[[], None]) -> None:
        """Take back `when_done(callback)`; nothing happens if it has been called already."""
        with _COMPLETING:
            if self._callbacks is not None and callback in self._callbacks:
                self._callbacks.remove(callback)

    def wait(self, timeout: float | None) -> bool:
        """Block for at most `timeout` seconds; whether the outcome is there."""
        if self.outcome is not None or timeout == 0:
            return self.outcome is not None
        arrived = Event()
        self.when_done(arrived.set)
        pool = Pool.inside()
        try:
            with pool.blocked() if pool is not None else nullcontext():
                await_event(arrived, timeout)
        finally:
            self.forget(arrived.set)
        return self.outcome is not None


class Held:
    """An execution with what its driver needs around it."""

    __slots__ = (
        "closing",
        "ended",
        "execution",
        "helpers",
        "leased_until",
        "listening",
        "lock",
        "pumped",
        "released",
        "since",
        "suspended",
        "tended",
        "timed",
        "told",
        "tracks",
        "unwritten_since",
        "watched",
        "writing",
    )

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self.lock = Lock()
        self.writing = Lock()
        self.helpers = 0
        self.closing = False
        self.suspended = False
        self.released = False
        """Whether we have given the task back: what is written after that is refused, as it should be."""
        self.listening = False
        self.tended = False
        """Whether a thread is about to make durable what is queued, though code still runs."""
        self.since = 0.0
        self.leased_until = 0.0
        """On the worker's clock: until then the task is certainly ours."""
        self.timed: list[Call] = []
        self.tracks: list[Any] | None = None
        self.pumped = False
        self.ended = 0
        """How many plain steps have ended."""
        self.watched = False
        """Whether somebody will look whether others should help with the steps that wait."""
        self.unwritten_since = 0.0
        """When the oldest of the unwritten results came."""
        self.told = False
