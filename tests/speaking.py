"""What processes of tests say to the test that started them."""

from __future__ import annotations

import sys


def say(line: str) -> None:
    """Print a line at once and as a whole, whatever other threads print."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
