"""The command `resonate`."""

from __future__ import annotations

import sys

INSTALL = "The command `resonate` needs more packages than the library: pip install 'resonate-py[server]'"


def main() -> None:
    """Run the command line; the entry point of the console script."""
    try:
        from resonate.cli.app import app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "resonate":
            raise
        print(f"{INSTALL} (missing: {error.name})", file=sys.stderr)
        sys.exit(1)
    app()


__all__ = ["main"]
