"""What a storage keeps and what a step reads and writes.

A row is a record with what is held beside it and never shown. A step reads rows through a
`View` and returns effects; a storage applies the effects of a step together or not at all.
Every read goes through the projection (protocol 3.0), which lives here and only here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from msgspec import Struct
from msgspec.structs import replace

from resonate.protocol.records import (
    ACQUIRED,
    EXTERNAL,
    FULFILLED,
    PENDING,
    RESOLVED,
    SCOPE,
    TARGET,
    TIMEDOUT,
    TIMER,
    Execute,
    Promise,
    Schedule,
    Task,
    TaskState,
    Unblock,
)

if TYPE_CHECKING:
    from resonate.protocol.listing import Listing

MAX_INSTANT: Final = 2**63 - 1
"""Sums of instants and durations saturate here."""


class PromiseRow(Struct, frozen=True, gc=False):
    """A promise, the awaiters to resume and the addresses to tell when it is settled."""

    promise: Promise
    callbacks: tuple[str, ...] = ()
    listeners: tuple[str, ...] = ()


class TaskRow(Struct, frozen=True, gc=False):
    """A task and its timers: `expires_at` exactly while acquired, `retry_at` exactly while pending.

    `last_pid` is who suspended or released it last: it may have kept the frames warm. `since`
    is when it came into its state; while acquired, when it was last waiting to be run: the instant from which it was
    queued, and from the first heartbeat on the last one. So a task that a worker takes up and gives back unrun, as it
    lacks the function, has waited all the while.
    """

    id: str
    state: TaskState
    version: int
    target: str
    pid: str | None = None
    ttl: int | None = None
    expires_at: int | None = None
    retry_at: int | None = None
    resumes: tuple[str, ...] = ()
    last_pid: str | None = None
    since: int | None = None


class DropSchedule(Struct, frozen=True, gc=False):
    """Effect: delete a schedule."""

    id: str


class Send(Struct, frozen=True, gc=False):
    """Effect: put a message into the outbox; a message of the same key is replaced.

    The key is structural: ("execute", task id) or ("unblock", promise id, address).
    """

    key: tuple[str, ...]
    address: str
    message: Execute | Unblock
    prefer: str | None = None


class Unsend(Struct, frozen=True, gc=False):
    """Effect: take an undelivered message back."""

    key: tuple[str, ...]


class Resume(Struct, frozen=True, gc=False):
    """Effect: an obligation to resume `awaiter`, whose row is not at hand in this transaction."""

    awaiter: str
    awaited: str


class Resumed(Struct, frozen=True, gc=False):
    """Effect: the obligation to resume `awaiter` is met."""

    awaiter: str
    awaited: str


class Reset(Struct, frozen=True, gc=False):
    """Effect: delete everything."""


Effect = PromiseRow | TaskRow | Schedule | DropSchedule | Send | Unsend | Resume | Resumed | Reset


class View(Protocol):
    """The rows a step may read, as they are before it."""

    def promise(self, id: str) -> PromiseRow | None: ...

    def task(self, id: str) -> TaskRow | None: ...

    def schedule(self, id: str) -> Schedule | None: ...

    def branch(self, branch: str) -> Iterable[Promise]:
        """The promises with this branch tag, ids ascending."""

    def reachable(self, id: str) -> bool:
        """Whether the rows of `id` may be written in this transaction."""

    def promises(self, after: str | None) -> Iterable[PromiseRow]:
        """All promises with an id above `after`, ids ascending."""

    def below(self, above: str, end: str) -> Iterable[PromiseRow]:
        """The promises between these ids, of one origin, both excluded; ids ascending."""

    def strays(self, first: str, last: str) -> Iterable[PromiseRow]:
        """The strays (`trees.stray_of`) of the promises from `first` to `last`."""

    def listing(self) -> Listing:
        """What finds executions; it need not see what this transaction has written."""

    def tasks(self, after: str | None) -> Iterable[TaskRow]: ...

    def schedules(self, after: str | None) -> Iterable[Schedule]: ...

    def messages(self) -> Sequence[Send]: ...


def project(promise: Promise, now: int) -> Promise:
    """The promise as anybody may see it: past its deadline it has timed out."""
    if promise.state != PENDING or promise.timeout_at > now:
        return promise
    return timed_out(promise)


def timed_out(promise: Promise) -> Promise:
    """The promise as its deadline settles it (protocol 4.1)."""
    state = RESOLVED if promise.tags.get(TIMER) == "true" else TIMEDOUT
    return replace(promise, state=state, settled_at=promise.timeout_at)


def is_live(promise: Promise, now: int) -> bool:
    """Whether the promise is pending, after projection."""
    return promise.state == PENDING and promise.timeout_at > now


def is_external(promise: Promise, strict: bool = False) -> bool:
    """Whether the promise may be awaited from outside (protocol 0.2, D2)."""
    tags = promise.tags
    return (
        TARGET in tags
        or tags.get(TIMER) == "true"
        or tags.get(EXTERNAL) == "true"
        or (not strict and tags.get(SCOPE) == "global")
    )


def show(row: TaskRow, live: bool) -> Task:
    """The task as anybody may see it; with its promise settled it reads fulfilled."""
    if not live:
        return Task(row.id, FULFILLED, row.version, 0)
    if row.state == ACQUIRED:
        return Task(row.id, row.state, row.version, len(row.resumes), row.ttl, row.pid)
    return Task(row.id, row.state, row.version, len(row.resumes))


def later(instant: int, duration: int) -> int:
    """`instant + duration`, saturating."""
    return min(instant + duration, MAX_INSTANT)
