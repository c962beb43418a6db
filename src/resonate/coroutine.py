"""What a function may yield, under the names that programs of the official client import."""

from __future__ import annotations

from resonate.execution.commands import LFC, LFI, RFC, RFI, Promise, Yieldable

__all__ = ["LFC", "LFI", "RFC", "RFI", "Promise", "Yieldable"]
