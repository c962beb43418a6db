"""Homes that cannot be used: each says what is wrong and what to do, and ends with its exit code."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

import resonate
from resonate import Resonate
from resonate.server.auth import Authenticator, BearerToken, Identity
from resonate.server.base import Settings
from tests import databases
from tests.server.serving import serving
from tests.test_cli import command


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with resonate's tables in it."""
    path = tmp_path / "app.db"
    with Resonate(url=f"sqlite:///{path}") as client:
        client.promises.create("p", 10**13)
    return path


def ended(url: str, *options: str) -> tuple[int, str]:
    done = command("list", "--url", url, *options)
    assert done.output == ""
    return done.code, done.errors


def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "app.db").write_bytes(b"dear diary\n" * 500)

    code, said = ended(f"sqlite:///{tmp_path}/app.db")

    assert code == 5
    assert said.endswith("app.db is no SQLite database. Name another file; this one was left as it is\n")
    assert (tmp_path / "app.db").read_bytes() == b"dear diary\n" * 500
    assert [path.name for path in tmp_path.iterdir()] == ["app.db"]


def test_a_damaged_file_says_how_to_save_what_can_be_read(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    file.write_bytes(content)

    code, said = ended(f"sqlite:///{file}")

    assert code == 5
    assert "is damaged (SQLITE_CORRUPT" in said
    assert "bring back a backup, or save what can be read: sqlite3 FILE .recover" in said


def test_a_file_of_a_newer_version_is_refused(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE resonate_schema SET version = 99")
        connection.commit()

    code, said = ended(f"sqlite:///{file}")

    assert code == 5
    assert "99" in said
    assert "newer" in said


def test_a_database_of_a_newer_version_is_refused() -> None:
    url = databases.fresh_url()
    with Resonate(url=url) as client:
        client.promises.create("p", 10**13)
    schema = url.partition("schema=")[2].partition("&")[0]
    with psycopg.connect(databases.bare(url), autocommit=True) as connection:
        found = connection.execute(
            "SELECT table_name FROM information_schema.columns WHERE table_schema = %s AND column_name = 'version' "
            "AND table_name LIKE '%%schema%%'",
            (schema,),
        ).fetchone()
        assert found is not None
        connection.execute(f'UPDATE "{schema}"."{found[0]}" SET version = 99')

    code, said = ended(url)

    assert code == 5
    assert "99" in said


def test_who_only_looks_makes_no_tables() -> None:
    url = databases.fresh_url()

    code, said = ended(url)
    made = command("invoke", "f", "--url", url)
    there = command("list", "--url", url)

    assert code == 2
    assert "holds no tables of resonate" in said
    assert "resonate migrate" in said
    assert (made.code, there.code) == (0, 0)


@pytest.mark.slow
def test_a_database_that_is_away_says_so() -> None:
    code, said = ended("postgresql://127.0.0.1:9/x?connect_timeout=1")

    assert code in (2, 5)
    assert "127.0.0.1" in said


@pytest.mark.slow
def test_a_server_that_is_away_is_tried_for_a_few_seconds(capfd: pytest.CaptureFixture[str]) -> None:
    code, said = ended("http://127.0.0.1:9")

    lines = said.splitlines()
    assert code == 5
    assert len(lines) == 2
    assert lines[0] == "http://127.0.0.1:9: cannot connect: [Errno 111] Connection refused; trying again"
    assert lines[1].endswith("Nothing was changed; see that the server runs and the url is right")


def test_a_token_that_is_wrong_or_reaches_not_far_enough_says_which_to_use() -> None:
    tokens = [BearerToken("few-token", Identity("few", prefix="a-"))]
    with serving(settings=Settings(auth=Authenticator(tokens=tokens))) as server:
        none = ended(server.url)
        wrong = ended(server.url, "--token", "wrong")
        forbidden = command("promises", "get", "b-1", "--url", server.url, "--token", "few-token")

    assert [code for code, _ in (none, wrong)] == [1, 1]
    assert "pass token=... (or set RESONATE_TOKEN)" in none[1]
    assert "401 Unauthorized: check the token in token=... (or RESONATE_TOKEN)" in wrong[1]
    assert forbidden.code == 1
    assert "403 Forbidden: the role or prefix of this token or user does not allow it" in forbidden.errors


def test_with_nothing_named_a_server_of_this_machine_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server:
        monkeypatch.setattr("resonate.cli.home.HERE", server.url)
        found = command("list")
        monkeypatch.setattr("resonate.cli.home.HERE", "http://127.0.0.1:9")
    missing = command("list")

    assert (found.code, found.lines) == (0, ["no executions"])
    assert missing.code == 2
    assert "where does state live? Name it with --url or RESONATE_URL" in missing.errors
    assert "resonate dev starts one" in missing.errors


# The terminal itself.


def shell(script: str, **variables: str) -> str:
    """What a script of bash prints, in which `resonate` is our command."""
    source = str(Path(resonate.__file__).parents[1])
    own = f'resonate() {{ "{sys.executable}" -c "from resonate.cli import main; main()" "$@"; }}\n'
    done = subprocess.run(
        ["bash", "-c", own + script],
        env={**os.environ, "PYTHONPATH": source, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_commands() -> None:
    said = shell("COMP_WORDS='resonate li' COMP_CWORD=1 _RESONATE_COMPLETE=complete_bash resonate")
    deeper = shell("COMP_WORDS='resonate schedules pa' COMP_CWORD=2 _RESONATE_COMPLETE=complete_bash resonate")

    assert said.split() == ["list"]
    assert deeper.split() == ["pause"]


@pytest.mark.parametrize("encoding", [pytest.param("ascii", marks=pytest.mark.slow), "latin-1"])
def test_what_an_encoding_does_not_have_is_replaced(encoding: str, file: Path) -> None:
    with Resonate(url=f"sqlite:///{file}") as client:
        client.register(lambda ctx: "é✓", name="sign")
        client.run("s", "sign")

    said = shell(
        "resonate tree s | od -c | head -2; resonate show s > /dev/null && echo fine",
        PYTHONIOENCODING=encoding,
        RESONATE_URL=f"sqlite:///{file}",
    )

    assert said.endswith("fine\n")
    assert "Traceback" not in said
