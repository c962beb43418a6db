"""The `Encoder` protocol, under the name that programs of the official client import."""

from __future__ import annotations

from resonate.encoders import Encoder

__all__ = ["Encoder"]
