"""One lane: transactions one after the other, on a session of its own, relying on what it remembers.

The first attempt of a batch trusts the memory of the lane and writes under the condition
that it is right (`statements`): mostly one round trip. If it was not, or others are known
to be at the same executions, the batch locks the origins it needs, in order, and reads them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from resonate.errors import OutcomeUnknown
from resonate.protocol.footprint import Footprint
from resonate.protocol.ids import origin_of
from resonate.protocol.records import PENDING
from resonate.storage.base import Conflict
from resonate.storage.postgres.connection import Connection, Statement
from resonate.storage.postgres.failures import Lost
from resonate.storage.postgres.known import Foreseen, Tree
from resonate.storage.postgres.rows import Rows, new_stamp
from resonate.storage.postgres.schema import TABLES
from resonate.storage.postgres.statements import Statements, says_yes

TREES: Final = 10_000
"""Origins that a lane remembers."""

IDS: Final = 1_000_000
"""Ids that a lane remembers below them, before it forgets all."""

CONTENDED: Final = 64
"""Batches for which an origin is locked, after others were found to write to it too."""

UNGUESSED: Final = 16
"""Batches in which new ids are looked for first, after one that was taken for new was not."""


class Lane(Rows):
    """The transactions of one lane; see `storage.base.Transaction`.

    Args:
        connection: this lane's session.
        statements: those of the schema.
        stored: called after each commit.
        foreseen: what was read with offers, for the next transaction of each origin.
    """

    def __init__(
        self, connection: Connection, statements: Statements, stored: Callable[[Rows], None], foreseen: Foreseen
    ) -> None:
        super().__init__(self.execute, statements)
        self._connection = connection
        self._stored = stored
        self._foreseen = foreseen
        self._trees: OrderedDict[str, Tree] = OrderedDict()
        self._contended: dict[str, int] = {}
        self._batch = 0
        self._guess_from = 0
        self._locking = False
        self._unknown: int | None = None
        """The stamp of a write whose outcome was taken to be: not stored."""

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """A statement of the running transaction, once more if it was lost before anything was written."""
        if not self._locking:
            return self._connection.ask(statement, parameters)
        try:
            return self._connection.execute(statement, parameters)
        except Lost as lost:
            raise Conflict(f"the connection was lost: {lost}") from lost

    # ---- the transaction -----------------------------------------------------------------------

    def begin(self, footprint: Footprint) -> Lane:
        """Load the rows of a batch.

        Raises:
            Conflict: begin again.
            ResonateStoreError: nothing was begun.
        """
        self._batch += 1
        try:
            origins = {origin_of(id) for id in footprint.promises | footprint.schedules}
            if footprint.spare:
                self._lock(origins, spare=True)
                there = {id for id in footprint.promises if origin_of(id) not in self._spared}
                footprint = Footprint(there, footprint.schedules, set())
            elif self._others_write(origins):
                self._lock(origins, spare=False)
            elif self._batch >= self._guess_from:
                self._guess(footprint)
            self.load(footprint)
        except BaseException:
            self.rollback()
            raise
        return self

    def commit(self) -> None:
        """Store what the transaction has done.

        Raises:
            Conflict, StorageUnavailable, OutcomeUnknown: see `storage.base.Transaction`.
        """
        if self._reset_all:
            self._delete_all()
        elif self.changed:
            self._write()
        else:
            self._confirm()
        self._let_go()
        self._stored(self)
        self._ended()

    def rollback(self) -> None:
        """Forget the transaction, if there is one."""
        if self._locking:
            self._locking = False
            self._connection.rollback()
        self.undo()

    # ---- beginning -----------------------------------------------------------------------------

    def _guess(self, footprint: Footprint) -> None:
        """Take what is about to be created, and is unknown, for new."""
        for id in footprint.created:
            origin = origin_of(id)
            if origin == id and origin not in self._trees:
                self._trees[origin] = Tree(origin, None, guessed=True)

    def _others_write(self, origins: set[str]) -> bool:
        """Whether others write to some of these too, and what they have written was not read just now."""
        if self._foreseen:
            origins = origins - self._foresee(origins)
        contended = self._contended
        return bool(contended) and any(contended.get(origin, -1) >= self._batch for origin in origins)

    def _foresee(self, origins: set[str]) -> set[str]:
        """Take over what was read with offers; of which origins that is."""
        found: set[str] = set()
        for origin in origins:
            seen = self._foreseen.pop(origin, None)
            if seen is None:
                continue
            found.add(origin)
            tree, branches = seen
            known = self._trees.get(origin)
            if known is None or known.version != tree.version:
                self._trees[origin] = tree
                self._branches.update(branches)
        return found

    def _lock(self, origins: set[str], *, spare: bool) -> None:
        """Begin a transaction that has `origins` to itself: all of them, or those that nobody else has now."""
        names = sorted(origin for origin in origins if "\0" not in origin)
        lock = self._statements.lock_free if spare else self._statements.lock
        self._locking = True
        try:
            _, found = self._connection.together([("BEGIN", ()), (lock, (names,))])
        except Lost as lost:
            raise Conflict(f"the connection was lost: {lost}") from lost
        versions = dict(found)
        for origin in origins:
            tree = self._trees.get(origin)
            if tree is not None and tree.version != versions.get(origin):
                del self._trees[origin]
            elif tree is not None:
                self._loaded.add(origin)
        self._touched.update(origins)
        if spare:
            self._spared = origins - set(versions)

    def _touch(self, origin: str) -> None:
        super()._touch(origin)
        if self._locking:
            found = self.execute(self._statements.lock, ([origin],)) if "\0" not in origin else []
            tree = self._trees.get(origin)
            if tree is not None and tree.version != (found[0][1] if found else None):
                del self._trees[origin]

    def _learn(self, origins: Any, found: list[tuple[Any, ...]]) -> None:
        if self._unknown is not None and any(row[4] == self._unknown for row in found):
            self._unknown = None
            raise OutcomeUnknown("a batch that was taken to be lost has been stored after all: read before deciding")
        try:
            super()._learn(origins, found)
        except Conflict as conflict:
            raise self._conflict(str(conflict)) from None

    # ---- ending ----------------------------------------------------------------------------------

    def _confirm(self) -> None:
        """Nothing is to be written; but what was answered from memory has to be right."""
        if self._locking:
            self._finish(None, 0)
            return
        unsure = self._unsure()
        if not unsure:
            return
        versions = dict(self.execute(self._statements.versions, (unsure,)))
        if any(self._trees[origin].version != versions.get(origin) for origin in unsure):
            raise self._conflict("what was read has changed")

    def _unsure(self) -> list[str]:
        """The origins about which something was answered from memory alone."""
        return [origin for origin in self._seen if origin not in self._loaded and origin in self._trees]

    def _write(self) -> None:
        stamp = new_stamp()
        self._held.update(self._unsure())
        statement = self.written(stamp)
        if self._locking:
            stored = self._finish(statement, stamp)
        else:
            try:
                stored = says_yes(self._connection.execute(*statement))
            except Lost as lost:
                stored = self._find_out(stamp, lost)
        if not stored:
            raise self._conflict("what was read has changed")
        self._unknown = None
        for origin in self._held:
            tree = self._trees[origin]
            if tree.version is not None or tree.promises or tree.schedules:
                tree.version, tree.guessed = stamp, False

    def _finish(self, write: Statement | None, stamp: int) -> bool:
        """Commit a transaction that holds locks, its write included; whether that went through."""
        try:
            answers = self._connection.together([*([] if write is None else [write]), ("COMMIT", ())])
        except Lost as lost:
            self._locking = False
            if write is None:
                raise Conflict(f"the connection was lost: {lost}") from lost
            return self._find_out(stamp, lost)
        self._locking = False
        return write is None or says_yes(answers[0])

    def _find_out(self, stamp: int, lost: Lost) -> bool:
        """Whether a write was stored whose answer was lost: the origins it wrote to tell by their versions.

        They are locked for that, so a session that is still at it has come to its end before.
        """
        known, new = self.relied()
        names = sorted({origin for origin, _ in known} | set(new))
        try:
            versions = dict(self._connection.ask(self._statements.lock, (names,)))
        except Exception as error:
            raise OutcomeUnknown(
                f"the connection to {self._connection.where} was lost in a commit ({lost}), and it cannot be asked "
                "whether that was stored: read before deciding"
            ) from error
        if stamp in versions.values():
            return True
        if all(versions.get(origin) == version for origin, version in known) and not any(map(versions.get, new)):
            self._unknown = stamp
            return False
        raise OutcomeUnknown(
            f"the connection to {self._connection.where} was lost in a commit ({lost}), and others have written there "
            "since: read before deciding"
        )

    def _conflict(self, why: str) -> Conflict:
        """Others write to some of these origins: the next attempt locks them, and so do some batches after it."""
        if any(self._trees[origin].guessed for origin in self._touched if origin in self._trees):
            self._guess_from = self._batch + UNGUESSED
            return Conflict("what was taken for new is there")
        if len(self._contended) > TREES:
            self._contended = {origin: at for origin, at in self._contended.items() if at > self._batch}
        for origin in self._touched:
            self._contended[origin] = self._batch + CONTENDED
        return Conflict(why)

    def _delete_all(self) -> None:
        schema = self._statements.schema
        self._connection.together([(f"DELETE FROM {schema}.{table}", ()) for table in TABLES])
        self._trees.clear()

    def _let_go(self) -> None:
        """Forget what will not be asked for again: the settled, the absent, and the oldest when there is too much."""
        trees = self._trees
        for origin in self._touched:
            tree = trees.get(origin)
            if tree is None:
                continue
            _forget_settled(tree, self._asked)
            if tree.version is None or tree.guessed or not tree.promises:
                del trees[origin]
            else:
                trees.move_to_end(origin)
        self._asked.clear()
        while len(trees) > TREES:
            trees.popitem(last=False)
        if self._batch % 1024 == 0 and sum(len(i) for tree in trees.values() for i in tree.whole.values()) > IDS:
            trees.clear()


def _forget_settled(tree: Tree, asked: Iterable[str]) -> None:
    """Keep what is still to change; of the rest only the ids are remembered."""
    promises, tasks = tree.promises, tree.tasks
    for id in asked:
        if id in promises:
            row = promises[id]
            if row is None or row.promise.state != PENDING:
                del promises[id]
                tasks.pop(id, None)
    tree.schedules.clear()
