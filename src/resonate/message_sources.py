"""Message sources, under the name that programs of the official client import."""

from __future__ import annotations

from resonate.stores import LocalMessageSource, Poller

__all__ = ["LocalMessageSource", "Poller"]
