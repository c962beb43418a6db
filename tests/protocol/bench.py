"""A server under test at an instant that the test sets, and short ways to say requests.

`Bench` drives the machine on the memory storage, or the slow model, through the same door;
requests are validated on the way in. Nothing waits and no clock runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from resonate.clock import SettableClock
from resonate.protocol import requests as rq
from resonate.protocol.records import EMPTY, Execute, Promise, Task, Unblock, Value
from resonate.protocol.requests import Request, Response
from resonate.protocol.validation import check
from resonate.service.service import Service
from resonate.storage.base import Storage
from resonate.storage.memory import MemoryStorage
from tests import databases, files

from .model import Model

ANY = "poll://any@g"
YEAR = 365 * 24 * 3600 * 1000
Handle = Callable[[Request, int], Response]


class Bench:
    """`bench.at(100)(request)` answers `request` at instant 100."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self.now = 0

    def __call__(self, request: Request) -> Response:
        return self._handle(request, self.now)

    def at(self, now: int) -> Bench:
        self.now = now
        return self

    def status(self, request: Request) -> int:
        return self(request).status

    def tick(self, now: int) -> Bench:
        """Take every internal step due at `now`."""
        assert self.at(now)(rq.DebugTick(now)).status == 200
        return self

    def snap(self, key: str) -> list[Any]:
        snapshot = self(rq.DebugSnap()).snapshot
        assert snapshot is not None
        rows = snapshot[key]
        assert isinstance(rows, list)
        return rows

    def promise(self, id: str) -> Promise:
        found = self(rq.PromiseGet(id)).promise
        assert found is not None
        return found

    def task(self, id: str) -> Task:
        found = self(rq.TaskGet(id)).task
        assert found is not None
        return found

    def offers(self) -> list[tuple[str, int]]:
        """(task id, version) of every undelivered `execute`."""
        messages = [row["message"] for row in self.snap("messages")]
        return sorted((m.id, m.version) for m in messages if isinstance(m, Execute))

    def news(self) -> list[tuple[str, str]]:
        """(promise id, address) of every undelivered `unblock`."""
        rows = self.snap("messages")
        return sorted((r["message"].promise.id, r["address"]) for r in rows if isinstance(r["message"], Unblock))

    def timers(self) -> list[tuple[str, int, int]]:
        """(task id, 0 retry or 1 lease, instant) of every task timer."""
        return sorted((row["id"], row["type"], row["timeout"]) for row in self.snap("taskTimeouts"))

    def armed(self) -> list[tuple[str, int]]:
        return sorted((row["id"], row["timeout"]) for row in self.snap("promiseTimeouts"))


def machine(storage: Storage | None = None, **options: Any) -> Bench:
    service = new_service(storage, **options)
    return Bench(lambda request, now: service.handle([request], now=now)[0])


def sqlite(**options: Any) -> Bench:
    return machine(files.emptied(), **options)


def postgres(**options: Any) -> Bench:
    return machine(databases.emptied(), **options)


def machine_handle(storage: Storage | None = None) -> Callable[[Request, int | None], Response]:
    """The machine behind a server that has checked the request already."""
    service = new_service(storage, fence_preload=None)  # as the official server that was recorded
    return lambda request, now: service.handle([request], trusted=True, now=now)[0]


def new_service(storage: Storage | None = None, **options: Any) -> Service:
    return Service(MemoryStorage() if storage is None else storage, SettableClock(0), debug=True, **options)


def model(**options: Any) -> Bench:
    slow = Model(**options)
    strict = options.get("strict", False)

    def handle(request: Request, now: int) -> Response:
        error = check(request, strict=strict)
        return Response(400, error=error) if error else slow.handle(request, now)

    return Bench(handle)


def model_handle() -> Callable[[Request, int | None], Response]:
    slow = Model()
    return lambda request, now: slow.handle(request, slow.now if now is None else now)


def tags(**names: str) -> dict[str, str]:
    return {f"resonate:{name}": value for name, value in names.items()}


def create(id: str, timeout_at: int = YEAR, **names: str) -> rq.PromiseCreate:
    return rq.PromiseCreate(id, timeout_at, tags=tags(**names))


def carrying(id: str, param: Value, timeout_at: int = YEAR) -> rq.PromiseCreate:
    return rq.PromiseCreate(id, timeout_at, param)


def external(id: str, timeout_at: int = YEAR, **names: str) -> rq.PromiseCreate:
    return create(id, timeout_at, external="true", **names)


def targeted(id: str, timeout_at: int = YEAR, **names: str) -> rq.PromiseCreate:
    return create(id, timeout_at, target=ANY, **names)


def begin(id: str, timeout_at: int = YEAR, *, pid: str = "p", ttl: int = 1000, **names: str) -> rq.TaskCreate:
    return rq.TaskCreate(pid, ttl, targeted(id, timeout_at, **names))


def acquire(id: str, version: int, *, pid: str = "p", ttl: int = 1000) -> rq.TaskAcquire:
    return rq.TaskAcquire(id, version, pid, ttl)


def resolve(id: str, data: str | None = None) -> rq.PromiseSettle:
    return rq.PromiseSettle(id, "resolved", EMPTY if data is None else Value(data=data))


def fulfill(id: str, version: int, data: str | None = None) -> rq.TaskFulfill:
    return rq.TaskFulfill(id, version, resolve(id, data))


def suspend(id: str, version: int, *awaited: str) -> rq.TaskSuspend:
    return rq.TaskSuspend(id, version, tuple(rq.PromiseRegisterCallback(x, id) for x in awaited))


def beat(pid: str, *tasks: tuple[str, int]) -> rq.TaskHeartbeat:
    return rq.TaskHeartbeat(pid, tuple(rq.TaskRef(*task) for task in tasks))


def listen(awaited: str, address: str = ANY) -> rq.PromiseRegisterListener:
    return rq.PromiseRegisterListener(awaited, address)


def wait(awaited: str, awaiter: str) -> rq.PromiseRegisterCallback:
    return rq.PromiseRegisterCallback(awaited, awaiter)
