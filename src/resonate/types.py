"""Wire records under the names that programs of the async generation import."""

from __future__ import annotations

from resonate.protocol.records import Promise as PromiseRecord
from resonate.protocol.records import PromiseState, Value
from resonate.protocol.records import Schedule as ScheduleRecord
from resonate.protocol.records import Task as TaskRecord

__all__ = ["PromiseRecord", "PromiseState", "ScheduleRecord", "TaskRecord", "Value"]
