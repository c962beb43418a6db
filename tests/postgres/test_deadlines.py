"""A deadline that one process has seen pass has passed for all, however late another one's clock or write is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from resonate.clock import SettableClock
from resonate.protocol.records import TIMEDOUT
from resonate.protocol.requests import (
    PromiseCreate,
    PromiseGet,
    PromiseRegisterCallback,
    PromiseRegisterListener,
    PromiseSettle,
    Request,
    TaskAcquire,
    TaskCreate,
    TaskFence,
    TaskFulfill,
    TaskGet,
)
from resonate.service.service import Service
from resonate.storage.postgres.location import parse
from resonate.storage.postgres.storage import PostgresStorage
from tests import databases
from tests.postgres.cluster import binaries

pytestmark = pytest.mark.skipif(binaries() is None, reason="PostgreSQL is not installed")

DEADLINE = 10_000
ROOT = PromiseCreate("p", DEADLINE, tags={"resonate:target": "poll://any@nobody"})
RESOLVE = PromiseSettle("p", "resolved")

Two = tuple[Service, Service]


@pytest.fixture
def two() -> Iterator[Two]:
    """Two processes: for the first it is shortly before the deadline, for the second after it."""
    url = databases.fresh_url()
    storages = [PostgresStorage(parse(url)) for _ in range(2)]
    early, late = (Service(s, SettableClock(DEADLINE + at)) for s, at in zip(storages, (-10, 10), strict=True))
    yield early, late
    for storage in storages:
        storage.close()


@pytest.mark.parametrize(
    "look",
    [
        PromiseGet("p"),
        PromiseCreate("p", DEADLINE),
        PromiseSettle("p", "rejected"),
        PromiseRegisterListener("p", "poll://any@nobody"),
        PromiseRegisterCallback("p", "q"),
        TaskGet("p"),
        TaskCreate("x", 1_000, ROOT),
        TaskAcquire("p", 1, "x", 1_000),
        TaskFence("p", 1, PromiseSettle("p:1", "rejected")),
    ],
    ids=lambda request: type(request).__name__,
)
def test_nobody_settles_what_another_process_has_seen_timed_out(two: Two, look: Request) -> None:
    early, late = two
    early.handle([TaskCreate("me", 60_000, ROOT), PromiseCreate("q", 10**12, tags=ROOT.tags)])

    late.handle([look])
    settled, fulfilled, read = early.handle([RESOLVE, TaskFulfill("p", 1, RESOLVE), PromiseGet("p")])

    assert settled.promise is not None
    assert (settled.promise.state, settled.promise.settled_at) == (TIMEDOUT, DEADLINE)
    assert fulfilled.status == 409
    assert read.promise == settled.promise


def test_what_nobody_has_seen_timed_out_is_settled_in_time(two: Two) -> None:
    early, late = two
    early.handle([ROOT])

    (settled,) = early.handle([RESOLVE])

    assert settled.promise is not None
    assert late.handle([PromiseGet("p")])[0].promise == settled.promise
