"""What is known of an execution that is not done: for the error of a caller whose patience is over."""

from __future__ import annotations

from threading import Event
from typing import TYPE_CHECKING, Final

from resonate.errors import ResonateError
from resonate.execution.records import CALL_TAG, split
from resonate.protocol.descent import descend
from resonate.protocol.records import ACQUIRED, ORIGIN, PENDING, SCOPE, SUSPENDED, Promise
from resonate.protocol.requests import PromiseGet, Response, TaskGet
from resonate.worker.missing import group_of, which

if TYPE_CHECKING:
    from resonate.worker.worker import Worker

SHOWN: Final = 3
"""Things waited for that an error names."""


def standing(worker: Worker, id: str, patience: float) -> str:
    """Why `id` is not done, as far as that is found out within `patience` seconds; empty if nothing is."""
    found: list[str] = []
    done = Event()

    def look() -> None:
        try:
            found.append(_look(worker, id))
        except ResonateError:
            pass  # whoever keeps the promises is away: then there is nothing to say
        finally:
            done.set()

    if worker.network.inline:
        look()
    else:
        worker.pool.submit(look)
        done.wait(patience)
    return found[0] if found else ""


def _look(worker: Worker, id: str) -> str:
    read, asked = worker.network.send([PromiseGet(id), TaskGet(id)])
    if read.promise is None or asked.task is None or asked.task.state != SUSPENDED:
        return _of(worker, read, asked)
    awaited: list[Promise] = []
    for page in descend(worker.network.send, read.promise.tags.get(ORIGIN, id)):
        awaited += [promise for promise in page if promise.id != id and _is_awaited(promise)]
        if len(awaited) > SHOWN:
            break
    shown = awaited[:SHOWN]
    tasks = worker.network.send([TaskGet(promise.id) for promise in shown])
    parts = []
    for promise, task in zip(shown, tasks, strict=True):
        text = _of(worker, Response(200, promise), task)
        parts.append(f"{promise.id} ({text})" if text else promise.id)
    more = " and others" if len(awaited) > SHOWN else ""
    return f"it waits for {', '.join(parts)}{more}" if parts else ""


def _is_awaited(promise: Promise) -> bool:
    return promise.state == PENDING and promise.tags.get(SCOPE) == "global"


def _of(worker: Worker, read: Response, asked: Response) -> str:
    """What a promise and its task say."""
    promise, task = read.promise, asked.task
    if promise is None or promise.state != PENDING or task is None:
        return ""
    if task.state == ACQUIRED:
        return f"worker {task.pid} runs it" if task.pid else "a worker runs it"
    if task.state != PENDING:
        return ""
    here = worker.intake.missing.why(promise.id)
    waits = f"no worker of group {group_of(promise)} has taken it up: is one running that registers {_called(promise)}?"
    return waits if here is None else f"{waits} {here[0].upper()}{here[1:]}"


def _called(promise: Promise) -> str:
    """The function that a promise asks for, as its tag has it."""
    tag = promise.tags.get(CALL_TAG)
    if tag is None:
        return "its function"
    _, version, _, name, _ = split(tag)
    return which(name, int(version))


__all__ = ["standing"]
