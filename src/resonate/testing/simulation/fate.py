"""When each fault of a simulation happens, and how a disaster strikes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from resonate.testing.simulation.faults import COMMIT, REQUEST, STEP, Fault

if TYPE_CHECKING:
    from resonate.testing.simulation.simulation import Simulation

EXCUSED: Final = 60_000
"""Milliseconds after a jump of the server's clock in which a holder may not know that its lease has ended."""

TO_A_PROCESS: Final = frozenset(("crash", "leave", "pause", "cut", "clock"))
"""Disasters that need a process to strike."""


class Fate:
    """What is still to go wrong.

    Args:
        world: in which.
        faults: all of it.
    """

    def __init__(self, world: Simulation, faults: Sequence[Fault]) -> None:
        self._world = world
        self._due = {(_kind(fault), fault.at): fault for fault in faults if fault.what not in STEP}
        self._disasters = [fault for fault in faults if fault.what in STEP]
        self._disasters.sort(key=lambda fault: fault.at, reverse=True)
        self._commits = 0

    def calm(self) -> None:
        """Nothing more goes wrong."""
        self._disasters.clear()
        self._due.clear()

    def fault_of(self, kind: str, number: int) -> Fault | None:
        """What is to happen to this request, message or commit."""
        fault = self._due.pop((kind, number), None) if self._due else None
        if fault is not None:
            self._world.trace.add("", "fault", "", str(fault))
        return fault

    def of_commit(self) -> str | None:
        """What is to happen to the next commit."""
        self._commits += 1
        fault = self.fault_of("commit", self._commits)
        return None if fault is None else fault.what

    def strike(self, steps: int) -> None:
        """Have happen what is due at a step of the scheduler."""
        while self._disasters and self._disasters[-1].at <= steps:
            self._strike(self._disasters.pop())

    def _strike(self, fault: Fault) -> None:
        world = self._world
        alive = world.lives.alive()
        if fault.what in TO_A_PROCESS and not alive:
            return
        world.trace.add("", "fault", "", str(fault))
        if fault.what not in TO_A_PROCESS:
            self._strike_server(fault)
            return
        program = alive[fault.who % len(alive)]
        assert program.client is not None
        process = world.lives.of(program.client._in_world)
        pid = None if fault.twist else process.pid
        if fault.what == "crash":
            world.lives.crash(program, fault.ms / 1000, pid)
        elif fault.what == "leave":
            program.ended = False
            world.lives.leave(program, fault.ms / 1000, pid)
        elif fault.what == "pause":
            process.stopped_until = world.clock.now() + fault.ms
        elif fault.what == "cut":
            process.cut_until = world.clock.now() + fault.ms
            process.silent = fault.twist
            world.soon(lambda: world.wire.mended(process), fault.ms)
        else:
            process.clock.skew += fault.ms

    def _strike_server(self, fault: Fault) -> None:
        world, server = self._world, self._world.server
        if fault.what == "server crash":
            if server.up:
                server.crash()
                world.wire.server_gone()
                world.soon(world.server_back, max(1, fault.ms))
        elif fault.what == "server stall":
            server.stalled_until = world.clock.now() + max(1, fault.ms)
        else:
            # forwards only: a service goes on at its pace while its machine's clock is put back (`SystemClock`)
            server.clock.skew += abs(fault.ms)
            world.trace.excused = world.clock.now() + EXCUSED  # leases end early by it, and their holders cannot know


def _kind(fault: Fault) -> str:
    return "request" if fault.what in REQUEST else "commit" if fault.what in COMMIT else "message"


__all__ = ["Fate"]
