"""`resonate.retry_policies` under the name that programs of the async generation import."""

from __future__ import annotations

from resonate.retry_policies import Constant, Exponential, Linear, Never, RetryPolicy

__all__ = ["Constant", "Exponential", "Linear", "Never", "RetryPolicy"]
