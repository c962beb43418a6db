"""Classes by name, and instances of them taken apart and put together again.

Looking a class up never imports a module and runs no code of it: only `sys.modules` and
the dicts of modules and classes are read. Dataclasses and subclasses of builtins are put
together without calling their constructors; msgspec and pydantic build their own models.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import Enum, Flag
from typing import Any, Final

import msgspec

from resonate.errors import DecodeError

BUILTINS: Final = (str, int, float, bytes, list, tuple, dict, set, frozenset)
"""What a class may be a subclass of and still be carried, if its instances have no state of their own."""


_MADE_IN_PYTHON: Final = 1 << 9
"""The flag by which CPython tells classes of Python code from those of C code."""


class Unfit(Exception):
    """An instance that cannot be carried, and why."""


def name_of(cls: type) -> str:
    """The name by which `cls` can be found again.

    Raises:
        Unfit: it was made inside of a function, or its module shows another one by that name.
    """
    name = f"{cls.__module__}:{cls.__qualname__}"
    if find(name) is cls:
        return name
    if "<locals>" in cls.__qualname__:
        raise Unfit("its class is defined inside of a function, where a replay cannot find it: move it to a module")
    raise Unfit(f"its class cannot be found as {cls.__qualname__} in module {cls.__module__}")


def find(name: str) -> type | None:
    """The imported class of that name, or None."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        if found is None:
            return None
        found = getattr(found, "__dict__", {}).get(part)
    return found if isinstance(found, type) else None


def wanted(name: str) -> type:
    """The class of that name.

    Raises:
        DecodeError: it is not imported in this process.
    """
    cls = find(name)
    if cls is None:
        module, _, path = name.partition(":")
        raise DecodeError(
            f"a stored value is a {path} of module {module}, which is not there: import it before reading"
        )
    return cls


def is_dataclass(cls: type) -> bool:
    """Whether instances of `cls` are dataclasses."""
    return hasattr(cls, "__dataclass_fields__")


def is_pydantic(cls: type) -> bool:
    """Whether `cls` is a pydantic model; pydantic itself is never loaded for that."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(cls, pydantic.BaseModel)


# ---- dataclasses ---------------------------------------------------------------------------------


def dataclass_values(value: Any) -> dict[str, Any]:
    """The fields of a dataclass instance.

    Raises:
        Unfit: a field has no value, or it extends a builtin, whose part would be lost.
    """
    try:
        object.__new__(type(value))
    except TypeError as error:
        raise Unfit("it is a dataclass that extends a builtin class") from error
    values = {}
    for field in sys.modules["dataclasses"].fields(value):
        try:
            values[field.name] = getattr(value, field.name)
        except AttributeError as error:
            raise Unfit(f"its field {field.name} has no value") from error
    return values


def build_dataclass(name: str, values: Mapping[str, Any]) -> Any:
    """An instance with these field values; fields added since take their defaults.

    Raises:
        DecodeError: no such dataclass, or a field without value or default.
    """
    cls = wanted(name)
    if not is_dataclass(cls):
        raise DecodeError(f"a stored value is a dataclass {name}, which is no dataclass here")
    missing = sys.modules["dataclasses"].MISSING
    built: Any = object.__new__(cls)
    for field in sys.modules["dataclasses"].fields(cls):
        if field.name in values:
            value = values[field.name]
        elif field.default is not missing:
            value = field.default
        elif field.default_factory is not missing:
            value = field.default_factory()
        else:
            raise DecodeError(f"a stored {name} has no field {field.name}, which has no default")
        object.__setattr__(built, field.name, value)
    return built


# ---- msgspec ---------------------------------------------------------------------------------------


def struct_values(value: msgspec.Struct) -> dict[str, Any]:
    """The fields of a struct, by the names they have on the wire."""
    cls = type(value)
    names = zip(cls.__struct_encode_fields__, cls.__struct_fields__, strict=True)
    return {name: getattr(value, field) for name, field in names}


def struct_tag(value: msgspec.Struct) -> dict[str, Any]:
    """What tells a tagged struct from others, as an entry of its JSON object."""
    config = value.__struct_config__
    return {} if config.tag is None or config.tag_field is None else {config.tag_field: config.tag}


def build_struct(name: str, values: Mapping[str, Any]) -> Any:
    """An instance with these values, by their names on the wire.

    Raises:
        DecodeError: no such struct, or values that it does not take.
    """
    cls = wanted(name)
    if not issubclass(cls, msgspec.Struct):
        raise DecodeError(f"a stored value is a msgspec struct {name}, which is no struct here")
    names = zip(cls.__struct_encode_fields__, cls.__struct_fields__, strict=True)
    try:
        return cls(**{field: values[encoded] for encoded, field in names if encoded in values})
    except (TypeError, ValueError) as error:
        raise DecodeError(f"a stored {name} does not fit its class: {error}") from error


# ---- pydantic --------------------------------------------------------------------------------------


def pydantic_json(value: Any) -> bytes:
    """The JSON of a pydantic model that reads back as an equal one.

    Raises:
        Unfit: there is none, for instance because of a secret or an excluded field.
    """
    reason = "its JSON does not read back as an equal model"
    for by_alias in (True, False):
        try:
            text: str = value.model_dump_json(round_trip=True, by_alias=by_alias, warnings="error")
            if type(value).model_validate_json(text) == value:
                return text.encode()
        except Exception as error:  # whatever validators and serializers of the model raise
            reason = f"its JSON does not read back: {error}"
    raise Unfit(reason)


def build_pydantic(name: str, plain: Any) -> Any:
    """The model of a JSON value.

    Raises:
        DecodeError: no such model, or it refuses the value.
    """
    cls = wanted(name)
    if not is_pydantic(cls):
        raise DecodeError(f"a stored value is a pydantic model {name}, which is none here")
    try:
        return cls.model_validate_json(msgspec.json.encode(plain))  # type: ignore[attr-defined]
    except Exception as error:  # whatever validators of the model raise
        raise DecodeError(f"a stored {name} does not fit its class: {error}") from error


# ---- enums and subclasses of builtins ----------------------------------------------------------------


def build_enum(name: str, value: Any) -> Any:
    """The member with that value.

    Raises:
        DecodeError: no such enum, or no such member.
    """
    cls = wanted(name)
    if not issubclass(cls, Enum):
        raise DecodeError(f"a stored value is a member of the enum {name}, which is no enum here")
    for member in cls.__members__.values():
        if member.value == value:
            return member
    if issubclass(cls, Flag) and isinstance(value, int):
        try:
            made = cls(value)  # a combination of flags is no member, the enum module makes it
        except ValueError:
            made = None
        if made is not None and made.value == value:  # some Pythons leave out bits that have no name
            return made
    raise DecodeError(f"a stored value is the member {value!r} of the enum {name}, which has no such member here")


def builtin_base(value: Any) -> type:
    """The builtin that the class of `value` extends.

    Raises:
        Unfit: none, or the instance holds more than the builtin does.
    """
    cls = type(value)
    base: type = _written_in_c(cls)
    if base not in BUILTINS:
        raise Unfit("no form is known for this type")
    if getattr(value, "__dict__", None) or any(_slots(each) for each in cls.__mro__[: cls.__mro__.index(base)]):
        raise Unfit(f"it is a {base.__name__} with attributes of its own")
    return base


def build_subclass(name: str, plain: Any) -> Any:
    """`plain`, a builtin value, as an instance of a subclass; no method of the subclass is called.

    Raises:
        DecodeError: no such class, or no subclass of the value's own.
    """
    cls: Any = wanted(name)
    base: Any = type(plain)
    if cls is base or _written_in_c(cls) is not base or base not in BUILTINS:
        raise DecodeError(f"a stored value is a {name}, which is no subclass of {base.__name__} here")
    if base not in (list, dict, set):
        return base.__new__(cls, plain)
    built = base.__new__(cls)
    base.__init__(built, plain)
    return built


def _written_in_c(cls: type) -> Any:
    """The class that decides how instances of `cls` are laid out: the first one not made in Python."""
    return next(each for each in cls.__mro__ if not each.__flags__ & _MADE_IN_PYTHON)


def _slots(cls: type) -> bool:
    return bool(cls.__dict__.get("__slots__"))
