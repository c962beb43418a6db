"""The storage in one SQLite file: transactions, timers and messages, shared with other processes.

What this process knows without looking (rows in motion, the next due instant, the last
message seen) is right for as long as `data_version` says that nobody else has written; it
is compared at the beginning of each transaction and whenever another process calls.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from resonate.protocol.addresses import channel
from resonate.protocol.footprint import Footprint
from resonate.protocol.records import ACQUIRED, Promise, Schedule
from resonate.protocol.rows import PromiseRow, Send, TaskRow
from resonate.storage import codec
from resonate.storage.base import PROMISE, SCHEDULE, TASK, Timer
from resonate.storage.executions import Executions
from resonate.storage.sqlite.connection import Connection
from resonate.storage.sqlite.executions import SqliteExecutions
from resonate.storage.sqlite.joint import JointTransaction, Lent, WithinTransaction
from resonate.storage.sqlite.location import Location
from resonate.storage.sqlite.locks import LockFile, PidLock, forget_dead
from resonate.storage.sqlite.peers import Peers
from resonate.storage.sqlite.rows import Rows, outbox_key
from resonate.storage.sqlite.trees import SqliteTrees
from resonate.storage.trees import drop, purge

Read = TypeVar("Read")

_VERSION: Final = "PRAGMA data_version"
_DUE: Final = (
    (PROMISE, "SELECT id FROM resonate_promises WHERE due <= ? ORDER BY due LIMIT ?"),
    (TASK, "SELECT id FROM resonate_tasks WHERE due <= ? ORDER BY due LIMIT ?"),
    (SCHEDULE, "SELECT id FROM resonate_schedules WHERE due <= ? ORDER BY due LIMIT ?"),
)
_NEXT_DUE: Final = (
    "SELECT min(due) FROM (SELECT min(due) AS due FROM resonate_promises WHERE due IS NOT NULL "
    "UNION ALL SELECT min(due) FROM resonate_tasks WHERE due IS NOT NULL "
    "UNION ALL SELECT min(due) FROM resonate_schedules)"
)
_LAST_SEQ: Final = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'resonate_outbox'"
_ARRIVED: Final = "SELECT kind, id, listener, body, seq FROM resonate_outbox WHERE seq > ? ORDER BY seq"
_TAKE: Final = (
    "DELETE FROM resonate_outbox WHERE kind = ? AND id = ? AND listener = ? RETURNING kind, id, listener, body"
)
_THERE: Final = "SELECT kind, id, listener, body FROM resonate_outbox WHERE kind = ? AND id = ? AND listener = ?"
_LEFT_BY: Final = "SELECT id, body FROM resonate_tasks WHERE pid = ?"


class SqliteStorage:
    """Keeps everything in the file at `location`, for any number of processes.

    Raises:
        ResonateStoreError: the file cannot be opened; says why and what to do.
    """

    immediate = False
    shared = True
    lanes = 1
    claims = False

    def __init__(self, location: Location) -> None:
        self._connection = Connection(location)
        self._rows = SqliteTransaction(self, self._connection)
        self._trees = SqliteTrees(self._connection, self._rows.drop)
        self._purging = LockFile(f"{self._connection.locks}/purge")
        self._purging.close_in_children()
        self._peers = Peers(location.path)
        self._pid: PidLock | None = None
        self._location = location
        self._joint: JointTransaction | None = None
        self._joining = threading.Lock()
        self._fresh: list[Send] = []
        self._begun = False
        self._version: int | None = None
        try:
            with self._connection.reading():
                self._version = self._data_version()
                self._seen = int(self._connection.execute(_LAST_SEQ)[0][0])
                self._next_due = self._read_next_due()
        except BaseException:  # a damaged file, found out only now
            self._connection.close()
            raise
        self._due_unknown = False

    # ---- transaction -------------------------------------------------------------------------

    def begin(self, footprint: Callable[[], Footprint], lane: int = 0) -> SqliteTransaction:
        self._connection.begin()
        self._begun = True
        try:
            self._catch_up()
            self._rows.load(footprint())
        except BaseException:
            self.rollback()
            raise
        return self._rows

    def commit(self) -> None:
        """Store what the transaction has done; for `SqliteTransaction`."""
        rows, connection = self._rows, self._connection
        rows.flush()
        connection.commit()
        sent, earliest = rows.sent, rows.earliest
        if earliest is not None and (self._next_due is None or earliest < self._next_due):
            self._next_due = earliest
        if sent:
            self._fresh += sent
            self._seen = rows.last_seq or self._seen
        rows.committed()
        self._begun = False
        connection.end()
        if sent:
            self._peers.notify(_groups(sent))

    def rollback(self) -> None:
        """Forget what the transaction has done; for `SqliteTransaction`."""
        if self._begun:
            self._begun = False
            self._rows.undo()
            self._version = None  # should it have been stored after all: look at everything again
            self._connection.rollback()

    # ---- transactions of others ------------------------------------------------------------------

    def joint(self) -> JointTransaction:
        with self._joining:
            if self._joint is None:
                self._joint = JointTransaction(Connection(self._location, Lent), self._written)
        self._joint.begin()
        return self._joint

    def within(self, connection: Any) -> WithinTransaction:
        return WithinTransaction(connection, self._connection.path)

    def _written(self, sent: Sequence[Send]) -> None:
        """A transaction of another connection of this process has been stored."""
        self.look()
        if sent:
            self._peers.notify(_groups(sent))

    # ---- view, outside of a transaction -----------------------------------------------------------

    def promise(self, id: str) -> PromiseRow | None:
        return self._looked(lambda: self._rows.promise(id))

    def task(self, id: str) -> TaskRow | None:
        return self._looked(lambda: self._rows.task(id))

    def schedule(self, id: str) -> Schedule | None:
        return self._looked(lambda: self._rows.schedule(id))

    def branch(self, branch: str) -> Iterable[Promise]:
        return self._looked(lambda: self._rows.branch(branch))

    def reachable(self, id: str) -> bool:
        return True

    def promises(self, after: str | None) -> list[PromiseRow]:
        return self._looked(lambda: list(self._rows.promises(after)))

    def below(self, above: str, end: str) -> list[PromiseRow]:
        return self._looked(lambda: list(self._rows.below(above, end)))

    def strays(self, first: str, last: str) -> list[PromiseRow]:
        return self._looked(lambda: self._rows.strays(first, last))

    def listing(self) -> Executions:
        return Executions(SqliteExecutions(self._read))

    def _read(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        with self._connection.reading():
            if self._begun:
                self._rows.flush()
            return self._connection.execute(statement, parameters)

    def tasks(self, after: str | None) -> list[TaskRow]:
        return self._looked(lambda: list(self._rows.tasks(after)))

    def schedules(self, after: str | None) -> list[Schedule]:
        return self._looked(lambda: list(self._rows.schedules(after)))

    def messages(self) -> list[Send]:
        return self._looked(self._rows.messages)

    # ---- timers and outbox ---------------------------------------------------------------------------

    def due(self, now: int, limit: int) -> list[Timer]:
        if not self._due_unknown and not self._begun and (self._next_due is None or now < self._next_due):
            return []
        found: list[Timer] = []
        with self._connection.reading():
            if self._begun:
                self._rows.flush()
            for kind, statement in _DUE:  # promises first: the steps of a task look at its promise
                rows = self._connection.execute(statement, (now, limit - len(found)))
                found += [(kind, row[0]) for row in rows]
            if not found:
                self._next_due = self._read_next_due()
                self._due_unknown = False
        return found

    def owed(self) -> list[Timer]:
        return []

    def put_back(self, timers: Sequence[Timer]) -> None:
        """What is due stays due until a step has changed its row."""

    def next_due(self) -> int | None:
        return self._next_due

    def fresh(self) -> list[Send]:
        if not self._fresh:
            return []
        with self._connection.lock:
            fresh, self._fresh = self._fresh, []
        return fresh

    def outbox(self) -> list[Send]:
        return self.messages()

    def peek(self, keys: Sequence[tuple[str, ...]]) -> list[Send]:
        with self._connection.reading():
            rows = [row for key in keys for row in self._connection.execute(_THERE, outbox_key(key))]
        return [codec.decode_send(*row) for row in rows]

    def take(self, keys: Sequence[tuple[str, ...]], limit: int | None = None) -> list[Send]:
        keys = keys[:limit]
        connection = self._connection
        with connection.reading():  # most of what is missing has been taken by another process: no need to queue
            there = [row for key in keys for row in connection.execute(_THERE, outbox_key(key))]
        # Who has read an offer may die before it acquires the task. So the offer stays until then.
        news = [row[:3] for row in there if row[0] != "execute"]
        if news:
            # Not durable: news that come back after a power cut are heard twice, which does no harm.
            taken = set(self._deleting(lambda: self._take(news), durable=False))
            there = [row for row in there if row[0] == "execute" or row[:3] in taken]
        return [codec.decode_send(*row) for row in there]

    def _take(self, names: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        return [row[:3] for name in names for row in self._connection.execute(_TAKE, name)]

    # ---- finished trees --------------------------------------------------------------------------------

    def purge(self, before: int, now: int, limit: int) -> int:
        if not self._purging.try_lock():
            return 0
        done = 0
        try:
            with self._connection.reading():  # most looks find nothing: no need to queue
                if not any(True for _ in self._trees.over(before, 1)):
                    return 0
            done = self._deleting(lambda: purge(self._trees, before, now, limit), durable=False)
        finally:
            if not done:
                self._purging.unlock()
        return done

    def drop(self, root: str, now: int, limit: int) -> Promise | bool:
        return self._deleting(lambda: drop(self._trees, root, now, limit), durable=True)

    def _deleting(self, delete: Callable[[], Read], *, durable: bool) -> Read:
        connection = self._connection
        connection.begin(durable=durable)
        try:
            result = delete()
            connection.commit()
        except BaseException:
            connection.rollback(durable=durable)
            raise
        connection.end(durable=durable)
        return result

    # ---- other processes --------------------------------------------------------------------------------

    def watch(self, group: str, pid: str, changed: Callable[[], None]) -> None:
        def look() -> None:
            if self.look():
                changed()

        self._peers.watch(group, look)

    def unwatch(self, group: str, pid: str) -> None:
        """Others go on sending datagrams, which does no harm."""

    def look(self) -> bool:
        """Learn what other processes have done; whether they have done anything since the last look."""
        with self._connection.reading():
            self._catch_up()
            if not self._due_unknown:
                return False
            self._next_due = self._read_next_due()
            self._due_unknown = False
        return True

    def claim(self, pid: str) -> list[tuple[str, int]]:
        with self._connection.turn():
            forget_dead(self._connection.locks)
            self._pid = PidLock(self._connection.locks, pid)
            rows = self._connection.execute(_LEFT_BY, (pid,))
        return [(id, codec.decode_task(id, ACQUIRED, body).version) for id, body in rows]

    def close(self) -> None:
        self._peers.close()
        if self._pid is not None:
            self._pid.close()
        self._purging.close()
        if self._joint is not None:
            self._joint.close()
        self._connection.close()

    # ---- inside -------------------------------------------------------------------------------------------

    def _catch_up(self) -> None:
        """Learn what other processes have done since we looked last; the caller has the connection."""
        version = self._data_version()
        if version == self._version:
            return
        self._rows.forget()
        for *row, seq in self._connection.execute(_ARRIVED, (self._seen,)):
            self._fresh.append(codec.decode_send(*row))
            self._seen = seq
        self._due_unknown = True
        self._version = version

    def _data_version(self) -> int:
        return int(self._connection.execute(_VERSION)[0][0])

    def _read_next_due(self) -> int | None:
        earliest: int | None = self._connection.execute(_NEXT_DUE)[0][0]
        return earliest

    def _looked(self, read: Callable[[], Read]) -> Read:
        with self._connection.reading():
            if not self._begun:
                self._catch_up()
            return read()


class SqliteTransaction(Rows):
    """The one transaction that a storage can have at a time."""

    def __init__(self, storage: SqliteStorage, connection: Connection) -> None:
        super().__init__(connection)
        self.commit = storage.commit
        self.rollback = storage.rollback


def _groups(sent: Iterable[Send]) -> set[str]:
    channels = (channel(send.address) for send in sent)
    return {name for name in channels if name is not None}
