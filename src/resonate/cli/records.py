"""`promises`, `tasks`, `schedules`: the records of the protocol, and the official command's verbs for them."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, cast

import msgspec
import typer

from resonate.cli import output, reading
from resonate.cli.home import Home, at_home
from resonate.errors import UsageError
from resonate.inspection import Refusal
from resonate.inspection.commands import command
from resonate.protocol import shapes, validation
from resonate.protocol.cron import check as mistake
from resonate.protocol.pauses import is_paused
from resonate.protocol.records import TARGET, PromiseState, Schedule, TaskState, Value
from resonate.protocol.requests import (
    PromiseCreate,
    PromiseGet,
    PromiseRegisterCallback,
    PromiseRegisterListener,
    PromiseSearch,
    PromiseSettle,
    Request,
    Response,
    ScheduleCreate,
    ScheduleDelete,
    ScheduleGet,
    ScheduleSearch,
    SettledState,
    TaskAcquire,
    TaskContinue,
    TaskCreate,
    TaskGet,
    TaskHalt,
    TaskHeartbeat,
    TaskRef,
    TaskRelease,
    TaskSearch,
)
from resonate.values.calls import encode_call

promises = typer.Typer(help="Promises: the records behind every call.", no_args_is_help=True)
tasks = typer.Typer(help="Tasks: the right to run a function, leased to one worker.", no_args_is_help=True)
schedules = typer.Typer(help="Schedules: functions that are begun by the calendar.", no_args_is_help=True)

CLI: Final = "resonate-cli"
"""Who takes a task where nobody else is named."""

LEASE: Final = "60s"

Id = Annotated[str, typer.Argument(metavar="ID")]
ValueOption = Annotated[str | None, typer.Option("--value", help="JSON; what whoever waits gets", show_default=False)]
Tags = Annotated[str | None, typer.Option("--tags", help="JSON object of texts", show_default=False)]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="How many at most")]
Cursor = Annotated[str | None, typer.Option(help="Of the page before", show_default=False)]
Version = Annotated[int, typer.Option(help="Of the task")]
Pid = Annotated[str, typer.Option(help="Of the process that has it")]
Ttl = Annotated[str, typer.Option(help="Its lease: 60s")]
Timeout = Annotated[str, typer.Option(help="Its deadline, from now: 1h")]


def _print(home: Home, request: Request) -> None:
    """Carry out a request and print the answer's data, as the official command does."""
    kind, _ = shapes.WRITERS[type(request)]
    output.data(shapes.ANSWERS[kind](_asked(home, request)))


def _asked(home: Home, request: Request) -> Response:
    """The answer to a request.

    Raises:
        UsageError: a field of it is not what the protocol allows.
        Refusal: it was refused.
    """
    problem = validation.check(request)
    if problem is not None:
        raise UsageError(problem)
    return home.ask(request)


# ---- promises ----------------------------------------------------------------------------------


@promises.command("get")
@at_home
def get_promise(home: Home, id: Id) -> None:
    """Show a promise."""
    _print(home, PromiseGet(id))


@promises.command("create")
@at_home
def create_promise(
    home: Home,
    id: Id,
    timeout: Timeout,
    param: Annotated[str | None, typer.Option(help="JSON", show_default=False)] = None,
    tags: Tags = None,
) -> None:
    """Create a promise that somebody settles later."""
    deadline = home.now() + int(reading.duration(timeout) * 1000)
    _print(home, PromiseCreate(id, deadline, reading.payload(param, "--param"), reading.texts(tags, "--tags")))


def _settle(home: Home, id: str, state: SettledState, value: str | None) -> None:
    wanted = PromiseSettle(id, state, reading.payload(value, "--value"))
    answer = _asked(home, wanted)
    found = answer.promise
    if found is not None and (found.state, found.value.data) != (state, wanted.value.data):
        other = ", with another value" if found.state == state else ""
        raise Refusal(f"{id} is settled already: {found.state}{other}. All of it: {command('promises get', id)}")
    output.data(shapes.ANSWERS["promise.settle"](answer))


@promises.command("resolve")
@at_home
def resolve(home: Home, id: Id, value: ValueOption = None) -> None:
    """Settle a promise with a value: whoever waits for it goes on."""
    _settle(home, id, "resolved", value)


@promises.command("reject")
@at_home
def reject(home: Home, id: Id, value: ValueOption = None) -> None:
    """Settle a promise with an error."""
    _settle(home, id, "rejected", value)


@promises.command("cancel")
@at_home
def cancel(home: Home, id: Id, value: ValueOption = None) -> None:
    """Settle a promise as cancelled."""
    _settle(home, id, "rejected_canceled", value)


@promises.command("search")
@at_home
def search_promises(
    home: Home,
    state: Annotated[str | None, typer.Option(help="pending, resolved, rejected, ...")] = None,
    tags: Tags = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> None:
    """Search for promises, in the order of their ids."""
    _print(home, PromiseSearch(cast("PromiseState", state), reading.texts(tags, "--tags") or None, limit, cursor))


@promises.command("register-callback")
@at_home
def register_callback(
    home: Home,
    awaited: Annotated[str, typer.Argument(metavar="AWAITED")],
    awaiter: Annotated[str, typer.Argument(metavar="AWAITER")],
) -> None:
    """Have the task AWAITER woken when the promise AWAITED is settled."""
    _print(home, PromiseRegisterCallback(awaited, awaiter))


@promises.command("register-listener")
@at_home
def register_listener(
    home: Home,
    awaited: Annotated[str, typer.Argument(metavar="AWAITED")],
    address: Annotated[str, typer.Argument(metavar="ADDRESS")],
) -> None:
    """Have ADDRESS told when the promise AWAITED is settled."""
    _print(home, PromiseRegisterListener(awaited, address))


# ---- tasks -------------------------------------------------------------------------------------


@tasks.command("get")
@at_home
def get_task(home: Home, id: Id) -> None:
    """Show a task."""
    _print(home, TaskGet(id))


@tasks.command("create")
@at_home
def create_task(
    home: Home,
    id: Id,
    timeout: Timeout,
    pid: Pid = CLI,
    ttl: Ttl = LEASE,
    param: Annotated[str | None, typer.Option(help="JSON", show_default=False)] = None,
    tags: Tags = None,
) -> None:
    """Create a promise with a task, and lease that to PID."""
    deadline = home.now() + int(reading.duration(timeout) * 1000)
    create = PromiseCreate(id, deadline, reading.payload(param, "--param"), reading.texts(tags, "--tags"))
    _print(home, TaskCreate(pid, int(reading.duration(ttl) * 1000), create))


@tasks.command("claim")
@at_home
def claim_task(home: Home, id: Id, version: Version, pid: Pid = CLI, ttl: Ttl = LEASE) -> None:
    """Lease a task to PID."""
    _print(home, TaskAcquire(id, version, pid, int(reading.duration(ttl) * 1000)))


@tasks.command("release")
@at_home
def release_task(home: Home, id: Id, version: Version) -> None:
    """Give a lease back: the task is offered again."""
    _print(home, TaskRelease(id, version))


Action = Annotated[str, typer.Option(help='JSON, a request: {"kind": "promise.settle", "head": {}, "data": {...}}')]


def _read(kind: str, data: dict[str, Any], option: str) -> Request:
    """A request of the protocol from its JSON.

    Raises:
        UsageError: what the option holds is none.
    """
    try:
        return shapes.READERS[kind](msgspec.Raw(json.dumps(data).encode()))
    except msgspec.ValidationError as error:
        raise UsageError(f"{option} is no request that {kind} takes: {error}") from None


@tasks.command("fence")
@at_home
def fence_task(home: Home, id: Id, version: Version, action: Action) -> None:
    """Create or settle a promise, provided that the lease of this version still holds."""
    data = {"id": id, "version": version, "action": reading.parsed(action, "--action")}
    answer = _asked(home, _read("task.fence", data, "--action"))
    inner = answer.action
    assert inner is not None, "a fence that passed has an inner answer"
    shown = {"status": inner.status, "promise": inner.promise} if inner.error is None else {"error": inner.error}
    output.data({"action": shown, "preload": answer.preload})


@tasks.command("complete")
@at_home
def complete_task(home: Home, id: Id, version: Version, action: Action) -> None:
    """Settle the promise of a task that is leased at this version, and end the task."""
    data = {"id": id, "version": version, "action": reading.parsed(action, "--action")}
    _print(home, _read("task.fulfill", data, "--action"))


@tasks.command("suspend")
@at_home
def suspend_task(
    home: Home,
    id: Id,
    version: Version,
    actions: Annotated[str, typer.Option(help="JSON array of requests promise.register_callback")],
) -> None:
    """Give a task up until one of the awaited promises is settled; refused if one is already."""
    data = {"id": id, "version": version, "actions": reading.parsed(actions, "--actions")}
    _print(home, _read("task.suspend", data, "--actions"))


@tasks.command("heartbeat")
@at_home
def heartbeat(
    home: Home, tasks: Annotated[str, typer.Option(help='JSON: [{"id": "a", "version": 1}]')], pid: Pid = CLI
) -> None:
    """Renew the leases of PID."""
    found = reading.parsed(tasks, "--tasks")
    try:
        if not isinstance(found, list):
            raise TypeError
        refs = tuple(TaskRef(each["id"], each["version"]) for each in found)
    except (TypeError, KeyError):
        raise UsageError('--tasks must be a JSON array such as \'[{"id": "a", "version": 1}]\'') from None
    _print(home, TaskHeartbeat(pid, refs))


@tasks.command("halt")
@at_home
def halt_task(home: Home, id: Id) -> None:
    """Stop a task until `continue`: nobody is offered it."""
    _print(home, TaskHalt(id))


@tasks.command("continue")
@at_home
def continue_task(home: Home, id: Id) -> None:
    """Offer a halted task again."""
    _print(home, TaskContinue(id))


@tasks.command("search")
@at_home
def search_tasks(
    home: Home,
    state: Annotated[str | None, typer.Option(help="pending, acquired, suspended, halted, fulfilled")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> None:
    """Search for tasks, in the order of their ids."""
    _print(home, TaskSearch(cast("TaskState", state), limit, cursor))


# ---- schedules ---------------------------------------------------------------------------------


@schedules.command("get")
@at_home
def get_schedule(home: Home, id: Id) -> None:
    """Show a schedule."""
    _print(home, ScheduleGet(id))


_CREATE: Final = (
    "schedules create nightly --cron '0 3 * * *' --promise-id 'nightly.{{.timestamp}}' --promise-timeout 1h",
    "--func backup --arg photos",
)


@schedules.command("create", epilog="\b\nExamples:\n" + "".join(f"  $ resonate {' '.join(_CREATE)}"))
@at_home
def create_schedule(
    home: Home,
    id: Id,
    cron: Annotated[str, typer.Option(help="5 fields, or 6 with seconds first; UTC")],
    promise_id: Annotated[str, typer.Option(help="Template of the ids: backup.{{.timestamp}}")],
    promise_timeout: Annotated[str, typer.Option(help="Deadline of each, from its beginning: 1h")],
    promise_param: Annotated[str | None, typer.Option(help="JSON", show_default=False)] = None,
    promise_tags: Annotated[
        str | None,
        typer.Option(help="JSON object of texts; resonate:target unless there is --func", show_default=False),
    ] = None,
    func: Annotated[str | None, typer.Option("--func", "-f", help="Name of the function that it begins")] = None,
    arg: Annotated[list[str] | None, typer.Option("--arg", help="An argument; may be given several times")] = None,
    target: Annotated[str, typer.Option(help="With --func: group or address of the workers")] = "default",
) -> None:
    """Create a schedule: at each of its instants an execution begins.

    What it begins is named with --func, or as the official command does it: by --promise-param and --promise-tags.
    """
    milliseconds = int(reading.duration(promise_timeout) * 1000)
    param, tags = reading.payload(promise_param, "--promise-param"), reading.texts(promise_tags, "--promise-tags")
    if func is not None:
        if promise_param is not None:
            raise UsageError("--promise-param is a whole call, and so is what --func names: leave one of them out")
        data, headers = encode_call(func, [reading.argument(text) for text in arg or []], {}, 1)
        param = Value(headers, data)
        tags.setdefault(TARGET, target if "://" in target else f"poll://any@{target}")
    elif arg:
        raise UsageError("--arg is of a function: name it with --func")
    if TARGET not in tags and mistake(cron) is None:
        raise UsageError(
            "what is it to begin? Name a function with --func NAME, or give --promise-param and --promise-tags "
            f"""'{{"{TARGET}": "poll://any@default"}}'"""
        )
    _print(home, ScheduleCreate(id, cron, promise_id, milliseconds, param, tags))


@schedules.command("delete")
@at_home
def delete_schedule(home: Home, id: Id) -> None:
    """Delete a schedule; what it has begun goes on."""
    _print(home, ScheduleDelete(id))


@schedules.command("pause")
@at_home
def pause_schedule(home: Home, id: Id) -> None:
    """Leave out what a schedule begins, until `resume`; programs that define it again leave it paused."""
    on = command("schedules resume", id)
    _schedule_done(home, home.scheduling.pause(id), f"schedule {id} is paused; it goes on with: {on}")


@schedules.command("resume")
@at_home
def resume_schedule(home: Home, id: Id) -> None:
    """Let a paused schedule go on; what fell into the pause stays left out."""
    schedule = home.scheduling.resume(id)
    _schedule_done(home, schedule, f"schedule {id} goes on, next at {output.at(schedule.next_run_at)}")


@schedules.command("run-now")
@at_home
def run_schedule(home: Home, id: Id) -> None:
    """Begin once, now, what a schedule begins, beside its calendar."""
    promise = home.scheduling.run_now(id)
    if home.json:
        output.data(promise)
    else:
        output.say(f"{promise.id} is begun; its result: {command('show', promise.id)}")


def _schedule_done(home: Home, schedule: Schedule, text: str) -> None:
    if home.json:
        output.data(_schedule(schedule))
    else:
        output.say(text)


def _schedule(schedule: Schedule) -> dict[str, Any]:
    """A schedule for programs: its record, and whether it is paused."""
    return {**msgspec.to_builtins(schedule), "paused": is_paused(schedule)}


@schedules.command("search")
@at_home
def search_schedules(home: Home, tags: Tags = None, limit: Limit = 10, cursor: Cursor = None) -> None:
    """Search for schedules, in the order of their ids."""
    _print(home, ScheduleSearch(reading.texts(tags, "--tags") or None, limit, cursor))


@schedules.command("list")
@at_home
def list_schedules(home: Home, limit: Limit = 100) -> None:
    """List schedules with their next instants."""
    answer = home.ask(ScheduleSearch(None, limit, None))
    found = answer.schedules or ()
    if home.json:
        output.data([_schedule(one) for one in found])
        return
    rows = [(one.id, one.cron, _next(one), output.at(one.last_run_at), one.promise_id) for one in found]
    output.table(("ID", "CRON (UTC)", "NEXT", "LAST", "BEGINS"), rows, "no schedules", cut=("BEGINS",))


def _next(schedule: Schedule) -> str:
    return "paused" if is_paused(schedule) else output.at(schedule.next_run_at)
