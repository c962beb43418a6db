"""The storage in a schema of a PostgreSQL database, shared with any number of other processes.

Sessions: one for each lane (`lane`), opened when it is first used; one for what need not be
durable or only reads; one that listens (`listener`); those of `ctx.transaction` (`joint`).
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import psycopg

from resonate.errors import StorageUnavailable, UsageError
from resonate.protocol.footprint import Footprint
from resonate.protocol.ids import origin_of
from resonate.protocol.records import ACQUIRED, Promise, Schedule
from resonate.protocol.rows import PromiseRow, Send, TaskRow
from resonate.storage import codec
from resonate.storage.base import Timer
from resonate.storage.executions import Executions
from resonate.storage.postgres import schema
from resonate.storage.postgres.arrivals import LOOK, LOOK_FIRST, Arrivals
from resonate.storage.postgres.connection import PATIENCE, Connection, connect, no_session
from resonate.storage.postgres.executions import PostgresExecutions
from resonate.storage.postgres.joint import JointTransaction, Sessions, WithinTransaction
from resonate.storage.postgres.known import Foreseen, foreseen
from resonate.storage.postgres.lane import Lane
from resonate.storage.postgres.listener import DatabaseClock, Listener, Teller
from resonate.storage.postgres.location import Location
from resonate.storage.postgres.presence import Presence
from resonate.storage.postgres.reading import Reading, sends_of
from resonate.storage.postgres.rows import Rows, outbox_key
from resonate.storage.postgres.statements import SEND, Statements
from resonate.storage.postgres.trees import PostgresTrees
from resonate.storage.postgres.watchdog import Watchdog
from resonate.storage.trees import drop, purge

HIDDEN: Final = 5_000
"""Milliseconds for which an offer that was taken is kept from others: its taker acquires the task, or has died."""

HIDDEN_PUSHED: Final = 60_000
"""The same for what is pushed: a receiver may have to be started first."""

FEW: Final = 2
"""Offers that are taken together with what acquiring their tasks asks for; for more one read later costs less."""

FORESEEN_TREES: Final = 2_000
"""Origins that were read with offers and are remembered until the tasks are acquired."""

BUSY: Final = 25
"""Milliseconds after which timers are looked at again whose rows others had; up to twice that, at random."""

TRIES: Final = 10
"""Attempts at deleting a tree by hand."""

CLOCK_TRIES: Final = 5
"""How often the time is asked for at the start, should the answers be slow."""

JITTER: Final = 10
"""Milliseconds, at random, after which a timer is fired that another process may have set: it mostly does so itself."""

PID_TRIES: Final = 20
PID_PAUSE: Final = 0.1
"""Attempts, and seconds between two, to be the one process of a pid: a session of a dead one takes a moment to end."""

_LOG: Final = logging.getLogger("resonate.storage")


class PostgresStorage:
    """Keeps everything in one schema of a database.

    Args:
        location: where; the schema is made or brought to this version by the first that comes.
        clock: gives the time in place of the database's.

    Raises:
        ResonateStoreError: the database cannot be used; says why and what to do.
    """

    immediate = False
    shared = True
    claims = True

    def __init__(self, location: Location, *, make: bool = True) -> None:
        self.clock = DatabaseClock()
        self._make = make
        self.lanes = location.lanes + 1
        self._location = location
        self._statements = Statements(location.schema)
        self._pid: str | None = None
        self._lanes: list[Lane | None] = [None] * self.lanes
        self._connections: list[Connection] = []
        self._opening = threading.Lock()
        self._presence = Presence(location.shown, PATIENCE)
        self._side = Connection(location, self._presence, relaxed=True)
        self._listener = Listener(location, self._presence, self._lock_pid, self._look)
        self._sessions = Sessions(location)
        self._watchdog = Watchdog(location, lambda: [self._side, *self._connections])
        self._teller = Teller(self._aside, location.schema)
        self._changed: Callable[[], None] = lambda: None
        self._watched: dict[tuple[str, str], int] = {}
        self._fresh: list[Send] = []
        self._owed: list[Timer] = []
        self._arrivals = Arrivals(self._aside, self._statements.arrived)
        self._foreseen: Foreseen = {}
        self._checked: str | None = None
        self._next_due: int | None = None
        """No timer is due before."""
        self._wake_at: int | None = None
        """When to look for due timers; a little later where another process may see to them."""
        self._state = threading.Lock()
        try:
            self._side.session  # noqa: B018
            self._open_schema()
            self._read_next_due(jitter=False)
            for _ in range(CLOCK_TRIES):
                if self.clock.sure:
                    break
                self._read_next_due(jitter=False)
        except BaseException:
            self.close()
            raise

    # ---- transactions ----------------------------------------------------------------------------

    def begin(self, footprint: Callable[[], Footprint], lane: int = 0) -> Lane:
        return self._lane(lane).begin(footprint())

    def _lane(self, number: int) -> Lane:
        lane = self._lanes[number]
        if lane is None:
            with self._opening:
                connection = Connection(self._location, self._presence)
                self._connections.append(connection)
                lane = self._lanes[number] = Lane(connection, self._statements, self._stored, self._foreseen)
                self._watchdog.start()
        return lane

    def _stored(self, rows: Rows) -> None:
        """A transaction of this process is stored."""
        sent, earliest = rows.sent, rows.earliest
        if earliest is None and not sent and not rows.owed:
            return
        with self._state:
            self._owed += rows.owed
            if earliest is not None:
                if self._next_due is None or earliest < self._next_due:
                    self._next_due = earliest
                if self._wake_at is None or earliest < self._wake_at:
                    self._wake_at = earliest
            self._fresh += sent
            mine = self._channels() if sent else set()
        if sent:
            self._teller.tell(sent, mine)

    def joint(self) -> JointTransaction:
        return JointTransaction(self._sessions, self._statements, self._joined)

    def within(self, connection: Any) -> WithinTransaction:
        return WithinTransaction(connection, self._statements, self._location, self._other)

    def _joined(self, rows: Rows) -> None:
        self._stored(rows)
        self._changed()

    def _other(self, session: psycopg.Connection[Any]) -> str | None:
        """The database of `session`, if it is not ours."""
        ours, theirs = self._side.session.info, session.info
        same = (theirs.dbname, theirs.port) == (ours.dbname, ours.port) and (
            theirs.host == ours.host or theirs.hostaddr == ours.hostaddr
        )
        return None if same else f"postgresql://{theirs.host}:{theirs.port}/{theirs.dbname}"

    # ---- view, outside of a transaction ----------------------------------------------------------

    def promise(self, id: str) -> PromiseRow | None:
        if "\0" in id:
            return None
        found = self._aside(self._statements.promise, (origin_of(id), id))
        return codec.decode_promise(*found[0]) if found else None

    def task(self, id: str) -> TaskRow | None:
        found = self._aside(self._statements.task, (origin_of(id), id))
        return codec.decode_task(*found[0]) if found else None

    def schedule(self, id: str) -> Schedule | None:
        found = self._aside(self._statements.schedule, (origin_of(id), id))
        return codec.decode_schedule(found[0][0]) if found else None

    def branch(self, branch: str) -> Iterable[Promise]:
        found = self._aside(self._statements.branch, (branch,))
        return [codec.decode_promise(*row).promise for row in sorted(found)]

    def reachable(self, id: str) -> bool:
        return True

    def promises(self, after: str | None) -> list[PromiseRow]:
        return list(self._reading().promises(after))

    def below(self, above: str, end: str) -> list[PromiseRow]:
        return list(self._reading().below(above, end))

    def strays(self, first: str, last: str) -> list[PromiseRow]:
        return self._reading().strays(first, last)

    def _reading(self) -> Reading:
        return Reading(self._aside, self._statements)

    def listing(self) -> Executions:
        return Executions(PostgresExecutions(self._aside, self._statements.schema))

    def tasks(self, after: str | None) -> list[TaskRow]:
        return list(self._reading().tasks(after))

    def schedules(self, after: str | None) -> list[Schedule]:
        return list(self._reading().schedules(after))

    def messages(self) -> list[Send]:
        return sends_of(self._aside(self._statements.outbox))

    # ---- timers ----------------------------------------------------------------------------------

    def due(self, now: int, limit: int) -> list[Timer]:
        if self._next_due is None or now < self._next_due:
            return []
        found = self._aside(self._statements.due, (now, limit, now, limit, now, limit, limit))
        if not found:
            self._read_next_due(jitter=True)
        return [tuple(part for part in row if part is not None) for row in found]

    def owed(self) -> list[Timer]:
        if not self._owed:
            return []
        with self._state:
            owed, self._owed = self._owed, []
        return owed

    def put_back(self, timers: Sequence[Timer]) -> None:
        """Others have the rows of these, or they failed: look again in a moment."""
        self._wake_at = self.clock.now() + random.randint(BUSY, 2 * BUSY)

    def next_due(self) -> int | None:
        return self._wake_at

    def _read_next_due(self, *, jitter: bool) -> None:
        asked = time.monotonic()
        ((due, now),) = self._aside(self._statements.next_due)
        self.clock.told(now, asked, time.monotonic())
        with self._state:
            self._next_due = due
            self._wake_at = due if due is None or not jitter else due + random.randint(0, JITTER)

    # ---- messages --------------------------------------------------------------------------------

    def fresh(self) -> list[Send]:
        if not self._fresh:
            return []
        with self._state:
            fresh, self._fresh = self._fresh, []
        return fresh

    def outbox(self) -> list[Send]:
        """The messages that wait for a receiver of this process."""
        return self._arrived(whole=True, limit=LOOK_FIRST)

    def peek(self, keys: Sequence[tuple[str, ...]]) -> list[Send]:
        return sends_of(self._aside(self._statements.peek, _columns(keys))) if keys else []

    def take(self, keys: Sequence[tuple[str, ...]], limit: int | None = None) -> list[Send]:
        offers = [key for key in keys if key[0] == "execute"]
        news = [key for key in keys if key[0] != "execute"]
        most = len(keys) if limit is None else limit
        found: list[tuple[Any, ...]] = []
        if news:
            found += self._aside(self._statements.remove, _columns(news[:most]))
        if offers and len(found) < most:
            now = self.clock.now()
            until = now + HIDDEN_PUSHED, now + HIDDEN
            few = most - len(found) <= FEW
            hide = self._statements.hide_and_read if few else self._statements.hide
            rows = self._aside(hide, (*_columns(offers), now, most - len(found), *until))
            found += [(kind, id, "", body, seq) for what, _, id, kind, seq, body in rows if what == SEND]
            if few:
                self._foresee(rows)
        found.sort(key=lambda row: row[4])
        self._teller.taken(keys)
        if self._arrivals.is_low(offers, most):
            self._listener.wake()
        return sends_of(row[:4] for row in found)

    def _foresee(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Keep what was read with offers for the transactions that acquire their tasks, as of the versions read."""
        trees, branches = foreseen(rows)
        if len(self._foreseen) > FORESEEN_TREES:  # of tasks that others have acquired in the end
            self._foreseen.clear()
        for origin, tree in trees.items():
            self._foreseen[origin] = tree, branches.get(origin, {})

    def watch(self, group: str, pid: str, changed: Callable[[], None]) -> None:
        self._changed = changed
        with self._state:
            self._watched[(group, pid)] = self._watched.get((group, pid), 0) + 1
        self._listener.watch(group)

    def unwatch(self, group: str, pid: str) -> None:
        with self._state:
            left = self._watched.get((group, pid), 0) - 1
            if left > 0:
                self._watched[(group, pid)] = left
            else:
                self._watched.pop((group, pid), None)

    def _channels(self) -> set[str]:
        """What this process receives: everything for its groups, and what is for its receivers alone."""
        return {group for group, _ in self._watched} | {f"{group}/{pid}" for group, pid in self._watched}

    def _arrived(self, *, whole: bool, limit: int = LOOK) -> list[Send]:
        with self._state:
            channels = self._channels()
        return sends_of(self._arrivals.look(channels, self.clock.now(), whole=whole, limit=limit))

    def _look(self, told: bool, offers: Sequence[Send] = ()) -> None:
        """Learn what other processes have done, `offers` if they say that it is no more than these; what they have made
        due only now and then."""
        whole = self._arrivals.is_time()
        if offers and not whole:  # where more waits than is known here, these come after it
            arrived = [] if self._arrivals.behind else offers
        else:
            arrived = self._arrived(whole=whole)
        if whole or not told or not self.clock.sure:
            self._read_next_due(jitter=True)
        with self._state:
            self._fresh += arrived
        self._changed()

    # ---- finished trees ----------------------------------------------------------------------------

    def purge(self, before: int, now: int, limit: int) -> int:
        trees = PostgresTrees(self._work, self._statements, alone=True)
        trees.checked = self._checked
        done = trees.run(lambda: purge(trees, before, now, limit))
        self._checked = trees.checked if done else None
        return done or 0

    def drop(self, root: str, now: int, limit: int) -> Promise | bool:
        for _ in range(TRIES):
            trees = PostgresTrees(self._work, self._statements, alone=False)
            done = trees.run(lambda trees=trees: drop(trees, root, now, limit))  # type: ignore[misc]
            if done is not None:
                return done
        raise StorageUnavailable(f"{root} cannot be deleted: others change it all the time. Try again later")

    @property
    def _work(self) -> Connection:
        return self._lane(self.lanes - 1)._connection

    # ---- processes ---------------------------------------------------------------------------------

    def claim(self, pid: str) -> list[tuple[str, int]]:
        self._pid = pid
        self._listener.open()
        rows = self._aside(self._statements.left_by, (pid,))
        return [(id, codec.decode_task(id, ACQUIRED, body).version) for id, body in rows]

    def _lock_pid(self, session: psycopg.Connection[Any]) -> None:
        """Hold the lock that says that this process lives, for as long as the listening session does."""
        if self._pid is None or session.info.backend_pid != session.execute("SELECT pg_backend_pid()").fetchone()[0]:  # type: ignore[index]
            return
        name = f"{self._location.schema}\0{self._pid}".encode().hex()
        for attempt in range(PID_TRIES):
            if session.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (name,)).fetchone() == (True,):
                return
            if attempt < PID_TRIES - 1:
                time.sleep(PID_PAUSE)  # a session of a process that has just died is still being ended
        raise UsageError(
            f"another live process uses {self._location.shown} under the pid {self._pid!r}: give each process a pid of "
            "its own, or leave pid out"
        )

    def close(self) -> None:
        self._watchdog.close()
        self._teller.close()
        self._listener.close()
        self._sessions.close()
        for connection in self._connections:
            connection.close()
        self._side.close()

    # ---- inside --------------------------------------------------------------------------------------

    def _aside(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """A statement of its own, which may be carried out twice and need not be durable."""
        with self._side.lock:
            return self._side.ask(statement, parameters)

    def _open_schema(self) -> None:
        where, name = self._location.shown, self._location.schema
        version = schema.version_of(self._aside, name)
        if version == len(schema.MIGRATIONS):
            return
        if version is not None:
            schema.check(version, where, name)
        elif not self._make:
            raise UsageError(
                f"schema {name!r} of {where} holds no tables of resonate; programs make them when they start, and "
                "`resonate migrate` does. See that the url names the right database and schema"
            )
        migrate(self._location)


def migrate(location: Location) -> tuple[int, int]:
    """Make or bring to this version what `location` names; the versions before and after.

    Raises:
        StorageUnusable: it is newer, or this role may not do that.
        StorageUnavailable: the database is out of reach.
    """

    def execute(statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        cursor = session.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []

    try:
        with connect(location) as session:
            locks = _has_advisory_locks(session)
            # others may migrate first: with the isolation or the timeouts that the role has by default, one would not
            # see what they have made, or give up while they are at it
            session.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            with session.transaction():
                execute("SET LOCAL lock_timeout = 0")
                execute("SET LOCAL statement_timeout = 0")
                return schema.migrate(execute, location.shown, location.schema, lock=locks)
    except psycopg.Error as error:
        raise no_session(error, location.shown) from error


def _has_advisory_locks(session: psycopg.Connection[Any]) -> bool:
    return bool(session.execute("SELECT 1 FROM pg_proc WHERE proname = 'pg_advisory_xact_lock'").fetchall())


def _columns(keys: Sequence[tuple[str, ...]]) -> tuple[list[str], list[str], list[str], list[str]]:
    rows = [outbox_key(key) for key in keys]
    return [origin_of(row[1]) for row in rows], [row[0] for row in rows], [row[1] for row in rows], [r[2] for r in rows]


__all__ = ["PostgresStorage", "migrate"]
