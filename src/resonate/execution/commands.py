"""What a function may yield or await: its durable calls, as data.

`Context` makes commands, `Execution` carries them out. A command is numbered when it is
made, not when it is yielded, so that an id depends on the code alone. A command that is
made in a generator and never yielded starts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextvars import ContextVar
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from resonate.encoders import Encoder
from resonate.errors import UsageError
from resonate.options import Options
from resonate.signatures import Signature
from resonate.values import encode_call

T = TypeVar("T")


class Awaiting(Protocol):
    """The driver's side of `await`: turns something yieldable into something awaitable."""

    def await_(self, item: Any) -> Generator[Any, Any, Any]: ...


AWAITING: ContextVar[Awaiting | None] = ContextVar("resonate_awaiting", default=None)


class Yieldable:
    """Anything a durable function may yield (in a generator) or await (in an async function)."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, Any]:
        awaiting = AWAITING.get()
        if awaiting is None:
            raise UsageError(
                f"{type(self).__name__} can only be awaited inside a durable async function; "
                "in a generator function write `yield` instead of `await`"
            )
        return awaiting.await_(self)


class Promise(Yieldable, Generic[T]):
    """A durable promise that a function has begun; yield or await it for its value."""

    __slots__ = ("id",)

    id: str

    def __init__(self, id: str) -> None:
        object.__setattr__(self, "id", id)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Promise is frozen: {name} of {self.id!r} cannot be set")

    @property
    def cid(self) -> str:
        """The id, under its older name."""
        return self.id

    def __repr__(self) -> str:
        return f"Promise({self.id!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Promise) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)


class Command(Yieldable):
    """A durable call that a function asks for."""

    __slots__ = ("id", "opts", "where")

    option_names: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, where: str, opts: Options) -> None:
        self.id = ""
        self.where = where
        self.opts = opts

    def number(self, id: str) -> None:
        """Give the call its id, unless its options name another; the number is used up either way."""
        self.id = id if self.opts.id is None else self.opts.id

    def options(self, **given: Any) -> Command:
        """Set options of this call and return it; None leaves an option as it is.

        Raises:
            TypeError: an option that this kind of call does not have, or a wrong type.
            ValueError: a negative timeout or version.
        """
        self.opts = self.opts.merged(self.option_names, **given)
        if self.opts.id is not None:
            self.id = self.opts.id
        return self


class LocalCommand(Command):
    """Call a function in this process, as a step of this execution."""

    __slots__ = ("args", "digest", "func", "kwargs", "name", "signature", "version")

    option_names = Options.LOCAL
    begins: ClassVar[bool] = False

    def __init__(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str,
        version: int,
        signature: Signature,
        digest: str,
        where: str,
        opts: Options,
    ) -> None:
        self.id = ""
        self.where = where
        self.opts = opts
        self.func = func
        self.args = args
        self.kwargs = kwargs
        self.name = name
        self.version = version
        self.signature = signature
        self.digest = digest


class LFC(LocalCommand):
    """Local function call: yields the value."""

    __slots__ = ()


class Mapped(LFC):
    """A call of ours that ends before what it began: its caller takes those over."""

    __slots__ = ()


class Transacted(LFC):
    """A step whose result is stored in one transaction with what it changed in a database."""

    __slots__ = ()


class LFI(LocalCommand):
    """Local function invocation: yields a `Promise` at once."""

    __slots__ = ()
    begins = True


class RemoteCommand(Command):
    """Call a function by name on a worker of a group."""

    __slots__ = ("args", "data", "digest", "group", "headers", "kwargs", "name", "returns", "version")

    option_names = Options.REMOTE
    begins: ClassVar[bool] = False
    detached: ClassVar[bool] = False

    def __init__(
        self,
        name: str,
        version: int,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        digest: str,
        returns: Any,
        group: str,
        where: str,
        opts: Options,
    ) -> None:
        super().__init__(where, opts)
        self.group = group
        self.name = name
        self.version = version
        self.args = args
        self.kwargs = kwargs
        self.digest = digest
        self.returns = returns
        self._encode(opts.encoder)

    def options(self, **given: Any) -> Command:
        super().options(**given)
        if "version" in given or "encoder" in given:
            if self.opts.version:
                self.version = self.opts.version
            self._encode(self.opts.encoder)
        return self

    @property
    def target(self) -> str:
        """The address of the workers that may run it."""
        return address(self.opts.target or self.group)

    def _encode(self, encoder: Encoder[Any, str | None] | None) -> None:
        self.data, self.headers = encode_call(self.name, self.args, self.kwargs, self.version, encoder=encoder)


def address(target: str) -> str:
    """The address of any worker of group `target`; a full address stays as it is (protocol 6.1)."""
    return target if "://" in target else f"poll://any@{target}"


class RFC(RemoteCommand):
    """Remote function call: yields the value."""

    __slots__ = ()


class RFI(RemoteCommand):
    """Remote function invocation: yields a `Promise` at once."""

    __slots__ = ()
    begins = True


class Detached(RFI):
    """Remote function invocation that outlives its caller and is not waited for."""

    __slots__ = ()
    detached = True


class Sleep(Command):
    """Wait for `seconds`, durably."""

    __slots__ = ("seconds",)

    option_names = Options.SLEEP

    def __init__(self, seconds: float, where: str, opts: Options) -> None:
        super().__init__(where, opts)
        self.seconds = seconds


class Latent(Command):
    """A bare promise that somebody outside settles."""

    __slots__ = ("data", "digest", "headers")

    option_names = Options.LATENT

    def __init__(
        self, data: str | None, headers: dict[str, str] | None, digest: str, where: str, opts: Options
    ) -> None:
        super().__init__(where, opts)
        self.data = data
        self.headers = headers
        self.digest = digest


class Choice(Command):
    """Wait for several calls: `all` of them, the first to end (`race`), or which that is (`first`)."""

    __slots__ = ("members", "mode")

    option_names = Options.SLEEP

    def __init__(self, members: Sequence[Command | Promise[Any]], mode: str, where: str, opts: Options) -> None:
        super().__init__(where, opts)
        self.members = members
        self.mode = mode
