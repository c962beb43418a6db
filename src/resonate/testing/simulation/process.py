"""A process of a simulation, as the machine it runs on sees it: its clock, whether it runs, what reaches it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from resonate.testing.network import Crashed

if TYPE_CHECKING:
    from resonate.testing.simulation.simulation import Simulation


class ProcessClock:
    """The clocks of one process: one that only moves on, and one that people set.

    Args:
        world: milliseconds of the world.
        origin: seconds that the first shows when the world's clock stands at 0.
        skew: milliseconds that the second is ahead of the world's.
    """

    runs = False

    def __init__(self, world: Callable[[], int], origin: int, skew: int) -> None:
        self._world = world
        self._origin = origin
        self.skew = skew

    def now(self) -> int:
        return self._world() + self.skew

    def wall(self) -> float:
        """Seconds since the epoch, as the machine believes."""
        return self.now() / 1000

    def monotonic(self) -> float:
        return self._world() / 1000 + self._origin

    def watch(self, changed: Callable[[], None]) -> None:
        """The scheduler looks at the clock itself."""

    def instant(self, monotonic: float) -> int:
        """The world's milliseconds at which `monotonic()` is reached."""
        return math.ceil((monotonic - self._origin) * 1000 - 1e-3)


class Process:
    """One life of a process.

    Args:
        world: it lives in.
        pid: its name.
        clock: of its machine.
    """

    def __init__(self, world: Simulation, pid: str, clock: ProcessClock) -> None:
        self._world = world
        self.pid = pid
        self.clock = clock
        self.gone = False
        self.cut_until = 0
        self.silent = False
        self.stopped_until = 0

    @property
    def cut(self) -> bool:
        """Whether the server is out of reach."""
        return self.cut_until > self._world.clock.now()

    def check(self) -> None:
        """Raise if the process has died while one of its jobs waited.

        Raises:
            Crashed: it has.
        """
        if self.gone:
            raise Crashed(f"{self.pid} has crashed")

    def start(self, job: Callable[[], object]) -> None:
        """Have `job` run beside all others."""
        self._world.tasks.start(self, job)

    def sleep(self, seconds: float, ended: Callable[[], bool]) -> None:
        """Wait for so long, or until `ended()`."""
        world = self._world
        world.tasks.until(lambda: self.gone or ended(), world.clock.now() + max(1, int(seconds * 1000)))
        self.check()


__all__ = ["Process", "ProcessClock"]
