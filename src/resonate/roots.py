"""A root call: what the program asked for, as it is stored, and whether what is stored is the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from resonate.context import Shared
from resonate.errors import DecodeError, IdConflict, InvalidId, ResonateStoreError, UnfitArguments
from resonate.execution.begin import ID_LIMIT
from resonate.execution.commands import address
from resonate.execution.records import CALL_TAG, KEY_TAG, identity, split
from resonate.options import Options, plain
from resonate.protocol.records import BRANCH, ORIGIN, PARENT, SCOPE, TARGET, Promise, Value
from resonate.protocol.requests import PromiseCreate
from resonate.retry_policies import to_wire
from resonate.signatures import Signature, describe, unwrapped
from resonate.storable import is_unicode
from resonate.values import decode_call, digest, encode_call, retype

SHOWN: Final = 200
"""Characters of a call's arguments that an error shows."""

_SCALARS: Final = frozenset((bool, int, str, float, type(None)))


class RootCall(Struct, frozen=True):
    """A root call, resolved and encoded: what is to be stored, and how its result is read."""

    name: str
    func: Callable[..., Any] | None
    version: int
    signature: Signature | None
    data: str | None
    headers: dict[str, str] | None
    target: str
    identity: str
    args: tuple[Any, ...] | None
    """The arguments, where a trip through the encoder is known to change nothing."""


def resolve(
    shared: Shared,
    own_group: str,
    func: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    opts: Options,
    *,
    remote: bool,
) -> RootCall:
    """Resolve and encode a root call.

    Args:
        shared: knows the registered functions.
        own_group: of this client, whose workers run what is registered here.
        remote: the function may be one that only others have.

    Raises:
        TypeError: `func` is neither function nor name, or the arguments do not fit it.
        FunctionNotFound: not registered here; for `remote` a name need not be.
        EncodeError: an argument cannot be stored.
    """
    found: Callable[..., Any] | None
    signature: Signature | None
    known = shared.registered(func) if not opts.version else None
    if known is not None:
        found, name, version, signature = known
    else:
        if not isinstance(func, str) and not callable(func):
            raise TypeError(f"func must be `Callable | str`, got {type(func).__name__}")
        if func == "":
            raise ValueError("func must be a function or the name of one, got an empty string")
        func = plain(func) if isinstance(func, str) else unwrapped(func)
        find = shared.registry.resolve if remote else shared.registry.get
        name, found, version = find(func, opts.version)
        signature = describe(found) if found is not None else None
    if signature is not None:
        signature.bind(args, kwargs)
    retry = None
    if opts.retry_policy is not None and signature is not None:
        retry = to_wire(opts.policy_for(found, signature.kind))
    data, headers = encode_call(name, args, kwargs, version, encoder=opts.encoder, retry=retry)
    group = own_group if found is not None or shared.registry.versions(name) else "default"
    text = identity("root", version, digest(args, kwargs), name, "-")
    kept = None
    if signature is not None and not kwargs and headers is None and _unchanged(args, signature):
        kept = args
    elif signature is not None and signature.annotated and opts.encoder is None:
        _check_annotations(data, headers, signature)
    return RootCall(name, found, version, signature, data, headers, address(opts.target or group), text, kept)


def creation(id: str, call: RootCall, opts: Options, now: int, origin: str) -> PromiseCreate:
    """The request that creates the promise of `call`.

    Args:
        now: milliseconds since the epoch.
        origin: the root that `id` belongs to in the service's dialect; mostly `id` itself.
    """
    tags = {
        ORIGIN: origin,
        BRANCH: id,
        PARENT: id,
        SCOPE: "global",
        TARGET: call.target,
        CALL_TAG: call.identity,
    }
    if opts.tags:
        tags = {**opts.tags, **tags}
    if opts.idempotency_key is not None and (key := opts.key_for(id)) != id:
        tags[KEY_TAG] = key
    timeout = Options.TIMEOUT if opts.timeout is None else opts.timeout
    return PromiseCreate(id, now + int(timeout * 1000), Value(call.headers, call.data), tags)


def check_same(promise: Promise, create: PromiseCreate, opts: Options) -> None:
    """Refuse to join a call that is not the one asked for (api 14.1).

    Raises:
        IdConflict: another function or other arguments.
        ResonateStoreError: 40399 for another idempotency key.
    """
    id = create.id
    if promise.tags is create.tags:
        return
    if promise.tags.get(KEY_TAG, id) != create.tags.get(KEY_TAG, id):
        raise ResonateStoreError(f"{id} was created with another idempotency key", 40399)
    recorded = promise.tags.get(CALL_TAG)
    if recorded is None:
        return
    asked = create.tags[CALL_TAG]
    old, new = split(recorded), split(asked)
    same_version = not opts.version or old[1] == new[1]
    same_args = opts.idempotency_key is not None or not opts.check_args or old[2] == new[2]
    if old[3] != new[3] or not same_version or not same_args:
        raise IdConflict(id, describe_root(promise, recorded), describe_root(create, asked))


def describe_root(promise: Promise | PromiseCreate, text: str) -> str:
    """A root call as a person reads it: name, version, shortened arguments."""
    _, version, _, name, _ = split(text)
    try:
        call = decode_call(promise.param.data, promise.param.headers)
        shown = [repr(arg) for arg in call.args] + [f"{key}={arg!r}" for key, arg in call.kwargs.items()]
    except DecodeError:  # written by an encoder of the user's: only that encoder can read it
        shown = ["…"]
    arguments = ", ".join(shown)
    arguments = arguments if len(arguments) <= SHOWN else arguments[:SHOWN] + "…"
    return f"{name}({arguments}) version {version}"


def check_id(id: object) -> str:
    """`id`, if it can be the id of a root; as a plain `str`.

    Raises:
        TypeError: not a str.
        InvalidId: empty, too long, or holding a NUL.
    """
    if not isinstance(id, str):
        raise TypeError(f"id must be `str`, got {type(id).__name__}")
    if not id or "\0" in id:
        raise InvalidId(id, "an id is not empty and holds no NUL")
    if not is_unicode(id):
        raise InvalidId(id, "an id is text that UTF-8 can write")
    if len(id) * 4 > ID_LIMIT and len(id.encode()) > ID_LIMIT:
        raise InvalidId(id[:80] + "…", f"an id has at most {ID_LIMIT} bytes")
    return plain(id)


def _check_annotations(data: str | None, headers: dict[str, str] | None, signature: Signature) -> None:
    """Refuse arguments that whoever runs the function could not read back as it declares them.

    Annotations with JSON's own types are hints only, here as there: programs have always passed what they like.

    Raises:
        UnfitArguments: which one, and what it should be; a TypeError.
    """
    try:
        retype(decode_call(data, headers), signature)
    except DecodeError as error:
        raise UnfitArguments(str(error)) from error


def _unchanged(args: tuple[Any, ...], signature: Signature) -> bool:
    """Whether storing and reading the arguments gives them back as they are."""
    for arg in args:
        if type(arg) not in _SCALARS:
            return False
    if not signature.annotated:
        return True
    wanted = signature.positional(len(args))
    return all(want is Any or want is type(arg) for arg, want in zip(args, wanted, strict=False))


__all__ = ["RootCall", "check_id", "check_same", "creation", "resolve"]
