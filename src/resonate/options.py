"""Options: the only place where an option has a name, a default, a unit, a check and a merge.

An `Options` is immutable. None in a call of `options(...)` means "leave as it is"; a field
that nobody set is None here too, where the default depends on who asks (the target on the
group, the policy on the function, the timeout on the caller's deadline).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, ClassVar, Final, Protocol

from msgspec import Struct
from msgspec.structs import replace

from resonate.errors import InvalidId, UnfitArguments, UnfitValue
from resonate.retry_policies import Exponential, Never, RetryPolicy, seconds
from resonate.storable import UNSTORABLE, is_storable


class Coder(Protocol):
    """What the option `encoder` takes; see `resonate.encoders`."""

    def encode(self, obj: Any, /) -> str | None:
        """The text of a value."""

    def decode(self, obj: Any, /) -> Any:
        """The value of a text."""


class Options(Struct, frozen=True):
    """How a call is made.

    Attributes:
        encoder: turns values into text and back, instead of our own form.
        idempotency_key: a key, or a function from the id to the key; the id itself if None.
        retry_policy: a policy, or a function from the called function to its policy.
        tags: the caller's own tags; replaced as a whole.
        target: the group, or the address, that is to run the call.
        timeout: seconds from now until the deadline.
        version: of the function; 0 is the newest.
        durable: False keeps no record of a local call; it runs again on replay.
        id: the promise's id, instead of the next child id.
        non_retryable_exceptions: failures, also of subclasses, that are final at once.
        check_args: False does not compare the arguments with those recorded under the id.
    """

    encoder: Coder | None = None
    idempotency_key: str | Callable[[str], str] | None = None
    retry_policy: RetryPolicy | Callable[[Callable[..., Any]], RetryPolicy] | None = None
    tags: dict[str, str] | None = None
    target: str | None = None
    timeout: float | None = None
    version: int = 0
    durable: bool = True
    id: str | None = None
    non_retryable_exceptions: tuple[type[BaseException], ...] = ()
    check_args: bool = True

    TIMEOUT: ClassVar[float] = 31_536_000.0
    """Seconds until the deadline of a root that names none: one year."""

    CLIENT: ClassVar[frozenset[str]] = frozenset(
        ("check_args", "encoder", "idempotency_key", "retry_policy", "tags", "target", "timeout", "version")
    )
    LOCAL: ClassVar[frozenset[str]] = frozenset(
        (
            "check_args",
            "durable",
            "encoder",
            "id",
            "idempotency_key",
            "non_retryable_exceptions",
            "retry_policy",
            "tags",
            "timeout",
        )
    )
    REMOTE: ClassVar[frozenset[str]] = frozenset(
        ("check_args", "encoder", "id", "idempotency_key", "tags", "target", "timeout", "version")
    )
    LATENT: ClassVar[frozenset[str]] = frozenset(("encoder", "id", "idempotency_key", "tags", "timeout"))
    SLEEP: ClassVar[frozenset[str]] = frozenset(("id",))
    ANY: ClassVar[frozenset[str]] = LOCAL | REMOTE

    def merged(self, names: frozenset[str] = ANY, /, **given: Any) -> Options:
        """These options with the `given` ones over them.

        Args:
            names: the options that may be given here.
            **given: None leaves an option as it is.

        Raises:
            UnfitArguments: an option that is unknown or not offered here, or of a wrong type (a TypeError).
            UnfitValue: a value that cannot be (a ValueError).
        """
        changes: dict[str, Any] = {}
        for name, value in given.items():
            if name not in names:
                raise UnfitArguments(_unexpected(name, names))
            if value is not None:
                changes[name] = _CHECKS[name](value)
        return replace(self, **changes) if changes else self

    def key_for(self, id: str) -> str:
        """The idempotency key of the promise `id`: the id itself unless one was asked for.

        Raises:
            UnfitArguments: the user's function gave something other than a str (a TypeError).
            UnfitValue: what it gave cannot be stored (a ValueError).
        """
        key = self.idempotency_key
        if key is None:
            return id
        if not isinstance(key, str):
            key = key(id)
            if not isinstance(key, str):
                raise UnfitArguments(f"idempotency_key: the function gave {type(key).__name__} for {id!r}, not `str`")
            if not is_storable(key):
                raise UnfitValue(
                    f"idempotency_key: what the function gave for {id!r}, {key[:80]!r}, {UNSTORABLE}; give other text"
                )
        return plain(key)

    def policy_for(self, func: Any, kind: str, leaf: bool = False) -> RetryPolicy:
        """The retry policy of a call.

        Args:
            func: the called function.
            kind: "plain", "transaction", "generator" or "async".
            leaf: an async function that made no durable call, so that trying it again
                repeats nothing but itself.

        Raises:
            UnfitArguments: the user's function returned something that is no policy (a TypeError).
        """
        policy = self.retry_policy
        if policy is None:
            return EXPONENTIAL if kind in ("plain", "transaction") or (leaf and kind == "async") else NEVER
        if isinstance(policy, RetryPolicy):
            return policy
        chosen = policy(func)
        if not isinstance(chosen, RetryPolicy):
            raise UnfitArguments(f"retry_policy: the function gave {type(chosen).__name__}, which has no next(attempt)")
        return chosen


plain: Final = str.__str__
"""Text as a `str` and no subclass of it, which nothing below can be relied on to write."""

EXPONENTIAL: Final = Exponential()
NEVER: Final = Never()


def _unexpected(name: str, names: frozenset[str]) -> str:
    if name in _CHECKS:
        return f"options() got an unexpected keyword argument {name!r}: here it takes {', '.join(sorted(names))}"
    return f"options() got an unexpected keyword argument {name!r}"


def _encoder(value: Any) -> Any:
    if callable(getattr(value, "encode", None)) and callable(getattr(value, "decode", None)):
        return value
    raise UnfitArguments(f"encoder must have encode(obj) and decode(obj), got {type(value).__name__}")


def _idempotency_key(value: Any) -> Any:
    if isinstance(value, str):
        if not is_storable(value):
            raise UnfitValue(f"idempotency_key {value[:80]!r} {UNSTORABLE}; give other text")
        return plain(value)
    if callable(value):
        return value
    raise UnfitArguments(f"idempotency_key must be `str | Callable[[str], str]`, got {type(value).__name__}")


def _retry_policy(value: Any) -> Any:
    if not isinstance(value, type) and (callable(getattr(value, "next", None)) or callable(value)):
        return value
    hint = f": write {value.__name__}()" if isinstance(value, type) else ""
    raise UnfitArguments(f"retry_policy must be `RetryPolicy | Callable`, got {_named(value)}{hint}")


def _tags(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise UnfitArguments(f"tags must be `dict[str, str]`, got {type(value).__name__}")
    for key, tag in value.items():
        if not isinstance(key, str) or not isinstance(tag, str):
            raise UnfitArguments(
                f"tags must be `dict[str, str]`, got {type(key).__name__} {key!r}: {type(tag).__name__}"
            )
        if not is_storable(key + tag):
            raise UnfitValue(f"tag {key!r} {UNSTORABLE}")
    return {plain(key): plain(tag) for key, tag in value.items()}


def _target(value: Any) -> str:
    if not isinstance(value, str):
        raise UnfitArguments(f"target must be `str`, got {type(value).__name__}")
    if not value:
        raise UnfitValue("target must name a group or an address, got an empty string")
    if any(character.isspace() for character in value):
        raise UnfitValue(f"target {value!r} holds a space, which no group and no address has")
    if not is_storable(value):
        raise UnfitValue(f"target {value!r} {UNSTORABLE}")
    return plain(value)


def _version(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UnfitArguments(f"version must be `int`, got {type(value).__name__}")
    if value < 0:
        raise UnfitValue(f"version must be greater than or equal to zero, got {value}")
    return value


def _id(value: Any) -> str:
    if not isinstance(value, str):
        raise UnfitArguments(f"id must be `str`, got {type(value).__name__}")
    if not value or "\0" in value:
        raise InvalidId(value, "an id is not empty and holds no NUL")
    if not is_storable(value):
        raise InvalidId(value, "an id is text that UTF-8 can write")
    return plain(value)


def _exceptions(value: Any) -> tuple[type[BaseException], ...]:
    classes = (value,) if isinstance(value, type) else value
    if isinstance(classes, Iterable):
        classes = tuple(classes)
        if all(isinstance(each, type) and issubclass(each, BaseException) for each in classes):
            return classes
    raise UnfitArguments(f"non_retryable_exceptions must be `tuple[type[Exception], ...]`, got {_named(value)}")


def _flag(name: str) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        if not isinstance(value, bool):
            raise UnfitArguments(f"{name} must be `bool`, got {type(value).__name__}")
        return value

    return check


def _named(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else repr(value)[:80]


def _timeout(value: float | timedelta) -> float:
    return seconds(value, "timeout")


_CHECKS: Final[dict[str, Callable[[Any], Any]]] = {
    "check_args": _flag("check_args"),
    "durable": _flag("durable"),
    "encoder": _encoder,
    "id": _id,
    "idempotency_key": _idempotency_key,
    "non_retryable_exceptions": _exceptions,
    "retry_policy": _retry_policy,
    "tags": _tags,
    "target": _target,
    "timeout": _timeout,
    "version": _version,
}

__all__ = ["Options", "seconds"]
