"""What PostgreSQL's errors mean for a caller, and what to do about each (SQLSTATE classes, PostgreSQL appendix A)."""

from __future__ import annotations

from typing import Final

import psycopg

from resonate.errors import ResonateStoreError, StorageUnavailable, StorageUnusable
from resonate.storage.base import Conflict

IN_THE_WAY: Final = frozenset(("40001", "40P01", "55P03", "40003"))
"""Serialisation failure, deadlock, lock not available, statement completion unknown: others were in the way."""

_RERUN: Final = IN_THE_WAY | {"23505", "26000"}
"""Others were in the way, a row that was taken for new, a prepared statement that somebody
has dropped: the same batch may well succeed the next time."""

_GONE: Final = frozenset(("57P01", "57P02", "57P03", "57P05", "25P03", "25P04", "08000", "08003", "08006", "08P01"))
"""The session was ended by the server: shutdown, crash, recovery, idle timeouts, broken connections."""

_NO_ENTRY: Final = frozenset(("28000", "28P01", "3D000", "42501", "0LP01"))


class Lost(Exception):
    """The connection is gone, or was never there; whether the last statement was carried out is not known."""


def is_lost(error: psycopg.Error) -> bool:
    """Whether the session of the statement that raised `error` is gone."""
    code = error.sqlstate
    if code is not None:
        return code in _GONE
    # what libpq itself has to say has no code, and the class of the error depends on how it was found out
    return not isinstance(error, psycopg.ProgrammingError | psycopg.DataError | psycopg.NotSupportedError)


def translate(error: psycopg.Error, where: str) -> Exception:
    """What to raise in place of `error`: `Lost`, `Conflict` or an error of the client's; nothing was written."""
    code = error.sqlstate
    if is_lost(error):
        return Lost(_text(error))
    said = f"{_text(error)} [{code}]"
    if code in _RERUN:
        return Conflict(said)
    if code == "25006":
        return StorageUnavailable(
            f"{where} cannot be written: {said}. It is a replica, or being switched over: name the primary, or all "
            "hosts of the cluster, in the url"
        )
    if code == "57014":
        return StorageUnavailable(
            f"{where} ended a statement: {said}; nothing was written. If this happens often, raise statement_timeout "
            "for this role or find out who holds the locks (pg_stat_activity)"
        )
    if code is not None and code.startswith("53"):
        return StorageUnavailable(f"{where} has no resources left: {said}; nothing was written")
    if code is not None and code.startswith("58"):
        return StorageUnavailable(f"the system below {where} failed: {said}; nothing was written")
    if code in _NO_ENTRY:
        return StorageUnusable(f"{where} refuses this: {said}. {_RIGHTS if code == '42501' else _ACCOUNT}")
    if code in ("42P01", "3F000", "42703"):
        return StorageUnusable(
            f"{where} does not hold our tables (any more): {said}. Were they dropped? Restart, or run "
            "`resonate migrate`"
        )
    return ResonateStoreError(f"{where}: {said}; nothing was written", 500)


def unreachable(where: str, error: object) -> StorageUnavailable:
    """No connection could be had in good time."""
    if "too many c" in str(error) or "connection slots are reserved" in str(error):
        return StorageUnavailable(
            f"{where} has no connection left: {error}. Nothing was written. End sessions that nobody needs "
            "(pg_stat_activity), raise max_connections, or lower lanes and pool in the url; what is under way goes on "
            "by itself then"
        )
    return StorageUnavailable(
        f"{where} cannot be reached: {error}. Nothing was written. Check that it runs and that this machine may "
        "connect; what is under way goes on by itself once it is back"
    )


def refused(where: str, error: object) -> StorageUnusable:
    """No connection can be had with this URL."""
    return StorageUnusable(f"{where} cannot be used: {error}. {_ACCOUNT}")


_RIGHTS: Final = (
    "Have somebody who may make the schema and its tables run `resonate migrate --url ...` first, and give this role "
    "the rights on them that docs/scaling.md names"
)
_ACCOUNT: Final = "Check host, user, password, database and options in the url"


def _text(error: psycopg.Error) -> str:
    primary = error.diag.message_primary
    return primary if primary else " ".join(str(error).split()) or type(error).__name__
