"""Deleting whole finished trees, a bounded number of rows at a time.

A storage says where its trees are (`Trees`); what may go, and in which order, is said once,
here and in `protocol.trees`. Of a tree too large for one batch the root goes last, so that
its id is never taken for a fresh one while anything of it is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol

from resonate.protocol.records import Promise
from resonate.protocol.rows import is_live
from resonate.protocol.trees import NEWS_KEPT, holds_back


class Trees(Protocol):
    """What purging asks of a storage, inside one of its transactions."""

    checked: str | None
    """The root of the tree that the last batch began to delete and could not finish; `purge` keeps it here."""

    def over(self, before: int, limit: int) -> Iterable[str]:
        """Up to `limit` roots that were over before `before`, or put off until then; the oldest first."""

    def put_off(self, root: str, until: int) -> None:
        """`over` is not to offer `root` before `until`."""

    def suspects(self, root: str) -> Iterable[Promise]:
        """The promises of a tree that may hold it back: all that are stored as pending, and all roots among them."""

    def tree(self, root: str) -> Iterator[str]:
        """The ids of a tree; whatever is needed to find others comes after them, the root last."""

    def has_news(self, root: str) -> bool:
        """Whether the outbox holds news of `root` that nobody has taken."""

    def delete(self, ids: Sequence[str], *, keep_news: bool = False) -> None:
        """Delete promises with their tasks and messages.

        News that nobody has taken yet may stay: it holds the promise, and whoever waits elsewhere still hears of it.
        """


def purge(trees: Trees, before: int, now: int, limit: int) -> int:
    """Delete up to `limit` promises of finished trees; how many were deleted, or put off for one `before` more.

    0 means that nothing is left to do for now.
    """
    checked, trees.checked = trees.checked, None
    found: dict[str, None] = {}
    put_off = 0
    for root in trees.over(before, limit):
        if root != checked and _stays(trees, root, before, now):
            trees.put_off(root, now)
            put_off += 1
            continue
        known = len(found)
        found.update(dict.fromkeys(islice(trees.tree(root), limit - known)))
        if len(found) >= limit:
            if root not in found and len(found) > known:
                trees.checked = root
            break
    trees.delete(list(found))
    return len(found) + put_off


def drop(trees: Trees, root: str, now: int, limit: int) -> Promise | bool:
    """Delete up to `limit` promises of the tree of `root`, however young; whether that was all, or what is live."""
    live = next((promise for promise in trees.suspects(root) if is_live(promise, now)), None)
    if live is not None:
        return live
    ids = list(islice(trees.tree(root), limit))
    trees.delete(ids, keep_news=True)
    return root in ids


def _stays(trees: Trees, root: str, before: int, now: int) -> bool:
    if before > now - NEWS_KEPT and trees.has_news(root):
        return True
    return any(holds_back(promise, before, now) for promise in trees.suspects(root))
