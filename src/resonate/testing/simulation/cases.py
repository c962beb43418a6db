"""One run: a program, who runs it, and what goes wrong; made from a seed, and judged at its end."""

from __future__ import annotations

import gc
import logging
from collections.abc import Sequence
from functools import partial
from hashlib import blake2b
from itertools import pairwise
from random import Random
from typing import Any, Final

import msgspec
from msgspec import Struct

from resonate.errors import ResonateCanceledError, ResonateError, ResonateStoreError, ResonateTimedoutError
from resonate.execution.records import CALL_TAG
from resonate.protocol.records import ORIGIN, PARENT, PENDING, RESOLVED, SCHEDULE, Promise
from resonate.protocol.requests import PromiseSettle
from resonate.testing.client import WorldClient
from resonate.testing.simulation.faults import Fault, Faults
from resonate.testing.simulation.programs import Notebook, Plan, make_functions, make_plan, marks, plain, value_of
from resonate.testing.simulation.simulation import Simulation
from resonate.testing.trace import Event
from resonate.values import decode

FAULTS: Final = Faults()
CALLS: Final = (3, 6, 12)
"""Durable calls of a root, about."""

FIRINGS: Final = 3
"""Runs of a schedule that are waited for."""

ENDINGS: Final = (ResonateCanceledError, ResonateTimedoutError, ConnectionError, ExceptionGroup)
"""How a call may end but by its value: cancelled, out of time, or with the error of an attempt that was the last."""

MINUTE: Final = 60_000
NO_SCHEDULE: Final = 100.40403
NO_PROMISE: Final = 100.404
"""Codes of a `ResonateStoreError`."""


class Root(Struct, frozen=True):
    """A call from outside.

    Args:
        plan: what it does.
        how: "rpc" has a worker run it, "run" the caller itself, "async" an async function of a worker.
        cancel_after: seconds after which it is cancelled from outside.
        timeout: seconds that it may take; None is the default.
    """

    plan: Plan
    how: str = "rpc"
    cancel_after: float | None = None
    timeout: float | None = None


class Case(Struct, frozen=True):
    """Everything that decides a run.

    Args:
        seed: of the scheduler.
        roots: what is called.
        workers: the groups of the workers.
        schedule: whether a schedule fires meanwhile.
        faults: what goes wrong.
        threads: of each process.
    """

    seed: int
    roots: tuple[Root, ...]
    workers: tuple[str, ...]
    schedule: bool
    faults: tuple[Fault, ...]
    threads: int = 1


class Verdict(Struct, frozen=True):
    """How a run went.

    Args:
        digest: of everything that happened and what was stored at the end.
        problems: what was broken; empty if nothing was.
        steps: of the scheduler.
        events: what happened.
    """

    digest: str
    problems: tuple[str, ...]
    steps: int
    events: tuple[Event, ...]


def make_case(seed: int, faults: Faults = FAULTS) -> Case:
    """The case of a seed."""
    chance = Random(f"{seed} program")
    roots = []
    for _ in range(chance.choice((1, 1, 2))):
        room = [chance.choice(CALLS)]
        plan = ["run", [make_plan(chance, 3, room) for _ in range(chance.randrange(1, 4))]]
        roots.append(
            Root(
                plan,
                chance.choice(("rpc", "rpc", "run", "async")),
                chance.choice((0.02, 2, 40)) if chance.random() < 0.15 else None,
                chance.choice((20.0, 100.0)) if chance.random() < 0.1 else None,
            )
        )
    groups = ("default", "default", "other") if "'other'" in str(roots) else ("default", "default")
    drawn = faults.draw(Random(f"{seed} faults")) if chance.random() < 0.95 else ()
    return Case(seed, tuple(roots), groups, chance.random() < 0.06, drawn, chance.choice((1, 2)))


def run_case(case: Case) -> Verdict:
    """Run it; nothing is raised for what is found."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    collects = gc.isenabled()
    gc.disable()  # when something is freed is to be no matter of chance
    try:
        with Simulation(case.seed, faults=case.faults) as world:
            return _Run(case, world).verdict()
    finally:
        logging.disable(disabled)
        if collects:
            gc.enable()


def run_seeds(seeds: Sequence[int]) -> list[tuple[int, int, str]]:
    """Run some seeds: each with its steps, and the first line of what was broken."""
    results = []
    for seed in seeds:
        verdict = run_case(make_case(seed))
        results.append((seed, verdict.steps, verdict.problems[0].partition("\n")[0] if verdict.problems else ""))
    return results


class _Run:
    """The processes of a case, and what they have seen."""

    def __init__(self, case: Case, world: Simulation) -> None:
        self._case = case
        self._world = world
        self._book = Notebook()
        self._results: dict[str, Any] = {}
        self._cancelled: set[str] = set()
        self._fired = not case.schedule
        self._clerks = 0

    def verdict(self) -> Verdict:
        world, case = self._world, self._case
        options: dict[str, Any] = {"workers": case.threads}
        for group in case.workers:
            world.process(self._worker, group=group, **options)
        world.process(self._caller, group="caller", **options)
        for number, root in enumerate(case.roots):
            if root.cancel_after is not None:
                world.process(partial(self._canceller, number), group="operator", **options)
        if case.schedule:
            world.process(self._scheduler, group="clerk", **options)
        self._each_minute()
        problems: list[str] = []
        try:
            world.run()
            while self._answer():
                world.run_until(lambda: False, 1)  # the storage may fail for a while, or has yet to see a timeout
                world.run()
        except AssertionError as error:
            problems.append(str(error).partition("\n\nwhat happened:")[0])
        if not problems:
            problems += self._broken()
        events = tuple(world.trace.events)
        return Verdict(self._digest(events), tuple(problems), world.steps, events)

    # ---- processes -------------------------------------------------------------------------------

    def _worker(self, client: WorldClient) -> None:
        for function in make_functions(self._book, client.pid):
            client.register(function)

    def _caller(self, client: WorldClient) -> None:
        functions = make_functions(self._book, client.pid)
        for function in functions:
            client.register(function)
        handles = []
        for number, root in enumerate(self._case.roots):
            plans = root.plan[1]
            called = client.options(target="default", **({} if root.timeout is None else {"timeout": root.timeout}))
            if root.how == "run":
                handles.append(called.begin_run(f"root{number}", functions[0], plans))
            else:
                handles.append(
                    called.begin_rpc(f"root{number}", "in_turn" if root.how == "async" else "in_order", plans)
                )
        for handle in handles:
            try:
                result = handle.result()
            except ENDINGS as error:
                result = error
            self._told(handle.id, result)

    def _told(self, id: str, result: Any) -> None:
        known = self._results.setdefault(id, result)
        if repr(known) != repr(result):
            self._book.complaints.append(f"{id} was told to have ended with {known!r}, and then with {result!r}")

    def _canceller(self, number: int, client: WorldClient) -> None:
        root, id = self._case.roots[number], f"root{number}"
        assert root.cancel_after is not None
        self._world.run_until(lambda: self._world.storage.promise(id) is not None)
        self._world.run_until(lambda: False, root.cancel_after)
        try:
            handle = client.get(id)
            if handle.done():
                return
            self._cancelled.add(id)
            client._core.cancel(id)
        except ResonateStoreError as error:
            if error.code == NO_PROMISE:
                return
            raise
        self._world.trace.add(client.pid, "cancel", id, "")
        row = self._world.storage.promise(id)
        if row is not None and row.promise.state == "rejected_canceled":
            left = [promise.id for promise in self._below(id) if promise.state == PENDING]
            if left:
                self._book.complaints.append(f"{id} was cancelled, and below it these are left: {left}")

    def _scheduler(self, client: WorldClient) -> None:
        for function in make_functions(self._book, client.pid):
            client.register(function)
        world = self._world
        self._clerks += 1
        if not self._fired:
            schedule = client.options(target="default").schedule("every", "in_order", "* * * * *", [["step", 1]])
            world.run_until(lambda: world.steps % 16 == 0 and len(self._firings()) >= FIRINGS)
            if len(self._firings()) < FIRINGS:
                return  # this process has to leave; its next life sees to it
            try:
                schedule.delete()
            except ResonateStoreError as error:
                if error.code != NO_SCHEDULE or self._clerks == 1:
                    raise  # else it is what an earlier life of this process has asked for
            self._fired = True

    def _each_minute(self) -> None:
        self._answer()
        self._world.after(60, self._each_minute)

    def _answer(self) -> bool:
        """Somebody outside answers every question; whether there was one."""
        world = self._world
        asked = False
        for row in list(world.storage.promises(None)):
            if row.promise.id.endswith(".ask") and row.promise.state == PENDING:
                asked = True
                try:
                    world.service.handle([PromiseSettle(row.promise.id, "resolved")])
                except ResonateError:
                    pass  # of the storage: a minute later again
        return asked

    # ---- at the end ------------------------------------------------------------------------------

    def _broken(self) -> list[str]:
        """What is not as it should be now that everything has ended."""
        found = list(self._book.complaints)
        storage = self._world.storage
        for number, root in enumerate(self._case.roots):
            found += self._check_root(f"root{number}", root)
        for row in storage.promises(None):
            promise = row.promise
            detached = promise.tags.get(CALL_TAG, "").startswith("detached|")
            if detached and promise.state != RESOLVED and promise.tags.get(ORIGIN) not in self._cancelled:
                found.append(f"detached {promise.id} is {promise.state}")
        times = [int(promise.id.rpartition("-")[2]) for promise in self._firings()]
        if any(later - earlier != MINUTE for earlier, later in pairwise(times)):
            found.append(f"a schedule of every minute fired at {times}")
        found += [f"{p.id} of a schedule is {p.state}" for p in self._firings() if p.state != RESOLVED]
        return found

    def _check_root(self, id: str, root: Root) -> list[str]:
        if id not in self._results:
            return [f"nobody was told how {id} ended"]
        result = self._results[id]
        if isinstance(result, ResonateCanceledError) and id in self._cancelled:
            return []
        if isinstance(result, BaseException) and root.timeout is not None:  # perhaps of an attempt that was the last
            return []
        if isinstance(result, BaseException):
            return [f"{id} ended with {type(result).__name__}: {result}"]
        expected = value_of(root.plan)
        if plain(result) != expected:
            return [f"{id} gave {plain(result)!r} instead of {expected!r}"]
        return self._check_marks(id, result)

    def _check_marks(self, id: str, result: Any) -> list[str]:
        """The parts of a result come from those runs of steps that are recorded."""
        found = []
        for step, run in marks(result):
            row = self._world.storage.promise(step)
            if row is None or row.promise.state != RESOLVED:
                continue
            recorded = decode(row.promise.value.data, row.promise.value.headers)
            if recorded["run"] != run:
                found.append(f"{id} has the value of run {run} of {step}, and recorded is {recorded}")
        return found

    def _firings(self) -> list[Promise]:
        rows = [row.promise for row in self._world.storage.promises(None) if SCHEDULE in row.promise.tags]
        return sorted(rows, key=lambda promise: int(promise.id.rpartition("-")[2]))

    def _below(self, id: str) -> list[Promise]:
        """What is attached below a root."""
        rows = {r.promise.id: r.promise for r in self._world.storage.promises(None) if r.promise.tags.get(ORIGIN) == id}

        def attached(promise: Promise) -> bool:
            while promise.id != id:
                parent = rows.get(promise.tags.get(PARENT, ""))
                if promise.tags.get(CALL_TAG, "").startswith("detached|") or parent is None:
                    return False
                promise = parent
            return True

        return [promise for promise in rows.values() if promise.id != id and attached(promise)]

    def _digest(self, events: tuple[Event, ...]) -> str:
        hashed = blake2b(msgspec.json.encode(events), digest_size=8)
        rows = self._world.storage.promises(None)
        hashed.update(msgspec.json.encode([row.promise for row in rows], order="deterministic"))
        hashed.update(str(self._world.steps).encode())
        return hashed.hexdigest()


__all__ = ["Case", "Root", "Verdict", "make_case", "run_case", "run_seeds"]
