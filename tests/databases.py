"""PostgreSQL storages for tests that are about rules, not about databases: a few schemas, emptied again and again."""

from __future__ import annotations

import atexit
import os
from typing import TYPE_CHECKING

from resonate.protocol.footprint import Footprint
from resonate.protocol.rows import Reset
from resonate.storage.postgres.location import parse

if TYPE_CHECKING:
    from resonate.storage.postgres.storage import PostgresStorage

SCHEMAS = 3
"""Storages that one test may use at the same time; the next one handed out is the first again."""

_GIVEN = os.environ.get("RESONATE_TEST_POSTGRES", "")  # read now: tests run without variables of ours

_open: list[PostgresStorage] = []


def url() -> str:
    """A database to make schemas in."""
    return _GIVEN


def emptied() -> PostgresStorage:
    """A storage without rows, for as long as the next two are handed out."""
    from resonate.storage.postgres.storage import PostgresStorage

    if not _open:
        for number in range(SCHEMAS):
            where = parse(f"{url()}?schema=rules_{os.getpid()}_{number}&options=-csynchronous_commit%3Doff")
            _open.append(PostgresStorage(where))
            atexit.register(_open[-1].close)
    storage = _open.pop(0)
    _open.append(storage)
    transaction = storage.begin(lambda: Footprint(set(), set(), set()))
    transaction.apply([Reset()])
    transaction.commit()
    storage.fresh()
    storage._next_due = storage._wake_at = None
    return storage
