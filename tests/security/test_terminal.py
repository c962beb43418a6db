"""What somebody stored cannot command the terminal of whoever looks at it, nor the shell they paste into."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from resonate import Resonate
from resonate.cli import output
from resonate.cli.app import app
from resonate.clock import SystemClock
from resonate.inspection import Call
from resonate.inspection.commands import command as suggested
from resonate.inspection.views import Failure
from resonate.protocol.records import Value
from resonate.protocol.requests import PromiseCreate
from resonate.service.service import Service
from resonate.storage.sqlite.location import parse
from resonate.storage.sqlite.storage import SqliteStorage
from resonate.values.payload import pack

CODES = {
    "clears the screen": "\x1b[2J",
    "sets the title": "\x1b]0;owned\x07",
    "hides behind a colour": "\x1b[31mred\x1b[0m\x1b]0;owned\x07",
    "eight bits": "\x9b31m",
    "back over the line": "ok\rrm -rf",
    "right to left": "abc\u202edef",
    "a line of its own": "a\n!!  everything is lost",
}
OURS = re.compile("\x1b\\[[0-9;]*m")
"""The codes that colours of our own are made of."""


def obeyed(shown: str) -> list[str]:
    """Characters that a terminal would do something about, but for line ends and our own colours."""
    return [char for char in OURS.sub("", shown) if not char.isprintable() and char != "\n"]


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a terminal: nothing is stripped."""
    monkeypatch.setattr("click.utils.should_strip_ansi", lambda *_: False)


def call(text: str) -> Call:
    error = Failure(type=text, message=text, traceback=text)
    return Call(
        id=text,
        kind="root",
        name=text,
        state="failed",
        created_at=0,
        deadline=1,
        settled_at=1,
        group=text,
        worker=text,
        place=text,
        input={"func": text, "args": [text], "kwargs": {text: text}},
        output=text,
        error=error,
        reason=text,
        tags={text: text},
    )


@pytest.mark.parametrize("text", CODES.values(), ids=CODES)
def test_nothing_that_is_stored_is_obeyed(text: str, colours: None, capsys: pytest.CaptureFixture[str]) -> None:
    output.details(call(text), 2)
    output.tree(call(text), 2)
    output.table(("ID", "STATE"), [(text, output.state(text)), (text, text)], "none")
    output.data(call(text))
    output.say(f"{text.replace(chr(10), '')} is cancelled")

    shown = capsys.readouterr().out
    assert obeyed(shown) == []
    assert "owned" in shown or "owned" not in text  # it is shown, and not left out


def test_colours_of_stored_text_are_not_taken_for_ours(colours: None, capsys: pytest.CaptureFixture[str]) -> None:
    output.details(call("\x1b[31mred"), 2)
    output.table(("ID",), [("\x1b[31mred",)], "none")

    assert "\x1b[31mred" not in capsys.readouterr().out


def test_json_for_programs_says_what_is_stored_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    text = "".join(CODES.values()) + "\x7f\U000e0001"

    output.data({"id": text})

    assert json.loads(capsys.readouterr().out) == {"id": text}


@pytest.mark.parametrize("command", ["list", "show", "tree", "why", "cancel", "promises get", "promises resolve"])
def test_commands_show_an_id_of_any_form_without_obeying_it(command: str, colours: None, tmp_path: Path) -> None:
    id = "x\x1b]0;owned\x07; touch /tmp/owned"
    file = parse(f"sqlite:///{tmp_path}/a.db")
    storage = SqliteStorage(file)
    service = Service(storage, SystemClock())
    tags = {"resonate:target": "poll://any@g", "resonate:scope": "global", "resonate:origin": id}
    service.handle([PromiseCreate(id, 2**50, Value(data=pack(b'{"func":"f"}')), tags)])
    storage.close()
    words = command.split() + ([] if command == "list" else [id])

    result = CliRunner().invoke(app, [*words, "--url", f"sqlite:///{tmp_path}/a.db"])

    assert "owned" in result.output
    assert obeyed(result.output) == []


def test_an_id_in_an_error_is_not_obeyed_either(colours: None, tmp_path: Path) -> None:
    SqliteStorage(parse(f"sqlite:///{tmp_path}/a.db")).close()

    result = CliRunner().invoke(app, ["show", "\x1b[2J", "--url", f"sqlite:///{tmp_path}/a.db"])

    assert result.exit_code == 3
    assert obeyed(result.output) == []


def test_a_command_that_is_offered_names_one_id_whatever_the_shell_makes_of_it(tmp_path: Path) -> None:
    id = "a; touch owned #$(touch owned)`touch owned`"
    storage = SqliteStorage(parse(f"sqlite:///{tmp_path}/a.db"))
    service = Service(storage, SystemClock())
    service.handle([PromiseCreate(id, 2**50, Value(), {"resonate:scope": "global", "resonate:origin": id})])
    storage.close()

    offered = []
    for command in ("why", "show"):
        text = CliRunner().invoke(app, [command, id, "--url", f"sqlite:///{tmp_path}/a.db"]).output
        offered += [line[line.index("resonate ") :] for line in text.splitlines() if "resonate " in line]

    assert len(offered) == 2
    assert all(id in shlex.split(line, comments=True) for line in offered)


@pytest.mark.parametrize(
    "id", ["-x", "--help", "plain", "it's", "a\x1b[31mb", "-\u202ecod'\\\x07é", "two\nlines\U000e0001"]
)
@pytest.mark.parametrize("options", ["", "--value JSON"])
def test_a_suggested_command_reaches_us_with_the_very_id(id: str, options: str) -> None:
    line = suggested("promises resolve", id, options)

    assert line.isprintable()
    script = f"resonate() {{ printf '%s\\0' \"$@\"; }}; {line}"
    words = subprocess.run(["bash", "-c", script], env={"LC_ALL": "C.UTF-8"}, capture_output=True, check=True).stdout
    given = words.decode().split("\0")[:-1]
    assert given[:2] == ["promises", "resolve"]
    assert id in given
    assert not id.startswith("-") or given[-2:] == ["--", id]
    assert given[2:4] == ["--value", "JSON"] or given[3:5] == ["--value", "JSON"] or not options


def test_the_command_that_is_suggested_for_an_id_like_an_option_works(tmp_path: Path) -> None:
    with Resonate(url=f"sqlite:///{tmp_path}/a.db") as client:
        client.promises.create("-x", 2**50, tags={"resonate:scope": "global", "resonate:origin": "-x"})
    where = ["--url", f"sqlite:///{tmp_path}/a.db"]

    told = CliRunner().invoke(app, ["why", *where, "--", "-x"]).output
    (line,) = [line.strip() for line in told.splitlines() if "resonate " in line]
    words = [word.replace("JSON", "1") for word in shlex.split(line)[1:]]
    done = CliRunner().invoke(app, [*words[:2], *where, *words[2:]])

    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["promise"]["state"] == "resolved"
