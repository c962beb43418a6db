"""All that is below a promise, asked for in requests: in one of ours where the service knows it, else by search.

Our request finds a tree by the ids in it. A search for a tag reads every promise that there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from resonate.errors import ResonateStoreError
from resonate.protocol.records import ORIGIN, PARENT, Promise
from resonate.protocol.requests import ExecutionTree, PromiseSearch, Request, Response
from resonate.protocol.trees import stray_of

PAGE: Final = 1000
"""Promises asked for at once: as many as a search may give."""

TOGETHER: Final = 200
"""Parts of a tree that are asked for at once."""

UNKNOWN: Final = frozenset((400, 404, 501))
"""Statuses by which a service says that it does not know a kind of request."""

Send = Callable[[Sequence[Request]], list[Response]]


def descend(send: Send, id: str, origin: str | None = None) -> Iterator[list[Promise]]:
    """The promises below `id`, itself among them if it is there, page by page, each once.

    Args:
        send: carries requests.
        id: of any promise.
        origin: the root of its tree, if it is not one itself; a search finds all of that one.

    Raises:
        ResonateStoreError: the service cannot search.
    """
    seen: set[str] = set()
    waiting = [ExecutionTree(id, PAGE)]
    while waiting:
        asked, waiting = waiting[:TOGETHER], waiting[TOGETHER:]
        answers = send(asked)
        for request, answer in zip(asked, answers, strict=True):
            if answer.promises is None:
                if not seen and answer.status in UNKNOWN:
                    yield from _searched(send, origin or id)
                    return
                raise ResonateStoreError(f"{request.id} cannot be read: {answer.error}", answer.status * 100)
            new = [promise for promise in answer.promises if promise.id not in seen]
            seen.update(promise.id for promise in new)
            strays = {promise.id for promise in new if stray_of(promise) is not None and promise.id != id}
            page = [promise for promise in new if promise.id not in strays or promise.tags.get(PARENT, "") in seen]
            waiting += [ExecutionTree(promise.id, PAGE) for promise in page if promise.id in strays]
            if answer.cursor is not None:
                waiting.insert(0, ExecutionTree(request.id, PAGE, answer.cursor))
            yield page


def _searched(send: Send, origin: str) -> Iterator[list[Promise]]:
    cursor = None
    while True:
        (answer,) = send([PromiseSearch(tags={ORIGIN: origin}, limit=PAGE, cursor=cursor)])
        if answer.promises is None:
            raise ResonateStoreError(f"promises cannot be searched for here: {answer.error}", 500)
        yield list(answer.promises)
        cursor = answer.cursor
        if cursor is None:
            return
