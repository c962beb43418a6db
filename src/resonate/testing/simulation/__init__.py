"""Simulations: many processes, a server and a network on one thread, where everything goes wrong that can.

`Simulation` is the world, `Faults` says how much goes wrong. What needs packages beyond those
of `resonate` itself is imported by a simulation with faults, not before.
"""

from __future__ import annotations

from resonate.testing.simulation.faults import Fault, Faults
from resonate.testing.simulation.simulation import Simulation

__all__ = ["Fault", "Faults", "Simulation"]
