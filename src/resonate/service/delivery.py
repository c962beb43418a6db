"""Messages to their addresses: kept until taken, announced, pulled.

A message stays in the storage's outbox until a subscriber takes it, so nothing is lost
while nobody listens. An offered task goes to whoever suspended it last for a moment (it
may have kept the frames warm), then to the whole group.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from itertools import islice
from typing import Any, Final

from resonate.clock import Clock
from resonate.protocol.addresses import PUSHED, Address, parse
from resonate.protocol.records import Message
from resonate.protocol.rows import Send
from resonate.storage.base import Storage

BATCH: Final = 1000
"""Offers taken at once if nobody says how many."""

PREFERENCE: Final = 100
"""Milliseconds for which only the last suspender gets an offer."""


Key = tuple[str, ...]


SPARE: Final = 64
"""Offers of which a storage may choose, beyond those that are wanted, where other processes take the same."""

HANDED: Final = 10_000
"""Offers that are remembered as handed out, before those that have left the outbox are looked for and forgotten."""


class Subscription:
    """One receiver of messages: a (group, pid), or everything that is polled for.

    Args:
        wake: called, on any thread and without locks, when `take` may have something.
        catch_all: receive for every poll address, whatever its group.
        direct: receive only what names this very receiver, or prefers it; the rest of its group's
            messages go to others.
        prefix: receive only messages of promises whose ids begin with it: whoever listens may see no others.
    """

    def __init__(
        self,
        group: str,
        pid: str,
        wake: Callable[[], None],
        catch_all: bool = False,
        *,
        direct: bool = False,
        prefix: str = "",
    ) -> None:
        self.group = group
        self.pid = pid
        self.catch_all = catch_all
        self.direct = direct
        self.prefix = prefix
        self._wake = wake
        self._announced = False
        self.queue: dict[Key, None] = {}
        self.delivery: Delivery | None = None

    def may_have(self, key: Key) -> bool:
        """Whether the message is about a promise that this receiver may see."""
        return key[1].startswith(self.prefix)

    def announce(self) -> None:
        """Wake the receiver, once until it takes."""
        if not self._announced:
            self._announced = True
            self._wake()

    def take(self, limit: int, leave: Collection[str] = (), offers: int = BATCH) -> list[Message]:
        """Up to `limit` messages, which are this receiver's now, at most `offers` of them of tasks not in `leave`."""
        return [send.message for send in self.take_sends(limit, leave, offers)]

    def take_sends(self, limit: int, leave: Collection[str] = (), offers: int = BATCH) -> list[Send]:
        """As `take`, with what `Service.give_back` needs should they not be handed on."""
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

    def again(self, keys: Sequence[Key]) -> list[Send]:
        """Of messages that were picked, those that are still there to deliver."""
        return [] if self.delivery is None else self.delivery.again(keys)

    def done(self, keys: Sequence[Key]) -> None:
        """Messages that were picked are delivered, or given up."""
        if self.delivery is not None:
            self.delivery.done(keys)


class Delivery:
    """Who gets which message of one storage's outbox.

    Only keys are kept here, each once per receiver or group; the messages stay in the outbox.
    """

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self._lock = threading.Lock()
        # in order of subscription; many may share a group, so all of them are found by their group
        self._members: dict[str, dict[Subscription, None]] = {}
        self._named: dict[tuple[str, str], dict[Subscription, None]] = {}
        self._catch_all: list[Subscription] = []
        self._groups: dict[str, dict[Key, None]] = {}
        self._moves: deque[tuple[int, Key, Subscription | None, str]] = deque()
        self._turn = 0
        # offers that somebody here has and that stay in the outbox until their task is acquired
        self._handed: set[Key] = set()
        self._prune_at = HANDED
        self._held = False

    def subscribe(self, *subscriptions: Subscription) -> None:
        """Add receivers; what waited for them is announced. All at once look at the outbox once."""
        with self._lock:
            for subscription in subscriptions:
                subscription.delivery = self
                if subscription.catch_all:
                    self._catch_all.append(subscription)
                    continue
                self._named.setdefault((subscription.group, subscription.pid), {})[subscription] = None
                if not subscription.direct:
                    self._members.setdefault(subscription.group, {})[subscription] = None
            waiting = self._storage.outbox()
            self._prune(waiting)
            woken = self._route([send for send in waiting if send.key not in self._handed])
        _announce(woken)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Remove a receiver; its messages are routed again."""
        with self._lock:
            if subscription.delivery is None:
                return
            subscription.delivery = None
            if subscription.catch_all:
                self._catch_all.remove(subscription)
            else:
                _discard(self._named, (subscription.group, subscription.pid), subscription)
                _discard(self._members, subscription.group, subscription)
            self._storage.unwatch(subscription.group, subscription.pid)
            if subscription.group not in self._members:
                self._groups.pop(subscription.group, None)  # the outbox has them for whoever comes next
            left = subscription.queue
            woken = self._route([send for send in self._storage.outbox() if send.key in left]) if left else []
        _announce(woken)

    def hold(self, held: bool) -> None:
        """Have nothing pushed, until told otherwise; it stays in the outbox."""
        self._held = held
        if not held:
            with self._lock:
                pushing = list(self._named.get((PUSHED, ""), ()))
            _announce(pushing)

    def hand_out(self, fresh: list[Send]) -> None:
        """Route what the last commit put into the outbox."""
        if not self._named and not self._catch_all:
            return
        with self._lock:
            self._handed.difference_update(send.key for send in fresh)  # offered anew
            woken = self._route(fresh)
        _announce(woken)

    def take(self, subscription: Subscription, limit: int, leave: Collection[str], offers: int) -> list[Send]:
        """Messages for one receiver: its own first, then those of its group."""
        taken: list[Send] = []
        with self._lock:
            queues = [subscription.queue]
            if not subscription.direct and subscription.group in self._groups:
                queues.append(self._groups[subscription.group])
            for queue in queues:
                while len(taken) < limit:
                    found = self._take(queue, limit - len(taken), leave, offers, subscription.prefix)
                    if found is None:
                        break
                    taken += found
                    offers -= sum(1 for send in found if send.key[0] == "execute")
        return taken

    def _take(
        self, queue: dict[Key, None], limit: int, leave: Collection[str], offers: int, prefix: str
    ) -> list[Send] | None:
        """Up to `limit` messages of a queue; fewer if others were faster, None if none is left that may be taken."""
        keys = _pick(queue, limit, leave, offers, prefix)
        if not keys:
            return None
        wanted = len(keys)
        if self._storage.claims and keys[-1][0] == "execute":  # others take the same: have more to choose among
            offered = (key for key in queue if key[0] == "execute" and key[1].startswith(prefix))
            more = islice((key for key in offered if key[1] not in leave), SPARE)
            keys += _without(queue, list(more))
        try:
            found = self._storage.take(keys, wanted)
        except BaseException:  # nothing was taken: they wait on
            _put_back(queue, keys)
            raise
        if len(found) == wanted < len(keys):  # the rest may still be there
            taken = {send.key for send in found}
            _put_back(queue, [key for key in keys if key not in taken])
        self._hand(found)
        return found

    def pick(self, limit: int) -> list[Send]:
        """What is to be pushed: offers are taken, news are only read."""
        if self._held:
            return []
        with self._lock:
            keys = _pick(self._groups.get(PUSHED, {}), limit, (), limit)
        offers = [key for key in keys if key[0] == "execute"]
        try:
            taken = self._storage.take(offers)
            with self._lock:
                self._hand(taken)
            return taken + self._storage.peek([key for key in keys if key[0] != "execute"])
        except BaseException:  # nothing may be forgotten that is still in the outbox
            with self._lock:
                self._groups.setdefault(PUSHED, {}).update(dict.fromkeys(keys))
            raise

    def _hand(self, taken: list[Send]) -> None:
        if self._storage.shared and not self._storage.claims:
            self._handed.update(send.key for send in taken if send.key[0] == "execute")
            if len(self._handed) > self._prune_at:
                self._prune(self._storage.outbox())

    def _prune(self, waiting: list[Send]) -> None:
        """Forget offers that have left the outbox."""
        self._handed.intersection_update([send.key for send in waiting])
        self._prune_at = max(HANDED, 2 * len(self._handed))

    def again(self, keys: Sequence[Key]) -> list[Send]:
        """Messages that are still in the outbox."""
        return self._storage.peek(keys)

    def done(self, keys: Sequence[Key]) -> None:
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
                    del preferred.queue[key]
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
            elif address.transport == "http":
                woken += self._offer(send.key, PUSHED)
        return woken

    def _route_poll(self, send: Send, address: Address) -> list[Subscription]:
        group = address.group or ""
        if address.id is not None:
            named = self._newest(group, address.id, send.key)
            if named or address.cast == "uni":
                return _queue(send.key, named)
        if self._catch_all:
            return _queue(send.key, self._catch_all[-1:])
        members = self._members.get(group, {})
        if not members:
            return []
        preferred = [] if send.prefer is None else self._newest(group, send.prefer, send.key)
        if preferred and (len(members) > 1 or preferred[0].direct):
            self._moves.append((self._clock.now() + PREFERENCE, send.key, preferred[0], group))
            return _queue(send.key, preferred)
        if send.prefer is not None and not preferred and self._storage.shared:
            self._moves.append((self._clock.now() + PREFERENCE, send.key, None, group))
            return []
        return self._offer(send.key, group)

    def _newest(self, group: str, pid: str, key: Key) -> list[Subscription]:
        """The receiver of that name that may have the message, the newest if several go by it."""
        named = self._named.get((group, pid))
        if named is None:
            return self._catch_all[-1:]
        return next(([one] for one in reversed(named) if one.may_have(key)), [])

    def _offer(self, key: Key, group: str) -> list[Subscription]:
        """Put a message where every member of a group may take it; each of them hears of it."""
        members = [member for member in self._members.get(group, ()) if member.may_have(key)]
        if not members:
            return []
        self._groups.setdefault(group, {})[key] = None
        self._turn += 1
        first = self._turn % len(members)
        return members[first:] + members[:first]


def _pick(queue: dict[Key, None], limit: int, leave: Collection[str], offers: int, prefix: str = "") -> list[Key]:
    """Remove up to `limit` keys from a queue, oldest first, without offers beyond `offers` or of tasks in `leave`."""
    picked: list[Key] = []
    for key in queue:
        if len(picked) >= limit:
            break
        if prefix and not key[1].startswith(prefix):
            continue
        if key[0] == "execute":
            if offers <= 0 or key[1] in leave:
                continue
            offers -= 1
        picked.append(key)
    return _without(queue, picked)


def _without(queue: dict[Key, None], keys: list[Key]) -> list[Key]:
    for key in keys:
        del queue[key]
    return keys


def _put_back(queue: dict[Key, None], keys: Sequence[Key]) -> None:
    """Have these come first again."""
    waiting = {**dict.fromkeys(keys), **queue}
    queue.clear()
    queue.update(waiting)


def _discard(index: dict[Any, dict[Subscription, None]], key: Any, subscription: Subscription) -> None:
    found = index.get(key)
    if found is not None:
        found.pop(subscription, None)
        if not found:
            del index[key]


def _queue(key: Key, receivers: list[Subscription]) -> list[Subscription]:
    for receiver in receivers:
        receiver.queue[key] = None
    return receivers


def _announce(woken: list[Subscription]) -> None:
    for subscription in woken:
        subscription.announce()
