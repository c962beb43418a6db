"""Counts the calls from one module of the package to another while one workflow with one child runs.

A crossing is a call whose nearest caller inside the package belongs to another module. Threads
are those in which the package ran code meanwhile. The client is warm, so what happens once per
process is not counted.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import threading
from collections import Counter
from types import FrameType
from typing import Any

PACKAGE = "resonate"


class Crossings:
    """A profile function that counts while `on` is set."""

    def __init__(self) -> None:
        self.on = False
        self.edges: Counter[tuple[str, str]] = Counter()
        self.modules: set[str] = set()
        self.threads: set[int] = set()

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        if not self.on or event != "call":
            return
        callee = module_of(frame)
        if callee is None:
            return
        self.modules.add(callee)
        self.threads.add(threading.get_ident())
        caller = nearest(frame.f_back)
        if caller is not None and caller != callee:
            self.edges[caller, callee] += 1


def module_of(frame: FrameType) -> str | None:
    """The module of ours that `frame` runs, without the package's name, or None."""
    package, _, module = frame.f_globals.get("__name__", "").partition(".")
    return module or "__init__" if package == PACKAGE else None


def nearest(frame: FrameType | None) -> str | None:
    """The module of ours nearest above, whatever foreign frames lie between."""
    while frame is not None:
        module = module_of(frame)
        if module is not None:
            return module
        frame = frame.f_back
    return None


def profile(program: Any) -> Crossings:
    """Run the program's `one` once on its warm client."""
    crossings = Crossings()
    threading.setprofile(crossings)
    sys.setprofile(crossings)
    if asyncio.iscoroutinefunction(program.client):
        asyncio.run(once_async(program, crossings))
    else:
        client = program.client()
        crossings.on = True
        client.run("counted", program.one, 1)
        crossings.on = False
    sys.setprofile(None)
    return crossings


async def once_async(program: Any, crossings: Crossings) -> None:
    client = await program.client()
    crossings.on = True
    await client.run("counted", program.one, 1).result()
    crossings.on = False
    await client.stop()


if __name__ == "__main__":
    found = profile(importlib.import_module(sys.argv[1]))
    edges = [[caller, callee, count] for (caller, callee), count in found.edges.most_common()]
    print(json.dumps({"edges": edges, "modules": sorted(found.modules), "threads": len(found.threads)}))
