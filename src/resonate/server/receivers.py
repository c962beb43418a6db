"""Who may have how many deliveries: a host that answers slowly, or never, must not hold them all.

A delivery lasts as long as its receiver likes, up to minutes, and whoever may create a promise
names the receiver. So there is room for several times as many as one host may have, and a
host that has some gets another only while more than that are free: the next one finds a place.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from resonate.protocol.rows import Send

HOSTS: Final = 4
"""Hosts that may have as many deliveries as one host may have; of more of them each gets less."""

PARKED: Final = 10_000
"""Messages that wait for a host which has its share; further offers are left to their timers, news to another look."""

Key = tuple[str, ...]


class Receivers:
    """Counts the deliveries of each host, and keeps the offers that have to wait.

    Args:
        most: deliveries of one host at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._under_way = 0
        self._held: Counter[str] = Counter()
        self._again: Counter[str] = Counter()
        self._parked: dict[str, deque[Send | Key]] = {}
        self._count = 0

    @property
    def total(self) -> int:
        """Deliveries at once, to all hosts."""
        return HOSTS * self._most

    @property
    def room(self) -> int:
        """How many more may begin."""
        return self.total - self._under_way

    def may_have(self, host: str, planned: Counter[str]) -> bool:
        """Whether `host` may have one more, once those that are `planned` of each host begin."""
        return self._held[host] + planned[host] < min(self._most, self.room - planned.total())

    def may_have_again(self, host: str, planned: Counter[str]) -> bool:
        """Whether `host` may have one more that failed before.

        At most half of what a host may have, and of all, goes to these, so that the dead do not starve the living.
        """
        return (
            self.may_have(host, planned)
            and self._again[host] + planned[host] < max(1, self._most // 2)
            and self._again.total() + planned.total() < self.total // 2
        )

    def begin(self, host: str, again: bool = False) -> None:
        """One more for `host`; `again` if it failed before."""
        self._under_way += 1
        self._held[host] += 1
        if again:
            self._again[host] += 1

    def end(self, host: str, again: bool = False) -> None:
        """One of `host` is over."""
        self._under_way -= 1
        self._held[host] -= 1
        if not self._held[host]:
            del self._held[host]
        if again:
            self._again[host] -= 1
            if not self._again[host]:
                del self._again[host]

    def park(self, host: str, send: Send) -> bool:
        """Keep an offer, or the key of news, until its host may have it; False if too many wait already."""
        offer = send.key[0] == "execute"
        if self._count >= PARKED:
            return False
        self._parked.setdefault(host, deque()).append(send if offer else send.key)
        self._count += 1
        return True

    def ready(self, planned: Counter[str]) -> Iterator[tuple[str, Send | Key]]:
        """What may begin now of what waits, in turn; each has to begin, or to be `planned`, before the next."""
        for host in list(self._parked):
            queue = self._parked[host]
            while queue and self.may_have(host, planned):
                self._count -= 1
                yield host, queue.popleft()
            if not queue:
                del self._parked[host]

    def left(self) -> list[Send]:
        """The offers that wait, at the end."""
        return [waiting for queue in self._parked.values() for waiting in queue if not isinstance(waiting, tuple)]


def host_of(address: str) -> str:
    """The host that a delivery to `address` counts for."""
    try:
        return (urlsplit(address).hostname or "").rstrip(".")
    except ValueError:
        return ""  # no URL: refused at once
