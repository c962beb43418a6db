"""The driver's connection in what a user calls a connection."""

from __future__ import annotations

import inspect
from typing import Any


def driver_connection(connection: Any) -> Any:
    """What is innermost in a session or connection of SQLAlchemy; any other connection as it is."""
    found = connection
    if _is_async(found):
        return found
    if hasattr(found, "get_bind") and callable(getattr(found, "connection", None)):  # a session of the ORM
        found = found.connection()
    for name in ("connection", "dbapi_connection", "driver_connection"):
        inner = getattr(found, name, None)
        found = found if inner is None or inspect.isroutine(inner) else inner  # connections of `sqlite3` are callable
    return found


def no_connection(connection: Any, wanted: str) -> TypeError:
    """What to raise of `connection`, which is none of those that are `wanted`."""
    found = driver_connection(connection)
    got = type(connection).__name__
    if not _is_async(found):
        return TypeError(f"connection must be {wanted}, got {got}")
    over = got if found is connection else f"{got} over {type(found).__name__}"
    return TypeError(
        f"connection must be {wanted}, got {over}, which only a coroutine can write through: make the transaction that "
        "begins an execution on one that is not asynchronous, and `await r.aio.begin_run_in(connection, ...)`"
    )


def interrupt(connection: Any) -> None:
    """End the statement that another thread has the driver's connection carry out, if there is one."""
    stop = getattr(connection, "cancel_safe", None) or getattr(connection, "interrupt", None)
    if stop is not None:
        stop()


def _is_async(connection: Any) -> bool:
    return hasattr(type(connection), "__aenter__")


__all__ = ["driver_connection", "interrupt", "no_connection"]
