"""`resonate worker MODULE[:OBJECT]`: serves what a module registers, until told to end."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType, ModuleType
from typing import Annotated, Any, Final

import typer

from resonate.cli.home import fail
from resonate.errors import ResonateError, UsageError
from resonate.resonate import Resonate

LOOKS: Final = 0.5
"""Seconds between two looks for changed files."""

_FORMAT: Final = "%(asctime)s %(levelname)-7s %(name)s  %(message)s"
_LOG: Final = logging.getLogger("resonate.worker")


def worker(
    target: Annotated[str, typer.Argument(metavar="MODULE[:OBJECT]", help="Where the Resonate object is")],
    url: Annotated[
        str | None, typer.Option("--url", "-S", "--server", help="Where state lives, unless the object says so")
    ] = None,
    group: Annotated[str | None, typer.Option(help="Its group, unless the object says so")] = None,
    drain: Annotated[float, typer.Option(min=0, help="Seconds that running steps have when it is told to end")] = 30,
    health_port: Annotated[int | None, typer.Option(help="Answers GET /health on this port of this machine")] = None,
    reload: Annotated[bool, typer.Option("--reload", help="Start anew whenever a file of the program changes")] = False,
) -> None:
    """Serve the functions of a module until told to end.

    MODULE is imported from the working directory, as `python -m` does it; OBJECT is the `Resonate` in it, if there is
    more than one. The first SIGTERM or Ctrl-C lets running steps end, the second one ends everything at once.
    """
    sys.path.insert(0, os.getcwd())
    if url is not None:
        os.environ["RESONATE_URL"] = url
    if group is not None:
        os.environ["RESONATE_GROUP"] = group
    if reload:
        raise typer.Exit(_reloading([argument for argument in sys.argv[1:] if argument != "--reload"]))
    logging.basicConfig(level=logging.INFO, format=_FORMAT)
    try:
        _serve(find(target), group, drain, health_port)
    except (ResonateError, ValueError, OSError) as error:
        fail(error)


def find(target: str) -> Resonate:
    """The object that `MODULE[:OBJECT]` names.

    Raises:
        UsageError: there is no such module or object, or which one is meant is not clear.
    """
    name, _, attribute = target.partition(":")
    module = _imported(name.removesuffix(".py").replace("/", ".") if name.endswith(".py") else name)
    if attribute:
        found = getattr(module, attribute, None)
        if not isinstance(found, Resonate):
            kind = "nothing" if found is None else f"a {type(found).__name__}"
            raise UsageError(f"{attribute} of {name} is {kind}: name a Resonate object")
        return found
    objects = {key: value for key, value in vars(module).items() if isinstance(value, Resonate)}
    if len({id(value) for value in objects.values()}) != 1:
        known = f"it has {', '.join(sorted(objects))}: write {name}:{min(objects)}" if objects else "it has none"
        raise UsageError(f"which Resonate object of {name} is meant? {known}")
    return next(iter(objects.values()))


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise UsageError(f"there is no module {name!r} in {os.getcwd()} or among what is installed") from None
        raise


def _serve(client: Resonate, group: str | None, drain: float, health_port: int | None) -> None:
    told = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        if told.is_set():
            os._exit(128 + number)
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    client.start()
    health = None if health_port is None else _health(health_port, told)
    _LOG.info("ready; SIGTERM or Ctrl-C ends it")
    while not told.wait(3600):
        pass
    _LOG.info("ending: running steps have %g s, a second signal ends them at once", drain)
    client.stop(drain)
    if health is not None:
        health.shutdown()


def _health(port: int, told: threading.Event) -> ThreadingHTTPServer:
    """Answers 200 while work is taken, and 503 once the worker is ending."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path in ("/health", "/ready")
            self.send_response(404 if not known else 503 if told.is_set() else 200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Probes are not news."""

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise UsageError(f"--health-port {port} cannot be listened on: {error.strerror}. Choose another") from error
    threading.Thread(target=server.serve_forever, name="resonate-health", daemon=True).start()
    return server


# ---- reload --------------------------------------------------------------------------------------


def _reloading(arguments: list[str]) -> int:
    """Run the command as a process of its own, and a new one whenever a file below the working directory changes."""
    command = [sys.executable, "-m", "resonate.cli", *arguments]
    process = subprocess.Popen(command)
    told: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        told.append(number)
        process.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    seen = _files(Path.cwd())
    while not told:
        time.sleep(LOOKS)
        now = _files(Path.cwd())
        if now == seen:
            continue
        changed = sorted(str(path) for path, _ in set(now.items()) ^ set(seen.items()))
        seen = now
        typer.echo(f"{changed[0]} has changed: starting anew", err=True)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait()
        if not told:
            process = subprocess.Popen(command)
    return process.wait()


def _files(directory: Path) -> dict[Path, int]:
    """When each file of Python was changed."""
    return dict(_changed(directory.rglob("*.py"), lambda path: path.stat().st_mtime_ns))


def _changed(paths: Iterator[Path], when: Callable[[Path], int]) -> Iterator[tuple[Path, int]]:
    for path in paths:
        if any(part.startswith(".") or part in ("site-packages", "node_modules") for part in path.parts[1:]):
            continue
        try:
            yield path, when(path)
        except OSError:  # gone in between
            continue
