"""How the processes of the command write their log lines."""

from __future__ import annotations

import logging
from typing import Final, Literal

from resonate.inspection.drawing import clean

LogFormat = Literal["text", "json"]

_TEXT: Final = "%(asctime)s %(levelname)-7s %(name)s  %(message)s"


class Lines(logging.Formatter):
    """Formats records so that nothing in them, such as an id or an error's text, passes for a line of another record.

    What goes on in further lines is indented, and what a terminal would obey is shown.
    """

    def format(self, record: logging.LogRecord) -> str:
        lines = super().format(record).replace("\t", "    ").splitlines()
        return "\n    ".join(map(clean, lines))


def set_up(level: int, format: LogFormat) -> None:
    """Have lines from `level` on written to the standard error, as text or as one JSON object each."""
    handler = logging.StreamHandler()
    if format == "json":
        from resonate.telemetry import JsonLines  # only for those who ask for it

        handler.setFormatter(JsonLines())
    else:
        handler.setFormatter(Lines(_TEXT))
    logging.basicConfig(level=level, handlers=[handler])


__all__ = ["LogFormat", "set_up"]
