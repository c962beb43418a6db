"""What is sent to the database. One statement reads all that a batch needs, one writes all that it has done.

The write is conditional: it relies on the versions of the origins that the batch has read,
and does nothing if one of them is another by now. Both halves are one statement, so it
needs neither `BEGIN` nor `COMMIT`: one round trip, one flush of the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from resonate.protocol.addresses import PUSHED
from resonate.storage.postgres.location import quoted

ORIGIN, PROMISE, TASK, SCHEDULE, SEND = range(5)
"""What a row that was read is of."""

FORESEEN: Final = 64
"""Rows below a task that are read when its offer is taken; of a task with more none are."""

PROMISES: Final = ("origin", "id", "state", "due", "branch", "over", "stray_of", "body")
TASKS: Final = ("origin", "id", "state", "due", "pid", "grp", "since", "body")
EXECUTIONS: Final = ("origin", "id", "begun", "state", "function", "grp", "fault")
LABELS: Final = ("origin", "id", "name", "value", "begun")
SCHEDULES: Final = ("origin", "id", "due", "body")
SENDS: Final = ("origin", "kind", "id", "listener", "channel", "hidden", "seq", "body")
KEYS: Final = ("origin", "kind", "id", "listener")
OBLIGATIONS: Final = ("origin", "awaited", "awaiter")
NAMES: Final = ("origin", "id")

_TYPES: Final = {
    "due": "bigint",
    "over": "bigint",
    "begun": "bigint",
    "since": "bigint",
    "hidden": "bigint",
    "seq": "bigint",
    "body": "bytea",
}

Rows = Sequence[tuple[Any, ...]]


class Statements:
    """The statements for the tables in one schema."""

    def __init__(self, schema: str) -> None:
        s = quoted(schema)
        self.name = schema
        self.schema = s
        """As it is written in a statement."""
        self.versions = f"SELECT origin, version FROM {s}.origins WHERE origin = ANY(%s)"
        self.lock = f"{self.versions} ORDER BY origin FOR UPDATE"
        self.lock_free = f"{self.lock} SKIP LOCKED"
        row = "origin, id, {state}, NULL::bigint, body"
        held = row.format(state="state")
        self.load_one = f"""
            SELECT {ORIGIN}::smallint, origin, NULL::text, NULL::text, version, NULL::bytea
            FROM {s}.origins WHERE origin = %s
            UNION ALL
            SELECT {PROMISE}::smallint, {held} FROM {s}.promises WHERE origin = %s AND id = ANY(%s)
            UNION ALL
            SELECT {TASK}::smallint, {held} FROM {s}.tasks WHERE origin = %s AND id = ANY(%s)"""
        pairs = "unnest(%s::text[], %s::text[]) AS k(o, i)"
        versions = f"""
            SELECT {ORIGIN}::smallint, origin, NULL::text, NULL::text, version, NULL::bytea
            FROM {s}.origins WHERE origin = ANY(%s)"""
        self.load_many = f"""{versions}
            UNION ALL
            SELECT {PROMISE}::smallint, {held} FROM {pairs} JOIN {s}.promises ON origin = k.o AND id = k.i
            UNION ALL
            SELECT {TASK}::smallint, {held} FROM {pairs} JOIN {s}.tasks ON origin = k.o AND id = k.i"""
        self.load_schedules = f"""{versions}
            UNION ALL
            SELECT {SCHEDULE}::smallint, {row.format(state="NULL")}
            FROM {pairs} JOIN {s}.schedules ON origin = k.o AND id = k.i"""
        self.branch = f"SELECT id, state, body FROM {s}.promises WHERE branch = %s"
        self.branches = f"""
            SELECT branch, id, state, body FROM {s}.promises WHERE branch = ANY(%s)
            UNION ALL
            SELECT k.branch, p.id, NULL, NULL
            FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[]) AS k(branch, origin, above, ending)
            CROSS JOIN LATERAL (
                SELECT id FROM {s}.promises WHERE origin = k.origin AND id > k.above AND id < k.ending LIMIT %s
            ) p"""
        self.scan_promises = f"SELECT id, state, body FROM {s}.promises WHERE id > %s ORDER BY id LIMIT %s"
        self.scan_below = (
            f"SELECT id, state, body FROM {s}.promises WHERE origin = %s AND id > %s AND id < %s AND stray_of IS NULL "
            "ORDER BY id LIMIT %s"
        )
        self.strays = f"SELECT id, state, body FROM {s}.promises WHERE stray_of >= %s AND stray_of <= %s"
        self.scan_tasks = f"SELECT id, state, body FROM {s}.tasks WHERE id > %s ORDER BY id LIMIT %s"
        self.scan_schedules = f"SELECT id, body FROM {s}.schedules WHERE id > %s ORDER BY id LIMIT %s"
        self.promise = f"SELECT id, state, body FROM {s}.promises WHERE origin = %s AND id = %s"
        self.task = f"SELECT id, state, body FROM {s}.tasks WHERE origin = %s AND id = %s"
        self.schedule = f"SELECT body FROM {s}.schedules WHERE origin = %s AND id = %s"
        self.left_by = f"SELECT id, body FROM {s}.tasks WHERE pid = %s"
        self.due = f"""
            (SELECT 'promise', id, NULL::text FROM {s}.promises WHERE due <= %s ORDER BY due LIMIT %s) UNION ALL
            (SELECT 'task', id, NULL FROM {s}.tasks WHERE due <= %s ORDER BY due LIMIT %s) UNION ALL
            (SELECT 'schedule', id, NULL FROM {s}.schedules WHERE due <= %s ORDER BY due LIMIT %s) UNION ALL
            (SELECT 'resume', awaiter, awaited FROM {s}.obligations LIMIT %s)"""
        self.next_due = f"""
            SELECT least(
                (SELECT min(due) FROM {s}.promises WHERE due IS NOT NULL),
                (SELECT min(due) FROM {s}.tasks WHERE due IS NOT NULL),
                (SELECT min(due) FROM {s}.schedules),
                (SELECT min(0::bigint) FROM (SELECT 1 FROM {s}.obligations LIMIT 1) o)
            ), (extract(epoch FROM clock_timestamp()) * 1000)::bigint"""
        self.outbox = f"SELECT kind, id, listener, body FROM {s}.outbox ORDER BY seq, origin, id"
        self.arrived = f"""
            SELECT k.channel, o.kind, o.id, o.listener, o.body, o.seq
            FROM unnest(%s::text[], %s::bigint[]) AS k(channel, after)
            CROSS JOIN LATERAL (
                SELECT kind, id, listener, body, seq FROM {s}.outbox
                WHERE channel = k.channel AND seq > k.after AND hidden <= %s ORDER BY seq LIMIT %s
            ) o"""
        keys = "unnest(%s::text[], %s::text[], %s::text[], %s::text[]) AS k(origin, kind, id, listener)"
        same = "o.origin = k.origin AND o.kind = k.kind AND o.id = k.id AND o.listener = k.listener"
        self.peek = f"SELECT o.kind, o.id, o.listener, o.body FROM {s}.outbox o, {keys} WHERE {same} ORDER BY o.seq"
        hidden = f"""
            WITH k AS MATERIALIZED (
                SELECT o.origin, o.kind, o.id, o.listener FROM {s}.outbox o, {keys}
                WHERE {same} AND o.hidden <= %s ORDER BY o.seq LIMIT %s FOR UPDATE OF o SKIP LOCKED
            ), t AS MATERIALIZED (
                UPDATE {s}.outbox o
                SET hidden = CASE WHEN o.channel = '{PUSHED}' THEN %s::bigint ELSE %s::bigint END
                FROM k WHERE {same} RETURNING o.origin, o.kind, o.id, o.seq, o.body
            )"""
        self.hide = f"{hidden} SELECT {SEND}::smallint, origin, id, kind, seq, body FROM t"
        # `hide`, with all that acquiring the tasks will ask for
        self.hide_and_read = f"""{hidden}
            SELECT {SEND}::smallint, origin, id, kind, seq, body FROM t
            UNION ALL
            SELECT {ORIGIN}::smallint, o.origin, NULL, NULL, o.version, NULL
            FROM t JOIN {s}.origins o ON o.origin = t.origin
            UNION ALL
            {_foreseen(PROMISE, f"{s}.promises")}
            UNION ALL
            {_foreseen(TASK, f"{s}.tasks")}"""
        self.remove = f"""
            WITH k AS MATERIALIZED (
                SELECT o.origin, o.kind, o.id, o.listener FROM {s}.outbox o, {keys}
                WHERE {same} FOR UPDATE OF o SKIP LOCKED
            )
            DELETE FROM {s}.outbox o USING k WHERE {same} RETURNING o.kind, o.id, o.listener, o.body, o.seq"""
        self._write = lru_cache(maxsize=None)(self._written)
        self.step = self._written((1, 0, (("new_promises", 1),)))
        """`write` of one new promise below an origin that is there: a step, mostly."""

    def write(
        self, stamp: int, known: Rows, new: Sequence[str], parts: Sequence[tuple[str, Rows]]
    ) -> tuple[str, list[Any]]:
        """The statement that stores a batch, and its parameters; `says_yes` tells from its answer whether it has.

        Args:
            stamp: the version that the origins of the batch have afterwards.
            known: (origin, version) of each origin that must still have that version.
            new: origins that must not be there.
            parts: for each kind of change (a key of `_PARTS`) its rows.
        """
        sizes = tuple([(name, 1 if len(rows) == 1 else 2) for name, rows in parts])
        shape = (_size(known), _size(new), sizes)
        parameters: list[Any] = []
        if len(known) == 1:
            parameters += (stamp, *known[0])
        elif known:
            _add(parameters, known)
            parameters.append(stamp)
        if new:
            parameters += [stamp, list(new) if len(new) > 1 else new[0]]
        if len(known) > 1:
            parameters.append(len(known))
        if len(new) > 1:
            parameters.append(len(new))
        for _, rows in parts:
            if len(rows) == 1:
                parameters += rows[0]
            else:
                _add(parameters, rows)
        return self._write(shape), parameters

    def _written(self, shape: tuple[int, int, tuple[tuple[str, int], ...]]) -> str:
        known, new, parts = shape
        s = self.schema
        clauses: list[str] = []
        conditions: list[str] = []
        if known == 1:
            clauses.append(
                f"held AS (UPDATE {s}.origins SET version = %s WHERE origin = %s AND version = %s "
                "RETURNING true AS yes)"
            )
            if not new and parts == (("new_promises", 1),):  # a step, mostly: as little as can be
                return f"WITH {clauses[0]} {_PARTS['new_promises'](s, 1, _HELD)} RETURNING true"
            conditions.append("(SELECT count(*) FROM held) = 1")
        elif known:
            clauses.append(
                f"lined AS MATERIALIZED (SELECT o.origin FROM {s}.origins o, "
                "unnest(%s::text[], %s::bigint[]) AS k(origin, version) "
                "WHERE o.origin = k.origin AND o.version = k.version ORDER BY o.origin FOR UPDATE OF o), "
                f"held AS (UPDATE {s}.origins o SET version = %s FROM lined l "
                "WHERE o.origin = l.origin RETURNING 1)"
            )
            conditions.append("(SELECT count(*) FROM held) = %s")
        if new:
            names = "SELECT %s::text" if new == 1 else "SELECT n FROM unnest(%s::text[]) n ORDER BY n"
            clauses.append(
                f"made AS (INSERT INTO {s}.origins (origin, version) SELECT n.*, %s::bigint FROM ({names}) n(n) "
                "ON CONFLICT DO NOTHING RETURNING true AS yes)"
            )
            conditions.append(f"(SELECT count(*) FROM made) = {'1' if new == 1 else '%s'}")
        if (known, new) in _ALONE:
            gate = _ALONE[known, new]
        else:
            gate = _OK
            clauses.append(f"ok AS MATERIALIZED (SELECT {' AND '.join(conditions) or 'true'} AS yes)")
        for number, (name, size) in enumerate(parts):
            clauses.append(f"part{number} AS ({_PARTS[name](s, size, gate)})")
        return f"WITH {', '.join(clauses)} SELECT yes FROM {gate[0]}"


Gate = tuple[str, str]
"""What has a row if the batch holds, and a condition on it."""

_OK: Final = ("ok", "ok.yes")
_HELD: Final = ("held", "true")
_MADE: Final = ("made", "true")
_ALONE: Final = {(1, 0): _HELD, (0, 1): _MADE}
"""By how many origins are relied on and made: of a single one the row that was changed or made is the gate."""


def _foreseen(what: int, table: str) -> str:
    """The rows of a table for the tasks in `t`: their own, their root's, and up to `FORESEEN` below them, and one."""
    columns = f"SELECT id, state, body FROM {table} WHERE origin = t.origin AND"
    return f"""
        SELECT {what}::smallint, t.origin, r.id, r.state, NULL, r.body FROM t CROSS JOIN LATERAL (
            {columns} id = ANY(ARRAY[t.id, t.origin])
            UNION ALL
            ({columns} id > t.id || ':' AND id < t.id || ';' LIMIT {FORESEEN + 1})
            UNION ALL
            ({columns} id > t.id || '.' AND id < t.id || '/' AND strpos(t.id, ':') > 0 LIMIT {FORESEEN + 1})
        ) r"""


def says_yes(rows: list[tuple[Any, ...]]) -> bool:
    """Whether a write was stored, from its answer."""
    return bool(rows) and bool(rows[0][0])


def _size(rows: Sequence[Any]) -> int:
    """0, 1, or 2 for several: a single row goes as plain values, which cost less than arrays."""
    return min(len(rows), 2)


def _add(parameters: list[Any], rows: Rows) -> None:
    parameters.extend([list(column) for column in zip(*rows, strict=True)])


def _source(columns: Sequence[str], size: int, gate: Gate) -> str:
    """The rows of a part, if the batch holds."""
    types = [_TYPES.get(column, "text") for column in columns]
    name, condition = gate
    if size == 1:
        return f"SELECT {', '.join(f'%s::{kind}' for kind in types)} FROM {name} WHERE {condition}"
    arrays = ", ".join(f"%s::{kind}[]" for kind in types)
    names = ", ".join(columns)
    listed = ", ".join(f"r.{column}" for column in columns)
    return f"SELECT {listed} FROM {name}, unnest({arrays}) AS r({names}) WHERE {condition}"


def _add_new(table: str, columns: Sequence[str]) -> Any:
    """Rows that are not there: the versions on which the batch relies say so, so nobody need look."""

    def statement(schema: str, size: int, gate: Gate) -> str:
        return f"INSERT INTO {schema}.{table} ({', '.join(columns)}) {_source(columns, size, gate)}"

    return statement


def _change(table: str, columns: Sequence[str], key: Sequence[str], fixed: Sequence[str] = ()) -> Any:
    """Rows that are there, as the versions on which the batch relies say."""
    changed = [column for column in columns if column not in key and column not in fixed]

    def statement(schema: str, size: int, gate: Gate) -> str:
        action = ", ".join(f"{column} = n.{column}" for column in changed)
        same = " AND ".join(f"t.{column} = n.{column}" for column in key)
        source = f"{_source(columns, size, gate)}) AS n({', '.join(columns)}"
        return f"UPDATE {schema}.{table} t SET {action} FROM ({source}) WHERE {same}"

    return statement


def _put(table: str, columns: Sequence[str], key: Sequence[str]) -> Any:
    changed = [column for column in columns if column not in key]
    action = f"UPDATE SET {', '.join(f'{column} = excluded.{column}' for column in changed)}" if changed else "NOTHING"

    def statement(schema: str, size: int, gate: Gate) -> str:
        return (
            f"INSERT INTO {schema}.{table} ({', '.join(columns)}) {_source(columns, size, gate)} "
            f"ON CONFLICT ({', '.join(key)}) DO {action}"
        )

    return statement


def _drop(table: str, key: Sequence[str]) -> Any:
    def statement(schema: str, size: int, gate: Gate) -> str:
        same = " AND ".join(f"t.{column} = d.{column}" for column in key)
        source = _source(key, size, gate)
        names = ", ".join(key)
        return f"DELETE FROM {schema}.{table} t USING ({source}) AS d({names}) WHERE {same}"

    return statement


_PARTS: Final[dict[str, Any]] = {
    "new_promises": _add_new("promises", PROMISES),
    "promises": _change("promises", PROMISES, NAMES, fixed=("branch", "stray_of")),
    "new_tasks": _add_new("tasks", TASKS),
    "tasks": _change("tasks", TASKS, NAMES),
    "new_executions": _add_new("executions", EXECUTIONS),
    "executions": _change("executions", EXECUTIONS, NAMES, fixed=("begun", "function", "grp")),
    "labels": _add_new("labels", LABELS),
    "schedules": _put("schedules", SCHEDULES, NAMES),
    "no_schedules": _drop("schedules", NAMES),
    "sends": _put("outbox", SENDS, KEYS),
    "no_sends": _drop("outbox", KEYS),
    "obligations": _put("obligations", OBLIGATIONS, OBLIGATIONS),
    "no_obligations": _drop("obligations", OBLIGATIONS),
}
