"""`ctx.logger`: lines with the id of the call that writes them."""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

_LOG: Final = logging.getLogger("resonate.function")


class Logger(logging.LoggerAdapter[logging.Logger]):
    """Logs with the id of the call; a client's `log_level` says from which level on.

    Where the program has set up no logging, lines go to the standard error.
    """

    def __init__(self, root: str, id: str, level: int) -> None:
        super().__init__(_LOG, {"resonate_root": root, "resonate_id": id})
        self._level = level

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  (the standard library's name)
        return level >= self._level and self.logger.isEnabledFor(level)

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        mine: Any = self.extra
        return f"[{mine['resonate_id']}] {msg}", {**kwargs, "extra": {**mine, **(kwargs.get("extra") or {})}}


class _Unheard(logging.Handler):
    """Writes to the standard error what no handler of the program gets."""

    def emit(self, record: logging.LogRecord) -> None:
        if not (logging.root.handlers or logging.getLogger("resonate").handlers):
            print(self.format(record), file=sys.stderr)


def _prepare(logger: logging.Logger) -> None:
    """Leave it to each client's `log_level` what is logged, unless the program has set a level."""
    if logger.level == logging.NOTSET:
        logger.setLevel(1)
    handler = _Unheard()
    handler.setFormatter(logging.Formatter("[%(asctime)s] [%(levelname)s] [%(resonate_root)s] %(message)s"))
    logger.addHandler(handler)


_prepare(_LOG)

__all__ = ["Logger"]
