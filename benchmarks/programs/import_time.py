"""What `import <module>` costs in a fresh interpreter: the best of several, as the disk decides the rest."""

from __future__ import annotations

import subprocess
import sys

from measure import main

CODE = "import time; begin = time.perf_counter(); import {module}; print((time.perf_counter() - begin) * 1e3)"


def import_time() -> dict[str, float]:
    command = [sys.executable, "-c", CODE.format(module=sys.argv[2])]
    outputs = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(7)]
    return {"ms": min(map(float, outputs))}


if __name__ == "__main__":
    main({"import_time": import_time})
