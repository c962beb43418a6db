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
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType, ModuleType
from typing import Annotated, Any, Final, NoReturn

import typer

from resonate.cli import logs
from resonate.cli.home import FAILED, fail
from resonate.cli.output import say
from resonate.errors import ResonateError, UsageError
from resonate.resonate import Resonate
from resonate.urls import shown

LOOKS: Final = 0.5
"""Seconds between two looks for changed files."""

RELOADER: Final = "RESONATE_RELOADER"
"""Names, to a worker that is started anew at changes, the pipe that ends with whoever does so."""

_IMPORTING: Final = (
    __file__,
    importlib.__file__,
    "<frozen importlib._bootstrap>",
    "<frozen importlib._bootstrap_external>",
)
"""Whose frames lie between the command and a module that it imports."""

_LOG: Final = logging.getLogger("resonate.worker")


def worker(
    target: Annotated[str, typer.Argument(metavar="MODULE[:OBJECT]", help="Where the Resonate object is")],
    url: Annotated[
        str | None, typer.Option("--url", "-S", "--server", help="Where state lives, unless the object says so")
    ] = None,
    group: Annotated[str | None, typer.Option(help="Its group, unless the object says so")] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Executions that run at the same time, unless the object says so")
    ] = None,
    drain: Annotated[float, typer.Option(min=0, help="Seconds that running steps have when it is told to end")] = 30,
    health_port: Annotated[
        int | None,
        typer.Option(help="Answers GET /health and GET /metrics (Prometheus) on this port of this machine"),
    ] = None,
    trace: Annotated[
        bool, typer.Option("--trace", help="Make OpenTelemetry spans, for the provider that the program has set up")
    ] = False,
    log_format: Annotated[logs.LogFormat, typer.Option(help="How log lines are written")] = "text",
    reload: Annotated[bool, typer.Option("--reload", help="Start anew whenever a file of the program changes")] = False,
) -> None:
    """Serve the functions of a module until told to end.

    MODULE is imported from the working directory, as `python -m` does it; OBJECT is the `Resonate` in it, if there is
    more than one. The first SIGTERM or Ctrl-C lets running steps end, the second one ends everything at once.
    """
    if group is not None and "/" in group:
        fail(UsageError(f"--group {group!r} is no group: what is sent to an address is for whatever listens there"))
    sys.path.insert(0, os.getcwd())
    if url is not None:
        os.environ["RESONATE_URL"] = url
    if group is not None:
        os.environ["RESONATE_GROUP"] = group
    if concurrency is not None:
        os.environ["RESONATE_MAX_CONCURRENT"] = str(concurrency)
    if reload:
        raise typer.Exit(_reloading([argument for argument in sys.argv[1:] if argument != "--reload"]))
    _end_with(os.environ.pop(RELOADER, ""))
    logs.set_up(logging.INFO, log_format)
    try:
        client = find(target)
        _check(client, url, group)
        _watch(client, trace=trace, count=health_port is not None)
        _serve(client, drain, health_port)
    except (ResonateError, ValueError, OSError) as error:
        fail(error)


def find(target: str) -> Resonate:
    """The object that `MODULE[:OBJECT]` names.

    Raises:
        UsageError: there is no such module or object, or which one is meant is not clear.
    """
    name, _, attribute = target.partition(":")
    module = _imported(_module_of(name) if name.endswith(".py") else name)
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


def _watch(client: Resonate, *, trace: bool, count: bool) -> None:
    from resonate.telemetry import Metrics, Tracing  # only for those who ask for them

    if trace:
        client.observe(Tracing())
    if count:
        client.observe(Metrics())


def _module_of(file: str) -> str:
    """The module that a file is, from the working directory.

    Raises:
        UsageError: it lies elsewhere.
    """
    path = os.path.relpath(file)
    if path.startswith(os.pardir):
        raise UsageError(f"{file} is not below the working directory {os.getcwd()}: change to its directory first")
    return path.removesuffix(".py").replace(os.sep, ".")


def _imported(name: str) -> ModuleType:
    if name.startswith("."):
        raise UsageError(f"{name!r} is no module: write its name from the working directory, or its file")
    try:
        return importlib.import_module(name)
    except ResonateError:
        raise
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and (name == missing or name.startswith(f"{missing}.")):
            raise UsageError(f"there is no module {name!r} in {os.getcwd()} or among what is installed") from None
        _not_imported(name, error)


def _not_imported(name: str, error: Exception) -> NoReturn:
    """Say what the module's own code did: the frames before it are the command's, and of no use to whoever wrote it."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename in _IMPORTING:
        frame = frame.tb_next
    say("".join(traceback.format_exception(type(error), error, frame)).rstrip(), err=True)
    say(f"resonate: this came of importing {name!r} from {os.getcwd()}, so nothing is served", err=True)
    raise typer.Exit(FAILED)


def _check(client: Resonate, url: str | None, group: str | None) -> None:
    """Refuse to serve something other than the command line asks for.

    Raises:
        UsageError: the program names another group or home, or none at all.
    """
    settings = client._core.settings
    if group is not None and settings.group != group:
        raise UsageError(f"the program names a group of its own ({settings.group}): leave --group out")
    if url is not None and settings.url != url:
        raise UsageError(f"the program names a home of its own ({shown(settings.url or 'memory')}): leave --url out")
    if settings.url is None:
        raise UsageError(
            "in the memory of one process there is nothing for a worker to do: name where state lives with --url or "
            "RESONATE_URL, such as sqlite:///app.db"
        )


def _serve(client: Resonate, drain: float, health_port: int | None) -> None:
    told = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        if told.is_set():
            os._exit(128 + number)
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    client.start()
    health = None if health_port is None else _health(health_port, told)
    settings = client._core.settings
    _LOG.info(
        "ready: group %s of %s, pid %s; SIGTERM or Ctrl-C ends it",
        settings.group,
        shown(settings.url or ""),
        settings.pid,
    )
    while not told.wait(3600):
        pass
    _LOG.info("ending: running steps have %g s, a second signal ends them at once", drain)
    client.stop(drain)
    if health is not None:
        health.shutdown()


def _health(port: int, told: threading.Event) -> ThreadingHTTPServer:
    """Answers 200 while work is taken, and 503 once the worker is ending; and what has been counted."""
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, generate_latest())
            elif self.path in ("/health", "/ready"):
                self._answer(503 if told.is_set() else 200)
            else:
                self._answer(404)

        def _answer(self, status: int, body: bytes = b"") -> None:
            self.send_response(status)
            if body:
                self.send_header("content-type", CONTENT_TYPE_LATEST)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

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
    told: list[int] = []
    draining = False
    read, _write = os.pipe()  # nothing is ever written: it ends with this process, however that does
    process = _started(arguments, read)

    def end(number: int, frame: FrameType | None) -> None:
        told.append(number)
        if draining and len(told) == 1:  # it has been told already, and a second signal ends it at once
            return
        process.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
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
        draining = True
        if process.poll() is None and not told:
            process.send_signal(signal.SIGTERM)
        process.wait()
        draining = False
        if not told:
            process = _started(arguments, read)
            if told:  # in between
                process.send_signal(signal.SIGTERM)
    code = process.wait()
    return code if code >= 0 else 128 - code


def _started(arguments: list[str], pipe: int) -> subprocess.Popen[bytes]:
    """The command as a process, in a group of its own: a terminal's Ctrl-C reaches it once, through us.

    It keeps no bytecode: Python takes that for current as long as a file has the same size and the same second of its
    last change, so that after two saves within a second it would run the first one.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "resonate.cli", *arguments],
        process_group=0,
        pass_fds=(pipe,),
        env={**os.environ, RELOADER: str(pipe), "PYTHONDONTWRITEBYTECODE": "1"},
    )


def _end_with(pipe: str) -> None:
    """End this process, as SIGTERM does, once the one that has the other end of the pipe is gone."""
    if not pipe:
        return

    def watch() -> None:
        os.read(int(pipe), 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="resonate-reloader", daemon=True).start()


def _files(directory: Path) -> dict[Path, int]:
    """When each file of Python was changed."""
    return dict(_changed(directory))


def _changed(directory: Path) -> Iterator[tuple[Path, int]]:
    for path in directory.rglob("*.py"):
        parts = path.relative_to(directory).parts
        if any(part.startswith(".") or part in ("site-packages", "node_modules") for part in parts):
            continue
        try:
            yield path, path.stat().st_mtime_ns
        except OSError:  # gone in between
            continue
