"""Retries: a flaky step is tried again, a hopeless one is not.

A plain step is retried by its policy (by default for ever, with growing pauses, until the
deadline). Errors named in `non_retryable_exceptions`, and their subclasses, are final at once.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from resonate import Context, Resonate
from resonate.retry_policies import Exponential

# A retry is a warning in the log; this program prints what happens itself.
resonate = Resonate(log_level="ERROR")

POLICY = Exponential(delay=0.01, max_retries=5)


class CardDeclined(Exception):
    """Trying again will not help."""


def charge(ctx: Context, card: str) -> str:
    print(f"  attempt {ctx.info.attempt} to charge {card}")
    if card == "expired":
        raise CardDeclined(f"card {card!r} was declined")
    if ctx.info.attempt < 3:
        raise ConnectionError("the bank does not answer")
    return f"charged {card} at attempt {ctx.info.attempt}"


@resonate.register
def checkout(ctx: Context, card: str) -> Generator[Any, Any, str]:
    command = ctx.run(charge, card).options(retry_policy=POLICY, non_retryable_exceptions=(CardDeclined,))
    try:
        receipt: str = yield command
    except CardDeclined as error:
        return f"not charged: {error}"
    return receipt


if __name__ == "__main__":
    print(resonate.run("checkout-1", checkout, "visa"))
    print(resonate.run("checkout-2", checkout, "expired"))
