"""What happened in a world, in order, and the promises of the design that it is checked against.

Every start and end of code, every batch of writes and every crash is an event. Two runs of
one seed give equal lists of events. While events come in, two promises are checked:

* a step whose result is recorded never starts again;
* when the code of a step starts, every step that ended before it in the same execution is
  recorded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from resonate.clock import Clock
from resonate.execution.call import Call
from resonate.protocol.records import REJECTED, RESOLVED
from resonate.protocol.requests import Request, TaskFence
from resonate.storage.base import Storage

START: Final = "start"
END: Final = "end"
WRITE: Final = "write"
CRASH: Final = "crash"

SHOWN: Final = 200
"""Events that a text about a world shows unless told otherwise."""


class Event(Struct, frozen=True):
    """One thing that happened.

    Args:
        at: milliseconds since the epoch, on the world's clock.
        client: the pid of the client it happened in.
        what: START or END of a call's code, WRITE of a batch, CRASH of the client.
        id: the call's id; empty for a write or crash.
        detail: the function's name, what is written, or how it crashed.
        attempt: which try of the call this is, from 1.
    """

    at: int
    client: str
    what: str
    id: str
    detail: str
    attempt: int = 1


class Trace:
    """The events of one world.

    Args:
        clock: dates the events.
        storage: says what is recorded.
    """

    def __init__(self, clock: Clock, storage: Storage) -> None:
        self.events: list[Event] = []
        self.violations: list[str] = []
        self.progress = 0
        self._clock = clock
        self.storage = storage
        self._unrecorded: dict[tuple[str, str], list[Call]] = {}

    def add(self, client: str, what: str, id: str, detail: str, attempt: int = 1) -> None:
        """Note an event."""
        self.events.append(Event(self._clock.now(), client, what, id, detail, attempt))

    def started(self, client: str, root: str, call: Call) -> None:
        """The code of `call` is about to run."""
        self.progress += 1
        self.add(client, START, call.id, call.name, call.attempt)
        if self._recorded(call.id):
            self.violations.append(f"{_named(call)} started in {client} although its result is recorded")
        ended = self._unrecorded.get((client, root))
        if not ended:
            return
        waiting = [other for other in ended if not self._recorded(other.id)]
        self._unrecorded[client, root] = waiting
        for other in waiting:
            if other.done and other.stop is None:
                self.violations.append(
                    f"{_named(call)} started in {client} while the result of {_named(other)} was not yet durable"
                )

    def ended(self, client: str, root: str, call: Call) -> None:
        """The code of `call` has returned or raised; its record follows, unless it is tried again."""
        self.progress += 1
        self.add(client, END, call.id, call.name, call.attempt)
        if call.owner is not None and call.options.durable:
            self._unrecorded.setdefault((client, root), []).append(call)

    def crashed(self, client: str, how: str) -> None:
        """The client is gone; what it had not written is lost, and may run again."""
        self.add(client, CRASH, "", how)
        self._unrecorded = {key: calls for key, calls in self._unrecorded.items() if key[0] != client}

    def starts(self) -> Counter[tuple[str, int]]:
        """How often the code of each (id, attempt) started."""
        return Counter((event.id, event.attempt) for event in self.events if event.what == START)

    def text(self, last: int = SHOWN) -> str:
        """The events as a person reads them, one a line.

        Args:
            last: only so many, the latest.
        """
        if not self.events:
            return "(nothing happened)"
        first = self.events[0].at
        return "\n".join(
            f"{(event.at - first) / 1000:+14.3f} s  {event.client:<12} {event.what:<6} "
            f"{' '.join(filter(None, (event.id, event.detail)))}"
            + (f" (attempt {event.attempt})" if event.attempt > 1 else "")
            for event in self.events[-last:]
        )

    def _recorded(self, id: str) -> bool:
        row = self.storage.promise(id)
        return row is not None and row.promise.state in (RESOLVED, REJECTED)


def describe(requests: Sequence[Request]) -> str:
    """A batch of requests in a few words."""
    return ", ".join(_described(request) for request in requests)


def _described(request: object) -> str:
    if isinstance(request, TaskFence):
        return _described(request.action)
    id = getattr(request, "id", None) or getattr(getattr(request, "action", None), "id", "")
    return f"{type(request).__name__} {id}".strip()


def _named(call: Call) -> str:
    return f"{call.id} ({call.name})" if call.name else call.id
