"""One acquired task and the tree of calls under it, advanced a step at a time.

An execution is told what user code did (`yielded`, `ended`) and what the service answered
(`answered`, `settle`); it says which code to run next (`ready`, `starting`), what to write
(`take`) and whether anything is left to do (`rest`). It does nothing itself: no thread,
loop, socket or clock lives here, so the thread driver, the loop driver and the simulator
drive the same object. A driver that shares it between threads guards every call by one
lock, but for `conclude` and `Call.read`, which run user code and must be outside of it.
What it has to write and when that must be durable is `writing`'s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from resonate.errors import (
    ExecutionStopped,
    NonDeterminismError,
    NotACommand,
    ResonateTimedoutError,
)
from resonate.execution import begin
from resonate.execution.attempts import RAN
from resonate.execution.call import (
    ASYNC,
    CHOICE,
    EXTERNAL,
    PLAIN,
    RETRY,
    TIMER,
    Call,
    Settled,
)
from resonate.execution.commands import Promise as Begun
from resonate.execution.coroutine import Outcome, Raised, Returned
from resonate.execution.records import CALL_TAG, RETRY_TAG, TRACE_TAG, Records, describe
from resonate.execution.writing import Writing
from resonate.protocol import chain
from resonate.protocol.ids import EMBEDDED, Dialect
from resonate.protocol.records import (
    BRANCH,
    EMPTY,
    ORIGIN,
    PARENT,
    PENDING,
    TIMEDOUT,
    Promise,
    Value,
)
from resonate.protocol.requests import (
    PromiseCreate,
    PromiseSettle,
    PromiseWrite,
    Request,
    Response,
    TaskFence,
)

LOOKED_AT: Final = 8
"""How many calls that are ready are passed over to find a step."""

LONG_RETRY: Final = 60.0
"""Seconds from which a wait before a retry is a durable timer instead of a held lease."""

NOTED_RETRY: Final = 2.0
"""Seconds from which a shorter wait is noted beside the call, so that others see it while it lasts."""

OK: Final = "ok"
LOST: Final = "lost"
DIVERGED: Final = "diverged"
REFUSED: Final = "refused"

DONE: Final = "done"
BLOCKED: Final = "blocked"


class Execution(Writing):
    """The state of one acquired task. See the module's text for who calls what when."""

    __slots__ = (
        "active",
        "arrivals",
        "created_at",
        "halt",
        "now",
        "parent",
        "pointed",
        "ready",
        "records",
        "running",
        "starting",
        "timed",
        "trace",
    )

    def __init__(
        self,
        promise: Promise,
        version: int,
        preload: Sequence[Promise],
        now: Callable[[], int],
        root: Call,
        *,
        complete: bool = True,
        dialect: Dialect = EMBEDDED,
        pid: str = "",
    ) -> None:
        super().__init__(promise, version, root, complete=complete, dialect=dialect, pid=pid)
        self.created_at = promise.created_at
        self.parent = promise.tags.get(PARENT, promise.id)
        self.trace = promise.tags.get(TRACE_TAG)
        self.now = now
        self.records = Records(preload) if preload or version > 1 else None
        self.ready: deque[Call] = deque()
        self.starting: list[Call] = []
        self.arrivals: list[tuple[Any, Call]] = []
        self.timed: list[Call] = []
        self.running = 0
        self.active = 0
        self.pointed = set[str]() if self.records is None else self.records.pointed
        self.halt: NonDeterminismError | None = None
        self._start(root)

    # ---- running code -------------------------------------------------------------------

    def next(self) -> Call | None:
        """The next call whose code a thread should advance; it counts as running from now on."""
        if not self.ready:
            return None
        self.running += 1
        call = self.ready.popleft()
        call.running = True
        if call.code is not None and self.unwritten:
            self.pressing = True
        return call

    def beside(self) -> Call | None:
        """A plain step that waits beside those that have just ended; it counts as running from now on.

        It was begun before they ended, and no code has seen their results: it may start although these are unwritten.
        """
        if self.pressing:
            return None
        for place, call in enumerate(self.ready):
            if call.kind == PLAIN:
                del self.ready[place]
                self.running += 1
                call.running = True
                return call
            if place == LOOKED_AT:
                break
        return None

    def yielded(self, call: Call, item: Any) -> None:
        """A generator yielded `item`: begin what it asks for, or hand it what it waits for."""
        self.running -= 1
        call.running = False
        try:
            child = self.begin(call, item)
        except NonDeterminismError as error:
            self.halt = error
        except BaseException as error:
            self._resume(call, Raised(error))
        else:
            if type(item) in begin.GIVES_PROMISE:
                self._resume(call, self.promise_of(child))
            else:
                if len(self.ready) > 1 and self.ready[-1] is child:
                    self.ready.rotate(1)  # the caller waits for it alone: run it here and now
                self.attend(call, child)

    def begin(self, call: Call, item: Any) -> Call:
        """Begin what `call` asks for, or find what is recorded of it.

        Raises:
            NotACommand, UsageError, ResonateError: to be raised in the function.
            NonDeterminismError: the record disagrees; the execution is to be halted.
            BaseException: `call` has been stopped; that is the reason.
        """
        if call.stop is not None and not begin.allowed_when_stopped(call, item):
            raise call.stop
        if self.unwritten and call.kind == ASYNC:
            self.pressing = True  # its code goes on
        if call.loose is item:
            call.loose = None
        elif call.loose is not None:
            call.loose = begin.without(call.loose, item)
        handler = begin.HANDLERS.get(type(item))
        if handler is None:
            raise NotACommand(item, begin.place(call))
        try:
            return handler(self, call, item)
        except NonDeterminismError as error:
            self.halt = error
            raise

    @staticmethod
    def promise_of(child: Call) -> Returned:
        """What a function gets at once for a call that it has begun."""
        return Returned(Begun(child.id))

    def attend(self, waiter: Any, child: Call) -> None:
        """Have `waiter` (a blocked call, a choice, or a driver's own object) told when `child` is done."""
        if child.done:
            self._tell(waiter, child)
            return
        if child.waiters is None:
            child.waiters = [waiter]
        else:
            child.waiters.append(waiter)
        if child.kind in EXTERNAL:
            self.awaited[child.id] = child

    def ended(self, call: Call, settled: Settled | None) -> None:
        """The code of `call` ended; it is settled once everything it began is."""
        self.running -= 1
        call.running = False
        if call.stop is not None or call.done or settled is None:
            call.forget_code()
            return
        if self.records is not None:
            try:
                self.records.check_end(call, self.calls)
            except NonDeterminismError as error:
                self.halt = error
                return
        call.ended = settled
        if call.hands_over and call.open:
            self._hand_over(call)
        if call.open == 0:
            self._settle(call)
            return
        for child in self.remote.values():
            if child.owner is call and child.attached:
                self.awaited[child.id] = child

    def backoff(self, call: Call, delay: float) -> bool:
        """`call` failed and waits `delay` seconds; True if the driver must time it and `retry`.

        From a minute on the wait is a durable timer: the execution can be suspended, and
        the number of attempts survives a crash.
        """
        self.running -= 1
        call.running = False
        call.code = call.context = None
        if delay < LONG_RETRY:
            self.active += 1
            if delay >= NOTED_RETRY and call.options.durable and self.stop is None:
                self._note_attempts(call)
            return True
        self.wait_durably(call, call.attempt, self.now() + int(delay * 1000))
        return False

    def retry(self, call: Call) -> None:
        """The wait is over: start the next attempt of `call`."""
        self.active -= 1
        self._again(call)

    def wait_durably(self, call: Call, attempt: int, until: int) -> None:
        """Begin (on replay: ask for again) the timer that separates `attempt` from the next."""
        timer = Call(f"{call.prefix or call.id + '.'}r{attempt}", call, RETRY, min(until, call.deadline), call.options)
        timer.attached = False
        timer.attempt = attempt
        self.calls[timer.id] = self.remote[timer.id] = timer
        tags = self.tags(call, timer.id, "global")
        if not self._strays(timer.id):
            tags[BRANCH] = self.branch
        self.tag_timer(tags)
        tags[RETRY_TAG] = str(attempt)
        if call.failed_before:
            tags[RAN] = self._ran(call)
            call.failed_before = None
        self.create(timer, tags, EMPTY)
        self.attend(call, timer)

    def expire(self, call: Call) -> None:
        """The deadline of `call` has passed: whoever waits is told now, its code is stopped."""
        if call.done or call.stop is not None:
            return
        call.outcome = Raised(ResonateTimedoutError(call.id, call.deadline / 1000))
        reason = ExecutionStopped(f"{call.id} passed its deadline")
        self._stop([c for c in self.calls.values() if not c.done and _is_below(c, call)], reason)
        self._finish(call)

    def stop_all(self, reason: BaseException) -> None:
        """Stop every frame: `reason` is raised where each waits, and nothing more is written."""
        self.stop = reason
        self.outbox.clear()
        self.lazy.clear()
        self.unwritten = self.urgent = 0
        self.awaited.clear()
        self._stop([self.root, *(call for call in self.calls.values() if not call.done)], reason)

    # ---- what happens elsewhere -----------------------------------------------------------

    def settle(self, promise: Promise) -> bool:
        """An external promise is settled; True if somebody here waited to hear of it."""
        child = self.calls.get(promise.id)
        if child is None or child.done or promise.state == PENDING or child.kind not in EXTERNAL:
            return False
        child.record = promise
        self._finish(child)
        return True

    def resume(self, version: int) -> None:
        """The task was acquired again with nobody in between: go on in place at `version`."""
        self.version = version

    # ---- answers ------------------------------------------------------------------------------

    def answered(self, batch: Sequence[Request], answers: Sequence[Response]) -> str:
        """What the service said to `batch`: OK, LOST (the lease), DIVERGED (replay needed) or REFUSED."""
        self.unwritten -= self.sent[0]
        self.urgent -= self.sent[1]
        self.sent = (0, 0)
        if self.unwritten == 0:
            self.pressing = False
        last = answers[-1]
        if len(answers) < len(batch) or not chain.holds(batch[len(answers) - 1], last):
            if last.status in (404, 409):
                return LOST
            if last.status in (400, 413):
                return REFUSED
            request = batch[len(answers) - 1]
            if not self._too_late(request, last) and not self._settled_before(request, last):
                for sent, answer in zip(batch, answers, strict=False):
                    self._compare(sent, answer)  # one of them may be the record of another call
                return DIVERGED
            self._again_later(batch[len(answers) :])
            batch = batch[: len(answers)]
        if self.remote or self.records is not None:
            for request, answer in zip(batch, answers, strict=True):
                promise = self._compare(request, answer)
                if promise is not None and promise.state != PENDING:
                    self.settle(promise)
        return OK

    def beyond(self) -> str | None:
        """The id of the call that the root would have made next; None if nothing can be recorded of that.

        Calls that run elsewhere are no part of the branch that a replay reads, so its end alone does not show that the
        function has made all of them.
        """
        id = f"{self.root.prefix}{self.root.count + 1}"
        return None if self.records is None or id in self.calls else id

    def made_all(self, beyond: Promise | None) -> bool:
        """Whether `beyond` is no call of the root's that its code has not made; else the execution is halted."""
        if beyond is None or beyond.tags.get(PARENT) != self.id:
            return True
        recorded, asked = beyond.tags.get(CALL_TAG), f"{self.root.name or 'the function'} ended without it"
        self.halt = NonDeterminismError(beyond.id, describe(recorded) if recorded else "a call", asked)
        return False

    def rest(self) -> str | None:
        """DONE or BLOCKED when no code can run any more; None while some still can."""
        if self.running or self.ready or self.starting or self.arrivals or self.active:
            return None
        if self.root.ended is not None and self.root.open == 0:
            return DONE
        return BLOCKED

    def wakes_at(self) -> float:
        """When it will go on by itself, ms since the epoch; infinity if that is not known."""
        return min((c.deadline for c in self.awaited.values() if c.kind in (TIMER, RETRY)), default=float("inf"))

    # ---- inside -----------------------------------------------------------------------------------

    def _start(self, call: Call) -> None:
        if self.records is not None and (attempt := self.records.retries.get(call.id, 0)):
            call.attempt = attempt
            until = self.records.by_id[f"{call.prefix or call.id + '.'}r{attempt}"].timeout_at
            self.wait_durably(call, attempt, until)
            return
        self._run(call)

    def _run(self, call: Call) -> None:
        if call.kind == ASYNC:
            self.starting.append(call)
        else:
            self.ready.append(call)

    def _hand_over(self, call: Call) -> None:
        """What `call` began and does not wait for is waited for by its caller instead."""
        owner = call.owner
        assert owner is not None
        owner.open += call.open
        call.open = 0
        for child in self.calls.values():
            if child.owner is call and not child.done:
                child.owner = owner

    def _again(self, call: Call) -> None:
        if call.stop is not None or call.done:
            return
        call.attempt += 1
        call.count = call.begun = 0
        call.resume = None
        self._run(call)

    def _resume(self, call: Call, resume: Outcome | Call) -> None:
        call.resume = resume
        self.ready.appendleft(call)

    def _settle(self, call: Call) -> None:
        settled = call.ended
        assert settled is not None
        if call is self.root:
            return
        if call.options.durable:
            value = Value(self._headers(call, settled), settled.data)
            self._write(PromiseSettle(call.id, settled.state, value))  # type: ignore[arg-type]
        call.outcome = settled.outcome
        call.ended = None
        self._finish(call)
        call.forget_code()

    def _finish(self, call: Call) -> None:
        """`call` is done: tell who waits, and let its owner end if that was all it waited for."""
        if call.kind in EXTERNAL:
            self.remote.pop(call.id, None)
            self.awaited.pop(call.id, None)
        call.done = True
        waiters, call.waiters = call.waiters, None
        if waiters:
            for waiter in reversed(waiters):
                self._tell(waiter, call)
        owner = call.owner
        if owner is not None and call.attached:
            owner.open -= 1
            if owner.open == 0 and owner.ended is not None and owner.stop is None:
                self._settle(owner)

    def _tell(self, waiter: Any, call: Call) -> None:
        if type(waiter) is not Call:
            self.arrivals.append((waiter, call))
        elif waiter.kind == CHOICE:
            begin.member_done(self, waiter, call)
        elif call.kind == RETRY:
            waiter.attempt = call.attempt
            self._again(waiter)
        elif waiter.stop is None:
            self._resume(waiter, call)

    def _stop(self, calls: Iterable[Call], reason: BaseException) -> None:
        """Stop `calls`: running or waiting, backing off or not begun yet, none of them goes on."""
        for call in calls:
            if call.stop is None:
                call.stop = reason
            if call.code is not None and not call.running and call not in self.ready:
                self._resume(call, Raised(reason))
        self.ready = deque(call for call in self.ready if call.code is not None or call.stop is None)
        self.starting = [call for call in self.starting if call.stop is None]

    def _compare(self, request: Request, answer: Response) -> Promise | None:
        """The promise that a creation found or made; the execution is halted if it is of another call."""
        if type(request) is not TaskFence or answer.action is None:
            return None
        action, promise = request.action, answer.action.promise
        create = action.create if type(action) is PromiseWrite else action
        call = self.calls.get(create.id)
        if type(create) is not PromiseCreate or promise is None or call is None:
            return None
        try:
            begin.check_record(promise, create.tags, call)
        except NonDeterminismError as error:
            self.halt = error
            return None
        if create.tags.get(BRANCH) != self.branch and promise.tags.get(ORIGIN) == self.origin:
            self.pointed.add(promise.id)  # whoever looks for it finds it below us
        return promise

    def _settled_before(self, request: Request, answer: Response) -> bool:
        """Whether a local call, whose code has not begun, is settled already: then that is its outcome."""
        promise = self._compare(request, answer)
        call = None if promise is None else self.calls[promise.id]
        if call is None or promise is None or promise.state == PENDING or call.done or call.context is not None:
            return False
        if call in self.ready:
            self.ready.remove(call)
        if call in self.starting:
            self.starting.remove(call)
        call.record = promise
        self._finish(call)
        return True

    def _too_late(self, request: Request, answer: Response) -> bool:
        """Whether all that is wrong is that a step which has expired, or one below it, was written too late."""
        if type(request) is not TaskFence or answer.action is None:
            return False
        promise, call = answer.action.promise, self.calls.get(request.action.id)
        if promise is None or promise.state != TIMEDOUT or call is None:
            return False
        return call.stop is not None or (call.owner is not None and call.owner.stop is not None)

    def _again_later(self, rest: Sequence[Request]) -> None:
        """Queue requests again that a broken chain left out; how the batch ends is the driver's to say again."""
        fences = [request for request in rest if type(request) is TaskFence]
        self.outbox[:0] = fences
        for fence in fences:
            id = fence.action.id
            if type(fence.action) is not PromiseCreate or id in self.remote or self._asks_first(self.calls[id]):
                self._must_be_written()


def _is_below(call: Call | None, ancestor: Call) -> bool:
    while call is not None:
        if call is ancestor:
            return True
        call = call.owner
    return False
