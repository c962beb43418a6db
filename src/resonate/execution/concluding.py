"""What becomes of a call whose code has ended: its record and what is seen of it, or another attempt.

Runs encoders, retry policies and annotations of the user, so a driver calls it outside of
the execution's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CoroutineType, GeneratorType
from typing import Final

from resonate.errors import EncodeError, ForgottenCommand, IdTooLong, NonDeterminismError, UsageError
from resonate.execution.attempts import SHOWN, Failed, add
from resonate.execution.call import Call, Settled
from resonate.execution.commands import Command, Yieldable
from resonate.execution.coroutine import Outcome, Raised, Returned
from resonate.protocol.records import REJECTED, RESOLVED
from resonate.retry_policies import Never, seconds
from resonate.values import carry, encode_error
from resonate.values.exceptions import message_of

_FINAL: Final = (UsageError, EncodeError, NonDeterminismError, IdTooLong)
"""Errors that another attempt would only repeat."""


def conclude(call: Call, outcome: Outcome, now: Callable[[], int]) -> Settled | float:
    """How `call` is to be settled, or the seconds to wait before its next attempt.

    Args:
        now: the execution's clock, milliseconds since the epoch.
    """
    options = call.options
    if type(outcome) is Returned and isinstance(outcome.value, Yieldable):
        outcome = Raised(_forgotten(outcome.value, call))
    if type(outcome) is Returned:
        try:
            what = f"result of {call.name or call.id}"
            data, headers, seen = carry(outcome.value, call.returns, what, encoder=options.encoder)
            return Settled(RESOLVED, data, headers, Returned(seen))
        except Exception as error:
            outcome = Raised(_unrun(outcome.value, call) or error)
    else:
        try:
            delay = _retry_delay(call, outcome.error, now)  # type: ignore[union-attr]
            if delay is not None:
                _note_failure(call, outcome.error, delay, now())  # type: ignore[union-attr]
                return delay
        except Exception as error:  # of the user's policy
            error.__cause__ = error.__cause__ or outcome.error  # type: ignore[union-attr]
            outcome = Raised(error)
    data, headers, rebuilt = encode_error(outcome.error, encoder=options.encoder)  # type: ignore[union-attr]
    return Settled(REJECTED, data, headers, Raised(rebuilt))


def _retry_delay(call: Call, error: BaseException, now: Callable[[], int]) -> float | None:
    options = call.options
    if isinstance(error, _FINAL) or not isinstance(error, Exception):
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


def _note_failure(call: Call, error: BaseException, delay: float, now: int) -> None:
    """Keep what is told of an attempt that failed until something is written of the call.

    It is told to whoever looks, with no encoder at hand: where a call has one, which may encrypt, only the error's
    class is kept.
    """
    text = "" if call.options.encoder is not None else message_of(error).encode(errors="replace").decode()[:SHOWN]
    started_at = now if call.started_at is None else call.started_at
    failed = Failed(call.attempt, started_at, now, type(error).__name__, text, now + int(delay * 1000))
    call.failed_before = add(call.failed_before or [], failed)


def _forgotten(item: Yieldable, call: Call) -> ForgottenCommand:
    """The error of a call that ended with a command or promise instead of its value."""
    command = getattr(item, "item", item)  # of an async function's call, which begins by itself
    name = getattr(command, "name", None)
    what = f"ctx.run({name})" if name else repr(command)
    return ForgottenCommand(what, f"the end of {call.name or call.id}", begun=not isinstance(item, Command))


def _unrun(value: object, call: Call) -> UsageError | None:
    """The error of a call that ended with code that has yet to run; None if it ended with anything else."""
    name, kind = call.name or call.id, type(value)
    if kind is CoroutineType:
        value.close()  # type: ignore[attr-defined]  # Python would warn that nobody awaited it
        return UsageError(
            f"{name} returned a coroutine it did not await. If it wraps an async function, the wrapper must be one, "
            "too: `async def`, and `return await f(...)`"
        )
    if kind is GeneratorType:
        return UsageError(
            f"{name} returned a generator that nobody ran. If it wraps a generator function, the wrapper must be one, "
            "too: `return (yield from f(...))`"
        )
    return None
