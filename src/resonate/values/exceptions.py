"""Exceptions split into plain JSON and type information, and put together again.

The plain form is the one of other languages: `{"__type": "error", "message", "name",
"stack"}`. Beside it go class, args, attributes, notes and cause. Parts that cannot be
carried are left out or become text: a failure must always be storable. An exception is
built without running its class's own code: by the `__new__` and `__init__` of the builtin
class it extends. If that does not work, a `RemoteError` stands for it.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from typing import Any, Final

from resonate.errors import RemoteError
from resonate.values.classes import Unfit, find, name_of

Split = Callable[[Any], tuple[Any, Any]]
Join = Callable[[Any, Any], Any]

STACK_LIMIT: Final = 10_000
"""Characters of a traceback that are kept, its end: an error that passes many calls must not grow for ever."""

SAID_LIMIT: Final = 4_000
"""Characters of the message in a traceback: kept whole beside it, it must not take the place of the frames."""

CAUSES: Final = 8
"""Causes of causes that are kept."""

TRACEBACK: Final = "remote_traceback"
"""The attribute of a rebuilt exception that holds the text of its original traceback."""

_SHOWN: Final = 200

_FIELDS: Final[tuple[tuple[type[Exception], frozenset[str]], ...]] = (
    (ImportError, frozenset(("name", "path"))),
    (NameError, frozenset(("name",))),
    (AttributeError, frozenset(("name",))),
)
"""Attributes that builtin classes keep neither in `args` nor in `__dict__`."""


def split_error(error: BaseException, split: Split, causes: int = CAUSES) -> tuple[dict[str, Any], list[Any]]:
    """The plain form of `error` and its node in the type tree."""
    stack = stack_of(error)
    if isinstance(error, RemoteError):
        name, message = error.type_name, error.message
    else:
        name, message = type(error).__name__, message_of(error)
    plain = {"__type": "error", "message": message, "name": name, "stack": stack}
    info: dict[str, Any] = {}
    try:
        info["class"] = name_of(type(error))
    except Unfit:
        return plain, ["error", info]
    args = _args_of(error)
    if args:
        info["args"] = [list(_split_or_text(arg, split)) for arg in args]
    state = _state_of(error, split)
    if state:
        info["state"] = state
    notes = [note for note in getattr(error, "__notes__", ()) if isinstance(note, str) and not note.startswith(_NOTE)]
    if notes:
        info["notes"] = notes
    if error.__cause__ is not None and causes > 0:
        info["cause"] = list(split_error(error.__cause__, split, causes - 1))
    return plain, ["error", info]


def join_error(plain: Mapping[str, Any], info: Mapping[str, Any], join: Join) -> Exception:
    """The exception that `split_error` took apart, or a `RemoteError`."""
    name, message, stack = str(plain["name"]), str(plain["message"]), str(plain.get("stack") or "")
    error = _build(info, join) or RemoteError(name, message, stack)
    if stack:
        error.__dict__[TRACEBACK] = stack
    notes = [str(note) for note in info.get("notes", ())]
    if stack:
        notes.append(_NOTE + stack.rstrip())
    if notes:
        error.__dict__["__notes__"] = notes
    if "cause" in info:
        cause_plain, cause_node = info["cause"]
        cause = join_error(cause_plain, cause_node[1], join)
        BaseException.__dict__["__cause__"].__set__(error, cause)  # also on a class that is frozen
    return error


def message_of(error: BaseException) -> str:
    """The text of an exception, also of one whose `__str__` fails."""
    try:
        return str(error)
    except Exception:
        return f"<{type(error).__name__} whose text cannot be made>"


def stack_of(error: BaseException) -> str:
    """The traceback as text, behind the one it had in another process or attempt."""
    earlier = error.__dict__.get(TRACEBACK, "") if hasattr(error, "__dict__") else ""
    here = _frames_of(error)
    if earlier and not here:
        text = str(earlier)
    else:
        said = message_of(error)
        if len(said) > SAID_LIMIT:
            said = f"{said[:SAID_LIMIT]} ..."
        text = f"{earlier}{_TITLE}{here}{type(error).__name__}: {said}\n"
    return text if len(text) <= STACK_LIMIT else "... " + text[-STACK_LIMIT:]


_TITLE: Final = "Traceback (most recent call last):\n"
_NOTE: Final = "Raised by the durable function here:\n"


def _frames_of(error: BaseException) -> str:
    """Where an exception was raised, as Python shows it.

    To underline the part of a line Python parses it, which up to 3.11.4 may fail when threads do that at the same time.
    """
    try:
        return "".join(traceback.format_tb(error.__traceback__))
    except SystemError:
        frames = traceback.walk_tb(error.__traceback__)
        return "".join(
            f'  File "{frame.f_code.co_filename}", line {line}, in {frame.f_code.co_name}\n' for frame, line in frames
        )


def _build(info: Mapping[str, Any], join: Join) -> Exception | None:
    cls = find(info["class"]) if "class" in info else None
    if cls is BaseExceptionGroup:
        cls = ExceptionGroup  # its members are rebuilt as an `Exception` each
    if cls is None or not issubclass(cls, Exception):
        return None
    try:
        args = tuple(join(plain, node) for plain, node in info.get("args", ()))
        state = {key: join(plain, node) for key, (plain, node) in info.get("state", {}).items()}
        base: Any = next(base for base in cls.__mro__ if base.__module__ == "builtins")
        error: Exception = base.__new__(cls, *args)
        base.__init__(error, *args)
        for owner, names in _FIELDS:
            for name in state.keys() & names if issubclass(cls, owner) else ():
                owner.__dict__[name].__set__(error, state.pop(name))
        error.__dict__.update(state)
    except Exception:  # whatever is wrong with it, the stand-in says what happened
        return None
    return error


def _args_of(error: BaseException) -> tuple[Any, ...]:
    """What its builtin class has to be called with; an `OSError` takes its file names out of `args`."""
    if not isinstance(error, OSError) or error.filename is None:
        return error.args
    if error.filename2 is None:
        return (error.errno, error.strerror, error.filename)
    return (error.errno, error.strerror, error.filename, None, error.filename2)


def _state_of(error: BaseException, split: Split) -> dict[str, Any]:
    state = {}
    own = [(owner.__dict__[name], name) for owner, names in _FIELDS if isinstance(error, owner) for name in names]
    given = {name: value for field, name in own if (value := field.__get__(error)) is not None}
    for key, value in (error.__dict__ | given).items():
        if key in (TRACEBACK, "__notes__"):
            continue
        try:
            state[key] = list(split(value))
        except Exception:  # an attribute such as a connection: the exception is worth more than it
            continue
    return state


def _split_or_text(value: Any, split: Split) -> tuple[Any, Any]:
    try:
        return split(value)
    except Exception:  # the same: a text that shows it is better than no exception
        try:
            return repr(value)[:_SHOWN], None
        except Exception:
            return f"<{type(value).__name__}>", None


__all__ = ["join_error", "message_of", "split_error", "stack_of"]
