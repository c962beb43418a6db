"""The ticker beats while there is work, also for what comes while it looks for the last time."""

from __future__ import annotations

import threading
import time

from resonate.worker.ticker import LINGER, Ticker
from tests.homes import PATIENCE


def test_what_begins_while_the_last_beat_looks_is_watched_too() -> None:
    enough, beats = threading.Event(), [0]

    def pulse() -> bool:
        beats[0] += 1
        if beats[0] > 2 * LINGER:
            enough.set()
        ticker.watch()  # as another thread might, after this beat has seen that there is nothing
        return False

    ticker = Ticker(time.monotonic, pulse)
    ticker.watch()
    went_on = enough.wait(PATIENCE)
    ticker.stop()

    assert went_on
