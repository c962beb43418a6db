"""What happened in a world, in order, and the promises of the design that it is checked against.

Every start and end of code, every batch of writes and every crash is an event. Two runs of
one seed give equal lists of events. While events come in, two promises are checked:

* a step whose result is recorded never starts again, nor an attempt that is recorded as failed;
* when the code of a step starts, every step that its caller had the result of is recorded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Final

from msgspec import Struct

from resonate.clock import Clock
from resonate.execution.call import Call
from resonate.execution.execution import Execution
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
        self.excused = 0
        """Until this instant a lease may have ended early by the server's clock: a step may run twice."""
        self._unrecorded: dict[tuple[str, Execution], list[tuple[Call, int]]] = {}

    def add(self, client: str, what: str, id: str, detail: str, attempt: int = 1) -> None:
        """Note an event."""
        self.events.append(Event(self._clock.now(), client, what, id, detail, attempt))

    def started(self, client: str, execution: Execution, call: Call) -> None:
        """The code of `call` is about to run."""
        self.progress += 1
        self.add(client, START, call.id, call.name, call.attempt)
        if self._recorded(call.id) and self._clock.now() > self.excused:
            self.violations.append(f"{_named(call)} started in {client} although its result is recorded")
        pause = self.storage.promise(f"{call.prefix or call.id + '.'}r{call.attempt}")
        if pause is not None and self._clock.now() > self.excused:
            self.violations.append(
                f"attempt {call.attempt} of {_named(call)} started in {client} although it is recorded as failed"
            )
        ended = self._unrecorded.get((client, execution))
        if not ended:
            return
        waiting = [entry for entry in ended if not self._recorded(entry[0].id)]
        self._unrecorded[client, execution] = waiting
        for other, begun in waiting:
            if other.done and other.stop is None and _after(execution, call, other, begun):
                self.violations.append(
                    f"{_named(call)} started in {client} while the result of {_named(other)} was not yet durable"
                )

    def ended(self, client: str, execution: Execution, call: Call) -> None:
        """The code of `call` has returned or raised; its record follows, unless it is tried again."""
        self.progress += 1
        self.add(client, END, call.id, call.name, call.attempt)
        if call.owner is not None and call.options.durable:
            others = [entry for entry in self._unrecorded.get((client, execution), ()) if entry[0] is not call]
            self._unrecorded[client, execution] = [*others, (call, len(execution.calls))]  # not an attempt before

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
        return told(self.events, last)

    def _recorded(self, id: str) -> bool:
        row = self.storage.promise(id)
        return row is not None and row.promise.state in (RESOLVED, REJECTED)


def _after(execution: Execution, call: Call, other: Call, begun: int) -> bool:
    """Whether `call`, or what it is part of, was begun by the caller of `other` when that had ended.

    Args:
        begun: how many calls there were in the execution when it ended.
    """
    part = call
    while part.owner is not None and part.owner is not other.owner:
        part = part.owner
    if part.owner is None:
        return False
    return all(known is not part for known in islice(execution.calls.values(), begun))


def told(events: Sequence[Event], last: int = SHOWN) -> str:
    """Events as a person reads them, one a line.

    Args:
        events: in order.
        last: only so many, the latest.
    """
    if not events:
        return "(nothing happened)"
    first = events[0].at
    return "\n".join(
        f"{(event.at - first) / 1000:+14.3f} s  {event.client:<12} {event.what:<6} "
        f"{' '.join(filter(None, (event.id, event.detail)))}"
        + (f" (attempt {event.attempt})" if event.attempt > 1 else "")
        for event in events[-last:]
    )


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
