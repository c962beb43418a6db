"""Durable execution for Python: ordinary functions whose calls survive crashes."""

from resonate.context import Context
from resonate.execution.commands import Promise, Yieldable
from resonate.handle import Handle
from resonate.resonate import Resonate

__all__ = ["Context", "Handle", "Promise", "Resonate", "Yieldable"]
