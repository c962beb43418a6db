"""What the protocol keeps: promise, task, schedule, message.

The records are exactly what a server shows, field for field (protocol 2026-04-01,
section 1); `wire` turns them into JSON and back. All times are milliseconds since the
Unix epoch. An optional field without a value is None here and absent on the wire.
Records are frozen: a change is `msgspec.structs.replace`.
"""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

PromiseState = Literal["pending", "resolved", "rejected", "rejected_canceled", "rejected_timedout"]
TaskState = Literal["pending", "acquired", "suspended", "halted", "fulfilled"]

PENDING: Final = "pending"
RESOLVED: Final = "resolved"
REJECTED: Final = "rejected"
CANCELED: Final = "rejected_canceled"
TIMEDOUT: Final = "rejected_timedout"

ACQUIRED: Final = "acquired"
SUSPENDED: Final = "suspended"
HALTED: Final = "halted"
FULFILLED: Final = "fulfilled"

TARGET: Final = "resonate:target"
TIMER: Final = "resonate:timer"
EXTERNAL: Final = "resonate:external"
SCOPE: Final = "resonate:scope"
DELAY: Final = "resonate:delay"
ORIGIN: Final = "resonate:origin"
BRANCH: Final = "resonate:branch"
PARENT: Final = "resonate:parent"
SCHEDULE: Final = "resonate:schedule"

RAN: Final = "resonate:py:ran"
"""A header of values, ours: who gave them and since when. It is no part of what they are."""


class Value(Struct, frozen=True, gc=False, omit_defaults=True):
    """A payload: `data` is opaque text to the protocol; absent and empty are different."""

    headers: dict[str, str] | None = None
    data: str | None = None


EMPTY: Final = Value()


class Promise(Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """A durable promise; `settled_at` is there exactly when `state` is not pending."""

    id: str
    state: PromiseState
    param: Value
    value: Value
    tags: dict[str, str]
    timeout_at: int
    created_at: int
    settled_at: int | None = None


class Task(Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """The right to run the function of a targeted promise; `ttl` and `pid` only while acquired."""

    id: str
    state: TaskState
    version: int
    resumes: int
    ttl: int | None = None
    pid: str | None = None


class Schedule(Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """A cron expression and the promise that each of its occurrences creates."""

    id: str
    cron: str
    promise_id: str
    promise_timeout: int
    promise_param: Value
    promise_tags: dict[str, str]
    created_at: int
    next_run_at: int
    last_run_at: int | None = None


class Execute(Struct, frozen=True, gc=False):
    """Offer of a task: whoever gets it may acquire `id` at `version`."""

    id: str
    version: int


class Unblock(Struct, frozen=True, gc=False):
    """News for a listener: the promise is settled."""

    promise: Promise


Message = Execute | Unblock
