"""Commands that are suggested, as a shell takes them: whatever an id holds, it names that id and does nothing else."""

from __future__ import annotations

import shlex


def command(verb: str, id: str, options: str = "") -> str:
    """A command of ours for one id, such as `resonate show order-7`.

    Args:
        verb: such as `promises resolve`.
        id: of what it is about; one that looks like an option goes last, where none is looked for.
        options: as they are to stand there.
    """
    parts = [verb, options, "--", quoted(id)] if id.startswith("-") else [verb, quoted(id), options]
    return " ".join(["resonate", *filter(None, parts)])


def quoted(text: str) -> str:
    """`text` as one word of a shell; what a terminal would obey, or show as something else, is written as its code."""
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(map(_written, text)) + "'"


def _written(char: str) -> str:
    code = ord(char)
    if char in "\\'":
        return f"\\{char}"
    if char.isprintable():
        return char
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


__all__ = ["command", "quoted"]
