"""Test durable programs: time that is skipped, crashes on purpose, interleavings by seed.

`World` is a home in memory on one thread, for tests::

    from resonate.testing import World

    def test_reminder():
        with World() as world:
            client = world.client()
            client.register(reminder)
            assert client.run("r-1", reminder) == "wake up"     # sleeps 30 days, takes a millisecond

With pytest, the fixtures `resonate` (a client) and `world` are there by themselves::

    def test_reminder(resonate):
        resonate.register(reminder)
        assert resonate.run("r-1", reminder) == "wake up"

`crash_at_every_checkpoint` runs a function again and again and kills its worker at each
write, before and after it; a second worker must come to the same result without running a
finished step again::

    def test_order_survives_crashes():
        report = crash_at_every_checkpoint(order, cart)
        assert report.checkpoints == 4

`kill_at_every_write` and `kill_at_random` start worker processes on a file, or on a
PostgreSQL database given as `url`, and kill them with
SIGKILL; nothing may be lost, and no finished step may run again::

    def test_orders_survive_kill_9():
        kill_at_random("myapp.workflows", "order", runs=50, workers=4, kills=20, seed=1)

`Simulation(seed)` is a world in which chance decides what happens next.
"""

from __future__ import annotations

from resonate.clock import SettableClock
from resonate.testing.client import WorldClient
from resonate.testing.crashes import CrashReport, crash_at_every_checkpoint
from resonate.testing.kills import KillReport, kill_at_every_write, kill_at_random
from resonate.testing.network import Crashed
from resonate.testing.simulation import Fault, Faults, Simulation
from resonate.testing.trace import Event, Trace
from resonate.testing.world import Stuck, World

__all__ = [
    "World",
    "WorldClient",
    "Simulation",
    "Faults",
    "Fault",
    "SettableClock",
    "crash_at_every_checkpoint",
    "CrashReport",
    "kill_at_every_write",
    "kill_at_random",
    "KillReport",
    "Crashed",
    "Stuck",
    "Event",
    "Trace",
]
