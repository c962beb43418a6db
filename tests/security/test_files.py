"""What other users of the machine can do to a file of ours and to what lies beside it."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from resonate import Resonate
from resonate.storage.sqlite.location import parse
from resonate.storage.sqlite.peers import Peers
from resonate.storage.sqlite.storage import SqliteStorage


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def opened(directory: Path) -> None:
    storage = SqliteStorage(parse(f"sqlite:///{directory}/app.db"))
    storage.claim("a")  # writes, so that the log and the shared memory are there
    storage.close()


def modes(directory: Path) -> dict[str, int]:
    return {path.name: mode(path) for path in directory.rglob("*")}


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_a_new_file_and_all_beside_it_are_for_its_user_alone(mask: int, tmp_path: Path) -> None:
    with umask(mask):
        client = Resonate(url=f"sqlite:///{tmp_path}/app.db")
        client.start()
        found = modes(tmp_path)
        client.stop()

    assert found["app.db-lock"] == 0o700
    assert [found[name] for name in ("app.db", "app.db-shm", "app.db-wal")] == [0o600] * 3


def test_where_new_files_are_for_a_group_the_group_shares_the_file_and_its_locks(tmp_path: Path) -> None:
    with umask(0o002):
        opened(tmp_path)

    assert mode(tmp_path / "app.db") == 0o660
    assert mode(tmp_path / "app.db-lock") == 0o770


def test_the_locks_of_a_file_that_is_there_are_for_those_who_may_write_it(tmp_path: Path) -> None:
    (tmp_path / "app.db").touch()
    (tmp_path / "app.db").chmod(0o644)
    opened(tmp_path)

    assert mode(tmp_path / "app.db") == 0o644  # as its owner wanted it
    assert mode(tmp_path / "app.db-lock") == 0o700  # who may only read cannot hold up those who write


# The directory where processes of one file find each other lies where everybody may write.


@pytest.fixture
def short() -> Iterator[str]:
    """A directory whose path leaves room for the name of a socket."""
    with tempfile.TemporaryDirectory(prefix="rs-") as directory:
        yield directory


@pytest.fixture
def meeting(tmp_path: Path, short: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Peers, Path, Path]:
    """The peers of a file, the directory that they will meet in, and a directory of the user's with files."""
    monkeypatch.setattr(tempfile, "tempdir", short)
    file = tmp_path / "app.db"
    file.touch()
    precious = tmp_path / "home"
    precious.mkdir()
    for name in ("thesis.tex", "0123abcd-0123456789ab"):
        (precious / name).write_text("years of work")
    peers = Peers(str(file))
    return peers, peers._directory, precious


def test_a_link_in_place_of_the_meeting_point_leads_nowhere(
    meeting: tuple[Peers, Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    peers, directory, precious = meeting
    directory.symlink_to(precious)

    peers.notify(["g"])
    peers.watch("g", lambda: None)
    peers.notify(["g"])
    peers.close()

    assert sorted(path.name for path in precious.iterdir()) == ["0123abcd-0123456789ab", "thesis.tex"]
    assert "no directory" in caplog.text


def test_a_meeting_point_that_others_may_write_to_is_not_used(
    meeting: tuple[Peers, Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    peers, directory, _ = meeting
    directory.mkdir()
    directory.chmod(0o777)

    peers.watch("g", lambda: None)
    peers.notify(["g"])
    peers.close()

    assert not directory.exists()  # tidied up, for it was empty
    assert "others may write to it" in caplog.text


def test_only_sockets_are_cleared_away(meeting: tuple[Peers, Path, Path]) -> None:
    peers, directory, _ = meeting
    directory.mkdir(mode=0o700)
    (directory / "file").write_text("not ours")
    (directory / "dead-link").symlink_to(directory / "gone")

    peers.watch("g", lambda: None)

    assert (directory / "file").read_text() == "not ours"
    assert not (directory / "dead-link").is_symlink()
    assert mode(directory) == 0o700
    peers.close()


def test_a_meeting_point_of_another_user_is_not_used(
    meeting: tuple[Peers, Path, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    peers, directory, _ = meeting
    directory.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: directory.stat().st_uid + 1)

    peers.watch("g", lambda: None)
    peers.close()

    assert not directory.exists()  # tidied up, for it was empty
    assert "another user" in caplog.text
