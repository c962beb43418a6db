"""Transactions that hold a user's statements and ours: both are committed, or neither is.

`ctx.transaction` lends a session of ours to a step (`Lent`); `begin_run_in` writes through a
connection of the user's. Ours are always the last statements, so nobody waits for the locks
of a task while the user's code runs. To the rest of the storage either looks like another
process that has written.
"""

from __future__ import annotations

import contextlib
import re
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import psycopg

from resonate.errors import OutcomeUnknown, StorageUnavailable, UsageError
from resonate.protocol.footprint import Footprint
from resonate.protocol.ids import origin_of
from resonate.protocol.rows import Send
from resonate.storage.base import Conflict
from resonate.storage.drivers import driver_connection, no_connection
from resonate.storage.postgres.connection import BROKEN, IDLE, PREPARED_AFTER, UNICODE, connect, is_pooled
from resonate.storage.postgres.failures import IN_THE_WAY, Lost, is_lost, translate, unreachable
from resonate.storage.postgres.listener import NOTIFY, notices
from resonate.storage.postgres.location import Location
from resonate.storage.postgres.rows import Rows, new_stamp
from resonate.storage.postgres.statements import Statements, says_yes

WAIT: Final = 30.0
"""Seconds for which a step waits for one of the connections of `ctx.transaction`."""

RESET: Final = "RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL"
"""Undoes what a step has SET, so that the next one finds a session as it was opened."""

CHECK_DEFERRED: Final = "SET CONSTRAINTS ALL IMMEDIATE"

_MAY_WRITE: Final = """
    SELECT current_user::text, current_setting('transaction_read_only') = 'on',
        CASE WHEN has_schema_privilege(%s, 'USAGE') THEN has_table_privilege(%s, 'INSERT') ELSE false END
"""

_ENDS: Final = re.compile(
    r"\s*(?:--[^\n]*\n\s*|/\*.*?\*/\s*)*(commit|rollback|abort|end|begin|start\s+transaction|prepare\s+transaction)\b(?!\s+to\b)",
    re.IGNORECASE | re.DOTALL,
)

_SAVEPOINT: Final = re.compile(r"\s*rollback\s+(?:work\s+|transaction\s+)?to\b", re.IGNORECASE)


_SUSPECT: Final = re.compile(r"\b(?:role|authorization|read\s+only|transaction_read_only)\b", re.IGNORECASE)
"""What a statement holds that takes away the right to write, which is asked about only then."""


class LentCursor(psycopg.Cursor[Any]):
    """Refuses statements that would end the transaction of a step."""

    def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        connection = self.connection
        if isinstance(connection, Lent) and connection.lent:
            connection.check(query)
        return super().execute(query, *args, **kwargs)


class Lent(psycopg.Connection[Any]):
    """What a step of `ctx.transaction` writes with. It cannot end the transaction it is in."""

    lent = False
    pooled = False
    shared = False
    """SQLAlchemy works on it too: what it ends is a transaction that it believes to be its own."""
    suspect = False
    """Whether a step may have taken away the right to write."""
    misuse: UsageError | None = None
    sent: Sequence[Send] = ()
    """What `begin_run_in` has put into the outbox with it."""

    def commit(self) -> None:
        """Refused while lent."""
        if self.lent and self.shared:
            return
        self._refuse("commit()")
        super().commit()

    def rollback(self) -> None:
        """Refused while lent."""
        if self.lent and self.shared:
            return
        self._refuse("rollback()")
        super().rollback()

    def close(self) -> None:
        """Refused while lent."""
        if self.lent and self.shared:
            return
        self._refuse("close()")
        super().close()

    def check(self, query: Any) -> None:
        """Refuse a statement that begins or ends a transaction, and note one after which we may not write."""
        text = (
            query if isinstance(query, str) else query.decode() if isinstance(query, bytes) else query.as_string(self)
        )
        self.suspect = self.suspect or _SUSPECT.search(text) is not None
        found = _ENDS.match(text)
        if found is not None and _SAVEPOINT.match(text) is None:
            self._refuse(found.group(1).upper())

    def _refuse(self, what: str) -> None:
        if self.lent:
            self.misuse = UsageError(
                f"a step of ctx.transaction called {what}: its transaction is begun before it and committed after it, "
                "together with its result. Leave that out (`with connection.transaction():` is a savepoint), or raise "
                "to undo everything"
            )
            raise self.misuse


class Locking(Rows):
    """Our rows in a transaction that is under way: each origin is locked when it is first read."""

    def __init__(self, session: psycopg.Connection[Any], statements: Statements, where: str) -> None:
        super().__init__(self.execute, statements)
        self._session = session
        self._where = where

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one statement, whatever the user has set up on the connection."""
        try:
            with (
                _as_unicode(self._session),
                psycopg.Cursor(self._session, row_factory=psycopg.rows.tuple_row) as cursor,
            ):
                cursor.execute(statement, parameters, binary=True)
                return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            found = translate(error, self._where)
            if isinstance(found, Lost):
                found = unreachable(self._where, error)
            raise found from error

    def load(self, footprint: Footprint) -> None:
        """Lock and read the rows of a batch, in the order of their origins."""
        origins = {origin_of(id) for id in footprint.promises | footprint.schedules}
        self.execute(self._statements.lock, (sorted(origin for origin in origins if "\0" not in origin),))
        self._touched.update(origins)
        super().load(footprint)

    def _touch(self, origin: str) -> None:
        super()._touch(origin)
        if "\0" not in origin:
            self.execute(self._statements.lock, ([origin],))

    def _store(self) -> None:
        """Carry out what has been done.

        Raises:
            Conflict: somebody else has just created what was to be created; nothing was written.
        """
        if self.changed and not says_yes(self.execute(*self.written(new_stamp()))):
            raise Conflict("an id was created by somebody else")


class JointTransaction(Locking):
    """A transaction on a session of its own, which is lent to a step before we write.

    Args:
        sessions: gives the session, and gets it back.
        statements: those of the schema.
        stored: called after the commit.
    """

    def __init__(self, sessions: Sessions, statements: Statements, stored: Callable[[Rows], None]) -> None:
        self._sessions = sessions
        self._lent = sessions.take()
        super().__init__(self._lent, statements, sessions.where)
        self._stored = stored
        try:
            self.execute("BEGIN")
        except BaseException:
            self.rollback()
            raise

    @contextlib.contextmanager
    def lend(self, seconds: float) -> Iterator[Lent]:
        """Give the session away for the block; however long it takes, it holds up nobody but itself.

        Raises:
            UsageError: what ran in the block tried to end the transaction, or swallowed an error that has.
            psycopg.Error: what ran in the block violates a deferred constraint.
        """
        lent = self._lent
        lent.sent = ()
        lent.misuse = None
        lent.suspect = False
        factories = lent.row_factory, lent.cursor_factory
        lent.lent = True
        try:
            yield lent
        except Exception as error:
            if lent.misuse is not None:
                raise lent.misuse from error
            raise
        finally:
            lent.lent = False
            lent.row_factory, lent.cursor_factory = factories
        if lent.misuse is not None:
            raise lent.misuse
        if lent.info.transaction_status == IDLE:
            raise UsageError("a step of ctx.transaction ended its transaction: what it changed is not with its result")
        if lent.info.transaction_status == BROKEN:
            raise UsageError(
                "a step of ctx.transaction swallowed an error of a statement, after which PostgreSQL does nothing more "
                "in its transaction. Let it raise, or put what may fail into `with connection.transaction():`, a "
                "savepoint"
            )
        self._check_deferred()
        if lent.suspect:
            self._check_rights()

    def _check_deferred(self) -> None:
        """Have deferred constraints and triggers checked now: what they refuse is an error of the step, as at its end
        there is no telling it from one of ours.

        Raises:
            psycopg.Error: one of them is violated.
            StorageUnavailable: it is not known whether.
        """
        if not self._sessions.defers:
            return
        try:
            with psycopg.Cursor(self._lent) as cursor:
                cursor.execute(CHECK_DEFERRED)
        except (psycopg.errors.FeatureNotSupported, psycopg.errors.SyntaxError) as error:
            self._sessions.defers = False
            where = self._sessions.where
            raise StorageUnavailable(f"{where} knows no deferred constraints; the step is tried again") from error
        except psycopg.Error as error:
            if not is_lost(error) and error.sqlstate not in IN_THE_WAY:
                raise
            found = translate(error, self._sessions.where)
            raise StorageUnavailable(f"{found}; nothing of the transaction was stored. It is tried again") from error

    def _check_rights(self) -> None:
        """See that the step has left us a transaction that its result can be stored in.

        Raises:
            UsageError: it has not.
        """
        name, schema = self._statements.name, self._statements.schema
        ((role, read_only, allowed),) = self.execute(_MAY_WRITE, (name, f"{schema}.promises"))
        if read_only:
            raise UsageError(
                "a step of ctx.transaction made its transaction read-only, so that its result cannot be stored in it: "
                "leave out SET TRANSACTION READ ONLY"
            )
        if not allowed:
            raise UsageError(
                f"a step of ctx.transaction left its transaction to the role {role!r}, which has no rights on "
                f"the schema {name!r}, so that its result cannot be stored in it: RESET ROLE before the step ends"
            )

    def commit(self) -> None:
        """Store everything.

        Raises:
            StorageUnavailable: nothing was stored.
            OutcomeUnknown: the connection was lost in the commit.
        """
        try:
            self._store()
        except Conflict as conflict:
            raise StorageUnavailable(f"{conflict}; nothing of the transaction was stored. It is tried again") from None
        try:
            with psycopg.Cursor(self._lent) as cursor:
                cursor.execute("COMMIT")
        except psycopg.Error as error:
            if is_lost(error):
                raise OutcomeUnknown(
                    f"the connection to {self._sessions.where} was lost in the commit of a transaction: read before "
                    "deciding"
                ) from error
            found = translate(error, self._sessions.where)
            if isinstance(found, Conflict):
                found = StorageUnavailable(f"{found}; nothing of the transaction was stored")
            raise found from error
        self.sent = [*self._lent.sent, *self.sent]
        self._release()
        self._stored(self)
        self._ended()

    def rollback(self) -> None:
        """Forget everything, if that has not ended already."""
        self.undo()
        self._release()

    def _release(self) -> None:
        lent: Lent | None = getattr(self, "_lent", None)
        if lent is not None:
            del self._lent
            self._sessions.give_back(lent)


class WithinTransaction(Locking):
    """Our rows in a transaction of the user's: theirs to commit or roll back.

    Args:
        connection: a `psycopg.Connection`, or what wraps one (a session or connection of SQLAlchemy).
        statements: those of the schema.
        location: the database and schema that it has to be connected to.
        is_ours: says which database a session is connected to, if that is another one.

    Raises:
        TypeError, UsageError: it is no such connection.
    """

    def __init__(
        self,
        connection: Any,
        statements: Statements,
        location: Location,
        is_ours: Callable[[psycopg.Connection[Any]], str | None],
    ) -> None:
        session = driver_connection(connection)
        if not isinstance(session, psycopg.Connection):
            wanted = "`psycopg.Connection`, or a session or connection of SQLAlchemy over psycopg 3"
            raise no_connection(connection, wanted)
        where = location.shown
        super().__init__(session, statements, where)
        self._schema = location.schema
        other = is_ours(session)
        if other is not None:
            raise UsageError(
                f"begin_run_in was given a connection to {other}, but state lives in {where}: both have to be in one "
                "database to be committed together"
            )
        if session.autocommit and session.info.transaction_status == IDLE:
            raise UsageError(
                "begin_run_in was given a connection in autocommit mode outside of a transaction: what it starts could "
                "not be part of one. Use `with connection.transaction():` around it"
            )

    def commit(self) -> None:
        """Have everything in the user's transaction; nothing is durable before they commit it.

        Raises:
            Conflict: an id was created by somebody else meanwhile; nothing was written.
        """
        self._store()
        session = self._session
        if isinstance(session, Lent) and session.lent:
            session.sent = [*session.sent, *self.sent]
        elif self.sent:
            self._notify()

    def _notify(self) -> None:
        """Have PostgreSQL tell those who listen at the commit; else they look each second."""
        if getattr(self._session, "_tpc", None) is not None:  # in two phases: one that notifies cannot be prepared
            return
        with (
            contextlib.suppress(psycopg.Error),
            _as_unicode(self._session),
            psycopg.Cursor(self._session) as cursor,
        ):
            cursor.execute("SAVEPOINT resonate_notify")
            try:
                cursor.execute(NOTIFY, notices(self._schema, self.sent))
            except psycopg.Error:  # it has no such thing
                cursor.execute("ROLLBACK TO SAVEPOINT resonate_notify")
            cursor.execute("RELEASE SAVEPOINT resonate_notify")

    def rollback(self) -> None:
        """Nothing has been written before `commit`."""
        self.undo()
        del self._session

    def leave(self) -> Callable[[], bool]:
        """Forget the session; returns what tells whether the user has yet to commit or roll back."""
        known = weakref.ref(self._session)
        del self._session  # these rows refer to themselves, and would keep it until they are collected

        def pending() -> bool:
            session = known()
            return session is not None and not session.closed and session.info.transaction_status != IDLE

        return pending


class Sessions:
    """The sessions of `ctx.transaction`: opened when needed, kept, and never more than `location.pool`."""

    def __init__(self, location: Location) -> None:
        self.where = location.shown
        self.defers = True
        """Whether the database has deferred constraints, as far as is known."""
        self._location = location
        self._free: list[Lent] = []
        self._room = threading.BoundedSemaphore(location.pool)
        self._lock = threading.Lock()
        self._closed = False

    def take(self) -> Lent:
        """A session that nobody else has.

        Raises:
            StorageUnavailable: none is free for long, or the database is out of reach.
        """
        if not self._room.acquire(timeout=WAIT):
            raise StorageUnavailable(
                f"all {self._location.pool} connections of ctx.transaction to {self.where} are in use for more than "
                f"{WAIT:g} s. Make the steps shorter, or raise the limit: {self.where}?pool=N"
            )
        try:
            while True:
                with self._lock:
                    session = self._free.pop() if self._free else None
                if session is None:
                    return self._open()
                if _answers(session):
                    return session
        except BaseException:
            self._room.release()
            raise

    def give_back(self, session: Lent) -> None:
        """Take back a session, whatever state it is in."""
        try:
            if not session.closed and session.info.transaction_status != IDLE:
                with contextlib.suppress(psycopg.Error):
                    session.rollback()
            with self._lock:
                if not session.closed and session.info.transaction_status == IDLE and not self._closed:
                    self._free.append(session)
                    return
            session.close()
        finally:
            self._room.release()

    def close(self) -> None:
        """End the sessions that are free; the others end when they come back. Idempotent."""
        with self._lock:
            self._closed = True
            free, self._free = self._free, []
        for session in free:
            session.close()

    def _open(self) -> Lent:
        try:
            session = connect(self._location, Lent)
            assert isinstance(session, Lent)
            session.pooled = is_pooled(session)
        except psycopg.Error as error:
            found: Exception = translate(error, self.where)
            if isinstance(found, Lost | Conflict):
                found = unreachable(self.where, error)
            raise found from error
        if not session.pooled:
            session.prepare_threshold = PREPARED_AFTER
        session.cursor_factory = LentCursor
        return session


@contextlib.contextmanager
def _as_unicode(session: psycopg.Connection[Any]) -> Iterator[None]:
    """Have a session whose transaction is under way write and read any text for the block, as ours do."""
    given = session.info.parameter_status("client_encoding")
    if given in (UNICODE, None):
        yield
        return
    with psycopg.Cursor(session) as cursor:
        cursor.execute(_SET_ENCODING, (UNICODE,))
        yield
        cursor.execute(_SET_ENCODING, (given,))


_SET_ENCODING: Final = "SELECT set_config('client_encoding', %s, true)"


def _answers(session: Lent) -> bool:
    """Whether a session that has been idle is still there; it is then as it was opened."""
    try:
        # behind a pooler what is reset may be another's
        session.execute("SELECT 1" if session.pooled else RESET, prepare=False)
    except psycopg.Error:
        with contextlib.suppress(psycopg.Error):
            session.close()
        return False
    return True


__all__ = ["JointTransaction", "Lent", "Sessions", "WithinTransaction"]
