"""The database's clock, as a process knows it."""

from __future__ import annotations

import time

from resonate.storage.postgres.listener import SURE, DatabaseClock


def test_an_answer_that_took_seconds_counts_only_until_there_is_a_better_one() -> None:
    clock = DatabaseClock()
    here = time.monotonic()

    clock.told(5_000_000, here - 2, here)  # by way of a new session: it may be from any moment of the two seconds
    sure = [clock.sure]
    clock.told(5_000_900, here - 0.002, here)
    sure.append(clock.sure)

    assert sure == [False, True]
    assert abs(clock.now() - 5_000_900) < 1000


def test_a_worse_answer_changes_nothing() -> None:
    clock = DatabaseClock()
    here = time.monotonic()
    clock.told(5_000_000, here - 0.002, here)
    offset = clock._offset

    clock.told(5_001_000, here - 0.5, here)

    assert clock._offset == offset
    assert clock.sure


def test_an_answer_is_believed_again_when_what_is_known_has_become_old() -> None:
    clock = DatabaseClock()
    here = time.monotonic()
    clock.told(5_000_000, here - 0.002, here)

    for _ in range(int(SURE * 20)):
        clock.told(5_000_010, here - 0.03, here)

    assert clock._offset is not None
    assert abs(clock._offset + here * 1000 - 5_000_010) < 30
