"""Messages to their addresses: kept until taken, announced, pulled.

A message stays in the storage's outbox until a subscriber takes it, so nothing is lost
while nobody listens. An offered task goes to whoever suspended it last for a moment (it
may have kept the frames warm), then to the whole group.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Final

from resonate.clock import Clock
from resonate.protocol.addresses import PUSHED, Address, parse
from resonate.protocol.records import Message
from resonate.protocol.rows import Send
from resonate.storage.base import Storage

BATCH: Final = 1000
"""Offers taken at once if nobody says how many."""

PREFERENCE: Final = 100
"""Milliseconds for which only the last suspender gets an offer."""


class Subscription:
    """One receiver of messages: a (group, pid), or everything that is polled for.

    Args:
        wake: called, on any thread and without locks, when `take` may have something.
        catch_all: receive for every poll address, whatever its group.
    """

    def __init__(self, group: str, pid: str, wake: Callable[[], None], catch_all: bool = False) -> None:
        self.group = group
        self.pid = pid
        self.catch_all = catch_all
        self._wake = wake
        self._announced = False
        self.queue: deque[tuple[str, ...]] = deque()
        self.delivery: Delivery | None = None

    def announce(self) -> None:
        """Wake the receiver, once until it takes."""
        if not self._announced:
            self._announced = True
            self._wake()

    def take(self, limit: int, leave: Collection[str] = (), offers: int = BATCH) -> list[Message]:
        """Up to `limit` messages, which are this receiver's now, at most `offers` of them of tasks not in `leave`."""
        self._announced = False
        if self.delivery is None:
            return []
        return self.delivery.take(self, limit, leave, offers)

    def close(self) -> None:
        """Receive nothing more; what was meant for this receiver goes to others."""
        if self.delivery is not None:
            self.delivery.unsubscribe(self)


class Pushing(Subscription):
    """A receiver of everything that is sent by HTTP.

    Offers are gone from the outbox when they are picked: a lost one is offered again by its
    timer. Nothing repeats the news of a settled promise, so they stay until `done`.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        super().__init__(PUSHED, "", wake)

    def pick(self, limit: int) -> list[Send]:
        """Up to `limit` messages to deliver now."""
        self._announced = False
        return [] if self.delivery is None else self.delivery.pick(limit)

    def again(self, keys: Sequence[tuple[str, ...]]) -> list[Send]:
        """Of messages that were picked, those that are still there to deliver."""
        return [] if self.delivery is None else self.delivery.again(keys)

    def done(self, keys: Sequence[tuple[str, ...]]) -> None:
        """Messages that were picked are delivered, or given up."""
        if self.delivery is not None:
            self.delivery.done(keys)


class Delivery:
    """Who gets which message of one storage's outbox."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self._lock = threading.Lock()
        self._subscriptions: list[Subscription] = []
        self._groups: dict[str, deque[tuple[str, ...]]] = {}
        self._moves: deque[tuple[int, tuple[str, ...], Subscription | None, str]] = deque()
        self._turn = 0

    def subscribe(self, subscription: Subscription) -> None:
        """Add a receiver; what waited for it is announced."""
        subscription.delivery = self
        with self._lock:
            self._subscriptions.append(subscription)
            woken = self._route(self._storage.outbox())
        _announce(woken)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Remove a receiver; its messages are routed again."""
        with self._lock:
            if subscription not in self._subscriptions:
                return
            self._subscriptions.remove(subscription)
            subscription.delivery = None
            woken = self._route([send for send in self._storage.outbox() if send.key in subscription.queue])
        _announce(woken)

    def hand_out(self, fresh: list[Send]) -> None:
        """Route what the last commit put into the outbox."""
        if not self._subscriptions:
            return
        with self._lock:
            woken = self._route(fresh)
        _announce(woken)

    def take(self, subscription: Subscription, limit: int, leave: Collection[str], offers: int) -> list[Message]:
        """Messages for one receiver: its own first, then those of its group."""
        taken: list[Message] = []
        with self._lock:
            for queue in (subscription.queue, self._groups.get(subscription.group, ())):
                for _ in range(len(queue)):
                    if len(taken) == limit:
                        break
                    key = queue.popleft()  # type: ignore[union-attr]
                    if key[0] == "execute" and (not offers or key[1] in leave):
                        queue.append(key)  # type: ignore[union-attr]
                        continue
                    found = [send.message for send in self._storage.take([key])]
                    taken += found
                    if key[0] == "execute":
                        offers -= len(found)
        return taken

    def pick(self, limit: int) -> list[Send]:
        """What is to be pushed: offers are taken, news are only read."""
        with self._lock:
            queue = self._groups.get(PUSHED, ())
            keys = [queue.popleft() for _ in range(min(limit, len(queue)))]  # type: ignore[union-attr]
        offers = [key for key in keys if key[0] == "execute"]
        try:
            return self._storage.take(offers) + self._storage.peek([key for key in keys if key[0] != "execute"])
        except BaseException:  # nothing may be forgotten that is still in the outbox
            with self._lock:
                self._groups[PUSHED].extendleft(reversed(keys))
            raise

    def again(self, keys: Sequence[tuple[str, ...]]) -> list[Send]:
        """Messages that are still in the outbox."""
        return self._storage.peek(keys)

    def done(self, keys: Sequence[tuple[str, ...]]) -> None:
        """Remove messages that were only read."""
        self._storage.take(keys)

    def next_move(self) -> int | None:
        """When the next preference ends, milliseconds since the epoch."""
        return self._moves[0][0] if self._moves else None

    def move_on(self) -> None:
        """Let the whole group have what its preferred receiver, here or in another process, had its time for."""
        if not self._moves:
            return
        now, woken = self._clock.now(), []
        with self._lock:
            while self._moves and self._moves[0][0] <= now:
                _, key, preferred, group = self._moves.popleft()
                if preferred is not None:
                    if key not in preferred.queue:
                        continue
                    preferred.queue.remove(key)
                woken += self._offer(key, group)
        _announce(woken)

    def _route(self, sends: list[Send]) -> list[Subscription]:
        woken: list[Subscription] = []
        for send in sends:
            address = parse(send.address)
            if address is None:
                continue
            if address.transport == "poll":
                woken += self._route_poll(send, address)
            elif address.transport == "http" and any(s.group == PUSHED for s in self._subscriptions):
                woken += self._offer(send.key, PUSHED)
        return woken

    def _route_poll(self, send: Send, address: Address) -> list[Subscription]:
        group = address.group or ""
        receivers = [s for s in self._subscriptions if s.catch_all or s.group == group]
        if address.id is not None:
            named = [s for s in receivers if s.catch_all or s.pid == address.id][-1:]
            if named or address.cast == "uni":
                return _queue(send.key, named)
        if not receivers:
            return []
        if receivers[-1].catch_all:
            return _queue(send.key, receivers[-1:])
        preferred = [s for s in receivers if s.pid == send.prefer]
        if preferred and len(receivers) > 1:
            self._moves.append((self._clock.now() + PREFERENCE, send.key, preferred[0], group))
            return _queue(send.key, preferred)
        if send.prefer is not None and not preferred and self._storage.shared:
            self._moves.append((self._clock.now() + PREFERENCE, send.key, None, group))
            return []
        return self._offer(send.key, group)

    def _offer(self, key: tuple[str, ...], group: str) -> list[Subscription]:
        """Put a message where every member of a group may take it; each of them hears of it."""
        self._groups.setdefault(group, deque()).append(key)
        members = [s for s in self._subscriptions if s.group == group]
        self._turn += 1
        first = self._turn % len(members) if members else 0
        return members[first:] + members[:first]


def _queue(key: tuple[str, ...], receivers: list[Subscription]) -> list[Subscription]:
    for receiver in receivers:
        receiver.queue.append(key)
    return receivers


def _announce(woken: list[Subscription]) -> None:
    for subscription in woken:
        subscription.announce()
