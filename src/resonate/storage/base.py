"""The contract of a storage: rows at rest. It keeps; only `protocol.machine` decides.

A batch of requests is one transaction: `begin` loads and locks every row the batch may
touch, in one query and one lock order; steps read the rows and `apply` their effects to
them; `commit` stores all of it at once. No protocol rule lives here, no SQL outside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

from resonate.protocol.footprint import Footprint
from resonate.protocol.records import Promise
from resonate.protocol.rows import Effect, PromiseRow, Send, View

Timer = tuple[str, ...]
"""Something that is due: which kind of row, and its id; of an obligation the awaiter and the awaited promise."""

PROMISE: Final = "promise"
TASK: Final = "task"
SCHEDULE: Final = "schedule"
RESUME: Final = "resume"


class Conflict(Exception):
    """Others were in the way of a transaction: nothing of it is stored, and running it again is safe and may help."""


class Transaction(View, Protocol):
    """The rows of one batch, as they are after the steps applied so far."""

    def apply(self, effects: Sequence[Effect]) -> None:
        """Make the effects of one step visible to the following steps: all of them or none."""

    def commit(self) -> None:
        """Store all effects; durable when this returns, or nothing has changed.

        Raises:
            Conflict: others have changed what the batch has read; begin again, from the first step on.
            StorageUnavailable: nothing was written; running the same batch again is safe.
            OutcomeUnknown: the answer to the commit was lost; read before deciding.
        """

    def rollback(self) -> None:
        """Forget what has been applied and free the rows."""


class JointTransaction(Transaction, Protocol):
    """A transaction on a connection of its own, which can be lent."""

    def load(self, footprint: Footprint) -> None:
        """Read and lock the rows of the requests that come last."""

    def lend(self, seconds: float) -> AbstractContextManager[Any]:
        """For a block of at most `seconds`, the connection for statements of the user's.

        Raises:
            TransactionTooLong: it took longer.
            UsageError: it tried to end the transaction.
            Exception: the database refuses what it changed.
        """


class WithinTransaction(Transaction, Protocol):
    """A transaction that is part of one of the user's."""

    def load(self, footprint: Footprint) -> None:
        """Read and lock the rows of the requests."""

    def leave(self) -> Callable[[], bool]:
        """Have no more to do with the user's connection, once all is in their transaction.

        Returns:
            What tells whether the user has yet to commit or roll back; on any thread, at any time, without waiting. It
            does not keep their connection from being closed when they drop it.
        """


class Storage(Protocol):
    """Rows at rest, for any number of services."""

    immediate: bool
    """True if a transaction does no I/O and each step is final when applied.

    Then an event loop may run one, and one transaction without end serves all batches.
    """

    shared: bool
    """True if services of other processes may use the same rows."""

    lanes: int
    """How many transactions of one service may run side by side. From 2 on, the last lane is the service's own."""

    claims: bool
    """True if an offer that was taken is kept from other processes for a while."""

    def begin(self, footprint: Callable[[], Footprint], lane: int = 0) -> Transaction:
        """Load and lock the rows of a batch; `footprint` says which, if the storage needs to know.

        Raises:
            Conflict: others were in the way; begin again.
        """

    def joint(self) -> JointTransaction:
        """Begin a transaction that a user's own statements share.

        Raises:
            NotSupported: there is nothing that they could write to.
        """

    def within(self, connection: Any) -> WithinTransaction:
        """A transaction inside one of the user's, on their own connection; `commit` leaves theirs open.

        Raises:
            NotSupported: there is no such thing.
            TypeError, UsageError: it is no connection to where these rows are.
        """

    def due(self, now: int, limit: int) -> list[Timer]:
        """Up to `limit` rows whose timer has come at `now`; each is offered once per timer."""

    def owed(self) -> list[Timer]:
        """The awaiters that commits of this process could not resume, since the last call; `due` has them too."""

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

    def take(self, keys: Sequence[tuple[str, ...]], limit: int | None = None) -> list[Send]:
        """Remove up to `limit` messages from the outbox; those taken back or taken already are missing.

        Where storage outlives processes, the offer of a task stays until the task is acquired, which removes it.
        """

    def watch(self, group: str, pid: str, changed: Callable[[], None]) -> None:
        """Have `changed` called, on any thread, when another process may have put a message for `group` (or for
        `addresses.PUSHED`) or for its receiver `pid` into the outbox or changed what is due; `fresh` and `next_due`
        know then. Never where nothing is shared."""

    def unwatch(self, group: str, pid: str) -> None:
        """The receiver `pid` of `group` is gone."""

    def claim(self, pid: str) -> list[tuple[str, int]]:
        """Be the one process that goes by `pid`: id and version of each task that a dead one holds under it.

        Raises:
            UsageError: another live process goes by that pid.
        """

    def promise(self, id: str) -> PromiseRow | None:
        """The promise `id` as it is stored, outside of a transaction."""

    def purge(self, before: int, now: int, limit: int) -> int:
        """Delete finished trees, up to `limit` promises with their tasks and messages, in one transaction.

        A tree goes as a whole (a large one in several calls, its root last): when nothing of it is live at `now` and
        its root was settled before `before`. One that has to stay is put off for as long again. One process at a time.

        Returns:
            How many were deleted or put off; 0 if nothing is left to do here for now.

        Raises:
            ResonateStoreError: nothing was deleted.
        """

    def drop(self, root: str, now: int, limit: int) -> Promise | bool:
        """Delete the finished tree of `root` however young it is, up to `limit` promises of it, durably.

        Returns:
            Whether all of it is gone; or a promise of it that is live at `now`, and then nothing was deleted.
        """

    def close(self) -> None:
        """Free files, locks and threads; nothing can be asked for any more. Idempotent."""
