"""The executions of one file, as they are looked for; each call is inside a transaction or a read of the caller's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from resonate.protocol.listing import Fault, Holder, Load, Phase
from resonate.protocol.records import ACQUIRED
from resonate.protocol.rows import PromiseRow
from resonate.storage import codec
from resonate.storage.executions import FUNCTION, GROUP, LABEL, PHASE, PREFIX, Found, Key, Source
from resonate.storage.memory_executions import holders_of

LAST: Final = (1 << 62, "")
"""Later than any execution."""

_COLUMNS: Final = {FUNCTION: "function = ? AND ", GROUP: "grp = ? AND ", PHASE: ""}
_NAMES: Final = {FUNCTION: "function", GROUP: "grp"}
_PART: Final = (
    "SELECT begun, id, state{more} FROM resonate_executions WHERE {name}state = ? AND (begun, id) < (?, ?) "
    "AND begun >= ? ORDER BY begun DESC, id DESC LIMIT ?"
)
_MERGED: Final = "{} ORDER BY begun DESC, id DESC LIMIT ?"
_LABELLED: Final = (
    "SELECT l.begun, l.id, e.state, e.function, e.grp "
    "FROM resonate_labels l CROSS JOIN resonate_executions e ON e.id = l.id "
    "WHERE l.name = ? AND l.value = ? AND (l.begun, l.id) < (?, ?) AND l.begun >= ? "
    "ORDER BY l.begun DESC, l.id DESC LIMIT ?"
)
_RANGE: Final = (
    "SELECT begun, id, state, function, grp FROM resonate_executions WHERE id >= ? AND id < ? AND (begun, id) < (?, ?) "
    "AND begun >= ? ORDER BY begun DESC, id DESC LIMIT ?"
)
_WITHIN: Final = "SELECT count(*) FROM (SELECT 1 FROM resonate_executions WHERE id >= ? AND id < ? LIMIT ?)"
_COUNT: Final = (
    "SELECT count(*) FROM ("
    "SELECT 1 FROM resonate_executions WHERE {name}state = ? AND begun >= ? AND begun < ? LIMIT ?)"
)
_DISTINCT: Final = (
    "WITH RECURSIVE n(name) AS (SELECT min({name}) FROM resonate_executions UNION ALL "
    "SELECT (SELECT min({name}) FROM resonate_executions WHERE {name} > n.name) FROM n WHERE n.name IS NOT NULL) "
    "SELECT name FROM n WHERE name IS NOT NULL LIMIT ?"
)
_ROWS: Final = "SELECT id, state, body FROM resonate_promises WHERE id IN (SELECT value FROM json_each(?))"
_COUNT_LABELLED: Final = (
    "SELECT count(*) FROM ("
    "SELECT 1 FROM resonate_labels WHERE name = ? AND value = ? AND begun >= ? AND begun < ? LIMIT ?)"
)
_LABELLED_OF: Final = (
    "SELECT l.id FROM json_each(?) j CROSS JOIN resonate_labels l ON l.id = j.value AND l.name = ? WHERE +l.value = ?"
)
_NEXT_FAULT: Final = (
    "SELECT function, fault FROM resonate_executions WHERE fault IS NOT NULL AND (function, fault) > (?, ?) "
    "ORDER BY function, fault LIMIT 1"
)
_ALIKE: Final = (
    "SELECT id FROM resonate_executions WHERE function = ? AND fault = ? AND fault IS NOT NULL "
    "ORDER BY begun DESC, id DESC LIMIT ?"
)
_GROUPS: Final = (
    "WITH RECURSIVE n(name) AS (SELECT min(grp) FROM resonate_tasks WHERE grp IS NOT NULL UNION ALL "
    "SELECT (SELECT min(grp) FROM resonate_tasks WHERE grp IS NOT NULL AND grp > n.name) FROM n "
    "WHERE n.name IS NOT NULL) SELECT name FROM n WHERE name IS NOT NULL"
)
_LOAD: Final = (
    "SELECT count(*), min(since) FROM ("
    "SELECT since FROM resonate_tasks WHERE grp = ? AND state = ? AND grp IS NOT NULL ORDER BY since LIMIT ?)"
)
_HELD: Final = "SELECT grp, id, state, body FROM resonate_tasks WHERE pid IS NOT NULL LIMIT ?"
_OPEN: Final = ("pending", "acquired", "suspended", "halted")


class SqliteExecutions:
    """See `storage.executions.Index`.

    Args:
        execute: runs a statement.
    """

    def __init__(self, execute: Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]) -> None:
        self._execute = execute

    def newest(
        self, source: Source, phases: Sequence[Phase], since: int | None, before: Key | None, limit: int
    ) -> list[Found]:
        statement, parameters = newest(source, phases, since, before, limit)
        return [Found(*row) for row in self._execute(statement, parameters)]

    def count(self, source: Source, phase: Phase, since: int | None, until: int | None, most: int) -> int:
        if source.kind == PREFIX:
            return int(self._execute(_WITHIN, (source.name, after(source.name), most))[0][0])
        first, last = -LAST[0] if since is None else since, LAST[0] if until is None else until
        if source.kind == LABEL:
            statement, name = _COUNT_LABELLED, (source.name, source.value)
        else:
            name = (phase,) if source.kind == PHASE else (source.name, phase)  # type: ignore[assignment]
            statement = _COUNT.format(name=_COLUMNS[source.kind])
        return int(self._execute(statement, (*name, first, last, most))[0][0])

    def names(self, kind: str, limit: int) -> list[str]:
        return [name for (name,) in self._execute(_DISTINCT.format(name=_NAMES[kind]), (limit,))]

    def labelled(self, ids: Sequence[str], name: str, value: str) -> set[str]:
        return {id for (id,) in self._execute(_LABELLED_OF, (msgspec.json.encode(ids).decode(), name, value))}

    def rows(self, ids: Sequence[str]) -> list[PromiseRow]:
        found = self._execute(_ROWS, (msgspec.json.encode(ids).decode(),)) if ids else []
        return [codec.decode_promise(*row) for row in found]

    def faults(self, limit: int, most: int, shown: int) -> list[Fault]:
        found: list[Fault] = []
        last = ("", "")
        while len(found) < limit and (kinds := self._execute(_NEXT_FAULT, last)):
            last = kinds[0]
            ids = [id for (id,) in self._execute(_ALIKE, (*last, most + 1))]
            found.append(Fault(*last, len(ids), ids[:shown]))
        return found

    def loads(self, most: int) -> list[Load]:
        return [self._load(group, most) for (group,) in self._execute(_GROUPS, ())]

    def _load(self, group: str, most: int) -> Load:
        counts: dict[str, int] = {}
        oldest = None
        for state in _OPEN:
            count, since = self._execute(_LOAD, (group, state, most + 1))[0]
            if count:
                counts[state] = count
                oldest = since if state == "pending" else oldest
        return Load(group, counts, oldest)

    def holders(self, most: int) -> list[Holder]:
        held = self._execute(_HELD, (most,))
        return holders_of((grp, codec.decode_task(*row)) for grp, *row in held if row[1] == ACQUIRED)


def newest(
    source: Source, phases: Sequence[Phase], since: int | None, before: Key | None, limit: int
) -> tuple[str, tuple[Any, ...]]:
    """The statement that reads a list, and its parameters; see `Index.newest`."""
    last, first = before or LAST, -LAST[0] if since is None else since
    if source.kind == LABEL:
        return _LABELLED, (source.name, source.value, *last, first, limit)
    if source.kind == PREFIX:
        return _RANGE, (source.name, after(source.name), *last, first, limit)
    name = () if source.kind == PHASE else (source.name,)
    part = _PART.format(name=_COLUMNS[source.kind], more=", function, grp" if source.is_mixed else "")
    if len(phases) == 1:
        return part, (*name, phases[0], *last, first, limit)
    parts = " UNION ALL ".join([f"SELECT * FROM ({part})"] * len(phases))
    each = tuple(value for phase in phases for value in (*name, phase, *last, first, limit))
    return _MERGED.format(parts), (*each, limit)


def after(prefix: str) -> str:
    """A text above all that begin with `prefix`."""
    return prefix + "\U0010ffff"
