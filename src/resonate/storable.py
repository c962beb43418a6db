"""Which text can be stored as a name, a tag or a key: the same in every home, whatever one of them would take."""

from __future__ import annotations

from typing import Final

UNSTORABLE: Final = "holds a NUL or a lone surrogate, which cannot be stored"
"""What is wrong with text that is not storable, for errors."""


def is_storable(text: str) -> bool:
    """Whether `text` is Unicode, and no NUL in it, which PostgreSQL has no place for."""
    return is_unicode(text) and "\0" not in text


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can write `text`: half of a surrogate pair is no character."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


__all__ = ["UNSTORABLE", "is_storable", "is_unicode"]
