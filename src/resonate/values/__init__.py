"""Typed values and the payloads of the wire: `data`, base64 of JSON text, and headers.

`data` is the plain JSON that workers in other languages read and write. Where JSON loses a
type (a tuple, bytes, a date, a dataclass ...), the header `resonate:py` holds a type tree
beside it. Reading takes the annotation first, then the header, then plain JSON. What
cannot be carried is refused where it is produced, with the path inside of the value.

Nothing here pickles, imports a module or calls what a payload names: classes are rebuilt
only if they are imported already and are dataclasses, msgspec or pydantic models, enums,
exceptions or subclasses of a builtin container or scalar.
"""

from __future__ import annotations

from resonate.values.calls import Invocation, decode_call, encode_call, retype
from resonate.values.carrying import carry, decode, encode
from resonate.values.digests import digest
from resonate.values.failures import decode_error, encode_error

__all__ = [
    "Invocation",
    "carry",
    "decode",
    "decode_call",
    "decode_error",
    "digest",
    "encode",
    "encode_call",
    "encode_error",
    "retype",
]
