"""The contract of a storage: rows at rest. It keeps; only `protocol.machine` decides.

A batch of requests is one transaction: `begin` loads and locks every row the batch may
touch, in one query and one lock order; steps read the rows and `apply` their effects to
them; `commit` stores all of it at once. No protocol rule lives here, no SQL outside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, Protocol

from resonate.protocol.footprint import Footprint
from resonate.protocol.rows import Effect, Send, View

Timer = tuple[Literal["promise", "task", "schedule"], str]
"""Something that is due: which kind of row, and its id."""

PROMISE: Final = "promise"
TASK: Final = "task"
SCHEDULE: Final = "schedule"


class Transaction(View, Protocol):
    """The rows of one batch, as they are after the steps applied so far."""

    def apply(self, effects: Sequence[Effect]) -> None:
        """Make the effects of one step visible to the following steps: all of them or none."""

    def commit(self) -> None:
        """Store all effects; durable when this returns, or nothing has changed.

        Raises:
            StorageUnavailable: nothing was written; running the same batch again is safe.
            OutcomeUnknown: the answer to the commit was lost; read before deciding.
        """

    def rollback(self) -> None:
        """Forget what has been applied and free the rows."""


class Storage(Protocol):
    """Rows at rest, for any number of services."""

    immediate: bool
    """True if a transaction does no I/O and each step is final when applied.

    Then an event loop may run one, and one transaction without end serves all batches.
    """

    shared: bool
    """True if services of other processes may use the same rows."""

    def begin(self, footprint: Callable[[], Footprint]) -> Transaction:
        """Load and lock the rows of a batch; `footprint` says which, if the storage needs to know."""

    def due(self, now: int, limit: int) -> list[Timer]:
        """Up to `limit` rows whose timer has come at `now`; each is offered once per timer."""

    def put_back(self, timers: Sequence[Timer]) -> None:
        """What was offered by `due` could not be fired: offer it again."""

    def next_due(self) -> int | None:
        """The next instant at which something may be due; None if nothing is waiting."""

    def fresh(self) -> list[Send]:
        """The messages put into the outbox since the last call."""

    def outbox(self) -> list[Send]:
        """All messages that nobody has taken."""

    def peek(self, keys: Sequence[tuple[str, ...]]) -> list[Send]:
        """Read messages and leave them in the outbox; those taken back or taken already are missing."""

    def take(self, keys: Sequence[tuple[str, ...]]) -> list[Send]:
        """Remove messages from the outbox; those taken back or taken already are missing."""

    def watch(self, group: str, changed: Callable[[], None]) -> None:
        """Have `changed` called, on any thread, when another process may have put a message for `group` (or for
        `addresses.PUSHED`) into the outbox or changed what is due; `fresh` and `next_due` know then. Never where
        nothing is shared."""

    def claim(self, pid: str) -> list[tuple[str, int]]:
        """Be the one process that goes by `pid`: id and version of each task that a dead one holds under it.

        Raises:
            UsageError: another live process goes by that pid.
        """

    def close(self) -> None:
        """Free files, locks and threads; nothing can be asked for any more. Idempotent."""
