"""Race, all and map: wait for several calls in one line.

`ctx.map` calls a function for each item, at most `limit` at a time, and may be content with
`min_successful` of them. `ctx.all` gives every value, in order. `ctx.race` gives the first
outcome and records the winner, so that a replay picks the same one; the losers run to their
end, and the function ends after them.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from resonate import Context, Resonate

resonate = Resonate()

PRICES = {"corner": 12, "market": 7, "mall": 9}
CLOSED = "mall"


def price(ctx: Context, shop: str) -> int:
    return PRICES[shop]


def delivery_days(ctx: Context, shop: str) -> Generator[Any, Any, int | None]:
    if shop == CLOSED:
        raise RuntimeError(f"the {shop} is closed")
    yield ctx.sleep(0.01)
    return len(shop)


def in_stock(ctx: Context, shop: str, item: str) -> bool:
    return item == "kettle"


def place_order(ctx: Context, shop: str) -> str:
    return f"ordered at the {shop}"


def give_up_after(ctx: Context, seconds: float) -> Generator[Any, Any, str]:
    yield ctx.sleep(seconds)
    return "no answer in time"


@resonate.register
def shopping(ctx: Context, shops: list[str]) -> Generator[Any, Any, dict[str, Any]]:
    prices = yield ctx.map(price, shops, limit=2)
    days = yield ctx.map(delivery_days, shops, min_successful=2)
    cheapest = shops[prices.index(min(prices))]
    kettle, teapot = yield ctx.all([ctx.run(in_stock, cheapest, "kettle"), ctx.run(in_stock, cheapest, "teapot")])
    outcome = yield ctx.race([ctx.run(place_order, cheapest), ctx.run(give_up_after, 0.2)])
    return {"prices": prices, "days": days, "stock": [kettle, teapot], "outcome": outcome}


if __name__ == "__main__":
    for key, value in resonate.run("shopping-1", shopping, list(PRICES)).items():
        print(f"{key}: {value}")
