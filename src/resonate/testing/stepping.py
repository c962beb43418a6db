"""The parts of a worker that would have threads, replaced by queues that a world works off.

The code that decides anything (worker, execution, intake, drivers) is the real one; only
the threads are gone: the pool's jobs, the ticker's instants, the heartbeat and the turns of
the event loop wait until the world picks them, one at a time, on the caller's thread.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from random import Random
from typing import Any, Final

from resonate.execution.call import Call
from resonate.execution.coroutine import NOTHING, Outcome
from resonate.execution.execution import Execution
from resonate.protocol.requests import TaskHeartbeat, TaskRef
from resonate.worker.held import Held
from resonate.worker.lease import Leases
from resonate.worker.loop import Loop
from resonate.worker.pool import Pool
from resonate.worker.threads import Threads
from resonate.worker.ticker import PULSE, Ticker
from resonate.worker.track import Track

BEAT_MAX: Final = 3600.0
"""Seconds between two beats of a client in which nothing happens; they start at the worker's own pace."""

Ended = Callable[[Held, Call], None]
"""Told when the code of a call has returned or raised."""

_LOG: Final = logging.getLogger("resonate.testing")


class StepPool(Pool):
    """Jobs in a queue; the world runs them."""

    def __init__(self, name: str, limit: int) -> None:
        super().__init__(name, limit)
        self.waiting: list[Callable[[], object]] = []
        self.running = 0

    def submit(self, job: Callable[[], object]) -> None:
        """Keep `job` until the world picks it."""
        self.waiting.append(job)

    def backlog(self) -> int:
        """Jobs that have not been picked yet."""
        return len(self.waiting)

    @contextmanager
    def blocked(self) -> Iterator[None]:
        """Whoever waits drives the world meanwhile, so nobody has to stand in."""
        yield

    def run(self, at: int) -> None:
        """Run the job at place `at`."""
        job = self.waiting.pop(at)
        self.running += 1
        try:
            job()
        except Exception:
            _LOG.exception("a job of a worker failed; the others go on")
        finally:
            self.running -= 1

    @contextmanager
    def waits(self) -> Iterator[None]:
        """Whoever waits for an outcome here does not keep others from running."""
        inside = self.running > 0
        self.running -= inside
        try:
            yield
        finally:
            self.running += inside

    @property
    def free(self) -> bool:
        """Whether a thread would be free to run a job."""
        return self.running < self.limit

    def stop(self, timeout: float | None) -> None:
        """Run what is waiting."""
        while self.waiting:
            self.run(0)


class StepTicker(Ticker):
    """Instants on a heap, and beats that come ever more rarely while nothing happens."""

    def __init__(self, now: Callable[[], float], pulse: Callable[[], bool]) -> None:
        super().__init__(now, pulse)
        self._jobs: list[tuple[float, int, Callable[[], object]]] = []
        self._count = count()
        self._clock = now
        self._work = pulse
        self._interval = PULSE
        self._beat: float | None = None
        self._running = False

    def at(self, instant: float, job: Callable[[], object]) -> None:
        """Run `job` when the world's clock reads `instant` or later."""
        heapq.heappush(self._jobs, (instant, next(self._count), job))

    def watch(self) -> None:
        """There is work to look after: beat soon."""
        soon = self._clock() + PULSE
        self._interval = PULSE
        self._beat = soon if self._beat is None else min(self._beat, soon)

    def poke(self) -> None:
        """The world looks at the clock itself."""

    def stop(self) -> None:
        """Drop everything."""
        self._jobs.clear()
        self._beat = None

    def next_at(self) -> float | None:
        """Seconds on the client's clock at which there is something to do; not while the last job still runs."""
        if self._running:
            return None
        beat, jobs = self._beat, self._jobs
        if jobs and (beat is None or jobs[0][0] < beat):
            return jobs[0][0]
        return beat

    def run(self) -> None:
        """Do the first thing that is due."""
        now = self._clock()
        if self._jobs and self._jobs[0][0] <= now:
            job = heapq.heappop(self._jobs)[2]
        else:
            self._beat, job = None, self._pulse_again
        self._running = True
        try:
            job()
        except Exception:
            _LOG.exception("a timed job failed; the others go on")
        finally:
            self._running = False

    def _pulse_again(self) -> None:
        if self._work():
            self._interval = min(BEAT_MAX, self._interval * 2)
            self._beat = self._clock() + self._interval


class StepLeases(Leases):
    """Heartbeats at instants of the world's clock."""

    def __init__(
        self,
        pid: str,
        ttl_ms: int,
        send: Callable[[TaskHeartbeat], object],
        beat: Callable[[list[str]], None],
        now: Callable[[], float],
    ) -> None:
        super().__init__(pid, ttl_ms, send, beat)
        self._say = send
        self._then = beat
        self._clock = now
        self._leases: dict[str, int] = {}
        self._due = 0.0
        self._running = False

    def hold(self, id: str, version: int) -> None:
        """Renew this lease from now on."""
        if not self._leases:
            self._due = self._clock() + self.ttl_ms / 2000
        self._leases[id] = version

    def drop(self, id: str) -> None:
        """Stop renewing it."""
        self._leases.pop(id, None)

    def stop(self) -> None:
        """Renew nothing more."""
        self._leases.clear()

    def next_at(self) -> float | None:
        """When the next heartbeat is due, seconds on the client's clock; not while the last one is under way."""
        return self._due if self._leases and not self._running else None

    def run(self) -> None:
        """Send a heartbeat."""
        self._due = self._clock() + self.ttl_ms / 2000
        refs = tuple(TaskRef(id, version) for id, version in self._leases.items())
        self._running = True
        try:
            self._say(TaskHeartbeat(self.pid, refs))
            self._then([ref.id for ref in refs])
        except Exception as error:
            _LOG.warning("heartbeat for %d tasks failed, trying again: %s", len(refs), error)
        finally:
            self._running = False
            self._due = self._clock() + self.ttl_ms / 2000


class StepThreads(Threads):
    """The driver for generators and plain functions, telling when their code ends.

    Args:
        worker, make_context: as for `Threads`.
        ended: told when code ends.
        chance: if given, one call is advanced at a time, and which of the ready ones is drawn.
        until: has the world go on until a condition holds, or so many seconds have passed.
    """

    def __init__(
        self,
        worker: Any,
        make_context: Callable[[Execution, Call], Any],
        ended: Ended,
        chance: Random | None,
        until: Callable[[Callable[[], bool], float | None], object] | None,
    ) -> None:
        super().__init__(worker, make_context)
        self._ended = ended
        self._chance = chance
        self._until = until
        self.driving = 0

    def drive(self, held: Held) -> None:
        """Advance `held` until this thread can do nothing more for it."""
        self.driving += 1
        try:
            super().drive(held)
        finally:
            self.driving -= 1

    def drain(self, timeout: float | None) -> None:
        """Wait until the steps that run have ended, where they are jobs that may wait; see `Threads.drain`."""
        if self._until is not None:
            self._until(lambda: self.driving == 0, timeout)

    def _drive(self, held: Held) -> None:
        """Advance one call of `held`, drawn from the ready ones; the rest is a job for later."""
        if self._chance is None:
            super()._drive(held)
        elif self._advance_one(held, self._chance):
            self._worker.submit(held)

    def _advance_one(self, held: Held, chance: Random) -> bool:
        """Do what `Threads._drive` does in one round; False when there is nothing left to do."""
        worker, execution = self._worker, held.execution
        if execution.starting or execution.arrivals:
            worker.loop.pump(held)
        ready = execution.ready
        ready.rotate(chance.randrange(len(ready)) if len(ready) > 1 else 0)
        call = execution.next()
        if call is None:
            return worker.close_round(held)
        if not self._may_go_on(held, call):
            return False
        following = self._advance(held, call)
        if following is not None:  # not yet: what comes next is drawn again
            execution.running -= 1
            execution.ready.append(following)
        return True

    def _run_plain(self, held: Held, call: Call) -> Outcome:
        outcome = super()._run_plain(held, call)
        if outcome is not NOTHING:
            self._ended(held, call)
        return outcome

    def _run_transaction(self, held: Held, call: Call) -> Outcome | None:
        outcome = super()._run_transaction(held, call)
        if outcome is not NOTHING:
            self._ended(held, call)
        return outcome

    def _run_generator(self, held: Held, call: Call) -> tuple[Any, Outcome | None]:
        item, outcome = super()._run_generator(held, call)
        if outcome is not None and outcome is not NOTHING:
            self._ended(held, call)
        return item, outcome


class StepLoop(Loop):
    """The driver for async functions, telling when their code ends."""

    def __init__(self, worker: Any, make_context: Callable[[Execution, Call], Any], ended: Ended) -> None:
        super().__init__(worker, make_context)
        self._ended = ended

    @property
    def busy(self) -> bool:
        """Whether an async function waits for something that is no durable call."""
        return any(not track.resting for track in self._tracks)

    def check(self) -> None:
        """Look at functions that are busy elsewhere, in an order that does not depend on addresses."""
        for track in sorted(self._tracks, key=lambda track: track.call.id):
            self.look(track)

    def stop(self, timeout: float | None) -> None:
        """The world closes the loop."""

    async def _call(self, track: Track) -> Outcome:
        outcome = await super()._call(track)
        if outcome is not NOTHING:
            self._ended(track.held, track.call)
        return outcome
