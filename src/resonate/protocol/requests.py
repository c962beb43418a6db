"""One record per request kind, and the one shape of an answer.

Field names are those of protocol 2026-04-01, section 3. A request travels unchanged from
the caller to the machine; `wire` gives it its JSON form. `preload` on task requests is
ours: False asks the machine to leave the preload out of the answer (on the wire it is
a key of the head that other servers ignore). `prefix` on searches is ours too, and never on
the wire: only ids that begin with it are found, for callers who may see no others. The kinds
`execution.*` and `group.*` are ours (`listing`): other servers do not know them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from resonate.protocol.listing import Fault, Holder, Load, Wanted
from resonate.protocol.records import EMPTY, Promise, PromiseState, Schedule, Task, TaskState, Value

SettledState = Literal["resolved", "rejected", "rejected_canceled"]


class PromiseGet(Struct, frozen=True, gc=False):
    id: str


class PromiseCreate(Struct, frozen=True, gc=False):
    id: str
    timeout_at: int
    param: Value = EMPTY
    tags: dict[str, str] = {}


class PromiseSettle(Struct, frozen=True, gc=False):
    id: str
    state: SettledState
    value: Value = EMPTY


class PromiseWrite(Struct, frozen=True, gc=False):
    """Create a promise and settle it in one transition; only inside of a fence.

    Ours, never on the wire: it is what the two fenced requests do one after the other.
    """

    create: PromiseCreate
    settle: PromiseSettle

    @property
    def id(self) -> str:
        return self.create.id


class PromiseRegisterCallback(Struct, frozen=True, gc=False):
    awaited: str
    awaiter: str


class PromiseRegisterListener(Struct, frozen=True, gc=False):
    awaited: str
    address: str


class PromiseSearch(Struct, frozen=True, gc=False):
    state: PromiseState | None = None
    tags: dict[str, str] | None = None
    limit: int = 100
    cursor: str | None = None
    prefix: str | None = None


class TaskGet(Struct, frozen=True, gc=False):
    id: str


class TaskCreate(Struct, frozen=True, gc=False):
    pid: str
    ttl: int
    action: PromiseCreate
    preload: bool = True


class TaskAcquire(Struct, frozen=True, gc=False):
    id: str
    version: int
    pid: str
    ttl: int
    preload: bool = True


class TaskRelease(Struct, frozen=True, gc=False):
    id: str
    version: int


class TaskFulfill(Struct, frozen=True, gc=False):
    id: str
    version: int
    action: PromiseSettle


class TaskSuspend(Struct, frozen=True, gc=False):
    id: str
    version: int
    actions: tuple[PromiseRegisterCallback, ...]
    preload: bool = True


class TaskFence(Struct, frozen=True, gc=False):
    id: str
    version: int
    action: PromiseCreate | PromiseSettle | PromiseWrite
    preload: bool = True


class TaskRef(Struct, frozen=True, gc=False):
    id: str
    version: int


class TaskHeartbeat(Struct, frozen=True, gc=False):
    pid: str
    tasks: tuple[TaskRef, ...]


class TaskHalt(Struct, frozen=True, gc=False):
    id: str


class TaskContinue(Struct, frozen=True, gc=False):
    id: str


class TaskSearch(Struct, frozen=True, gc=False):
    state: TaskState | None = None
    limit: int = 100
    cursor: str | None = None
    prefix: str | None = None


class ScheduleGet(Struct, frozen=True, gc=False):
    id: str


class ScheduleCreate(Struct, frozen=True, gc=False):
    id: str
    cron: str
    promise_id: str
    promise_timeout: int
    promise_param: Value = EMPTY
    promise_tags: dict[str, str] = {}


class ScheduleDelete(Struct, frozen=True, gc=False):
    id: str


class ScheduleSearch(Struct, frozen=True, gc=False):
    tags: dict[str, str] | None = None
    limit: int = 10
    cursor: str | None = None
    prefix: str | None = None


class ExecutionSearch(Struct, frozen=True, gc=False):
    """Executions, the newest first. A page may be short, or empty, and have a cursor all the same."""

    wanted: Wanted = Wanted()
    limit: int = 100
    cursor: str | None = None

    @property
    def prefix(self) -> str | None:
        return self.wanted.prefix


class ExecutionCount(Struct, frozen=True, gc=False):
    """How many executions there are, `by` function, group or neither, and by phase; each up to `most + 1`."""

    wanted: Wanted = Wanted()
    by: Literal["", "function", "group"] = ""
    most: int = 10_000

    @property
    def prefix(self) -> str | None:
        return self.wanted.prefix


class ExecutionTree(Struct, frozen=True, gc=False):
    """The promises below `id` whose ids say so, and `id`; and those of them that only name one of these as parent.

    What is below the latter has to be asked for by their ids.
    """

    id: str
    limit: int = 1000
    cursor: str | None = None
    prefix: str | None = None


class ExecutionFailures(Struct, frozen=True, gc=False):
    """What failed alike: up to `limit` kinds, of each up to `most + 1` counted and `shown` named."""

    limit: int = 200
    most: int = 1000
    shown: int = 20
    prefix: str | None = None


class GroupSearch(Struct, frozen=True, gc=False):
    """Who holds tasks, and what nobody has taken, by group; each number up to `most + 1`."""

    most: int = 10_000
    prefix: str | None = None


class DebugStart(Struct, frozen=True, gc=False):
    pass


class DebugStop(Struct, frozen=True, gc=False):
    pass


class DebugReset(Struct, frozen=True, gc=False):
    pass


class DebugTick(Struct, frozen=True, gc=False):
    time: int


class DebugSnap(Struct, frozen=True, gc=False):
    pass


OURS = (ExecutionSearch, ExecutionCount, ExecutionTree, ExecutionFailures, GroupSearch)
"""Kinds that servers of other makes do not know."""

Request = (
    PromiseGet
    | PromiseCreate
    | PromiseSettle
    | PromiseRegisterCallback
    | PromiseRegisterListener
    | PromiseSearch
    | TaskGet
    | TaskCreate
    | TaskAcquire
    | TaskRelease
    | TaskFulfill
    | TaskSuspend
    | TaskFence
    | TaskHeartbeat
    | TaskHalt
    | TaskContinue
    | TaskSearch
    | ScheduleGet
    | ScheduleCreate
    | ScheduleDelete
    | ScheduleSearch
    | ExecutionSearch
    | ExecutionCount
    | ExecutionTree
    | ExecutionFailures
    | GroupSearch
    | DebugStart
    | DebugStop
    | DebugReset
    | DebugTick
    | DebugSnap
)


class Response(Struct, frozen=True, gc=False):
    """The answer to one request; which fields are set follows from its kind and status.

    `action` is the inner answer of a fence. `resumed` (ours, task.acquire only) names the
    awaited promises whose settlement woke the task. `partial` (ours) says that `preload` may
    lack some of what is recorded. `error` is a text for people, set exactly when `status` is
    400 or above.
    """

    status: int
    promise: Promise | None = None
    task: Task | None = None
    schedule: Schedule | None = None
    preload: Sequence[Promise] = ()
    action: Response | None = None
    resumed: Sequence[str] = ()
    partial: bool = False
    promises: Sequence[Promise] | None = None
    tasks: Sequence[Task] | None = None
    schedules: Sequence[Schedule] | None = None
    cursor: str | None = None
    counts: dict[str, dict[str, int]] | None = None
    failures: Sequence[Fault] | None = None
    groups: Sequence[Load] | None = None
    holders: Sequence[Holder] | None = None
    snapshot: dict[str, object] | None = None
    error: str | None = None
