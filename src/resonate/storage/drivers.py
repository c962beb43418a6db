"""The driver's connection in what a user calls a connection."""

from __future__ import annotations

import inspect
from typing import Any


def driver_connection(connection: Any) -> Any:
    """What is innermost in a session or connection of SQLAlchemy; any other connection as it is."""
    found = connection
    if hasattr(found, "get_bind") and callable(getattr(found, "connection", None)):  # a session of the ORM
        found = found.connection()
    for name in ("connection", "dbapi_connection", "driver_connection"):
        inner = getattr(found, name, None)
        found = found if inner is None or inspect.isroutine(inner) else inner  # connections of `sqlite3` are callable
    return found
