"""What the properties are checked on, behind one door, with its stored rows as a `State`."""

from __future__ import annotations

from resonate.clock import SettableClock
from resonate.protocol.requests import Request, Response
from resonate.protocol.rows import View
from resonate.service.service import Service
from resonate.storage.memory import MemoryStorage
from resonate.storage.postgres.storage import PostgresStorage
from resonate.storage.sqlite.storage import SqliteStorage
from tests import databases, files

from .invariants import PromiseRow, State, TaskRow
from .model import Model


class Subject:
    """The machine on a storage, in memory unless told otherwise, behind its service."""

    def __init__(self, storage: MemoryStorage | SqliteStorage | PostgresStorage | None = None) -> None:
        self.storage = MemoryStorage() if storage is None else storage
        self.service = Service(self.storage, SettableClock(0), debug=True)

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


def view_state(view: View) -> State:
    return State(
        {row.promise.id: PromiseRow(row.promise, row.callbacks, row.listeners) for row in view.promises(None)},
        {
            t.id: TaskRow(t.state, t.version, t.resumes, t.pid, t.ttl, t.expires_at, t.retry_at)
            for t in view.tasks(None)
        },
        {schedule.id: schedule for schedule in view.schedules(None)},
        tuple((send.address, send.message) for send in view.messages()),
    )


def model_state(model: Model) -> State:
    promises = {id: PromiseRow(p.record, tuple(p.callbacks), tuple(p.listeners)) for id, p in model.promises.items()}
    tasks = {
        id: TaskRow(t.state, t.version, tuple(t.resumes), t.pid, t.ttl, t.expires_at, t.retry_at)
        for id, t in model.tasks.items()
    }
    return State(promises, tasks, dict(model.schedules), tuple(model.outbox.values()))
