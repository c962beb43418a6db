"""Crash and continue: a program that is killed in the middle goes on where it was.

State lives in one SQLite file. The program runs twice: the first process is killed, as hard as a
process can be, after the card has been charged; the second one is the same program started
again. It charges nobody a second time. Run it with `python examples/crash_and_continue.py`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from typing import Any

from resonate import Context, Resonate


def charge(ctx: Context, card: str, amount: int) -> str:
    print(f"  charging {card}", flush=True)
    return f"{amount} EUR charged to {card}"


def ship(ctx: Context, item: str) -> None:
    if "--crash" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)
    print(f"  shipping a {item}", flush=True)


def checkout(ctx: Context, card: str, item: str) -> Generator[Any, Any, str]:
    receipt: str = yield ctx.run(charge, card, 42)
    yield ctx.run(ship, item)
    return receipt


def shop(file: str) -> None:
    """The program itself: a client on the file, and one call under an id of its own."""
    with Resonate(url=f"sqlite:///{file}", pid="shop") as resonate:
        resonate.register(checkout)
        print(f"  {resonate.run('order-7', checkout, 'visa', 'kettle')}", flush=True)


def start(file: str, *options: str) -> int:
    """Run this program in a process of its own."""
    return subprocess.run([sys.executable, __file__, file, *options], check=False).returncode


if __name__ == "__main__":
    if len(sys.argv) > 1:
        shop(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as directory:
            print("the first process:", flush=True)
            killed = start(os.path.join(directory, "shop.db"), "--crash")
            print(f"  killed by signal {-killed}\nthe second process:", flush=True)
            start(os.path.join(directory, "shop.db"))
