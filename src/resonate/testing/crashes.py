"""Crash at every checkpoint: what a function promises must hold wherever its worker dies.

A checkpoint is a batch of writes that reaches the service. The function is run once in
peace, which counts them, then twice for each: its worker is killed right before and right
after that batch is applied, and a second worker of the group recovers.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from msgspec import Struct

from resonate.function import Function
from resonate.protocol.records import PARENT, Promise
from resonate.testing import schemas
from resonate.testing.client import WorldClient
from resonate.testing.network import Crashed, CrashPoint
from resonate.testing.simulation import Simulation
from resonate.testing.trace import START, WRITE
from resonate.testing.world import World

ID = "checkpoint"
"""The id that the function runs under, in a world of its own each time."""


class CrashReport(Struct, frozen=True):
    """What `crash_at_every_checkpoint` saw.

    Args:
        checkpoints: batches of writes in the peaceful run.
        writes: what each of them wrote, in words.
        runs: how many crashes were tried.
        repeated: the steps that ran again after a crash because their result was not
            recorded, and in how many runs.
        result: what the function returned, or the exception it raised.
    """

    checkpoints: int
    writes: tuple[str, ...]
    runs: int
    repeated: dict[str, int]
    result: Any


class _Run(Struct):
    """One run: how it ended and what happened."""

    world: World
    outcome: tuple[Any, ...]
    batches: int
    crashed: bool
    steps: set[str]


def crash_at_every_checkpoint(
    func: Callable[..., Any] | Function[Any, Any],
    *args: Any,
    prepare: Callable[[WorldClient], object] | None = None,
    outside: Callable[[World], object] | None = None,
    seed: int | None = None,
    on_file: bool = False,
    url: str | None = None,
) -> CrashReport:
    """Run `func(ctx, *args)` once in peace and twice per checkpoint with a crash there.

    Args:
        func: a generator, plain or async function.
        *args: its arguments.
        prepare: called with each client before it starts: register what `func` calls by
            name, set dependencies, make the world outside of the functions fresh.
        outside: called once per world: what people and other systems do, by `world.after`.
        seed: run in a `Simulation` of that seed instead of in a fixed order.
        on_file: keep state in an SQLite file (a temporary one for each run), which is opened anew after the crash.
        url: keep state in this PostgreSQL database (`postgresql://...`), in a schema for each run, dropped at the end.

    Returns:
        What was seen.

    Raises:
        ValueError: `url` is of something else, or names a schema.
        AssertionError: a run ended otherwise than the peaceful one, a recorded step ran
            again, or a step started before an earlier result was durable; with everything
            that happened in that run.
    """
    plain = func.func if isinstance(func, Function) else func
    with _places(url, on_file=on_file) as places:
        return _crash_everywhere(_Runner(plain, args, prepare, outside, seed, places))


@contextmanager
def _places(url: str | None, *, on_file: bool) -> Iterator[Callable[[], dict[str, str]]]:
    """Gives, again and again, where the next world keeps its state; nothing of it is left at the end."""
    numbers = count()
    if url is not None:
        schemas.check(url)
        made: list[str] = []

        def in_schema() -> dict[str, str]:
            made.append(schemas.new_name())
            return {"url": schemas.in_schema(url, made[-1])}

        try:
            yield in_schema
        finally:
            schemas.drop(url, made)
    elif on_file:
        with tempfile.TemporaryDirectory(prefix="resonate-crashes-") as directory:
            yield lambda: {"file": f"{directory}/{next(numbers)}.db"}
    else:
        yield dict


def _crash_everywhere(run: _Runner) -> CrashReport:
    peaceful = run(None)
    _check(peaceful, peaceful, "the run without a crash")
    repeated: Counter[str] = Counter()
    runs = 0
    for batch in range(1, peaceful.batches + 1):
        for applied in (False, True):
            point = CrashPoint(batch, applied)
            crashed = run(point)
            if not crashed.crashed:
                continue
            runs += 1
            _check(crashed, peaceful, f"the run that crashed {point} of {peaceful.batches}")
            repeated.update(_repeated_steps(crashed))
    writes = tuple(event.detail for event in peaceful.world.trace.events if event.what == WRITE)
    return CrashReport(peaceful.batches, writes, runs, dict(repeated), peaceful.outcome[-1])


class _Runner:
    """Runs the function in a fresh world each time."""

    def __init__(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        prepare: Callable[[WorldClient], object] | None,
        outside: Callable[[World], object] | None,
        seed: int | None,
        places: Callable[[], dict[str, str]],
    ) -> None:
        self._places = places
        self._func = func
        self._args = args
        self._prepare = prepare
        self._outside = outside
        self._seed = seed

    def __call__(self, point: CrashPoint | None) -> _Run:
        place = self._places()
        with World(**place) if self._seed is None else Simulation(self._seed, **place) as world:  # type: ignore[arg-type]
            if self._outside is not None:
                self._outside(world)
            first = self._client(world)
            if point is not None:
                first.crash_at(point.batch, applied=point.applied)
            try:
                outcome = self._outcome(first)
                world.settle()
            except Crashed:
                first.crash()
                if place:
                    world.reopen()
                outcome = self._outcome(self._client(world))
                world.settle()
            return _Run(world, outcome, first.batches, first.crashed, _steps(world))

    def _client(self, world: World) -> WorldClient:
        client = world.client()
        if self._prepare is not None:
            self._prepare(client)
        if not client.knows(self._func):
            client.register(self._func)
        return client

    def _outcome(self, client: WorldClient) -> tuple[Any, ...]:
        try:
            return ("returned", client.run(ID, self._func, *self._args))
        except Exception as error:
            return ("raised", type(error), str(error), error)


def _check(run: _Run, peaceful: _Run, name: str) -> None:
    """Raise if `run` broke a promise or ended otherwise than the peaceful one."""
    problems = list(run.world.trace.violations)
    if run.outcome[:3] != peaceful.outcome[:3]:
        problems.append(f"it {_told(run.outcome)}, without a crash it {_told(peaceful.outcome)}")
    problems += [
        f"{id} ran {times} times although its worker crashed only once"
        for (id, _), times in run.world.trace.starts().items()
        if times > 2 and id in run.steps
    ]
    if problems:
        lines = [f"{name} is not as it should be:", *problems, "", "what happened:", run.world.trace.text()]
        raise AssertionError("\n".join(lines))


def _repeated_steps(run: _Run) -> set[str]:
    return {id for (id, _), times in run.world.trace.starts().items() if times > 1 and id in run.steps}


def _steps(world: World) -> set[str]:
    """The calls that made no durable calls of their own: those that a replay does not need to run."""
    parents = {row.promise.tags.get(PARENT) for row in world.storage.promises(None) if not _is_root(row.promise)}
    return {event.id for event in world.trace.events if event.what == START} - parents


def _is_root(promise: Promise) -> bool:
    return promise.tags.get(PARENT) == promise.id


def _told(outcome: tuple[Any, ...]) -> str:
    if outcome[0] == "returned":
        return f"returned {outcome[1]!r}"
    return f"raised {outcome[1].__name__}: {outcome[2]}"


__all__ = ["CrashReport", "crash_at_every_checkpoint"]
