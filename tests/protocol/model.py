"""A second implementation of the protocol, slow and obvious, to compare the machine with.

Written from the protocol document alone and sharing nothing with the machine but the
records: mutable rows, every internal step by a look at everything, no index, no batch. It
takes the recommended reading of every open question. It reports, it never checks itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from resonate.protocol import cron, validation
from resonate.protocol import requests as rq
from resonate.protocol.records import EMPTY, Execute, Promise, Schedule, Task, Unblock
from resonate.protocol.requests import Request, Response

LAST = 2**63 - 1


@dataclass
class P:
    record: Promise
    callbacks: list[str] = field(default_factory=list)
    listeners: list[str] = field(default_factory=list)


@dataclass
class T:
    state: str
    version: int = 0
    resumes: list[str] = field(default_factory=list)
    pid: str | None = None
    ttl: int | None = None
    expires_at: int | None = None
    retry_at: int | None = None


class Refused(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def project(promise: Promise, now: int) -> Promise:
    if promise.state != "pending" or promise.timeout_at > now:
        return promise
    state = "resolved" if promise.tags.get("resonate:timer") == "true" else "rejected_timedout"
    return replace(promise, state=state, settled_at=promise.timeout_at)


def pauseless(tags: dict[str, str]) -> dict[str, str]:
    if tags.get("resonate:paused") != "false":
        return tags
    return {name: value for name, value in tags.items() if name != "resonate:paused"}


class Model:
    def __init__(self, *, retry_timeout: int = 30_000, strict: bool = False) -> None:
        self.retry_timeout = retry_timeout
        self.strict = strict
        self.reset()

    def reset(self) -> None:
        self.now = 0
        self.promises: dict[str, P] = {}
        self.tasks: dict[str, T] = {}
        self.schedules: dict[str, Schedule] = {}
        self.outbox: dict[tuple[str, ...], tuple[str, Execute | Unblock]] = {}

    def handle(self, request: Request, now: int) -> Response:
        """Answer a valid request at `now`, which never falls."""
        self.now = max(self.now, now)
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(request).__name__).lower()
        handler: Callable[[Any, int], Response] = getattr(self, name)
        try:
            return handler(request, self.now)
        except Refused as refusal:
            return Response(refusal.status, error="refused")

    # What is seen.

    def seen(self, id: str, now: int) -> Promise:
        return project(self.promises[id].record, now)

    def live(self, id: str, now: int) -> bool:
        return self.seen(id, now).state == "pending"

    def seen_task(self, id: str, now: int) -> Task:
        task = self.tasks[id]
        if not self.live(id, now):
            return Task(id, "fulfilled", task.version, 0)
        return Task(id, task.state, task.version, len(task.resumes), task.ttl, task.pid)  # type: ignore[arg-type]

    def external(self, promise: Promise) -> bool:
        tags = promise.tags
        return (
            "resonate:target" in tags
            or tags.get("resonate:timer") == "true"
            or tags.get("resonate:external") == "true"
            or (tags.get("resonate:scope") == "global" and not self.strict)
        )

    def preload(self, id: str, now: int, wanted: bool) -> list[Promise]:
        branch = self.promises[id].record.tags.get("resonate:branch")
        if not wanted or branch is None or not self.live(id, now):
            return []
        ids = sorted(i for i, p in self.promises.items() if p.record.tags.get("resonate:branch") == branch)
        return [self.seen(i, now) for i in ids if i != id]

    # What happens.

    def create(self, id: str, timeout_at: int, param: Any, tags: dict[str, str], born: int, now: int) -> None:
        late = timeout_at <= born
        promise = Promise(id, "pending", param, EMPTY, tags, timeout_at, timeout_at if late else born)
        self.promises[id] = P(project(promise, born))
        if "resonate:target" in tags:
            self.tasks[id] = T("fulfilled" if late else "pending")
            if not late:
                self.offer(id, max(int(tags.get("resonate:delay", born)), born), now)

    def offer(self, id: str, at: int, now: int) -> None:
        promise = self.promises[id].record
        timer = promise.tags.get("resonate:timer") == "true"
        self.tasks[id].retry_at = promise.timeout_at if timer else at
        if not timer and at <= now and self.live(id, now):
            self.send(id, now)

    def settle(self, id: str, state: str, value: Any, settled_at: int, now: int) -> None:
        row = self.promises[id]
        row.record = replace(row.record, state=state, value=value, settled_at=settled_at)
        if id in self.tasks:
            self.tasks[id] = T("fulfilled", self.tasks[id].version)
        self.run_steps(now, self.drain)

    def suspended(self, id: str) -> None:
        self.tasks[id] = T("suspended", self.tasks[id].version)

    def acquire(self, id: str, pid: str, ttl: int, now: int) -> None:
        version = self.tasks[id].version + 1
        self.tasks[id] = T("acquired", version, pid=pid, ttl=ttl, expires_at=min(now + ttl, LAST))
        self.outbox.pop(("execute", id), None)

    def unleash(self, id: str, state: str) -> None:
        task = self.tasks[id]
        self.tasks[id] = T(state, task.version, task.resumes)

    # Internal steps: each looks at everything and says whether it did anything.

    def run_steps(self, now: int, *steps: Callable[[int], bool]) -> None:
        """Take every step, again and again, until none finds anything to do."""
        busy = True
        while busy:
            busy = False
            for step in steps:
                busy |= step(now)

    def time_out(self, now: int) -> bool:
        due = [
            i
            for i, p in self.promises.items()
            if p.record.state == "pending" and p.record.timeout_at <= now and self.external(p.record)
        ]
        self.settle_overdue(due, now)
        return bool(due)

    def settle_overdue(self, ids: Iterable[str], now: int) -> None:
        """Settle those of `ids` whose deadline has passed: at most when anybody could see it."""
        for id in ids:
            row = self.promises.get(id)
            if row is not None and row.record.state == "pending" and row.record.timeout_at <= now:
                seen = self.seen(id, now)
                self.settle(id, seen.state, EMPTY, seen.timeout_at, now)

    def drain(self, now: int) -> bool:
        done = False
        for id, row in self.promises.items():
            if row.record.state == "pending":
                continue
            for address in row.listeners:
                self.outbox["unblock", id, address] = (address, Unblock(row.record))
            awaiters, row.callbacks, row.listeners = row.callbacks, [], []
            for awaiter in awaiters:
                done = True
                self.resume(awaiter, id, now)
        return done

    def resume(self, awaiter: str, awaited: str, now: int) -> None:
        if not self.live(awaiter, now):
            return
        task = self.tasks[awaiter]
        if task.state == "suspended":
            self.tasks[awaiter] = T("pending", task.version, [awaited])
            self.offer(awaiter, now, now)
        elif awaited not in task.resumes:
            task.resumes.append(awaited)

    def expire(self, now: int) -> bool:
        due = [i for i, t in self.tasks.items() if t.expires_at is not None and t.expires_at <= now]
        due = [i for i in due if self.live(i, now)]
        for id in due:
            self.unleash(id, "pending")
            self.offer(id, now, now)
        return bool(due)

    def dispatch(self, now: int) -> bool:
        due = [i for i, t in self.tasks.items() if t.retry_at is not None and t.retry_at <= now]
        due = [i for i in due if self.live(i, now)]
        for id in due:
            self.send(id, now)
        return bool(due)

    def send(self, id: str, now: int) -> None:
        target = self.promises[id].record.tags["resonate:target"]
        self.outbox["execute", id] = (target, Execute(id, self.tasks[id].version))
        self.tasks[id].retry_at = min(now + self.retry_timeout, LAST)

    def fire(self, now: int) -> bool:
        due = [s for s in self.schedules.values() if s.next_run_at <= now]
        for schedule in due:
            at = schedule.next_run_at
            if schedule.promise_tags.get("resonate:paused") == "true" and not self.strict:
                self.schedules[schedule.id] = replace(schedule, next_run_at=self.occurrence(schedule.cron, at))
                continue
            id = schedule.promise_id.replace("{{.id}}", schedule.id).replace("{{.timestamp}}", str(at))
            lineage = dict.fromkeys(("resonate:origin", "resonate:branch", "resonate:parent"), id)
            tags = schedule.promise_tags | lineage | {"resonate:schedule": schedule.id}
            if id not in self.promises:
                self.create(id, min(at + schedule.promise_timeout, LAST), schedule.promise_param, tags, at, now)
            following = self.occurrence(schedule.cron, at)
            self.schedules[schedule.id] = replace(schedule, last_run_at=at, next_run_at=following)
        return bool(due)

    @staticmethod
    def occurrence(expression: str, at: int) -> int:
        following = cron.next_occurrence(expression, at)
        assert following is not None
        return following

    # Promises.

    def promise_get(self, request: rq.PromiseGet, now: int) -> Response:
        self.known(request.id in self.promises)
        return Response(200, promise=self.seen(request.id, now))

    def promise_create(self, request: rq.PromiseCreate, now: int) -> Response:
        if request.id not in self.promises:
            self.create(request.id, request.timeout_at, request.param, request.tags, now, now)
        return Response(200, promise=self.seen(request.id, now))

    def promise_settle(self, request: rq.PromiseSettle, now: int) -> Response:
        self.known(request.id in self.promises)
        if self.live(request.id, now):
            self.settle(request.id, request.state, request.value, now, now)
        return Response(200, promise=self.seen(request.id, now))

    def promise_register_callback(self, request: rq.PromiseRegisterCallback, now: int) -> Response:
        awaited, awaiter = request.awaited, request.awaiter
        self.known(awaited in self.promises)
        self.demand(422, awaiter in self.tasks and self.external(self.promises[awaited].record))
        callbacks = self.promises[awaited].callbacks
        if self.live(awaited, now) and self.live(awaiter, now) and awaiter not in callbacks:
            callbacks.append(awaiter)
        return Response(200, promise=self.seen(awaited, now))

    def promise_register_listener(self, request: rq.PromiseRegisterListener, now: int) -> Response:
        self.known(request.awaited in self.promises)
        row = self.promises[request.awaited]
        self.demand(422, self.external(row.record))
        if self.live(request.awaited, now) and request.address not in row.listeners:
            row.listeners.append(request.address)
        return Response(200, promise=self.seen(request.awaited, now))

    def promise_search(self, request: rq.PromiseSearch, now: int) -> Response:
        self.demand(501, not self.strict)
        found = [self.seen(i, now) for i in sorted(self.promises)]
        tags = (request.tags or {}).items()
        found = [p for p in found if request.state in (None, p.state) and tags <= p.tags.items()]
        page, cursor = self.page(found, request)
        return Response(200, promises=page, cursor=cursor)

    # Tasks.

    def task_get(self, request: rq.TaskGet, now: int) -> Response:
        self.known(request.id in self.tasks)
        return Response(200, task=self.seen_task(request.id, now))

    def task_create(self, request: rq.TaskCreate, now: int) -> Response:
        wanted = request.action
        id = wanted.id
        if id not in self.promises:
            self.create(id, wanted.timeout_at, wanted.param, wanted.tags, now, now)
        self.demand(422, id in self.tasks)
        resumed: list[str] = []
        if self.live(id, now):
            self.demand(409, self.tasks[id].state == "pending")
            resumed = list(self.tasks[id].resumes)
            self.acquire(id, request.pid, request.ttl, now)
        return replace(self.claimed(id, now, request.preload), resumed=resumed)

    def task_acquire(self, request: rq.TaskAcquire, now: int) -> Response:
        self.known(request.id in self.tasks)
        task = self.seen_task(request.id, now)
        self.demand(409, (task.state, task.version) == ("pending", request.version))
        resumed = list(self.tasks[request.id].resumes)
        self.acquire(request.id, request.pid, request.ttl, now)
        return replace(self.claimed(request.id, now, request.preload), resumed=resumed)

    def task_release(self, request: rq.TaskRelease, now: int) -> Response:
        self.held(request, now)
        self.unleash(request.id, "pending")
        self.offer(request.id, now, now)
        return Response(200)

    def task_fulfill(self, request: rq.TaskFulfill, now: int) -> Response:
        self.held(request, now)
        self.settle(request.id, request.action.state, request.action.value, now, now)
        return Response(200, promise=self.seen(request.id, now))

    def task_suspend(self, request: rq.TaskSuspend, now: int) -> Response:
        self.held(request, now)
        awaited = [action.awaited for action in request.actions]
        for id in awaited:
            self.demand(422, id in self.promises and self.external(self.promises[id].record))
        if not all(self.live(id, now) for id in awaited):
            self.tasks[request.id].resumes = []
            return Response(300, preload=self.preload(request.id, now, request.preload))
        for id in awaited:
            if request.id not in self.promises[id].callbacks:
                self.promises[id].callbacks.append(request.id)
        self.suspended(request.id)
        return Response(200)

    def task_fence(self, request: rq.TaskFence, now: int) -> Response:
        self.held(request, now)
        action = request.action
        assert not isinstance(action, rq.PromiseWrite), "the model speaks the wire's language only"
        error = validation.check(action, strict=True) if self.strict else None
        inner = Response(400, error=error) if error else self.handle(action, now)
        return Response(200, action=inner, preload=self.preload(request.id, now, request.preload))

    def task_heartbeat(self, request: rq.TaskHeartbeat, now: int) -> Response:
        for entry in request.tasks:
            task = self.tasks.get(entry.id)
            if task is None or not self.live(entry.id, now):
                continue
            if (task.state, task.version, task.pid) == ("acquired", entry.version, request.pid):
                assert task.ttl is not None
                task.expires_at = min(now + task.ttl, LAST)
        return Response(200)

    def task_halt(self, request: rq.TaskHalt, now: int) -> Response:
        self.known(request.id in self.tasks)
        self.demand(409, self.live(request.id, now))
        self.unleash(request.id, "halted")
        return Response(200)

    def task_continue(self, request: rq.TaskContinue, now: int) -> Response:
        self.known(request.id in self.tasks)
        self.demand(409, self.seen_task(request.id, now).state == "halted")
        self.unleash(request.id, "pending")
        self.offer(request.id, now, now)
        return Response(200)

    def task_search(self, request: rq.TaskSearch, now: int) -> Response:
        self.demand(501, not self.strict)
        found = [self.seen_task(i, now) for i in sorted(self.tasks)]
        page, cursor = self.page([t for t in found if request.state in (None, t.state)], request)
        return Response(200, tasks=page, cursor=cursor)

    # Schedules and debug.

    def schedule_get(self, request: rq.ScheduleGet, now: int) -> Response:
        self.known(request.id in self.schedules)
        return Response(200, schedule=self.schedules[request.id])

    def schedule_create(self, request: rq.ScheduleCreate, now: int) -> Response:
        if request.id not in self.schedules:
            first = cron.next_occurrence(request.cron, now)
            self.demand(400, first is not None)
            assert first is not None
            self.schedules[request.id] = Schedule(
                request.id,
                request.cron,
                request.promise_id,
                request.promise_timeout,
                request.promise_param,
                request.promise_tags if self.strict else pauseless(request.promise_tags),
                now,
                first,
            )
        wanted = request.promise_tags.get("resonate:paused")
        if wanted in ("true", "false") and not self.strict:
            known = self.schedules[request.id]
            tags = pauseless({**known.promise_tags, "resonate:paused": "false"})
            if wanted == "true":
                self.schedules[request.id] = replace(known, promise_tags=tags | {"resonate:paused": "true"})
            elif tags.keys() != known.promise_tags.keys():
                following = self.occurrence(known.cron, now)
                self.schedules[request.id] = replace(known, promise_tags=tags, next_run_at=following)
        return Response(200, schedule=self.schedules[request.id])

    def schedule_delete(self, request: rq.ScheduleDelete, now: int) -> Response:
        self.known(request.id in self.schedules)
        del self.schedules[request.id]
        return Response(200)

    def schedule_search(self, request: rq.ScheduleSearch, now: int) -> Response:
        self.demand(501, not self.strict)
        tags = (request.tags or {}).items()
        found = [s for _, s in sorted(self.schedules.items()) if tags <= s.promise_tags.items()]
        page, cursor = self.page(found, request)
        return Response(200, schedules=page, cursor=cursor)

    def debug_start(self, request: rq.DebugStart, now: int) -> Response:
        return Response(200)

    def debug_stop(self, request: rq.DebugStop, now: int) -> Response:
        return Response(200)

    def debug_reset(self, request: rq.DebugReset, now: int) -> Response:
        self.reset()
        return Response(200)

    def debug_tick(self, request: rq.DebugTick, now: int) -> Response:
        self.now = max(self.now, request.time)
        self.run_steps(self.now, self.time_out, self.drain, self.expire, self.fire, self.dispatch)
        return Response(200)

    def debug_snap(self, request: rq.DebugSnap, now: int) -> Response:
        promises = [self.seen(i, now) for i in self.promises]
        tasks = [self.seen_task(i, now) for i in self.tasks]
        armed = [p for p in promises if p.state == "pending" and self.external(p)]
        retries = [(t.id, 0, self.tasks[t.id].retry_at) for t in tasks if t.state == "pending"]
        leases = [(t.id, 1, self.tasks[t.id].expires_at) for t in tasks if t.state == "acquired"]
        return Response(
            200,
            snapshot={
                "promises": promises,
                "promiseTimeouts": [{"id": p.id, "timeout": p.timeout_at} for p in armed],
                "callbacks": [{"awaiter": w, "awaited": i} for i, p in self.promises.items() for w in p.callbacks],
                "listeners": [{"id": i, "address": a} for i, p in self.promises.items() for a in p.listeners],
                "tasks": tasks,
                "taskTimeouts": [{"id": i, "type": k, "timeout": at} for i, k, at in retries + leases],
                "messages": [{"address": a, "message": m} for a, m in self.outbox.values()],
            },
        )

    # Guards.

    def demand(self, status: int, fulfilled: bool) -> None:
        if not fulfilled:
            raise Refused(status)

    def known(self, found: bool) -> None:
        self.demand(404, found)

    def held(self, request: Any, now: int) -> None:
        self.known(request.id in self.tasks)
        task = self.seen_task(request.id, now)
        self.demand(409, (task.state, task.version) == ("acquired", request.version))

    def claimed(self, id: str, now: int, preload: bool) -> Response:
        return Response(
            200,
            task=self.seen_task(id, now),
            promise=self.seen(id, now),
            preload=self.preload(id, now, preload),
        )

    def page(self, found: list[Any], request: Any) -> tuple[list[Any], str | None]:
        found = [x for x in found if x.id.startswith(request.prefix or "")]
        rest = [x for x in found if request.cursor is None or x.id > request.cursor]
        page = rest[: request.limit]
        return page, page[-1].id if len(rest) > len(page) else None
