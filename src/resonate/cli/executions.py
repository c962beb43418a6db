"""Executions: what happened, why one waits, and how it is got going again."""

from __future__ import annotations

import re
import time
from functools import partial
from typing import Annotated, Any
from uuid import uuid4

import msgspec
import typer

from resonate.cli import output, reading
from resonate.cli.home import FAILED, Home, at_home
from resonate.errors import NotSupported, ResonateStoreError, UsageError
from resonate.inspection import Call, Refusal, drawing
from resonate.inspection.commands import command, quoted
from resonate.inspection.steering import flat
from resonate.protocol.records import DELAY, PENDING
from resonate.protocol.requests import PromiseGet

Id = Annotated[str, typer.Argument(metavar="ID", help="Of the execution")]


@at_home
def list_executions(
    home: Home,
    states: Annotated[
        list[str] | None, typer.Option("--state", help="queued, running, waiting, halted, succeeded, failed, ...")
    ] = None,
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
    """List executions, the newest first. What an execution calls is in its tree, and is not listed beside it."""
    tags = dict(_pair(text) for text in tag or [])
    state = _one_state(states or [])

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
            return True
        now = home.now()
        rows = [_row(call, now) for call in page.items]
        heads = ("ID", "FUNCTION", "STATE", "BEGUN", "TOOK", "GROUP")
        output.table(heads, rows, "no executions", cut=("FUNCTION", "GROUP"))
        if page.cursor is not None:
            output.say(f"more: --cursor {quoted(page.cursor)}")
        return True

    output.watch(draw, watch)


def _one_state(states: list[str]) -> str | None:
    """The state that is looked for, if any.

    Raises:
        UsageError: there are several, or executions are not listed by it.
    """
    if len(states) > 1:
        raise UsageError(f"--state is given {len(states)} times: give it once, and list each state by itself")
    state = states[0] if states else None
    if state == "retrying":
        raise UsageError(
            "what is retrying is listed as running, or as waiting during longer pauses: resonate list --state "
            "waiting, and resonate tree ID shows which call is retrying"
        )
    if state == "pending":
        raise UsageError(
            "what is pending is nobody's to run, and no execution: resonate promises search --state pending lists "
            "such promises, and resonate list --state queued what waits for a worker"
        )
    return state


def _row(call: Call, now: int) -> tuple[str, ...]:
    took = drawing.span((call.settled_at or now) - call.created_at)
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
        output.say(f"\nwhy it has not ended: {command('why', id)}")


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
        return not call.settled

    output.watch(draw, watch)


@at_home
def why(home: Home, id: Id) -> None:
    """Say what an execution waits for, and the command that would unblock it."""
    waits = home.inspector.why(id, output.local_zone())
    if home.json:
        output.data(waits)
        return
    if not waits:
        typer.echo(f"{id} has ended: {output.state(home.inspector.execution(id).state)}")
    for wait in waits:
        for line in drawing.wait(wait):
            typer.echo(line)


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


@partial(at_home, tables=True)
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
    caller.begin_rpc(id, name, *values)
    if not follow:
        _done(home, id, f"{id} is begun; its result: {command('show', id)}")
        return
    try:
        _follow(home, id)
    except KeyboardInterrupt:
        output.say(f"\n{id} goes on; its result: {command('show', id)}", err=True)
        raise typer.Exit(output.INTERRUPTED) from None
    call = home.inspector.execution(id)
    if home.json:
        output.data(call)
    elif call.error is None:
        output.data(call.output)
    else:
        output.say(f"resonate: {id} {call.state}: {call.error}. More: {command('show', id)}", err=True)
    if call.error is not None:
        raise typer.Exit(FAILED)


def _follow(home: Home, id: str) -> None:
    """Wait for the end of an execution; meanwhile say on standard error what ends and what it waits for."""
    known: set[str] = set()
    waits: list[str] = []
    if not home.json:
        output.say(id, err=True)
    pause = 0.5
    while True:
        begun = time.monotonic()
        if not home.json:
            top = home.inspector.tree(id)
            for call in flat(top):
                if call.settled and call.id not in (id, *known) and call.kind != "retry":
                    output.say(f"  {drawing.line(call)}", err=True)
                    known.add(call.id)
            now = [] if top.settled else _waits(home, id)
            for text in now:
                if text not in waits:
                    output.say(f"  {text}", err=True)
            waits = now
        try:
            home.client.get(id).result(timeout=pause)
        except TimeoutError:
            pause = min(10.0, max(1.0, 5 * (time.monotonic() - begun - pause)))
            continue
        except Exception:  # whatever it ended with is shown by the caller
            return
        return


def _waits(home: Home, id: str) -> list[str]:
    """What it waits for, without how long that is going to take, which would change with each look."""
    found = home.inspector.why(id, output.local_zone())
    shown = [wait for wait in found if wait.kind not in ("lease", "step")]
    texts = [re.sub(r" \((?:in )?[0-9dhms ]+\)", "", " ".join(wait.text.split())) for wait in shown]
    return [f"{text}: {wait.command}" if wait.command else text for text, wait in zip(texts, shown, strict=True)]


@at_home
def purge(
    home: Home,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Of finished executions")] = None,
    older_than: Annotated[str | None, typer.Option(help="All that ended so long ago: 7d")] = None,
) -> None:
    """Delete finished executions, each with everything below it."""
    if not ids and older_than is None:
        raise UsageError("name the ids, or --older-than 7d")
    wanted = list(dict.fromkeys(ids or []))
    _refuse_open(home, wanted)
    if older_than is not None:
        before = home.now() - int(reading.duration(older_than) * 1000)
        page = home.inspector.executions(until=before, limit=1_000_000)
        wanted += [call.id for call in page.items if call.settled_at is not None and call.settled_at < before]
    gone: list[str] = []
    refused: list[str] = []
    with output.progress(f"of {len(wanted):,} deleted") as told:
        for count, id in enumerate(wanted):
            told(count)
            try:
                home.client.purge(id)
                gone.append(id)
            except NotSupported:
                raise
            except UsageError as error:
                refused.append(_in_words(error, id))
    if gone or not refused:
        _done(home, "", f"{len(gone)} deleted", deleted=gone)
    if refused:
        raise Refusal("\n".join(refused))


def _refuse_open(home: Home, ids: list[str]) -> None:
    """Refuse all of them if one is unknown or has not ended.

    Raises:
        ResonateStoreError: 100.404, there is none of one id.
        Refusal: one has not ended.
    """
    for id in ids:
        (read,) = home.send(PromiseGet(id))
        if read.promise is None:
            raise ResonateStoreError(f"The specified promise was not found: {id}", 40400)
        if read.promise.state == PENDING:
            first = command("cancel", id)
            raise Refusal(f"{id} is still pending, so nothing was deleted. Wait for it, or cancel it first: {first}")


def _in_words(error: UsageError, id: str) -> str:
    """Why one was not deleted, without what only a program can do about it."""
    text, code, _ = error.mesg.partition(": r.")
    return f"{text}; which one: {command('tree', id)}" if code else text


def _done(home: Home, id: str, text: str, **more: Any) -> None:
    """Say what has been done; programs get the call as it is now."""
    if not home.json:
        output.say(text)
        return
    shown = {**more}
    if id:
        read = home.send(PromiseGet(id))[0].promise
        shown |= msgspec.to_builtins(home.inspector.execution(id)) if read is not None else {}
    output.data(shown)
