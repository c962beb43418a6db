"""What is shown of executions: plain records, which become JSON as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Generic, Literal, TypeVar

from msgspec import Struct

from resonate.inspection import drawing
from resonate.protocol.records import DELAY

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


class Attempt(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One run of the code of a call.

    Attributes:
        number: 1 for the first; some may be left out where there were many.
        started_at: when its code began, milliseconds since the epoch; None if that is not recorded.
        ended_at: when it ended; None while it runs, and of one that has yet to begin.
        worker: pid of the process that ran it.
        error: what it failed with. Where another attempt followed, the text is cut and has no traceback; of a call
            with an encoder of its own only the class is kept.
        again_at: when the next attempt is to begin, or was; None if none was to.
    """

    number: int
    started_at: int | None = None
    ended_at: int | None = None
    worker: str | None = None
    error: Failure | None = None
    again_at: int | None = None


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
        worker: pid of the process that has it now, or ran it last.
        lease_ms: how long that process may be silent before others take over.
        task_version: of its task, while a process has it: what `tasks release` needs.
        place: file and line of the call in its caller's code.
        input, output: arguments and result, as plain JSON; None if there is none or it cannot be read.
        error: what it ended with.
        reason: why it is halted.
        started_at: when its code first began, milliseconds since the epoch: before that it was queued. It may be
            before `created_at`, since a short step is recorded when it has ended. None if it is not known: it has not
            begun, it is still running and nobody has written anything of it yet, or a worker of another make runs it.
        attempts: of its code, as far as recorded: each one that failed once it is noted (at once where the pause
            after it is 2 s or more), the last one once it has ended.
        again_at: when its next attempt begins, while it waits for one.
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
    task_version: int | None = None
    place: str = ""
    input: Any = None
    output: Any = None
    error: Failure | None = None
    reason: str | None = None
    started_at: int | None = None
    attempts: tuple[Attempt, ...] = ()
    again_at: int | None = None
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

    def __str__(self) -> str:
        """A drawing of it and what is below it, a line for each call."""
        return drawing.tree(self)

    def __repr__(self) -> str:
        return f"Call(id={self.id!r}, title={self.title!r}, state={self.state!r})"

    @property
    def settled(self) -> bool:
        """Whether it has come to its end."""
        return self.settled_at is not None

    @property
    def begins_at(self) -> int:
        """When it is first offered to workers, milliseconds since the epoch: at once, or after its delay."""
        delay = self.tags.get(DELAY, "")
        return max(self.created_at, int(delay)) if delay.isdecimal() else self.created_at


Execution = Call
"""The call at the top of a tree."""


class Wait(Struct, frozen=True, omit_defaults=True):
    """One thing that an execution waits for.

    Attributes:
        id: of what is waited for.
        text: one sentence that says what it waits for; why something is halted may take more lines.
        command: what would unblock it, as typed in a shell; empty if only time does.
        kind: for programs: worker, delay, lease, step, promise, sleep, retry, halted or unknown.
        path: ids from the execution down to `id`, both included; it may lead into other executions.
    """

    id: str
    text: str
    command: str = ""
    kind: str = ""
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join(drawing.wait(self))

    def __repr__(self) -> str:
        return f"Wait(id={self.id!r}, text={self.text!r}, command={self.command!r})"


class Waits(list[Wait]):
    """A list of waits that is printed as `resonate why` prints it."""

    def __str__(self) -> str:
        return "\n".join(map(str, self)) or "nothing: it has ended"


class Counts(Struct, frozen=True, omit_defaults=True):
    """How many executions there are in each state.

    Attributes:
        states: by state; those of which there are none are missing.
        more: the states of which there are more than that: they have not been counted to the end.
    """

    states: dict[str, int]
    more: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """All of them together, as far as counted."""
        return sum(self.states.values())

    def text(self, state: str) -> str:
        """A number as a person reads it: `10,000+` where there are more."""
        return f"{self.states.get(state, 0):,}{'+' if state in self.more else ''}"


class Worker(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A process that runs calls of a group.

    Attributes:
        pid: what it is called.
        leases: how many calls it has now.
        calls: some of those.
        ttl_ms: how long it may be silent before others take over.
        seen_at: when it was heard of last, milliseconds since the epoch; None on servers of other makes.
    """

    pid: str
    leases: int
    calls: tuple[Call, ...] = ()
    ttl_ms: int | None = None
    seen_at: int | None = None


class Group(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A group of workers, as far as open calls tell of it.

    Attributes:
        name: of the group.
        queued, running, waiting, halted: how many calls are in each state.
        oldest: since when the call that is queued for longest waits, milliseconds since the epoch.
        workers: the processes that have calls now.
        more: of which of those states there are more than that.
    """

    name: str
    queued: int = 0
    running: int = 0
    waiting: int = 0
    halted: int = 0
    oldest: int | None = None
    workers: tuple[Worker, ...] = ()
    more: tuple[str, ...] = ()


class FailureGroup(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Executions that failed alike.

    Attributes:
        function: that failed.
        error: of the newest one.
        place: the line that raised, as its traceback has it; empty if unknown.
        count: how many; `more` says that there are more than that.
        newest: when the newest one ended, milliseconds since the epoch.
        oldest: when the first of several ended; None where not all of them are named.
        ids: of the newest ones, the newest first.
    """

    function: str
    error: Failure
    place: str
    count: int
    newest: int
    oldest: int | None = None
    ids: tuple[str, ...]
    more: bool = False


class Page(Struct, Generic[T], frozen=True, omit_defaults=True):
    """Some of many; iterates over them.

    Attributes:
        items: in their order.
        cursor: for the next page; None if this is the last.
    """

    items: tuple[T, ...]
    cursor: str | None = None

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __str__(self) -> str:
        more = [] if self.cursor is None else [f"more: cursor={self.cursor!r}"]
        return "\n".join([*map(str, self.items), *more]) or "nothing"
