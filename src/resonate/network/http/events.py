"""Server-sent events: bytes as they come to the data of whole events. Pure.

All of the format is read (CR, LF and CRLF, several data lines, comments, a byte order mark),
for a proxy may rewrite what a server frames simply. Work and memory grow with what came,
however it is cut, and never beyond `EVENT_MAX`.
"""

from __future__ import annotations

from typing import Final

EVENT_MAX: Final = 1 << 26
"""Bytes of one event; a message holds one promise, whose two values have 2 MiB each."""

LINE: Final = 64
"""Bytes that a line counts for besides its text, since an empty one needs memory too."""

_MARK: Final = b"\xef\xbb\xbf"


class Events:
    """Takes the pieces of one stream in order."""

    def __init__(self) -> None:
        self._begun = bytearray()  # the line that has not ended
        self._data: list[bytes] = []
        self._data_size = 0
        self._mark: bytes | None = b""  # what may be the beginning of a byte order mark; None: it is over
        self._after_cr = False
        self.beats = 0
        """Comment lines seen: a server that sends them keeps sending them."""

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of the events that `piece` completes.

        Raises:
            ValueError: an event is longer than `EVENT_MAX`.
        """
        first, *rest = self._lines(piece)
        self._begun += first
        found: list[bytes] = []
        if rest:
            *whole, begun = rest
            for line in (bytes(self._begun), *whole):
                if line:
                    self._line(line)
                elif self._data:
                    found.append(b"\n".join(self._data))
                    self._data, self._data_size = [], 0
            self._begun = bytearray(begun)
        if self._data_size + len(self._begun) + LINE * len(self._data) > EVENT_MAX:
            raise ValueError(f"an event of more than {EVENT_MAX} bytes")
        return found

    def _lines(self, piece: bytes) -> list[bytes]:
        """`piece` cut where lines end; the last part's line has not ended."""
        if self._mark is not None:
            piece = self._mark + piece
            if len(piece) < len(_MARK) and _MARK.startswith(piece):
                self._mark = piece
                return [b""]
            self._mark = None
            piece = piece.removeprefix(_MARK)
        if self._after_cr and piece:  # a CR has ended a line already; the LF of the same CRLF ends none
            piece = piece.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in piece:
            self._after_cr = piece.endswith(b"\r")
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return piece.split(b"\n")

    def _line(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if not name:
            self.beats += 1
        elif name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._data_size += len(value)
