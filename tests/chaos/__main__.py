"""`python -m tests.chaos --home sqlite --seconds 600 --seed 1`: everything fails, again and again, and nothing is lost.

Servers, workers and clients run as processes over one of the homes while the faults of
`plan.FAULTS` happen as the seed has it. Then the history of all requests of the raw clients is
checked for linearisability against the protocol machine, and the durable functions for what
is promised of them. Prints the figures, or ends with an AssertionError that names the seed.
As root it runs in a mount namespace of its own, where it makes a disk that can be full.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from typing import Final

from tests.chaos.plan import FAULTS, PAUSES, plan
from tests.chaos.processes import may_mount
from tests.chaos.soak import TTL, soak

_APART: Final = "RESONATE_CHAOS_APART"


def main() -> None:
    """Read the arguments, soak, print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--home", choices=sorted(FAULTS), action="append", help="where state lives; default: all three")
    parser.add_argument("--seconds", type=float, default=600, help="for each home")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pauses", type=float, nargs=2, default=PAUSES, help="seconds between faults: least and most")
    parser.add_argument("--ttl", type=int, default=TTL, help="seconds of the leases")
    parser.add_argument("--fault", action="append", help="only this may go wrong; may be given again")
    parser.add_argument("--plan", action="store_true", help="only say what would happen when")
    given = parser.parse_args()
    for home in given.home or sorted(FAULTS):
        if given.plan:
            for fault in plan(home, given.seed, given.seconds, tuple(given.pauses), given.fault):
                print(f"{home} {fault.at:7.1f} s {fault.name}")
        else:
            print(soak(home, given.seconds, given.seed, tuple(given.pauses), given.ttl, given.fault), flush=True)


def _apart() -> None:
    """Go on in a mount namespace, where that is allowed: what is mounted there is gone when we are."""
    if _APART in os.environ or not may_mount():
        return
    os.environ[_APART] = "tried"
    command = ["unshare", "--mount", "--propagation", "private"]
    if subprocess.run([*command, "true"], check=False, capture_output=True).returncode == 0:
        os.execvp(command[0], [*command, sys.executable, "-m", "tests.chaos", *sys.argv[1:]])


if __name__ == "__main__":
    _apart()
    main()
