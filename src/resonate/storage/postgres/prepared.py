"""Statements that a session runs again and again, given to libpq directly.

A cursor of psycopg works out anew, each time, what a statement's parameters are and which
functions read its columns: some 80 µs a statement, a third of a step. Here that is found out
once. What is sent is the same, and so are the errors.

Only what has been prepared goes this way, and only for types that are known here; everything
else, and every value that does not fit, is left to psycopg (`run` answers None).
"""

from __future__ import annotations

import re
import select
import struct
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Final

import psycopg
import psycopg.abc
from psycopg import errors
from psycopg.adapt import Transformer
from psycopg.pq import ConnStatus, ExecStatus, Format, TransactionStatus

USES: Final = 2
"""How often a statement is run before it is prepared: preparing costs two round trips."""

CANCEL: Final = 2.0
"""Seconds in which an interrupted statement is to be cancelled; after them its session is given up."""

Dump = Callable[[Any], bytes]

_INT: Final = struct.Struct("!i")
_NULL: Final = _INT.pack(-1)
_EMPTY: Final = struct.Struct("!iiI")
_HEAD: Final = struct.Struct("!iiIii")


def _array(element: int, dump: Dump) -> Dump:
    """Lists as PostgreSQL's arrays of one dimension, in binary."""

    def dumped(values: Sequence[Any]) -> bytes:
        if not values:
            return _EMPTY.pack(0, 0, element)
        parts = [b""]
        add, length, nulls = parts.append, _INT.pack, 0
        for value in values:
            if value is None:
                nulls = 1
                add(_NULL)
            else:
                data = dump(value)
                add(length(len(data)))
                add(data)
        parts[0] = _HEAD.pack(1, nulls, element, len(values), 1)
        return b"".join(parts)

    return dumped


def _same(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(f"expected bytes, got {type(value).__name__}")
    return value


_LONG: Final[Dump] = struct.Struct("!q").pack
_TEXT: Final[Dump] = str.encode
BYTEA, INT8, TEXT = 17, 20, 25

_DUMPS: Final[dict[int, Dump]] = {
    BYTEA: _same,
    INT8: _LONG,
    TEXT: _TEXT,
    1001: _array(BYTEA, _same),
    1009: _array(TEXT, _TEXT),
    1016: _array(INT8, _LONG),
}
"""By the number of a type: how its values are written."""


class Prepared:
    """The statements of one session.

    Args:
        session: whose; used by one thread at a time.
        most: statements that are prepared; further ones are left to psycopg.
    """

    def __init__(self, session: psycopg.Connection[Any], most: int) -> None:
        self._session = session
        self._most = most
        self._plans: dict[str, _Plan | None] = {}
        self._uses: dict[str, int] = {}
        self._made = 0
        self._able = hasattr(select, "poll") and session.info.encoding == "utf-8"
        self._poll = select.poll() if self._able else None
        if self._poll is not None:
            self._poll.register(session.fileno(), select.POLLIN)

    def run(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]] | None:
        """All rows of a statement, or None: it is psycopg's to run, and nothing was sent.

        Raises:
            psycopg.Error: as a cursor would raise it.
        """
        try:
            plan = self._plans[statement]
        except KeyError:
            plan = self._found(statement)
        if plan is None:
            return None
        try:
            values = [
                None if value is None else dump(value) for dump, value in zip(plan.dumps, parameters, strict=True)
            ]
        except (TypeError, ValueError, struct.error):
            return None
        with self._session.lock:
            try:
                return plan.rows(self._answer(plan, values))
            except errors.InvalidSqlStatementName:  # psycopg drops all there are after some rollbacks
                self._plans.clear()
                if self._session.pgconn.transaction_status == TransactionStatus.IDLE:
                    return None  # nothing was done: psycopg may carry it out
                raise

    def command(self, text: str) -> bool:
        """Carry out a statement without parameters or rows, past what psycopg makes of its answer; False if it must.

        Raises:
            psycopg.Error: as a cursor would raise it.
        """
        if not self._able:
            return False
        with self._session.lock:
            self._session.pgconn.send_query(text.encode())
            self._check(self._awaited())
        return True

    # ---- inside --------------------------------------------------------------------------------

    def _found(self, statement: str) -> _Plan | None:
        """The plan of a statement that is not known yet, made if it is used often enough."""
        if not self._able or len(self._plans) >= self._most:
            return None
        uses = self._uses[statement] = self._uses.get(statement, 0) + 1
        if uses <= USES:
            if len(self._uses) > self._most:
                self._uses.clear()
            return None
        with self._session.lock:
            plan = self._plans[statement] = self._prepare(statement)
        del self._uses[statement]
        return plan

    def _prepare(self, statement: str) -> _Plan | None:
        """Prepare a statement and learn its types; None if one of them is not known here."""
        pgconn = self._session.pgconn
        self._made += 1
        name = b"resonate_%d" % self._made
        numbers = count(1)
        text = re.sub("%s", lambda _: f"${next(numbers)}", statement)
        # never `pgconn.prepare`: it waits for the server without giving the interpreter's lock away
        pgconn.send_prepare(name, text.encode())
        self._check(self._awaited())
        pgconn.send_describe_prepared(name)
        described = self._check(self._awaited())
        types = [described.param_type(number) for number in range(described.nparams)]
        if "%" in text or any(kind not in _DUMPS for kind in types):
            return None
        return _Plan(name, [_DUMPS[kind] for kind in types], Transformer(self._session))

    def _answer(self, plan: _Plan, values: Sequence[bytes | None]) -> psycopg.pq.abc.PGresult:
        """Send a statement and wait for its answer. An interrupt reaches the caller at once, and the session stays."""
        self._session.pgconn.send_query_prepared(plan.name, values, plan.formats, Format.BINARY)
        return self._check(self._awaited())

    def _awaited(self) -> psycopg.pq.abc.PGresult:
        """The answer to what has just been sent."""
        pgconn, poll = self._session.pgconn, self._poll
        assert poll is not None
        try:
            while pgconn.flush():  # more than fits into the socket; the server may have to be listened to meanwhile
                poll.modify(self._session.fileno(), select.POLLIN | select.POLLOUT)
                poll.poll()
                poll.modify(self._session.fileno(), select.POLLIN)
                pgconn.consume_input()
            poll.poll()
            pgconn.consume_input()
            while pgconn.is_busy():
                poll.poll()
                pgconn.consume_input()
            found = pgconn.get_result()
            while (more := pgconn.get_result()) is not None:
                found = more
        except psycopg.Error:
            raise
        except BaseException:
            self._cancel()
            raise
        if found is None:
            raise errors.OperationalError("the connection is lost")
        return found

    def _cancel(self) -> None:
        """Make the session usable again whose statement was interrupted."""
        try:
            self._session.cancel_safe(timeout=CANCEL)
            poll, pgconn = self._poll, self._session.pgconn
            assert poll is not None
            while pgconn.is_busy():
                if not poll.poll(CANCEL * 1000):
                    self._session.close()
                    return
                pgconn.consume_input()
            while pgconn.get_result() is not None:
                pass
        except psycopg.Error:
            self._session.close()

    def _check(self, result: psycopg.pq.abc.PGresult) -> psycopg.pq.abc.PGresult:
        if result.status not in _GOOD:
            error = errors.error_from_result(result, encoding="utf-8")
            if error.sqlstate is None and self._session.pgconn.status == ConnStatus.BAD:
                raise errors.OperationalError(str(error))
            raise error
        return result


_GOOD: Final = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)


class _Plan:
    """One prepared statement: how its parameters are written and its columns read."""

    def __init__(self, name: bytes, dumps: Sequence[Dump], reader: psycopg.abc.Transformer) -> None:
        self.name = name
        self.dumps = dumps
        self.formats = [Format.BINARY] * len(dumps)
        self._reader = reader
        self._knows = False

    def rows(self, result: psycopg.pq.abc.PGresult) -> list[tuple[Any, ...]]:
        rows = result.ntuples
        if not rows:
            return []
        reader = self._reader
        reader.set_pgresult(result, set_loaders=not self._knows)
        self._knows = True  # the columns of a prepared statement never change
        found = reader.load_rows(0, rows, tuple)
        reader.set_pgresult(None, set_loaders=False)
        return found
