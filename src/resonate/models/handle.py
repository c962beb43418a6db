"""`Handle`, under the name that programs of the official client import."""

from __future__ import annotations

from resonate.handle import Handle

__all__ = ["Handle"]
