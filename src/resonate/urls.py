"""URLs as they may be shown: in errors, logs and on screens, without what only their owner may know."""

from __future__ import annotations

import re
from typing import Final

_SECRET: Final = re.compile(r"([?&;][^=&;#]*(?:password|passwd|secret|token|key)[^=&;#]*=)[^&;#]*", re.IGNORECASE)


def shown(url: str) -> str:
    """`url` without user, password and options that hold secrets; for any text, also where it is no URL.

    Whatever stands before the last `@` of the whole text goes: in a password that was not escaped, `/`, `?`
    and `#` end the part of the URL where a password should be.
    """
    scheme, slashes, rest = url.partition("//")
    if slashes and "@" in rest:
        url = f"{scheme}//{rest.rpartition('@')[2]}"
    return _SECRET.sub(r"\1...", url)
