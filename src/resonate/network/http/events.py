"""Server-sent events: bytes as they come to the data of whole events. Pure.

All of the format is read (CR, LF and CRLF, several data lines, comments, a byte order mark),
for a proxy may rewrite what a server frames simply.
"""

from __future__ import annotations

from typing import Final

EVENT_MAX: Final = 1 << 26
"""Bytes of one event; a message holds one promise, whose two values have 2 MiB each."""


class Events:
    """Takes the pieces of one stream in order."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0
        self._began = False
        self.beats = 0
        """Comment lines seen: a server that sends them keeps sending them."""

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of the events that `piece` completes.

        Raises:
            ValueError: an event is longer than `EVENT_MAX`.
        """
        text = self._rest + piece if self._rest else piece
        if not self._began:
            if len(text) < 3 and b"\xef\xbb\xbf".startswith(text):
                self._rest = text
                return []
            self._began = True
            text = text.removeprefix(b"\xef\xbb\xbf")
        if b"\r" in text:
            tail = text.endswith(b"\r")  # the LF of this CRLF may come with the next piece
            text = (text[:-1] if tail else text).replace(b"\r\n", b"\n").replace(b"\r", b"\n") + b"\r" * tail
        *lines, self._rest = text.split(b"\n")
        found: list[bytes] = []
        for line in lines:
            if line:
                self._line(line)
            elif self._data:
                found.append(b"\n".join(self._data))
                self._data, self._size = [], 0
        if self._size + len(self._rest) > EVENT_MAX:
            raise ValueError(f"an event of more than {EVENT_MAX} bytes")
        return found

    def _line(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if not name:
            self.beats += 1
        elif name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._size += len(value)
