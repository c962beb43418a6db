"""Two groups: functions that call each other across workers, by name.

Usually the two workers are two programs on two machines. Here they are two clients of one
process that share a store: `ctx.rpc` sends the call to the group that has the function, and
waits for its result without holding a thread.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from resonate import Context, Resonate
from resonate.stores import LocalStore

store = LocalStore()
shop = Resonate(group="shop", store=store, message_source=store.message_source("shop", "shop-1"))
warehouse = Resonate(group="warehouse", store=store, message_source=store.message_source("warehouse", "warehouse-1"))


@warehouse.register
def ship(ctx: Context, item: str, count: int) -> str:
    return f"{count} x {item} shipped by the {warehouse.group}"


@shop.register
def buy(ctx: Context, item: str, count: int) -> Generator[Any, Any, str]:
    shipment: str = yield ctx.rpc("ship", item, count).options(target="warehouse")
    return f"{shipment}, sold by the {shop.group}"


if __name__ == "__main__":
    with shop, warehouse:
        print(shop.run("purchase-1", buy, "teapot", 2))
        print(shop.options(target="warehouse").rpc("shipment-2", "ship", "saucer", 6))
