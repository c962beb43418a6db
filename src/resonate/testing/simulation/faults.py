"""What goes wrong in a simulation: a list that is drawn from a seed before it begins.

Each fault is due at a number: the n-th request, piece of a stream, commit or step of the
scheduler. A list can be made shorter, which is how a failure is shrunk.
"""

from __future__ import annotations

from random import Random
from typing import Final

from msgspec import Struct

REQUEST: Final = ("lost", "reset", "unanswered", "late", "slow", "twice", "busy", "bad gateway")
"""To the n-th request, in this order: it vanishes; its connection breaks before it arrives, or
after it was answered; it arrives when its sender has given up; its answer takes long; it
arrives again later; a proxy refuses it; a proxy loses the answer and says so."""

STREAM: Final = ("drop", "hold", "double")
"""To the n-th message of a stream: it is lost, comes late (after later ones), or comes twice."""

COMMIT: Final = ("refused", "unknown")
"""To the n-th commit: the storage refuses it; it is stored, and the storage cannot say so."""

STEP: Final = ("crash", "leave", "pause", "cut", "server crash", "server stall", "server clock", "clock")
"""At the n-th step: a process is killed, is stopped in order (both come back later), stands
still, or is cut off from the server; the server is killed and comes back, or stands still; its
clock jumps ahead; the clock of a process jumps."""


class Fault(Struct, frozen=True, order=True):
    """One thing that goes wrong.

    Args:
        at: when: the number of the request, message, commit or step, from 1.
        what: one of `REQUEST`, `STREAM`, `COMMIT`, `STEP`.
        who: of the processes that are alive, which; by number, modulo how many there are.
        ms: how long it lasts, milliseconds; how far a clock jumps.
        twist: the other variant: a crashed process comes back under a new pid; a cut is silent.
    """

    at: int
    what: str
    who: int = 0
    ms: int = 0
    twist: bool = False

    def __str__(self) -> str:
        kind = next(name for name, kinds in _KINDS.items() if self.what in kinds)
        text = f"{self.what} at {kind} {self.at}"
        if self.what in ("crash", "leave", "pause", "cut", "clock"):
            text += f", process {self.who}"
        if self.ms:
            text += f", {self.ms} ms"
        return text + (" (twisted)" if self.twist else "")


_KINDS: Final = {"request": REQUEST, "message": STREAM, "commit": COMMIT, "step": STEP}


class Faults(Struct, frozen=True):
    """How much may go wrong in one run: at most so many of each; how many it is, chance decides.

    Args:
        requests: requests and answers that are lost, late, doubled, refused.
        messages: messages of streams that are lost, late, doubled.
        commits: commits that the storage refuses, or stores without saying so.
        crashes: processes that are killed, or stopped in order, and come back.
        pauses: processes that stand still, for a moment or beyond their leases.
        cuts: processes that are cut off from the server.
        servers: times that the server is killed or stands still.
        clocks: times that a clock jumps, forwards or back.
        steps: the faults lie within about so many steps of the scheduler.
    """

    requests: int = 6
    messages: int = 3
    commits: int = 2
    crashes: int = 3
    pauses: int = 2
    cuts: int = 1
    servers: int = 2
    clocks: int = 2
    steps: int = 600

    def draw(self, chance: Random) -> tuple[Fault, ...]:
        """The faults of one run."""
        found: list[Fault] = []

        def some(most: int, of: int, kinds: tuple[str, ...], spans: tuple[int, ...]) -> None:
            for _ in range(chance.randint(0, most) if most else 0):
                # early ones are as likely as late ones: most programs are short
                at = int(of ** chance.uniform(0.3, 1))
                found.append(
                    Fault(at, chance.choice(kinds), chance.randrange(8), chance.choice(spans), chance.random() < 0.3)
                )

        some(self.requests, self.steps // 5, REQUEST, (3, 300, 4_000, 12_000, 40_000))
        some(self.messages, self.steps // 20, STREAM, (1, 100, 3_000, 40_000))
        some(self.commits, self.steps // 8, COMMIT, (0,))
        some(self.crashes, self.steps, ("crash", "crash", "leave"), (0, 50, 1_000, 20_000))
        some(self.pauses, self.steps, ("pause",), (20, 1_000, 6_000, 30_000))
        some(self.cuts, self.steps, ("cut",), (500, 8_000, 45_000))
        some(self.servers, self.steps, ("server crash", "server stall"), (0, 200, 3_000, 20_000))
        some(self.clocks, self.steps, ("server clock", "clock"), (-60_000, -500, 500, 9_000, 60_000))
        return tuple(sorted(found))


__all__ = ["COMMIT", "REQUEST", "STEP", "STREAM", "Fault", "Faults"]
