"""A driver of one thread and no clock, which advances executions against the real machine.

`Machine` is the real service on a memory storage, with a clock that the test sets and a
journal of every request. `Run` is one acquired task: it does what the drivers of the
worker do, in one thread and in the order they promise. Async functions are driven without
asyncio: `frame` calls a coroutine by hand, and `together` stands for `asyncio.gather`.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final

from msgspec.structs import replace

from resonate.clock import SettableClock
from resonate.context import Context, Shared
from resonate.dependencies import Dependencies
from resonate.errors import ExecutionStopped
from resonate.execution import begin
from resonate.execution.call import LATENT, PLAIN, Call
from resonate.execution.commands import AWAITING, Yieldable
from resonate.execution.concluding import conclude
from resonate.execution.coroutine import NOTHING, Outcome, Raised, Returned, advance
from resonate.execution.elsewhere import pointers
from resonate.execution.execution import BLOCKED, DONE, OK, Execution
from resonate.options import Options
from resonate.protocol.ids import EMBEDDED
from resonate.protocol.records import ACQUIRED, BRANCH, ORIGIN, PENDING, TARGET, Promise, Value
from resonate.protocol.requests import (
    PromiseCreate,
    PromiseGet,
    PromiseSettle,
    PromiseWrite,
    Request,
    Response,
    TaskAcquire,
    TaskCreate,
    TaskFence,
    TaskGet,
    TaskRelease,
)
from resonate.registry import Registry
from resonate.retry_policies import Never
from resonate.service.service import Service
from resonate.signatures import describe
from resonate.storage.memory import MemoryStorage
from resonate.values import encode, encode_error

Gen = Generator[Any, Any, Any]
Coro = Any
"""What an async function gives; spelled short because tests define many."""

LEASE: Final = 10_000
YEAR: Final = 31_536_000_000
HALTED: Final = "halted"
WAITING: Final = "waiting"
"""A backoff shorter than a minute runs: the test ends it with `Run.retry`."""

NEVER: Final = Options(retry_policy=Never())
SHARED: Final = Shared(Registry(), Dependencies(), "default", 0)


class Machine:
    """The real service, with a hand-set clock and a memory of what was run and sent."""

    def __init__(self) -> None:
        self.clock = SettableClock()
        self.service = Service(MemoryStorage(), self.clock)
        self.journal: list[tuple[int, Request]] = []
        self.ran: list[str] = []
        self.tags: dict[str, str] = {}
        self.complete = True
        self.dialect = EMBEDDED
        self._functions: dict[str, tuple[Callable[..., Any], tuple[Any, ...], Options]] = {}

    def now(self) -> int:
        return self.service.now()

    def send(self, requests: Sequence[Request], *, chain: bool = False) -> list[Response]:
        now = self.now()
        answers = self.service.handle(requests, chain=chain, trusted=True)
        self.journal += [(now, request) for request in requests[: len(answers)]]
        return answers

    def start(
        self,
        func: Callable[..., Any],
        *args: Any,
        id: str = "root",
        origin: str | None = None,
        timeout_ms: int = YEAR,
        options: Options = NEVER,
    ) -> Run:
        """Create the root `id` and hold its task."""
        self._functions[id] = (func, args, options)
        tags = {TARGET: "poll://any@default", ORIGIN: origin or id, BRANCH: id, **self.tags}
        create = PromiseCreate(id, self.now() + timeout_ms, Value(), tags)
        return self._run(self.send([TaskCreate("pid", LEASE, create)])[0], func, args, options)

    def run(self, func: Callable[..., Any], *args: Any) -> Any:
        """The value that a root which never waits comes to, or its error."""
        run = self.start(func, *args)
        assert run.advance() == DONE
        return run.result()

    def crash(
        self, id: str = "root", func: Callable[..., Any] | None = None, preload: Sequence[Promise] | None = None
    ) -> Run:
        """Whoever held the task is gone; its lease runs out and another process acquires it.

        `func` is what that process has under the name; `preload` what another server would
        have told it.
        """
        before, args, options = self._functions[id]
        task = self.send([TaskGet(id)])[0].task
        assert task is not None
        if task.state == ACQUIRED:
            self.clock.advance(LEASE / 1000 + 1)
            self.service.tick()
        answer = self.acquire(id)
        if preload is not None:
            answer = replace(answer, preload=preload)
        return self._run(answer, func or before, args, options)

    def crash_after(self, seconds: float) -> Run:
        """Time passes, then whoever waited is gone and another process acquires the task."""
        self.pass_time(seconds)
        return self.crash()

    def acquire(self, id: str = "root") -> Response:
        task = self.send([TaskGet(id)])[0].task
        assert task is not None
        answer = self.send([TaskAcquire(id, task.version, "pid", LEASE)])[0]
        assert answer.status == 200, answer
        return answer

    def promise(self, id: str) -> Promise:
        found = self.send([PromiseGet(id)])[0].promise
        assert found is not None, f"there is no promise {id}"
        return found

    def known(self, id: str) -> bool:
        return self.send([PromiseGet(id)])[0].promise is not None

    def resolve(self, id: str, value: Any) -> Promise:
        """Somebody outside resolves `id`."""
        data, headers = encode(value, "a value")
        return self._settle(PromiseSettle(id, "resolved", Value(headers, data)))

    def reject(self, id: str, error: BaseException) -> Promise:
        """Somebody outside rejects `id`."""
        data, headers, _ = encode_error(error)
        return self._settle(PromiseSettle(id, "rejected", Value(headers, data)))

    def cancel(self, id: str) -> Promise:
        """Somebody outside cancels `id`."""
        return self._settle(PromiseSettle(id, "rejected_canceled"))

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.service.tick()

    def _settle(self, request: PromiseSettle) -> Promise:
        settled = self.send([request])[0].promise
        assert settled is not None
        return settled

    def _run(self, answer: Response, func: Callable[..., Any], args: tuple[Any, ...], options: Options) -> Run:
        assert answer.status == 200
        assert answer.promise is not None
        assert answer.task is not None
        signature = describe(func)
        root = Call(answer.promise.id, None, signature.kind, answer.promise.timeout_at, options, func, args, {})
        root.returns = signature.returns
        root.name = func.__name__
        execution = Execution(
            answer.promise,
            answer.task.version,
            answer.preload,
            self.now,
            root,
            complete=self.complete,
            dialect=self.dialect,
        )
        return Run(self, execution)


class Run:
    """One acquired task, driven on this thread."""

    def __init__(self, machine: Machine, execution: Execution) -> None:
        self.machine = machine
        self.execution = execution
        self.batches: list[list[Request]] = []
        self.frames: dict[str, Frame] = {}
        self.backing_off: list[tuple[Call, float]] = []
        self.broken: str | None = None

    # ---- what tests ask for ----------------------------------------------------------------

    def advance(self) -> str:
        """Run until nothing more can; the state that the execution has come to."""
        execution = self.execution
        while True:
            self._loop_turn()
            if (call := execution.next()) is not None:
                if execution.unwritten and (call.code is None or execution.urgent):
                    self.flush(before_step=True)
                self.step(call)
            elif execution.halt is not None:
                return HALTED
            elif execution.stop is not None:
                return "stopped"
            elif (state := execution.rest()) is not None:
                if state == DONE:
                    self._write(lambda: [execution.fulfil()])
                return state
            elif execution.unwritten:
                self.flush()
            elif not execution.ready and not execution.starting and not execution.arrivals:
                return WAITING

    def result(self) -> Any:
        """The value of a finished root, or its error."""
        end = self.execution.root.ended
        assert end is not None
        return value_of(end.outcome)

    def suspend(self) -> Response:
        """Write what is queued and give the task up; the answer to the suspension."""
        return self._write(lambda: [*pointers(self.execution), self.execution.suspend()])

    def wake(self) -> str:
        """The task is acquired again with nobody in between: learn what is settled, go on."""
        answer = self.machine.acquire(self.execution.id)
        assert answer.task is not None
        self.execution.resume(answer.task.version)
        self.learn()
        return self.advance()

    def learn(self) -> None:
        """Read the promises that are awaited."""
        for id in list(self.execution.awaited):
            self.execution.settle(self.machine.promise(id))

    def retry(self) -> str:
        """The waits of those that back off are over."""
        waiting, self.backing_off = self.backing_off, []
        for call, delay in waiting:
            self.machine.clock.advance(delay)
            self.execution.retry(call)
        return self.advance()

    def flush(self, before_step: bool = False) -> None:
        """Make everything queued durable, or what has to be before a step starts."""
        if self.execution.outbox or (self.execution.queued and not before_step):
            self._write(None, before_step)

    def release(self) -> None:
        """Give the task back, for another process to take."""
        self.machine.send([TaskRelease(self.execution.id, self.execution.version)])

    def stop(self, reason: BaseException) -> str:
        """Stop all code with `reason` and let it wind up."""
        self.execution.stop_all(reason)
        self.stop_frames()
        return self.advance()

    def stop_frames(self) -> None:
        """Raise their reason in the async functions that have been stopped."""
        for frame in list(self.frames.values()):
            if frame.call.stop is not None:
                frame.fail(frame.call.stop)

    @property
    def sent(self) -> list[Request]:
        """Everything sent so far, in order."""
        return [request for batch in self.batches for request in batch]

    @property
    def queued(self) -> list[str]:
        """What is in the outbox, as `create id` and `settle id`."""
        return written([*self.execution.lazy.values(), *self.execution.outbox])

    # ---- inside ----------------------------------------------------------------------------------

    def step(self, call: Call) -> None:
        """Advance a plain function or a generator once."""
        execution = self.execution
        outcome: Outcome | None
        if call.kind == PLAIN:
            outcome = self._plain(call)
        else:
            item, outcome = self._generator(call)
            if outcome is None:
                execution.yielded(call, item)
                return
        self.conclude(call, outcome)

    def conclude(self, call: Call, outcome: Outcome) -> None:
        settled = None
        if outcome is not NOTHING:
            settled = conclude(call, outcome, self.execution.now)
        if isinstance(settled, float):
            if self.execution.backoff(call, settled):
                self.backing_off.append((call, settled))
            return
        self.execution.ended(call, settled)

    def _plain(self, call: Call) -> Outcome:
        if call.stop is not None or call.done:
            return NOTHING
        self.machine.ran.append(call.id)
        call.context = self.context(call)
        call.started_at = self.execution.now()
        assert call.func is not None
        try:
            return Returned(call.func(call.context, *call.args, **(call.kwargs or {})))
        except BaseException as error:
            return Raised(error)

    def _generator(self, call: Call) -> tuple[Any, Outcome | None]:
        resume = call.resume
        if call.code is None:
            if call.stop is not None or call.done:
                return None, NOTHING
            self.machine.ran.append(call.id)
            call.context = self.context(call)
            call.started_at = self.execution.now()
            assert call.func is not None
            call.code = call.func(call.context, *call.args, **(call.kwargs or {}))
            resume = NOTHING
        elif isinstance(resume, Call):
            resume = resume.read()
        call.resume = None
        assert resume is not None
        item, outcome = advance(call.code, resume)
        if isinstance(outcome, Raised) and isinstance(outcome.error, ExecutionStopped):
            return None, NOTHING
        return item, outcome

    def context(self, call: Call) -> Context:
        return Context(self.execution, call, SHARED, NEVER)

    def _loop_turn(self) -> None:
        """What one turn of the event loop does: start async functions, hand outcomes over."""
        execution = self.execution
        if execution.unwritten and execution.starting:
            self.flush()
        starting, execution.starting = execution.starting, []
        for call in starting:
            execution.running += 1
            self.machine.ran.append(call.id)
            self.frames[call.id] = Frame(self, call)
            self.frames[call.id].start()
        arrivals, execution.arrivals = execution.arrivals, []
        touched = []
        for frame, child in arrivals:
            if frame.call.stop is not None:
                continue
            frame.inbox.append(child)
            if frame not in touched:
                touched.append(frame)
        for frame in touched:
            frame.deliver()

    def _write(self, last: Callable[[], list[Request]] | None, before_step: bool = False) -> Response:
        """Send what is queued, and `last` behind it, until all of it has been answered."""
        execution = self.execution
        while True:
            batch = execution.take(before_step)
            if last is not None:
                batch += last()
            self.batches.append(batch)
            answers = self.machine.send(batch, chain=execution.stop is None)
            state = execution.answered(batch, answers)
            if state != OK:
                self.broken = state
                execution.stop_all(ExecutionStopped("another owner or another outcome"))
                self.stop_frames()
                return answers[-1]
            if len(answers) == len(batch):
                return answers[-1]


class Together(Yieldable):
    """Several calls at once, for `together`."""

    def __init__(self, items: Sequence[Any]) -> None:
        self.items = items


async def together(*items: Any) -> list[tuple[str, Any]]:
    """Wait for several calls; (number of the call, value or error), in the order they arrive."""
    arrived: list[tuple[str, Any]] = await Together(items)
    return arrived


class Frame:
    """One running async function: a coroutine driven by hand."""

    def __init__(self, run: Run, call: Call) -> None:
        self.run = run
        self.call = call
        self.inbox: list[Call] = []
        self.open: list[Call] = []
        self.arrived: list[tuple[str, Any]] | None = None
        self.coroutine: Any = None
        self._count = 0
        self._variables = contextvars.copy_context()

    def start(self) -> None:
        call = self.call
        call.track = self
        call.context = self.run.context(call)
        assert call.func is not None
        self._variables.run(AWAITING.set, self)
        self.coroutine = call.func(call.context, *call.args, **(call.kwargs or {}))
        self.advance(NOTHING)

    def issue(self, command: Any) -> Any:
        self._count += 1
        command.number(f"{self.call.prefix}{self._count}")
        return command

    def await_(self, item: Any) -> Gen:
        return (yield item)

    def advance(self, outcome: Outcome) -> None:
        """Hand `outcome` to the function and begin what it awaits next."""
        run, call = self.run, self.call
        item, end = self._variables.run(advance, self.coroutine, outcome)
        if end is None:
            self._await(item)
            return
        del run.frames[call.id]
        if call.stop is not None or (isinstance(end, Raised) and isinstance(end.error, ExecutionStopped)):
            end = NOTHING
        run.conclude(call, end)

    def fail(self, reason: BaseException) -> None:
        self.run.execution.running += 1
        self.open.clear()
        self.inbox.clear()
        self.advance(Raised(reason))

    def deliver(self) -> None:
        """Hand over what has arrived: the recorded order first, one at a time."""
        execution = self.run.execution
        if self.arrived is None:
            execution.running += 1
            self.open.clear()
            self.advance(self.inbox.pop().read())
            return
        if execution.records is not None and execution.unwritten:
            self.run.flush()
            new = [child for frame, child in execution.arrivals if frame is self]
            execution.arrivals = [(frame, child) for frame, child in execution.arrivals if frame is not self]
            self.inbox += new
        while self.inbox:
            order = None if execution.records is None else execution.records.order(self.call)
            at = 0 if order is None else order.first([child.id for child in self.inbox])
            assert at is not None
            child = self.inbox.pop(at)
            self.open.remove(child)
            execution.notes.saw(self.call, child)
            outcome = child.read()
            value = outcome.value if isinstance(outcome, Returned) else outcome.error
            self.arrived.append((child.id.removeprefix(self.call.prefix), value))
        if not self.open:
            execution.running += 1
            arrived, self.arrived = self.arrived, None
            self.advance(Returned(arrived))

    def _await(self, item: Any) -> None:
        execution = self.run.execution
        items = item.items if isinstance(item, Together) else [item]
        for each in items:
            try:
                child = execution.begin(self.call, each)
            except Exception as error:
                self.advance(Raised(error))
                return
            if type(each) in begin.GIVES_PROMISE and child.kind != LATENT:
                self.advance(execution.promise_of(child))
                return
            self.open.append(child)
        self.arrived = [] if isinstance(item, Together) else None
        execution.running -= 1
        for child in list(self.open):
            execution.attend(self, child)


def value_of(outcome: Outcome) -> Any:
    """The value of an outcome, or its error raised."""
    if isinstance(outcome, Returned):
        return outcome.value
    raise outcome.error


def written(requests: Sequence[Request]) -> list[str]:
    """Requests as `create id`, `settle id` and the kinds of the others, for comparisons."""
    found: list[str] = []
    for request in requests:
        action: Any = request.action if isinstance(request, TaskFence) else request
        for part in (action.create, action.settle) if isinstance(action, PromiseWrite) else (action,):
            kind = type(part).__name__
            name = {"PromiseCreate": "create", "PromiseSettle": "settle"}.get(kind, kind)
            found.append(f"{name} {part.id}")
    return found


def creation(requests: Sequence[Request], id: str) -> PromiseCreate:
    """The creation of `id` among `requests`."""
    for request in requests:
        action = request.action if isinstance(request, TaskFence) else request
        create = action.create if isinstance(action, PromiseWrite) else action
        if isinstance(create, PromiseCreate) and create.id == id:
            return create
    raise AssertionError(f"{id} was not created: {written(requests)}")


__all__ = [
    "BLOCKED",
    "DONE",
    "HALTED",
    "PENDING",
    "WAITING",
    "Coro",
    "Frame",
    "Gen",
    "Machine",
    "Run",
    "creation",
    "together",
    "value_of",
    "written",
]
