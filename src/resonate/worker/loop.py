"""The driver for async functions, and the one crossing between threads and the event loop.

Async functions run on the loop the client was started in; a client started elsewhere has
one private loop thread. Everything here but `pump`, `stop_stopped` and `bind` runs on
that loop. A turn starts what is to start, hands outcomes over and, when every task of a
function waits for durable calls, lets the execution rest.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from resonate.daemons import Daemon
from resonate.errors import ClientStopped, ExecutionStopped
from resonate.execution.call import Call
from resonate.execution.commands import AWAITING
from resonate.execution.concluding import conclude
from resonate.execution.coroutine import NOTHING, Outcome, Raised, Returned
from resonate.execution.execution import Execution
from resonate.worker import lineage
from resonate.worker.held import Held
from resonate.worker.track import Track

if TYPE_CHECKING:
    from resonate.worker.worker import Worker

BLOCKED_AFTER: Final = 0.2
"""Seconds after which a loop that does not turn is reported as blocked."""

PUT_OFF_LIMIT: Final = 1000
"""Turns for which an outcome waits until a function has come to rest; a task that spins never does."""

GRACE: Final = 1.0
"""Seconds that cancelled tasks of the private loop get to end when it is closed."""

_LOG: Final = logging.getLogger("resonate.worker")


class Loop:
    """Drives the async functions of one worker."""

    def __init__(self, worker: Worker, make_context: Callable[[Execution, Call], Any]) -> None:
        self._worker = worker
        self._make_context = make_context
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ident: int | None = None
        self._lock = threading.Lock()
        self._tracks: set[Track] = set()
        self._abandoned: list[Track] = []
        self._asked_at = 0.0
        self._turned_at = 0.0
        self._reported = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that async functions run on; a private one is started if none is bound.

        Raises:
            ClientStopped: the loop has been closed.
        """
        loop = self._loop
        if loop is None:
            loop = self._start_private()
        if loop.is_closed():
            raise ClientStopped(
                "the event loop this client was started in is closed: start a new client in the new loop"
            )
        return loop

    def bind(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        """Run async functions on `loop`, which runs on `thread`, from now on; the binding never moves."""
        with self._lock:
            if self._loop is None:
                self._adopt(loop, thread)

    def bound_to(self, loop: asyncio.AbstractEventLoop | None) -> bool:
        """Whether this client's functions run on that very loop."""
        return loop is not None and self._loop is loop

    # ---- from any thread ----------------------------------------------------------------------

    def pump(self, held: Held) -> None:
        """Something in `held` concerns the loop: have it take a turn."""
        with held.lock:
            if held.pumped:
                return
            held.pumped = True
        if threading.get_ident() == self._ident:
            self.loop.call_soon(self._guarded, held, self._turn, held)
        else:
            self.loop.call_soon_threadsafe(self._guarded, held, self._turn, held)

    def stop_stopped(self, held: Held) -> None:
        """Some calls of `held` have been stopped: raise the reason in those that are async."""
        if held.tracks and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._fail, held)

    def check(self) -> None:
        """Called at each beat: look at functions that are busy elsewhere, and for a blocked loop."""
        loop = self._loop
        if loop is None or not self._tracks or loop.is_closed():
            return
        now = time.monotonic()
        if self._turned_at >= self._asked_at:
            self._asked_at, self._reported = now, False
            loop.call_soon_threadsafe(self._look_around)
        elif now - self._asked_at > BLOCKED_AFTER and not self._reported:
            self._reported = True
            self._report_blocked()

    def stop(self, timeout: float | None) -> None:
        """End the private loop, if there is one."""
        thread, loop = self._thread, self._loop
        if thread is not None and loop is not None and thread is not threading.current_thread():
            asyncio.run_coroutine_threadsafe(self._wind_up(timeout), loop)
            thread.join(None if timeout is None else timeout + GRACE)

    # ---- on the loop ------------------------------------------------------------------------------

    def turn(self, held: Held) -> None:
        """Have `held` take a turn soon; for callers on the loop."""
        if not held.pumped:
            held.pumped = True
            self.loop.call_soon(self._guarded, held, self._turn, held)

    def look(self, track: Track) -> None:
        """See soon whether `track` has come to rest."""
        if not track.looking:
            track.looking = True
            self.loop.call_soon(self._guarded, track.held, self._look, track)

    def deliver(self, track: Track) -> None:
        """Hand over the next outcome soon; one delivery of a track is under way at a time."""
        if not track.delivering:
            track.delivering = True
            self.loop.call_soon(self._guarded, track.held, self._deliver, track)

    def publish(self, held: Held) -> None:
        """Make what is queued durable before anything else happens, whatever that waits for; or stop the execution."""
        self._worker.flush(held)

    def _guarded(self, held: Held, job: Callable[[Any], None], arg: Any) -> None:
        try:
            job(arg)
        except Exception as error:
            self._worker.endings.abandon(held, error)

    def abandon(self, track: Track) -> None:
        """Leave a stopped function that catches its stop again and again where it is."""
        self._tracks.discard(track)
        self._abandoned.append(track)
        task: Any = track.lineage.task
        task._log_destroy_pending = False  # what `asyncio.gather` does too: that it is left has been said already

    def roused(self, held: Held) -> None:
        """Code of `held` runs though it may be suspended: something that is not durable woke it.

        It has no lease then, so nothing it does counts; it is replayed when a durable call wakes it.
        """
        with held.writing:
            if held.suspended:
                reason = f"{held.execution.id} was woken by something that is no durable call while it was suspended"
                self._worker.stop_execution(held, ExecutionStopped(reason))

    def _turn(self, held: Held) -> None:
        held.pumped = False
        execution = held.execution
        if execution.unwritten and (execution.starting or execution.urgent):
            if not self._worker.network.inline:
                self._worker.pool.submit(lambda: self._flush_then_turn(held))
                return
            self._worker.flush(held)
        if execution.starting and self._worker.clock() >= held.leased_until:
            if not self._worker.network.inline:
                self._worker.pool.submit(lambda: self._ask_then_turn(held))
                return
            self._worker.tenure.leased(held)
        with held.lock:
            starting, execution.starting = execution.starting, []
            arrivals, execution.arrivals = execution.arrivals, []
            execution.running += len(starting)
            if execution.unwritten and arrivals:
                execution.pressing = True  # they are about to be seen
            for pending, child in arrivals:
                track = pending.track
                track.inbox.append((pending, child))
                if track.resting:
                    track.resting = False
                    execution.running += 1
        for call in starting:
            self._start(held, call)
        if execution.timed:
            self._worker.arm(held)
        for track in [t for t in held.tracks or () if t.inbox]:
            if not track.delivering:
                self._deliver(track)
        self._share(held)

    def _learn_first(self, held: Held) -> None:
        if self._worker.network.inline:
            self.turn(held)
            self._worker.flush(held)
        else:
            self._worker.pool.submit(lambda: self._flush_then_turn(held))

    def _flush_then_turn(self, held: Held) -> None:
        self._worker.flush(held)
        self.pump(held)

    def _ask_then_turn(self, held: Held) -> None:
        if self._worker.tenure.leased(held):
            self.pump(held)

    def _share(self, held: Held) -> None:
        """Let threads have what is theirs; close the round if nothing is left to run."""
        execution = held.execution
        if execution.starting or execution.arrivals:
            self.turn(held)
        elif execution.ready:
            self._worker.submit(held)
        elif execution.running == 0 or execution.unwritten:
            if not self._worker.network.inline:
                self._worker.submit(held)
            elif self._worker.close_round(held):
                self._share(held)

    def _start(self, held: Held, call: Call) -> None:
        loop = self.loop
        track = Track(self, held, call)
        call.track = track
        call.context = self._make_context(held.execution, call)
        call.started_at = held.execution.now()
        if held.tracks is None:
            held.tracks = []
        held.tracks.append(track)
        self._tracks.add(track)
        context = contextvars.copy_context()
        context.run(lineage.CURRENT.set, track.lineage)
        context.run(AWAITING.set, track)
        if self._worker.observer is not None:
            self._worker.observer.attempt_began(held.execution, call)
        task = loop.create_task(self._run(track), context=context, name=call.id)
        track.lineage.task = task
        track.add(task, track.lineage)

    async def _run(self, track: Track) -> None:
        held = track.held
        try:
            outcome = await self._call(track)
        except (KeyboardInterrupt, SystemExit) as event:
            self._worker.endings.interrupted(held, event)
            raise
        try:
            self._end(track, outcome)
        except Exception as error:
            self._worker.endings.abandon(held, error)

    def _end(self, track: Track, outcome: Outcome) -> None:
        held, call = track.held, track.call
        if track.resting and held.suspended:
            self.roused(held)
        concluded = None if outcome is NOTHING or call.stop is not None else conclude(call, outcome, held.execution.now)
        call.count = track.lineage.count
        self._tracks.discard(track)
        if held.tracks is not None and track in held.tracks:
            held.tracks.remove(track)
        if concluded is not None:
            self._worker.attempt_ended(held.execution, call, outcome, concluded)
        if type(concluded) is float:
            self._worker.retrying(call, concluded, outcome)
        with held.lock:
            if track.resting:  # something that is no durable call has woken it
                track.resting = False  # what arrives for it from now on wakes nobody
                held.execution.running += 1
            if type(concluded) is float:
                if held.execution.backoff(call, concluded):
                    self._worker.later(concluded, lambda: self._retry(held, call))
            else:
                held.execution.ended(call, concluded)  # type: ignore[arg-type]
        self._share(held)

    async def _call(self, track: Track) -> Outcome:
        call = track.call
        assert call.func is not None
        outcome: Outcome
        try:
            with self._worker.surroundings(call):
                outcome = Returned(await call.func(call.context, *call.args, **(call.kwargs or {})))
        except (KeyboardInterrupt, SystemExit):
            raise
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if call.stop is None and task is not None and task.cancelling():
                self._worker.endings.interrupted(track.held, error)
            outcome = Raised(error)  # not asked for by anybody: an error of the function like any other
        except ExecutionStopped as error:
            if call.stop is None:
                self._worker.endings.interrupted(track.held, error)
            return NOTHING
        except BaseException as error:
            outcome = Raised(error)
        if call.stop is not None:
            return NOTHING
        track.start()
        try:
            await track.join()
        except asyncio.CancelledError as error:
            if call.stop is None:
                self._worker.endings.interrupted(track.held, error)
            return NOTHING
        return outcome

    def _retry(self, held: Held, call: Call) -> None:
        with held.lock:
            held.execution.retry(call)
        self.pump(held)

    def _deliver(self, track: Track) -> None:
        """Hand over the next outcome, once the function has done all it can with the last."""
        track.delivering = False
        if not track.inbox:
            self.look(track)
            return
        if track.put_off < PUT_OFF_LIMIT and track.runnable():
            track.put_off += 1
            self.deliver(track)
            return
        track.put_off = 0
        in_order = track.ordered
        execution = track.held.execution
        if in_order and execution.arrivals:
            self.turn(track.held)  # what has been recorded as seen first may be among them
            return
        if in_order and execution.records is not None and execution.unwritten:
            self._learn_first(track.held)  # a recorded outcome may still be unknown here
            return
        taken = track.take()
        if taken is None:
            self.look(track)
            return
        pending, child = taken
        track.open.discard(pending)
        track.idle = False
        if in_order:
            with track.held.lock:
                execution.notes.saw(track.call, child)
        pending.arrive(child.read())
        if track.inbox:
            self.deliver(track)
        else:
            self.look(track)

    def _look(self, track: Track) -> None:
        track.looking = False
        if track.resting or track.handing or track not in self._tracks or (track.inbox and not track.holding):
            return
        if track.unstarted or track.runnable():
            self.look(track)
            return
        track.idle = True
        held = track.held
        if not track.quiescent():
            self._tend(held)
            return
        if track.holding:
            track.let_go()
            self.deliver(track)
            return
        with held.lock:
            if any(pending.track is track for pending, _ in held.execution.arrivals):
                return
            track.resting = True
            held.execution.running -= 1
        self._share(held)

    def _tend(self, held: Held) -> None:
        """Code of `held` waits for something that is no durable call, so it is not suspended to hear of the others."""
        with held.lock:
            if held.tended or held.suspended or not self._worker.unheard(held):
                return
            held.tended = True

        def tend() -> None:
            held.tended = False
            self._worker.tend(held)

        if self._worker.network.inline:
            tend()
        else:
            self._worker.pool.submit(tend)

    def _look_around(self) -> None:
        self._turned_at = time.monotonic()
        for track in list(self._tracks):
            self.look(track)

    def _fail(self, held: Held) -> None:
        for track in list(held.tracks or ()):
            if track.call.stop is None:
                continue
            if track.resting:
                track.resting = False
                with held.lock:
                    held.execution.running += 1
            track.fail(track.call.stop)

    async def _wind_up(self, timeout: float | None) -> None:
        """Let what has been stopped end, cancel what else runs on our private loop, and leave it."""
        ours = [track.lineage.task for track in self._tracks if track.lineage.task is not None]
        if ours:
            await asyncio.wait(ours, timeout=timeout)
        others = asyncio.all_tasks() - {asyncio.current_task(), *(track.lineage.task for track in self._abandoned)}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=GRACE)
        await self.loop.shutdown_asyncgens()
        self.loop.stop()

    # ---- the loop itself ----------------------------------------------------------------------------

    def _adopt(self, loop: asyncio.AbstractEventLoop, ident: int) -> None:
        lineage.install(loop)
        self._ident = ident
        self._loop = loop

    def _start_private(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                ready = threading.Event()

                def run() -> None:
                    asyncio.set_event_loop(loop)
                    self._adopt(loop, threading.get_ident())
                    ready.set()
                    try:
                        loop.run_forever()
                    finally:
                        loop.close()

                self._thread = Daemon(target=run, name="resonate-loop")
                self._thread.start()
                ready.wait()
            assert self._loop is not None
            return self._loop

    def _report_blocked(self) -> None:
        frame = sys._current_frames().get(self._ident or 0)
        where = "".join(traceback.format_stack(frame, limit=6)) if frame is not None else "  (not known)\n"
        _LOG.warning(
            "the event loop has not turned for %d ms: a durable async function blocks it. "
            "Use `await`, or make the blocking part a plain function and `await ctx.run(...)` it. It stands at\n%s",
            int(BLOCKED_AFTER * 1000),
            where,
        )
