"""The executions of one schema, as they are looked for: a statement for each question, answered from an index alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from resonate.protocol.ids import origin_of
from resonate.protocol.listing import Fault, Holder, Load, Phase, entry
from resonate.protocol.records import ACQUIRED, PENDING
from resonate.protocol.rows import PromiseRow
from resonate.storage import codec
from resonate.storage.executions import FUNCTION, GROUP, LABEL, PHASE, PREFIX, Found, Key, Source
from resonate.storage.memory_executions import holders_of

LAST: Final = (1 << 62, "")
"""Later than any execution."""

MIGRATED: Final = 1_000
"""Rows that a migration reads at once."""

_COLUMNS: Final = {FUNCTION: "e.function = %s AND ", GROUP: "e.grp = %s AND ", PHASE: ""}
_NAMES: Final = {FUNCTION: "function", GROUP: "grp"}
_ORDER: Final = "ORDER BY begun DESC, id DESC LIMIT %s"

Execute = Callable[..., list[tuple[Any, ...]]]


class PostgresExecutions:
    """See `storage.executions.Index`.

    Args:
        execute: runs a statement.
        schema: where the tables are.
    """

    def __init__(self, execute: Execute, schema: str) -> None:
        self._execute = execute
        self._schema = schema

    def newest(
        self, source: Source, phases: Sequence[Phase], since: int | None, before: Key | None, limit: int
    ) -> list[Found]:
        statement, parameters = newest(self._schema, source, phases, since, before, limit)
        return [Found(*row) for row in self._execute(statement, parameters)]

    def count(self, source: Source, phase: Phase, since: int | None, until: int | None, most: int) -> int:
        span = -LAST[0] if since is None else since, LAST[0] if until is None else until
        if source.kind == PREFIX:
            where, parameters = _range(source.name)
            rows = f"{self._schema}.executions WHERE {where} ORDER BY origin, id"
        elif source.kind == LABEL:
            rows = f"{self._schema}.labels WHERE name = %s AND value = %s AND begun >= %s AND begun < %s ORDER BY begun"
            parameters = (source.name, source.value, *span)
        else:
            name = () if source.kind == PHASE else (source.name,)
            where = f"{_COLUMNS[source.kind]}e.state = %s AND e.begun >= %s AND e.begun < %s"
            rows = f"{self._schema}.executions e WHERE {where} ORDER BY e.begun"
            parameters = (*name, phase, *span)
        found = self._execute(f"SELECT count(*) FROM (SELECT 1 FROM {rows} LIMIT %s) s", (*parameters, most))
        return int(found[0][0])

    def names(self, kind: str, limit: int) -> list[str]:
        return self._distinct("executions", _NAMES[kind], limit)

    def labelled(self, ids: Sequence[str], name: str, value: str) -> set[str]:
        found = self._execute(
            f"SELECT l.id FROM unnest(%s::text[], %s::text[]) AS k(o, i) JOIN {self._schema}.labels l "
            "ON l.origin = k.o AND l.id = k.i AND l.name = %s WHERE l.value = %s",
            ([origin_of(id) for id in ids], list(ids), name, value),
        )
        return {id for (id,) in found}

    def rows(self, ids: Sequence[str]) -> list[PromiseRow]:
        if not ids:
            return []
        found = self._execute(
            f"SELECT p.id, p.state, p.body FROM unnest(%s::text[], %s::text[]) AS k(o, i) "
            f"JOIN {self._schema}.promises p ON p.origin = k.o AND p.id = k.i",
            ([origin_of(id) for id in ids], list(ids)),
        )
        return [codec.decode_promise(*row) for row in found]

    def faults(self, limit: int, most: int, shown: int) -> list[Fault]:
        table = f"{self._schema}.executions"
        found: list[Fault] = []
        last: tuple[Any, ...] = ("", "")
        while len(found) < limit:
            kinds = self._execute(
                f"SELECT function, fault FROM {table} WHERE fault IS NOT NULL AND (function, fault) > (%s, %s) "
                "ORDER BY function, fault LIMIT 1",
                last,
            )
            if not kinds:
                break
            last = kinds[0]
            alike = self._execute(
                f"SELECT id FROM {table} WHERE function = %s AND fault = %s AND fault IS NOT NULL {_ORDER}",
                (*last, most + 1),
            )
            found.append(Fault(last[0], last[1], len(alike), [id for (id,) in alike[:shown]]))
        return found

    def loads(self, most: int) -> list[Load]:
        return [self._load(group, most) for group in self._distinct("tasks", "grp", most)]

    def _load(self, group: str, most: int) -> Load:
        rows = self._execute(
            f"""
            SELECT k.state, s.number, s.since FROM unnest(%s::text[]) AS k(state) CROSS JOIN LATERAL (
                SELECT count(*) AS number, min(o.since) AS since FROM (
                    SELECT t.since FROM {self._schema}.tasks t WHERE t.grp = %s AND t.state = k.state
                    AND t.grp IS NOT NULL ORDER BY t.since LIMIT %s
                ) o
            ) s""",
            ([PENDING, ACQUIRED, "suspended", "halted"], group, most + 1),
        )
        oldest = next((since for state, _, since in rows if state == PENDING), None)
        return Load(group, {state: number for state, number, _ in rows if number}, oldest)

    def holders(self, most: int) -> list[Holder]:
        held = self._execute(
            f"SELECT grp, id, state, body FROM {self._schema}.tasks WHERE pid IS NOT NULL LIMIT %s", (most,)
        )
        return holders_of((grp, codec.decode_task(*row)) for grp, *row in held if row[1] == ACQUIRED)

    def _distinct(self, table: str, column: str, limit: int) -> list[str]:
        """The different texts in a column, each found by a look at its index."""
        first = f"SELECT {column} FROM {self._schema}.{table} WHERE {column} IS NOT NULL ORDER BY {column} LIMIT 1"
        following = first.replace("IS NOT NULL", f"IS NOT NULL AND {column} > n.name")
        found = self._execute(
            f"WITH RECURSIVE n(name) AS (({first}) UNION ALL SELECT ({following}) FROM n WHERE n.name IS NOT NULL) "
            "SELECT name FROM n WHERE name IS NOT NULL LIMIT %s",
            (limit,),
        )
        return [name for (name,) in found]


def newest(
    schema: str, source: Source, phases: Sequence[Phase], since: int | None, before: Key | None, limit: int
) -> tuple[str, tuple[Any, ...]]:
    """The statement that reads a list, and its parameters; see `Index.newest`."""
    last, first = before or LAST, -LAST[0] if since is None else since
    if source.kind == LABEL:
        return (
            f"SELECT l.begun, l.id, e.state, e.function, e.grp FROM (SELECT origin, id, begun FROM {schema}.labels "
            f"WHERE name = %s AND value = %s AND (begun, id) < (%s, %s) AND begun >= %s {_ORDER}) l "
            f"JOIN {schema}.executions e ON e.origin = l.origin AND e.id = l.id ORDER BY l.begun DESC, l.id DESC",
            (source.name, source.value, *last, first, limit),
        )
    if source.kind == PREFIX:
        where, span = _range(source.name)
        return (
            f"SELECT begun, id, state, function, grp FROM {schema}.executions WHERE {where} AND (begun, id) < (%s, %s) "
            f"AND begun >= %s {_ORDER}",
            (*span, *last, first, limit),
        )
    name = () if source.kind == PHASE else (source.name,)
    more, same = (", s.function, s.grp", ", e.function, e.grp") if source.is_mixed else ("", "")
    return (
        f"SELECT s.begun, s.id, k.state{more} FROM unnest(%s::text[]) AS k(state) CROSS JOIN LATERAL ("
        f"SELECT e.begun, e.id{same} FROM {schema}.executions e "
        f"WHERE {_COLUMNS[source.kind]}e.state = k.state AND (e.begun, e.id) < (%s, %s) AND e.begun >= %s "
        "ORDER BY e.begun DESC, e.id DESC LIMIT %s) s ORDER BY s.begun DESC, s.id DESC LIMIT %s",
        (list(phases), *name, *last, first, limit, limit),
    )


def _range(prefix: str) -> tuple[str, tuple[Any, ...]]:
    """What holds for the ids that begin with `prefix`, as the key has it: an id begins with its origin."""
    origin, ending = prefix.partition(":")[0], prefix + "\U0010ffff"
    if origin == prefix:
        return "origin >= %s AND origin < %s", (prefix, ending)
    return "origin = %s AND id >= %s AND id < %s", (origin, prefix, ending)


def fill(execute: Execute, schema: str) -> None:
    """Make the entries of the executions that are there already, and find the groups of their tasks; a migration."""
    for rows in _pages(execute, schema, "promises", "begun IS NOT NULL"):
        ids = [row[1] for row in rows]
        states = execute(
            f"SELECT t.id, t.state, t.body FROM unnest(%s::text[], %s::text[]) AS k(o, i) "
            f"JOIN {schema}.tasks t ON t.origin = k.o AND t.id = k.i",
            ([row[0] for row in rows], ids),
        )
        tasks = {row[0]: codec.decode_task(*row) for row in states}
        entries = [entry(codec.decode_promise(*row[1:]).promise, tasks.get(row[1])) for row in rows]
        found = [one for one in entries if one is not None]
        values = [(origin_of(e.id), e.id, e.begun, e.phase, e.function, e.group, e.fault) for e in found]
        labels = [(origin_of(e.id), e.id, name, value, e.begun) for e in found for name, value in e.labels]
        _insert(execute, f"{schema}.executions", "text text bigint text text text text", values)
        _insert(execute, f"{schema}.labels", "text text text text bigint", labels)
    for rows in _pages(execute, schema, "tasks", "state <> 'fulfilled'"):
        groups = [codec.group_of_task(codec.decode_task(*row[1:])) for row in rows]
        execute(
            f"UPDATE {schema}.tasks t SET grp = k.g FROM unnest(%s::text[], %s::text[], %s::text[]) AS k(o, i, g) "
            "WHERE t.origin = k.o AND t.id = k.i",
            ([row[0] for row in rows], [row[1] for row in rows], groups),
        )


def _pages(execute: Execute, schema: str, table: str, condition: str) -> Iterator[list[tuple[Any, ...]]]:
    last = ("", "")
    while True:
        page = execute(
            f"SELECT origin, id, state, body FROM {schema}.{table} WHERE {condition} AND (origin, id) > (%s, %s) "
            "ORDER BY origin, id LIMIT %s",
            (*last, MIGRATED),
        )
        if page:
            yield page
            last = page[-1][:2]
        if len(page) < MIGRATED:
            return


def _insert(execute: Execute, table: str, types: str, rows: Sequence[tuple[Any, ...]]) -> None:
    if rows:
        arrays = ", ".join(f"%s::{kind}[]" for kind in types.split())
        execute(
            f"INSERT INTO {table} SELECT * FROM unnest({arrays})", [list(column) for column in zip(*rows, strict=True)]
        )
