"""A world in the memory of this process that several clients share.

`LocalStore` keeps promises, tasks and schedules. Each client on it brings a message source
of its group: `Resonate(group="a", store=s, message_source=s.message_source("a", "pid-1"))`.
The client recognises the two and talks to the store's service directly; whoever wraps them
in classes of its own finds the methods of the official client's stores here.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from resonate.clock import Clock, SystemClock
from resonate.encoders import Base64Encoder, Encoder
from resonate.errors import ClientStopped
from resonate.models.message_source import Mesg, PromiseMesg
from resonate.network import marks
from resonate.network.base import Network
from resonate.network.embedded import EmbeddedNetwork
from resonate.network.legacy import LegacyNetwork
from resonate.protocol.records import Execute, Message, Promise
from resonate.protocol.requests import Request, Response, TaskGet
from resonate.service.delivery import Subscription
from resonate.service.service import Service
from resonate.storage.memory import MemoryStorage
from resonate.stores.exchange import check_text
from resonate.stores.promises import PromiseClient
from resonate.stores.records import STATES, shown
from resonate.stores.schedules import ScheduleClient
from resonate.stores.tasks import TaskClient

_NOBODY: Final = "resonate-store"
"""The group and pid of the store's own clients; nothing is ever sent there."""


class LocalStore:
    """Promises, tasks and schedules in memory, shared by all clients that are given it.

    Nothing runs before its first use. Its one thread is a daemon: a program may end without
    `stop`.

    Args:
        clock: gives the time; default the system's.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        self.service = Service(MemoryStorage(), SystemClock() if clock is None else clock)
        self.running = False
        self._stopped = False
        network = _StoreNetwork(self, _NOBODY, _NOBODY)
        self._promises = PromiseClient(network)
        self._tasks = self._promises._tasks
        self._schedules = ScheduleClient(network)

    @property
    def encoder(self) -> Encoder[str | None, str | None]:
        """How `data` is written in messages: base64."""
        return Base64Encoder()

    @property
    def promises(self) -> PromiseClient:
        """The promises."""
        return self._promises

    @property
    def tasks(self) -> TaskClient:
        """The tasks."""
        return self._tasks

    @property
    def schedules(self) -> ScheduleClient:
        """The schedules."""
        return self._schedules

    def message_source(self, group: str, id: str) -> LocalMessageSource:
        """Where a client of `group` hears from this store; `id` names its process."""
        return LocalMessageSource(self, group, id)

    def start(self) -> None:
        """Begin to fire deadlines, leases and schedules; implied by every use. Idempotent.

        Raises:
            ClientStopped: `stop` was called before.
        """
        if self._stopped:
            raise ClientStopped("this LocalStore was stopped: make a new one; what it held is gone")
        self.service.start()
        self.running = True

    def stop(self) -> None:
        """Fire nothing any more and refuse every use. Idempotent."""
        self._stopped = True
        self.running = False
        self.service.stop()


class _StoreNetwork(EmbeddedNetwork):
    """The network of a store's clients: its first use starts the store."""

    def __init__(self, store: LocalStore, group: str, pid: str) -> None:
        super().__init__(store.service, group, pid)
        self._store = store

    def start(self) -> None:
        self._store.start()
        super().start()

    def send(self, requests: Sequence[Request], *, chain: bool = False) -> list[Response]:
        if not self._store.running:
            self._store.start()
        return super().send(requests, chain=chain)


class LocalMessageSource:
    """Messages of a `LocalStore` for one process of a group.

    Args:
        store: whose messages.
        group, id: the group, and the process in it.
    """

    def __init__(self, store: LocalStore, group: str, id: str) -> None:
        check_text(group=group, id=id)
        self.store = store
        self._group = group
        self._id = id
        self._changed = threading.Condition()
        self._woken = False
        self._stopped = False
        self._given: deque[Mesg] = deque()
        self._subscription: Subscription | None = None

    @property
    def group(self) -> str:
        """The group."""
        return self._group

    @property
    def id(self) -> str:
        """The process."""
        return self._id

    @property
    def unicast(self) -> str:
        """The address of this very process."""
        return f"poll://uni@{self._group}/{self._id}"

    @property
    def anycast(self) -> str:
        """The address of any process of the group, this one preferred."""
        return f"poll://any@{self._group}/{self._id}"

    def start(self) -> None:
        """Begin to receive. Idempotent."""
        self.store.start()
        with self._changed:
            self._stopped = False
            if self._subscription is not None:
                return
            self._subscription = Subscription(self._group, self._id, self._wake)
        self.store.service.subscribe(self._subscription)

    def stop(self) -> None:
        """Receive nothing more; `next` returns None, also to whoever waits in it. Idempotent."""
        with self._changed:
            self._stopped = True
            subscription, self._subscription = self._subscription, None
            self._changed.notify_all()
        if subscription is not None:
            subscription.close()

    def enqueue(self, mesg: Mesg) -> None:
        """Put a message in by hand; it comes before those of the store."""
        with self._changed:
            self._given.append(mesg)
            self._changed.notify_all()

    def next(self) -> Mesg | None:
        """The next message; blocks until there is one. None once stopped."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._woken or self._given)
                if self._stopped:
                    return None
                if self._given:
                    return self._given.popleft()
                self._woken = False
                subscription = self._subscription
            messages = subscription.take(1) if subscription is not None else []
            if messages:
                self._wake()  # there may be more
                return self._told(messages[0])

    def _wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def _told(self, message: Message) -> Mesg:
        if type(message) is not Execute:
            return {"type": "notify", "promise": promise_mesg(message.promise)}  # type: ignore[union-attr]
        task = self.store.service.handle([TaskGet(message.id)], trusted=True)[0].task
        if task is not None and task.resumes:
            return {"type": "resume", "task": {"id": message.id, "counter": message.version + 1}}
        return {"type": "invoke", "task": {"id": message.id, "counter": message.version + 1}}


def promise_mesg(promise: Promise) -> PromiseMesg:
    """A promise as messages carry it: what `promises.get` shows, but data in base64."""
    param, value = shown(promise.param), shown(promise.value)
    return {
        "id": promise.id,
        "state": STATES[promise.state],
        "timeout": promise.timeout_at,
        "idempotencyKeyForCreate": marks.key_for_create(promise),
        "idempotencyKeyForComplete": marks.key_for_complete(promise),
        "param": {"headers": param.headers, "data": promise.param.data},
        "value": {"headers": value.headers, "data": promise.value.data},
        "tags": marks.unmarked(promise.tags),
        "createdOn": promise.created_at,
        "completedOn": promise.settled_at,
    }


def network_for(store: Any, message_source: Any, group: str, pid: str) -> Network:
    """The network of a client that was given a store and a message source of its own.

    Args:
        store, message_source: a `LocalStore` and one of its message sources, or a user's own.
        group, pid: the client's; a `LocalMessageSource` has its own, which are used instead.
    """
    if isinstance(store, LocalStore) and isinstance(message_source, LocalMessageSource):
        if message_source.store is not store:
            raise ValueError("message_source belongs to another LocalStore: use store.message_source(group, id)")
        return _StoreNetwork(store, message_source.group, message_source.id)
    return LegacyNetwork(store, message_source, group, pid)
