"""What the low-level clients give back: promises, tasks, callbacks and schedules, as programs know them.

Views of the protocol's records under the names of the official client. Instants are
milliseconds since the epoch. A promise changes only through its own `resolve`, `reject`
and `cancel`; what happens elsewhere shows when it is read again.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from msgspec import Struct

from resonate.network import marks
from resonate.protocol.records import Promise, Value
from resonate.protocol.records import Schedule as ScheduleRow

STATES: Final = {
    "pending": "PENDING",
    "resolved": "RESOLVED",
    "rejected": "REJECTED",
    "rejected_canceled": "REJECTED_CANCELED",
    "rejected_timedout": "REJECTED_TIMEDOUT",
}
"""A state of the protocol, and what it is called here."""


class DurablePromiseValue(Struct, frozen=True):
    """A payload: `data` is text, normally JSON."""

    headers: dict[str, str] | None = None
    data: str | None = None


class _Settles(Protocol):
    """What a promise asks of the client that read it."""

    def resolve(
        self,
        id: str,
        *,
        ikey: str | None = None,
        strict: bool = False,
        headers: dict[str, str] | None = None,
        data: str | None = None,
    ) -> DurablePromise: ...

    def reject(
        self,
        id: str,
        *,
        ikey: str | None = None,
        strict: bool = False,
        headers: dict[str, str] | None = None,
        data: str | None = None,
    ) -> DurablePromise: ...

    def cancel(
        self,
        id: str,
        *,
        ikey: str | None = None,
        strict: bool = False,
        headers: dict[str, str] | None = None,
        data: str | None = None,
    ) -> DurablePromise: ...


class DurablePromise:
    """A durable promise, as it was when it was read."""

    __slots__ = ("_client", "_record")

    def __init__(self, record: Promise, client: _Settles) -> None:
        self._record = record
        self._client = client

    @property
    def id(self) -> str:
        """The id."""
        return self._record.id

    @property
    def state(self) -> str:
        """PENDING, RESOLVED, REJECTED, REJECTED_CANCELED or REJECTED_TIMEDOUT."""
        return STATES[self._record.state]

    @property
    def timeout(self) -> int:
        """The deadline, milliseconds since the epoch."""
        return self._record.timeout_at

    @property
    def ikey_for_create(self) -> str | None:
        """The idempotency key it was created with."""
        return marks.key_for_create(self._record)

    @property
    def ikey_for_complete(self) -> str | None:
        """The idempotency key it was settled with."""
        return marks.key_for_complete(self._record)

    @property
    def param(self) -> DurablePromiseValue:
        """What its creator gave."""
        return shown(self._record.param)

    @property
    def value(self) -> DurablePromiseValue:
        """What its settler gave; empty while pending and after a timeout."""
        return shown(self._record.value)

    @property
    def tags(self) -> dict[str, str]:
        """The tags, without those that this client added."""
        return marks.unmarked(self._record.tags)

    @property
    def created_on(self) -> int:
        """When it was created, milliseconds since the epoch."""
        return self._record.created_at

    @property
    def completed_on(self) -> int | None:
        """When it was settled, milliseconds since the epoch; None while pending."""
        return self._record.settled_at

    @property
    def pending(self) -> bool:
        """Whether it is not settled."""
        return self._record.state == "pending"

    @property
    def completed(self) -> bool:
        """Whether it is settled, in whatever way."""
        return self._record.state != "pending"

    @property
    def resolved(self) -> bool:
        """Whether it was resolved."""
        return self._record.state == "resolved"

    @property
    def rejected(self) -> bool:
        """Whether it was rejected with a value."""
        return self._record.state == "rejected"

    @property
    def canceled(self) -> bool:
        """Whether it was cancelled."""
        return self._record.state == "rejected_canceled"

    @property
    def timedout(self) -> bool:
        """Whether its deadline passed first."""
        return self._record.state == "rejected_timedout"

    @property
    def abs_timeout(self) -> float:
        """The deadline, seconds since the epoch."""
        return self.timeout / 1000

    @property
    def rel_timeout(self) -> float:
        """Seconds from its creation to its deadline."""
        return (self.timeout - self.created_on) / 1000

    def resolve(
        self,
        data: str | None = None,
        *,
        ikey: str | None = None,
        strict: bool = False,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Resolve it, and show the outcome from now on; see `PromiseClient.resolve`."""
        self._adopt(self._client.resolve(self.id, ikey=ikey, strict=strict, headers=headers, data=data))

    def reject(
        self,
        data: str | None = None,
        *,
        ikey: str | None = None,
        strict: bool = False,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Reject it, and show the outcome from now on; see `PromiseClient.reject`."""
        self._adopt(self._client.reject(self.id, ikey=ikey, strict=strict, headers=headers, data=data))

    def cancel(
        self,
        data: str | None = None,
        *,
        ikey: str | None = None,
        strict: bool = False,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Cancel it, and show the outcome from now on; see `PromiseClient.cancel`."""
        self._adopt(self._client.cancel(self.id, ikey=ikey, strict=strict, headers=headers, data=data))

    def _adopt(self, settled: DurablePromise) -> None:
        self._record = settled._record

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DurablePromise) and self._record == other._record

    __hash__ = None  # type: ignore[assignment]  # it changes when it is settled

    def __repr__(self) -> str:
        return f"DurablePromise(id={self.id!r}, state={self.state}, timeout={self.timeout}, tags={self.tags})"


class Callback(Struct, frozen=True):
    """What was registered on a pending promise. `timeout` and `created_on` in ms since the epoch."""

    id: str
    promise_id: str
    timeout: int
    created_on: int


class _Tasks(Protocol):
    def claim(self, id: str, counter: int, pid: str, ttl: int) -> tuple[DurablePromise, DurablePromise | None]: ...

    def complete(self, id: str, counter: int) -> bool: ...


class Task:
    """The right to run a promise's function.

    `id` and `counter` say which offer or lease this is; `claim` and `complete` need both.
    """

    __slots__ = ("_client", "counter", "id")

    def __init__(self, id: str, counter: int, client: _Tasks) -> None:
        self.id = id
        self.counter = counter
        self._client = client

    def claim(self, pid: str, ttl: int) -> tuple[DurablePromise, DurablePromise | None]:
        """Take it for `ttl` milliseconds; see `TaskClient.claim`."""
        return self._client.claim(self.id, self.counter, pid, ttl)

    def complete(self) -> None:
        """Give it up; see `TaskClient.complete`."""
        self._client.complete(self.id, self.counter)

    def __repr__(self) -> str:
        return f"Task(id={self.id!r}, counter={self.counter})"


class _Deletes(Protocol):
    def delete(self, id: str) -> None: ...


class Schedule:
    """A schedule, as it was when it was read."""

    __slots__ = ("_about", "_client", "_record")

    def __init__(self, record: ScheduleRow, about: dict[str, Any], client: _Deletes) -> None:
        self._record = record
        self._about = about
        self._client = client

    @property
    def id(self) -> str:
        """The id."""
        return self._record.id

    @property
    def description(self) -> str | None:
        """What its creator said about it."""
        description: str | None = self._about.get("description")
        return description

    @property
    def cron(self) -> str:
        """The cron expression, in UTC."""
        return self._record.cron

    @property
    def tags(self) -> dict[str, str]:
        """The schedule's own tags."""
        return dict(self._about.get("tags") or ())

    @property
    def promise_id(self) -> str:
        """The template of the ids of its promises."""
        return self._record.promise_id

    @property
    def promise_timeout(self) -> int:
        """Milliseconds from a run to the deadline of its promise."""
        return self._record.promise_timeout

    @property
    def promise_param(self) -> DurablePromiseValue:
        """The param of its promises."""
        return shown(self._record.promise_param)

    @property
    def promise_tags(self) -> dict[str, str]:
        """The tags of its promises, without those that this client added."""
        added = self._about.get("added", ())
        return {name: value for name, value in self._record.promise_tags.items() if name not in added}

    @property
    def last_runtime(self) -> int | None:
        """When it ran last, milliseconds since the epoch; None if it has not."""
        return self._record.last_run_at

    @property
    def next_runtime(self) -> int:
        """When it runs next, milliseconds since the epoch."""
        return self._record.next_run_at

    @property
    def ikey(self) -> str | None:
        """The idempotency key it was created with."""
        key: str | None = self._about.get("ikey")
        return key

    @property
    def created_on(self) -> int:
        """When it was created, milliseconds since the epoch."""
        return self._record.created_at

    def delete(self) -> None:
        """Delete it; what it has created stays. See `ScheduleClient.delete`."""
        self._client.delete(self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schedule) and self._record == other._record

    __hash__ = None  # type: ignore[assignment]  # what it shows changes with every run

    def __repr__(self) -> str:
        return f"Schedule(id={self.id!r}, cron={self.cron!r}, promise_id={self.promise_id!r})"


def shown(value: Value) -> DurablePromiseValue:
    """A payload as programs see it: text instead of base64, without our marks."""
    headers = marks.unmarked(value.headers or {})
    about = marks.mark_of(headers, ABOUT)
    if about is not None:
        del headers[about]
    return DurablePromiseValue(headers or None, marks.from_wire(value.data))


ABOUT: Final = "resonate:py:schedule"
"""Header of a schedule's param: what a schedule has that the protocol does not know, as JSON."""
