"""A worker of ours, to be killed: `python our_worker.py URL GROUP NOTES`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from resonate import Resonate

URL, GROUP, NOTES = sys.argv[1], sys.argv[2], Path(sys.argv[3])


def note(ctx: Any, name: str) -> str:
    with NOTES.open("a") as file:
        file.write(f"{name}\n")
    while name == "second" and not Path(f"{NOTES}.go").exists():
        time.sleep(0.02)
    return name


def survives(ctx: Any) -> Any:
    first = yield ctx.run(note, "first")
    return [first, (yield ctx.run(note, "second"))]


client = Resonate(url=URL, group=GROUP, ttl=1)
client.register(survives)
client.start()
print("ready", flush=True)
time.sleep(3600)
