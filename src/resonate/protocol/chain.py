"""A worker's batch is a guarded chain: what an answer must be for the rest to be applied."""

from __future__ import annotations

from resonate.protocol.records import PENDING, SCOPE
from resonate.protocol.requests import PromiseCreate, PromiseSettle, Request, Response, TaskFence, TaskFulfill


def holds(request: Request, response: Response) -> bool:
    """Whether `response` is what the sender of `request` counted on.

    An error breaks the chain, and so does a settled promise other than the one sent: the
    record is not what the worker believed. A promise that is settled elsewhere (scope
    `global`: timers, remote calls) may be settled already when it is created again.
    """
    if response.status >= 400:
        return False
    kind = type(request)
    if kind is TaskFence:
        inner = response.action
        if inner is None or inner.status != 200:
            return False
        action, promise = request.action, inner.promise  # type: ignore[union-attr]
        if type(action) is PromiseCreate:
            return promise.state == PENDING or action.tags.get(SCOPE) == "global"  # type: ignore[union-attr]
        return _as_sent(action, inner)  # type: ignore[arg-type]
    if kind is TaskFulfill:
        return _as_sent(request.action, response)  # type: ignore[union-attr]
    return True


def _as_sent(action: PromiseSettle, response: Response) -> bool:
    promise = response.promise
    return promise is not None and promise.state == action.state and promise.value == action.value
