"""A worker process: `python -m benchmarks.postgres.worker URL GROUP COUNTER SLOT`.

Says `ready`, starts when it is told to, stops when its standard input ends, and then says how much
processor time it has used since. How many steps it has done is the number in its slot of the
file COUNTER, which costs neither of the two anything.
"""

from __future__ import annotations

import json
import mmap
import struct
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

from resonate import Context, Resonate

SLOT: Final = struct.Struct("Q")


def warmed(ctx: Context, n: int) -> Generator[Any, Any, int]:
    result: int = yield ctx.run(lambda ctx, n: n + 1, n)
    return result


class Steps:
    """Numbers in a file that its readers have in memory: one for each process that counts."""

    def __init__(self, path: Path, slots: int) -> None:
        if not path.exists():
            path.write_bytes(bytes(SLOT.size * slots))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), SLOT.size * slots)
        self._slots = slots
        self._lock = threading.Lock()

    def add(self, slot: int) -> None:
        """One more in a slot that no other process writes to."""
        with self._lock:
            at = slot * SLOT.size
            SLOT.pack_into(self._memory, at, SLOT.unpack_from(self._memory, at)[0] + 1)

    def all(self) -> int:
        """How many all of them have counted."""
        return sum(SLOT.unpack_from(self._memory, slot * SLOT.size)[0] for slot in range(self._slots))


def main(url: str, group: str, counter: str, slot: int) -> None:
    steps = Steps(Path(counter), slot + 1)

    def step(ctx: Context, n: int) -> int:
        steps.add(slot)
        return n + 1

    def one(ctx: Context, n: int) -> Generator[Any, Any, int]:
        result: int = yield ctx.run(step, n)
        return result

    with Resonate(url=url, group=f"{group}-warm-{slot}") as warm:  # what a process does once is not what is measured
        warm.register(warmed)
        for number in range(20):
            warm.run(f"{group}-warm-{slot}-{number}", warmed, number)
    client = Resonate(url=url, group=group)
    client.register(one)
    print("ready", flush=True)
    sys.stdin.readline()
    begin = time.process_time()
    client.start()
    print("started", flush=True)
    sys.stdin.read()
    client.stop()
    print(json.dumps({"processor_s": time.process_time() - begin}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
