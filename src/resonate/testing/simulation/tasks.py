"""What may wait in a simulation: jobs of processes, each a greenlet, one of which runs at a time.

A job that waits (for an answer, a lock, a pause) gives way to the scheduler and goes on when
it is picked again. So a client may have many requests under way, and everything else happens
in between, all on one thread and in an order that a seed decides.
"""

from __future__ import annotations

import heapq
from asyncio import events
from collections.abc import Callable
from itertools import count
from typing import Any, Protocol

from greenlet import getcurrent, greenlet  # type: ignore[import-untyped,unused-ignore]

from resonate.testing.network import Crashed


class Owner(Protocol):
    """The process that a job belongs to."""

    gone: bool
    """Whether the process is dead: no job of it goes on."""

    stopped_until: int
    """Until this instant of the world it stands still."""


class Task:
    """One job, which may wait.

    Args:
        owner: the process it belongs to.
        job: what it does.
        hub: the scheduler, to which it gives way.
    """

    __slots__ = ("frame", "owner", "turn")

    def __init__(self, owner: Owner, job: Callable[[], object], hub: greenlet) -> None:
        self.owner = owner
        self.frame = greenlet(job, hub)
        self.turn = 0
        """Counts its waits: whoever would wake an earlier one comes too late."""


class Tasks:
    """All jobs of one simulation.

    Args:
        now: milliseconds of the world.
        drive: has the world go on until a condition holds; for whoever waits outside of any job.
    """

    def __init__(self, now: Callable[[], int], drive: Callable[[Callable[[], bool], int | None], object]) -> None:
        self.ready: list[Task] = []
        self.current: Task | None = None
        self._hub = getcurrent()
        self._now = now
        self._drive = drive
        self._timed: list[tuple[int, int, Task, int]] = []
        self._conditions: list[tuple[Callable[[], bool], Task, int]] = []
        self._count = count()
        self._waiting: dict[Task, None] = {}

    def start(self, owner: Owner, job: Callable[[], object]) -> Task:
        """Have `job` begin when it is picked."""
        task = Task(owner, job, self._hub)
        self.ready.append(task)
        return task

    def run(self, owner: Owner, job: Callable[[], object]) -> None:
        """Run `job` until it waits for the first time; called by the scheduler."""
        self._go_on(Task(owner, job, self._hub))

    def go_on(self, task: Task) -> None:
        """Run a task that is ready until it waits again."""
        self.ready.remove(task)
        self._go_on(task)

    def until(self, condition: Callable[[], bool], at: int | None = None) -> bool:
        """Wait until `condition` holds, at most until the instant `at`; whether it holds."""
        task = self.current
        if task is None:
            self._drive(condition, at)
        elif not condition():
            self._conditions.append((condition, task, task.turn))
            self._wait(task, at)
        return condition()

    def wait(self, signal: Signal, at: int | None) -> None:
        """Wait until `signal` is set, at most until the instant `at`."""
        task = self.current
        if task is None:
            self._drive(lambda: signal.on, at)
        else:
            signal.waiters.append((task, task.turn))
            self._wait(task, at)

    def wake(self, task: Task, turn: int) -> None:
        """Have `task` go on if it still waits for the `turn`-th time."""
        if task.turn == turn and task in self._waiting:
            del self._waiting[task]
            task.turn += 1
            self.ready.append(task)

    def look(self) -> None:
        """Wake whoever waits for a condition that holds, or for an instant that has come."""
        if self._conditions:
            kept = []
            for entry in self._conditions:
                condition, task, turn = entry
                if task.turn != turn:
                    continue
                if task.owner.gone or condition():
                    self.wake(task, turn)
                else:
                    kept.append(entry)
            self._conditions = kept
        now = self._now()
        while self._timed and self._timed[0][0] <= now:
            _, _, task, turn = heapq.heappop(self._timed)
            self.wake(task, turn)

    def next_at(self) -> int | None:
        """The next instant that somebody waits for."""
        timed = self._timed
        while timed and timed[0][2].turn != timed[0][3]:
            heapq.heappop(timed)
        return timed[0][0] if timed else None

    def unwind(self) -> None:
        """Let the frames of jobs that will never go on end; they can do nothing any more."""
        left = [*self._waiting, *self.ready]
        self._waiting.clear()
        self.ready.clear()
        for task in left:
            if task.frame:
                self.current = task
                try:
                    task.frame.throw(Crashed("the world has ended"))
                except BaseException:
                    pass  # of a process that is dead
                finally:
                    self.current = None

    def drop(self, owner: Owner) -> None:
        """`owner` is dead: what was ready of it is not picked any more."""
        gone = [task for task in self.ready if task.owner is owner]
        self.ready = [task for task in self.ready if task.owner is not owner]
        for task in gone:
            self._waiting[task] = None

    def _go_on(self, task: Task) -> None:
        outer, self.current = self.current, task
        try:
            task.frame.switch()
        finally:
            self.current = outer

    def _wait(self, task: Task, at: int | None) -> None:
        self._waiting[task] = None
        if at is not None:
            heapq.heappush(self._timed, (at, next(self._count), task, task.turn))
        loop: Any = events._get_running_loop()
        if loop is not None:
            events._set_running_loop(None)
        self._hub.switch()
        if loop is not None:
            events._set_running_loop(loop)


class Signal:
    """Something that is waited for, once."""

    __slots__ = ("_tasks", "on", "waiters")

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self.on = False
        self.waiters: list[tuple[Task, int]] = []

    def set(self) -> None:
        """It has happened: whoever waits goes on."""
        self.on = True
        waiters, self.waiters = self.waiters, []
        for task, turn in waiters:
            self._tasks.wake(task, turn)

    def wait(self, at: int | None = None) -> bool:
        """Wait for it, at most until the instant `at`; whether it has happened."""
        if not self.on:
            self._tasks.wait(self, at)
        return self.on


class Turnstile:
    """A lock between jobs, in place of one between threads."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._taken = False
        self._waiting: list[Signal] = []

    def acquire(self, blocking: bool = True) -> bool:
        """Take it; whether it was got."""
        while self._taken:
            if not blocking:
                return False
            free = Signal(self._tasks)
            self._waiting.append(free)
            free.wait()
        self._taken = True
        return True

    def release(self) -> None:
        """Let go of it."""
        self._taken = False
        if self._waiting:
            self._waiting.pop(0).set()

    def locked(self) -> bool:
        """Whether somebody has it."""
        return self._taken

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


__all__ = ["Owner", "Signal", "Task", "Tasks", "Turnstile"]
