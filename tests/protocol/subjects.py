"""What the properties are checked on, behind one door, with its stored rows as a `State`."""

from __future__ import annotations

from resonate.clock import SettableClock
from resonate.protocol.requests import Request, Response
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


def on_file() -> Subject:
    """The machine on a file of SQLite."""
    return Subject(files.emptied())


def on_database() -> Subject:
    """The machine on PostgreSQL."""
    return Subject(databases.emptied())


def model_state(model: Model) -> State:
    promises = {id: PromiseRow(p.record, tuple(p.callbacks), tuple(p.listeners)) for id, p in model.promises.items()}
    tasks = {
        id: TaskRow(t.state, t.version, tuple(t.resumes), t.pid, t.ttl, t.expires_at, t.retry_at)
        for id, t in model.tasks.items()
    }
    return State(promises, tasks, dict(model.schedules), tuple(model.outbox.values()))
