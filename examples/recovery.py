"""Recovery: a worker goes away in the middle, another one finishes its work.

Both workers are of one group and share a store. The first one charges the card, then waits
for the parcel service, and is stopped. The second one takes the execution over: it replays
the function on the recorded steps, without charging the card again.
"""

from __future__ import annotations

from collections.abc import Generator
from queue import Queue
from typing import Any

from resonate import Context, Resonate
from resonate.registry import Registry
from resonate.stores import LocalStore

store = LocalStore()
registry = Registry()
parcels: Queue[str] = Queue()


def worker(pid: str) -> Resonate:
    """A worker of the group "shop", as another process would start it."""
    messages = store.message_source("shop", pid)
    client = Resonate(group="shop", pid=pid, store=store, message_source=messages, registry=registry)
    client.set_dependency("pid", pid)
    return client


def charge(ctx: Context, card: str) -> None:
    print(f"{ctx.dependencies['pid']}: {card} charged")


def hand_over(ctx: Context, parcel: str) -> None:
    parcels.put(parcel)


def tell_customer(ctx: Context, carrier: str) -> None:
    print(f"{ctx.dependencies['pid']}: customer told that {carrier} is on its way")


def checkout(ctx: Context, card: str) -> Generator[Any, Any, str]:
    yield ctx.run(charge, card)
    parcel = yield ctx.promise()
    yield ctx.run(hand_over, parcel.id)
    carrier: str = yield parcel
    yield ctx.run(tell_customer, carrier)
    return f"delivered by {carrier}"


registry.add(checkout)


if __name__ == "__main__":
    first = worker("worker-1")
    first.begin_run("order-1", checkout, "visa")
    parcel = parcels.get(timeout=10)
    first.stop()
    print("worker-1 is gone")

    with worker("worker-2") as second:
        second.promises.resolve(parcel, data='"a bicycle"')
        print(second.get("order-1").result())
