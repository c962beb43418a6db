"""A whole tree as it is recorded: the document that an export writes, and how an import stores it.

In the document is everything that requests can show: each promise field for field, and the task
of each that a worker runs. What waits in between (callbacks, offers, leases) is not: the tasks
of an open tree are offered anew where it is stored, and the worker that takes one finds out
again what it waits for. Pure, like the machine: rows in, effects out.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from resonate.errors import UsageError
from resonate.protocol import validation
from resonate.protocol.footprint import Footprint
from resonate.protocol.records import (
    BRANCH,
    FULFILLED,
    HALTED,
    ORIGIN,
    PARENT,
    PENDING,
    TARGET,
    Promise,
    Task,
    Value,
)
from resonate.protocol.requests import PromiseCreate
from resonate.protocol.rows import Effect, PromiseRow, TaskRow, View
from resonate.protocol.steps import Rules, enter_pending, first_offer

FORMAT: Final = "resonate-tree/1"
"""Which document this is, and its version."""

PROMISES: Final = 100_000
"""Promises of one tree at most: it is stored in one transaction."""


class Tree(Struct, frozen=True, kw_only=True, rename="camel"):
    """A root with everything below it.

    Attributes:
        format: which kind of document this is.
        root: id of the promise at the top.
        exported_at: when it was read, milliseconds since the epoch, as the service had it.
        promises: the root first, the others in the order of their ids.
        tasks: of those promises that a worker runs, in the same order.
    """

    format: str
    root: str
    exported_at: int
    promises: tuple[Promise, ...]
    tasks: tuple[Task, ...] = ()


def dump(tree: Tree) -> bytes:
    """The document as JSON, one record in a line, so that two of them can be compared by eye."""
    head = {"format": tree.format, "root": tree.root, "exportedAt": tree.exported_at}
    promises, tasks = (b",\n".join(map(msgspec.json.encode, records)) for records in (tree.promises, tree.tasks))
    return msgspec.json.encode(head)[:-1] + b',"promises":[\n' + promises + b'\n],"tasks":[\n' + tasks + b"\n]}\n"


def load(text: bytes) -> Tree:
    """Read such a document.

    Raises:
        UsageError: it is none, or what it says cannot be; names the place.
    """
    try:
        found: Any = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"this is no exported execution: it is no JSON ({error})") from None
    if not isinstance(found, dict) or "format" not in found:
        raise UsageError("this is no exported execution: write one with `resonate export ID`")
    if found["format"] != FORMAT:
        raise UsageError(f"this is {found['format']!r}, and {FORMAT!r} is what can be read here: use the other version")
    try:
        tree = msgspec.convert(found, Tree)
    except (msgspec.ValidationError, RecursionError) as error:
        raise UsageError(f"this is no exported execution, or it was damaged: {error}") from None
    problem = _problem(tree)
    if problem is not None:
        raise UsageError(f"the exported execution {tree.root} was damaged: {problem}. Nothing was stored")
    return tree


def rows(tree: Tree) -> Footprint:
    """The rows that storing `tree` reads."""
    ids = {promise.id for promise in tree.promises}
    return Footprint(ids, set(), set(), created=set(ids))


def present(view: View, tree: Tree) -> list[str]:
    """The ids of `tree` that are taken already."""
    return [promise.id for promise in tree.promises if view.promise(promise.id) is not None]


def stored(tree: Tree, now: int, rules: Rules) -> list[Effect]:
    """What storing `tree` writes. The tasks of open promises are offered, but for halted ones."""
    effects: list[Effect] = []
    tasks = {task.id: task for task in tree.tasks}
    for promise in tree.promises:
        effects.append(PromiseRow(promise))
        if TARGET in promise.tags:
            _store_task(promise, tasks.get(promise.id), now, rules, effects)
    return effects


def _store_task(promise: Promise, task: Task | None, now: int, rules: Rules, effects: list[Effect]) -> None:
    row = TaskRow(promise.id, FULFILLED, 0 if task is None else task.version, promise.tags[TARGET])
    if promise.state != PENDING:
        effects.append(row)
    elif task is not None and task.state == HALTED:
        effects.append(replace(row, state=HALTED))
    elif row.version == 0:
        first_offer(rules, promise, now, effects)
    else:
        enter_pending(rules, row, promise, now, effects)


# What cannot be in a tree that somebody exported.


def _problem(tree: Tree) -> str | None:
    promises = {promise.id: promise for promise in tree.promises}
    root = promises.get(tree.root)
    if root is None:
        return f"there is no promise {tree.root!r} in it"
    if root.tags.get(PARENT, root.id) != root.id:
        return f"{tree.root!r} is no root: its parent is {root.tags[PARENT]!r}"
    if len(tree.promises) > PROMISES:
        return f"it has {len(tree.promises):,} promises, {PROMISES:,} can be stored at once"
    for what, ids in (("promise", [p.id for p in tree.promises]), ("task", [task.id for task in tree.tasks])):
        twice = [id for id, count in Counter(ids).items() if count > 1]
        if twice:
            return f"{what} {twice[0]!r} is in it twice"
    for promise in tree.promises:
        problem = _bad_promise(promise, tree.root)
        if problem is not None:
            return f"promise {promise.id!r}: {problem}"
    for task in tree.tasks:
        problem = _bad_task(task, promises.get(task.id))
        if problem is not None:
            return f"task {task.id!r}: {problem}"
    return None


def _bad_promise(promise: Promise, root: str) -> str | None:
    if promise.id != root and promise.tags.get(ORIGIN) != root:
        return f"it is of another root: {promise.tags.get(ORIGIN)!r}"
    others = {name: text for name, text in promise.tags.items() if name not in (ORIGIN, BRANCH, PARENT)}
    problem = validation.check(PromiseCreate(promise.id, promise.timeout_at, promise.param, others))
    if problem is not None:
        return problem
    if (promise.state == PENDING) != (promise.settled_at is None):
        return f"it is {promise.state}, and settledAt is {promise.settled_at}"
    if promise.state == PENDING and promise.value != Value():
        return "it is pending, and has a value"
    instants = (promise.created_at, promise.created_at if promise.settled_at is None else promise.settled_at)
    if not all(0 <= instant <= validation.MAX_INT for instant in instants):
        return f"createdAt and settledAt must be from 0 to 2^63 - 1, got {instants}"
    return None


def _bad_task(task: Task, promise: Promise | None) -> str | None:
    if promise is None or TARGET not in promise.tags:
        return "there is no promise of that id that a worker runs"
    if not 0 <= task.version <= validation.MAX_INT:
        return f"version must be from 0 to 2^63 - 1, got {task.version}"
    if (task.state == FULFILLED) != (promise.state != PENDING):
        return f"it is {task.state}, and its promise {promise.state}"
    return None
