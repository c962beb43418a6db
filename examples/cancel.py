"""Cancel: stop an execution from outside, and clean up durably.

`handle.cancel()` settles the execution and everything it waits for. The function sees
`ResonateCanceledError` at its next yield. From there it cannot begin ordinary durable calls
any more; what has to be undone is handed to `ctx.detached`, which outlives its caller.
"""

from __future__ import annotations

from collections.abc import Generator
from queue import Queue
from typing import Any

from resonate import Context, Resonate
from resonate.errors import ResonateCanceledError

resonate = Resonate()
events: Queue[str] = Queue()


def hold_seat(ctx: Context, seat: str) -> None:
    events.put(f"seat {seat} is held")


@resonate.register
def release_seat(ctx: Context, seat: str) -> None:
    events.put(f"seat {seat} is free again")


@resonate.register
def reserve(ctx: Context, seat: str) -> Generator[Any, Any, str]:
    yield ctx.run(hold_seat, seat)
    try:
        payment = yield ctx.promise(timeout=3600)
        amount: int = yield payment
    except ResonateCanceledError:
        yield ctx.detached(release_seat, seat)
        raise
    return f"seat {seat} sold for {amount}"


if __name__ == "__main__":
    reservation = resonate.begin_run("seat-12A", reserve, "12A")
    print(events.get(timeout=10))

    reservation.cancel()
    try:
        reservation.result()
    except ResonateCanceledError as error:
        print("cancelled:", error.promise_id)
    print(events.get(timeout=10))
