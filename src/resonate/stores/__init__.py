"""The low-level clients, and the stores that a program may hand to `Resonate`.

`PromiseClient` and `ScheduleClient` are behind `r.promises` and `r.schedules`. `LocalStore`
is a world in memory that several clients share.
"""

from __future__ import annotations

from resonate.stores.local import LocalMessageSource, LocalStore, network_for
from resonate.stores.promises import AioPromiseClient, PromiseClient
from resonate.stores.records import Callback, DurablePromise, DurablePromiseValue, Schedule, Task
from resonate.stores.remote import Poller, RemoteStore
from resonate.stores.schedules import AioScheduleClient, ScheduleClient
from resonate.stores.tasks import AioTaskClient, TaskClient

__all__ = [
    "AioPromiseClient",
    "AioScheduleClient",
    "AioTaskClient",
    "Callback",
    "DurablePromise",
    "DurablePromiseValue",
    "LocalMessageSource",
    "LocalStore",
    "Poller",
    "PromiseClient",
    "RemoteStore",
    "Schedule",
    "ScheduleClient",
    "Task",
    "TaskClient",
    "network_for",
]
