"""A worker's batch is a guarded chain: what an answer must be for the rest to be applied."""

from __future__ import annotations

from collections.abc import Sequence

from resonate.protocol.records import PENDING, RAN, SCOPE, Promise, Value
from resonate.protocol.requests import (
    PromiseCreate,
    PromiseSettle,
    PromiseWrite,
    Request,
    Response,
    TaskFence,
    TaskFulfill,
)


def holds(request: Request, response: Response) -> bool:
    """Whether `response` is what the sender of `request` counted on.

    An error breaks the chain, and so does a settled promise other than the one sent: the
    record is not what the worker believed. A promise that is settled elsewhere (scope
    `global`: timers, remote calls) may be settled already when it is created again.
    """
    if response.status >= 400:
        return False
    if type(request) is TaskFence:
        action, inner = request.action, response.action
        if inner is None or inner.promise is None:
            return False
        kind = type(action)
        if kind is PromiseCreate:
            return inner.promise.state == PENDING or action.tags.get(SCOPE) == "global"  # type: ignore[union-attr]
        settle = action.settle if kind is PromiseWrite else action  # type: ignore[union-attr]
        return _as_sent(settle, inner.promise)  # type: ignore[arg-type]
    if type(request) is TaskFulfill:
        return _as_sent(request.action, response.promise)
    return True


def whole(requests: Sequence[Request], answers: Sequence[Response]) -> bool:
    """Whether the answers to a chain of requests show that all of it was applied."""
    return len(answers) == len(requests) and (not answers or holds(requests[-1], answers[-1]))


def _as_sent(action: PromiseSettle, promise: Promise | None) -> bool:
    if promise is None or promise.state != action.state:
        return False
    found, sent = promise.value, action.value
    return found is sent or (found.data == sent.data and _headers(found) == _headers(sent))


def _headers(value: Value) -> dict[str, str]:
    """What is said of the data; who gave it does not count."""
    headers = value.headers
    return {name: text for name, text in headers.items() if name != RAN} if headers else {}
