"""What a worker tells whoever watches it: executions that come and go, attempts of calls, what is sent.

Nothing is told of what a replay only reads again: each attempt, end and wait is told once, by
the process in which it happened. Methods are called on the worker's own threads, between two
steps, so they must be quick; one that raises is logged and does no harm.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, Final

from resonate.execution.call import Call
from resonate.execution.coroutine import Outcome
from resonate.execution.execution import Execution

# How an execution comes to a worker.
BEGUN: Final = "begun"
"""Created by this client."""
ACQUIRED: Final = "acquired"
"""Offered, taken, and run from the top; nothing was recorded of it."""
REPLAYED: Final = "replayed"
"""Offered, taken, and run from the top over what is recorded of it."""
RESUMED: Final = "resumed"
"""It waited, and goes on in place."""

# How an execution leaves a worker.
SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
SUSPENDED: Final = "suspended"
HALTED: Final = "halted"
LOST: Final = "lost"
"""The lease is somebody else's."""
STOPPED: Final = "stopped"
"""Cancelled, settled from outside, or given up by this process for whatever reason."""
EVICTED: Final = "evicted"
"""Closed while it waited, to make room."""


class Observer:
    """Watches a client; each method does nothing until a subclass says otherwise. See `Resonate.observe`."""

    def attached(self, pid: str, group: str) -> None:
        """The client has started, or is observed from now on."""

    def root_tags(self) -> Mapping[str, str]:
        """Tags for a root call that is about to be created."""
        return {}

    def came(self, execution: Execution, how: str) -> None:
        """`execution` is this worker's now: `begun`, `acquired`, `replayed` or `resumed`."""

    def left(self, execution: Execution, how: str) -> None:
        """It is not any more: `succeeded`, `failed`, `suspended`, `halted`, `lost` or `stopped`."""

    def attempt_began(self, execution: Execution, call: Call) -> None:
        """The code of `call` is about to run; a function that makes durable calls may be replayed so far."""

    def within(self, call: Call) -> AbstractContextManager[object]:
        """What the code of a step or an async function, whose attempt has just begun, is to run in."""
        return nullcontext()

    def attempt_ended(self, execution: Execution, call: Call, outcome: Outcome, retry_in: float | None) -> None:
        """The code of `call` has ended with `outcome`; the next attempt is in `retry_in` seconds, if there is one."""

    def sent(self, requests: int, seconds: float) -> None:
        """`requests` of an execution were written in one go, which took so long."""

    def closed(self, execution: Execution, evicted: bool) -> None:
        """An execution that had left as `suspended` was closed: its frames are gone.

        Args:
            evicted: to make room for others; it is replayed when it wakes.
        """


class Observers(Observer):
    """Several observers as one, and none of them can do harm."""

    def __init__(self, members: tuple[Observer, ...]) -> None:
        self.members = members

    def attached(self, pid: str, group: str) -> None:
        for member in self.members:
            self._tell(member.attached, pid, group)

    def root_tags(self) -> Mapping[str, str]:
        tags: dict[str, str] = {}
        for member in self.members:
            self._tell(lambda member=member: tags.update(member.root_tags()))
        return tags

    def came(self, execution: Execution, how: str) -> None:
        for member in self.members:
            self._tell(member.came, execution, how)

    def left(self, execution: Execution, how: str) -> None:
        for member in self.members:
            self._tell(member.left, execution, how)

    def attempt_began(self, execution: Execution, call: Call) -> None:
        for member in self.members:
            self._tell(member.attempt_began, execution, call)

    @contextmanager
    def within(self, call: Call) -> Iterator[None]:
        with ExitStack() as stack:
            for member in self.members:
                self._tell(lambda member=member: stack.enter_context(member.within(call)))
            yield

    def attempt_ended(self, execution: Execution, call: Call, outcome: Outcome, retry_in: float | None) -> None:
        for member in self.members:
            self._tell(member.attempt_ended, execution, call, outcome, retry_in)

    def sent(self, requests: int, seconds: float) -> None:
        for member in self.members:
            self._tell(member.sent, requests, seconds)

    def closed(self, execution: Execution, evicted: bool) -> None:
        for member in self.members:
            self._tell(member.closed, execution, evicted)

    @staticmethod
    def _tell(method: Callable[..., Any], *args: Any) -> None:
        try:
            method(*args)
        except Exception:
            _LOG.exception("an observer failed; what it watches goes on")


_LOG: Final = logging.getLogger("resonate.worker")

__all__ = ["Observer", "Observers"]
