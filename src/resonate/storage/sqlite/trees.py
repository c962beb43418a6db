"""The trees of one file, as purging asks for them; each call is inside a transaction of the caller's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from resonate.protocol.records import Promise
from resonate.protocol.trees import ranges
from resonate.storage import codec
from resonate.storage.sqlite.connection import Connection

PAGE: Final = 500
"""Rows that a walk through a tree reads at once."""

_OVER: Final = "SELECT id FROM resonate_promises WHERE over < ? ORDER BY over LIMIT ?"
_PUT_OFF: Final = "UPDATE resonate_promises SET over = ? WHERE id = ?"
_ROW: Final = "SELECT id, state, body FROM resonate_promises WHERE id = ?"
_BELOW: Final = "SELECT id FROM resonate_promises WHERE id > ? AND id < ? AND stray_of IS NULL ORDER BY id LIMIT ?"
_SUSPECTS: Final = (
    "SELECT id, state, body FROM resonate_promises "
    "WHERE id > ? AND id < ? AND stray_of IS NULL AND (state = 'pending' OR over IS NOT NULL) ORDER BY id LIMIT ?"
)
# a page is ordered by all that tells rows apart, for the next one to go on behind it
_STRAYS: Final = "SELECT id FROM resonate_promises WHERE stray_of = ? AND id > ? ORDER BY id LIMIT ?"
_STRAYS_BELOW: Final = (
    "SELECT id, stray_of FROM resonate_promises WHERE (stray_of, id) > (?, ?) AND stray_of < ? "
    "ORDER BY stray_of, id LIMIT ?"
)
_NEWS: Final = "SELECT 1 FROM resonate_outbox WHERE id = ? AND kind = 'unblock' LIMIT 1"
_DELETE_OFFERS: Final = "DELETE FROM resonate_outbox WHERE kind != 'unblock' AND id IN (SELECT value FROM json_each(?))"
_DELETE_MESSAGES: Final = "DELETE FROM resonate_outbox WHERE id IN (SELECT value FROM json_each(?))"
_DELETE: Final = (
    "DELETE FROM resonate_tasks WHERE id IN (SELECT value FROM json_each(?))",
    "DELETE FROM resonate_promises WHERE id IN (SELECT value FROM json_each(?))",
    "DELETE FROM resonate_executions WHERE id IN (SELECT value FROM json_each(?))",
    "DELETE FROM resonate_labels WHERE id IN (SELECT value FROM json_each(?))",
)


class SqliteTrees:
    """See `storage.trees.Trees`.

    Args:
        connection: to the file.
        forget: told the ids of what is being deleted.
    """

    def __init__(self, connection: Connection, forget: Callable[[Sequence[str]], None]) -> None:
        self.checked: str | None = None
        self._forget = forget
        self._execute = connection.execute

    def over(self, before: int, limit: int) -> Iterator[str]:
        for (id,) in self._execute(_OVER, (before, limit)):
            yield id

    def put_off(self, root: str, until: int) -> None:
        self._execute(_PUT_OFF, (until, root))

    def suspects(self, root: str) -> Iterator[Promise]:
        for anchor in self._anchors(root):
            for row in self._execute(_ROW, (anchor,)):
                yield codec.decode_promise(*row).promise
            for first, end in ranges(anchor):
                for row in self._pages(_SUSPECTS, first, end):
                    yield codec.decode_promise(*row).promise

    def tree(self, root: str) -> Iterator[str]:
        for anchor in self._anchors(root):
            for first, end in ranges(anchor):
                for (id,) in self._pages(_BELOW, first, end):
                    yield id
            yield anchor

    def has_news(self, root: str) -> bool:
        return bool(self._execute(_NEWS, (root,)))

    def delete(self, ids: Sequence[str], *, keep_news: bool = False) -> None:
        if ids:
            names = msgspec.json.encode(ids).decode()
            for statement in (_DELETE_OFFERS if keep_news else _DELETE_MESSAGES, *_DELETE):
                self._execute(statement, (names,))
            self._forget(ids)

    def _anchors(self, root: str) -> Iterator[str]:
        """The root and all strays of its tree, each after the strays below it."""
        seen = {root}
        path = [(root, self._strays(root))]
        while path:
            anchor, strays = path[-1]
            stray = next(strays, None)
            if stray is None:
                path.pop()
                yield anchor
            elif stray not in seen:
                seen.add(stray)
                path.append((stray, self._strays(stray)))

    def _strays(self, anchor: str) -> Iterator[str]:
        """The strays of `anchor` and of what its ranges hold."""
        after = ""  # no id is empty
        while page := self._execute(_STRAYS, (anchor, after, PAGE)):
            yield from (id for (id,) in page)
            after = page[-1][0]
        for first, end in ranges(anchor):
            above, after = first, ""
            while page := self._execute(_STRAYS_BELOW, (above, after, end, PAGE)):
                yield from (id for id, _ in page)
                after, above = page[-1]

    def _pages(self, statement: str, first: str, end: str) -> Iterator[tuple[Any, ...]]:
        while True:
            page = self._execute(statement, (first, end, PAGE))
            yield from page
            if len(page) < PAGE:
                return
            first = page[-1][0]
