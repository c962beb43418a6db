"""What happened, why is it waiting: answers for people, from what is recorded.

Asks in requests of the protocol only, so it works alike wherever state lives, also against
servers of other makes. Reads; changes nothing.
"""

from resonate.inspection.inspector import Inspector
from resonate.inspection.scheduling import Scheduling
from resonate.inspection.steering import Refusal, Steering
from resonate.inspection.views import Attempt, Call, Counts, Execution, Failure, FailureGroup, Group, Page, Wait, Worker

__all__ = [
    "Attempt",
    "Call",
    "Counts",
    "Execution",
    "Failure",
    "FailureGroup",
    "Group",
    "Inspector",
    "Page",
    "Refusal",
    "Scheduling",
    "Steering",
    "Wait",
    "Worker",
]
