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
from resonate.cli.app import app
from resonate.cli.describing import page
from resonate.retry_policies import Constant, Never
from tests import databases
from tests.homes import until
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
        server = WireServer().start()
        yield server.url
        server.stop()
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
    text = re.sub(r"\b[\d.]+ (ms|s)\b", "SPAN", text)
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
        f"{two} waits for somebody to settle it, until TIME",
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
    assert bad.code == 4
    assert "b failed: TypeError" in bad.errors


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


def test_purge_deletes_what_is_finished_and_nothing_else(home: str, client: Resonate, run: Run) -> None:
    client.run("a", "charge", 1)
    if home.startswith("http"):
        refused = run("purge", "a")
        assert refused.code == 2
        assert "a cannot be purged" in refused.errors
        return
    client.begin_run("o-1", "order", 1)
    waiting(client, "o-1")

    assert run("purge").code == 2
    assert run("purge", "--older-than", "1d").lines == ["0 deleted"]
    assert run("purge", "a").lines == ["1 deleted"]

    assert [call["id"] for call in run("list", "--json").data["items"]] == ["o-1"]


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


@pytest.mark.parametrize("arguments", [("show", "nix"), ("tree", "nix"), ("why", "nix"), ("promises", "get", "nix")])
def test_an_unknown_id_ends_with_3(client: Resonate, run: Run, arguments: tuple[str, ...]) -> None:
    ended = run(*arguments)

    assert ended.code == 3
    assert "not found" in ended.errors.lower()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("list", "--state", "done"), "state must be one of queued, running"),
        (("list", "--since", "yesterday"), "'yesterday' is no time: write 2026-11-23"),
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
    assert "!!  1 executions are halted, since their code no longer does what is recorded: o-1" in ended.lines


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

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "resonate.cli", "worker", *arguments],
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


def test_reload_starts_anew_when_a_file_changes(start: Start, home: str, run: Run, tmp_path: Path) -> None:
    process = start("shop", "--reload")
    assert run("invoke", "charge", "4", "--follow").output.strip() == "8"

    (tmp_path / "shop.py").write_text(MODULE.format(url=home).replace("2 * amount", "3 * amount"))
    ready(process, "has changed")
    ready(process)

    assert run("invoke", "charge", "4", "--follow").output.strip() == "12"
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


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


def test_the_page_of_commands_is_what_they_are() -> None:
    written = Path(__file__).parents[1] / "docs" / "cli.md"

    assert written.read_text() == page(), "python -m resonate.cli.describing > docs/cli.md"
