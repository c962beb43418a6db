"""The `RetryPolicy` protocol, under the name that programs of the official client import."""

from __future__ import annotations

from resonate.retry_policies import RetryPolicy

__all__ = ["RetryPolicy"]
