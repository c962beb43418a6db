"""What is shown of executions: plain records, which become JSON as they are."""

from __future__ import annotations

from typing import Any, Final, Generic, Literal, TypeVar

from msgspec import Struct

State = Literal[
    "queued", "running", "waiting", "retrying", "halted", "succeeded", "failed", "cancelled", "timed out", "pending"
]
"""What a person calls the state of a call.

queued: no worker has taken it up. running: a worker has it. waiting: for something outside.
retrying: for its next attempt. halted: its code no longer does what is recorded. pending: not
settled, and it is nobody's to run, as a promise is that somebody settles by hand.
"""

STATES: Final[tuple[str, ...]] = (
    "queued",
    "running",
    "waiting",
    "retrying",
    "halted",
    "succeeded",
    "failed",
    "cancelled",
    "timed out",
    "pending",
)

T = TypeVar("T")


class Failure(Struct, frozen=True, omit_defaults=True):
    """An exception that a call ended with.

    Attributes:
        type: name of its class.
        message: its text.
        traceback: its frames, as Python prints them; empty if unknown.
    """

    type: str
    message: str
    traceback: str = ""

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


class Call(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One durable call, and in a tree the calls below it.

    Attributes:
        id: of its promise.
        kind: plain, transaction, generator, async, rpc, detached, sleep, promise, choice, retry or root.
        name: of the function; empty where there is none.
        version: of the function.
        state: what became of it, or what it is doing.
        created_at, settled_at, deadline: milliseconds since the epoch.
        group: whose workers are to run it; None if it runs in its caller.
        worker: pid of the process that has it now.
        lease_ms: how long that process may be silent before others take over.
        place: file and line of the call in its caller's code.
        input, output: arguments and result, as plain JSON; None if there is none or it cannot be read.
        error: what it ended with.
        reason: why it is halted.
        tags: all of its promise.
        calls: below it, in the order of the code.
    """

    id: str
    kind: str
    state: State
    created_at: int
    deadline: int
    name: str = ""
    version: int = 1
    settled_at: int | None = None
    group: str | None = None
    worker: str | None = None
    lease_ms: int | None = None
    place: str = ""
    input: Any = None
    output: Any = None
    error: Failure | None = None
    reason: str | None = None
    tags: dict[str, str] = {}
    calls: tuple[Call, ...] = ()

    @property
    def title(self) -> str:
        """What a person calls it: function and version, or the kind."""
        if not self.name:
            return self.kind
        if self.kind == "sleep":
            return f"sleep {self.name}"
        return self.name if self.version == 1 else f"{self.name} v{self.version}"

    @property
    def settled(self) -> bool:
        """Whether it has come to its end."""
        return self.settled_at is not None


Execution = Call
"""The call at the top of a tree."""


class Wait(Struct, frozen=True, omit_defaults=True):
    """One thing that an execution waits for.

    Attributes:
        id: of what is waited for.
        text: one sentence that says what it waits for.
        command: what would unblock it, as typed in a shell; empty if only time does.
    """

    id: str
    text: str
    command: str = ""


class Group(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A group of workers, as far as open calls tell of it.

    Attributes:
        name: of the group.
        queued, running, waiting, halted: how many calls are in each state.
        oldest: when the call that is queued for longest was begun, milliseconds since the epoch.
        workers: pid of each process that has calls now, and how many.
    """

    name: str
    queued: int = 0
    running: int = 0
    waiting: int = 0
    halted: int = 0
    oldest: int | None = None
    workers: dict[str, int] = {}


class FailureGroup(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Executions that failed alike.

    Attributes:
        function: that failed.
        error: of the newest one.
        place: the line that raised, as its traceback has it; empty if unknown.
        count: how many.
        newest: when the newest one ended, milliseconds since the epoch.
        ids: of the newest ones.
    """

    function: str
    error: Failure
    place: str
    count: int
    newest: int
    ids: tuple[str, ...]


class Page(Struct, Generic[T], frozen=True, omit_defaults=True):
    """Some of many.

    Attributes:
        items: in their order.
        cursor: for the next page; None if this is the last.
    """

    items: tuple[T, ...]
    cursor: str | None = None
