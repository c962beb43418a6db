"""Which calls of an async function belong to which of its asyncio tasks.

An async function may run several chains of calls at once (`gather`, `TaskGroup`). Each
asyncio task has a number space of its own, keyed by the lineage of the task that created
it, the name of its coroutine and how many of that name came before, so that ids depend on
the code alone, never on which chain ran first. The lineage is fixed when the task is
created, by a task factory put before the loop's own. `asyncio.as_completed` makes a set of
what it is given before it creates tasks, so that their order is chance; these are numbered
as a crowd, in the order they were given or, where that is gone, by their arguments.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from types import CodeType
from typing import TYPE_CHECKING, Any, Final

from resonate.values import digest

if TYPE_CHECKING:
    from resonate.worker.track import Track

_ODD: Final = re.compile(r"[^A-Za-z0-9_]+")


_FRAMES: Final = 6
"""How far above our task factory `as_completed` can stand: create_task, ensure_future, a comprehension."""


class Lineage:
    """One asyncio task of a durable async function."""

    __slots__ = ("_children", "_crowd", "_opened", "_prefix", "count", "task", "track")

    def __init__(self, track: Track, prefix: str, crowd: Crowd | None = None) -> None:
        self.track = track
        self.task: asyncio.Task[Any] | None = None
        self._prefix = prefix
        self._crowd = crowd
        self._opened: Crowd | None = None
        self.count = 0
        """Calls that it has made."""
        self._children: dict[str, int] | None = None

    @property
    def prefix(self) -> str:
        """What the numbers of its calls are appended to."""
        if self._crowd is not None:
            self._crowd.number()
        return self._prefix

    def next_id(self) -> str:
        """The id of the next call that this task makes."""
        self.count += 1
        return f"{self.prefix}{self.count}"

    @property
    def used(self) -> bool:
        """Whether the task has made a durable call."""
        return self.count > 0

    def child(self, coro: Any) -> Lineage:
        """The lineage of a task that this one creates now, to run `coro`."""
        name = _ODD.sub("_", getattr(coro, "__name__", "task")).strip("_") or "task"
        crowd, self._opened = self._opened, _crowd(self, self._opened)
        if crowd is not None and crowd is not self._opened:
            crowd.number()
        if self._opened is not None:
            return self._opened.add(coro, name)
        return Lineage(self.track, self.numbered(name))

    def numbered(self, name: str) -> str:
        """The prefix of the next task of that name."""
        if self._children is None:
            self._children = {}
        n = self._children[name] = self._children.get(name, 0) + 1
        return f"{self.prefix}{name}-{n}."

    def join_crowd(self, prefix: str) -> None:
        """The crowd that this one is of has been numbered."""
        self._prefix, self._crowd = prefix, None


class Crowd:
    """The tasks that one `as_completed` creates; complete before any of them runs."""

    __slots__ = ("_members", "_parent", "_places", "frame")

    def __init__(self, parent: Lineage, frame: int, given: Any) -> None:
        self.frame = frame
        self._parent = parent
        self._places = {id(each): at for at, each in enumerate(given)} if isinstance(given, list | tuple) else {}
        self._members: list[tuple[int, str, int, str, Lineage]] = []

    def add(self, coro: Any, name: str) -> Lineage:
        """The lineage of one of them; it gets its number together with the others."""
        lineage = Lineage(self._parent.track, "", self)
        place = self._places.get(id(coro), -1)
        self._members.append((place, _arguments(coro) if place < 0 else "", len(self._members), name, lineage))
        return lineage

    def number(self) -> None:
        """Number all of them, in an order that depends on the code alone."""
        members, self._members = sorted(self._members, key=lambda member: member[:3]), []
        for *_, name, lineage in members:
            lineage.join_crowd(self._parent.numbered(name))


def _crowd(parent: Lineage, opened: Crowd | None) -> Crowd | None:
    """The crowd that is being created, if it is `as_completed` that creates the task."""
    frame = sys._getframe(3)
    for _ in range(_FRAMES):
        if frame.f_code in _AS_COMPLETED:
            if opened is not None and opened.frame == id(frame):
                return opened
            names = frame.f_locals
            return Crowd(parent, id(frame), names.get("fs", names.get("aws")))
        if frame.f_back is None:
            break
        frame = frame.f_back
    return None


def _arguments(coro: Any) -> str:
    frame = getattr(coro, "cr_frame", None)
    return digest(tuple(frame.f_locals.values()), {}) if frame is not None else ""


def _codes() -> frozenset[CodeType]:
    iterator = getattr(asyncio.tasks, "_AsCompletedIterator", None)  # since 3.13
    made_by = asyncio.as_completed if iterator is None else iterator.__init__
    return frozenset((made_by.__code__,))


_AS_COMPLETED: Final = _codes()

CURRENT: Final[ContextVar[Lineage | None]] = ContextVar("resonate_lineage", default=None)


def current() -> Lineage | None:
    """The lineage of the running asyncio task; None in callbacks, other threads and outside durable functions."""
    lineage = CURRENT.get()
    if lineage is None or asyncio._get_running_loop() is None or asyncio.current_task() is not lineage.task:
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
        lineage = parent.child(coro)
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
