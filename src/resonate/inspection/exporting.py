"""Reads a whole tree, through whatever carries requests to a service, as `protocol.transfer` has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from resonate.errors import ResonateStoreError
from resonate.protocol.descent import Send, descend
from resonate.protocol.records import FULFILLED, ORIGIN, PENDING, TARGET, Promise, Task
from resonate.protocol.requests import PromiseGet, TaskGet
from resonate.protocol.transfer import FORMAT, Tree

PAGE: Final = 1000
"""Records asked for at once: as many as a search may give."""

Progress = Callable[[int], None]
"""Told how many promises have been read so far."""


def export(send: Send, now: Callable[[], int], id: str, progress: Progress = lambda count: None) -> Tree:
    """The tree that `id` is part of, from its root down; one moment after the other, so of an open one it may be a mix.

    Args:
        send: carries requests of the protocol; `Network.send`.
        now: milliseconds since the epoch, as the service has it.
        id: of the root, or of anything below it.
        progress: called after each page.

    Raises:
        ResonateStoreError: 100.404, there is nothing of this id; or the service cannot search.
    """
    at = now()
    top = _promise(send, id)
    origin = top.tags.get(ORIGIN, id)
    found = {origin: top if origin == id else _promise(send, origin)}
    for page in descend(send, origin):
        for promise in page:
            if promise.id != origin:
                found[promise.id] = promise
        progress(len(found))
    tasks = tuple(_tasks(send, found))
    return Tree(format=FORMAT, root=origin, exported_at=at, promises=tuple(found.values()), tasks=tasks)


def _promise(send: Send, id: str) -> Promise:
    (answer,) = send([PromiseGet(id)])
    if answer.promise is None:
        raise ResonateStoreError(f"The specified promise was not found: {id}", 40400)
    return answer.promise


def _tasks(send: Send, promises: dict[str, Promise]) -> Iterator[Task]:
    """The tasks of `promises`; a promise that was settled since it was read is read again."""
    run = [promise.id for promise in promises.values() if TARGET in promise.tags]
    for start in range(0, len(run), PAGE):
        for answer in send([TaskGet(id) for id in run[start : start + PAGE]]):
            task = answer.task
            if task is None:
                continue
            if task.state == FULFILLED and promises[task.id].state == PENDING:
                promises[task.id] = _promise(send, task.id)
            yield task
