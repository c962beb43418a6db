"""A store as a user would write one: classes of its own around a `LocalStore`, with the old protocol's surface.

It knows nothing of the client's inside. Task ids have the form that official stores give
them; every call is counted, and any method can be told to fail.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from resonate.encoders import Base64Encoder
from resonate.errors import ResonateStoreError
from resonate.stores import LocalStore


class OwnPart:
    """The promises, tasks or schedules of an `OwnStore`: passes calls on, counted."""

    def __init__(self, name: str, inner: Any, store: OwnStore) -> None:
        self._name = name
        self._inner = inner
        self._store = store

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(**given: Any) -> Any:
            return self._store.call(f"{self._name}.{method}", getattr(self._inner, method), given)

        return call


class OwnTasks(OwnPart):
    """Tasks, under ids that are not those of their promises."""

    def claim(self, *, id: str, counter: int, pid: str, ttl: int) -> Any:
        return self._store.call(
            "tasks.claim",
            self._inner.claim,
            {"id": id.removeprefix("__invoke:"), "counter": counter, "pid": pid, "ttl": ttl},
        )

    def complete(self, *, id: str, counter: int) -> Any:
        return self._store.call(
            "tasks.complete", self._inner.complete, {"id": id.removeprefix("__invoke:"), "counter": counter}
        )


class OwnStore:
    """A user's store.

    Attributes:
        calls: how often each method was called, `promises.create` for example.
        failing: by method, what to raise for the next calls, in order; None lets one pass.
        lost: methods whose next call is carried out and whose answer is then lost.
        dead: nothing gets through any more, in either direction; see `die`.
    """

    def __init__(self, world: LocalStore | None = None) -> None:
        self.world = LocalStore() if world is None else world
        self.calls: Counter[str] = Counter()
        self.log: list[tuple[str, dict[str, Any]]] = []
        self.failing: dict[str, list[Exception | None]] = {}
        self.lost: list[str] = []
        self.dead = False
        self._sources: list[OwnSource] = []
        self._fails_at: tuple[int, bool] | None = None
        self._lock = threading.Lock()
        self.encoder = Base64Encoder()
        self.promises: Any = OwnPart("promises", self.world.promises, self)
        self.tasks: Any = OwnTasks("tasks", self.world.tasks, self)
        self.schedules: Any = OwnPart("schedules", self.world.schedules, self)

    def fail_at(self, number: int, lost: bool) -> None:
        """Have the call of this number (from 0) fail, either before it is carried out or after."""
        self._fails_at = (number, lost)

    def die(self) -> None:
        """Cut the process of this store off: its calls fail, and no message is given to it, only to the others."""
        self.dead = True
        for source in self._sources:
            source.stop()

    def call(self, name: str, method: Callable[..., Any], given: dict[str, Any]) -> Any:
        if self.dead:
            raise ResonateStoreError("no connection", 0)
        with self._lock:
            error = self.failing[name].pop(0) if self.failing.get(name) else None
            lost = name in self.lost
            if lost:
                self.lost.remove(name)
            if self._fails_at is not None and self._fails_at[0] == len(self.log):
                lost = self._fails_at[1]
                error = None if lost else ResonateStoreError("no connection", 0)
            self.calls[name] += 1
            self.log.append((name, given))
        if error is not None:
            raise error
        answer = method(**given)
        if lost:
            raise ResonateStoreError(f"the answer to {name} was lost", 0)
        return answer

    def source(self, group: str = "default", id: str = "p1") -> OwnSource:
        """Where a client hears from this store."""
        source = OwnSource(self, group, id)
        self._sources.append(source)
        return source


class OwnSource:
    """A user's message source."""

    def __init__(self, store: OwnStore, group: str, id: str) -> None:
        self._store = store
        self._inner = store.world.message_source(group, id)
        self.started = 0
        self.stopped = 0
        self.failing: list[Exception] = []

    @property
    def unicast(self) -> str:
        return self._inner.unicast

    @property
    def anycast(self) -> str:
        return self._inner.anycast

    def start(self) -> None:
        self.started += 1
        self._inner.start()

    def stop(self) -> None:
        self.stopped += 1
        self._inner.stop()

    def enqueue(self, mesg: Any) -> None:
        self._inner.enqueue(mesg)

    def next(self) -> Any:
        if self.failing:
            raise self.failing.pop(0)
        mesg = self._inner.next()
        if mesg is not None and mesg["type"] in ("invoke", "resume"):
            task = mesg["task"]
            id = task["id"] if task["id"].startswith("__") else f"__invoke:{task['id']}"
            return {"type": mesg["type"], "task": {"id": id, "counter": task["counter"]}}
        return mesg
