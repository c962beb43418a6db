"""The network without a network: a service in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any

from resonate.network.base import ANY, Work
from resonate.protocol.ids import EMBEDDED
from resonate.protocol.records import Message
from resonate.protocol.requests import Request, Response
from resonate.protocol.transfer import Tree
from resonate.service.delivery import Subscription
from resonate.service.importer import bring
from resonate.service.service import Service


class EmbeddedNetwork:
    """Calls a service directly, on the caller's thread.

    Args:
        service: started and stopped by whoever made it.
        group, pid: whose messages to receive.
        catch_all: receive the messages of every group; for a client that is alone in its world.
    """

    def __init__(self, service: Service, group: str, pid: str, *, catch_all: bool = False) -> None:
        self.service = service
        self.group = group
        self.pid = pid
        self.near = True
        self.dialect = EMBEDDED
        self.inline = service.storage.immediate
        self.exclusive = service.storage.lanes == 1
        self.now = service.now
        self._catch_all = catch_all
        self._subscription: Subscription | None = None
        self._wake: Callable[[], None] | None = None

    def start(self) -> None:
        """Begin to receive messages. Idempotent."""
        if self._subscription is None and self._wake is not None:
            self._subscription = Subscription(self.group, self.pid, self._wake, self._catch_all)
            self.service.subscribe(self._subscription)

    def leave(self) -> None:
        """Receive nothing more; what was meant for us goes to others. Idempotent."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            subscription.close()

    def stop(self) -> None:
        """Receive nothing more. Idempotent."""
        self.leave()

    def send(self, requests: Sequence[Request], *, chain: bool = False) -> list[Response]:
        """Answer `requests` in order; see `Network.send`."""
        return self.service.handle(requests, chain=chain, trusted=True)

    async def asend(self, requests: Sequence[Request], *, chain: bool = False) -> list[Response]:
        """`send` for an event loop, which a storage that does I/O would block."""
        if self.inline:
            return self.send(requests, chain=chain)
        return await asyncio.to_thread(self.send, requests, chain=chain)

    def transact(self, work: Work, seconds: float) -> list[Response]:
        """Call `work` in a transaction of the storage; see `Network.transact`."""
        return self.service.transact(work, seconds)

    def write_in(
        self, connection: Any, requests: Sequence[Request], check: Callable[[Sequence[Response]], object]
    ) -> tuple[list[Response], Callable[[], bool]]:
        """Apply `requests` within the user's transaction; see `Network.write_in`."""
        return self.service.write_in(connection, requests, check)

    def is_committed(self, id: str) -> bool:
        """Whether the promise is stored; see `Network.is_committed`."""
        return self.service.storage.promise(id) is not None

    def purge(self, id: str) -> None:
        """Delete the finished tree of `id`; see `Network.purge`."""
        self.service.purger.purge(id)

    def bring(self, tree: Tree) -> None:
        """Store a whole exported tree; see `Network.bring`."""
        bring(self.service, tree)

    def listen(self, wake: Callable[[], None], reopened: Callable[[], None] | None = None) -> None:
        """Have `wake` called when `take` may have something."""
        self._wake = wake

    def take(self, limit: int, leave: Collection[str] = (), offers: int = ANY) -> list[Message]:
        """Up to `limit` messages for this client; see `Network.take`."""
        subscription = self._subscription
        return [] if subscription is None else subscription.take(limit, leave, offers)

    def anycast(self, group: str) -> str:
        """The address of any worker of `group`."""
        return f"poll://any@{group}"

    def unicast(self) -> str:
        """The address of this very client."""
        return f"poll://uni@{self.group}/{self.pid}"
