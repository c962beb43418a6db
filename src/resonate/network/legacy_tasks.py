"""Tasks of today's protocol over a store whose tasks can only be claimed, completed and kept alive.

What such a store lacks is made up for here:

- *Versions and fences.* Each acquisition of a root counts up a version of this process; a
  fence is refused once the lease is known to be lost or has not been renewed for its ttl.
- *Preload.* Old stores cannot search. So before the children of a batch are created, their
  ids are written into a journal, itself promises (`ROOT:journal1`, ...); who takes the task
  over reads them. It is what keeps a finished step from running again after a crash.
- *Release and continue.* To have a task offered again, a short timer is created whose
  callback wakes the root, and the task is completed.
- *One owner.* Each settled callback is a task of its own. One that arrives while the root
  is held here is claimed and completed: the next suspension sees what it stood for.
- *Heartbeats.* One extends everything the process has claimed, also what it has let go
  while the store did not answer. Such claims are remembered and given back first.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Sequence
from typing import Final

from resonate.errors import ResonateStoreError
from resonate.network.legacy_store import Claim, OldStore
from resonate.network.marks import from_wire, to_wire
from resonate.protocol.records import (
    ACQUIRED,
    BRANCH,
    FULFILLED,
    HALTED,
    ORIGIN,
    PARENT,
    PENDING,
    SCOPE,
    SUSPENDED,
    TARGET,
    TIMER,
    Promise,
    Task,
    Value,
)
from resonate.protocol.requests import (
    PromiseCreate,
    PromiseSettle,
    PromiseWrite,
    Request,
    Response,
    TaskAcquire,
    TaskContinue,
    TaskCreate,
    TaskFence,
    TaskFulfill,
    TaskGet,
    TaskHalt,
    TaskHeartbeat,
    TaskRelease,
    TaskSuspend,
)

AGAIN: Final = 200
"""Milliseconds until a released task is offered again."""

TIMERS: Final = 5
"""Timers tried for one release: each may be over before its callback is registered."""

_OK: Final = Response(200)
_LOG: Final = logging.getLogger("resonate.network")


class _Root:
    """What this process knows of a root, and the claim while it holds it."""

    __slots__ = ("branch", "callbacks", "claim", "halted", "lock", "pages", "timeout_at", "ttl", "until", "version")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.version = 0
        self.claim: Claim | None = None
        self.until = 0.0
        self.ttl = 0
        self.branch = ""
        self.timeout_at = 0
        self.pages = 0
        self.halted = False
        self.callbacks: set[str] = set()


class OldTasks:
    """The roots of one process.

    Args:
        old: the store.
        pid: the process, as the holder of claims.
        recv: the address that resumed tasks are offered to.
    """

    def __init__(self, old: OldStore, pid: str, recv: str) -> None:
        self._old = old
        self._pid = pid
        self._recv = recv
        self._lock = threading.Lock()
        self._roots: dict[str, _Root] = {}
        self._offers: dict[str, deque[Claim]] = {}
        self._homes: dict[str, str] = {}
        self._let_go: list[tuple[str, Claim | None]] = []

    # ---- acquiring -------------------------------------------------------------------------------

    def offered(self, offer: Claim) -> tuple[str, int]:
        """Keep an offer until somebody acquires it; the id and version to acquire it under.

        That is the root's id where the task's tells it, else the task's own: then only the
        answer to the acquisition tells whose task it is.
        """
        id = offer[0]
        home = self._homes.get(id) or id.removeprefix("__invoke:")
        with self._lock:
            self._offers.setdefault(home, deque()).append(offer)
        root = self._roots.get(home)
        return home, root.version if root is not None else 0

    def create(self, request: TaskCreate) -> Response:
        """task.create"""
        id = request.action.id
        until = time.monotonic() + request.ttl / 1000
        try:
            promise, claim = self._old.create_with_task(request)
        except ResonateStoreError:
            self._let_go.append((id, None))
            raise
        if TARGET not in promise.tags:
            return Response(422, error=f"promise {id!r} exists without target, hence without a task")
        if promise.state != PENDING:
            self._forget(id)
            return Response(200, promise, Task(id, FULFILLED, 0, 0))
        if claim is None:
            return Response(409, error=f"promise {id!r} exists; its task belongs to somebody else or waits")
        root = self._root(id)
        with root.lock:
            held = self._hold(root, promise, claim, until, request.ttl)
        return Response(200, promise, held)

    def acquire(self, request: TaskAcquire) -> Response:
        """task.acquire"""
        with self._lock:
            offers = self._offers.pop(request.id, ())
        answer: Response | None = None
        for offer in offers:
            answer = self._claimed(offer, request) or answer
        if answer is not None:
            return answer
        return Response(409, error=f"task {request.id!r} is not on offer here any more")

    def _claimed(self, offer: Claim, request: TaskAcquire) -> Response | None:
        """Claim one offer; None if it is gone, over, or of a root that is held here already."""
        until = time.monotonic() + request.ttl / 1000
        try:
            claimed = self._old.claim(offer, request.pid, request.ttl)
        except ResonateStoreError:
            self._let_go.append((request.id, offer))
            raise
        if claimed is None:
            return None
        promise, leaf = claimed
        if promise.state != PENDING:
            self._old.complete(offer)
            self._forget(promise.id)
            return None
        root = self._root(promise.id)
        with root.lock:
            if root.claim is not None and root.claim[0] != offer[0] and not self._lost(promise.id, root):
                self._old.complete(offer)
                return None
            held = self._hold(root, promise, offer, until, request.ttl)
        preload = self._recorded(promise.id, root) if request.preload else ()
        return Response(200, promise, held, preload=preload, resumed=() if leaf is None else (leaf,))

    def unseen(self, requests: Sequence[Request], answers: Sequence[Response]) -> None:
        """The caller will not see these answers: it cannot know of the tasks acquired in them."""
        for request, answer in zip(requests, answers, strict=False):
            if isinstance(request, TaskAcquire | TaskCreate) and answer.task is not None:
                self._drop(answer.task.id, self._root(answer.task.id))

    def _hold(self, root: _Root, promise: Promise, claim: Claim, until: float, ttl: int) -> Task:
        root.version += 1
        root.claim, root.until, root.ttl = claim, until, ttl
        root.branch = promise.tags.get(BRANCH, promise.id)
        root.timeout_at = promise.timeout_at
        root.halted = False
        return Task(promise.id, ACQUIRED, root.version, 0, ttl, self._pid)

    # ---- while held ------------------------------------------------------------------------------

    def refused(self, id: str, version: int) -> Response | None:
        """The refusal, if the lease that a request counts on is not held any more."""
        root = self._roots.get(id)
        if root is not None and root.claim is not None and root.version == version and not self._lost(id, root):
            return None
        return Response(409, error=f"task {id!r} is not held here as version {version} any more")

    def get(self, request: TaskGet) -> Response:
        """task.get, as far as this process knows"""
        id = request.id
        root = self._roots.get(id)
        if root is None or not root.version:
            return Response(404, error=f"task {id!r} is not known here, and this kind of store cannot be asked")
        if root.claim is not None:
            return Response(200, task=Task(id, ACQUIRED, root.version, 0, root.ttl, self._pid))
        return Response(200, task=Task(id, HALTED if root.halted else SUSPENDED, root.version, 0))

    def heartbeat(self, request: TaskHeartbeat) -> Response:
        """task.heartbeat"""
        for id, root in list(self._roots.items()):
            if root.claim is not None:
                self._lost(id, root)
        self._give_back()
        begun = time.monotonic()
        self._old.heartbeat(request.pid)
        for ref in request.tasks:
            held = self._roots.get(ref.id)
            if held is not None and held.claim is not None and held.version == ref.version:
                held.until = begun + held.ttl / 1000
        return _OK

    def _lost(self, id: str, root: _Root) -> bool:
        """Whether the lease has not been renewed in time; it is given back when the store answers again."""
        if time.monotonic() < root.until:
            return False
        self._drop(id, root)
        return True

    def _drop(self, id: str, root: _Root) -> None:
        with root.lock:
            claim, root.claim = root.claim, None
        if claim is not None:
            self._let_go.append((id, claim))

    # ---- giving up -------------------------------------------------------------------------------

    def fulfill(self, request: TaskFulfill) -> Response:
        """task.fulfill"""
        id, action = request.id, request.action
        refusal = self.refused(id, request.version)
        if refusal is not None:
            return refusal
        promise = self._old.settle(action)
        if promise is None:
            return Response(404, error=f"promise {id!r} not found")
        claim = self._root(id).claim
        if claim is not None:
            self._old.complete(claim)
        self._forget(id)
        if promise.state != action.state or promise.value != action.value:
            return Response(409, error=f"promise {id!r} was settled by somebody else")
        return Response(200, promise)

    def suspend(self, request: TaskSuspend) -> Response:
        """task.suspend"""
        id = request.id
        root = self._root(id)
        with root.lock:
            refusal = self.refused(id, request.version)
            if refusal is not None:
                return refusal
            for action in request.actions:
                promise = self._await(action.awaited, id, root)
                if promise is None:
                    return Response(422, error=f"awaited: promise {action.awaited!r} not found")
                if promise.state != PENDING:
                    return Response(300)
            assert root.claim is not None
            ours = self._old.complete(root.claim)
            root.claim = None
        return _OK if ours else Response(409, error=f"task {id!r} was taken away")

    def release(self, request: TaskRelease) -> Response:
        """task.release"""
        id = request.id
        root = self._root(id)
        with root.lock:
            refusal = self.refused(id, request.version)
            if refusal is not None:
                return refusal
            claim, root.claim = root.claim, None
            assert claim is not None
            try:
                self._offer_again(id, root)
                self._old.complete(claim)
            except BaseException:
                self._let_go.append((id, claim))
                raise
        return _OK

    def halt(self, request: TaskHalt) -> Response:
        """task.halt, of a task that is held here"""
        root = self._roots.get(request.id)
        if root is None or root.claim is None:
            return Response(409, error=f"task {request.id!r} is not held here, and this kind of store cannot halt it")
        with root.lock:
            claim, root.claim = root.claim, None
            root.halted = True
            if claim is not None:
                self._old.complete(claim)
        return _OK

    def go_on(self, request: TaskContinue) -> Response:
        """task.continue, of a task that was halted here"""
        root = self._roots.get(request.id)
        if root is None or not root.halted:
            return Response(409, error=f"task {request.id!r} was not halted here")
        self._offer_again(request.id, root)
        root.halted = False
        return _OK

    def _await(self, awaited: str, awaiter: str, root: _Root) -> Promise | None:
        promise, task = self._old.callback(awaited, awaiter, self._recv, root.timeout_at)
        if task is not None:
            self._homes[task] = awaiter
            root.callbacks.add(task)
        return promise

    def _offer_again(self, id: str, root: _Root) -> None:
        """Have the root `id` resumed in a moment."""
        for attempt in range(1, TIMERS + 1):
            timer = f"{id}:again-{uuid.uuid4().hex[:12]}"
            tags = {TIMER: "true", PARENT: id, SCOPE: "global"}
            self._old.create(PromiseCreate(timer, self._old.now() + AGAIN * attempt, tags=tags))
            promise = self._await(timer, id, root)
            if promise is not None and promise.state == PENDING:
                return
        raise ResonateStoreError(f"task {id!r} could not be released: the store takes too long to answer", 0)

    def _give_back(self) -> None:
        """Have what was let go while the store did not answer offered again: our heartbeat would keep it."""
        for entry in list(self._let_go):
            id, claim = entry
            try:
                promise = self._old.read(id)
                if promise is not None and promise.state == PENDING:
                    root = self._root(id)
                    root.timeout_at = promise.timeout_at
                    self._offer_again(id, root)
                if promise is not None and claim is not None:  # else whose task it is was never learnt
                    self._old.complete(claim)
            except ResonateStoreError as error:
                _LOG.warning("%s is still claimed and cannot be given back yet: %s", id, error)
            else:
                self._let_go.remove(entry)

    def _root(self, id: str) -> _Root:
        root = self._roots.get(id)
        return root if root is not None else self._roots.setdefault(id, _Root())

    def _forget(self, id: str) -> None:
        root = self._roots.pop(id, None)
        if root is not None:
            root.claim = None
            for task in root.callbacks:
                self._homes.pop(task, None)

    # ---- journal ---------------------------------------------------------------------------------

    def journal(self, fences: Sequence[TaskFence]) -> None:
        """Write down which children of their root the `fences` of a batch create, before they exist."""
        id, version = fences[0].id, fences[0].version
        root = self._roots.get(id)
        if root is None or self.refused(id, version) is not None:
            return
        creations = (_creation(fence.action) for fence in fences)
        children = [create.id for create in creations if create is not None and create.tags.get(BRANCH) == root.branch]
        if not children:
            return
        data = to_wire(json.dumps(children, separators=(",", ":")))
        tags = {ORIGIN: id.partition(":")[0], PARENT: id, SCOPE: "local"}
        written = False
        while not written:  # a page that is there with other children is of a holder before us
            page = PromiseCreate(f"{id}:journal{root.pages + 1}", root.timeout_at, Value(None, data), tags)
            written = self._old.create(page).param.data == data
            root.pages += 1

    def _recorded(self, id: str, root: _Root) -> list[Promise]:
        """Every child of the root that the journal names and the store has."""
        children: dict[str, None] = {}
        root.pages = 0
        while (page := self._old.read(f"{id}:journal{root.pages + 1}")) is not None:
            root.pages += 1
            children.update(dict.fromkeys(json.loads(from_wire(page.param.data) or "[]")))
        found = (self._old.read(child) for child in sorted(children))
        return [promise for promise in found if promise is not None]


def _creation(action: PromiseCreate | PromiseSettle | PromiseWrite) -> PromiseCreate | None:
    """What an action of a fence creates."""
    if isinstance(action, PromiseWrite):
        return action.create
    return action if isinstance(action, PromiseCreate) else None
