"""What a process knows of an origin, and for how long it is right: as long as the origin's version stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resonate.protocol.ids import origin_of
from resonate.protocol.records import BRANCH, Promise, Schedule
from resonate.protocol.rows import PromiseRow, TaskRow
from resonate.protocol.trees import is_below, ranges
from resonate.storage import codec
from resonate.storage.postgres.statements import FORESEEN, ORIGIN, PROMISE, SEND, TASK


class Tree:
    """What is known of one origin, as of one version; `version` None: it is not there.

    `whole` holds, for a promise below which everything is known, the ids there: all others are absent.
    """

    __slots__ = ("guessed", "origin", "promises", "schedules", "tasks", "version", "whole")

    def __init__(self, origin: str, version: int | None, guessed: bool = False) -> None:
        self.origin = origin
        self.version = version
        self.guessed = guessed
        self.promises: dict[str, PromiseRow | None] = {}
        self.tasks: dict[str, TaskRow | None] = {}
        self.schedules: dict[str, Schedule | None] = {}
        self.whole: dict[str, set[str]] = {origin: set()} if version is None else {}

    def knows(self, id: str) -> bool:
        """Whether the promise `id` and its task need not be read."""
        return self.version is None or id in self.promises or self.absent(id)

    def absent(self, id: str) -> bool:
        """Whether nothing is stored under `id`, for all we know."""
        if self.version is None:
            return id not in self.promises
        origin = origin_of(id)
        for top, ids in self.whole.items():  # noqa: SIM110 - several times a step, and a generator costs a microsecond
            if id not in ids and (top == origin or is_below(id, top)):
                return True
        return False


Foreseen = dict[str, tuple[Tree, dict[str, dict[str, Promise]]]]
"""For each origin what is known of it, and the promises of branches of it that were read whole."""


def foreseen(rows: Sequence[tuple[Any, ...]]) -> tuple[dict[str, Tree], dict[str, dict[str, dict[str, Promise]]]]:
    """What was read with offers (`hide_and_read`): for each origin its tree, and its branches that are complete."""
    trees = {origin: Tree(origin, version) for what, origin, _, _, version, _ in rows if what == ORIGIN}
    for what, origin, id, state, _, body in rows:
        if origin not in trees:  # deleted meanwhile
            continue
        if what == PROMISE:
            trees[origin].promises[id] = codec.decode_promise(id, state, body)
        elif what == TASK:
            trees[origin].tasks[id] = codec.decode_task(id, state, body)
    branches: dict[str, dict[str, dict[str, Promise]]] = {}
    for what, origin, id, _, _, _ in rows:
        if what == SEND and origin in trees:
            _complete(trees[origin], origin, id, branches.setdefault(origin, {}))
    for tree in trees.values():
        for id in tree.promises:
            tree.tasks.setdefault(id, None)
    return trees, branches


def _complete(tree: Tree, origin: str, id: str, branches: dict[str, dict[str, Promise]]) -> None:
    """Note that all below `id` is known, if it is, and the branch that begins there."""
    spans = ranges(id)
    below = {other for other in tree.promises if any(first < other < end for first, end in spans)}
    own = tree.promises.get(id)
    if len(below) > FORESEEN:
        for other in below:  # some of them
            del tree.promises[other]
        for other in [other for other in tree.tasks if any(first < other < end for first, end in spans)]:
            del tree.tasks[other]
        return
    tree.promises.setdefault(origin, None)
    tree.whole[id] = {id, *below}
    if own is not None and own.promise.tags.get(BRANCH) == id:
        rows = (tree.promises[other] for other in tree.whole[id])
        branches[id] = {row.promise.id: row.promise for row in rows if row and row.promise.tags.get(BRANCH) == id}


__all__ = ["Foreseen", "Tree", "foreseen"]
