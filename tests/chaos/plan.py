"""What goes wrong when, and whom it hits: drawn from the seed before anything runs, so that a seed has one plan."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from msgspec import Struct

PAUSES: Final = (1.0, 4.0)
"""Seconds between two faults, at least and at most."""

WORKERS: Final = ("worker killed", "worker stopped")
CLIENTS: Final = ("client killed", "client stopped")
NETWORK: Final = ("connections cut", "connections refused", "connections silent")
SERVERS: Final = ("server killed", "server stopped")
DISK: Final = ("disk full",)
DATABASE: Final = ("sessions ended", "database restarted", "database crashed", "database cut off")

FAULTS: Final[dict[str, Sequence[str]]] = {
    # a server in memory that dies takes its state with it: it may stand still, and be cut off
    "memory": (*WORKERS, *CLIENTS, *NETWORK, "server stopped"),
    "sqlite": (*WORKERS, *CLIENTS, *NETWORK, *SERVERS, *DISK, "writer stopped"),
    "postgres": (*WORKERS, *CLIENTS, *NETWORK, *SERVERS, *DISK, *DATABASE),
}
"""What may go wrong in each home."""


class Fault(Struct, frozen=True):
    """One thing that goes wrong.

    Args:
        at: seconds after the beginning; later if the one before lasts.
        name: what.
        draws: numbers from 0 to 1 that decide whom it hits, and how.
    """

    at: float
    name: str
    draws: tuple[float, float, float]


def plan(
    home: str,
    seed: int,
    seconds: float,
    pauses: tuple[float, float] = PAUSES,
    faults: Sequence[str] | None = None,
) -> list[Fault]:
    """What goes wrong in `home` with this seed: each of `faults` (None: of all) once before one comes again."""
    random = Random(f"{home}-{seed}")
    known = FAULTS[home] if faults is None else faults
    made: list[Fault] = []
    to_come: list[str] = []
    at = random.uniform(*pauses)
    while at < seconds:
        if not to_come:
            to_come = random.sample(known, len(known))
        draws = random.random(), random.random(), random.random()
        made.append(Fault(at, to_come.pop(), draws))
        at += random.uniform(*pauses)
    return made
