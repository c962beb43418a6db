"""Processes that are killed and stopped, and a disk that can be filled."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

SIZE: Final = 4 << 30
"""Bytes of the disk; a file with holes, so it takes what is written to it."""

ENDS_IN: Final = 200.0
"""Seconds in which a process has to end once its standard input has."""


class Process:
    """A Python process; what it says is in a file.

    Args:
        arguments: of Python.
        directory: where it runs, and where its log is.
        name: of the log.
    """

    def __init__(self, arguments: list[str], directory: Path, name: str) -> None:
        self.arguments = arguments
        self.name = name
        self._log = directory / f"{name}.log"
        self.start()

    def start(self) -> None:
        """Start it (again)."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.arguments],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdin=subprocess.PIPE,  # most of them end with us
                stdout=log,
                stderr=log,
                cwd=self._log.parent,
            )

    def kill(self) -> None:
        """End it without a word. Idempotent."""
        self.process.kill()
        self._let_go()
        self.process.wait()

    def end(self) -> None:
        """Have it end what it is at, and wait for that."""
        self._let_go()
        try:
            code = self.process.wait(ENDS_IN)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} does not end:\n{self.said()}") from None
        assert code == 0, f"{self.name} ended with {code}:\n{self.said()}"

    def stop(self) -> None:
        """Have it stand still."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Have it go on."""
        self.process.send_signal(signal.SIGCONT)

    def stand_still(self, seconds: float) -> None:
        """Stop it for a while."""
        self.stop()
        try:
            time.sleep(seconds)
        finally:
            self.go_on()

    def check(self) -> None:
        """It must not have ended by itself."""
        code = self.process.poll()
        assert code is None, f"{self.name} ended with {code}:\n{self.said()}"

    def said(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-3_000:]

    def _let_go(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()


class Disk:
    """A directory; where mounting is allowed, on a file system of its own, which can be filled.

    Args:
        directory: where to put it.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "disk"
        self.path.mkdir()
        self._ballast = self.path / "ballast"
        self._mounted = _mount(directory / "image", self.path)

    @property
    def can_be_filled(self) -> bool:
        """Whether it is a file system of its own."""
        return self._mounted

    def fill(self) -> None:
        """Leave nothing."""
        assert self._mounted
        with self._ballast.open("wb") as file:
            taken, step = 0, SIZE
            while step >= 4096:
                try:
                    os.posix_fallocate(file.fileno(), taken, step)
                    taken += step
                except OSError:
                    step //= 2

    def free(self) -> None:
        """Give the room back. Idempotent."""
        self._ballast.unlink(missing_ok=True)

    def remove(self) -> None:
        """Unmount it. Idempotent."""
        if self._mounted:
            subprocess.run(["umount", "--lazy", str(self.path)], check=False, capture_output=True)
            self._mounted = False


def may_mount() -> bool:
    """Whether this process may mount file systems."""
    return os.geteuid() == 0 and all(map(shutil.which, ("mount", "mkfs.ext4", "unshare")))


def _mount(image: Path, where: Path) -> bool:
    if not may_mount():
        return False
    with image.open("wb") as file:
        file.truncate(SIZE)
    made = ["mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1,nodiscard", str(image)]
    done = all(
        subprocess.run(command, check=False, capture_output=True).returncode == 0
        for command in (made, ["mount", "-o", "loop", str(image), str(where)])
    )
    image.unlink()
    if done:
        where.chmod(0o755)
    return done
