"""Schedule: a durable function that runs by the clock.

The cron text here has six fields, seconds first: it fires every second. Each occurrence is
an execution of its own with an id of its own, so a restart neither loses nor doubles one.
"""

from __future__ import annotations

from collections.abc import Generator
from queue import Queue
from typing import Any

from resonate import Context, Resonate

resonate = Resonate()
reports: Queue[str] = Queue()


def write_report(ctx: Context, subject: str) -> str:
    return f"report about {subject}"


@resonate.register
def report(ctx: Context, subject: str) -> Generator[Any, Any, str]:
    text: str = yield ctx.run(write_report, subject)
    reports.put(text)
    return text


if __name__ == "__main__":
    schedule = resonate.schedule("reports", report, "* * * * * *", "sales")
    print("scheduled:", schedule.cron)
    print("fired:", reports.get(timeout=10))
    schedule.delete()
    print("deleted")
