"""Log lines as JSON objects, one a line, for whatever collects and searches them."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

_KNOWN: Final = frozenset((*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "color_message"))


class JsonLines(logging.Formatter):
    """Formats each record as `{"time", "level", "logger", "message", ...}`, with the fields given by `extra`.

    Lines about an execution have `resonate_id`, the id of the call, and `resonate_root`, its root's.
    An exception is in `exception`, with its traceback.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update((key, value) for key, value in vars(record).items() if key not in _KNOWN)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        try:
            return msgspec.json.encode(line, enc_hook=repr).decode()
        except UnicodeEncodeError:  # half of a surrogate pair, as in a file name that is no UTF-8
            return json.dumps(line, default=repr)


__all__ = ["JsonLines"]
