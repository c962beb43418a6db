"""Executions: what happened, why one waits, and how it is got going again."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import uuid4

import msgspec
import typer

from resonate.cli import output, reading
from resonate.cli.home import Home, at_home
from resonate.errors import UsageError
from resonate.inspection import Call, Refusal
from resonate.protocol.records import DELAY
from resonate.protocol.requests import PromiseGet

Id = Annotated[str, typer.Argument(metavar="ID", help="Of the execution")]


@at_home
def list_executions(
    home: Home,
    state: Annotated[str | None, typer.Option(help="queued, running, waiting, halted, succeeded, failed, ...")] = None,
    function: Annotated[str | None, typer.Option("--function", "-f", help="Name of the function")] = None,
    group: Annotated[str | None, typer.Option(help="Whose workers run it")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="NAME=VALUE; may be given several times")] = None,
    prefix: Annotated[str, typer.Option(help="How the id begins")] = "",
    since: Annotated[str | None, typer.Option(help="Begun at or after: 2026-11-23 or 2026-11-23T14:00")] = None,
    until: Annotated[str | None, typer.Option(help="Begun before")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Of the page before")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Draw again each second")] = False,
) -> None:
    """List executions, the newest first."""
    tags = dict(_pair(text) for text in tag or [])

    def draw() -> bool:
        page = home.inspector.executions(
            state=state,
            function=function,
            group=group,
            tags=tags,
            prefix=prefix,
            since=None if since is None else reading.instant(since),
            until=None if until is None else reading.instant(until),
            limit=limit,
            cursor=cursor,
        )
        if home.json:
            output.data(page)
            return watch
        now = home.now()
        rows = [_row(call, now) for call in page.items]
        output.table(("ID", "FUNCTION", "STATE", "BEGUN", "TOOK", "GROUP"), rows, "no executions")
        if page.cursor is not None:
            typer.echo(f"more: --cursor {page.cursor}")
        return watch

    output.watch(home, draw)


def _row(call: Call, now: int) -> tuple[str, ...]:
    took = output.span((call.settled_at or now) - call.created_at)
    return call.id, call.title, output.state(call.state), output.at(call.created_at), took, call.group or ""


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageError(f"--tag {text!r}: write NAME=VALUE")
    return name, value


@at_home
def show(home: Home, id: Id) -> None:
    """Show one execution or call: state, times, worker, input, output, error with traceback."""
    call = home.inspector.execution(id)
    if home.json:
        output.data(call)
        return
    output.details(call, home.now())
    if not call.settled:
        typer.echo(f"\nwhy it has not ended: resonate why {id}")


@at_home
def tree(
    home: Home, id: Id, watch: Annotated[bool, typer.Option("--watch", "-w", help="Draw until it has ended")] = False
) -> None:
    """Draw an execution with all its calls."""

    def draw() -> bool:
        call = home.inspector.tree(id)
        if home.json:
            output.data(call)
        else:
            output.tree(call, home.now())
        return watch and not call.settled

    output.watch(home, draw)


@at_home
def why(home: Home, id: Id) -> None:
    """Say what an execution waits for, and the command that would unblock it."""
    waits = home.inspector.why(id)
    if home.json:
        output.data(waits)
        return
    if not waits:
        call = home.inspector.execution(id)
        typer.echo(f"{id} has ended: {call.state}" if call.settled else f"{id} is about to go on")
    for wait in waits:
        typer.echo(output.clean(wait.text))
        if wait.command:
            typer.echo(f"    {output.clean(wait.command)}")


@at_home
def cancel(home: Home, id: Id) -> None:
    """Cancel an execution and everything that it waits for."""
    home.steering.cancel(id)
    _done(home, id, f"{id} is cancelled")


@at_home
def resume(home: Home, id: Id) -> None:
    """Have a halted execution go on, once its code agrees with what is recorded."""
    home.steering.resume(id)
    _done(home, id, f"{id} goes on")


@at_home
def retry(home: Home, id: Id) -> None:
    """End the pause before the next attempt: it begins now."""
    count = home.steering.retry(id)
    _done(home, id, f"{id}: {count} attempt{'s begin' if count > 1 else ' begins'} now")


@at_home
def invoke(
    home: Home,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the function; with --func: the id")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[ARG]...", help="JSON, or else text")] = None,
    func: Annotated[str | None, typer.Option("--func", "-f", help="Name of the function, the official way")] = None,
    arg: Annotated[list[str] | None, typer.Option("--arg", help="An argument; may be given several times")] = None,
    json_args: Annotated[str | None, typer.Option("--json-args", help="All arguments, as a JSON array")] = None,
    id: Annotated[str | None, typer.Option("--id", help="Of the execution; default a new one")] = None,
    target: Annotated[str, typer.Option(help="Group or address of the workers")] = "default",
    version: Annotated[int, typer.Option(min=1, help="Of the function")] = 1,
    timeout: Annotated[str, typer.Option("--timeout", "-t", help="Its deadline, from its beginning")] = "1h",
    delay: Annotated[str | None, typer.Option(help="Begin after so long")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for the result and print it")] = False,
) -> None:
    """Begin an execution: NAME ARG..., run by a worker of the target group."""
    given = [*(arguments or []), *(arg or [])]
    if func is not None:
        if id is not None:
            raise UsageError("with --func the id is the first argument: leave --id out")
        name, id = func, name
    values = [reading.argument(text) for text in given]
    if json_args is not None:
        values = reading.parsed(json_args, "--json-args")
        if given or not isinstance(values, list):
            raise UsageError("--json-args is a JSON array, and all the arguments")
    id = id or f"{name}-{uuid4().hex[:12]}"
    wait = 0 if delay is None else reading.duration(delay)
    later = {DELAY: str(home.now() + int(wait * 1000))} if wait else {}
    caller = home.client.options(target=target, version=version, timeout=wait + reading.duration(timeout), tags=later)
    handle = caller.begin_rpc(id, name, *values)
    if not follow:
        _done(home, id, f"{id} is begun; its result: resonate show {id}")
        return
    if not home.json:
        typer.echo(id, err=True)
    while not handle.done():
        _settled(home, id)
    call = home.inspector.execution(id)
    if home.json:
        output.data(call)
    elif call.error is None:
        output.data(call.output)
    if call.error is not None:
        raise Refusal(f"{id} {call.state}: {call.error}")


def _settled(home: Home, id: str) -> Any:
    try:
        home.client.get(id).result(timeout=1)
    except Exception:  # whatever it ended with is shown by the caller
        return


@at_home
def purge(
    home: Home,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Of finished executions")] = None,
    older_than: Annotated[str | None, typer.Option(help="All that ended so long ago: 7d")] = None,
) -> None:
    """Delete finished executions, each with everything below it."""
    if not ids and older_than is None:
        raise UsageError("name the ids, or --older-than 7d")
    gone = list(ids or [])
    if older_than is not None:
        before = home.now() - int(reading.duration(older_than) * 1000)
        page = home.inspector.executions(until=before, limit=1_000_000)
        gone += [call.id for call in page.items if call.settled_at is not None and call.settled_at < before]
    for id in gone:
        home.client.purge(id)
    _done(home, "", f"{len(gone)} deleted", deleted=gone)


def _done(home: Home, id: str, text: str, **more: Any) -> None:
    """Say what has been done; programs get the call as it is now."""
    if not home.json:
        typer.echo(text)
        return
    shown = {**more}
    if id:
        read = home.send(PromiseGet(id))[0].promise
        shown |= msgspec.to_builtins(home.inspector.execution(id)) if read is not None else {}
    output.data(shown)
