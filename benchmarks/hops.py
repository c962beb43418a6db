"""`python -m benchmarks.hops`: how many module boundaries one workflow with one child crosses, ours and the peers.

A rise of our own figure wants an explanation in the commit that brings it.
"""

from __future__ import annotations

import json
from typing import Any

from benchmarks.run import execute, python_of
from benchmarks.suite import OURS, PEERS, PROGRAMS, Side


def count(side: Side) -> dict[str, Any] | None:
    """The crossings of `side`, or None if it is not installed."""
    python = python_of(side)
    if python is None:
        return None
    program = side.program.removesuffix(".py")
    counted: dict[str, Any] = json.loads(execute(side, [str(python), str(PROGRAMS / "hops.py"), program]))
    return counted


def main() -> None:
    print("| side | crossings | modules | threads |\n|---|---:|---:|---:|")
    for side in (OURS, *PEERS):
        counted = count(side)
        if counted is not None:
            crossings = sum(calls for _, _, calls in counted["edges"])
            print(f"| {side.title} | {crossings} | {len(counted['modules'])} | {counted['threads']} |")
    ours = count(OURS)
    assert ours is not None, "ours always has an interpreter"
    print("\n| from | to | calls |\n|---|---|---:|")
    for caller, callee, calls in ours["edges"]:
        print(f"| {caller} | {callee} | {calls} |")


if __name__ == "__main__":
    main()
