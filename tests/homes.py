"""What the tests of durable functions share: homes to run them in, and eviction on purpose."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import pytest

from resonate import Resonate
from resonate.worker.worker import Worker
from tests import places

every_home = pytest.mark.parametrize(
    ("place", "kind", "evict"),
    [
        *(("memory", kind, evict) for kind in ("threads", "world") for evict in (False, True)),
        # elsewhere only what differs most: threads, and everything read anew
        pytest.param("sqlite", "threads", True, marks=pytest.mark.slow),
        pytest.param("postgres", "threads", True, marks=pytest.mark.slow),
    ],
    indirect=["place"],
)
"""For tests that use a `Home`."""

PATIENCE = 20.0
"""Real seconds after which something that other threads should bring about counts as lost."""


def named(value: object) -> str:
    """`value` in the name of a test, which is the same in every process: no addresses, sets in order."""
    text = str(sorted(map(repr, value))) if isinstance(value, set | frozenset) else repr(value)
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that other threads bring about."""
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit, "it never happened"
        time.sleep(0.0005)


class Home:
    """A client, on threads or in a world, whose suspended executions stay warm or are evicted.

    Args:
        kind: "threads" or "world".
        evict: whether `suspended` closes the frames, so that what follows is a replay.
    """

    def __init__(self, kind: str, evict: bool = False) -> None:
        self.evict = evict
        self.world = places.world() if kind == "world" else None
        self.client: Resonate = Resonate(workers=2) if self.world is None else self.world.client()

    @property
    def worker(self) -> Worker:
        return self.client._core.started()

    def suspended(self, id: str, awaiting: str | None = None) -> None:
        """Return once `id` has suspended; its frames are gone then if this home evicts.

        Args:
            awaiting: a promise that it makes before; it may suspend for other reasons earlier.
        """
        worker = self.worker
        storage = worker.network.service.storage  # type: ignore[attr-defined]
        if self.world is not None:
            self.world.settle()
            if awaiting is not None:
                self.world.run_until(lambda: storage.promise(awaiting) is not None)
                self.world.settle()
        until(lambda: awaiting is None or storage.promise(awaiting) is not None)

        def rests() -> bool:
            held = worker.warm.get(id)
            if held is None or not held.suspended or held.writing.locked():
                return False
            return bool(storage.task(id).state == "suspended")  # and nothing has woken it again yet

        until(rests)
        if self.evict:
            self.close(id)

    def close(self, id: str) -> None:
        """Evict the suspended execution `id`."""
        worker = self.worker

        def evicted() -> bool:
            held = worker.warm.get(id)
            if held is not None:
                worker.evict(held)
            return id not in worker.warm

        until(evicted)

    def resolve(self, id: str, data: str | None = None) -> None:
        """Settle a promise as somebody outside does."""
        self.client.promises.resolve(id, data=data)

    def start(self, id: str, func: Callable[..., Any], *args: Any) -> Any:
        """Register `func` and begin it."""
        self.client.register(func)
        return self.client.begin_run(id, func, *args)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.stop()
        if self.world is not None:
            self.world.stop()
