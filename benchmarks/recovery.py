"""`python -m benchmarks.recovery [ROUNDS]`: how soon a killed 200-step function is done after a restart.

A worker is killed with SIGKILL in the middle. Another process then goes on: under the same
pid at once, since its lock is proof that the first is gone, and under another when the lease
ends. Reported is the time from its start (the interpreter included) to the result, less what
was left of the lease, and how many steps ran twice.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import resonate
from resonate import Resonate

STEPS: Final = 200
TTL: Final = 1
ALLOWED: Final = 0.5
"""Seconds beyond the lease that are allowed."""

WORKER: Final = """
import os, sys
from resonate import Resonate

url, pid, notes, ttl = sys.argv[1:]
file = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def step(ctx, number):
    os.write(file, f"{number}\\n".encode())
    return number

def long(ctx, count):
    for number in range(count):
        yield ctx.run(step, number)
    return count

client = Resonate(url=url, group="worker", pid=pid, ttl=int(ttl))
client.register(long)
client.start()
sys.stdin.read()
"""


@dataclass(frozen=True)
class Recovery:
    """One killed and continued function."""

    seconds: float
    """From the restart to the result, less what was left of the lease."""

    repeated: int


def recover(directory: str, pid: str) -> Recovery:
    """Kill a worker in the middle and have one that goes by `pid` go on."""
    url, notes = f"sqlite:///{directory}/app.db", Path(directory, "notes")
    with Resonate(url=url) as client:
        handle = client.options(target="worker").begin_rpc("long-1", "long", STEPS)
        first = _start(url, "first", notes)
        while not notes.exists() or notes.read_bytes().count(b"\n") < STEPS // 2:
            time.sleep(0.0002)
        first.kill()
        killed = time.monotonic()
        first.communicate()
        second = _start(url, pid, notes)
        assert handle.result(60) == STEPS
        done = time.monotonic()
        second.communicate()
    steps = notes.read_text().splitlines()
    lease = 0.0 if pid == "first" else TTL
    return Recovery(done - killed - lease, len(steps) - len(set(steps)))


def _start(url: str, pid: str, notes: Path) -> subprocess.Popen[bytes]:
    source = str(Path(resonate.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, url, pid, str(notes), str(TTL)],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": source},
    )


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print("| who goes on | done after, less the lease: median | worst | steps repeated, worst | |")
    print("|---|---:|---:|---:|---|")
    for title, pid in (("the same pid, at once", "first"), ("another process, when the lease ends", "second")):
        seen: list[Recovery] = []
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as directory:
                seen.append(recover(directory, pid))
        print(_row(title, seen))


def _row(title: str, seen: list[Recovery]) -> Any:
    worst, repeated = max(one.seconds for one in seen), max(one.repeated for one in seen)
    met = "met" if worst <= ALLOWED and repeated <= 1 else "missed"
    return f"| {title} | {median(one.seconds for one in seen):.2f} s | {worst:.2f} s | {repeated} | {met} |"


if __name__ == "__main__":
    main()
