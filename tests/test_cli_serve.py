"""`resonate serve` and `resonate dev` as processes of their own."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import resonate
from resonate import Resonate

SOURCE = str(Path(resonate.__file__).parents[1])
Start = Callable[..., "subprocess.Popen[str]"]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": SOURCE, "COLUMNS": "200", **more}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **more: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "resonate.cli", *arguments, "--observability-metrics-port", "0"],
            cwd=tmp_path,
            env=environment(**more),
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def ready(process: subprocess.Popen[str]) -> tuple[str, list[str]]:
    """Where it listens, and what it said before."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if "ready at" in line:
            return line.partition("ready at ")[2].partition(",")[0], said
    raise AssertionError("".join(said))


def ask(url: str, kind: str, data: dict[str, Any], token: str | None = None) -> tuple[int, Any]:
    head = {"corrId": "1", "version": "2026-04-01", **({"auth": token} if token else {})}
    body = json.dumps({"kind": kind, "head": head, "data": data}).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url + "/", body), timeout=10) as answer:
            return answer.status, json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["data"]


CREATE = {"id": "p", "timeoutAt": 10**13, "param": {}, "tags": {}}


def test_serve_keeps_state_in_the_file_of_its_directory_and_drains_on_sigterm(start: Start, tmp_path: Path) -> None:
    first = start("serve", "--server-port", "0")
    url, _ = ready(first)
    assert ask(url, "promise.create", CREATE)[0] == 200

    first.send_signal(signal.SIGTERM)
    assert first.wait(20) == 0

    url, _ = ready(start("serve", "--server-port", "0"))
    assert ask(url, "promise.get", {"id": "p"})[1]["promise"]["state"] == "pending"
    assert (tmp_path / "resonate.db").exists()


def test_dev_keeps_state_in_memory_and_ignores_the_url_of_clients(start: Start, tmp_path: Path) -> None:
    url, said = ready(start("dev", "--server-port", "0", RESONATE_URL="http://127.0.0.1:9"))

    assert "state in memory" in said[-1]
    assert ask(url, "promise.create", CREATE)[0] == 200
    assert list(tmp_path.iterdir()) == []


def test_debug_is_off_unless_asked_for_and_warned_of(start: Start) -> None:
    url, _ = ready(start("dev", "--server-port", "0"))
    assert ask(url, "debug.reset", {})[0] == 403

    url, said = ready(start("dev", "--server-port", "0", "--debug"))
    assert ask(url, "debug.reset", {})[0] == 200
    assert any("debug is on" in line for line in said)


def test_fixed_tokens_of_the_environment_are_asked_for(start: Start) -> None:
    tokens = json.dumps([{"secret": "s3cret-token", "name": "ci", "role": "admin"}])
    process = start("dev", "--server-port", "0", RESONATE_AUTH__TOKENS=tokens)
    url, said = ready(process)

    assert ask(url, "promise.create", CREATE)[0] == 401
    assert ask(url, "promise.create", CREATE, "s3cret-token")[0] == 200
    assert "s3cret-token" not in "".join(said)


def test_a_network_that_everybody_reaches_without_authentication_is_warned_of(start: Start) -> None:
    _, said = ready(start("dev", "--server-port", "0", "--server-bind", "0.0.0.0"))

    assert any("everybody who reaches 0.0.0.0 may do everything" in line for line in said)


def test_a_port_that_is_taken_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run(tmp_path, "dev", "--server-port", port, "--observability-metrics-port", "0")

    assert done.returncode == 2
    assert done.stderr.startswith(f"resonate dev: cannot listen on 127.0.0.1 port {port}")
    assert "Traceback" not in done.stderr


def run(directory: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "resonate.cli", *arguments],
        cwd=directory,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_print_config_tells_where_each_value_comes_from_and_shows_no_secret(tmp_path: Path) -> None:
    (tmp_path / "resonate.toml").write_text("[server]\nport = 8123\n")

    done = run(tmp_path, "serve", "--print-config", "--debug", RESONATE_AUTH__TOKENS='[{"secret": "hunter2"}]')

    lines = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.strip()}
    assert lines["server.port"] == ["8123", "resonate.toml:2"]
    assert lines["debug"] == ["true", "--debug"]
    assert lines["auth.tokens"] == ["********", "RESONATE_AUTH__TOKENS"]
    assert "hunter2" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("serve", "--level", "loud"), 2, "resonate serve: --level: level must be one of debug, info, warn, error"),
        (("serve", "--storage-type", "mysql"), 2, "is not offered by this server"),
        (("serve", "--url", "sqlite:///no/such/directory/app.db"), 5, "does not exist"),
        (("serve", "--url", "sqlite:///newer.db"), 5, "resonate serve: "),
        (("serve", "--config", "missing.toml"), 2, "the configuration file missing.toml does not exist"),
        (("migrate", "--url", "sqlite:///newer.db"), 2, "resonate migrate: name the database"),
        (("migrate", "--url", "postgresql://127.0.0.1:9/x?connect_timeout=1"), 5, "resonate migrate: "),
    ],
)
def test_what_cannot_be_followed_is_one_line_and_ends_as_other_commands_do(
    arguments: tuple[str, ...], code: int, said: str, tmp_path: Path
) -> None:
    with Resonate(url=f"sqlite:///{tmp_path}/newer.db") as client:
        client.promises.create("p", 10**13)
    with closing(sqlite3.connect(tmp_path / "newer.db")) as connection:
        connection.execute("UPDATE resonate_schema SET version = 99")
        connection.commit()

    done = run(tmp_path, *arguments)

    assert done.returncode == code
    assert said in done.stderr
    assert "[100." not in done.stderr  # a number for programs
    assert len(done.stderr.splitlines()) == 1


def test_an_unknown_flag_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    done = run(tmp_path, "serve", "--server-prot", "1")

    assert done.returncode == 2
    assert "--server-port" in done.stderr


def test_the_version_is_the_distributions(tmp_path: Path) -> None:
    done = run(tmp_path, "--version")

    assert done.stdout.startswith("resonate ") or "resonate-py" in done.stderr


@pytest.mark.parametrize(
    "arguments", [("--help",), ("list",), ("export", "p"), ("promises", "create", "q", "--timeout", "1h")]
)
def test_a_reader_that_is_gone_is_no_error(arguments: tuple[str, ...], tmp_path: Path) -> None:
    with Resonate(url=f"sqlite:///{tmp_path}/app.db") as client:
        client.promises.create("p", 10**13)
    reading, writing = os.pipe()
    os.close(reading)

    done = subprocess.run(
        [sys.executable, "-m", "resonate.cli", *arguments],
        cwd=tmp_path,
        env=environment(RESONATE_URL="sqlite:///app.db"),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
    )
    os.close(writing)

    assert (done.returncode, done.stderr) == (141, "")


def test_a_command_whose_output_is_closed_does_its_work_all_the_same(tmp_path: Path) -> None:
    command = f"{sys.executable} -m resonate.cli promises create p --timeout 1h --url sqlite:///app.db >&-"
    (tmp_path / "app.db").touch()

    done = subprocess.run(command, shell=True, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True)

    assert (done.returncode, done.stderr) == (0, "")
    with Resonate(url=f"sqlite:///{tmp_path}/app.db") as client:
        assert client.promises.get("p").id == "p"
