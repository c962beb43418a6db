"""Pages of documentation as programs: their blocks of Python, and what the comments in them say is printed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BLOCK = re.compile(r"^```python\n(?!# \w+\.py\n)(.*?)^```$", re.MULTILINE | re.DOTALL)
PRINTED = re.compile(r"^\s*print\(.*\)  # (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One block of code and the line of the page that it starts at."""

    page: Path
    line: int
    code: str

    @property
    def prints(self) -> list[str]:
        """What its comments say it prints, in the order of the code."""
        return PRINTED.findall(self.code)

    def run(self, namespace: dict[str, Any]) -> None:
        """Run it, with the page's own lines in tracebacks."""
        exec(compile("\n" * (self.line - 1) + self.code, str(self.page), "exec"), namespace)


def blocks(page: Path) -> list[Block]:
    """The blocks of Python of a page, but for those that are files of their own."""
    text = page.read_text()
    return [Block(page, text.count("\n", 0, found.start(1)) + 1, found.group(1)) for found in BLOCK.finditer(text)]
