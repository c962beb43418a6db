"""`debug.snap`: everything that is stored, as anybody may see it (protocol 3.22)."""

from __future__ import annotations

from resonate.protocol.records import ACQUIRED, PENDING
from resonate.protocol.rows import TaskRow, View, is_external, is_live, project, show


def snapshot(view: View, now: int, strict: bool) -> dict[str, object]:
    """The lists of a snapshot, each sorted by id (then address); records, not JSON."""
    rows = list(view.promises(None))
    live = {row.promise.id for row in rows if is_live(row.promise, now)}
    tasks = list(view.tasks(None))
    return {
        "promises": [project(row.promise, now) for row in rows],
        "promiseTimeouts": [
            {"id": row.promise.id, "timeout": row.promise.timeout_at}
            for row in rows
            if row.promise.id in live and is_external(row.promise, strict)
        ],
        "callbacks": [
            {"awaiter": awaiter, "awaited": row.promise.id} for row in rows for awaiter in sorted(row.callbacks)
        ],
        "listeners": [{"id": row.promise.id, "address": address} for row in rows for address in sorted(row.listeners)],
        "tasks": [show(task, task.id in live) for task in tasks],
        "taskTimeouts": [
            {"id": task.id, "type": int(task.state == ACQUIRED), "timeout": _timer(task)}
            for task in tasks
            if task.id in live and task.state in (PENDING, ACQUIRED)
        ],
        "messages": [
            {"address": sent.address, "message": sent.message}
            for sent in sorted(view.messages(), key=lambda sent: (sent.key[1], sent.address))
        ],
    }


def _timer(task: TaskRow) -> int | None:
    return task.expires_at if task.state == ACQUIRED else task.retry_at
