"""Debian's Chromium, driven by Playwright, and a server whose executions are in every state."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from resonate import Context, Resonate
from resonate.retry_policies import Constant, Never
from tests.homes import until

CALLS: Final = 10_000
"""Calls of the large execution."""

OPTIONS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def chromium() -> str | None:
    """The browser's path; None if it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def charge(ctx: Context, amount: int) -> dict[str, int]:
    return {"amount": amount}


def order(ctx: Context, item: str) -> Any:
    receipt = yield ctx.run(charge, 42)
    boxes = yield ctx.rpc("pack", item)
    return [receipt, boxes]


def pack(ctx: Context, item: str) -> Any:
    return f"box of {item}"


def refund(ctx: Context, order: str) -> Any:
    yield ctx.run(charge, 1)
    decision = yield ctx.promise(timeout=86_400)
    return [order, (yield decision)]


def fails(ctx: Context) -> None:
    raise LookupError("<b>no</b> luck")


def export(ctx: Context) -> Any:
    return (yield ctx.run(fails).options(retry_policy=Constant(delay=3600, max_retries=1)))


def reminder(ctx: Context) -> Any:
    yield ctx.sleep(86_400)


def large(ctx: Context, count: int) -> Any:
    for number in range(count):
        yield ctx.run(charge, number)
    return count


@contextmanager
def shop(url: str) -> Iterator[Resonate]:
    """A client with an execution in each state: done, nested, failed, waiting, retrying, asleep, queued, cancelled."""
    client = Resonate(url=url, pid="worker-1")
    for function in (charge, order, pack, refund, fails, export, reminder, large):
        client.register(function)
    client.options(tags={"shop": "berlin"}).run("order-1", "order", "lamp")
    client.begin_run("refund-1", "refund", "order-1")
    for number in range(3):
        handle = client.options(retry_policy=Never()).begin_run(f"fail-{number}", "fails")
        until(handle.done)
    client.begin_run("export-1", "export")
    client.begin_run("reminder-1", "reminder")
    client.options(target="video").begin_rpc("video-1", "transcode", "film")
    client.begin_run("gone-1", "reminder").cancel()
    client.schedule("nightly", "order", "0 3 * * *", "lamp")
    until(lambda: [client.get(id).status().state for id in ("refund-1", "reminder-1")] == ["waiting"] * 2)
    until(lambda: any(call.state == "retrying" for call in client.get("export-1").tree().calls))
    yield client
    client.stop()
