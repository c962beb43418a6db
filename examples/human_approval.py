"""Human approval: a function that waits for a person.

`ctx.promise` makes a durable promise that somebody outside settles: a web handler, a
command line, a colleague a week later. All they need is its id. Run by itself, the "person"
is the main program, which gets the id through a mailbox and answers with `promises.resolve`.

With RESONATE_URL set, state lives there and the program waits for you. On the page of
`resonate dev`, or in another terminal:

    resonate why expense-1
    resonate promises resolve expense-1:1 --value '{"approved": true, "by": "Ada"}'
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from queue import Queue
from typing import Any

from resonate import Context, Resonate

resonate = Resonate()
mailbox: Queue[str] = Queue()


def ask_for_approval(ctx: Context, expense: str, amount: int, promise_id: str) -> None:
    print(f"please approve {amount} EUR for {expense} (promise {promise_id})")
    mailbox.put(promise_id)


def pay(ctx: Context, expense: str, amount: int) -> str:
    return f"paid {amount} EUR for {expense}"


@resonate.register
def reimburse(ctx: Context, expense: str, amount: int) -> Generator[Any, Any, str]:
    approval = yield ctx.promise(timeout=7 * 24 * 3600)
    yield ctx.run(ask_for_approval, expense, amount, approval.id)
    decision: dict[str, Any] = yield approval  # nothing runs and no thread is held until somebody answers
    if not decision["approved"]:
        return f"{expense}: refused by {decision['by']}"
    receipt: str = yield ctx.run(pay, expense, amount)
    return f"{receipt}, approved by {decision['by']}"


def decide(approved: bool) -> None:
    """What a web handler would do with the button that was pressed."""
    answer = {"approved": approved, "by": "Ada"}
    resonate.promises.resolve(mailbox.get(timeout=10), data=json.dumps(answer))


if __name__ == "__main__":
    train = resonate.begin_run("expense-1", reimburse, "train ticket", 80)
    if "RESONATE_URL" not in os.environ:
        decide(approved=True)
    print(train.result())

    yacht = resonate.begin_run("expense-2", reimburse, "yacht", 80_000)
    if "RESONATE_URL" not in os.environ:
        decide(approved=False)
    print(yacht.result())
