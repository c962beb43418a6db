"""Where requests go: the contract of a network.

A network belongs to one client, that is one (group, pid). It carries requests to the
service that keeps the promises, embedded or remote, and brings that service's messages.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, Protocol

from resonate.protocol.ids import Dialect
from resonate.protocol.records import Message
from resonate.protocol.requests import Request, Response
from resonate.protocol.transfer import Tree

ANY: Final = 2**31
"""More messages than anybody takes at once."""

Work = Callable[[Any], Callable[[], Sequence[Request]]]
"""What happens in a transaction: it is lent a connection, and returns what gives the requests to apply then."""


class Network(Protocol):
    """Requests out, messages in, for one client."""

    near: bool
    """True if the service is in this process, so that asking it now and then costs next to nothing."""

    inline: bool
    """True if `send` does no I/O and never waits long, so that an event loop may call it."""

    exclusive: bool
    """True if a transaction that is lent to a step holds up everybody else who wants to write."""

    group: str
    pid: str

    @property
    def dialect(self) -> Dialect:
        """How the service wants the ids of what we create there.

        Raises:
            ResonateStoreError: it had to be asked and is out of reach.
        """

    def start(self) -> None:
        """Begin to receive messages. Idempotent."""

    def leave(self) -> None:
        """The client is about to stop: take no more messages, let others have those that are here.

        Requests are still answered, but a service that is away is waited for only a few seconds.
        """

    def stop(self) -> None:
        """Stop receiving and free every thread and connection. Idempotent."""

    def now(self) -> int:
        """The storage's clock, milliseconds since the epoch; never goes backwards."""

    def send(self, requests: Sequence[Request], *, chain: bool = False) -> list[Response]:
        """Answer `requests` in order; blocks until every write among them is durable.

        Args:
            requests: applied in order; each is one transition.
            chain: apply a worker's guarded batch: stop after the first answer that is an
                error, or shows a settled promise other than the one sent
                (`protocol.chain.holds`). The answers then end with that one, so a list
                shorter than `requests` means that the chain broke at its last answer.

        Raises:
            ResonateStoreError: out of reach, or the outcome is unknown.
        """

    async def asend(self, requests: Sequence[Request], *, chain: bool = False) -> list[Response]:
        """`send` for callers on an event loop: the same answers, without blocking it."""

    def transact(self, work: Work, seconds: float) -> list[Response]:
        """Lend `work` the storage's own connection, then apply the chain of requests it wants, in one transaction.

        Raises:
            NotSupported: what is behind this network has no connection to lend.
            TransactionTooLong: `work` took longer than `seconds`; nothing of it stays.
            ResonateStoreError: out of reach, or the outcome is unknown.
        """

    def write_in(
        self, connection: Any, requests: Sequence[Request], check: Callable[[Sequence[Response]], object]
    ) -> tuple[list[Response], Callable[[], bool]]:
        """Apply `requests` within a transaction of the user's on `connection`, which is theirs to commit.

        Args:
            check: called with the answers; if it raises, nothing is written, and the connection is left as it was.

        Returns:
            The answers, and what tells whether that transaction is still open.

        Raises:
            NotSupported: what is behind this network has no such connections.
            TypeError, UsageError: it is no connection to where state lives.
        """

    def is_committed(self, id: str) -> bool:
        """Whether a promise that `write_in` has written is stored; does not wait for whoever is writing.

        Raises:
            ResonateStoreError: out of reach.
        """

    def purge(self, id: str) -> None:
        """Delete the finished tree of `id`.

        Raises:
            ResonateStoreError: 100.404, there is no such promise; or out of reach.
            UsageError: it is pending, or no root; nothing was deleted.
            NotSupported: what is behind this network cannot.
        """

    def bring(self, tree: Tree) -> None:
        """Store a whole exported tree: all of it or nothing.

        Args:
            tree: as `transfer.load` has read it.

        Raises:
            UsageError: something of it exists already, or whoever keeps promises does not take it; nothing was stored.
            NotSupported: what is behind this network cannot.
            ResonateStoreError: out of reach, or the outcome is unknown.
        """

    def listen(self, wake: Callable[[], None], reopened: Callable[[], None] | None = None) -> None:
        """Have `wake` called, on any thread and briefly, when `take` may have something.

        Args:
            reopened: called likewise when messages may have been lost, so that whatever is
                waited for has to be asked for again; never by a network that loses none.
        """

    def take(self, limit: int, leave: Collection[str] = (), offers: int = ANY) -> list[Message]:
        """Up to `limit` messages for this client; empty when there are none. Never blocks.

        Args:
            offers: how many of them may be offers of tasks.
            leave: ids of tasks whose offers are to stay where other clients can take them.
        """

    def anycast(self, group: str) -> str:
        """The address of any worker of `group`."""

    def unicast(self) -> str:
        """The address of this very client."""
