"""The trees of a memory storage: where each promise stands, and which roots are over.

Kept only once something is to be deleted, so that a program without retention pays nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence

from resonate.protocol.ids import origin_of
from resonate.protocol.records import PENDING, Promise
from resonate.protocol.rows import PromiseRow
from resonate.protocol.trees import is_below, is_root, over_at, stray_of


class Filing:
    """Ids, filed under a key in the order of trees: what is below a key is found without looking at the rest."""

    def __init__(self) -> None:
        self._origins: dict[str, dict[str, dict[str, str]]] = {}

    def add(self, key: str, id: str) -> None:
        self._origins.setdefault(origin_of(key), {}).setdefault(_cell(key), {})[id] = key

    def remove(self, key: str, id: str) -> None:
        origin, name = origin_of(key), _cell(key)
        cells = self._origins[origin]
        cells[name].pop(id, None)
        if not cells[name]:
            del cells[name]
            if not cells:
                del self._origins[origin]

    def all_of(self, id: str) -> Iterator[tuple[str, str]]:
        """All ids with their keys that are filed under the origin of `id`."""
        cells = self._origins.get(origin_of(id), {})
        return (pair for cell in cells.values() for pair in cell.items())

    def at(self, anchor: str) -> Iterator[str]:
        """The ids filed under `anchor` or what is below it."""
        cells = self._origins.get(origin_of(anchor), {})
        near = cells.values() if ":" not in anchor else [cells.get(_cell(anchor), {})]
        return (id for cell in near for id, key in cell.items() if key == anchor or is_below(key, anchor))


class MemoryTrees:
    """See `storage.trees.Trees`.

    Args:
        promises: the rows of the storage.
        forget: deletes the rows of these ids, but for news if the second argument says so.
        has_news: whether news of a promise is in the outbox.
    """

    def __init__(
        self,
        promises: Mapping[str, PromiseRow],
        forget: Callable[[Sequence[str], bool], None],
        has_news: Callable[[str], bool],
    ) -> None:
        self.checked: str | None = None
        self.has_news = has_news
        self._promises = promises
        self._forget = forget
        self._plain = Filing()  # under their own ids
        self._strays = Filing()  # under what they are strays of
        self._over: list[tuple[int, str]] = []

    def put(self, promise: Promise, new: bool) -> None:
        """A promise was created or has changed."""
        id = promise.id
        if new:
            filing, key = self._place(promise)
            filing.add(key, id)
        over = over_at(promise)
        if over is not None:
            heapq.heappush(self._over, (over, id))

    def over(self, before: int, limit: int) -> Iterator[str]:
        heap = self._over
        while heap and heap[0][0] < before and limit:
            id = heap[0][1]
            if id in self._promises:
                yield id
                limit -= 1
            heapq.heappop(heap)

    def put_off(self, root: str, until: int) -> None:
        heapq.heappush(self._over, (until, root))

    def suspects(self, root: str) -> Iterator[Promise]:
        for id in self.tree(root):
            row = self._promises.get(id)
            if row is None:
                continue
            promise = row.promise
            if promise.state == PENDING or is_root(promise):
                yield promise

    def tree(self, root: str) -> Iterator[str]:
        seen = {root}
        path = [(root, self._strays.at(root))]
        while path:
            anchor, strays = path[-1]
            stray = next(strays, None)
            if stray is None:
                path.pop()
                yield from (id for id in self._plain.at(anchor) if id != anchor)
                yield anchor
            elif stray not in seen:
                seen.add(stray)
                path.append((stray, self._strays.at(stray)))

    def below(self, anchor: str) -> Iterator[str]:
        """The ids that say that they are below `anchor`."""
        return (id for id in self._plain.at(anchor) if id != anchor)

    def strays(self, first: str, last: str) -> Iterator[str]:
        """The strays of the promises from `first` to `last`, which are in one tree."""
        return (id for id, key in self._strays.all_of(first) if first <= key <= last)

    def delete(self, ids: Sequence[str], *, keep_news: bool = False) -> None:
        for id in ids:
            row = self._promises.get(id)
            if row is not None:
                filing, key = self._place(row.promise)
                filing.remove(key, id)
        self._forget(ids, keep_news)

    def _place(self, promise: Promise) -> tuple[Filing, str]:
        above = stray_of(promise)
        return (self._plain, promise.id) if above is None else (self._strays, above)


def _cell(id: str) -> str:
    """The part of an id up to the end of its first number: `order-7:2` of `order-7:2.1`."""
    origin, colon, below = id.partition(":")
    return f"{origin}{colon}{below.partition('.')[0].partition(':')[0]}"
