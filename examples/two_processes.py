"""Two processes: a function calls one of another program, over one SQLite file.

The warehouse is a program of its own, in a group of its own. The shop sends it calls by name and
waits for their results without holding a thread; which of the two started first does not matter.
This file is both: it starts itself once more, as the warehouse.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from typing import Any

from resonate import Context, Resonate


def pack(ctx: Context, item: str, count: int) -> str:
    return f"{count} x {item}"


def ship(ctx: Context, item: str, count: int) -> Generator[Any, Any, list[Any]]:
    parcel = yield ctx.run(pack, item, count)
    return [parcel, os.getpid()]


def buy(ctx: Context, item: str, count: int) -> Generator[Any, Any, str]:
    parcel, shipper = yield ctx.rpc("ship", item, count).options(target="warehouse")
    assert shipper != os.getpid()
    return f"{parcel}, sold here and shipped by another process"


def warehouse(url: str) -> None:
    """Serve calls until the shop closes our standard input."""
    with Resonate(url=url, group="warehouse") as resonate:
        resonate.register(ship)
        sys.stdin.read()


def shop(url: str) -> None:
    with Resonate(url=url, group="shop") as resonate:
        resonate.register(buy)
        print(resonate.run("purchase-1", buy, "teapot", 2))
        print(resonate.run("purchase-2", buy, "saucer", 6))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        warehouse(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as directory:
            url = f"sqlite:///{directory}/market.db"
            with subprocess.Popen([sys.executable, __file__, url], stdin=subprocess.PIPE) as process:
                shop(url)
                process.communicate()
