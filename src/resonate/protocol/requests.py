"""One record per request kind, and the one shape of an answer.

Field names are those of protocol 2026-04-01, section 3. A request travels unchanged from
the caller to the machine; `wire` gives it its JSON form. `preload` on task requests is
ours: False asks the machine to leave the preload out of the answer (on the wire it is
a key of the head that other servers ignore). `prefix` on searches is ours too, and never on
the wire: only ids that begin with it are found, for callers who may see no others. `newest`
on a search for promises, ours and on the wire, asks for executions alone, the newest first;
its cursors begin with `newest:`, which tells that the server knows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

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
    newest: bool = False


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
    snapshot: dict[str, object] | None = None
    error: str | None = None
