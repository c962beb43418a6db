"""The command `resonate` on each home: what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import resonate
from resonate import Context, Resonate
from resonate.cli import doctor
from resonate.cli.app import app
from resonate.cli.describing import page
from resonate.cli.worker import _files, find
from resonate.retry_policies import Constant, Never
from tests import databases
from tests.homes import until
from tests.server.serving import serving
from tests.wire_server import WireServer

SOURCE = str(Path(resonate.__file__).parents[1])
Run = Callable[..., "Ended"]


class Ended:
    """A command that has ended."""

    def __init__(self, code: int, output: str, errors: str) -> None:
        self.code = code
        self.output = output
        self.errors = errors

    @property
    def lines(self) -> list[str]:
        return self.output.splitlines()

    @property
    def data(self) -> Any:
        return json.loads(self.output)


@pytest.fixture(params=["file", "postgres", "server"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A URL; the server keeps its state in memory."""
    if request.param == "server":
        with serving() as server:
            yield server.url
    elif request.param == "postgres":
        yield databases.fresh_url()
    else:
        yield f"sqlite:///{tmp_path}/app.db?synchronous=off"


@pytest.fixture
def client(home: str) -> Iterator[Resonate]:
    client = Resonate(url=home, pid="worker-1")
    for function in (order, fails, charge):
        client.register(function)
    client.start()
    yield client
    client.stop()


@pytest.fixture
def run(home: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command on that home."""
    monkeypatch.setenv("RESONATE_URL", home)
    return command


def command(*arguments: str, **options: Any) -> Ended:
    done = CliRunner().invoke(app, list(arguments), **options)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Ended(done.exit_code, done.stdout, done.stderr)


def charge(ctx: Context, amount: int) -> int:
    return 2 * amount


def order(ctx: Context, amount: int) -> Any:
    charged = yield ctx.run(charge, amount)
    approval = yield ctx.promise()
    return [charged, (yield approval)]


def fails(ctx: Context, *args: Any) -> None:
    raise LookupError("no luck")


def waiting(client: Resonate, id: str) -> None:
    until(lambda: client.get(id).status().state == "waiting")


def masked(text: str) -> list[str]:
    """Lines without what differs from run to run."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", text)
    text = re.sub(r"(?:\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d UTC", "TIME", text)
    text = re.sub(r"\b[\d.]+ (ms|s)\b|\b\d+[smhd]( \d+[smhd])?\b", "SPAN", text)
    text = re.sub(r"\.py:\d+", ".py:LINE", text)
    text = re.sub(r"line \d+", "line N", text)
    return [re.sub(r"  +", "  ", line) for line in text.splitlines()]


# The whole way.


def test_an_order_that_waits_for_approval_is_found_explained_approved_and_seen_to_end(
    client: Resonate, run: Run
) -> None:
    assert run("invoke", "order", "4", "--id", "o-1").lines == ["o-1 is begun; its result: resonate show o-1"]
    waiting(client, "o-1")

    listed, drawn, explained = run("list"), run("tree", "o-1"), run("why", "o-1")

    assert masked(listed.output) == [
        "ID  FUNCTION  STATE  BEGUN  TOOK  GROUP",
        "o-1  order  waiting  TIME  SPAN  default",
    ]
    one, two = [call.id for call in client.get("o-1").tree().calls]
    assert masked(drawn.output) == [
        "· order  o-1  waiting  SPAN",
        f"├─ ✓ charge  {one}  succeeded  SPAN  → 8",
        f"└─ · promise  {two}  pending  SPAN",
    ]
    assert masked(explained.output) == [
        f"  {two} (test_cli.py:LINE) waits for somebody to settle it, until TIME (in SPAN)",
        f"  resonate promises resolve {two} --value JSON",
    ]
    assert run("promises", "resolve", two, "--value", '"yes"').data["promise"]["state"] == "resolved"
    assert client.get("o-1").result(timeout=20) == [8, "yes"]
    assert masked(run("show", "o-1").output) == [
        "id  o-1",
        "function  order (root)",
        "state  succeeded",
        "begun  TIME, SPAN ago",
        "ended  TIME, after SPAN",
        "deadline  TIME",
        "group  default",
        f"worker  {client.pid}",
        "input  4",
        'output  [8, "yes"]',
    ]
    assert run("why", "o-1").lines == ["o-1 has ended: succeeded"]


def test_what_failed_is_shown_with_its_traceback(client: Resonate, run: Run) -> None:
    with pytest.raises(LookupError):
        client.options(retry_policy=Never()).run("f", fails)

    shown = run("show", "f")

    assert "error     LookupError: no luck" in shown.lines
    assert "Traceback (most recent call last):" in shown.lines
    assert run("list", "--state", "failed", "--json").data["items"][0]["error"]["type"] == "LookupError"


def test_follow_waits_for_the_result_and_prints_it(client: Resonate, run: Run) -> None:
    good = run("invoke", "charge", "21", "--id", "c", "--follow")
    bad = run("invoke", "order", "--json-args", "[]", "--id", "b", "--follow")

    assert (good.code, good.output.strip()) == (0, "42")
    assert bad.code == 1
    assert "resonate: b failed: UnfitArguments" in bad.errors


def test_the_official_spelling_of_invoke_works_too(client: Resonate, run: Run) -> None:
    assert run("invoke", "x-1", "--func", "charge", "--arg", "3", "-t", "1h30m").code == 0

    assert client.get("x-1").result(timeout=20) == 6


def test_delay_begins_later(client: Resonate, run: Run) -> None:
    assert run("invoke", "charge", "1", "--id", "later", "--delay", "1h").errors == ""

    assert client.get("later").status().state == "queued"


# Steering.


def test_cancel_ends_an_execution_and_a_second_one_is_refused(client: Resonate, run: Run) -> None:
    client.begin_run("o-1", "order", 1)
    waiting(client, "o-1")

    assert run("cancel", "o-1").lines == ["o-1 is cancelled"]
    again = run("cancel", "o-1")

    assert (again.code, again.errors) == (4, "resonate: o-1 has ended already: cancelled\n")
    assert client.get("o-1").status().state == "cancelled"


def test_retry_begins_the_next_attempt_now(client: Resonate, run: Run) -> None:
    client.options(retry_policy=Constant(delay=3600, max_retries=1)).begin_run("f", fails)
    until(lambda: client.get("f").tree().state == "retrying")

    said = run("retry", "f")

    assert said.lines == ["f: 1 attempt begins now"]
    until(lambda: client.get("f").status().state == "failed")
    refused = run("retry", "f")
    assert refused.code == 4
    assert "What has failed for good stays so: begin it anew under another id" in refused.errors


def test_resume_is_for_what_is_halted(client: Resonate, run: Run) -> None:
    client.begin_run("o-1", "order", 1)
    waiting(client, "o-1")

    refused = run("resume", "o-1")
    run("tasks", "halt", "o-1")
    assert client.get("o-1").status().state == "halted"
    resumed = run("resume", "o-1")

    assert refused.code == 4
    assert "only what is halted can be resumed" in refused.errors
    assert resumed.lines == ["o-1 goes on"]
    waiting(client, "o-1")
    run("cancel", "o-1")
    ended = run("resume", "o-1")
    assert ended.code == 4
    assert ended.errors == "resonate: o-1 is cancelled; only what is halted can be resumed\n"


def test_purge_deletes_what_is_finished_and_nothing_else(client: Resonate, run: Run) -> None:
    client.run("a", "charge", 1)
    client.begin_run("o-1", "order", 1)
    waiting(client, "o-1")

    assert run("purge").code == 2
    assert run("purge", "--older-than", "1d").lines == ["0 deleted"]
    pending = run("purge", "o-1")
    assert (pending.code, "o-1 is still pending, so nothing was deleted" in pending.errors) == (4, True)
    assert pending.errors.endswith("cancel it first: resonate cancel o-1\n")
    assert run("purge", "a", "o-1").code == 4
    assert run("purge", "a", "nothing").code == 3
    assert [call["id"] for call in run("list", "--json", "--prefix", "a").data["items"]] == ["a"]
    assert run("purge", "a", "a").lines == ["1 deleted"]

    assert [call["id"] for call in run("list", "--json").data["items"]] == ["o-1"]


def test_purge_goes_on_behind_what_cannot_be_deleted(client: Resonate, run: Run) -> None:
    def asks(ctx: Context) -> Any:
        return (yield ctx.rpc("charge", 1))

    client.register(asks)
    client.run("a", asks)
    client.run("c", "charge", 1)
    part = client.get("a").tree().calls[0].id

    ended = run("purge", part, "c")

    assert ended.code == 4
    assert ended.lines == ["1 deleted"]
    assert ended.errors == (
        f"resonate: {part} is part of a larger execution and is deleted with it: purge the id of its root\n"
    )
    assert [call["id"] for call in run("list", "--json").data["items"]] == ["a"]


def test_an_execution_is_imported_from_a_pipe(client: Resonate, run: Run, tmp_path: Path) -> None:
    client.run("a", "charge", 1)
    exported = run("export", "a").output
    reading, writing = os.pipe()
    os.write(writing, exported.encode())
    os.close(writing)

    ended = run("import", f"/dev/fd/{reading}", "--url", f"sqlite:///{tmp_path}/copy.db")
    os.close(reading)

    assert ended.code == 0, ended.errors
    assert run("show", "a", "--json", "--url", f"sqlite:///{tmp_path}/copy.db").data["output"] == 2


# Records.


def test_promises_are_created_read_settled_and_searched_for(client: Resonate, run: Run) -> None:
    made = run("promises", "create", "p", "--timeout", "1h", "--param", '{"n": 1}', "--tags", '{"shop": "x"}')
    read = run("promise", "get", "p")
    rejected = run("promises", "reject", "p", "--value", '{"data": "raw", "headers": {"h": "1"}}')
    found = run("promises", "search", "--tags", '{"shop": "x"}', "--state", "rejected")

    assert made.data == read.data
    assert made.data["promise"]["param"] == {"data": "eyJuIjogMX0="}
    assert rejected.data["promise"]["value"] == {"headers": {"h": "1"}, "data": "cmF3"}
    assert [promise["id"] for promise in found.data["promises"]] == ["p"]


def test_tasks_are_claimed_and_released(client: Resonate, run: Run) -> None:
    tags = '{"resonate:target": "poll://any@nobody"}'
    run("promises", "create", "t", "--timeout", "1h", "--tags", tags)

    version = run("tasks", "get", "t").data["task"]["version"]
    claimed = run("tasks", "claim", "t", "--pid", "me", "--version", str(version), "--ttl", "60s")
    wrong = run("tasks", "release", "t", "--version", "77")
    released = run("tasks", "release", "t", "--version", str(claimed.data["task"]["version"]))

    assert claimed.data["task"]["pid"] == "me"
    assert wrong.code == 4
    assert released.code == 0
    assert "t" in [task["id"] for task in run("tasks", "search", "--state", "pending").data["tasks"]]


def test_schedules_are_created_listed_and_deleted(client: Resonate, run: Run) -> None:
    made = run(
        "schedules",
        "create",
        "s",
        "--cron",
        "0 0 1 1 *",
        "--promise-id",
        "s.{{.timestamp}}",
        "--promise-timeout",
        "1h",
        "--promise-tags",
        '{"resonate:target": "poll://any@default"}',
    )
    listed = run("schedules", "list")

    assert made.code == 0, made.errors
    assert masked(listed.output) == [
        "ID  CRON (UTC)  NEXT  LAST  BEGINS",
        "s  0 0 1 1 *  TIME  -  s.{{.timestamp}}",
    ]
    assert run("schedules", "delete", "s").code == 0
    assert run("schedules", "list").lines == ["no schedules"]
    bad = run("schedules", "create", "s", "--cron", "x", "--promise-id", "s", "--promise-timeout", "1h")
    assert bad.code in (2, 4)


# Errors.


def test_what_is_settled_is_not_said_to_be_settled_otherwise(client: Resonate, run: Run) -> None:
    run("promises", "create", "p", "--timeout", "1h")
    run("promises", "resolve", "p", "--value", "1")

    again = run("promises", "resolve", "p", "--value", "1")
    other = run("promises", "resolve", "p", "--value", "2")
    rejected = run("promises", "reject", "p")
    cancelled = run("promises", "cancel", "p")

    assert (again.code, again.data["promise"]["state"]) == (0, "resolved")
    assert [ended.code for ended in (other, rejected, cancelled)] == [4, 4, 4]
    assert other.errors == (
        "resonate: p is settled already: resolved, with another value. All of it: resonate promises get p\n"
    )
    assert rejected.errors == "resonate: p is settled already: resolved. All of it: resonate promises get p\n"


def test_an_argument_that_python_alone_takes_for_a_number_stays_text(client: Resonate, run: Run) -> None:
    run("invoke", "fails", "NaN", "1e999", "1.5", "--id", "f")

    assert run("show", "f", "--json").data["input"]["args"] == ["NaN", "1e999", 1.5]


@pytest.mark.parametrize("arguments", [("show", "nix"), ("tree", "nix"), ("why", "nix"), ("promises", "get", "nix")])
def test_an_unknown_id_ends_with_3(client: Resonate, run: Run, arguments: tuple[str, ...]) -> None:
    ended = run(*arguments)

    assert ended.code == 3
    assert "not found" in ended.errors.lower()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("list", "--state", "done"), "state must be one of queued, running"),
        (("list", "--state", "retrying"), "resonate list --state waiting"),
        (("list", "--state", "pending"), "resonate promises search --state pending"),
        (("list", "--state", "queued", "--state", "halted"), "--state is given 2 times"),
        (("list", "--since", "yesterday"), "'yesterday' is no time: write 2026-11-23"),
        (("promises", "resolve", "p", "--value", "NaN"), "NaN is no number of JSON"),
        (("promises", "resolve", "p", "--value", "[1e999]"), "1e999 is no number of JSON"),
        (("promises", "create", "p", "--timeout", "1h", "--param", "[-Infinity]"), "-Infinity is no number of JSON"),
        (("invoke", "f", "--json-args", "[NaN]"), "NaN is no number of JSON"),
        (("promises", "resolve", "p", "--value", "[" * 100_000), "is nested too deep"),
        (("invoke", "f", "[" * 100_000), "is nested too deep"),
        (("list", "--tag", "x"), "write NAME=VALUE"),
        (("promises", "create", "p", "--timeout", "1 hour"), "is no duration: write a number with ms, s, m, h or d"),
        (("promises", "resolve", "p", "--value", "yes"), "--value is no JSON"),
        (("invoke", "f", "1", "--json-args", "[1]"), "--json-args is a JSON array, and all the arguments"),
    ],
)
def test_what_makes_no_sense_ends_with_2(client: Resonate, run: Run, arguments: tuple[str, ...], says: str) -> None:
    ended = run(*arguments)

    assert ended.code == 2
    assert says in ended.errors


@pytest.mark.slow
def test_without_a_home_it_says_how_to_name_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RESONATE_URL", raising=False)
    nowhere, missing = command("list"), command("list", "--url", f"sqlite:///{tmp_path}/none.db")
    away = command("list", "-S", "http://127.0.0.1:9")

    assert nowhere.code == 2
    assert "Name it with --url or RESONATE_URL" in nowhere.errors
    assert missing.code == 2
    assert "there is no file" in missing.errors
    assert not (tmp_path / "none.db").exists()
    assert away.code == 5
    assert "http://127.0.0.1:9" in away.errors


def test_a_wrong_token_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    server = WireServer(token="right").start()
    try:
        wrong = command("list", "-S", server.url, "-T", "wrong")
        right = command("list", "-S", server.url, "-T", "right")
    finally:
        server.stop()

    assert wrong.code in (1, 5)
    assert "401" in wrong.errors or "token" in wrong.errors
    assert (right.code, right.lines) == (0, ["no executions"])


def test_what_others_wrote_does_not_reach_the_terminal_as_commands(client: Resonate, run: Run) -> None:
    client.options(tags={"evil": "\x1b[31mred\x1b[0m"}).run("a", "charge", 1)

    shown = run("show", "a").output

    assert "\x1b" not in shown
    assert r"tag       evil = \x1b[31mred\x1b[0m" in shown


# Doctor.


def test_doctor_is_content_with_a_home_where_all_goes_on(client: Resonate, run: Run) -> None:
    client.run("a", "charge", 1)

    ended = run("doctor")

    assert ended.code == 0
    assert all(line.startswith("ok ") for line in ended.lines)
    assert ended.lines[-2:] == ["ok  no execution waits for a worker", "ok  no execution is halted"]


def test_doctor_names_what_is_halted_and_what_to_do(client: Resonate, run: Run) -> None:
    client.begin_run("o-1", "order", 1)
    waiting(client, "o-1")
    run("tasks", "halt", "o-1")

    ended = run("doctor")

    assert ended.code == 1
    assert "!!  1 execution halted, by hand or as the code did not do what is recorded: o-1" in ended.lines


def test_doctor_finds_what_is_halted_or_queued_below_others(
    client: Resonate, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asks(ctx: Context) -> Any:
        asked = yield ctx.begin_rpc("order", 1)
        lost = yield ctx.begin_rpc("lost").options(target="nobody")
        return [(yield asked), (yield lost)]

    client.register(asks)
    client.begin_run("top", asks)
    waiting(client, "top")
    below = next(call.id for call in client.get("top").tree().calls if call.name == "order")
    waiting(client, below)
    run("tasks", "halt", below)
    monkeypatch.setattr(doctor, "LONG", 0)

    ended = run("doctor")

    assert ended.code == 1
    assert (
        "!!  1 execution halted, by hand or as the code did not do what is recorded: 1 called by others" in ended.lines
    )
    assert any("!!  1 execution in the queue for workers of group nobody" in line for line in ended.lines)
    assert below in run("tasks", "search", "--state", "halted").output


def test_doctor_leaves_out_what_is_to_begin_later(client: Resonate, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("invoke", "lost", "--id", "later", "--delay", "1h", "--target", "nobody")
    monkeypatch.setattr(doctor, "LONG", 0)

    alone = run("doctor")
    run("invoke", "lost", "--id", "now", "--target", "nobody")
    beside = run("doctor")

    assert (alone.code, alone.lines[-2]) == (0, "ok  no execution waits for a worker")
    assert beside.code == 1
    assert any("!!  1 execution in the queue for workers of group nobody" in line for line in beside.lines)


def test_doctor_asks_whether_anybody_is_at_an_address(
    client: Resonate, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("invoke", "lost", "--target", "http://127.0.0.1:9/x")
    monkeypatch.setattr(doctor, "LONG", 0)

    ended = run("doctor")

    assert ended.code == 1
    assert any("nobody listens at that address" in line for line in ended.lines)
    assert "MODULE" not in ended.output


def test_doctor_names_few_functions_and_says_how_many_there_are_besides(
    client: Resonate, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate("aabbccdde"):
        run("invoke", name, "--id", f"i-{number}", "--target", "nobody")

    ended = run("doctor")

    (line,) = [line for line in ended.lines if "nobody" in line]
    assert line.endswith(" and 3 more")


# Worker.

MODULE = """
from resonate import Resonate
import os, time

r = Resonate(url={url!r}, group="default", pid="w-1")

@r.register
def charge(ctx, amount):
    return 2 * amount

@r.register
def slow(ctx):
    open("begun", "w").close()
    while not os.path.exists("go"):
        time.sleep(0.01)
    return "done"
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(home: str, tmp_path: Path) -> Iterator[Start]:
    """Starts `resonate worker` and returns once it is ready."""
    (tmp_path / "shop.py").write_text(MODULE.format(url=home))
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "resonate.cli", "worker", *arguments],
            **options,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": SOURCE, "RESONATE_URL": home},
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        ready(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def ready(process: subprocess.Popen[str], what: str = "ready") -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if what in line:
            return
    raise AssertionError("it has ended")


def test_a_worker_serves_what_a_module_registers_and_drains_when_told_to_end(
    start: Start, run: Run, tmp_path: Path
) -> None:
    process = start("shop")
    assert run("invoke", "charge", "4", "--follow").output.strip() == "8"
    run("invoke", "slow", "--id", "s")
    until((tmp_path / "begun").exists)

    process.send_signal(signal.SIGTERM)
    ready(process, "ending")
    (tmp_path / "go").touch()

    assert process.wait(20) == 0
    assert run("show", "s", "--json").data["state"] in ("succeeded", "queued")


def test_a_second_signal_ends_a_worker_at_once(start: Start, run: Run, tmp_path: Path) -> None:
    process = start("shop:r", "--drain", "60")
    run("invoke", "slow", "--id", "s")
    until((tmp_path / "begun").exists)

    process.send_signal(signal.SIGTERM)
    ready(process, "ending")
    process.send_signal(signal.SIGTERM)

    assert process.wait(20) == 128 + signal.SIGTERM


def test_a_worker_tells_its_health(start: Start) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    start("shop.py", "--health-port", port)

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
        assert answer.status == 200
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/else")


def test_a_worker_counts_for_prometheus(start: Start, run: Run) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    start("shop.py", "--health-port", port)
    run("invoke", "charge", "4", "--follow")

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()

    assert 'resonate_executions_total{event="succeeded",function="charge"} 1.0' in text


def test_a_worker_writes_its_log_as_json_lines(start: Start, run: Run) -> None:
    process = start("shop.py", "--log-format", "json")
    run("invoke", "charge", "4", "--id", "json-1", "--follow")

    assert process.stderr is not None
    lines = iter(json.loads(line) for line in process.stderr)
    line = next(line for line in lines if line.get("resonate_id") == "json-1" and "succeeded" in line["message"])
    assert line["level"] == "info"


GROUPS = """
from resonate import Resonate
import threading, time

r = Resonate(pid="w-2")
running, most = 0, 0
lock = threading.Lock()

@r.register
def crowd(ctx):
    global running, most
    with lock:
        running += 1
        most = max(most, running)
    time.sleep(0.2)
    with lock:
        running -= 1
    return most
"""


@pytest.mark.slow
def test_a_worker_serves_the_group_it_is_told_no_more_at_once_than_it_is_told_and_puts_back_what_it_lacks(
    start: Start, home: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "crowded.py").write_text(GROUPS)
    start("crowded", "--url", home, "--group", "crowds", "--concurrency", "2")

    for number in range(5):
        run("invoke", "crowd", "--id", f"c-{number}", "--target", "crowds")
    run("invoke", "unknown", "--id", "u", "--target", "crowds")
    until(lambda: all(run("show", f"c-{n}", "--json").data["state"] == "succeeded" for n in range(5)))

    assert max(run("show", f"c-{number}", "--json").data["output"] for number in range(5)) <= 2
    until(lambda: run("show", "u", "--json").data["state"] == "queued")
    assert "none of group crowds that has unknown version 1 has taken it up" in run("why", "u").output


def test_a_worker_that_is_to_serve_something_else_than_the_program_says_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("RESONATE_URL", "RESONATE_GROUP"):  # the command sets them
        monkeypatch.setenv(name, "")
    (tmp_path / "own_group.py").write_text("from resonate import Resonate\nr = Resonate(group='orders')\n")
    (tmp_path / "own_home.py").write_text("from resonate import Resonate\nr = Resonate(url='sqlite:///own.db')\n")
    (tmp_path / "no_home.py").write_text("from resonate import Resonate\nr = Resonate()\n")

    address = command("worker", "no_home", "--group", "http://localhost:9/x")
    nowhere = command("worker", "no_home")
    group = command("worker", "own_group", "--group", "others")
    home = command("worker", "own_home", "--url", "sqlite:///other.db")

    assert [ended.code for ended in (group, home, nowhere, address)] == [2, 2, 2, 2]
    assert "--group 'http://localhost:9/x' is no group" in address.errors
    assert "the program names a group of its own (orders): leave --group out" in group.errors
    assert "the program names a home of its own (sqlite:///own.db): leave --url out" in home.errors
    assert "name where state lives with --url or RESONATE_URL" in nowhere.errors


@pytest.mark.slow
def test_reload_starts_anew_when_a_file_changes(start: Start, home: str, run: Run, tmp_path: Path) -> None:
    process = start("shop", "--reload")
    assert run("invoke", "charge", "4", "--follow").output.strip() == "8"

    first, saved = (tmp_path / "shop.py").stat(), tmp_path / "saved"
    saved.write_text(MODULE.format(url=home).replace("2 * amount", "3 * amount"))
    os.utime(saved, ns=(first.st_atime_ns, first.st_mtime_ns - first.st_mtime_ns % 10**9 + 1))  # in the same second
    saved.replace(tmp_path / "shop.py")
    ready(process, "has changed")
    ready(process)

    assert run("invoke", "charge", "4", "--follow").output.strip() == "12"
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


@pytest.mark.slow
@pytest.mark.parametrize("home", ["file"], indirect=True)
def test_ctrl_c_lets_a_reloading_worker_drain(start: Start, run: Run, tmp_path: Path) -> None:
    process = start("shop", "--reload", process_group=0)
    run("invoke", "slow", "--id", "s")
    until((tmp_path / "begun").exists)

    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to all of its group
    ready(process, "ending: running steps")
    (tmp_path / "go").touch()

    assert process.wait(20) == 0
    assert run("show", "s", "--json").data["output"] == "done"


@pytest.mark.slow
@pytest.mark.parametrize("home", ["file"], indirect=True)
def test_a_signal_while_a_reload_drains_is_the_first_one(start: Start, run: Run, tmp_path: Path) -> None:
    process = start("shop", "--reload")
    run("invoke", "slow", "--id", "s")
    until((tmp_path / "begun").exists)
    (tmp_path / "other.py").touch()
    ready(process, "ending: running steps")

    process.send_signal(signal.SIGTERM)
    (tmp_path / "go").touch()

    process.wait(20)
    assert run("show", "s", "--json").data["output"] == "done"


@pytest.mark.slow
@pytest.mark.parametrize("home", ["file"], indirect=True)
def test_a_worker_ends_with_whoever_reloads_it(start: Start) -> None:
    process = start("shop", "--reload")

    process.kill()

    said = process.communicate(timeout=20)[1]  # to its end: nobody has the pipe open any more
    assert "ending: running steps" in said


def test_a_module_that_cannot_be_imported_shows_its_own_lines(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def x(:\n")
    (tmp_path / "raises.py").write_text("import json\n\njson.loads('[')\n")
    (tmp_path / "lacks.py").write_text("import no_such_module\n")
    said = []
    for name in ("broken", "raises", "lacks"):
        arguments = [sys.executable, "-m", "resonate.cli", "worker", name, "--url", "sqlite:///app.db"]
        said.append(subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False))

    assert [one.returncode for one in said] == [1, 1, 1]
    lines = said[0].stderr.splitlines()
    assert lines[0] == f'  File "{tmp_path}/broken.py", line 1'
    assert lines[1:4] == ["    def x(:", "          ^", "SyntaxError: invalid syntax"]
    assert lines[4:] == [f"resonate: this came of importing 'broken' from {tmp_path}, so nothing is served"]
    assert said[1].stderr.splitlines()[1] == f'  File "{tmp_path}/raises.py", line 3, in <module>'
    assert "JSONDecodeError: Expecting value" in said[1].stderr
    assert "ModuleNotFoundError: No module named 'no_such_module'" in said[2].stderr
    assert "importlib" not in said[2].stderr


def test_what_is_reloaded_may_lie_below_a_hidden_directory(tmp_path: Path) -> None:
    program = tmp_path / ".worktrees" / "shop"
    (program / ".venv").mkdir(parents=True)
    (program / ".venv" / "other.py").touch()
    (program / "shop.py").touch()

    assert list(_files(program)) == [program / "shop.py"]


def test_what_is_no_worker_says_what_would_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "empty_shop.py").write_text("x = 1\n")
    (tmp_path / "two_shops.py").write_text("from resonate import Resonate\na, b = Resonate(), Resonate()\n")

    said = [command("worker", name).errors for name in ("nix", "empty_shop", "two_shops", "empty_shop:x")]

    assert "there is no module 'nix'" in said[0]
    assert "which Resonate object of empty_shop is meant? it has none" in said[1]
    assert "it has a, b: write two_shops:a" in said[2]
    assert "x of empty_shop is a int: name a Resonate object" in said[3]


def test_a_worker_is_named_by_its_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shops").mkdir()
    (tmp_path / "shops" / "filed_shop.py").write_text("from resonate import Resonate\nr = Resonate()\n")
    (tmp_path / "apart").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    found = [
        find(name) for name in ("shops/filed_shop.py", "./shops/filed_shop.py", f"{tmp_path}/shops/filed_shop.py:r")
    ]
    monkeypatch.chdir(tmp_path / "apart")

    elsewhere = command("worker", "../shops/filed_shop.py")
    dotted = command("worker", "..shops.filed_shop")

    assert len({id(client) for client in found}) == 1
    assert [elsewhere.code, dotted.code] == [2, 2]
    assert "is not below the working directory" in elsewhere.errors
    assert "is no module" in dotted.errors


def test_the_page_of_commands_is_what_they_are() -> None:
    written = Path(__file__).parents[1] / "docs" / "cli.md"

    assert written.read_text() == page(), "python -m resonate.cli.describing > docs/cli.md"
