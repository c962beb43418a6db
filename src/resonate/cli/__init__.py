"""The command `resonate`."""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import Final, TextIO

INSTALL = "The command `resonate` needs more packages than the library: pip install 'resonate-py[server]'"

HUNG_UP: Final = 141
"""Exit code where whoever reads what is printed has gone (`| head -1`): as of a program that SIGPIPE ended."""

_PLAIN: Final = dict(zip("✓✗▶↻·└─├│…→", "+x>~.`-||.>", strict=True))


def _plain(error: UnicodeError) -> tuple[str, int]:
    """What stands for signs that the encoding of a terminal does not have."""
    assert isinstance(error, UnicodeEncodeError)
    return "".join(_PLAIN.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


codecs.register_error("resonate.plain", _plain)


def main() -> None:
    """Run the command line; the entry point of the console script."""
    try:
        from resonate.cli.app import app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "resonate":
            raise
        print(f"{INSTALL} (missing: {error.name})", file=sys.stderr)
        sys.exit(1)
    if sys.stdout is None:  # closed by whoever started us
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    out = sys.stdout
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="resonate.plain")  # a terminal whose encoding lacks our signs gets others
    try:
        app(prog_name="resonate")  # also as `python -m resonate.cli`, for the shell completes by that name
    finally:
        _finish(out)


def _finish(out: TextIO) -> None:
    """Print what is left; end quietly if nobody reads it any more, which is no error."""
    gone = sys.stdout is not out  # typer puts another there once a pipe is broken
    try:
        out.flush()
    except BrokenPipeError:
        gone = True
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())  # or Python itself complains as it ends
        sys.exit(HUNG_UP)


__all__ = ["main"]
