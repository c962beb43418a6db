"""A server with executions of every kind: finished, failing, waiting, retrying, halted, nested, nobody's."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any

from resonate import Context, Resonate
from resonate.protocol.requests import TaskHalt
from resonate.retry_policies import Constant, Never
from resonate.server.base import Settings
from resonate.server.running import Server
from tests.server.serving import serving

PATIENCE = 20.0
"""Seconds after which a test gives up."""

HOSTILE = '<img src=x onerror="alert(1)">'
"""What a page that made markup of it would run."""


def charge(ctx: Context, amount: int) -> dict[str, int]:
    return {"charged": amount}


def reserve(ctx: Context, item: str) -> str:
    return f"reserved {item}"


def decline(ctx: Context, card: str) -> None:
    raise ValueError(f"card {card} was declined <b>by the bank</b>")


def label(ctx: Context, number: int) -> str:
    if ctx.info.attempt < 3:
        raise ConnectionError("the carrier answered 503")
    return f"label {number}"


def order(ctx: Context, number: int) -> Generator[Any, Any, dict[str, Any]]:
    items = yield ctx.begin_rpc("pack", number)
    paid = yield ctx.run(charge, number * 10)
    packed = yield items
    return {"order": number, "paid": paid, "packed": packed}


def pack(ctx: Context, number: int) -> Generator[Any, Any, list[str]]:
    found = []
    for item in ("book", "lamp", "chair"):
        found.append((yield ctx.run(reserve, item)))
    return found


def send(ctx: Context, number: int) -> Generator[Any, Any, str]:
    found: str = yield ctx.run(label, number).options(retry_policy=Constant(delay=0.05, max_retries=5))
    return found


def refund(ctx: Context, amount: int) -> Generator[Any, Any, dict[str, Any]]:
    yield ctx.run(reserve, "money")
    approval = yield ctx.promise(timeout=86_400)
    approved = yield approval
    yield ctx.run(charge, -amount)
    return {"refunded": amount, "approved": approved}


def reminder(ctx: Context) -> Generator[Any, Any, str]:
    yield ctx.sleep(3_600)
    return "sent"


def report(ctx: Context, month: str) -> Generator[Any, Any, Any]:
    return (yield ctx.rpc("render", month).options(target="renderers"))


def echo(ctx: Context, value: Any) -> Any:
    return value


def wide(ctx: Context, calls: int) -> Generator[Any, Any, int]:
    for number in range(calls):
        yield ctx.run(charge, number)
    return calls


FUNCTIONS = (charge, order, pack, send, refund, reminder, report, decline, wide, echo)


def until(holds: Callable[[], bool]) -> None:
    """Wait for what a worker brings about."""
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.02)):
        if holds():
            return
        pause.wait(0.02)
    raise AssertionError("it did not come about")


def is_now(client: Resonate, id: str, state: str) -> None:
    """Wait until an execution is in a state."""
    until(lambda: client.get(id).tree().state == state)


def halt(client: Resonate, id: str) -> None:
    """Halt an execution that waits, as a replay of changed code would."""
    is_now(client, id, "waiting")
    client._core.started().network.send([TaskHalt(id)])


@contextlib.contextmanager
def filled(settings: Settings | None = None) -> Iterator[tuple[Server, Resonate]]:
    """The server and a worker of it, once everything has come to where it stays."""
    with (
        serving(settings=settings or Settings(ui="full")) as server,
        Resonate(url=server.url) as client,
        Resonate(url=server.url, group="idle", pid="idle-1"),
    ):
        for function in FUNCTIONS:
            client.register(function)
        for number in (1041, 1042, 1043):
            client.run(f"order-{number}", order, number)
        client.run("send-5", send, 5)
        client.options(tags={"tenant": "acme", "priority": "high"}).begin_run("refund-88", refund, 120)
        client.begin_run("reminder-7", reminder)
        client.begin_run("reminder-9", reminder)
        client.begin_run("report-2026-10", report, "2026-10")
        for number, card in enumerate(("4000-02", "4000-03", "4000-04")):
            with contextlib.suppress(ValueError):
                client.options(retry_policy=Never()).run(f"payment-{number}", decline, card)
        client.options(retry_policy=Constant(delay=3_600, max_retries=3)).begin_run("payment-9", decline, "4000-09")
        client.begin_run("reminder-8", reminder).cancel()
        client.schedule("nightly", charge, "0 3 * * *", 5)
        client.promises.create("approve-budget", 10**14, tags={"team": "finance"})
        halt(client, "reminder-9")
        for id, state in (("refund-88", "waiting"), ("report-2026-10", "waiting"), ("payment-9", "retrying")):
            until(partial(lambda id, state: client.get(id).tree().state == state, id, state))
        yield server, client
