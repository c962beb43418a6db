"""Whether the database is there, as the log tells it: once when it is away and once when it is back."""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

_LOG: Final = logging.getLogger("resonate.storage")


class Presence:
    """What all sessions of one storage have found out together.

    Args:
        where: the database, as errors show it.
        patience: seconds for which whoever needs it waits.
    """

    def __init__(self, where: str, patience: float) -> None:
        self._where = where
        self._patience = patience
        self._since: float | None = None
        self._lock = threading.Lock()

    def away(self, why: str) -> None:
        """A session could not be had, and may be later. Called with each attempt."""
        with self._lock:
            if self._since is not None:
                return
            self._since = time.monotonic()
        _LOG.warning(
            "%s cannot be reached: %s. Trying again; calls wait up to %g s for it, and what is under way goes on by "
            "itself once it is back",
            self._where,
            why,
            self._patience,
        )

    def back(self) -> None:
        """A session was opened."""
        if self._since is None:
            return
        with self._lock:
            since, self._since = self._since, None
        if since is not None:
            _LOG.warning("%s is back after %.1f s", self._where, time.monotonic() - since)


__all__ = ["Presence"]
