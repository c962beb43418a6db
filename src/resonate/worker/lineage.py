"""Which calls of an async function belong to which of its asyncio tasks.

An async function may run several chains of calls at once (`gather`, `TaskGroup`). Each
asyncio task has a number space of its own, keyed by the lineage of the task that created
it, the name of its coroutine and how many of that name came before, so that ids depend on
the code alone, never on which chain ran first. The lineage is fixed when the task is
created, by a task factory put before the loop's own.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from resonate.worker.track import Track

_ODD: Final = re.compile(r"[^A-Za-z0-9_]+")


class Lineage:
    """One asyncio task of a durable async function."""

    __slots__ = ("_children", "_count", "prefix", "task", "track")

    def __init__(self, track: Track, prefix: str) -> None:
        self.track = track
        self.prefix = prefix
        self.task: asyncio.Task[Any] | None = None
        self._count = 0
        self._children: dict[str, int] | None = None

    def next_id(self) -> str:
        """The id of the next call that this task makes."""
        self._count += 1
        return f"{self.prefix}{self._count}"

    @property
    def used(self) -> bool:
        """Whether the task has made a durable call."""
        return self._count > 0

    def child(self, name: str) -> Lineage:
        """The lineage of a task that this one creates now."""
        if self._children is None:
            self._children = {}
        name = _ODD.sub("_", name).strip("_") or "task"
        n = self._children[name] = self._children.get(name, 0) + 1
        return Lineage(self.track, f"{self.prefix}{name}-{n}.")


CURRENT: Final[ContextVar[Lineage | None]] = ContextVar("resonate_lineage", default=None)


def current() -> Lineage | None:
    """The lineage of the running asyncio task; None in callbacks and outside durable functions."""
    lineage = CURRENT.get()
    if lineage is None or asyncio.current_task() is not lineage.task:
        return None
    return lineage


Factory = Callable[..., "asyncio.Future[Any]"]


def install(loop: asyncio.AbstractEventLoop) -> None:
    """Put our task factory before the loop's own; once per loop."""
    before: Any = loop.get_task_factory()
    if getattr(before, "fixes_lineage", False):
        return

    def create(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **kwargs: Any) -> Any:
        parent = current()
        if parent is None:
            return _make(before, loop, coro, kwargs)
        lineage = parent.child(getattr(coro, "__name__", "task"))
        context = kwargs.pop("context", None)
        context = copy_context() if context is None else context.copy()
        context.run(CURRENT.set, lineage)
        task = _make(before, loop, coro, {**kwargs, "context": context})
        lineage.task = task
        parent.track.add(task, lineage)
        return task

    create.fixes_lineage = True  # type: ignore[attr-defined]
    loop.set_task_factory(create)  # type: ignore[arg-type]


def _make(before: Factory | None, loop: asyncio.AbstractEventLoop, coro: Any, kwargs: dict[str, Any]) -> Any:
    if before is not None:
        return before(loop, coro, **kwargs)
    return asyncio.Task(coro, loop=loop, **kwargs)
