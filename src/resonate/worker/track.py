"""One running async function: its asyncio tasks, its open calls, and the order of outcomes.

Outcomes reach a function that has several calls open one at a time, with the loop run to
rest in between, and in the recorded order when it is replayed: what `as_completed` or a
failing `TaskGroup` does depends on that order (design 7, "Order of outcomes is history").
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

from resonate.errors import NonDeterminismError, UsageError
from resonate.execution import begin
from resonate.execution.call import LATENT, Call
from resonate.execution.commands import Command, Detached, Latent, Promise, Yieldable
from resonate.execution.coroutine import Outcome, Raised
from resonate.execution.order import Order
from resonate.worker.held import Held
from resonate.worker.lineage import Lineage, current
from resonate.worker.threads import swallowed

if TYPE_CHECKING:
    from resonate.worker.loop import Loop


class Id(str):
    """An id that may also be called and awaited, as the async generation of programs does."""

    __slots__ = ()

    @property
    def id(self) -> str:
        return str(self)

    def __call__(self) -> Id:
        return self

    def __await__(self) -> Generator[Any, None, str]:
        yield from ()
        return str(self)


class Pending(asyncio.Future[Any], Yieldable):
    """A durable call of an async function: started at once, awaited whenever.

    It starts at the next turn of the loop or when it is first awaited, whichever is first,
    so that `.options(...)` behind the call still applies.
    """

    def __init__(self, track: Track, item: Any, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.track = track
        self.item = item
        self.call: Call | None = None
        self.started = False

    @property
    def id(self) -> Id:
        """The id of the call; for `ctx.promise()` it is durable when you have it.

        Whoever is told of it may settle the promise at once, so reading it stores the promise
        first; where state is not in memory the loop waits for that one commit.
        """
        if type(self.item) is Latent:
            self.track.start()
            self.track.loop.publish(self.track.held)
            if self.track.held.execution.stop is not None:
                raise self.track.held.execution.stop
        return Id(self.item.id)

    def options(self, **given: Any) -> Pending:
        """Set options of this call, before it has started; see `Command.options`."""
        if self.started:
            raise UsageError(f"{self.item.id} has started: set its options where it is made, ctx.run(f).options(...)")
        self.item.options(**given)
        return self

    def __await__(self) -> Generator[Any, None, Any]:
        self.track.touched()
        if not self.started:
            self.track.start()
        if not self.done():
            self.track.loop.look(self.track)
        return super().__await__()

    __iter__ = __await__

    def add_done_callback(self, fn: Any, *, context: Any = None) -> None:
        super().add_done_callback(fn, context=context)
        self.track.touched()
        if self.done():
            self.track.handed()
        else:
            self.track.loop.look(self.track)

    def arrive(self, outcome: Outcome) -> None:
        """Hand the outcome to whoever awaits this."""
        if self.done():
            return
        if type(outcome) is Raised:
            error = outcome.error
            if isinstance(error, StopIteration):  # a future cannot carry it; a generator would do the same to it
                error, cause = RuntimeError(f"the durable call {self.item.id} raised StopIteration"), error
                error.__cause__ = cause
            self.set_exception(error.with_traceback(None))
            self._log_traceback = False  # a failure that nobody awaits is dropped
        else:
            value = outcome.value  # type: ignore[union-attr]
            self.set_result(Id(value.id) if type(self.item) is Detached else value)
        if self.track.open or len(self.track.tasks) > 1:
            self.track.handed()


class Track:
    """The asyncio side of one async call."""

    def __init__(self, loop: Loop, held: Held, call: Call) -> None:
        self.loop = loop
        self.held = held
        self.call = call
        self.tasks: dict[asyncio.Task[Any], Lineage] = {}
        self.lineage = Lineage(self, call.prefix)
        self.unstarted: list[Pending] = []
        self.open: set[Pending] = set()
        self.inbox: list[tuple[Pending, Call]] = []
        self.resting = False
        self.looking = False
        self.delivering = False
        self.holding = False
        """Whether what is in the inbox has to wait: the function went on without it when it ran before."""
        self.idle = False
        """Whether the function has come to rest since an outcome last woke it."""
        self.woken = False
        """Whether something that is no durable call has woken it since, with outcomes still to come."""
        self.noted = False
        """Whether it is noted that it has gone on like that: then the order of all that follows is."""
        self.handing = 0
        """Outcomes of which those who wait have yet to be told by asyncio."""
        self.put_off = 0

    # ---- the function's side ---------------------------------------------------------------

    def issue(self, command: Command) -> Pending:
        """Number a call of this function and have it start soon.

        Raises:
            UsageError: called from a callback, another thread or another function.
        """
        lineage = current()
        if lineage is None or lineage.track is not self:
            raise UsageError(
                f"a durable call of {self.call.id!r} was made outside of its own code: durable calls belong into "
                "the function that got this ctx or into asyncio tasks it creates, not into callbacks, threads or "
                "other functions"
            )
        command.number(lineage.next_id())
        self.touched()
        return self.pending(command)

    def pending(self, item: Any) -> Pending:
        """Something to await for `item`, a numbered command or a promise begun earlier."""
        pending = Pending(self, item, self.loop.loop)
        if not self.unstarted:
            self.loop.loop.call_soon(self.start)
        self.unstarted.append(pending)
        return pending

    def await_(self, item: Any) -> Generator[Any, Any, Any]:
        """`await promise`, for a `Promise` that was begun earlier or passed in."""
        return self.pending(item).__await__()

    def start(self) -> None:
        """Begin all calls made since the last time, in the order they were made."""
        waiting, self.unstarted = self.unstarted, []
        told = [(pending, outcome) for pending in waiting if (outcome := self._begin(pending)) is not None]
        if self.held.execution.urgent and any(type(pending.item) is Detached for pending, _ in told):
            self.loop.publish(self.held)  # whoever is given the id may ask for it at once
        for pending, outcome in told:
            pending.arrive(outcome)
        if waiting:
            self.loop.turn(self.held)

    def add(self, task: asyncio.Task[Any], lineage: Lineage) -> None:
        """A task that the function created."""
        self.tasks[task] = lineage
        task.add_done_callback(self._gone)

    async def join(self) -> None:
        """Wait for the function's own tasks that made durable calls, and for none of the others."""
        while True:
            left = [task for task, lineage in self.tasks.items() if lineage.used and lineage is not self.lineage]
            if not left:
                return
            self.loop.look(self)
            await asyncio.wait(left)

    # ---- the driver's side ------------------------------------------------------------------------

    @property
    def ordered(self) -> bool:
        """Whether the function can see in which order outcomes come, so that it has to be noted."""
        return len(self.open) > 1 or len(self.tasks) > 1 or self.woken or self.noted

    def touched(self) -> None:
        """The function's code runs; if it had come to rest, it was no durable call that woke it."""
        if self.idle:
            self.idle = False
            self.woken = self.woken or bool(self.open)

    def runnable(self) -> bool:
        """Whether some task of the function has something to run right now."""
        if self.handing:
            return True
        for task in self.tasks:
            waiter = _waits_for(task)
            if waiter is None or waiter.done():
                return True
        return False

    def quiescent(self) -> bool:
        """Whether every task waits for durable calls only, directly or through others."""
        foreign = []
        for task in self.tasks:
            waiter = _waits_for(task)
            if waiter is None or waiter.done():
                return False
            if waiter not in self.open and waiter not in self.tasks:
                foreign.append(waiter)
        if self._limited(foreign):
            return False
        return not foreign or self._durable(foreign)

    def take(self) -> tuple[Pending, Call] | None:
        """The next outcome to hand over: in the recorded order, else in order of arrival; None if it has to wait."""
        order = self._order()
        at = 0 if order is None else order.first([call.id for _, call in self.inbox])
        self.holding = at is None
        return None if at is None else self.inbox.pop(at)

    def let_go(self) -> None:
        """The function does not go on as it did when it ran before: hand over what there is."""
        order = self._order()
        if order is not None:
            order.let_go()
        self.holding = False

    def handed(self) -> None:
        """An outcome has come: whoever waits for it among others is woken by callbacks that asyncio has yet to run."""
        self.handing += 1
        self.loop.loop.call_soon(self._told)

    def _told(self) -> None:
        self.handing -= 1
        self.loop.look(self)

    def fail(self, reason: BaseException) -> None:
        """Raise `reason` in every task of the function."""
        for pending in self.unstarted + list(self.open):
            if not pending.done():
                pending.arrive(Raised(reason))
        self.unstarted.clear()
        woken = self._woken()
        self.open.clear()
        for task in list(self.tasks):
            waiter = _waits_for(task)
            if (
                waiter is not None
                and not isinstance(waiter, Pending)
                and waiter not in self.tasks
                and waiter not in woken
            ):
                task.cancel()

    def _begin(self, pending: Pending) -> Outcome | None:
        """Begin one call; its outcome, if that is known at once."""
        pending.started = True
        if pending.done():  # cancelled before it began
            return None
        execution = self.held.execution
        item = pending.item
        if self.resting and self.held.suspended:
            self.loop.roused(self.held)
        with self.held.lock:
            if item.id not in execution.calls:
                self._note(item.id)
            try:
                child = execution.begin(self.call, item)
            except NonDeterminismError:  # the execution is halted: its code is closed, never told
                self.open.add(pending)
                return None
            except BaseException as error:  # also the reason for which the function has been stopped
                if self.call.stop is not None and swallowed(self.call):
                    self.loop.abandon(self)
                    return None  # it waits for this one for ever
                return Raised(error)
            pending.call = child
            if type(item) in begin.GIVES_PROMISE and child.kind != LATENT:
                return execution.promise_of(child)
            self.open.add(pending)
            execution.attend(pending, child)
            return None

    def _note(self, id: str) -> None:
        """The function begins the call `id`: note if it has gone on without outcomes that are still to come."""
        order = self._order()
        recorded = None if order is None else order.begins(id, self.call.seen)
        if self.open and (self.woken if recorded is None else recorded):
            unseen = () if self.noted else sorted(pending.call.id for pending in self.open if pending.call is not None)
            self.held.execution.notes.went_on(self.call, id, unseen)
            self.noted = True
        self.woken = False
        if self.holding:
            self.holding = False
            self.loop.deliver(self)

    def _order(self) -> Order | None:
        records = self.held.execution.records
        return None if records is None else records.order(self.call)

    def _limited(self, waiters: Sequence[Any]) -> bool:
        """Whether a timer is about to interrupt one of the tasks: `asyncio.timeout`, or that of `asyncio.wait`."""
        loop = self.loop.loop
        for timer in chain(getattr(loop, "_scheduled", ()), getattr(loop, "_ready", ())):  # to come, or just passed
            if timer.cancelled():
                continue
            limit = getattr(timer._callback, "__self__", None)
            if isinstance(limit, asyncio.Timeout) and limit._task in self.tasks:  # type: ignore[attr-defined]
                return True
            if any(given is waiter for given in timer._args for waiter in waiters):
                return True
        return False

    def _durable(self, waiters: Sequence[Any]) -> bool:
        """Whether asyncio's combinators complete `waiters` when our calls and tasks end, and wait for nothing else."""
        ours = self._woken()
        if not all(waiter in ours for waiter in waiters):
            return False
        heard: dict[Any, int] = {}
        for source in ours:
            for callback, _ in source._callbacks or ():
                heard[callback] = heard.get(callback, 0) + 1
        return not any(_hears_others(callback, count, ours) for callback, count in heard.items())

    def _woken(self) -> set[Any]:
        """Our open calls and tasks, and the futures that are completed when these end, or those, and so on."""
        found: set[Any] = {*self.open, *self.tasks}
        left = list(found)
        while left:
            for callback, _ in left.pop()._callbacks or ():
                for seen in _referred(callback).values():
                    futures = seen._getters if isinstance(seen, asyncio.Queue) else (seen,)  # type: ignore[attr-defined]
                    for future in futures:
                        if isinstance(future, asyncio.Future) and future not in found:
                            found.add(future)
                            left.append(future)
        return found

    def _gone(self, task: asyncio.Task[Any]) -> None:
        self.tasks.pop(task, None)
        if self.call.stop is not None and not task.cancelled():
            task.exception()  # it was stopped by us: nobody has to look at it


def _waits_for(task: asyncio.Task[Any]) -> Any:
    return task._fut_waiter  # type: ignore[attr-defined]


def _referred(callback: Any) -> dict[str, Any]:
    """What a done-callback of asyncio's combinators refers to, by the names these have for it (3.11 to 3.13)."""
    found: dict[str, Any] = {}
    code = getattr(callback, "__code__", None)
    for name, cell in zip(code.co_freevars if code else (), getattr(callback, "__closure__", None) or (), strict=False):
        with suppress(ValueError):  # not set yet
            found[name] = cell.cell_contents
    owner = getattr(callback, "__self__", None)
    for name in ("_on_completed_fut", "_done", "_todo"):  # TaskGroup and, since 3.13, as_completed
        if owner is not None and (seen := getattr(owner, name, None)) is not None:
            found[name] = seen
    return found


def _hears_others(callback: Any, count: int, ours: set[Any]) -> bool:
    """Whether one of asyncio's combinators, which hears of `count` of `ours` by `callback`, waits for others too."""
    seen = _referred(callback)
    if "counter" in seen:  # of `asyncio.wait`: how many are left
        return bool(seen["counter"] > count)
    left = seen.get("todo") or seen.get("_todo") or seen.get("children") or ()
    return any(not source.done() and source not in ours for source in left)


__all__ = ["Id", "Pending", "Promise", "Track"]
