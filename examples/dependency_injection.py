"""Dependency injection: hand connections, clients and settings to functions by name.

Arguments of a call are stored with it, so they must be plain data. What cannot be stored
(a connection, a client) belongs to the process: set it once, read it from the context. A
test sets another one under the same name.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from typing import Any

from resonate import Context, Resonate


class Inventory:
    """What is in stock, in a database of the application."""

    def __init__(self, stock: dict[str, int]) -> None:
        self._db = sqlite3.connect(":memory:", check_same_thread=False)
        self._db.execute("CREATE TABLE stock (item TEXT PRIMARY KEY, count INTEGER)")
        self._db.executemany("INSERT INTO stock VALUES (?, ?)", stock.items())

    def take(self, item: str) -> int:
        """Take one `item` and say how many are left."""
        row = self._db.execute("UPDATE stock SET count = count - 1 WHERE item = ? RETURNING count", (item,)).fetchone()
        return int(row[0])

    def close(self) -> None:
        """Close the database."""
        self._db.close()


resonate = Resonate()


def take_from_stock(ctx: Context, item: str) -> int:
    inventory: Inventory = ctx.dependencies["inventory"]
    return inventory.take(item)


@resonate.register
def order(ctx: Context, item: str) -> Generator[Any, Any, str]:
    left: int = yield ctx.run(take_from_stock, item)
    return f"one {item} ordered, {left} left"


if __name__ == "__main__":
    inventory = Inventory({"kettle": 3})
    resonate.set_dependency("inventory", inventory)
    print(resonate.run("order-1", order, "kettle"))
    print(resonate.run("order-2", order, "kettle"))
    resonate.stop()
    inventory.close()
