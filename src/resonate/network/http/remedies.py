"""What became of a request whose answer was lost, where repeating it is not enough to know.

Most kinds may be repeated blindly: they answer the same. The others answer a repetition with
409 (protocol 9.1), and the record tells whether that was our own first attempt. Of two
callers in this process that ask for one task only one may believe that it got it, so each
acquisition that was handed out is remembered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Final

from resonate.protocol.records import ACQUIRED, EMPTY, HALTED, PENDING, SUSPENDED, Promise
from resonate.protocol.requests import (
    PromiseCreate,
    PromiseGet,
    PromiseSettle,
    Request,
    Response,
    ScheduleDelete,
    TaskAcquire,
    TaskContinue,
    TaskCreate,
    TaskFence,
    TaskFulfill,
    TaskGet,
    TaskRelease,
    TaskSuspend,
)

CLAIMS: Final = 100_000
"""Acquisitions remembered; each matters while its execution runs, and a process runs far fewer at a time."""

Ask = Callable[[Request], Response]
"""Sends one request that may be repeated blindly."""


class Remedies:
    """Tells what a repeated request's refusal means.

    Args:
        ask: to read the record.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._lock = Lock()
        self._claims: OrderedDict[str, int] = OrderedDict()
        self._inferred: OrderedDict[tuple[str, int], None] = OrderedDict()

    def taken(self, answer: Response) -> Response:
        """The answer to an acquisition, if nobody here was given that very task meanwhile."""
        task = answer.task
        if task is None or task.state != ACQUIRED or self._claim(task.id, task.version, inferred=False):
            return answer
        return Response(409, error=f"task {task.id!r} version {task.version} is held by another thread of this client")

    def after(self, request: Request, answer: Response) -> Response:
        """What `answer` means, to a request an earlier attempt of which may have been applied."""
        if answer.status not in (404, 409):
            return answer
        match request:
            case TaskCreate(pid=pid, action=action):
                return self._mine(action.id, pid, None) or answer
            case TaskAcquire(id=id, version=version, pid=pid):
                return self._mine(id, pid, version + 1) or answer
            case TaskFulfill() | TaskSuspend() | TaskRelease() | TaskContinue():
                return self.applied(request) or answer
            case ScheduleDelete():
                return Response(200)
            case _:
                return answer

    def applied(self, request: Request) -> Response | None:
        """The answer that an attempt at giving a task up got and we did not hear; None if it was not applied."""
        if isinstance(request, TaskFulfill):
            promise = self._ask(PromiseGet(request.id)).promise
            wanted = request.action
            same = promise is not None and (promise.state, promise.value) == (wanted.state, wanted.value)
            return Response(200, promise) if same else None
        if not isinstance(request, TaskSuspend | TaskRelease | TaskContinue):
            return None
        task = self._ask(TaskGet(request.id)).task
        if task is None:
            return None
        if isinstance(request, TaskContinue):
            return None if task.state == HALTED else Response(200)
        wanted_state = SUSPENDED if isinstance(request, TaskSuspend) else PENDING
        return Response(200) if (task.state, task.version) == (wanted_state, request.version) else None

    def _mine(self, id: str, pid: str, version: int | None) -> Response | None:
        task = self._ask(TaskGet(id)).task
        if task is None or task.state != ACQUIRED or task.pid != pid or version not in (None, task.version):
            return None
        promise = self._ask(PromiseGet(id)).promise
        if promise is None or promise.state != PENDING or not self._claim(id, task.version, inferred=True):
            return None
        return Response(200, promise, task, partial=True)  # also of version 1: by a process of our pid that has died

    def _claim(self, id: str, version: int, *, inferred: bool) -> bool:
        with self._lock:
            if inferred and self._claims.get(id) == version:
                return False
            if not inferred and (id, version) in self._inferred:
                return False
            self._claims[id] = version
            self._claims.move_to_end(id)
            if inferred:
                self._inferred[id, version] = None
            if len(self._claims) > CLAIMS:
                self._claims.popitem(last=False)
            if len(self._inferred) > CLAIMS:
                self._inferred.popitem(last=False)
            return True


def as_answered(request: Request, before: Sequence[Request]) -> Response:
    """The answer to a fenced request that is known to have been applied.

    Args:
        before: the requests of the same batch, where its promise may be created.
    """
    if not isinstance(request, TaskFence):
        return Response(200)
    action = request.action
    if isinstance(action, PromiseCreate):
        return Response(200, action=Response(200, _created(action)))
    assert isinstance(action, PromiseSettle), "a write travels as its two halves"
    for other in before:
        if isinstance(other, TaskFence) and isinstance(other.action, PromiseCreate) and other.action.id == action.id:
            return Response(200, action=Response(200, _created(other.action, action)))
    empty = PromiseCreate(action.id, 0)
    return Response(200, action=Response(200, _created(empty, action)))


def _created(create: PromiseCreate, settle: PromiseSettle | None = None) -> Promise:
    if settle is None:
        return Promise(create.id, PENDING, create.param, EMPTY, create.tags, create.timeout_at, 0)
    return Promise(create.id, settle.state, create.param, settle.value, create.tags, create.timeout_at, 0, 0)
