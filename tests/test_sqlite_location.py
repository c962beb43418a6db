"""URLs of files: what they say, and what is refused with which words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from resonate import Resonate
from resonate.errors import UsageError
from resonate.storage.sqlite.location import BUSY_TIMEOUT, Location, parse


def test_three_slashes_are_relative_to_the_directory_of_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert parse("sqlite:///app.db") == Location(f"{tmp_path}/app.db", "full", BUSY_TIMEOUT)
    assert parse("sqlite:///data/app.db").path == f"{tmp_path}/data/app.db"


def test_four_slashes_are_absolute() -> None:
    assert parse("sqlite:////var/lib/app.db").path == "/var/lib/app.db"


def test_a_name_may_hold_anything_when_it_is_quoted() -> None:
    assert parse("sqlite:////tmp/a%20b%23c%3Fd.db").path == "/tmp/a b#c?d.db"


def test_options_follow_the_question_mark() -> None:
    location = parse("sqlite:////a.db?synchronous=normal&busy_timeout=250")

    assert (location.synchronous, location.busy_timeout) == ("normal", 250)


def test_a_link_names_what_it_leads_to_though_that_is_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "app.db")

    assert parse(f"sqlite:///{tmp_path}/link.db") == parse(f"sqlite:///{tmp_path}/app.db")


def test_a_pid_is_alone_on_a_file_by_whatever_name(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "app.db")
    first = Resonate(url=f"sqlite:///{tmp_path}/link.db?synchronous=off", pid="p")
    second = Resonate(url=f"sqlite:///{tmp_path}/app.db?synchronous=off", pid="p")
    first.start()

    with pytest.raises(UsageError, match="'p'"):
        second.start()

    first.stop()
    assert sorted(os.listdir(tmp_path)) == ["app.db", "app.db-lock", "link.db"]


REFUSED = {
    "sqlite://": "names no file. Leave the url out",
    "sqlite:///": "names no file. Leave the url out",
    "sqlite:///:memory:": "names no file. Leave the url out",
    "sqlite://app.db": r"names a host \(app.db\), but a file has none: write sqlite:///app.db",
    "sqlite:///data/": "does not name a file",
    "sqlite:x.db": r"too few slashes: write 'sqlite:///x\.db' for x\.db",
    "sqlite:/x.db": r"too few slashes: write 'sqlite:////x\.db' for /x\.db",
    "sqlite:///a.db#1": "write it as %23",
    "sqlite:///a.db?sync=full": "unknown option 'sync'; known are synchronous, busy_timeout",
    "sqlite:///a.db?synchronous=extra": "synchronous must be one of full, normal, off, got 'extra'",
    "sqlite:///a.db?synchronous=": "synchronous must be one of full, normal, off, got ''",
    "sqlite:///a.db?busy_timeout=0": "busy_timeout must be whole milliseconds from 1 to 3600000, got '0'",
    "sqlite:///a.db?busy_timeout=1.5": "busy_timeout must be whole milliseconds",
    "sqlite:///a.db?synchronous=off&synchronous=full": "option 'synchronous' is given twice",
}


@pytest.mark.parametrize(("url", "words"), REFUSED.items(), ids=REFUSED)
def test_a_bad_url_is_refused_when_the_client_is_made(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Resonate(url=url)


def test_the_variable_names_a_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESONATE_URL", f"sqlite:///{tmp_path}/app.db?synchronous=off")
    client = Resonate()

    assert client.run("a", client.register(lambda ctx: 1, name="one")) == 1

    client.stop()
    assert (tmp_path / "app.db").exists()


def test_a_relative_file_stays_where_it_was_when_the_client_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    client = Resonate(url="sqlite:///app.db")
    assert os.listdir(tmp_path) == ["elsewhere"], "a client touches nothing before it is used"

    monkeypatch.chdir(tmp_path / "elsewhere")
    client.run("a", client.register(lambda ctx: 1, name="one"))

    client.stop()
    assert (tmp_path / "app.db").exists()
