"""What becomes of a call whose code has ended: its record and what is seen of it, or another attempt.

Runs encoders, retry policies and annotations of the user, so a driver calls it outside of
the execution's lock.
"""

from __future__ import annotations

from collections.abc import Callable

from resonate.errors import EncodeError, ForgottenCommand, IdTooLong, NonDeterminismError, UsageError
from resonate.execution.call import Call, Settled
from resonate.execution.commands import Yieldable
from resonate.execution.coroutine import Outcome, Raised, Returned
from resonate.protocol.records import REJECTED, RESOLVED
from resonate.retry_policies import Never, seconds
from resonate.values import carry, encode_error


def conclude(call: Call, outcome: Outcome, now: Callable[[], int]) -> Settled | float:
    """How `call` is to be settled, or the seconds to wait before its next attempt.

    Args:
        now: the execution's clock, milliseconds since the epoch.
    """
    options = call.options
    if type(outcome) is Returned and isinstance(outcome.value, Yieldable):
        outcome = Raised(ForgottenCommand(_described(outcome.value), f"the end of {call.name or call.id}"))
    if type(outcome) is Returned:
        try:
            what = f"result of {call.name or call.id}"
            data, headers, seen = carry(outcome.value, call.returns, what, encoder=options.encoder)
            return Settled(RESOLVED, data, headers, Returned(seen))
        except Exception as error:
            outcome = Raised(error)
    else:
        try:
            delay = _retry_delay(call, outcome.error, now)  # type: ignore[union-attr]
            if delay is not None:
                return delay
        except Exception as error:  # of the user's policy
            error.__cause__ = error.__cause__ or outcome.error  # type: ignore[union-attr]
            outcome = Raised(error)
    data, headers, rebuilt = encode_error(outcome.error, encoder=options.encoder)  # type: ignore[union-attr]
    return Settled(REJECTED, data, headers, Raised(rebuilt))


def _retry_delay(call: Call, error: BaseException, now: Callable[[], int]) -> float | None:
    options = call.options
    if isinstance(error, (UsageError, EncodeError, NonDeterminismError, IdTooLong)):
        return None
    if options.non_retryable_exceptions and isinstance(error, options.non_retryable_exceptions):
        return None
    policy = options.policy_for(call.func, call.kind, leaf=call.begun == 0)
    if type(policy) is Never:
        return None
    delay = policy.next(call.attempt)
    if delay is None:
        return None
    delay = seconds(delay, "what retry_policy.next() gives")
    return delay if now() + delay * 1000 < call.deadline else None


def _described(item: Yieldable) -> str:
    """A command or promise as the program wrote it, more or less."""
    name = getattr(getattr(item, "item", item), "name", None)
    return f"ctx.run({name})" if name else repr(item)
