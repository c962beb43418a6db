"""What the properties are checked on, behind one door, with its stored rows as a `State`."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from resonate.clock import SettableClock
from resonate.protocol.requests import DebugTick, Request, Response, TaskAcquire
from resonate.service.service import Service
from resonate.storage.memory import MemoryStorage
from resonate.storage.postgres.storage import PostgresStorage
from resonate.storage.sqlite.storage import SqliteStorage
from resonate.testing.invariants import PromiseRow, State, TaskRow, view_state
from tests import databases, files

from .model import Model


class Subject:
    """The machine on a storage, in memory unless told otherwise, behind its service."""

    def __init__(self, storage: MemoryStorage | SqliteStorage | PostgresStorage | None = None) -> None:
        self.storage = MemoryStorage() if storage is None else storage
        self.service = Service(self.storage, SettableClock(0), debug=True)
        self.stores_deadlines = self.storage.lanes > 1

    def handle(self, request: Request, now: int) -> Response:
        return self.service.handle([request], now=now)[0]

    def state(self) -> State:
        return view_state(self.storage)


class Shared:
    """The machine on one home, behind the services of several processes, of which any answers the next request.

    Each remembers rows that the others change. Every other task is acquired as workers do it: its offer is taken
    first, and what is read with it is relied on.
    """

    def __init__(self, storages: Sequence[PostgresStorage] | Sequence[SqliteStorage], seed: int) -> None:
        self._storages = storages
        self.stores_deadlines = storages[0].lanes > 1
        self._services = [Service(storage, SettableClock(0), debug=True) for storage in storages]
        self._chance = Random(seed)

    def handle(self, request: Request, now: int) -> Response:
        service = self._chance.choice(self._services)
        if isinstance(request, TaskAcquire) and self._chance.random() < 0.5:
            if service.storage.claims:
                service.storage.take([("execute", request.id)], 1)
            if self._chance.random() < 0.3:  # the offer has reached one, and another process is faster
                service = self._chance.choice(self._services)
        if isinstance(request, DebugTick) and isinstance(service.storage, PostgresStorage):
            service.storage._read_next_due(jitter=False)  # it hears only now and then of what others have made due
        return service.handle([request], now=now)[0]

    def state(self) -> State:
        return view_state(self._storages[0])


def on_file() -> Subject:
    """The machine on a file of SQLite."""
    return Subject(files.emptied())


def on_database() -> Subject:
    """The machine on PostgreSQL."""
    return Subject(databases.emptied())


def on_shared_file() -> Shared:
    """The machine on a file of SQLite, behind three services."""
    global _shared
    _shared += 1
    return Shared(files.shared(3), _shared)


def on_shared_database() -> Shared:
    """The machine on PostgreSQL, behind three services."""
    global _shared
    _shared += 1
    return Shared(databases.shared(3), _shared)


_shared = 0


def model_state(model: Model) -> State:
    promises = {id: PromiseRow(p.record, tuple(p.callbacks), tuple(p.listeners)) for id, p in model.promises.items()}
    tasks = {
        id: TaskRow(t.state, t.version, tuple(t.resumes), t.pid, t.ttl, t.expires_at, t.retry_at)
        for id, t in model.tasks.items()
    }
    return State(promises, tasks, dict(model.schedules), tuple(model.outbox.values()))
