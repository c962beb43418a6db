"""The trees of one schema, as purging asks for them, in one transaction that has their origins locked.

Most trees are one origin, and nothing of them is live: what is asked about those is read for
many roots at once, before `storage.trees` asks for it one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

from resonate.protocol.ids import origin_of
from resonate.protocol.records import Promise
from resonate.protocol.trees import ranges
from resonate.storage import codec
from resonate.storage.base import Conflict
from resonate.storage.postgres.connection import Connection
from resonate.storage.postgres.failures import Lost
from resonate.storage.postgres.statements import Statements

PAGE: Final = 500
"""Rows that a walk through a tree reads at once."""

LOCK: Final = 0x7265_736F_7075_7267
"""The advisory lock of whoever purges: one process at a time is enough, and others are not held up."""

Result = TypeVar("Result")


class PostgresTrees:
    """See `storage.trees.Trees`.

    Args:
        connection: for the transaction; nobody else uses it meanwhile.
        statements: those of the schema.
        alone: only if no other process purges this schema.
    """

    def __init__(self, connection: Connection, statements: Statements, *, alone: bool) -> None:
        self.checked: str | None = None
        self._connection = connection
        self._statements = statements
        self._alone = alone
        self._locked: set[str] = set()
        self._small: dict[str, list[str]] = {}
        """The ids of trees that are known to be one origin with nothing live in it."""
        s = statements.schema
        self._over = f"SELECT id FROM {s}.promises WHERE over < %s ORDER BY over LIMIT %s"
        self._put_off = f"UPDATE {s}.promises SET over = %s WHERE origin = %s AND id = %s"
        self._row = f"SELECT id, state, body FROM {s}.promises WHERE origin = %s AND id = %s"
        below = f"FROM {s}.promises WHERE origin = %s AND id > %s AND id < %s AND stray_of IS NULL"
        self._below = f"SELECT id {below} ORDER BY id LIMIT %s"
        self._suspects = (
            f"SELECT id, state, body {below} AND (state = 'pending' OR over IS NOT NULL) ORDER BY id LIMIT %s"
        )
        self._strays = f"SELECT id FROM {s}.promises WHERE stray_of = %s AND id > %s ORDER BY id LIMIT %s"
        self._strays_below = (
            f"SELECT id, stray_of FROM {s}.promises WHERE (stray_of, id) > (%s, %s) AND stray_of < %s "
            "ORDER BY stray_of, id LIMIT %s"
        )
        self._news = f"SELECT 1 FROM {s}.outbox WHERE origin = %s AND id = %s AND kind = 'unblock' LIMIT 1"
        # of these origins, those that hold nothing but one finished tree, and no part of another
        self._plain = f"""
            SELECT o.origin FROM unnest(%s::text[]) AS o(origin)
            WHERE NOT EXISTS (
                SELECT 1 FROM {s}.promises p WHERE p.origin = o.origin AND (
                    p.state = 'pending' OR p.stray_of IS NOT NULL OR (p.over IS NOT NULL AND p.id <> o.origin)
                )
            ) AND NOT EXISTS (
                SELECT 1 FROM {s}.promises p
                WHERE p.stray_of = o.origin OR (p.stray_of > o.origin || ':' AND p.stray_of < o.origin || ';')
            ) AND NOT EXISTS (SELECT 1 FROM {s}.outbox m WHERE m.origin = o.origin AND m.kind = 'unblock')"""
        self._ids = f"SELECT origin, id FROM {s}.promises WHERE origin = ANY(%s) ORDER BY origin, id DESC LIMIT %s"
        self._deletions = tuple(
            f"DELETE FROM {s}.{table} t USING unnest(%s::text[], %s::text[]) AS k(o, i) "
            "WHERE t.origin = k.o AND t.id = k.i"
            for table in ("tasks", "promises", "outbox", "executions", "labels")
        )
        self._delete_offers = f"{self._deletions[2]} AND kind <> 'unblock'"
        tables = ("promises", "schedules", "outbox")
        self._delete_origins = f"DELETE FROM {s}.origins o WHERE o.origin = ANY(%s)" + "".join(
            f" AND NOT EXISTS (SELECT 1 FROM {s}.{table} t WHERE t.origin = o.origin)" for table in tables
        )

    def run(self, work: Callable[[], Result]) -> Result | None:
        """Do `work` in a transaction; None if another process is at it.

        Raises:
            StorageUnavailable: the database is out of reach; nothing was deleted.
        """
        connection = self._connection
        connection.session  # noqa: B018
        try:
            self._execute("BEGIN")
            if self._alone and self._execute(
                "SELECT pg_try_advisory_xact_lock(%s, hashtext(%s))", (LOCK & 0x7FFF_FFFF, self._statements.name)
            ) != [(True,)]:
                connection.rollback()
                return None
            result = work()
            self._execute("COMMIT")
        except (Lost, Conflict):
            connection.rollback()
            return None
        except BaseException:
            connection.rollback()
            raise
        return result

    def _execute(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement, parameters)

    # ---- what `storage.trees` asks -----------------------------------------------------------------

    def over(self, before: int, limit: int) -> Iterator[str]:
        roots = [id for (id,) in self._execute(self._over, (before, limit))]
        free = self._lock({origin_of(root) for root in roots}, spare=True)
        plain = {origin for (origin,) in self._execute(self._plain, ([root for root in roots if root in free],))}
        for origin, id in self._execute(self._ids, (list(plain), limit + 1)):
            self._small.setdefault(origin, []).append(id)
        if self._small:  # the last one may have been cut off
            self._small.popitem()
        for root in roots:
            if origin_of(root) in free:
                yield root

    def put_off(self, root: str, until: int) -> None:
        self._execute(self._put_off, (until, origin_of(root), root))

    def suspects(self, root: str) -> Iterator[Promise]:
        if root in self._small:
            return
        self._lock({origin_of(root)})
        for anchor in self._anchors(root):
            origin = origin_of(anchor)
            for row in self._execute(self._row, (origin, anchor)):
                yield codec.decode_promise(*row).promise
            for first, end in ranges(anchor):
                for row in self._pages(self._suspects, origin, first, end):
                    yield codec.decode_promise(*row).promise

    def tree(self, root: str) -> Iterator[str]:
        small = self._small.get(root)
        if small is not None:
            yield from small
            return
        for anchor in self._anchors(root):
            for first, end in ranges(anchor):
                for (id,) in self._pages(self._below, origin_of(anchor), first, end):
                    yield id
            yield anchor

    def has_news(self, root: str) -> bool:
        return root not in self._small and bool(self._execute(self._news, (origin_of(root), root)))

    def delete(self, ids: Sequence[str], *, keep_news: bool = False) -> None:
        if not ids:
            return
        origins = sorted({origin_of(id) for id in ids})
        self._lock({origin for origin in origins if origin not in self._locked})
        tasks, promises, messages, *listed = self._deletions
        for statement in (self._delete_offers if keep_news else messages, tasks, promises, *listed):
            self._execute(statement, ([origin_of(id) for id in ids], list(ids)))
        self._execute(self._delete_origins, (origins,))

    # ---- inside ------------------------------------------------------------------------------------

    def _lock(self, origins: Iterable[str], *, spare: bool = False) -> set[str]:
        """Lock origins; those that are locked now."""
        wanted = sorted(origins)
        if wanted:
            statement = self._statements.lock_free if spare else self._statements.lock
            self._locked.update(origin for origin, _ in self._execute(statement, (wanted,)))
            # who relies on what is about to be deleted has to find out
            self._execute(
                f"UPDATE {self._statements.schema}.origins SET version = version + 1 WHERE origin = ANY(%s)",
                ([origin for origin in wanted if origin in self._locked],),
            )
        return self._locked

    def _anchors(self, root: str) -> Iterator[str]:
        """The root and all strays of its tree, each after the strays below it."""
        seen = {root}
        path = [(root, self._strays_of(root))]
        while path:
            anchor, strays = path[-1]
            stray = next(strays, None)
            if stray is None:
                path.pop()
                yield anchor
            elif stray not in seen:
                seen.add(stray)
                path.append((stray, self._strays_of(stray)))

    def _strays_of(self, anchor: str) -> Iterator[str]:
        """The strays of `anchor` and of what its ranges hold."""
        after = ""  # no id is empty
        while page := self._execute(self._strays, (anchor, after, PAGE)):
            yield from (id for (id,) in page)
            after = page[-1][0]
        for first, end in ranges(anchor):
            above, after = first, ""
            while page := self._execute(self._strays_below, (above, after, end, PAGE)):
                yield from (id for id, _ in page)
                after, above = page[-1]

    def _pages(self, statement: str, origin: str, first: str, end: str) -> Iterator[tuple[Any, ...]]:
        while True:
            page = self._execute(statement, (origin, first, end, PAGE))
            yield from page
            if len(page) < PAGE:
                return
            first = page[-1][0]
