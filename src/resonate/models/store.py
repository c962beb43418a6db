"""What a user's own promise store offers: the protocols of the official client's stores.

A program hands such an object to `Resonate(store=..., message_source=...)`. The client
calls it by keyword, from any thread, and reads the attributes named here of what it gives
back, so a store may return classes of its own.

All instants are milliseconds since the epoch; `ttl` is milliseconds. `data` is plain text,
normally JSON: base64 is the store's own affair (`Store.encoder` says how its messages
have it). What a store refuses it raises as `ResonateStoreError(text, code)` with the codes
40400 (no such promise), 40399 (transition refused), 40303 (timed out, strict), 40305 (task
not claimable) and 40403 (no such task or schedule). Any other code means that the store
is in trouble; the client then gives the execution up to whoever gets its task next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from resonate.encoders import Encoder


class ValueRecord(Protocol):
    """A payload: the text and its headers."""

    @property
    def headers(self) -> Mapping[str, str] | None: ...
    @property
    def data(self) -> str | None: ...


class PromiseRecord(Protocol):
    """A durable promise; `state` is PENDING, RESOLVED, REJECTED, REJECTED_CANCELED or REJECTED_TIMEDOUT."""

    @property
    def id(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def timeout(self) -> int: ...
    @property
    def ikey_for_create(self) -> str | None: ...
    @property
    def ikey_for_complete(self) -> str | None: ...
    @property
    def param(self) -> ValueRecord: ...
    @property
    def value(self) -> ValueRecord: ...
    @property
    def tags(self) -> Mapping[str, str] | None: ...
    @property
    def created_on(self) -> int: ...
    @property
    def completed_on(self) -> int | None: ...


class TaskRecord(Protocol):
    """A task; whoever claims it must name the counter of its offer."""

    @property
    def id(self) -> str: ...
    @property
    def counter(self) -> int: ...


class CallbackRecord(Protocol):
    """A registered callback; the task that its promise will cause has the same id."""

    @property
    def id(self) -> str: ...


class ScheduleRecord(Protocol):
    """A schedule."""

    @property
    def id(self) -> str: ...
    @property
    def cron(self) -> str: ...
    @property
    def promise_id(self) -> str: ...
    @property
    def promise_timeout(self) -> int: ...
    @property
    def promise_param(self) -> ValueRecord: ...
    @property
    def promise_tags(self) -> Mapping[str, str] | None: ...
    @property
    def last_runtime(self) -> int | None: ...
    @property
    def next_runtime(self) -> int: ...
    @property
    def created_on(self) -> int: ...


class PromiseStore(Protocol):
    """The promises of a store."""

    def get(self, id: str) -> PromiseRecord:
        """The promise `id`."""

    def create(
        self,
        id: str,
        timeout: int,
        *,
        ikey: str | None = None,
        strict: bool = False,
        headers: dict[str, str] | None = None,
        data: str | None = None,
        tags: dict[str, str] | None = None,
    ) -> PromiseRecord:
        """Create a promise, or give the one that was created with the same key.

        The tag `resonate:invoke` gives it a task for that address; `resonate:timeout` =
        `true` has its deadline resolve it.
        """

    def create_with_task(
        self,
        id: str,
        timeout: int,
        pid: str,
        ttl: int,
        *,
        ikey: str | None = None,
        strict: bool = False,
        headers: dict[str, str] | None = None,
        data: str | None = None,
        tags: dict[str, str] | None = None,
    ) -> tuple[PromiseRecord, TaskRecord | None]:
        """`create`, with the task of a new promise claimed by `pid`; no task if it was there."""

    def resolve(
        self,
        id: str,
        *,
        ikey: str | None = None,
        strict: bool = False,
        headers: dict[str, str] | None = None,
        data: str | None = None,
    ) -> PromiseRecord:
        """Settle a promise; its tasks are completed and its callbacks become tasks or messages."""

    def reject(
        self,
        id: str,
        *,
        ikey: str | None = None,
        strict: bool = False,
        headers: dict[str, str] | None = None,
        data: str | None = None,
    ) -> PromiseRecord:
        """As `resolve`."""

    def cancel(
        self,
        id: str,
        *,
        ikey: str | None = None,
        strict: bool = False,
        headers: dict[str, str] | None = None,
        data: str | None = None,
    ) -> PromiseRecord:
        """As `resolve`."""

    def callback(
        self, promise_id: str, root_promise_id: str, recv: str, timeout: int
    ) -> tuple[PromiseRecord, CallbackRecord | None]:
        """Have a `resume` task of the root sent to `recv` once `promise_id` is settled."""

    def subscribe(
        self, id: str, promise_id: str, recv: str, timeout: int
    ) -> tuple[PromiseRecord, CallbackRecord | None]:
        """Have a `notify` message sent to `recv` once `promise_id` is settled."""


class TaskStore(Protocol):
    """The tasks of a store."""

    def claim(self, id: str, counter: int, pid: str, ttl: int) -> tuple[PromiseRecord, PromiseRecord | None]:
        """Take an offered task; the promise to run, and for a `resume` the promise it waited for."""

    def complete(self, id: str, counter: int) -> bool:
        """Give a claimed task up for good; whether that changed anything."""

    def heartbeat(self, pid: str) -> int:
        """Extend every task that `pid` has claimed; how many there are."""


class ScheduleStore(Protocol):
    """The schedules of a store."""

    def create(
        self,
        id: str,
        cron: str,
        promise_id: str,
        promise_timeout: int,
        *,
        ikey: str | None = None,
        description: str | None = None,
        tags: dict[str, str] | None = None,
        promise_headers: dict[str, str] | None = None,
        promise_data: str | None = None,
        promise_tags: dict[str, str] | None = None,
    ) -> ScheduleRecord:
        """Create a schedule, or give the one that was created with the same key."""

    def get(self, id: str) -> ScheduleRecord:
        """The schedule `id`."""

    def delete(self, id: str) -> None:
        """Delete the schedule `id`; what it has created stays."""


@runtime_checkable
class Store(Protocol):
    """A promise store. That the four attributes exist is checked when it is handed in."""

    @property
    def encoder(self) -> Encoder[str | None, str | None]:
        """How `data` is written in the messages that this store sends."""

    @property
    def promises(self) -> PromiseStore: ...
    @property
    def tasks(self) -> TaskStore: ...
    @property
    def schedules(self) -> ScheduleStore: ...


__all__ = [
    "CallbackRecord",
    "PromiseRecord",
    "PromiseStore",
    "ScheduleRecord",
    "ScheduleStore",
    "Store",
    "TaskRecord",
    "TaskStore",
    "ValueRecord",
]
