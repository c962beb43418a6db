"""`resonate ui`, a process of its own on a file."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

import resonate.ui
from resonate import Resonate
from resonate.cli.app import app as cli
from resonate.cli.ui import _loaded
from resonate.errors import UsageError


def test_a_file_is_shown_without_a_server(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/app.db"
    with Resonate(url=url) as client:
        client.promises.create("by-hand", 10**14)
        command = [sys.executable, "-m", "resonate.cli", "ui", url, "--port", "0"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stderr is not None
                where = process.stderr.readline().split(" is at ")[1].strip()
                with urllib.request.urlopen(f"{where}api/call?id=by-hand", timeout=20) as answer:
                    found = json.load(answer)
                action = urllib.request.Request(
                    f"{where}api/act/settle",
                    json.dumps({"id": "by-hand", "how": "resolve", "value": "42"}).encode(),
                    {"resonate-action": "1"},
                )
                with urllib.request.urlopen(action, timeout=20) as answer:
                    said = json.load(answer)
                process.send_signal(signal.SIGINT)
                process.wait(20)
            finally:
                process.kill()

        assert (found["state"], found["kind"]) == ("pending", "promise")
        assert said == {"text": "by-hand is resolved"}
        assert client.get("by-hand").status().output == 42


def test_an_encoder_is_named_by_its_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_codec.py").write_text("from resonate.encoders import JsonEncoder\nencoder = JsonEncoder()\n")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "app.db"
    with Resonate(url=f"sqlite:///{file}"):
        pass

    assert _loaded("their_codec:encoder").decode("[1]") == [1]
    for wrong in ("their_codec:missing", "no_such_module:encoder", "their_codec", "json:dumps"):
        outcome = CliRunner().invoke(cli, ["ui", f"sqlite:///{file}", "--port", "0", "--encoder", wrong])
        assert outcome.exit_code == 2
        assert wrong in outcome.output


def test_a_dashboard_makes_no_file_and_finds_it_once_a_program_has_made_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/app.db"
    page = resonate.ui.app(url)

    with pytest.raises(UsageError, match="there is no file"):
        page.access.now()
    assert list(tmp_path.iterdir()) == []
    with Resonate(url=url) as client:
        client.promises.create("by-hand", 10**14)
    assert page.access.now() > 0
    page.close()
