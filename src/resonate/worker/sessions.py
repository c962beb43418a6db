"""Steps of `ctx.transaction` that ask for a session of SQLAlchemy instead of the bare connection.

A step says so by the annotation of its first parameter. The session lives in a savepoint of
the step's transaction: its `commit` and `rollback` end only that, and what it has not yet
written is written before the step's result is. SQLAlchemy is imported for such steps alone.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from sqlalchemy import Engine

_PACKAGE: Final = "sqlalchemy"
_engines: WeakKeyDictionary[Any, Engine] = WeakKeyDictionary()


def wants_session(func: Callable[..., Any]) -> bool:
    """Whether the first parameter of `func` is annotated as a session of SQLAlchemy's ORM."""
    if _PACKAGE not in sys.modules:
        return False  # whoever annotates with it has imported it
    try:
        first = next(iter(inspect.signature(func, eval_str=True).parameters.values()), None)
    except (NameError, TypeError, ValueError):
        return False
    from sqlalchemy.orm import Session

    return first is not None and inspect.isclass(first.annotation) and issubclass(first.annotation, Session)


@contextlib.contextmanager
def session_over(connection: Any, func: Callable[..., Any]) -> Iterator[Any]:
    """For the block, what `func` wants to work with: a session over `connection`, or `connection` itself."""
    if not wants_session(func):
        yield connection
        return
    from sqlalchemy.orm import Session

    connection.shared = True  # SQLAlchemy believes that it begins and ends the transaction
    try:
        with _engine_over(connection).connect() as bound:
            bound.begin()
            with Session(bind=bound, join_transaction_mode="create_savepoint") as session:
                yield session
                session.commit()
    finally:
        connection.shared = False


def _engine_over(connection: Any) -> Engine:
    from sqlalchemy import create_engine
    from sqlalchemy.pool import StaticPool

    engine = _engines.get(connection)
    if engine is None:
        kind = "sqlite" if type(connection).__mro__[1].__module__ == "sqlite3" else "postgresql+psycopg"
        engine = _engines[connection] = create_engine(f"{kind}://", creator=lambda: connection, poolclass=StaticPool)
    return engine
