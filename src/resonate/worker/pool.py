"""Threads that run jobs: as many as asked for, plus spares for those that wait inside one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Final

from resonate.daemons import Daemon
from resonate.errors import CapacityError

SPARE_THREADS: Final = 256
"""Threads beyond the limit that may stand in for blocked ones; a program that needs more is stuck."""

_LOG: Final = logging.getLogger("resonate.worker")
_HERE = threading.local()


class Pool:
    """Up to `limit` daemon threads, started when there is work for them."""

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self.limit = limit
        self._jobs: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._blocked = 0
        self._stopped = False
        self.on_standing: Callable[[], None] = lambda: None

    def submit(self, job: Callable[[], object]) -> None:
        """Run `job` on one of the threads, soon; its exceptions are logged, never lost."""
        self._jobs.put(job)
        if self._jobs.qsize() <= self._idle:
            return
        with self._lock:
            if len(self._threads) - self._blocked < self.limit and not self._stopped:
                self._spawn()

    def backlog(self) -> int:
        """Jobs that no thread has taken yet."""
        return self._jobs.qsize()

    @property
    def standing(self) -> int:
        """Threads that wait inside a job."""
        return self._blocked

    @staticmethod
    def inside() -> Pool | None:
        """The pool whose thread this is, if it is one's."""
        return getattr(_HERE, "pool", None)

    @contextmanager
    def blocked(self) -> Iterator[None]:
        """This thread of the pool is about to wait: another may stand in for it meanwhile.

        Raises:
            CapacityError: `SPARE_THREADS` are waiting already.
        """
        with self._lock:
            if self._blocked >= SPARE_THREADS:
                raise CapacityError(
                    f"{self._blocked} threads of this client wait inside run() or result() already; "
                    "call from a generator or async function (yield ctx.run / await ctx.run), which needs no thread"
                )
            self._blocked += 1
            if not self._idle and not self._stopped:
                self._spawn()
        self.on_standing()
        try:
            yield
        finally:
            with self._lock:
                self._blocked -= 1

    def stop(self, timeout: float | None) -> None:
        """Let the threads finish the jobs they run and end; waits at most `timeout` seconds for each."""
        with self._lock:
            self._stopped = True
            threads = list(self._threads)
        for _ in threads:
            self._jobs.put(None)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(timeout)

    def _spawn(self) -> None:
        thread = Daemon(target=self._work, name=f"{self.name}-{len(self._threads)}")
        self._threads.add(thread)
        thread.start()

    def _work(self) -> None:
        _HERE.pool = self
        while True:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                if self._superfluous():
                    return
                job = self._wait()
            if job is None:
                with self._lock:
                    self._threads.discard(threading.current_thread())
                return
            try:
                job()
            except (KeyboardInterrupt, SystemExit):
                pass  # of user code, told of where its id is known; a thread is not the process
            except BaseException:
                _LOG.exception("a worker thread goes on after an unexpected error")

    def _wait(self) -> Callable[[], object] | None:
        with self._lock:
            self._idle += 1
        job = self._jobs.get()
        with self._lock:
            self._idle -= 1
        return job

    def _superfluous(self) -> bool:
        with self._lock:
            if len(self._threads) - self._blocked <= self.limit:
                return False
            self._threads.discard(threading.current_thread())
            return True
